/* Committing and checkpointing; see kvlog.h for the picture.
 *
 * A checkpoint: the loop freezes the active overlay (freeze), the index thread waits for the journal and the
 * owner's files, writes it in one transaction (write_frozen), the loop drops it and frees segments (thaw).
 * One at a time. */
#include "journal/kvlog_private.h"

#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/io.h"
#include <errno.h>
#include <time.h>

#define OVERLAY_LIMIT ((size_t)16 << 20)
#define JOURNAL_LIMIT ((uint64_t)256 << 20)
#define IDLE_MS	      3000
#define RETRY_MS      1000
#define CHECK_EVERY   30		/* tries: whether the index is damaged, which takes a read of all of it */
#define WALK_MS	      10000		/* the least time between two walks that reads have asked for */
#define WALK_SHARE    20		/* and no more than a twentieth of all time is spent on them */
#define PROBE_BYTES   ((off_t)16 << 20) /* what a recovery needs at most, by far */
#define SCRATCH_MAX   ((size_t)16 << 20)

static void assert_kvlog_state(struct kvlog *k)
{
	invariant(k->active != NULL);
	invariant(!k->frozen || k->frozen_lsn <= k->lsn);
	invariant(k->read_only || index_lsn(k->index) <= journal_durable(k->journal));
}

bool kvlog_read_only(const struct kvlog *k)
{
	return k->read_only;
}

bool kvlog_may_recover(struct kvlog *k)
{
	static const char name[] = "probe";
	int fd, rc;

	if (!k->read_only)
		return false;
	fd = io_open(k->o.dirfd, name, O_WRONLY | O_CREAT, 0600);
	if (fd < 0)
		return false;
	rc = io_fallocate_zero(fd, 0, PROBE_BYTES);
	io_close(fd);
	return io_unlink(k->o.dirfd, name) == 0 && rc == 0;
}

bool kvlog_index_lost(const struct kvlog *k)
{
	return !k->whole;
}

void kvlog_index_rebuilt(struct kvlog *k)
{
	k->whole = true;
}

bool kvlog_is_behind(const struct kvlog *k)
{
	return k->frozen && overlay_bytes(k->active) > 3 * k->o.overlay_limit;
}

uint64_t kvlog_lsn(const struct kvlog *k)
{
	return k->lsn;
}

/* ---- waiting for an LSN ------------------------------------------------------------------------------- */

static void queue_add(struct kvlog_queue *q, uint64_t lsn, void (*fn)(void *ctx), void *ctx)
{
	struct kvlog_waiter *w = NEW(struct kvlog_waiter);

	*w = (struct kvlog_waiter){.lsn = lsn, .fn = fn, .ctx = ctx};
	*q->tail = w;
	q->tail = &w->next;
}

static void queue_run(struct kvlog_queue *q, uint64_t lsn)
{
	struct kvlog_waiter *w;

	while ((w = q->head) && w->lsn <= lsn) {
		q->head = w->next;
		if (!q->head)
			q->tail = &q->head;
		w->fn(w->ctx);
		free(w);
	}
}

void kvlog_barrier(struct kvlog *k, void (*fn)(void *ctx), void *ctx)
{
	if (k->read_only || (!k->commits.head && journal_durable(k->journal) >= k->lsn))
		fn(ctx);
	else
		queue_add(&k->commits, k->lsn, fn, ctx);
}

/* ---- the loop's step ---------------------------------------------------------------------------------- */

static void freeze(struct kvlog *k)
{
	assert_kvlog_state(k);
	k->checkpoint_wanted = false;
	k->frozen = k->active;
	k->frozen_lsn = k->lsn;
	k->frozen_whole = k->whole;
	k->active = overlay_new();
	pthread_mutex_lock(&k->lock);
	k->todo = true;
	k->dirty = k->idle = false;
	pthread_cond_signal(&k->cond);
	pthread_mutex_unlock(&k->lock);
}

/* Everything committed is in the index, or on its way there. */
static bool clean(const struct kvlog *k)
{
	return (k->frozen ? k->frozen_lsn : index_lsn(k->index)) == k->lsn;
}

static void thaw(struct kvlog *k)
{
	bool written;

	pthread_mutex_lock(&k->lock);
	written = k->written;
	k->written = false;
	pthread_mutex_unlock(&k->lock);
	if (!written)
		return;
	invariant(k->frozen && index_lsn(k->index) == k->frozen_lsn);
	overlay_free(&k->frozen);
	journal_release(k->journal, k->frozen_lsn);
	k->checkpoint_count++;
	queue_run(&k->checkpoints, k->frozen_lsn);
}

