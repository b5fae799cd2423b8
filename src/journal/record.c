#include "journal/record.h"
#include "base/encode.h"

#define SEGMENT_MAGIC	0x4a525450u /* "PTRJ" */
#define RECORD_MAGIC	0x52525450u /* "PTRR" */
#define RECORD_MAGIC_2	0x53525450u /* "PTRS" */
#define HEADER_BYTES	52u
#define HEADER_BYTES_1	32u
#define RECORD_HEADER_1 24u
/* Of a header that was never written or was cleared. */
#define HEADER_AREA 512u

void segment_header_encode(const struct segment_header *h, uint8_t out[JOURNAL_BLOCK])
{
	memset(out, 0, JOURNAL_BLOCK);
	le32_put(out, SEGMENT_MAGIC);
	le32_put(out + 4, JOURNAL_VERSION);
	le64_put(out + 8, h->salt);
	le64_put(out + 16, h->first_lsn);
	le32_put(out + 24, h->prev_crc);
	le64_put(out + 32, h->journal);
	le64_put(out + 40, h->needed);
	le32_put(out + 48, crc32c(0, out, HEADER_BYTES - 4));
}

static bool is_zero(struct str in)
{
	for (size_t i = 0; i < in.len && i < HEADER_AREA; i++)
		if (in.ptr[i])
			return false;
	return true;
}

static bool is_ours_but_for_version(const uint8_t *header)
{
	uint8_t ours[HEADER_BYTES];

	memcpy(ours, header, sizeof(ours));
	le32_put(ours + 4, JOURNAL_VERSION);
	return le32_get(ours + HEADER_BYTES - 4) == crc32c(0, ours, HEADER_BYTES - 4);
}

enum segment_header_state segment_header_decode(struct str in, struct segment_header *h_r)
{
	const uint8_t *p = (const uint8_t *)in.ptr;
	size_t size;

	/* Zeros are what version 1 made of an empty one, and what is left of a header that was overwritten. */
	if (is_zero(in))
		return in.len >= JOURNAL_BLOCK + 4 && le32_get(p + JOURNAL_BLOCK) == RECORD_MAGIC_2
			       ? SEGMENT_HEADER_DAMAGED
			       : SEGMENT_HEADER_NONE;
	if (in.len < HEADER_BYTES || le32_get(p) != SEGMENT_MAGIC)
		return SEGMENT_HEADER_DAMAGED;
	h_r->version = le32_get(p + 4);
	size = h_r->version == 1 ? HEADER_BYTES_1 : HEADER_BYTES;
	if (le32_get(p + size - 4) != crc32c(0, p, size - 4))
		/* Where a newer version has its checksum we cannot know; refusing harms less than taking the segment
		 * for lost. But one that is ours in all but this number has a flipped bit in it. */
		return h_r->version > JOURNAL_VERSION && h_r->version < JOURNAL_VERSION + 100 &&
				       !is_ours_but_for_version(p)
			       ? SEGMENT_HEADER_NEWER
			       : SEGMENT_HEADER_DAMAGED;
	if (h_r->version > JOURNAL_VERSION)
		return SEGMENT_HEADER_NEWER;
	h_r->salt = le64_get(p + 8);
	h_r->first_lsn = le64_get(p + 16);
	h_r->prev_crc = le32_get(p + 24);
	h_r->journal = h_r->version == 1 ? 0 : le64_get(p + 32);
	h_r->needed = h_r->version == 1 ? 0 : le64_get(p + 40);
	return h_r->first_lsn != 0 ? SEGMENT_HEADER_VALID : SEGMENT_HEADER_NONE;
}

static uint32_t record_crc(const uint8_t *record, size_t header, uint64_t salt, uint32_t seed_crc, uint32_t length)
{
	uint8_t seed[8];
	uint32_t crc;

	le64_put(seed, salt);
	crc = crc32c(seed_crc, seed, sizeof(seed));
	crc = crc32c(crc, record, header - 4);
	return crc32c(crc, record + header, length);
}

