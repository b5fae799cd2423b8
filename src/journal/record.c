#include "journal/record.h"
#include "base/encode.h"

#define SEGMENT_MAGIC 0x4a525450u /* "PTRJ" */
#define RECORD_MAGIC  0x52525450u /* "PTRR" */
#define HEADER_BYTES  32u

void segment_header_encode(const struct segment_header *h, uint8_t out[JOURNAL_BLOCK])
{
	memset(out, 0, JOURNAL_BLOCK);
	le32_put(out, SEGMENT_MAGIC);
	le32_put(out + 4, JOURNAL_VERSION);
	le64_put(out + 8, h->salt);
	le64_put(out + 16, h->first_lsn);
	le32_put(out + 24, h->prev_crc);
	le32_put(out + 28, crc32c(0, out, HEADER_BYTES - 4));
}

bool segment_header_decode(struct str in, struct segment_header *h_r)
{
	const uint8_t *p = (const uint8_t *)in.ptr;

	if (in.len < HEADER_BYTES || le32_get(p) != SEGMENT_MAGIC || le32_get(p + 4) != JOURNAL_VERSION)
		return false;
	if (le32_get(p + 28) != crc32c(0, p, HEADER_BYTES - 4))
		return false;
	h_r->salt = le64_get(p + 8);
	h_r->first_lsn = le64_get(p + 16);
	h_r->prev_crc = le32_get(p + 24);
	return h_r->first_lsn != 0;
}

static uint32_t record_crc(const uint8_t *record, uint64_t salt, uint32_t prev_crc, uint32_t length)
{
	uint8_t seed[8];
	uint32_t crc;

	le64_put(seed, salt);
	crc = crc32c(prev_crc, seed, sizeof(seed));
	crc = crc32c(crc, record, RECORD_HEADER - 4);
	return crc32c(crc, record + RECORD_HEADER, length);
}

uint32_t record_seal(uint8_t *out, uint64_t salt, uint32_t prev_crc, uint64_t lsn, uint32_t type, uint32_t length)
{
	uint32_t crc;

	le32_put(out, RECORD_MAGIC);
	le32_put(out + 4, length);
	le64_put(out + 8, lsn);
	le32_put(out + 16, type);
	crc = record_crc(out, salt, prev_crc, length);
	le32_put(out + 20, crc);
	return crc;
}

bool record_reader_init(struct record_reader *r, struct str segment)
{
	struct segment_header h;

	if (segment.len < JOURNAL_BLOCK || !segment_header_decode(segment, &h))
		return false;
	r->segment = segment;
	r->salt = h.salt;
	r->next_lsn = h.first_lsn;
	r->crc = h.prev_crc;
	r->at = JOURNAL_BLOCK;
	return true;
}

static bool record_at(const struct record_reader *r, size_t at, struct journal_record *record_r, uint32_t *crc_r)
{
	const uint8_t *p = (const uint8_t *)r->segment.ptr + at;
	size_t room = r->segment.len - at;
	uint32_t length;

	if (room < RECORD_HEADER || le32_get(p) != RECORD_MAGIC)
		return false;
	length = le32_get(p + 4);
	if (length > room - RECORD_HEADER || le64_get(p + 8) != r->next_lsn)
		return false;
	*crc_r = le32_get(p + 20);
	if (*crc_r != record_crc(p, r->salt, r->crc, length))
		return false;
	record_r->lsn = r->next_lsn;
	record_r->type = le32_get(p + 16);
	record_r->payload = str_of(p + RECORD_HEADER, length);
	return true;
}

bool record_reader_next(struct record_reader *r, struct journal_record *record_r)
{
	uint32_t crc;

	/* Records of one batch follow each other; the next batch begins at a block. */
	if (!record_at(r, r->at, record_r, &crc)) {
		r->at = journal_round_up(r->at);
		if (r->at >= r->segment.len || !record_at(r, r->at, record_r, &crc))
			return false;
	}
	r->at += RECORD_HEADER + record_r->payload.len;
	r->crc = crc;
	r->next_lsn++;
	return true;
}
