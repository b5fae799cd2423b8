/* Who is delivered to next. Jobs wait at their site (transport and nexthop), first come first served; sites that may
 * begin one take turns; threads, up to relay_thread_limit, take from them. A site's number of jobs at a time adapts by
 * feedback, as that of Postfix's qmgr(8) does: up with each good delivery, down with each host that cannot be reached,
 * and when those are too many in a row the site is dead: nothing is tried for minimal_backoff_time, what waits for it
 * is put off with the reason of its last failure.
 *
 * Orderly stop: what runs is ended, what waits is not begun; an attempt of which a part was done reports that part.
 *
 * What needs no network (the store, error:, discard:) waits for no site, and remote jobs leave an eighth of the threads
 * to it. */
#include "base/clock.h"
#include "base/log.h"
#include "relay/private.h"
#include "relay/remote.h"
#include "relay/site.h"
#include "relay/sleepers.h"
#include "relay/transport.h"
#include <time.h>

/* Attempts and their bytes that are held in memory at a time. */
#define HELD_MAX       4000u
#define HELD_BYTES_MAX ((size_t)96 << 20)
#define CLAIM_MAX      100u
#define STACK_SIZE     (512u << 10)
#define IDLE_S	       10
#define SITES_MAX      20000u
/* Jobs that wait at one site; more are given back to the queue for a moment, so that many destinations behind one
 * slow nexthop do not fill the memory. */
#define SITE_WAITING_MAX 400u
#define GIVE_BACK_MS	 500

/* ---- sites ---------------------------------------------------------------------------------------------- */

/* Those that nobody waits for: what they learned is lost, which is soon learned again. */
static void sites_trim(struct dispatch *d)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(d->sites, &at, &key, &value);) {
		struct site *s = value;

		if (s->busy || s->waiting || s->listed || s->dead_until > clock_ms())
			continue;
		map_remove(d->sites, key);
		site_free(s);
	}
}

static struct lane *lane_of(struct dispatch *d, struct str transport)
{
	struct lane *l = map_get(d->lanes, transport);

	if (!l) {
		l = NEW(struct lane);
		map_set(d->lanes, transport, l);
	}
	return l;
}

static struct site *site_of(struct dispatch *d, const struct conf *c, struct str transport, struct str nexthop)
{
	size_t len = transport.len + 1 + nexthop.len;
	char *key = mem_alloc(len + 1);
	struct site *s;

	memcpy(key, transport.ptr, transport.len);
	for (size_t i = 0; i < nexthop.len; i++)
		key[transport.len + 1 + i] = ascii_lower(nexthop.ptr[i]);
	s = map_get(d->sites, str_of(key, len));
	if (s) {
		free(key);
	} else {
		if (map_count(d->sites) >= SITES_MAX)
			sites_trim(d);
		s = NEW(struct site);
		s->key = key;
		s->key_len = len;
		s->lane = lane_of(d, transport);
		site_configure(s, c);
		s->window = s->initial;
		map_set(d->sites, str_of(key, len), s);
	}
	if (s->busy == 0 && s->waiting == 0)
		site_configure(s, c);
	return s;
}

/* Into the line that it belongs to. */
static void site_list(struct dispatch *d, struct site *s)
{
	if (s->listed || !site_may_begin(s))
		return;
	s->listed = true;
	if (site_next_ms(s) > clock_ms() && !d->stopping) {
		vec_push(&d->timed, s);
		sleepers_wake_all(&d->sleepers); /* none sleeps too long */
	} else {
		vec_push(&d->ready, s);
	}
}

/* A delivery of the lane has ended, or will not begin: the next site that could begin one may. */
static void lane_wake(struct dispatch *d, struct lane *l)
{
	while (l->full.n > 0 && !lane_is_full(l)) {
		struct site *s = l->full.v[0];
		size_t before = d->ready.n;

		vec_remove(&l->full, 0);
		s->listed = false;
		site_list(d, s);
		if (d->ready.n > before)
			return;
	}
}

static void timed_end(struct dispatch *d)
{
	int64_t now = clock_ms();

	for (size_t i = d->timed.n; i-- > 0;) {
		struct site *s = d->timed.v[i];

		if (site_next_ms(s) > now && !d->stopping)
			continue;
		vec_remove(&d->timed, i);
		s->listed = false;
		site_list(d, s);
	}
}

/* ---- waking ---------------------------------------------------------------------------------------------- */

static void *worker(void *arg);

