/* The order of file work.
 *
 *	commit --> job in its account's lane, and in the list of all jobs (LSN order)
 *	durable(lsn) --> every lane that now has a durable job at its head is scheduled
 *	lane_run --> does the durable jobs of one lane in order; a job that fails stays at the head and is tried
 *	             again in a second, its body is served from memory (engine_local_waiting.c)
 *
 * Nobody waits for a file: a commit is answered when its record is durable, and until the file is in place its bytes
 * come from memory. So nothing is written ahead of the journal; one task does all that one flush made due for an
 * account, and no two threads contend for the same directory.
 *
 * Invariants:
 *  1. A job is done only when its record is durable, and only after every earlier job of its account.
 *  2. A lane is run by at most one thread (scheduled).
 *  3. The list of all jobs is in LSN order, so its head says up to which LSN file work is done. */
#include "store/engine_local_private.h"

#include "base/fatal.h"
#include "base/log.h"
#include "os/io.h"

#define RETRY_MS 1000

static void lane_run(void *ctx);

/* ---- under the lock ----------------------------------------------------------------------------------- */

static struct lane *lane_for(struct local *l, uint64_t account)
{
	struct lane *lane = map_get_u64(l->lanes, account);

	if (lane)
		return lane;
	lane = NEW(struct lane);
	lane->l = l;
	lane->account = account;
	map_set_u64(l->lanes, account, lane);
	return lane;
}

static void job_unref(struct file_job *j)
{
	if (--j->refs > 0)
		return;
	file_record_unref(j->record);
	free(j);
}

static void job_link(struct local *l, struct file_job *j)
{
	invariant(!l->tail || l->tail->lsn <= j->lsn);
	j->prev = l->tail;
	if (l->tail)
		l->tail->next = j;
	else
		l->head = j;
	l->tail = j;
	if (!l->undurable && j->lsn > l->durable)
		l->undurable = j;
	j->lane_prev = j->lane->tail;
	if (j->lane->tail)
		j->lane->tail->lane_next = j;
	else
		j->lane->head = j;
	j->lane->tail = j;
	j->lane->count++;
	if (j->work.op.kind == FILE_PUT) {
		l->unapplied_files++;
		l->unapplied_bytes += file_work_size(&j->work);
	}
}

/* The job is done: out of both lists. It is the first of its lane. */
static void job_unlink(struct local *l, struct file_job *j)
{
	struct lane *lane = j->lane;

	invariant(lane->head == j && j != l->undurable);
	lane->head = j->lane_next;
	if (lane->head)
		lane->head->lane_prev = NULL;
	else
		lane->tail = NULL;
	lane->count--;
	if (j->prev)
		j->prev->next = j->next;
	else
		l->head = j->next;
	if (j->next)
		j->next->prev = j->prev;
	else
		l->tail = j->prev;
	if (j->failed)
		l->failed_files--;
	if (j->full)
		l->full_files--;
	if (j->kept)
		waiting_refresh_soon(l);
	if (j->work.op.kind == FILE_PUT) {
		l->unapplied_files--;
		l->unapplied_bytes -= file_work_size(&j->work);
	}
	job_unref(j);
}

static void lane_schedule(struct lane *lane, int64_t delay_ms)
{
	lane->scheduled = true;
	pool_run(lane->l->pool, delay_ms, lane_run, lane);
}

/* Lanes for the pool, gathered under the lock and handed over without it: a thread that wakes for one would only
 * wait for the lock. A scheduled lane stays until it has run. */
struct tasks {
	struct lane *few[8];
	size_t n;
};

static void tasks_lane(struct tasks *t, struct lane *lane)
{
	if (t->n == ARRAY_SIZE(t->few)) {
		lane_schedule(lane, 0);
		return;
	}
	lane->scheduled = true;
	t->few[t->n++] = lane;
}

static void tasks_run(struct local *l, const struct tasks *t)
{
	for (size_t i = 0; i < t->n; i++)
		pool_run(l->pool, 0, lane_run, t->few[i]);
}

/* ---- file threads ------------------------------------------------------------------------------------- */

/* Under the lock: the making of the account's Maildir stands behind j. */
static const struct file_job *home_made_behind(const struct file_job *j)
{
	for (j = j->lane_next; j; j = j->lane_next)
		if (j->work.op.kind == FILE_FOLDER_MAKE && j->work.op.folder.len == 0 && !j->work.op.home)
			return j;
	return NULL;
}

/* A Maildir that is away for good is made anew when somebody wants that (a rebuild), though operations from before
 * still wait for the old one. */
static int job_work(struct local *l, struct file_job *j, struct err *err)
{
	const struct file_job *make;
	int rc = file_work_do(l, &j->work, err);

	if (rc == 0 || !j->work.op.home || home_check(l, j->work.op.path, NULL) == 0)
		return rc;
	pthread_mutex_lock(&l->lock);
	make = home_made_behind(j); /* it stays: j is before it, and ours */
	pthread_mutex_unlock(&l->lock);
	if (!make || file_work_do(l, &make->work, err) < 0)
		return -1;
	return file_work_do(l, &j->work, err);
}

/* Want of room on the root's file system concerns everybody. */
static bool is_full(struct local *l, const struct file_job *j, const struct err *err)
{
	char full[STORE_PATH_MAX];
	struct stat st, root;

	if (err->kind != ERR_FULL || io_fstat(l->o.rootfd, &root) < 0)
		return false;
	local_path(full, j->work.op.path, STR_NULL, "");
	return io_fstatat(l->o.rootfd, full, &st, 0) < 0 || st.st_dev == root.st_dev;
}

