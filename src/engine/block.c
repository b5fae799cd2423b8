/* What a thread of the pool says before and after it waits; of others, and of programs without an engine, it is
 * nothing. Here alone, and not a part of pool.c, so that who only makes calls (rpc_channel_call.c) is not linked with
 * sessions and TLS. */
#include "engine/private.h"

__thread struct pool_thread *engine_thread;

static unsigned kind_share(const struct engine *e, enum block_kind kind)
{
	unsigned share = e->limits.threads / (kind == BLOCK_LOGIN ? 4 : 2);

	return share > 0 ? share : 1;
}

static void blocked_enter(struct pool_thread *t, enum block_kind kind)
{
	t->nested[kind]++;
	t->engine->blocked++;
	t->another(t->engine);
}

/* may_wait_for_ever: begin; otherwise at most a quarter of the threads wait for a share. */
static bool block_begin(enum block_kind kind, bool may_wait_for_ever)
{
	struct pool_thread *t = engine_thread;
	struct engine *e;
	bool got = true;

	if (t == NULL)
		return true;
	if (t->nested[kind] > 0) {
		t->nested[kind]++;
		return true;
	}
	e = t->engine;
	pthread_mutex_lock(&e->kind_lock);
	if (e->kind_blocked[kind] >= kind_share(e, kind)) {
		if (!may_wait_for_ever && e->kind_waiting[kind] >= e->limits.threads / 4)
			got = false;
		e->kind_waiting[kind]++;
		while (got && e->kind_blocked[kind] >= kind_share(e, kind))
			pthread_cond_wait(&e->kind_cond, &e->kind_lock);
		e->kind_waiting[kind]--;
	}
	if (got)
		e->kind_blocked[kind]++;
	pthread_mutex_unlock(&e->kind_lock);
	if (got)
		blocked_enter(t, kind);
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

	if (t == NULL || --t->nested[kind] > 0)
		return;
	e = t->engine;
	e->blocked--;
	pthread_mutex_lock(&e->kind_lock);
	e->kind_blocked[kind]--;
	if (e->kind_waiting[kind] > 0)
		pthread_cond_broadcast(&e->kind_cond);
	pthread_mutex_unlock(&e->kind_lock);
}
