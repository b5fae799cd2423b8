/* What a thread of the pool says before and after it waits; of others, and of programs without an engine, it is
 * nothing. Here alone, and not a part of pool.c, so that who only makes calls (rpc_channel_call.c) is not linked with
 * sessions and TLS. */
#include "engine/private.h"

#include "base/clock.h"

#include <errno.h>
#include <time.h>

#define ROUND_MS 250

__thread struct pool_thread *engine_thread;

static unsigned kind_share(const struct engine *e, enum block_kind kind)
{
	unsigned share = e->limits.threads / (kind == BLOCK_LOGIN ? 4 : 2);

	return share > 0 ? share : 1;
}

/* Whether kind_cond rang before `until` (clock_ms(); NEVER: it will). */
static bool share_wait(struct engine *e, enum block_kind kind, int64_t until)
{
	struct timespec at = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};

	if (until == NEVER)
		return pthread_cond_wait(&e->kind_cond[kind], &e->kind_lock) == 0;
	return pthread_cond_timedwait(&e->kind_cond[kind], &e->kind_lock, &at) != ETIMEDOUT;
}

/* A quarter of the threads waits for a share for as long as it takes. Beyond it only a service of our own is waited
 * for, and only while it works off in each round as many calls as it may have at a time: many who come at once are no
 * reason to turn mail away, a service that hangs is one. Log-ins and what others answer (DNS, filters) are slow by
 * nature. */
static bool waits_beyond(const struct engine *e, enum block_kind kind, int64_t *until)
{
	*until = NEVER;
	if (e->kind_waiting[kind] < e->limits.threads / 4)
		return true;
	*until = clock_ms() + ROUND_MS;
	return kind == BLOCK_STORE || kind == BLOCK_DIRECTORY || kind == BLOCK_QUEUE;
}

/* kind_lock is held. False: too many wait already. */
static bool share_take(struct engine *e, enum block_kind kind, bool may_wait_for_ever)
{
	unsigned share = kind_share(e, kind), ended = e->kind_ended[kind];
	int64_t until = NEVER;
	bool got = true;

	if (e->kind_blocked[kind] >= share) {
		got = may_wait_for_ever || waits_beyond(e, kind, &until);
		e->kind_waiting[kind]++;
		while (got && e->kind_blocked[kind] >= share) {
			if (share_wait(e, kind, until))
				continue;
			got = e->kind_blocked[kind] < share || e->kind_ended[kind] - ended >= share;
			ended = e->kind_ended[kind];
			until = clock_ms() + ROUND_MS;
		}
		e->kind_waiting[kind]--;
	}
	if (got)
		e->kind_blocked[kind]++;
	return got;
}

static void blocked_leave(struct pool_thread *t, enum block_kind kind)
{
	t->nested[kind]--;
	t->engine->blocked--;
}

/* Who waits for a share is as blocked as who has one: another thread runs in his place. */
static bool block_begin(enum block_kind kind, bool may_wait_for_ever)
{
	struct pool_thread *t = engine_thread;
	bool got;

	if (t == NULL || t->nested[kind]++ > 0)
		return true;
	t->engine->blocked++;
	t->another(t->engine);
	pthread_mutex_lock(&t->engine->kind_lock);
	got = share_take(t->engine, kind, may_wait_for_ever);
	pthread_mutex_unlock(&t->engine->kind_lock);
	if (!got)
		blocked_leave(t, kind);
	return got;
}

void engine_block_begin(enum block_kind kind)
{
	(void)block_begin(kind, true);
}

bool engine_block_try(enum block_kind kind)
{
	return block_begin(kind, false);
}

void engine_block_end(enum block_kind kind)
{
	struct pool_thread *t = engine_thread;
	struct engine *e;

	if (t == NULL)
		return;
	if (t->nested[kind] > 1) {
		t->nested[kind]--;
		return;
	}
	e = t->engine;
	blocked_leave(t, kind);
	pthread_mutex_lock(&e->kind_lock);
	e->kind_blocked[kind]--;
	e->kind_ended[kind]++;
	if (e->kind_waiting[kind] > 0)
		pthread_cond_signal(&e->kind_cond[kind]);
	pthread_mutex_unlock(&e->kind_lock);
}
