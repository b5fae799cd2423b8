/* Appending and the group commit.
 *
 *	owner's loop                         flusher
 *	append: copy, give LSN, queue  --->  take the whole queue, lay it out, seal, pwrite, fdatasync
 *	                               <---  durable(lsn)
 *
 * A segment goes FREE -> CURRENT -> FULL -> (release) -> FREE. */
#include "journal/journal_private.h"

#include "base/encode.h"
#include "base/fatal.h"
#include "os/io.h"
#include <errno.h>
#include <sys/file.h>

static size_t capacity(const struct journal *j)
{
	return j->o.segment_size - JOURNAL_BLOCK;
}

static size_t record_max(const struct journal *j)
{
	return capacity(j) - RECORD_HEADER;
}

static void assert_journal_state(const struct journal *j)
{
	invariant(j->durable < j->next_lsn);
	invariant(j->current->state == SEGMENT_CURRENT);
	invariant(j->at % JOURNAL_BLOCK == 0 && j->at >= JOURNAL_BLOCK && j->at <= j->o.segment_size);
	invariant(j->sim_left <= capacity(j));
}

static size_t free_segments(const struct journal *j)
{
	size_t n = 0;

	for (size_t i = 0; i < j->segments.n; i++)
		n += j->segments.v[i]->state == SEGMENT_FREE;
	return n;
}

int journal_lock_dir(int dirfd, struct err *err)
{
	int fd = io_open(dirfd, "lock", O_RDWR | O_CREAT, 0600);

	if (fd < 0)
		return err_errno(err, "cannot open the lock file");
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		io_close(fd);
		return err_set(err, ERR_TEMP, "4.3.0", "another process holds the lock of this directory");
	}
	return fd;
}

/* ---- appending ---------------------------------------------------------------------------------------- */

/* Room for one more record, counted as if it were a batch of its own. As the real layout is never behind the
 * simulated one, what fits here fits there. */
static bool reserve(struct journal *j, size_t need, struct err *err)
{
	if (need > j->sim_left && j->sim_free == 0) {
		uint64_t total = (uint64_t)j->segments.n * j->o.segment_size;

		if (total + j->o.segment_size > j->o.size_limit) {
			err_set(err, ERR_FULL, "4.3.1", "the journal is full");
			return false;
		}
		if (segment_create(j, (unsigned)j->segments.n, false, err) < 0)
			return false;
		j->sim_free++;
	}
	if (need > j->sim_left) {
		j->sim_free--;
		j->sim_left = capacity(j);
	}
	j->sim_left -= need;
	return true;
}

uint64_t journal_append(struct journal *j, uint32_t type, const struct str *parts, size_t count, struct err *err)
{
	struct pending *p;
	size_t len = 0, at = RECORD_HEADER;
	uint64_t lsn;

	for (size_t i = 0; i < count; i++)
		len += parts[i].len;
	if (len > record_max(j)) {
		err_set(err, ERR_LIMIT, "5.3.4", "a change of %zu bytes does not fit the journal", len);
		return 0;
	}
	p = mem_alloc(sizeof(*p) + RECORD_HEADER + len);
	for (size_t i = 0; i < count; i++) {
		if (parts[i].len)
			memcpy(p->data + at, parts[i].ptr, parts[i].len);
		at += parts[i].len;
	}
	p->type = type;
	p->len = (uint32_t)len;

	pthread_mutex_lock(&j->lock);
	assert_journal_state(j);
	if (!reserve(j, journal_round_up(RECORD_HEADER + len), err)) {
		pthread_mutex_unlock(&j->lock);
		free(p);
		return 0;
	}
	lsn = p->lsn = j->next_lsn++;
	*j->tail = p;
	j->tail = &p->next;
	j->records++;
	pthread_mutex_unlock(&j->lock);
	/* Outside: who wakes must not have to wait for the lock. */
	pthread_cond_signal(&j->work);
	return lsn; /* p is the flusher's now, and perhaps freed */
}

/* ---- flushing ----------------------------------------------------------------------------------------- */

static struct segment *next_segment(struct journal *j, uint64_t first_lsn)
{
	struct segment *s = NULL;

	for (size_t i = 0; i < j->segments.n && !s; i++)
		if (j->segments.v[i]->state == SEGMENT_FREE)
			s = j->segments.v[i];
	invariant(s != NULL);
	s->state = SEGMENT_CURRENT;
	s->header_written = false;
	s->salt = random_u64();
	s->first_lsn = first_lsn;
	s->needed = j->released + 1;
	return s;
}

