/* Record data of strangers, of each type; names, forwards and backwards. The first byte chooses the type.
 *
 * Covers: src/dns/rdata.c */
#include "dns/rdata.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is told is printable and bounded: it goes to the log, and into replies. */
static void check_text(struct str name)
{
	if (name.len > DNS_NAME_TEXT_MAX || !str_is_ascii(name) || str_has_control(name))
		abort();
}

static void try_name(struct str bytes, struct arena *arena)
{
	struct str name, bare;
	size_t used;

	if (dns_name_decode(bytes, arena, &name, &used)) {
		if (used == 0 || used > 255 || used > bytes.len)
			abort();
		check_text(name);
	}
	if (dns_name_valid(bytes, &bare) && (bare.len > 253 || (bare.len && bare.ptr[bare.len - 1] == '.')))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum dns_type types[] = {DNS_A,   DNS_AAAA, DNS_MX,   DNS_CNAME,	    DNS_TXT,
					      DNS_PTR, DNS_SRV,	 DNS_TLSA, (enum dns_type)0};
	struct dns_rdata rd;
	struct arena arena;
	struct str bytes;

	if (size < 1)
		return 0;
	bytes = str_of(data + 1, size - 1);
	arena_init(&arena);
	if (dns_rdata_decode(types[data[0] % ARRAY_SIZE(types)], bytes, &arena, &rd)) {
		check_text(rd.name);
		if (rd.data.len > bytes.len || rd.address.len > 16)
			abort();
	}
	try_name(bytes, &arena);
	arena_release(&arena);
	return 0;
}
