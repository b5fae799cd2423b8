/* Finding the segments at start, and reading what is valid in them. */
#include "journal/journal_private.h"

#include "base/encode.h"
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

static int segment_file(struct journal *j, unsigned number, int *fd_r, struct err *err)
{
	static const struct segment_header none;
	uint8_t empty[JOURNAL_BLOCK];
	char name[SEGMENT_NAME_MAX];
	int fd;

	segment_name(name, number);
	fd = io_open(j->o.dirfd, name, O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return err_errno(err, "cannot create %s", name);
	segment_header_encode(&none, empty);
	if (io_fallocate_zero(fd, 0, j->o.segment_size) < 0 || io_pwrite(fd, empty, sizeof(empty), 0) < 0) {
		err_errno(err, "cannot make room for %s", name);
		io_close(fd);
		if (io_unlink(j->o.dirfd, name) < 0)
			log_warning("cannot remove unfinished %s: %s", name, strerror(errno));
		return -1;
	}
	*fd_r = fd;
	return 0;
}

/* Called before the flusher runs (sync) or by the owner under the lock: there the flusher syncs it before
 * anything in it counts. */
int segment_create(struct journal *j, unsigned number, bool sync, struct err *err)
{
	struct segment *s;
	int fd;

	if (segment_file(j, number, &fd, err) < 0)
		return -1;
	s = NEW(struct segment);
	s->number = number;
	s->fd = fd;
	vec_push(&j->segments, s);
	return sync ? segment_sync(j, s, err) : 0;
}

static int set_aside(struct journal *j, unsigned number, const char *suffix, struct err *err)
{
	char name[SEGMENT_NAME_MAX], aside[2 * SEGMENT_NAME_MAX];

	segment_name(name, number);
	snprintf(aside, sizeof(aside), "%s.%s", name, suffix);
	if (io_rename(j->o.dirfd, name, j->o.dirfd, aside) < 0)
		return err_errno(err, "cannot set %s aside", name);
	log_error("journal: %s is kept as %s", name, aside);
	return 0;
}

int segments_replace(struct journal *j, struct err *err)
{
	for (size_t i = 0; i < j->segments.n; i++) {
		struct segment *s = j->segments.v[i];
		if (!s->damaged)
			continue;
		if (set_aside(j, s->number, "damaged", err) < 0)
			return -1;
		io_close(s->fd);
		s->fd = -1;
		if (segment_file(j, s->number, &s->fd, err) < 0 || segment_sync(j, s, err) < 0)
			return -1;
		s->damaged = false;
		s->found.first_lsn = 0;
	}
	return 0;
}

/* ---- finding ------------------------------------------------------------------------------------------ */

static int segment_look(struct journal *j, struct segment *s, const char *name, struct err *err)
{
	uint8_t block[JOURNAL_BLOCK + 4];
	struct stat st;
	ssize_t n = io_pread(s->fd, block, sizeof(block), 0);

	if (n < 0 || io_fstat(s->fd, &st) < 0)
		return err_errno(err, "cannot read %s", name);
	switch (segment_header_decode(str_of(block, (size_t)n), &s->found)) {
	case SEGMENT_HEADER_VALID:
		break;
	case SEGMENT_HEADER_NEWER:
		return err_set(err, ERR_PERM, "5.3.0",
			       "%s has format %u, this version knows formats up to %u: it was written by a newer "
			       "version, start that one",
			       name, s->found.version, JOURNAL_VERSION);
	case SEGMENT_HEADER_DAMAGED:
		s->damaged = true;
		s->found.first_lsn = 0;
		break;
	case SEGMENT_HEADER_NONE:
		s->found.first_lsn = 0;
		break;
	}
	if (st.st_size >= (off_t)j->o.segment_size)
		return 0;
	/* The power may have gone before its length was safe; what was durable in it would be missed (choose()). */
	if (s->found.first_lsn)
		log_warning("journal: %s has only %lld bytes", name, (long long)st.st_size);
	/* Cut short when it was made, or by an administrator: zeros up to its size, for a header is worth nothing
	 * without. */
	if (io_fallocate_zero(s->fd, st.st_size, (off_t)j->o.segment_size - st.st_size) < 0)
		return err_errno(err, "cannot make room for %s", name);
	return segment_sync(j, s, err);
}

static int segment_adopt(struct journal *j, unsigned number, struct err *err)
{
	char name[SEGMENT_NAME_MAX];
	struct segment *s;
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
	return segment_look(j, s, name, err);
}

/* The numbers that are there, as bits; more segments than that nobody has. */
#define NUMBERS_MAX 4096u
struct numbers {
	bool there[NUMBERS_MAX];
	unsigned count, end; /* end: above the highest */
};

static int numbers_read(struct journal *j, struct numbers *n, struct err *err)
{
	DIR *dir = io_opendir(j->o.dirfd, ".");
	char again[SEGMENT_NAME_MAX];
	const char *name;
	int more;

	if (!dir)
		return err_errno(err, "cannot read the directory of the journal");
	while ((more = io_readdir(dir, &name)) > 0) {
		unsigned long number = strncmp(name, "journal.", 8) == 0 ? strtoul(name + 8, NULL, 10) : NUMBERS_MAX;
		if (number >= NUMBERS_MAX)
			continue;
		segment_name(again, (unsigned)number);
		if (strcmp(again, name) != 0)
			continue;
		n->there[number] = true;
		n->count++;
		n->end = number >= n->end ? (unsigned)number + 1 : n->end;
	}
	if (more < 0)
		err_errno(err, "cannot read the directory of the journal");
	io_closedir(dir);
	return more;
}

/* Which journal the segments belong to. */
static int id_settle(struct journal *j, struct err *err)
{
	uint64_t id = 0;

	for (size_t i = 0; i < j->segments.n && !j->o.id; i++) {
		const struct segment *s = j->segments.v[i];
		if (!s->found.first_lsn || !s->found.journal || s->found.journal == id)
			continue;
		if (id)
			return err_set(err, ERR_PERM, "5.3.0",
				       "journal.%u and another segment belong to different journals, and without its "
				       "index nobody knows which is ours: move away what does not belong here",
				       s->number);
		id = s->found.journal;
	}
	j->o.id = j->o.id ? j->o.id : id;
	while (!j->o.id)
		j->o.id = random_u64();
	return 0;
}

static int foreign_aside(struct journal *j, struct err *err)
{
	for (size_t i = 0; i < j->segments.n; i++) {
		struct segment *s = j->segments.v[i];
		if (!s->found.first_lsn || !s->found.journal || s->found.journal == j->o.id)
			continue;
		log_error("journal: journal.%u belongs to another journal, nothing in it is taken", s->number);
		if (set_aside(j, s->number, "foreign", err) < 0)
			return -1;
		io_close(s->fd);
		s->fd = -1;
		s->found.first_lsn = 0;
		if (segment_file(j, s->number, &s->fd, err) < 0 || segment_sync(j, s, err) < 0)
			return -1;
	}
	return 0;
}

int segments_find(struct journal *j, struct err *err)
{
	struct numbers *n = NEW(struct numbers);
	int rc = numbers_read(j, n, err);

	for (unsigned i = 0; rc == 0 && (i < n->end || i < 2); i++) {
		if (n->there[i]) {
			rc = segment_adopt(j, i, err);
			continue;
		}
		if (i < n->end)
			log_warning("journal: journal.%u is missing, a new one is made", i);
		rc = segment_create(j, i, true, err);
	}
	free(n);
	if (rc == 0)
		rc = id_settle(j, err);
	return rc < 0 ? -1 : foreign_aside(j, err);
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static int segment_load(struct journal *j, const struct segment *s, char *bytes, struct str *out, struct err *err)
{
	ssize_t n = io_pread(s->fd, bytes, j->o.segment_size, 0);

	if (n < 0)
		return err_errno(err, "cannot read journal segment %u", s->number);
	*out = str_of(bytes, (size_t)n);
	return 0;
}

static void place_add(struct journal *j, size_t segment, const struct record_reader *r,
		      const struct journal_record *record)
{
	struct journal_place p = {.lsn = record->lsn,
				  .batch = record->batch,
				  .segment = segment,
				  .at = (size_t)(record->payload.ptr - r->segment.ptr),
				  .len = record->payload.len,
				  .type = record->type};

	vec_push(&j->places, p);
	if (record->lsn > j->segments.v[segment]->highest)
		j->segments.v[segment]->highest = record->lsn;
}

static int gather(struct journal *j, char *bytes, struct err *err)
{
	for (size_t i = 0; i < j->segments.n; i++) {
		struct journal_record record;
		struct record_reader r;
		struct str all;

		if (!j->segments.v[i]->found.first_lsn)
			continue;
		if (segment_load(j, j->segments.v[i], bytes, &all, err) < 0)
			return -1;
		if (!record_reader_init(&r, all))
			continue;
		do
			while (record_reader_next(&r, &record))
				place_add(j, i, &r, &record);
		while (record_reader_skip(&r));
	}
	return 0;
}

static int by_lsn(const void *a, const void *b)
{
	const struct journal_place *x = a, *y = b;

	return x->lsn < y->lsn ? -1 : x->lsn > y->lsn;
}

/* The highest LSN that is known to have been durable: a later batch was begun. */
static uint64_t known_durable(const struct journal *j)
{
	uint64_t lsn = 0;

	for (size_t i = 0; i < j->places.n; i++)
		if (j->places.v[i].batch > lsn + 1)
			lsn = j->places.v[i].batch - 1;
	return lsn;
}

/* Version 1: the first LSN of the oldest segment that all later ones follow. */
static uint64_t oldest_following(const struct journal *j)
{
	uint64_t first = 0, end = 0;

	for (;;) {
		const struct segment *next = NULL;
		for (size_t i = 0; i < j->segments.n; i++) {
			const struct segment *s = j->segments.v[i];
			if (s->highest && s->found.first_lsn > end &&
			    (!next || s->found.first_lsn < next->found.first_lsn))
				next = s;
		}
		if (!next)
			return first;
		if (!first || next->found.first_lsn != end + 1)
			first = next->found.first_lsn;
		end = next->highest;
	}
}

/* Without an index: what the newest segment says was needed when it was begun. One that holds nothing but records that
 * nobody was told of does not count. */
static uint64_t oldest(const struct journal *j, uint64_t durable)
{
	const struct segment *newest = NULL;

	for (size_t i = 0; i < j->segments.n; i++) {
		const struct segment *s = j->segments.v[i];
		if (s->highest && s->found.needed && s->found.first_lsn <= durable + 1 &&
		    (!newest || s->found.first_lsn > newest->found.first_lsn))
			newest = s;
	}
	return newest ? newest->found.needed : oldest_following(j);
}

/* Keeps what will be replayed: from `from` on all up to `durable`, and what follows without a gap. */
static void choose(struct journal *j, uint64_t from, uint64_t durable, struct journal_found *f)
{
	uint64_t next = from;
	size_t kept = 0;

	for (size_t i = 0; i < j->places.n; i++) {
		struct journal_place p = j->places.v[i];
		if (p.lsn < next)
			continue;
		if (p.lsn > next) {
			if (next > durable)
				break; /* torn: nobody was told */
			f->lost += (p.lsn <= durable ? p.lsn : durable + 1) - next;
			f->lost_first = f->lost_first ? f->lost_first : next;
			if (kept)
				j->segments.v[j->places.v[kept - 1].segment]->damaged = true;
			j->segments.v[p.segment]->damaged = true;
			snprintf(f->segment, sizeof(f->segment), "journal.%u", j->segments.v[p.segment]->number);
			if (p.lsn > durable + 1)
				break;
		}
		j->places.v[kept++] = p;
		next = p.lsn + 1;
	}
	j->places.n = kept;
	f->first = kept ? j->places.v[0].lsn : 0;
	f->last = kept ? j->places.v[kept - 1].lsn : 0;
}

int journal_scan(struct journal *j, uint64_t after, struct journal_found *found_r, struct err *err)
{
	char *bytes = mem_alloc(j->o.segment_size);
	uint64_t durable, from;
	int rc;

	*found_r = (struct journal_found){0};
	vec_clear(&j->places);
	for (size_t i = 0; i < j->segments.n; i++) {
		const struct segment *s = j->segments.v[i];
		if (!s->damaged)
			continue;
		found_r->header_lost = true;
		snprintf(found_r->segment, sizeof(found_r->segment), "journal.%u", s->number);
	}
	rc = gather(j, bytes, err);
	free(bytes);
	if (rc < 0)
		return -1;
	if (j->places.n)
		qsort(j->places.v, j->places.n, sizeof(*j->places.v), by_lsn);
	durable = known_durable(j);
	from = after ? after + 1 : oldest(j, durable);
	choose(j, from, durable, found_r);
	return 0;
}

int journal_replay(struct journal *j, journal_record_fn *fn, void *ctx, struct err *err)
{
	char *bytes = mem_alloc(j->o.segment_size);
	size_t loaded = SIZE_MAX;
	struct str all = STR_NULL;
	int rc = 0;

	for (size_t i = 0; i < j->places.n && rc >= 0; i++) {
		const struct journal_place *p = &j->places.v[i];
		struct journal_record record = {.lsn = p->lsn, .batch = p->batch, .type = p->type};
		if (p->segment != loaded) {
			rc = segment_load(j, j->segments.v[p->segment], bytes, &all, err);
			loaded = p->segment;
		}
		if (rc >= 0 && p->at + p->len > all.len)
			rc = err_set(err, ERR_TEMP, "4.3.0", "a journal segment became shorter while it was read");
		record.payload = rc < 0 ? STR_NULL : str_sub(all, p->at, p->len);
		if (rc >= 0)
			rc = fn(ctx, &record, err);
	}
	free(bytes);
	vec_clear(&j->places);
	return rc < 0 ? -1 : 0;
}
