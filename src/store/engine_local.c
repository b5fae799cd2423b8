/* The local engine: kvlog (journal, overlay, LMDB) for keys and values, Maildir for messages.
 *
 *	commit   one kvlog record { key operations, file record }; file jobs into lanes
 *	durable  flusher -> lanes -> file threads: tmp/ written, renamed into new/ or cur/
 *	settle   index thread: wait for file work, append notes, syncfs; then the index is written (kvlog)
 *	settled  blobs and segments that nobody needs any more go
 *	recover  kvlog replays: file operations are repeated in order (engine_local_files.c), notes appended, synced
 *
 * Invariants:
 *  1. A record is released only when its file operations are done and synced (kvlog invariant 3), or stand in the
 *     file of what waits (engine_local_waiting.c).
 *  2. A blob that a commit used stays in the spool until that is so: recovery can repeat the PUT.
 *  3. What makes files grow is taken only while free space covers all that is not in place yet (local_admit). */
#include "store/engine_local_private.h"

#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "os/fault.h"
#include "os/io.h"

#define MESSAGE_LIMIT ((uint64_t)10 << 20)
#define SPOOL_LIMIT   ((uint64_t)1 << 30)
#define FILE_THREADS  4
#define INDEX_WORST   ((uint64_t)4 << 20)
#define INODES_SPARE  64u
#define BALLAST_NAME  "ballast"

/* ---- keys and values ---------------------------------------------------------------------------------- */

static int local_get(struct store_engine *e, struct str key, struct arena *a, struct str *value_r, struct err *err)
{
	return kvlog_get(local_of(e)->k, key, a, value_r, err);
}

static int local_keys(struct store_engine *e, struct str first, struct str end, store_range_fn *fn, void *ctx,
		      struct err *err)
{
	return kvlog_keys(local_of(e)->k, first, end, fn, ctx, err);
}

static int local_range(struct store_engine *e, struct str first, struct str end, bool reverse, store_range_fn *fn,
		       void *ctx, struct err *err)
{
	return kvlog_range(local_of(e)->k, first, end, reverse, fn, ctx, err);
}

static void local_doubt(struct store_engine *e)
{
	kvlog_doubt(local_of(e)->k);
}

static void local_barrier(struct store_engine *e, void (*fn)(void *ctx), void *ctx)
{
	kvlog_barrier(local_of(e)->k, fn, ctx);
}

static bool local_read_only(const struct store_engine *e)
{
	return kvlog_read_only(((const struct local *)e)->k);
}

/* ---- admission ---------------------------------------------------------------------------------------- */

/* Free space is asked for again when the answer is older than this, or when it is not ample: others write too. */
#define ROOM_MS		  50
#define ROOM_AMPLE	  ((uint64_t)1 << 30)
#define ROOM_AMPLE_INODES 100000u
#define HOME_MS		  1000 /* so long an account is believed to be on the root's file system */

/* What a growing batch must find: all that is not in place yet, itself, and what is kept back. */
struct need {
	uint64_t bytes, inodes;
	uint64_t unapplied_bytes, unapplied_files; /* of these */
	uint64_t own;
};

static int room_on(int fd, const struct need *n, struct room *seen, struct err *err)
{
	uint64_t bytes_free, inodes_free;

	if (io_free_space(fd, &bytes_free, &inodes_free) < 0)
		return err_errno(err, "cannot ask for free space");
	if (bytes_free < n->bytes || inodes_free < n->inodes)
		return err_set(err, ERR_FULL, "4.3.1", "insufficient system storage");
	if (seen) {
		seen->asked_ms = clock_ms();
		seen->bytes = bytes_free - n->unapplied_bytes;
		seen->inodes = inodes_free - n->unapplied_files;
		seen->taken_bytes = n->own;
		seen->taken_inodes = 1;
	}
	return 0;
}

/* The same, but what was seen a moment ago is good enough while it is ample. */
static int room_seen(int fd, const struct need *n, struct room *seen, struct err *err)
{
	if (clock_ms() - seen->asked_ms < ROOM_MS && seen->bytes > seen->taken_bytes + n->bytes + ROOM_AMPLE &&
	    seen->inodes > seen->taken_inodes + n->inodes + ROOM_AMPLE_INODES) {
		seen->taken_bytes += n->own;
		seen->taken_inodes++;
		return 0;
	}
	return room_on(fd, n, seen, err);
}