uint32_t record_seal(uint8_t *out, uint64_t salt, uint32_t prev_crc, uint64_t lsn, uint64_t batch, uint32_t type,
		     uint32_t length)
{
	uint32_t crc;

	le32_put(out, RECORD_MAGIC_2);
	le32_put(out + 4, length);
	le64_put(out + 8, lsn);
	le32_put(out + 16, type);
	le32_put(out + 20, prev_crc);
	le64_put(out + 24, batch);
	crc = record_crc(out, RECORD_HEADER, salt, 0, length);
	le32_put(out + 32, crc);
	return crc;
}

bool record_reader_init(struct record_reader *r, struct str segment)
{
	struct segment_header h;

	if (segment.len < JOURNAL_BLOCK || segment_header_decode(segment, &h) != SEGMENT_HEADER_VALID)
		return false;
	r->segment = segment;
	r->version = h.version;
	r->salt = h.salt;
	r->next_lsn = h.first_lsn;
	r->crc = h.prev_crc;
	r->at = JOURNAL_BLOCK;
	return true;
}

static size_t header_size(const struct record_reader *r)
{
	return r->version == 1 ? RECORD_HEADER_1 : RECORD_HEADER;
}

/* Valid by itself (version 1: behind the last one). */
static bool record_at(const struct record_reader *r, size_t at, struct journal_record *record_r, uint32_t *crc_r)
{
	const uint8_t *p = (const uint8_t *)r->segment.ptr + at;
	size_t room = r->segment.len - at, header = header_size(r);
	bool old = r->version == 1;
	uint32_t length;

	if (room < header || le32_get(p) != (old ? RECORD_MAGIC : RECORD_MAGIC_2))
		return false;
	length = le32_get(p + 4);
	if (length > room - header || le64_get(p + 8) < r->next_lsn)
		return false;
	*crc_r = le32_get(p + header - 4);
	if (*crc_r != record_crc(p, header, r->salt, old ? r->crc : 0, length))
		return false;
	record_r->lsn = le64_get(p + 8);
	record_r->type = le32_get(p + 16);
	record_r->batch = old ? 0 : le64_get(p + 24);
	record_r->payload = str_of(p + header, length);
	return record_r->batch <= record_r->lsn && record_r->lsn < UINT64_MAX / 2;
}

static bool continues(const struct record_reader *r, size_t at, struct journal_record *record_r, uint32_t *crc_r)
{
	const uint8_t *p = (const uint8_t *)r->segment.ptr + at;

	return record_at(r, at, record_r, crc_r) && record_r->lsn == r->next_lsn &&
	       (r->version == 1 || le32_get(p + 20) == r->crc);
}

bool record_reader_next(struct record_reader *r, struct journal_record *record_r)
{
	size_t at = r->at;
	uint32_t crc;

	/* Records of one batch follow each other; the next batch begins at a block. */
	if (at >= r->segment.len)
		return false;
	if (!continues(r, at, record_r, &crc)) {
		at = journal_round_up(at);
		if (at >= r->segment.len || !continues(r, at, record_r, &crc))
			return false;
	}
	r->at = at + header_size(r) + record_r->payload.len;
	r->crc = crc;
	r->next_lsn++;
	return true;
}

bool record_reader_skip(struct record_reader *r)
{
	struct journal_record record;
	uint8_t magic[4];
	uint32_t crc;

	if (r->version == 1)
		return false;
	le32_put(magic, RECORD_MAGIC_2);
	for (size_t at = r->at; at < r->segment.len; at++) {
		const char *found = memmem(r->segment.ptr + at, r->segment.len - at, magic, sizeof(magic));
		if (!found)
			return false;
		at = (size_t)(found - r->segment.ptr);
		if (!record_at(r, at, &record, &crc))
			continue;
		r->at = at;
		r->next_lsn = record.lsn;
		r->crc = le32_get(r->segment.ptr + at + 20);
		return true;
	}
	return false;
}