/* Under the lock. */
static void thread_start(struct relay *r)
{
	struct dispatch *d = &r->d;
	pthread_attr_t attr;
	pthread_t thread;

	if (d->threads >= d->thread_limit)
		return;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	d->threads++;
	if (pthread_create(&thread, &attr, worker, r) != 0) {
		d->threads--;
		if (d->threads == 0)
			log_error("cannot start a thread: %m");
	}
	pthread_attr_destroy(&attr);
}

static unsigned remote_limit(const struct dispatch *d)
{
	return d->thread_limit - d->thread_limit / 8;
}

static bool has_work(const struct dispatch *d)
{
	return d->fresh || d->free_jobs || (d->ready.n > 0 && d->remote_running < remote_limit(d));
}

/* Under the lock. Whom to sleeper_wake() once it is given up, or NULL: a thread was started, if one may be. */
static struct sleeper *somebody(struct relay *r)
{
	struct dispatch *d = &r->d;
	struct sleeper *s = sleeper_take(&d->sleepers);

	if (!s)
		thread_start(r);
	return s;
}

/* Gives the lock back and sees to it that somebody takes what there is to do. Whoever takes work wakes the next one,
 * and who adds some while he works comes to take it: so one is woken at a time, and none to find that nothing is left.
 */
static void unlock_and_wake(struct relay *r)
{
	struct sleeper *s = has_work(&r->d) ? somebody(r) : NULL;

	pthread_mutex_unlock(&r->d.lock);
	/* Without the lock, which the woken thread needs first. */
	sleeper_wake(s);
}

void dispatch_will_block(struct relay *r)
{
	pthread_mutex_lock(&r->d.lock);
	unlock_and_wake(r);
}

/* ---- jobs ----------------------------------------------------------------------------------------------- */

static void free_job_add(struct dispatch *d, struct job *j)
{
	j->next = NULL;
	if (d->free_jobs_last)
		d->free_jobs_last->next = j;
	else
		d->free_jobs = j;
	d->free_jobs_last = j;
}

/* For alarm mail: the message waits because the site is not reached. */
static void note_down(struct dispatch *d, const struct job *j, const struct site *s, struct str why)
{
	const struct queue_message *m = j->attempt->message;
	struct str nexthop = str_of(s->key + strlen(s->key) + 1, s->key_len - strlen(s->key) - 1);

	downs_failed(d->downs, nexthop, why, str_eq(m->client, STR(QUEUE_CLIENT_ALERT)) ? STR("") : m->id, clock_ms());
}

static void note_up(struct dispatch *d, const struct site *s)
{
	downs_good(d->downs, str_of(s->key + strlen(s->key) + 1, s->key_len - strlen(s->key) - 1));
}

/* Not tried: the site's failure is theirs. */
static void job_suspend(struct dispatch *d, struct job *j, const struct site *s)
{
	j->kind = JOB_SUSPENDED;
	j->site = NULL;
	j->nexthop = arena_str(&j->arena, str_from(s->dead_why ? s->dead_why : ""));
	if (s->unreachable)
		note_down(d, j, s, j->nexthop);
	free_job_add(d, j);
}

static void site_suspend_all(struct dispatch *d, struct site *s)
{
	struct job *j;

	while ((j = s->first)) {
		s->first = j->next;
		job_suspend(d, j, s);
	}
	s->last = NULL;
	s->waiting = 0;
}

bool dispatch_job(struct attempt *a, struct job *j, bool may_give_back)
{
	struct dispatch *d = &a->relay->d;
	bool taken = true;

	pthread_mutex_lock(&d->lock);
	a->jobs_left++;
	if (j->kind == JOB_SMTP || j->kind == JOB_LMTP) {
		struct site *s = site_of(d, attempt_conf(a, j->transport), j->transport, j->nexthop);

		s->lane->limit = s->lane->rate_delay > 0 ? 1 : transport_limit(a->transports, a->conf, j->transport);
		if (site_is_dead(s)) {
			job_suspend(d, j, s);
		} else if (may_give_back && s->waiting >= SITE_WAITING_MAX) {
			a->jobs_left--;
			taken = false;
		} else {
			j->site = s;
			j->next = NULL;
			if (s->last)
				s->last->next = j;
			else
				s->first = j;
			s->last = j;
			s->waiting++;
			site_list(d, s);
		}
	} else {
		free_job_add(d, j);
	}
	pthread_mutex_unlock(&d->lock);
	return taken;
}