/* The account may be on a file system of its own. */
static int room_of_account(struct local *l, struct str path, const struct need *n, struct err *err)
{
	char full[STORE_PATH_MAX];
	struct home *home = &l->homes[crc32c(0, path.ptr, path.len) % HOMES];
	struct stat st;
	int fd, rc;

	if (str_eq(path, str_from(home->path)) && clock_ms() - home->seen_ms < HOME_MS)
		return 0;
	local_path(full, path, STR_NULL, "");
	if (!l->room_root.known) {
		if (io_fstat(l->o.rootfd, &st) < 0)
			return err_errno(err, "cannot look at the root");
		l->room_root.dev = st.st_dev;
		l->room_root.known = true;
	}
	if (io_fstatat(l->o.rootfd, full, &st, 0) < 0)
		return 0;
	if (st.st_dev == l->room_root.dev) {
		if (path.len < sizeof(home->path)) {
			snprintf(home->path, sizeof(home->path), "%.*s", STR_ARG(path));
			home->seen_ms = clock_ms();
		}
		return 0;
	}
	fd = io_open(l->o.rootfd, full, O_PATH | O_DIRECTORY, 0);
	if (fd < 0)
		return 0;
	rc = room_on(fd, n, NULL, err);
	io_close(fd);
	return rc;
}

static int local_admit(struct store_engine *e, struct str path, uint64_t bytes, struct err *err)
{
	struct local *l = local_of(e);
	struct need need = {.own = bytes};
	uint64_t limit;
	int rc;

	if (kvlog_read_only(l->k))
		return err_set(err, ERR_TEMP, "4.3.0", "storage is read-only: recovery could not finish");
	pthread_mutex_lock(&l->lock);
	need.unapplied_bytes = l->unapplied_bytes;
	need.unapplied_files = l->unapplied_files;
	/* What could not be written shows that the numbers of the file system are not the whole truth (quotas). */
	rc = l->full_files
		     ? err_set(err, ERR_FULL, "4.3.1", "insufficient system storage: earlier messages wait for room")
		     : 0;
	limit = l->message_limit;
	pthread_mutex_unlock(&l->lock);
	need.bytes = need.unapplied_bytes + bytes + limit + INDEX_WORST;
	need.inodes = need.unapplied_files + INODES_SPARE;
	if (rc < 0 || room_seen(l->o.dirfd, &need, &l->room_dir, err) < 0 ||
	    room_seen(l->o.rootfd, &need, &l->room_root, err) < 0)
		return -1;
	return path.len > 0 ? room_of_account(l, path, &need, err) : 0;
}

static void local_message_limit(struct store_engine *e, uint64_t bytes)
{
	struct local *l = local_of(e);

	pthread_mutex_lock(&l->lock);
	l->message_limit = bytes ? bytes : MESSAGE_LIMIT;
	pthread_mutex_unlock(&l->lock);
	l->room_dir.asked_ms = l->room_root.asked_ms = 0;
}

/* ---- committing --------------------------------------------------------------------------------------- */

/* A Maildir that is away, or that nothing can be written to, takes no more than was acknowledged already. */
static int admit_account(struct local *l, const struct store_file_op *f, struct err *err)
{
	if (lanes_stuck(l, f->account))
		return err_set(err, ERR_TEMP, "4.3.0", "earlier changes of this account wait for its file system");
	if (!f->home || home_check(l, f->path, err) == 0 || !lanes_done(l, f->account, UINT64_MAX))
		return 0;
	return -1;
}

/* A batch that makes files grow, and how much at most. */
static bool grows(struct local *l, const struct store_batch *c, uint64_t *bytes_r, struct str *path_r)
{
	bool growing = false;

	*bytes_r = 0;
	for (size_t i = 0; i < c->file_count; i++) {
		const struct store_file_op *f = &c->files[i];
		uint64_t size = 0;

		if (f->kind != FILE_PUT && f->kind != FILE_COPY)
			continue;
		growing = true;
		*path_r = f->path;
		if (f->kind == FILE_PUT && f->body >= 0)
			size = c->bodies[f->body].len;
		else if (f->kind == FILE_PUT && f->blob)
			spool_finished(l->spool, f->blob, &size);
		*bytes_r += size + f->prefix.len + 4096;
	}
	return growing;
}

