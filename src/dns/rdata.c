/* rdata - see dns/rdata.h. */
#include "dns/rdata.h"

#define NAME_MAX_OCTETS 255
#define LABEL_MAX	63

struct reader {
	const uint8_t *p;
	size_t left;
};

static bool take_u8(struct reader *r, uint8_t *value_r)
{
	if (r->left < 1)
		return false;
	*value_r = *r->p++;
	r->left--;
	return true;
}

static bool take_u16(struct reader *r, uint16_t *value_r)
{
	if (r->left < 2)
		return false;
	*value_r = (uint16_t)(r->p[0] << 8 | r->p[1]);
	r->p += 2;
	r->left -= 2;
	return true;
}

/* RFC 1035 5.1. */
static void label_text(struct buf *out, const uint8_t *label, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		char c = (char)label[i];

		if (label[i] <= ' ' || label[i] >= 0x7f)
			buf_addf(out, "\\%03u", label[i]);
		else if (strchr(".\\\"();@$", c))
			buf_addf(out, "\\%c", c);
		else
			buf_addc(out, c);
	}
}

static bool take_name(struct reader *r, struct arena *arena, struct str *name_r)
{
	size_t octets = 0;
	struct buf text;
	uint8_t len = 1;
	bool ok = true;

	buf_init(&text, DNS_NAME_TEXT_MAX);
	while (ok && take_u8(r, &len) && len > 0) {
		octets += 1u + len;
		ok = len <= LABEL_MAX && len <= r->left && octets < NAME_MAX_OCTETS;
		if (!ok)
			break;
		if (text.len)
			buf_addc(&text, '.');
		label_text(&text, r->p, len);
		r->p += len;
		r->left -= len;
	}
	ok = ok && len == 0 && !buf_failed(&text);
	if (ok)
		*name_r = arena_str(arena, buf_str(&text));
	buf_release(&text);
	return ok;
}

bool dns_name_decode(struct str wire, struct arena *arena, struct str *name_r, size_t *used_r)
{
	struct reader r = {(const uint8_t *)wire.ptr, wire.len};

	if (!take_name(&r, arena, name_r))
		return false;
	*used_r = wire.len - r.left;
	return true;
}

/* One or more strings, joined (RFC 7208 3.3, RFC 6376 3.6.2.2 want them so). */
static bool take_strings(struct reader *r, struct arena *arena, struct str *data_r)
{
	char *out = arena_alloc(arena, r->left + 1);
	size_t n = 0;
	uint8_t len;

	if (r->left == 0)
		return false;
	while (take_u8(r, &len)) {
		if (len > r->left)
			return false;
		memcpy(out + n, r->p, len);
		n += len;
		r->p += len;
		r->left -= len;
	}
	*data_r = str_of(out, n);
	return true;
}

static bool take_rest(struct reader *r, struct arena *arena, struct str *out_r)
{
	*out_r = arena_str(arena, str_of(r->p, r->left));
	r->left = 0;
	return true;
}

bool dns_rdata_decode(enum dns_type type, struct str wire, struct arena *arena, struct dns_rdata *rd)
{
	struct reader r = {(const uint8_t *)wire.ptr, wire.len};
	bool ok = false;

	*rd = (struct dns_rdata){0};
	switch (type) {
	case DNS_A:
		ok = r.left == 4 && take_rest(&r, arena, &rd->address);
		break;
	case DNS_AAAA:
		ok = r.left == 16 && take_rest(&r, arena, &rd->address);
		break;
	case DNS_NS:
	case DNS_CNAME:
	case DNS_PTR:
		ok = take_name(&r, arena, &rd->name);
		break;
	case DNS_MX:
		ok = take_u16(&r, &rd->preference) && take_name(&r, arena, &rd->name);
		break;
	case DNS_SRV:
		ok = take_u16(&r, &rd->preference) && take_u16(&r, &rd->weight) && take_u16(&r, &rd->port) &&
		     take_name(&r, arena, &rd->name);
		break;
	case DNS_TXT:
		ok = take_strings(&r, arena, &rd->data);
		break;
	case DNS_TLSA:
		ok = take_u8(&r, &rd->usage) && take_u8(&r, &rd->selector) && take_u8(&r, &rd->matching) &&
		     r.left > 0 && take_rest(&r, arena, &rd->data);
		break;
	}
	return ok && r.left == 0;
}

bool dns_name_valid(struct str name, struct str *bare_r)
{
	size_t label = 0;

	if (name.len && name.ptr[name.len - 1] == '.')
		name.len--;
	if (name.len > 253)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.ptr[i];

		if (c <= ' ' || c >= 0x7f || strchr("\\\"();@$", c))
			return false;
		if (c == '.' && label == 0)
			return false;
		label = c == '.' ? 0 : label + 1;
		if (label > LABEL_MAX)
			return false;
	}
	*bare_r = name;
	return name.len == 0 || label > 0;
}
