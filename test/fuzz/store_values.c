/* Stored values of any bytes: decoded or refused, never misread beyond their end. With a good CRC, so that the
 * fuzzer comes past it.
 *
 * Covers: src/store/keys.c src/store/snapshot.c */
#include "base/arena.h"
#include "base/encode.h"
#include "base/mem.h"
#include "store/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode_all(struct str in, struct arena *a)
{
	struct hot_entry hot[CHUNK_UIDS];
	struct static_entry fixed[CHUNK_UIDS];
	struct account_header h;
	struct mailbox_record b;
	struct expunged_record x;
	struct log_record l;
	struct note_record n;
	struct answer_record r;
	struct place *places;
	struct str names[STORE_KEYWORDS_MAX], bytes, rest = in;
	struct snapshot_chunk chunk;
	uint64_t present;
	uint32_t u, v;
	size_t count;
	struct buf out;

	buf_init(&out, 1 << 20);
	if (hot_chunk_decode(in, &present, hot))
		hot_chunk_encode(present, hot, &out);
	(void)hot_chunk_present(in, false, &present);
	while (snapshot_next(&rest, &chunk) > 0)
		snapshot_add(&out, chunk.number, chunk.value);
	if (static_chunk_decode(in, &present, fixed))
		static_chunk_encode(present, fixed, &out);
	if (account_header_decode(in, &h))
		account_header_encode(&h, &out);
	if (mailbox_record_decode(in, &b))
		mailbox_record_encode(&b, &out);
	if (expunged_record_decode(in, &x))
		expunged_record_encode(&x, &out);
	if (log_record_decode(in, a, &l))
		log_record_encode(&l, &out);
	if (note_record_decode(in, &n))
		note_record_encode(&n, &out);
	if (answer_record_decode(in, &r))
		answer_record_encode(&r, &out);
	if (names_decode(in, names, STORE_KEYWORDS_MAX, &count))
		names_encode(names, count, &out);
	if (places_decode(in, a, &places, &count))
		places_encode(places, count, &out);
	if (bytes_decode(in, &bytes))
		bytes_encode(bytes, &out);
	(void)key_read_u32(in, 'B', &u);
	(void)key_read_u32_u32(in, 'H', &u, &v);
	(void)key_read_u64(in, 'L', &present);
	(void)key_account(in);
	(void)key_tail(in);
	buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena a;
	char *value = mem_alloc(size + 5);
	uint32_t crc;

	arena_init(&a);
	decode_all(str_of(data, size), &a);
	value[0] = 1;
	if (size > 0)
		memcpy(value + 1, data, size);
	crc = crc32c(0, value, size + 1);
	for (int i = 0; i < 4; i++)
		value[size + 1 + (size_t)i] = (char)(crc >> (8 * (3 - i)));
	decode_all(str_of(value, size + 5), &a);
	free(value);
	arena_release(&a);
	return 0;
}