/* Under the lock: gives each record of the batch its place and sets the queue empty. */
static void lay_out(struct journal *j, struct pending *batch)
{
	for (struct pending *p = batch; p; p = p->next) {
		size_t need = RECORD_HEADER + p->len;

		if (j->at + need > j->o.segment_size) {
			j->current->state = SEGMENT_FULL;
			j->current = next_segment(j, p->lsn);
			j->at = JOURNAL_BLOCK;
		}
		p->segment = j->current;
		p->offset = j->at;
		j->at += need;
		j->current->last_lsn = p->lsn;
	}
	j->at = journal_round_up(j->at);
	j->sim_left = j->o.segment_size - j->at;
	j->sim_free = free_segments(j);
}

static void batch_room(struct journal *j, size_t len)
{
	if (len <= j->batch_size)
		return;
	j->batch_size = journal_round_up(len + len / 2);
	j->batch = mem_realloc(j->batch, j->batch_size);
}

/* Writes the records from `p` on that lie in one segment, as one piece; returns the first of the next. */
static struct pending *write_piece(struct journal *j, struct pending *p, uint64_t batch)
{
	struct segment *s = p->segment;
	size_t start = s->header_written ? p->offset : 0, end = p->offset, len;
	struct pending *stop = p;

	for (; stop && stop->segment == s; stop = stop->next)
		end = stop->offset + RECORD_HEADER + stop->len;
	len = journal_round_up(end - start);
	batch_room(j, len);
	if (!s->header_written) {
		struct segment_header h = {.salt = s->salt,
					   .first_lsn = s->first_lsn,
					   .prev_crc = j->prev_crc,
					   .journal = j->o.id,
					   .needed = s->needed};
		segment_header_encode(&h, j->batch);
		s->header_written = true;
	}
	for (; p != stop; p = p->next) {
		j->prev_crc = record_seal(p->data, s->salt, j->prev_crc, p->lsn, batch, p->type, p->len);
		memcpy(j->batch + (p->offset - start), p->data, RECORD_HEADER + p->len);
	}
	memset(j->batch + (end - start), 0, len - (end - start));
	if (io_pwrite(s->fd, j->batch, len, (off_t)start) < 0)
		storage_failed("cannot write journal segment %u: %s", s->number, strerror(errno));
	return stop;
}

/* The empty header and the name of a new segment are safe before it holds anything: a header that is not there is
 * damage then, and not a batch that was torn. */
static void secure_segment(struct journal *j, struct segment *s)
{
	if (s->name_synced)
		return;
	if (io_fsync(s->fd) < 0 || io_fsync(j->o.dirfd) < 0)
		storage_failed("cannot sync new journal segment %u: %s", s->number, strerror(errno));
	s->name_synced = true;
}

static void sync_segment(struct segment *s)
{
	if (io_fdatasync(s->fd) < 0)
		storage_failed("cannot sync journal segment %u: %s", s->number, strerror(errno));
}

static void flush_batch(struct journal *j, struct pending *batch)
{
	struct segment *last = NULL;

	for (struct pending *p = batch; p; p = p->next)
		secure_segment(j, p->segment);
	for (struct pending *p = batch; p;)
		p = write_piece(j, p, batch->lsn);
	for (struct pending *p = batch; p; p = p->next) {
		if (p->segment != last)
			sync_segment(p->segment);
		last = p->segment;
	}
}

static void *flusher_run(void *arg)
{
	struct journal *j = arg;
	struct pending *batch;

	pthread_mutex_lock(&j->lock);
	for (;;) {
		uint64_t last = 0;

		while (!j->head && !j->stop)
			pthread_cond_wait(&j->work, &j->lock);
		if (!j->head)
			break;
		batch = j->head;
		j->head = NULL;
		j->tail = &j->head;
		lay_out(j, batch);
		pthread_mutex_unlock(&j->lock);
		flush_batch(j, batch);
		while (batch) {
			struct pending *next = batch->next;
			last = batch->lsn;
			free(batch);
			batch = next;
		}
		pthread_mutex_lock(&j->lock);
		j->durable = last;
		j->flushes++;
		pthread_cond_broadcast(&j->flushed);
		pthread_mutex_unlock(&j->lock);
		if (j->o.durable)
			j->o.durable(j->o.ctx, last);
		pthread_mutex_lock(&j->lock);
	}
	pthread_mutex_unlock(&j->lock);
	return NULL;
}

/* ---- questions ---------------------------------------------------------------------------------------- */

uint64_t journal_durable(struct journal *j)
{
	uint64_t lsn;

	pthread_mutex_lock(&j->lock);
	lsn = j->durable;
	pthread_mutex_unlock(&j->lock);
	return lsn;
}