/* Under the lock, which it gives up meanwhile. */
static int job_do(struct local *l, struct file_job *j)
{
	struct err err = ERR_NONE;
	bool full;
	int rc;

	pthread_mutex_unlock(&l->lock);
	rc = job_work(l, j, &err);
	full = rc < 0 && is_full(l, j, &err);
	pthread_mutex_lock(&l->lock);
	if (rc == 0)
		return 0;
	l->full_files += (uint64_t)full - (uint64_t)j->full;
	j->full = full;
	if (!j->failed) {
		j->failed = true;
		l->failed_files++;
		log_error("a file operation of account %llu waits: %s", (unsigned long long)j->work.op.account,
			  err.text);
	}
	return -1;
}

static void lane_run(void *ctx)
{
	struct lane *lane = ctx;
	struct local *l = lane->l;
	struct file_job *j;

	pthread_mutex_lock(&l->lock);
	invariant(lane->scheduled);
	while ((j = lane->head) && j->lsn <= l->durable) {
		if (job_do(l, j) < 0) {
			lane_schedule(lane, RETRY_MS);
			pthread_cond_broadcast(&l->cond);
			pthread_mutex_unlock(&l->lock);
			return;
		}
		job_unlink(l, j);
	}
	lane->scheduled = false;
	if (!lane->head) {
		map_remove_u64(l->lanes, lane->account);
		free(lane);
	}
	pthread_cond_broadcast(&l->cond);
	pthread_mutex_unlock(&l->lock);
	if (atomic_load(&l->waiting) > 0)
		step_post(l->step);
}

/* ---- the loop ----------------------------------------------------------------------------------------- */

struct adding {
	struct local *l;
	struct file_record *record;
	uint64_t lsn;
	struct tasks tasks;
};

static int add_one(void *ctx, const struct file_work *w)
{
	struct adding *a = ctx;
	struct file_job *j = NEW(struct file_job);
	struct local *l = a->l;

	j->l = l;
	j->work = *w;
	j->record = a->record;
	atomic_fetch_add(&a->record->refs, 1);
	j->lsn = a->lsn;
	j->refs = 1;
	j->work.again = a->lsn == 0;
	j->lane = lane_for(l, w->op.account);
	job_link(l, j);
	/* The flusher may have been faster than we are. */
	if (j->lsn <= l->durable && !j->lane->scheduled)
		tasks_lane(&a->tasks, j->lane);
	return 0;
}

void lanes_add(struct local *l, struct file_record *record, uint64_t lsn)
{
	struct adding a = {.l = l, .record = record, .lsn = lsn};

	pthread_mutex_lock(&l->lock);
	if (file_record_parse(str_of(record->bytes, record->len), add_one, &a) < 0)
		bug("a file record of our own does not parse");
	pthread_mutex_unlock(&l->lock);
	tasks_run(l, &a.tasks);
}

/* Flusher. */
void lanes_durable(struct local *l, uint64_t lsn)
{
	struct tasks tasks = {.n = 0};
	struct file_job *j;

	pthread_mutex_lock(&l->lock);
	invariant(lsn >= l->durable);
	l->durable = lsn;
	while ((j = l->undurable) && j->lsn <= lsn) {
		l->undurable = j->next;
		if (!j->lane->scheduled)
			tasks_lane(&tasks, j->lane);
	}
	pthread_mutex_unlock(&l->lock);
	tasks_run(l, &tasks);
}

/* Under the lock: what is left of the work up to lsn is that of stuck lanes. */
static bool only_stuck(const struct local *l, uint64_t lsn)
{
	if (!l->head || l->head->lsn > lsn)
		return true;
	if (l->failed_files == 0)
		return false;
	for (const struct file_job *j = l->head; j && j->lsn <= lsn; j = j->next)
		if (!j->lane->head->failed)
			return false;
	return true;
}

/* Index thread: until file work up to lsn is done or waits. */
void lanes_wait(struct local *l, uint64_t lsn)
{
	pthread_mutex_lock(&l->lock);
	while (!only_stuck(l, lsn))
		pthread_cond_wait(&l->cond, &l->lock);
	pthread_mutex_unlock(&l->lock);
}

bool lanes_stuck(struct local *l, uint64_t account)
{
	struct lane *lane;
	bool stuck;

	pthread_mutex_lock(&l->lock);
	lane = l->failed_files ? map_get_u64(l->lanes, account) : NULL;
	stuck = lane && lane->head && lane->head->failed;
	pthread_mutex_unlock(&l->lock);
	return stuck;
}

bool lanes_done(struct local *l, uint64_t account, uint64_t lsn)
{
	struct lane *lane;
	bool done;

	pthread_mutex_lock(&l->lock);
	lane = map_get_u64(l->lanes, account);
	done = !lane || !lane->head || lane->head->lsn > lsn;
	pthread_mutex_unlock(&l->lock);
	return done;
}

/* The pool is gone. */
void lanes_free(struct local *l)
{
	struct str key;
	void *value;

	while (l->head) {
		struct file_job *j = l->head;
		l->head = j->next;
		j->refs = 1;
		job_unref(j);
	}
	for (size_t at = 0; map_next(l->lanes, &at, &key, &value);)
		free(value);
	map_free(&l->lanes);
}