static void use_blobs(struct local *l, const struct store_batch *c, uint64_t lsn)
{
	uint64_t size;

	for (size_t i = 0; i < c->file_count; i++) {
		const struct store_file_op *f = &c->files[i];
		struct used_blob used = {lsn, f->blob};

		/* Several PUTs may share a blob: the first one finds it unused. */
		if (f->kind != FILE_PUT || f->body >= 0 || !f->blob || !spool_finished(l->spool, f->blob, &size))
			continue;
		spool_use(l->spool, f->blob);
		pthread_mutex_lock(&l->lock);
		vec_push(&l->used, used);
		pthread_mutex_unlock(&l->lock);
	}
}

static struct kvlog_op *kv_ops(const struct store_batch *c)
{
	struct kvlog_op *ops = mem_alloc((c->kv_count + 1) * sizeof(*ops));

	for (size_t i = 0; i < c->kv_count; i++)
		ops[i] = (struct kvlog_op){c->kv[i].key, c->kv[i].value, c->kv[i].del};
	return ops;
}

static int local_commit(struct store_engine *e, const struct store_batch *c, struct err *err)
{
	struct local *l = local_of(e);
	struct file_record *record = NULL;
	struct str path = STR_NULL, extra;
	struct kvlog_op *ops;
	uint64_t bytes, lsn;

	if (grows(l, c, &bytes, &path)) {
		if (local_admit(e, path, bytes, err) < 0)
			return -1;
		for (size_t i = 0; i < c->file_count; i++)
			if ((c->files[i].kind == FILE_PUT || c->files[i].kind == FILE_COPY) &&
			    admit_account(l, &c->files[i], err) < 0)
				return -1;
	}
	if (c->file_count)
		record = file_record_new(e, c);
	extra = record ? str_of(record->bytes, record->len) : STR_NULL;
	ops = kv_ops(c);
	lsn = kvlog_commit(l->k, ops, c->kv_count, &extra, record ? 1 : 0, c->done, c->ctx, err);
	free(ops);
	if (lsn && record) {
		use_blobs(l, c, lsn);
		lanes_add(l, record, lsn);
	}
	if (record)
		file_record_unref(record);
	return lsn ? 0 : -1;
}

/* ---- what kvlog asks ---------------------------------------------------------------------------------- */

static void on_durable(void *ctx, uint64_t lsn)
{
	lanes_durable(ctx, lsn);
}

/* The index needs room to record that something was deleted. */
static void on_disk_full(void *ctx)
{
	struct local *l = ctx;

	l->ballast = false;
	if (io_unlink(l->o.dirfd, BALLAST_NAME) == 0)
		log_warning("the disk is full: gave up the ballast file, expunging goes on");
}

static int on_settle(void *ctx, uint64_t lsn, struct err *err)
{
	struct local *l = ctx;
	int rc;

	lanes_wait(l, lsn);
	rc = waiting_settle(l, lsn, err);
	if (rc < 0 && err->kind == ERR_FULL)
		on_disk_full(l);
	if (rc == 0)
		FAULT_POINT("store.settled");
	return rc;
}

static void ballast_make(struct local *l)
{
	uint64_t bytes, inodes;
	int fd;

	if (!l->o.ballast || l->ballast || io_free_space(l->o.dirfd, &bytes, &inodes) < 0 || bytes < 8 * l->o.ballast)
		return;
	fd = io_open(l->o.dirfd, BALLAST_NAME, O_WRONLY | O_CREAT, 0600);
	if (fd < 0)
		return;
	l->ballast = io_fallocate_zero(fd, 0, (off_t)l->o.ballast) == 0;
	io_close(fd);
}

static void on_settled(void *ctx, uint64_t lsn)
{
	struct local *l = ctx;

	for (size_t i = 0;;) {
		struct used_blob used = {0};

		pthread_mutex_lock(&l->lock);
		if (i < l->used.n)
			used = l->used.v[i];
		pthread_mutex_unlock(&l->lock);
		if (!used.id || used.lsn > lsn)
			break;
		if (waiting_blob(l, used.id)) {
			i++;
			continue;
		}
		pthread_mutex_lock(&l->lock);
		vec_remove(&l->used, i); /* others only add, at the end */
		pthread_mutex_unlock(&l->lock);
		spool_remove(l->spool, used.id);
	}
	ballast_make(l);
}