static void look(void *ctx)
{
	struct kvlog *k = ctx;
	bool idle;

	if (k->read_only)
		return;
	queue_run(&k->commits, journal_durable(k->journal));
	thaw(k);
	pthread_mutex_lock(&k->lock);
	idle = k->idle;
	pthread_mutex_unlock(&k->lock);
	if (!k->frozen && !clean(k) && (k->checkpoint_wanted || idle))
		freeze(k);
}

static void journal_durable_now(void *ctx, uint64_t lsn)
{
	struct kvlog *k = ctx;

	if (k->o.hooks.durable)
		k->o.hooks.durable(k->o.hooks.ctx, lsn);
	step_post(k->step);
}

/* ---- the index thread --------------------------------------------------------------------------------- */

static void wait_ms(struct kvlog *k, int64_t ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += (ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_cond_timedwait(&k->cond, &k->lock, &until);
}

static int write_frozen(struct kvlog *k, struct err *err)
{
	struct kvlog_hooks *h = &k->o.hooks;

	journal_wait(k->journal, k->frozen_lsn);
	if (h->settle && h->settle(h->ctx, k->frozen_lsn, err) < 0)
		return -1;
	if (index_apply(k->index, k->frozen, k->frozen_lsn, k->frozen_whole, err) < 0) {
		if (err->kind == ERR_FULL && h->disk_full)
			h->disk_full(h->ctx);
		return -1;
	}
	if (h->settled)
		h->settled(h->ctx, k->frozen_lsn);
	return 0;
}

/* Pages that were damaged while they were in use are found by no try to write to them again, but by the next start.
 * What they hold is in the journal or is made again from the files. */
static void end_if_damaged(struct kvlog *k, unsigned tries, const struct err *err)
{
	struct err why = ERR_NONE;

	if (tries % CHECK_EVERY == 1 && err->kind != ERR_FULL && index_damaged(k->o.dirfd, false, &why))
		storage_failed("the index is damaged (%s)", why.text);
}

/* Under the lock; gives it up while it writes. Nothing is lost by failing: the journal keeps its segments. */
static void serve_todo(struct kvlog *k)
{
	for (unsigned tries = 0;; tries++) {
		struct err err = ERR_NONE;
		int rc;

		pthread_mutex_unlock(&k->lock);
		rc = write_frozen(k, &err);
		if (rc < 0)
			end_if_damaged(k, tries, &err);
		pthread_mutex_lock(&k->lock);
		if (rc == 0)
			break;
		if (k->closing) {
			k->failed = true;
			break;
		}
		if (tries == 0)
			log_error("checkpoint delayed: %s", err.text);
		wait_ms(k, RETRY_MS);
	}
	k->todo = false;
	k->written = !k->failed;
	pthread_cond_broadcast(&k->done_cond);
	pthread_mutex_unlock(&k->lock);
	step_post(k->step);
	pthread_mutex_lock(&k->lock);
}

void kvlog_doubt(struct kvlog *k)
{
	pthread_mutex_lock(&k->lock);
	if (!k->doubted) {
		k->doubted = true;
		pthread_cond_signal(&k->cond);
	}
	pthread_mutex_unlock(&k->lock);
}

/* Under the lock; gives it up meanwhile. What cannot be found in damaged pages fails no write, and no try to make an
 * account anew mends it. Nobody else writes the file. */
static void walk_index(struct kvlog *k)
{
	struct err why = ERR_NONE;
	int64_t began = clock_ms(), took;

	k->doubted = false;
	pthread_mutex_unlock(&k->lock);
	if (index_damaged(k->o.dirfd, k->o.keys_alone, &why))
		storage_failed("the index is damaged (%s)", why.text);
	took = clock_ms() - began;
	k->walk_at_ms = began + (took * WALK_SHARE > WALK_MS ? took * WALK_SHARE : WALK_MS);
	pthread_mutex_lock(&k->lock);
}

static void *index_thread(void *arg)
{
	struct kvlog *k = arg;

	pthread_mutex_lock(&k->lock);
	while (!k->stop) {
		int64_t walk_in = k->doubted ? k->walk_at_ms - clock_ms() : WALK_MS;

		if (k->todo) {
			serve_todo(k);
		} else if (walk_in <= 0) {
			walk_index(k);
		} else if (k->dirty && !k->idle) {
			int64_t quiet = clock_ms() - k->last_commit_ms;
			if (quiet < k->o.idle_ms) {
				wait_ms(k, k->o.idle_ms - quiet + 1);
				continue;
			}
			k->idle = true;
			pthread_mutex_unlock(&k->lock);
			step_post(k->step);
			pthread_mutex_lock(&k->lock);
		} else if (k->doubted) {
			wait_ms(k, walk_in + 1);
		} else {
			pthread_cond_wait(&k->cond, &k->lock);
		}
	}
	pthread_mutex_unlock(&k->lock);
	return NULL;
}

/* ---- committing --------------------------------------------------------------------------------------- */

static int check_ops(const struct kvlog_op *ops, size_t count, struct err *err)
{
	for (size_t i = 0; i < count; i++)
		if (ops[i].key.len == 0 || ops[i].key.len > KVLOG_KEY_MAX)
			return err_set(err, ERR_LIMIT, "5.3.0", "a key of %zu bytes", ops[i].key.len);
	return 0;
}

static void encode_ops(struct buf *out, const struct kvlog_op *ops, size_t count)
{
	uint8_t head[7];

	buf_clear(out);
	le32_put(head, (uint32_t)count);
	buf_add(out, head, 4);
	for (size_t i = 0; i < count; i++) {
		size_t value_len = ops[i].del ? 0 : ops[i].value.len;
		head[0] = ops[i].del;
		head[1] = (uint8_t)ops[i].key.len;
		head[2] = (uint8_t)(ops[i].key.len >> 8);
		le32_put(head + 3, (uint32_t)value_len);
		buf_add(out, head, sizeof(head));
		buf_add_str(out, ops[i].key);
		buf_add(out, ops[i].value.ptr, value_len);
	}
}

static void note_dirty(struct kvlog *k)
{
	k->last_commit_ms = clock_ms();
	pthread_mutex_lock(&k->lock);
	if (!k->dirty) {
		k->dirty = true;
		pthread_cond_signal(&k->cond);
	}
	pthread_mutex_unlock(&k->lock);
}

uint64_t kvlog_commit(struct kvlog *k, const struct kvlog_op *ops, size_t op_count, const struct str *extra,
		      size_t extra_count, void (*done)(void *ctx), void *ctx, struct err *err)
{
	struct str parts[KVLOG_EXTRA_MAX + 1];
	uint64_t lsn;

	if (k->read_only) {
		err_set(err, ERR_TEMP, "4.3.0", "storage is read-only: recovery could not finish");
		return 0;
	}
	invariant(extra_count <= KVLOG_EXTRA_MAX);
	if (check_ops(ops, op_count, err) < 0)
		return 0;
	encode_ops(&k->scratch, ops, op_count);
	if (buf_failed(&k->scratch)) {
		err_set(err, ERR_LIMIT, "5.3.4", "a change too large for the journal");
		return 0;
	}
	parts[0] = buf_str(&k->scratch);
	for (size_t i = 0; i < extra_count; i++)
		parts[i + 1] = extra[i];
	lsn = journal_append(k->journal, RECORD_COMMIT, parts, extra_count + 1, err);
	if (!lsn) {
		if (!k->frozen && !clean(k))
			freeze(k);
		return 0;
	}
	invariant(lsn == k->lsn + 1);
	k->lsn = lsn;
	k->commit_count++;
	for (size_t i = 0; i < op_count; i++) {
		if (ops[i].del)
			overlay_del(k->active, ops[i].key);
		else
			overlay_put(k->active, ops[i].key, ops[i].value);
	}
	if (done)
		queue_add(&k->commits, lsn, done, ctx);
	note_dirty(k);
	/* Not here and now: the owner has yet to note its own work for this record, and settle must not miss it. */
	if (!k->frozen && !k->checkpoint_wanted &&
	    (overlay_bytes(k->active) > k->o.overlay_limit || journal_wants_checkpoint(k->journal))) {
		k->checkpoint_wanted = true;
		step_post(k->step);
	}
	return lsn;
}

void kvlog_checkpoint(struct kvlog *k, void (*fn)(void *ctx), void *ctx)
{
	if (k->read_only || (clean(k) && !k->frozen)) {
		if (fn)
			fn(ctx);
		return;
	}
	if (fn)
		queue_add(&k->checkpoints, k->lsn, fn, ctx);
	if (clean(k))
		return;
	if (k->frozen)
		k->checkpoint_wanted = true;
	else
		freeze(k);
}

void kvlog_stats(struct kvlog *k, struct kvlog_stats *stats_r)
{
	struct journal_stats j;

	journal_stats(k->journal, &j);
	*stats_r = (struct kvlog_stats){.commits = k->commit_count,
					.flushes = j.flushes,
					.checkpoints = k->checkpoint_count,
					.journal_bytes = j.bytes,
					.journal_segments = j.segments};
}

/* ---- life --------------------------------------------------------------------------------------------- */

static struct kvlog *kvlog_alloc(const struct kvlog_options *options)
{
	struct kvlog *k = NEW(struct kvlog);
	pthread_condattr_t attr;

	k->o = *options;
	k->o.journal_size_limit = k->o.journal_size_limit ? k->o.journal_size_limit : JOURNAL_LIMIT;
	k->o.overlay_limit = k->o.overlay_limit ? k->o.overlay_limit : OVERLAY_LIMIT;
	k->o.idle_ms = k->o.idle_ms ? k->o.idle_ms : IDLE_MS;
	k->lock_fd = -1;
	k->step = step_new(&k->o.loop, look, k);
	k->active = overlay_new();
	k->commits.tail = &k->commits.head;
	k->checkpoints.tail = &k->checkpoints.head;
	buf_init(&k->scratch, SCRATCH_MAX);
	pthread_mutex_init(&k->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&k->cond, &attr);
	pthread_cond_init(&k->done_cond, &attr);
	pthread_condattr_destroy(&attr);
	return k;
}

static void kvlog_dispose(struct kvlog *k)
{
	if (k->thread_started) {
		pthread_mutex_lock(&k->lock);
		k->stop = true;
		pthread_cond_signal(&k->cond);
		pthread_mutex_unlock(&k->lock);
		pthread_join(k->thread, NULL);
	}
	journal_close(&k->journal);
	index_close(&k->index);
	overlay_free(&k->active);
	overlay_free(&k->frozen);
	buf_release(&k->scratch);
	step_free(&k->step);
	if (k->lock_fd >= 0)
		io_close(k->lock_fd);
	pthread_cond_destroy(&k->cond);
	pthread_cond_destroy(&k->done_cond);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

int kvlog_open(const struct kvlog_options *options, struct kvlog **k_r, struct err *err)
{
	struct kvlog *k = kvlog_alloc(options);
	struct journal_options j = {.dirfd = k->o.dirfd,
				    .size_limit = k->o.journal_size_limit,
				    .segment_size = k->o.segment_size,
				    .durable = journal_durable_now,
				    .ctx = k};
	struct err why = ERR_NONE;

	k->lock_fd = journal_lock_dir(k->o.dirfd, err);
	if (k->lock_fd < 0 || index_open(k->o.dirfd, k->o.keys_alone, &k->index, err) < 0) {
		kvlog_dispose(k);
		return -1;
	}
	j.id = index_journal(k->index);
	if (journal_open(&j, &k->journal, err) < 0) {
		kvlog_dispose(k);
		return -1;
	}
	*k_r = k; /* the hooks of recovery may read */
	if (kvlog_recover(k, &why) < 0) {
		log_error("recovery could not finish, serving reads only: %s", why.text);
		k->read_only = true;
	} else if (pthread_create(&k->thread, NULL, index_thread, k) != 0) {
		*k_r = NULL;
		kvlog_dispose(k);
		return err_set(err, ERR_TEMP, "4.3.0", "cannot start the index thread");
	} else {
		k->thread_started = true;
	}
	return 0;
}

/* The last checkpoint, without the help of the loop. */
static void finish(struct kvlog *k)
{
	journal_wait(k->journal, k->lsn);
	for (;;) {
		bool failed;

		k->checkpoint_wanted = true;
		look(k);
		if (!k->frozen && clean(k))
			return;
		pthread_mutex_lock(&k->lock);
		while (k->todo && !k->failed)
			pthread_cond_wait(&k->done_cond, &k->lock);
		failed = k->failed;
		pthread_mutex_unlock(&k->lock);
		if (failed) {
			log_warning("stopped without a last checkpoint; the journal keeps everything");
			return;
		}
	}
}

static void queue_drop(struct kvlog_queue *q)
{
	struct kvlog_waiter *w;

	while ((w = q->head)) {
		q->head = w->next;
		free(w);
	}
}

void kvlog_close(struct kvlog **kp)
{
	struct kvlog *k = *kp;

	*kp = NULL;
	if (!k)
		return;
	pthread_mutex_lock(&k->lock);
	k->closing = true;
	pthread_cond_broadcast(&k->cond);
	pthread_mutex_unlock(&k->lock);
	if (!k->read_only)
		finish(k);
	queue_drop(&k->commits);
	queue_drop(&k->checkpoints);
	kvlog_dispose(k);
}
