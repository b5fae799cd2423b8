/* Summaries: any message makes one that reads back as itself; any bytes read or are refused. The first byte chooses.
 *
 * Covers: src/msg/summary.c */
#include "base/encode.h"
#include "base/fatal.h"
#include "msg/summary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first `front` bytes stand in front of the message. */
static void round_trip(struct str all, size_t front, struct arena *arena)
{
	struct str prefix = str_sub(all, 0, front), message = str_skip(all, prefix.len);
	struct summary s;
	struct buf bytes, again;

	buf_init(&bytes, 1 << 24);
	buf_init(&again, 1 << 24);
	summary_make_behind(prefix, message, &bytes);
	invariant(summary_decode(buf_str(&bytes), arena, &s));
	summary_encode(&s, &again);
	invariant(str_eq(buf_str(&bytes), buf_str(&again)));
	buf_release(&bytes);
	buf_release(&again);
}

/* Contents of a summary as they are, behind a head that fits them. */
static void contents(struct str in, struct arena *arena)
{
	struct buf bytes;
	struct summary s;
	uint32_t crc;

	buf_init(&bytes, in.len + 64);
	buf_addc(&bytes, (char)(in.len & 0x7f));
	if (in.len > 0x7f) {
		bytes.ptr[0] = (char)(bytes.ptr[0] | 0x80);
		buf_addc(&bytes, (char)(in.len >> 7 & 0x7f));
	}
	buf_add_str(&bytes, in);
	crc = crc32c(0, bytes.ptr, bytes.len);
	struct buf whole;

	buf_init(&whole, bytes.len + 6);
	buf_add(&whole,
		(unsigned char[]){1, 0, (unsigned char)crc, (unsigned char)(crc >> 8), (unsigned char)(crc >> 16),
				  (unsigned char)(crc >> 24)},
		6);
	buf_add_str(&whole, buf_str(&bytes));
	(void)!summary_decode(buf_str(&whole), arena, &s);
	buf_release(&bytes);
	buf_release(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena;
	struct summary s;
	struct str in;

	if (size == 0)
		return 0;
	in = str_of(data + 1, size - 1);
	arena_init(&arena);
	if (data[0] % 3 == 0)
		round_trip(in, data[0] / 3, &arena);
	else if (data[0] % 3 == 1 && in.len < 1 << 14)
		contents(in, &arena);
	else
		(void)!summary_decode(in, &arena, &s);
	arena_release(&arena);
	return 0;
}