static bool local_may_recover(struct store_engine *e)
{
	struct local *l = local_of(e);

	return kvlog_may_recover(l->k);
}

/* ---- recovery ----------------------------------------------------------------------------------------- */

struct redo {
	struct local *l;
	uint64_t lsn;
	struct err *err;
};

static int redo_work(struct local *l, const struct file_work *w, struct err *err)
{
	if (w->op.kind == FILE_PUT)
		return file_put_redo(l, w, err);
	return file_work_do(l, w, err) < 0 || pending_follow(l, &w->op, err) < 0 ? -1 : 0;
}

/* One account's trouble is no reason to keep the others waiting: what cannot be done waits, and the account's later
 * operations behind it. */

static int redo_one(void *ctx, const struct file_work *w)
{
	struct redo *r = ctx;
	struct local *l = r->l;
	struct used_blob used = {r->lsn, w->op.blob};
	struct err err = ERR_NONE;

	if (w->op.kind == FILE_PUT && w->op.blob) {
		spool_keep(l->spool, w->op.blob);
		vec_push(&l->used, used);
	}
	if (!waiting_has(l, w->op.account)) {
		if (redo_work(l, w, &err) == 0)
			return 0;
		log_error("recovery: file operations of account %llu wait: %s", (unsigned long long)w->op.account,
			  err.text);
	}
	waiting_add(l, w);
	return 0;
}

int redo_record(struct local *l, uint64_t lsn, struct str record, struct err *err)
{
	struct redo r = {l, lsn, err};

	if (file_record_parse(record, redo_one, &r) == 0)
		return 0;
	return err_set(err, ERR_PERM, "5.3.0", "commit %llu holds no file record", (unsigned long long)lsn);
}

static int on_replay(void *ctx, uint64_t lsn, struct str extra, struct err *err)
{
	if (root_look(ctx, err) < 0 || waiting_load(ctx, err) < 0)
		return -1;
	return redo_record(ctx, lsn, extra, err);
}

static void sweep_touched(struct local *l)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(l->cache, &at, &key, &value);)
		folder_sweep_tmp(l, key, STR_NULL, true);
}

static int on_recovered(void *ctx, struct err *err)
{
	struct local *l = ctx;

	if (root_look(l, err) < 0 || waiting_load(l, err) < 0)
		return -1;
	sweep_touched(l);
	cache_free(l);
	pending_end(l);
	l->recovering = false;
	waiting_begin(l);
	if (waiting_settle(l, 0, err) < 0) {
		if (err->kind != ERR_FULL)
			return -1;
		on_disk_full(l);
		if (waiting_settle(l, 0, err) < 0)
			return -1;
	}
	spool_sweep(l->spool);
	return 0;
}

/* ---- the loop ----------------------------------------------------------------------------------------- */

static void run_blobs(struct local *l)
{
	struct blob_task *t;

	pthread_mutex_lock(&l->lock);
	t = l->blobs_done;
	l->blobs_done = NULL;
	pthread_mutex_unlock(&l->lock);
	while (t) {
		struct blob_task *next = t->next;
		t->fn(t->ctx, t->rc < 0 ? &t->err : NULL);
		free(t);
		t = next;
	}
}

static void run_waiters(struct local *l)
{
	for (size_t i = 0; i < l->waiters.n;) {
		struct files_waiter w = l->waiters.v[i];

		if (!lanes_done(l, w.account, w.lsn)) {
			i++;
			continue;
		}
		vec_remove(&l->waiters, i);
		atomic_fetch_sub(&l->waiting, 1);
		w.fn(w.ctx);
		i = 0; /* fn may have added or run others */
	}
}

static void look(void *ctx)
{
	run_blobs(ctx);
	run_waiters(ctx);
}

static size_t local_files_pending(struct store_engine *e, uint64_t account)
{
	struct local *l = local_of(e);
	struct lane *lane;
	size_t count;

	pthread_mutex_lock(&l->lock);
	lane = map_get_u64(l->lanes, account);
	count = lane ? lane->count : 0;
	pthread_mutex_unlock(&l->lock);
	return count;
}