void journal_wait(struct journal *j, uint64_t lsn)
{
	pthread_mutex_lock(&j->lock);
	invariant(lsn < j->next_lsn);
	while (j->durable < lsn)
		pthread_cond_wait(&j->flushed, &j->lock);
	pthread_mutex_unlock(&j->lock);
}

void journal_release(struct journal *j, uint64_t lsn)
{
	pthread_mutex_lock(&j->lock);
	invariant(lsn <= j->durable);
	j->released = lsn > j->released ? lsn : j->released;
	for (size_t i = 0; i < j->segments.n; i++) {
		struct segment *s = j->segments.v[i];
		if (s->state == SEGMENT_FULL && s->last_lsn <= lsn) {
			s->state = SEGMENT_FREE;
			j->sim_free++;
		}
	}
	pthread_mutex_unlock(&j->lock);
}

bool journal_wants_checkpoint(struct journal *j)
{
	bool full = false;

	pthread_mutex_lock(&j->lock);
	for (size_t i = 0; i < j->segments.n; i++)
		full = full || j->segments.v[i]->state == SEGMENT_FULL;
	pthread_mutex_unlock(&j->lock);
	return full;
}

void journal_stats(struct journal *j, struct journal_stats *stats_r)
{
	pthread_mutex_lock(&j->lock);
	*stats_r = (struct journal_stats){.bytes = (uint64_t)j->segments.n * j->o.segment_size,
					  .segments = j->segments.n,
					  .records = j->records,
					  .flushes = j->flushes};
	pthread_mutex_unlock(&j->lock);
}

/* ---- life --------------------------------------------------------------------------------------------- */

int journal_open(const struct journal_options *options, struct journal **j_r, struct err *err)
{
	struct journal *j = NEW(struct journal);

	j->o = *options;
	if (!j->o.segment_size)
		j->o.segment_size = JOURNAL_SEGMENT_SIZE;
	invariant(j->o.segment_size % JOURNAL_BLOCK == 0 && j->o.segment_size >= 2 * JOURNAL_BLOCK);
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->work, NULL);
	pthread_cond_init(&j->flushed, NULL);
	j->tail = &j->head;
	if (segments_find(j, err) < 0) {
		journal_close(&j);
		return -1;
	}
	*j_r = j;
	return 0;
}

uint64_t journal_id(const struct journal *j)
{
	return j->o.id;
}

/* A header of an earlier life must not be taken for the successor of a new one. */
static int segments_clear(struct journal *j, struct err *err)
{
	static const struct segment_header none;
	uint8_t empty[JOURNAL_BLOCK];

	segment_header_encode(&none, empty);
	for (size_t i = 0; i < j->segments.n; i++) {
		struct segment *s = j->segments.v[i];
		if (!s->found.first_lsn)
			continue;
		if (io_pwrite(s->fd, empty, sizeof(empty), 0) < 0 || io_fdatasync(s->fd) < 0)
			return err_errno(err, "cannot clear journal segment %u", s->number);
		s->found.first_lsn = 0;
	}
	return 0;
}

int journal_start(struct journal *j, uint64_t next_lsn, struct err *err)
{
	invariant(!j->started && next_lsn > 0);
	if (segments_replace(j, err) < 0 || segments_clear(j, err) < 0)
		return -1;
	j->next_lsn = next_lsn;
	j->durable = j->released = next_lsn - 1;
	j->current = next_segment(j, next_lsn);
	j->at = JOURNAL_BLOCK;
	j->prev_crc = 0;
	j->sim_left = capacity(j);
	j->sim_free = free_segments(j);
	if (pthread_create(&j->flusher, NULL, flusher_run, j) != 0)
		return err_set(err, ERR_TEMP, "4.3.0", "cannot start the journal's thread");
	j->started = true;
	return 0;
}

void journal_close(struct journal **jp)
{
	struct journal *j = *jp;

	*jp = NULL;
	if (!j)
		return;
	if (j->started) {
		pthread_mutex_lock(&j->lock);
		j->stop = true;
		pthread_cond_signal(&j->work);
		pthread_mutex_unlock(&j->lock);
		pthread_join(j->flusher, NULL);
	}
	for (size_t i = 0; i < j->segments.n; i++) {
		io_close(j->segments.v[i]->fd);
		free(j->segments.v[i]);
	}
	vec_release(&j->segments);
	vec_release(&j->places);
	pthread_cond_destroy(&j->work);
	pthread_cond_destroy(&j->flushed);
	pthread_mutex_destroy(&j->lock);
	free(j->batch);
	free(j);
}
