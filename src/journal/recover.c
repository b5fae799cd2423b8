/* Finding the segments at start, and reading what is valid in them. */
#include "journal/journal_private.h"

#include "base/log.h"
#include "os/io.h"
#include <errno.h>

#define SEGMENT_NAME_MAX 32

static void segment_name(char out[SEGMENT_NAME_MAX], unsigned number)
{
	snprintf(out, SEGMENT_NAME_MAX, "journal.%u", number);
}

static int segment_sync(struct journal *j, struct segment *s, struct err *err)
{
	if (io_fsync(s->fd) < 0 || io_fsync(j->o.dirfd) < 0)
		return err_errno(err, "cannot sync journal segment %u", s->number);
	s->name_synced = true;
	return 0;
}

/* Called before the flusher runs (sync) or by the owner under the lock: there the flusher syncs it before
 * anything in it counts. */
int segment_create(struct journal *j, unsigned number, bool sync, struct err *err)
{
	char name[SEGMENT_NAME_MAX];
	struct segment *s;
	int fd;

	segment_name(name, number);
	fd = io_open(j->o.dirfd, name, O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return err_errno(err, "cannot create %s", name);
	if (io_fallocate_zero(fd, 0, j->o.segment_size) < 0) {
		err_errno(err, "cannot make room for %s", name);
		io_close(fd);
		if (io_unlink(j->o.dirfd, name) < 0)
			log_warning("cannot remove unfinished %s: %s", name, strerror(errno));
		return -1;
	}
	s = NEW(struct segment);
	s->number = number;
	s->fd = fd;
	vec_push(&j->segments, s);
	return sync ? segment_sync(j, s, err) : 0;
}

static int segment_adopt(struct journal *j, unsigned number, struct err *err)
{
	char name[SEGMENT_NAME_MAX];
	uint8_t block[JOURNAL_BLOCK];
	struct segment *s;
	struct stat st;
	ssize_t n;
	int fd;

	segment_name(name, number);
	fd = io_open(j->o.dirfd, name, O_RDWR, 0);
	if (fd < 0)
		return err_errno(err, "cannot open %s", name);
	s = NEW(struct segment);
	s->number = number;
	s->fd = fd;
	s->name_synced = true;
	vec_push(&j->segments, s);
	n = io_pread(fd, block, sizeof(block), 0);
	if (n < 0 || io_fstat(fd, &st) < 0)
		return err_errno(err, "cannot read %s", name);
	if (!segment_header_decode(str_of(block, (size_t)n), &s->found))
		s->found.first_lsn = 0;
	/* Cut short when it was made, or by an administrator: zeros up to its size, for a header is worth nothing
	 * without. */
	if (st.st_size < (off_t)j->o.segment_size) {
		if (io_fallocate_zero(fd, st.st_size, (off_t)j->o.segment_size - st.st_size) < 0)
			return err_errno(err, "cannot make room for %s", name);
		return segment_sync(j, s, err);
	}
	return 0;
}

/* The segments are numbered without gaps: the first name that is missing ends them. */
int segments_find(struct journal *j, struct err *err)
{
	char name[SEGMENT_NAME_MAX];
	struct stat st;

	for (unsigned i = 0;; i++) {
		segment_name(name, i);
		if (io_fstatat(j->o.dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == ENOENT)
				return 0;
			return err_errno(err, "cannot look at %s", name);
		}
		if (segment_adopt(j, i, err) < 0)
			return -1;
	}
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static int by_first_lsn(const void *a, const void *b)
{
	const struct segment *x = *(struct segment *const *)a, *y = *(struct segment *const *)b;

	return x->found.first_lsn < y->found.first_lsn ? -1 : x->found.first_lsn > y->found.first_lsn;
}

struct recovery {
	struct journal *j;
	uint64_t after, last; /* last: the LSN read last, valid or skipped */
	uint32_t crc;
	journal_record_fn *fn;
	void *ctx;
	char *bytes;
};

static int load(struct recovery *r, const struct segment *s, struct record_reader *reader, struct err *err)
{
	ssize_t n = io_pread(s->fd, r->bytes, r->j->o.segment_size, 0);

	if (n < 0)
		return err_errno(err, "cannot read journal segment %u", s->number);
	return record_reader_init(reader, str_of(r->bytes, (size_t)n));
}

/* fn NULL: only finds the end. */
static int read_segment(struct recovery *r, const struct segment *s, journal_record_fn *fn, struct err *err)
{
	struct record_reader reader;
	struct journal_record record;
	int rc = load(r, s, &reader, err);

	if (rc <= 0)
		return rc;
	r->crc = reader.crc;
	r->last = reader.next_lsn - 1;
	while (record_reader_next(&reader, &record)) {
		r->crc = reader.crc;
		r->last = record.lsn;
		if (fn && record.lsn > r->after && fn(r->ctx, &record, err) < 0)
			return -1;
	}
	return 1;
}

/* Without an index: the first of the segments that follow each other up to the newest. */
static int oldest_unbroken(struct recovery *r, struct segment **v, size_t n, size_t *start_r, struct err *err)
{
	size_t start = 0;

	for (size_t i = 0; i + 1 < n; i++) {
		if (read_segment(r, v[i], NULL, err) < 0)
			return -1;
		if (v[i + 1]->found.first_lsn != r->last + 1 || v[i + 1]->found.prev_crc != r->crc)
			start = i + 1;
	}
	*start_r = start;
	return 0;
}

static int read_from(struct recovery *r, struct segment **v, size_t n, struct err *err)
{
	size_t start = 0;

	if (r->after == 0) {
		if (oldest_unbroken(r, v, n, &start, err) < 0)
			return -1;
	} else {
		while (start + 1 < n && v[start + 1]->found.first_lsn <= r->after + 1)
			start++;
		if (v[start]->found.first_lsn > r->after + 1)
			return err_set(err, ERR_PERM, "5.3.0",
				       "the journal begins with %llu, but the index ends with %llu",
				       (unsigned long long)v[start]->found.first_lsn, (unsigned long long)r->after);
	}
	for (size_t i = start; i < n; i++) {
		/* Behind a torn tail nothing was acknowledged, so a segment that does not continue is stale. */
		if (i > start && (v[i]->found.first_lsn != r->last + 1 || v[i]->found.prev_crc != r->crc))
			break;
		if (read_segment(r, v[i], r->fn, err) < 0)
			return -1;
	}
	return 0;
}

int journal_recover(struct journal *j, uint64_t after, journal_record_fn *fn, void *ctx, uint64_t *last_r,
		    struct err *err)
{
	struct recovery r = {.j = j, .after = after, .last = 0, .fn = fn, .ctx = ctx};
	VEC(struct segment *) valid = {0};
	int rc = 0;

	for (size_t i = 0; i < j->segments.n; i++)
		if (j->segments.v[i]->found.first_lsn)
			vec_push(&valid, j->segments.v[i]);
	if (valid.n) {
		qsort(valid.v, valid.n, sizeof(struct segment *), by_first_lsn);
		r.bytes = mem_alloc(j->o.segment_size);
		rc = read_from(&r, valid.v, valid.n, err);
		free(r.bytes);
	}
	vec_release(&valid);
	*last_r = r.last > after ? r.last : after;
	return rc;
}
