/* Reading a segment of the journal, and the commit records in it. With the first byte odd the headers and
 * CRCs are made right, so that the bytes reach the parsers behind them.
 *
 * Covers: src/journal/record.c
 * Reaches: src/journal/kvlog_recover.c */
#include "base/mem.h"
#include "journal/kvlog.h"
#include "journal/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void touch(void *ctx, const struct kvlog_op *op)
{
	*(uint64_t *)ctx += str_hash(op->key, 1) + str_hash(op->value, 2);
}

static void read_all(struct str segment)
{
	struct record_reader r;
	struct journal_record record;
	uint64_t sum = 0, last = 0;
	struct str extra;

	if (!record_reader_init(&r, segment))
		return;
	do
		while (record_reader_next(&r, &record)) {
			if (last && record.lsn <= last)
				abort();
			last = record.lsn;
			sum += str_hash(record.payload, 3);
			if (kvlog_payload_parse(record.payload, touch, &sum, &extra))
				sum += str_hash(extra, 4);
		}
	while (record_reader_skip(&r));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct segment_header h = {.salt = 5, .first_lsn = 9, .prev_crc = 1};
	uint8_t *segment;
	size_t len;

	if (size < 2)
		return 0;
	if (!(data[0] & 1)) {
		read_all(str_of(data, size));
		return 0;
	}
	len = JOURNAL_BLOCK + journal_round_up(RECORD_HEADER + size) + 7;
	segment = mem_alloc(len);
	segment_header_encode(&h, segment);
	memcpy(segment + JOURNAL_BLOCK + RECORD_HEADER, data + 1, size - 1);
	record_seal(segment + JOURNAL_BLOCK, h.salt, h.prev_crc, h.first_lsn, h.first_lsn, 1, (uint32_t)(size - 1));
	read_all(str_of(segment, len));
	free(segment);
	return 0;
}