/* The attempt is nobody's any more: there is room for another. */
static void attempt_end(struct relay *r, struct attempt *a, bool was_reporting)
{
	struct dispatch *d = &r->d;
	size_t bytes = a->bytes;

	attempt_free(&a);
	pthread_mutex_lock(&d->lock);
	d->held--;
	d->held_bytes -= bytes;
	d->reporting -= was_reporting;
	pthread_cond_broadcast(&d->room);
	pthread_mutex_unlock(&d->lock);
}

static void attempt_over(struct relay *r, struct attempt *a)
{
	/* A claim of what has ended meanwhile ends nothing. */
	while (!held_leave(&r->held, a->message, a->info->part))
		attempt_release(a, 0);
	attempt_end(r, a, false);
}

/* Into the line, at its end. Under the lock. */
static void attempt_line(struct dispatch *d, struct attempt *a)
{
	a->next = NULL;
	if (d->fresh_last)
		d->fresh_last->next = a;
	else
		d->fresh = a;
	d->fresh_last = a;
}

void dispatch_reporting(struct relay *r)
{
	pthread_mutex_lock(&r->d.lock);
	r->d.reporting++;
	pthread_mutex_unlock(&r->d.lock);
}

void dispatch_not_reporting(struct relay *r)
{
	pthread_mutex_lock(&r->d.lock);
	r->d.reporting--;
	pthread_cond_broadcast(&r->d.room);
	pthread_mutex_unlock(&r->d.lock);
}

void dispatch_reported(struct attempt *a)
{
	struct relay *r = a->relay;
	struct dispatch *d = &r->d;

	if (a->state == ATTEMPT_OVER && held_leave(&r->held, a->message, a->info->part)) {
		attempt_end(r, a, true);
		return;
	}
	/* What is left to do may block. */
	pthread_mutex_lock(&d->lock);
	attempt_line(d, a);
	d->reporting--;
	unlock_and_wake(r);
}

static void job_ended(struct job *j)
{
	struct attempt *a = j->attempt;
	struct relay *r = a->relay;
	bool last;

	arena_release(&j->arena);
	free(j);
	pthread_mutex_lock(&r->d.lock);
	last = --a->jobs_left == 0;
	pthread_mutex_unlock(&r->d.lock);
	if (last && attempt_finish(a))
		attempt_over(r, a);
}

void dispatch_divided(struct attempt *a, bool given_back)
{
	struct relay *r = a->relay;
	bool last;

	pthread_mutex_lock(&r->d.lock);
	last = --a->jobs_left == 0;
	/* All is known already: to be reported, which may block, and others may have been divided with it. */
	if (last && !given_back) {
		a->state = ATTEMPT_DECIDED;
		attempt_line(&r->d, a);
	}
	pthread_mutex_unlock(&r->d.lock);
	if (last && given_back) {
		attempt_release(a, GIVE_BACK_MS);
		attempt_over(r, a);
	}
}

static void site_job_run(struct relay *r, struct job *j)
{
	struct dispatch *d = &r->d;
	struct site *s = j->site;
	struct str why = STR("");
	bool skipped = atomic_load(&r->stopping);
	int state = skipped ? SITE_OK : remote_job_run(j, &why);

	pthread_mutex_lock(&d->lock);
	d->remote_running--;
	s->busy--;
	s->lane->busy--;
	site_pace(s);
	if (!skipped) {
		s->unreachable = state == SITE_DEAD;
		if (s->unreachable)
			note_down(d, j, s, why);
		else
			note_up(d, s);
	}
	if (state == SITE_OK && !skipped)
		site_good(s);
	else if (!skipped)
		site_bad(s, j->attempt->conf, why, state == SITE_DEAD);
	if (site_is_dead(s))
		site_suspend_all(d, s);
	site_list(d, s);
	lane_wake(d, s->lane);
	pthread_mutex_unlock(&d->lock);
}

static void job_run(struct relay *r, struct job *j)
{
	switch (j->kind) {
	case JOB_STORE:
		store_job_run(j);
		break;
	case JOB_SMTP:
	case JOB_LMTP:
		site_job_run(r, j);
		break;
	case JOB_SUSPENDED:
	case JOB_UNAVAILABLE:
	case JOB_ERROR:
	case JOB_DISCARD:
	case JOB_RETRY:
		local_job_run(j);
		break;
	}
	job_ended(j);
}

/* ---- threads -------------------------------------------------------------------------------------------- */

