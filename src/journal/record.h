/* journal/record - how a segment of the journal looks. Bytes in, structs out: no I/O, so that it is fuzzed.
 *
 *	segment = header block (4096), then batches, each a run of records padded with zeros to 4096
 *	header  = { u32 magic, u32 version, u64 salt, u64 first LSN, u32 CRC before the first record, u32 -,
 *	            u64 journal id, u64 lowest LSN needed, u32 own CRC }; an empty segment has no first LSN
 *	record  = { u32 magic, u32 length, u64 LSN, u32 type, u32 CRC of the record before,
 *	            u64 first LSN of its batch, u32 CRC } payload
 *
 * Numbers are little-endian. The CRC32C of a record covers its header (without the CRC) and payload and is seeded with
 * the segment's salt: a record that was left by an earlier life of the segment cannot look valid. With the CRC of the
 * record before it they are a chain, across segments. A batch is written only after everything before it was durable:
 * the first LSN of a batch says so. That is how a torn tail, which nobody was told of, differs from damage: behind
 * damage there are records of later batches.
 *
 * Version 1 has no journal id, and records without the two fields before the CRC, which is seeded
 * with the CRC of the record before; it is read, so that a crash does not get in the way of an upgrade. */
#ifndef JOURNAL_RECORD_H
#define JOURNAL_RECORD_H

#include "base/str.h"

#define JOURNAL_BLOCK	4096u
#define JOURNAL_VERSION 2u
#define RECORD_HEADER	36u

struct segment_header {
	uint64_t salt;
	uint64_t first_lsn;
	uint32_t prev_crc; /* of the record before the first one; 0 when the journal starts here */
	uint64_t journal;  /* which journal it belongs to; 0: not known (version 1) */
	uint64_t needed; /* the lowest LSN that was not released when the segment was begun; 0: not known (version 1) */
	uint32_t version; /* as read */
};

/* Fills one block. */
void segment_header_encode(const struct segment_header *h, uint8_t out[JOURNAL_BLOCK]);
enum segment_header_state {
	SEGMENT_HEADER_VALID,
	SEGMENT_HEADER_NONE,  /* the segment is empty */
	SEGMENT_HEADER_NEWER, /* of a version that we do not know */
	SEGMENT_HEADER_DAMAGED,
};
/* Looks at the first bytes only, a little more than a block; h_r is filled when the state is VALID (NEWER: the
 * version). */
enum segment_header_state segment_header_decode(struct str in, struct segment_header *h_r) WARN_UNUSED;

struct journal_record {
	uint64_t lsn;
	uint64_t batch; /* first LSN of its batch; 0: not known (version 1) */
	uint32_t type;
	struct str payload;
};

/* Writes the RECORD_HEADER bytes in front of the payload at `out` (whose payload is in place). Returns the CRC. */
uint32_t record_seal(uint8_t *out, uint64_t salt, uint32_t prev_crc, uint64_t lsn, uint64_t batch, uint32_t type,
		     uint32_t length);

struct record_reader {
	struct str segment;
	uint32_t version;
	uint64_t salt;
	uint64_t next_lsn;
	uint32_t crc; /* of the last valid record */
	size_t at;
};
/* False when the segment has no valid header. */
bool record_reader_init(struct record_reader *r, struct str segment) WARN_UNUSED;
/* The next record of the chain, pointing into the segment. False where the chain ends. */
bool record_reader_next(struct record_reader *r, struct journal_record *record_r);
/* Where the chain has ended: goes on to the next record, in ascending LSN, that is valid by itself, if there is one;
 * record_reader_next() gives it. */
bool record_reader_skip(struct record_reader *r) WARN_UNUSED;

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