static void local_files_wait(struct store_engine *e, uint64_t account, void (*fn)(void *ctx), void *ctx)
{
	struct local *l = local_of(e);
	struct files_waiter w = {account, kvlog_lsn(l->k), fn, ctx};

	atomic_fetch_add(&l->waiting, 1); /* before looking, so that a lane that ends just now wakes us */
	if (!lanes_done(l, account, w.lsn)) {
		vec_push(&l->waiters, w);
		return;
	}
	atomic_fetch_sub(&l->waiting, 1);
	fn(ctx);
}

/* ---- blobs -------------------------------------------------------------------------------------------- */

static int local_blob_begin(struct store_engine *e, uint64_t size_hint, uint64_t *blob_r, int *fd_r, struct err *err)
{
	if (local_admit(e, STR_NULL, size_hint, err) < 0)
		return -1;
	return spool_begin(local_of(e)->spool, size_hint, blob_r, fd_r, err);
}

static void blob_finish_task(void *ctx)
{
	struct blob_task *t = ctx;
	struct local *l = t->l;

	t->rc = spool_finish(l->spool, t->id, t->size, t->crc, &t->err);
	pthread_mutex_lock(&l->lock);
	t->next = l->blobs_done;
	l->blobs_done = t;
	pthread_mutex_unlock(&l->lock);
	step_post(l->step);
}

static void local_blob_finish(struct store_engine *e, uint64_t blob, uint64_t size, uint32_t crc,
			      void (*fn)(void *ctx, const struct err *err), void *ctx)
{
	struct blob_task *t = NEW(struct blob_task);

	*t = (struct blob_task){.l = local_of(e), .id = blob, .size = size, .crc = crc, .fn = fn, .ctx = ctx};
	pool_run(t->l->pool, 0, blob_finish_task, t);
}

static int local_blob_open(struct store_engine *e, uint64_t blob, struct err *err)
{
	uint64_t size;

	if (!spool_finished(local_of(e)->spool, blob, &size))
		return err_set(err, ERR_TEMP, "4.3.0", "no such blob");
	return spool_read(local_of(e)->spool, blob, err);
}

static void local_blob_drop(struct store_engine *e, uint64_t blob)
{
	spool_drop(local_of(e)->spool, blob);
}

static bool local_blob_finished(struct store_engine *e, uint64_t blob, uint64_t *size_r)
{
	return spool_finished(local_of(e)->spool, blob, size_r);
}

/* ---- life --------------------------------------------------------------------------------------------- */

static void local_checkpoint(struct store_engine *e, void (*fn)(void *ctx), void *ctx)
{
	odd_forget(local_of(e), false);
	kvlog_checkpoint(local_of(e)->k, fn, ctx);
}

static int local_root(const struct store_engine *e)
{
	return ((const struct local *)e)->o.rootfd;
}

static void local_stats(struct store_engine *e, struct store_engine_stats *stats_r)
{
	struct local *l = local_of(e);
	struct kvlog_stats k;

	kvlog_stats(l->k, &k);
	pthread_mutex_lock(&l->lock);
	*stats_r = (struct store_engine_stats){.commits = k.commits,
					       .flushes = k.flushes,
					       .checkpoints = k.checkpoints,
					       .journal_bytes = k.journal_bytes,
					       .journal_segments = k.journal_segments,
					       .unapplied_files = l->unapplied_files,
					       .unapplied_bytes = l->unapplied_bytes,
					       .failed_files = l->failed_files};
	pthread_mutex_unlock(&l->lock);
}

static void local_dispose(struct local *l)
{
	pool_free(&l->pool);
	look(l);
	lanes_free(l);
	notes_free(l);
	cache_free(l);
	waiting_free(l);
	pending_end(l);
	spool_close(&l->spool);
	step_free(&l->step);
	for (size_t i = 0; i < l->devices.n; i++)
		io_close(l->devices.v[i].fd);
	vec_release(&l->devices);
	vec_release(&l->used);
	vec_release(&l->listed);
	vec_release(&l->waiters);
	pthread_mutex_destroy(&l->lock);
	pthread_mutex_destroy(&l->notes_lock);
	odd_forget(l, true);
	pthread_mutex_destroy(&l->odd_lock);
	pthread_mutex_destroy(&l->settle_lock);
	pthread_cond_destroy(&l->cond);
	free(l);
}

