/* journal/record - how a segment of the journal looks. Bytes in, structs out: no I/O, so that it is fuzzed.
 *
 *	segment = header block (4096) { magic, version, salt, first LSN, CRC before the first record, own CRC }
 *	          then batches, each a run of records padded with zeros to 4096
 *	record  = { u32 magic, u32 length, u64 LSN, u32 type, u32 CRC } payload
 *
 * Numbers are little-endian. The CRC32C of a record covers its header (without the CRC) and payload and is
 * seeded with the segment's salt and the CRC of the record before it, across segments: a record that was left
 * by an earlier life of the segment, or behind a torn one, cannot look valid. */
#ifndef JOURNAL_RECORD_H
#define JOURNAL_RECORD_H

#include "base/str.h"

#define JOURNAL_BLOCK	4096u
#define JOURNAL_VERSION 1u
#define RECORD_HEADER	24u

struct segment_header {
	uint64_t salt;
	uint64_t first_lsn;
	uint32_t prev_crc; /* of the record before the first one; 0 when the journal starts here */
};

/* Fills one block. */
void segment_header_encode(const struct segment_header *h, uint8_t out[JOURNAL_BLOCK]);
/* False: not a header of ours, or damaged. Looks at the first bytes only. */
bool segment_header_decode(struct str in, struct segment_header *h_r) WARN_UNUSED;

struct journal_record {
	uint64_t lsn;
	uint32_t type;
	struct str payload;
};

/* Writes the RECORD_HEADER bytes in front of the payload at `out` (whose payload is in place). Returns the CRC. */
uint32_t record_seal(uint8_t *out, uint64_t salt, uint32_t prev_crc, uint64_t lsn, uint32_t type, uint32_t length);

struct record_reader {
	struct str segment;
	uint64_t salt;
	uint64_t next_lsn;
	uint32_t crc; /* of the last valid record */
	size_t at;
};
/* False when the segment has no valid header. */
bool record_reader_init(struct record_reader *r, struct str segment) WARN_UNUSED;
/* The next record, pointing into the segment. False at the end of what is valid: a torn or garbled tail is
 * not an error, nothing behind it can have been acknowledged. */
bool record_reader_next(struct record_reader *r, struct journal_record *record_r) WARN_UNUSED;

static inline size_t journal_round_up(size_t n)
{
	return (n + JOURNAL_BLOCK - 1) & ~(size_t)(JOURNAL_BLOCK - 1);
}

/* Little-endian numbers, for what stands in records. */
static inline void le32_put(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}
static inline void le64_put(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}
static inline uint32_t le32_get(const void *from)
{
	const uint8_t *p = from;
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t le64_get(const void *from)
{
	const uint8_t *p = from;
	return (uint64_t)le32_get(p) | (uint64_t)le32_get(p + 4) << 32;
}

#endif