/* Another site of its lane has begun since it came into the line. */
static bool is_too_early(const struct dispatch *d, const struct site *s)
{
	return s->lane->next_ms > 0 && !d->stopping && site_next_ms(s) > clock_ms();
}

/* Sites that have died since, may do less at a time or have to wait leave the line; those of a full lane wait there. */
static struct site *site_in_turn(struct dispatch *d)
{
	while (d->ready.n > 0) {
		struct site *s;

		if (d->ready_at >= d->ready.n)
			d->ready_at = 0;
		s = d->ready.v[d->ready_at];
		if (site_may_begin(s) && !lane_is_full(s->lane) && !is_too_early(d, s))
			return s;
		vec_remove(&d->ready, d->ready_at);
		if (site_may_begin(s) && lane_is_full(s->lane)) {
			vec_push(&s->lane->full, s);
			continue;
		}
		s->listed = false;
		if (site_may_begin(s))
			site_list(d, s);
		else
			lane_wake(d, s->lane);
	}
	return NULL;
}

/* The next job of the site whose turn it is. Under the lock. */
static struct job *site_job_take(struct dispatch *d)
{
	struct site *s;
	struct job *j;

	if (d->remote_running >= remote_limit(d) || !(s = site_in_turn(d)))
		return NULL;
	j = s->first;
	s->first = j->next;
	if (!s->first)
		s->last = NULL;
	s->waiting--;
	s->busy++;
	s->lane->busy++;
	d->remote_running++;
	site_pace(s);
	if (site_may_begin(s) && site_next_ms(s) <= clock_ms()) {
		d->ready_at++;
	} else {
		vec_remove(&d->ready, d->ready_at);
		s->listed = false;
		site_list(d, s);
	}
	lane_wake(d, s->lane);
	return j;
}

struct task {
	struct attempt *attempts;
	struct job *job;
};

static bool is_routed_together(const struct attempt *a)
{
	return a->state == ATTEMPT_FRESH && attempt_is_far(a);
}

/* The first in the line, and as many behind it as one question may route. */
static struct attempt *attempts_take(struct dispatch *d)
{
	struct attempt *first = d->fresh, *last = first;
	size_t n = 1, rcpts;

	if (!first)
		return NULL;
	rcpts = first->message->rcpts.n;
	while (is_routed_together(first) && last->next && is_routed_together(last->next) && n < ATTEMPTS_TOGETHER &&
	       rcpts + last->next->message->rcpts.n <= DIR_ROUTE_ALL_MAX) {
		last = last->next;
		rcpts += last->message->rcpts.n;
		n++;
	}
	d->fresh = last->next;
	if (!d->fresh)
		d->fresh_last = NULL;
	last->next = NULL;
	return first;
}

static bool task_take(struct dispatch *d, struct task *t_r)
{
	*t_r = (struct task){0};
	timed_end(d);
	if (d->free_jobs) {
		t_r->job = d->free_jobs;
		d->free_jobs = t_r->job->next;
		if (!d->free_jobs)
			d->free_jobs_last = NULL;
		return true;
	}
	if ((t_r->job = site_job_take(d)))
		return true;
	t_r->attempts = attempts_take(d);
	return t_r->attempts != NULL;
}

/* False: nothing came for long. Under the lock. */
static bool task_wait(struct dispatch *d)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	if (d->timed.n) {
		until.tv_nsec += 50000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
	} else {
		until.tv_sec += IDLE_S;
	}
	return sleeper_sleep(&d->sleepers, &d->lock, &until) || d->timed.n;
}

static void attempts_run(struct relay *r, struct attempt *list)
{
	if (list->state != ATTEMPT_FRESH) {
		if (attempt_go_on(list))
			attempt_over(r, list);
		return;
	}
	if (!atomic_load(&r->stopping)) {
		attempts_divide(list);
		return;
	}
	for (struct attempt *a = list, *next; a; a = next) {
		next = a->next;
		dispatch_divided(a, true);
	}
}