static void local_close(struct store_engine *e)
{
	struct local *l = local_of(e);

	pthread_mutex_lock(&l->lock);
	l->closing = true;
	pthread_cond_broadcast(&l->cond);
	pthread_mutex_unlock(&l->lock);
	waiting_end(l);
	kvlog_close(&l->k);
	local_dispose(l);
}

static void local_sweep(struct store_engine *e, struct str path, struct str folder)
{
	folder_sweep_tmp(local_of(e), path, folder, false);
}

static const struct store_engine_ops LOCAL_OPS = {
	.get = local_get,
	.doubt = local_doubt,
	.keys = local_keys,
	.range = local_range,
	.commit = local_commit,
	.barrier = local_barrier,
	.admit = local_admit,
	.read_only = local_read_only,
	.may_recover = local_may_recover,
	.message_limit = local_message_limit,
	.body = local_body,
	.message = local_message,
	.files_pending = local_files_pending,
	.files_wait = local_files_wait,
	.scan = local_scan,
	.folders = local_folders,
	.folder_stamp = local_folder_stamp,
	.sweep = local_sweep,
	.read_file = local_read_file,
	.stat = local_stat,
	.root = local_root,
	.blob_begin = local_blob_begin,
	.blob_finish = local_blob_finish,
	.blob_open = local_blob_open,
	.blob_drop = local_blob_drop,
	.blob_finished = local_blob_finished,
	.checkpoint = local_checkpoint,
	.stats = local_stats,
	.close = local_close,
};

static struct local *local_alloc(const struct store_local_options *options)
{
	struct local *l = NEW(struct local);
	pthread_mutexattr_t attr;

	l->e.ops = &LOCAL_OPS;
	l->o = *options;
	/* What file systems date files by: coarse, and never behind a file made before. */
	clock_gettime(CLOCK_REALTIME_COARSE, &l->opened);
	l->message_limit = l->o.message_size_limit ? l->o.message_size_limit : MESSAGE_LIMIT;
	l->o.spool_limit = l->o.spool_limit ? l->o.spool_limit : SPOOL_LIMIT;
	l->o.file_threads = l->o.file_threads ? l->o.file_threads : FILE_THREADS;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->cond, NULL);
	pthread_mutex_init(&l->settle_lock, NULL);
	pthread_mutex_init(&l->odd_lock, NULL);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&l->notes_lock, &attr);
	pthread_mutexattr_destroy(&attr);
	l->lanes = map_new();
	l->notes = map_new();
	l->cache = map_new();
	l->stuck_accounts = map_new();
	l->recovering = true;
	l->pool = pool_new(l->o.file_threads);
	l->step = step_new(&l->o.loop, look, l);
	return l;
}

int store_engine_local_open(const struct store_local_options *options, struct store_engine **e_r, struct err *err)
{
	struct local *l = local_alloc(options);
	struct kvlog_options k = {
		.dirfd = l->o.dirfd,
		.loop = l->o.loop,
		.journal_size_limit = l->o.journal_size_limit,
		.segment_size = l->o.segment_size,
		.overlay_limit = l->o.overlay_limit,
		.hooks = {on_replay, on_recovered, on_durable, on_settle, on_settled, on_disk_full, l}};
	struct stat st;

	l->ballast = io_fstatat(l->o.dirfd, BALLAST_NAME, &st, 0) == 0;
	if (spool_open(l->o.dirfd, l->o.spool_limit, &l->spool, err) < 0 || device_touch(l, STR("."), NULL, err) < 0 ||
	    kvlog_open(&k, &l->k, err) < 0) {
		local_dispose(l);
		return -1;
	}
	/* Accounts whose keys are missing are made anew when they are asked for: store/rebuild.c. */
	kvlog_index_rebuilt(l->k);
	pthread_mutex_lock(&l->lock);
	l->serving = !kvlog_read_only(l->k);
	pthread_mutex_unlock(&l->lock);
	*e_r = &l->e;
	return 0;
}