static void *worker(void *arg)
{
	struct relay *r = arg;
	struct dispatch *d = &r->d;
	struct task t;

	pthread_mutex_lock(&d->lock);
	for (;;) {
		if (!task_take(d, &t)) {
			if (d->stopping || (!task_wait(d) && !task_take(d, &t)))
				break;
			if (!t.job && !t.attempts)
				continue;
		}
		/* There may be more than this thread can do. */
		unlock_and_wake(r);
		if (t.job)
			job_run(r, t.job);
		else
			attempts_run(r, t.attempts);
		pthread_mutex_lock(&d->lock);
		t = (struct task){0};
	}
	d->threads--;
	pthread_cond_broadcast(&d->room);
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* ---- for the claiming thread ---------------------------------------------------------------------------- */

/* When the system stops, the claim ends with the process. */
void dispatch_add(struct relay *r, struct attempt *a)
{
	struct dispatch *d = &r->d;

	pthread_mutex_lock(&d->lock);
	if (d->stopping) {
		pthread_mutex_unlock(&d->lock);
		attempt_free(&a);
		return;
	}
	a->jobs_left = 1; /* the dividing */
	d->held++;
	d->held_bytes += a->bytes;
	attempt_line(d, a);
	pthread_mutex_unlock(&d->lock);
}

void dispatch_added(struct relay *r)
{
	pthread_mutex_lock(&r->d.lock);
	unlock_and_wake(r);
}

void dispatch_revive(struct relay *r)
{
	struct dispatch *d = &r->d;
	struct str key;
	void *value;

	pthread_mutex_lock(&d->lock);
	for (size_t at = 0; map_next(d->sites, &at, &key, &value);)
		site_revive(value);
	pthread_mutex_unlock(&d->lock);
}

static void wait_room(struct dispatch *d, int wait_ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += wait_ms / 1000;
	until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	(void)pthread_cond_timedwait(&d->room, &d->lock, &until);
}

static unsigned room_of(const struct dispatch *d)
{
	size_t room = d->held < HELD_MAX ? HELD_MAX - d->held : 0;

	if (d->held_bytes >= HELD_BYTES_MAX)
		return 0;
	return room < CLAIM_MAX ? (unsigned)room : CLAIM_MAX;
}

unsigned dispatch_room(struct relay *r, int wait_ms)
{
	struct dispatch *d = &r->d;
	unsigned room;

	pthread_mutex_lock(&d->lock);
	if (!room_of(d) && !d->stopping)
		wait_room(d, wait_ms);
	room = room_of(d);
	pthread_mutex_unlock(&d->lock);
	return room;
}

void dispatch_wait_idle(struct relay *r)
{
	struct dispatch *d = &r->d;

	pthread_mutex_lock(&d->lock);
	while (d->held) {
		wait_room(d, 1000);
		pthread_mutex_unlock(&d->lock);
		(void)rpc_channel_tend(r->env.queue);
		pthread_mutex_lock(&d->lock);
	}
	pthread_mutex_unlock(&d->lock);
}

void dispatch_init(struct relay *r, unsigned thread_limit)
{
	struct dispatch *d = &r->d;
	pthread_condattr_t attr;

	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->room, &attr);
	pthread_condattr_destroy(&attr);
	d->sites = map_new();
	d->lanes = map_new();
	d->downs = downs_new();
	d->thread_limit = thread_limit;
}

void dispatch_stop(struct relay *r)
{
	struct dispatch *d = &r->d;

	pthread_mutex_lock(&d->lock);
	d->stopping = true;
	sleepers_wake_all(&d->sleepers);
	pthread_cond_broadcast(&d->room);
	pthread_mutex_unlock(&d->lock);
}

/* What was not begun goes with the process: its claims end. */
static void drop_jobs(struct job *j)
{
	while (j) {
		struct job *next = j->next;
		struct attempt *a = j->attempt;

		arena_release(&j->arena);
		free(j);
		if (--a->jobs_left == 0)
			attempt_free(&a);
		j = next;
	}
}

void dispatch_release(struct relay *r)
{
	struct dispatch *d = &r->d;
	struct attempt *a, *next;
	struct str key;
	void *value;

	dispatch_stop(r);
	pthread_mutex_lock(&d->lock);
	while (d->threads || d->reporting)
		wait_room(d, 1000);
	pthread_mutex_unlock(&d->lock);
	for (a = d->fresh; a; a = next) {
		next = a->next;
		attempt_free(&a);
	}
	drop_jobs(d->free_jobs);
	for (size_t at = 0; map_next(d->sites, &at, &key, &value);) {
		drop_jobs(((struct site *)value)->first);
		site_free(value);
	}
	map_free(&d->sites);
	for (size_t at = 0; map_next(d->lanes, &at, &key, &value);) {
		vec_release(&((struct lane *)value)->full);
		free(value);
	}
	map_free(&d->lanes);
	downs_free(&d->downs);
	vec_release(&d->ready);
	vec_release(&d->timed);
	pthread_cond_destroy(&d->room);
	pthread_mutex_destroy(&d->lock);
}
