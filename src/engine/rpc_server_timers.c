/* Timers of a server, and what other threads hand its loop: one heap, ordered by time and then by who came first. */
#include "engine/rpc_server_private.h"

#include "base/clock.h"

static bool timer_before(const struct timer *a, const struct timer *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void timer_swap(struct timer *a, struct timer *b)
{
	struct timer t = *a;
	*a = *b;
	*b = t;
}

static void timer_push(struct rpc_server *s, struct timer t)
{
	size_t i = s->timers.n;

	vec_push(&s->timers, t);
	for (; i > 0 && timer_before(&s->timers.v[i], &s->timers.v[(i - 1) / 2]); i = (i - 1) / 2)
		timer_swap(&s->timers.v[i], &s->timers.v[(i - 1) / 2]);
}

static struct timer timer_pop(struct rpc_server *s)
{
	struct timer first = s->timers.v[0];
	size_t i = 0, child;

	s->timers.v[0] = s->timers.v[--s->timers.n];
	while ((child = 2 * i + 1) < s->timers.n) {
		if (child + 1 < s->timers.n && timer_before(&s->timers.v[child + 1], &s->timers.v[child]))
			child++;
		if (!timer_before(&s->timers.v[child], &s->timers.v[i]))
			break;
		timer_swap(&s->timers.v[i], &s->timers.v[child]);
		i = child;
	}
	return first;
}

void rpc_server_after(struct rpc_server *s, int64_t delay_ms, void (*fn)(void *ctx), void *ctx)
{
	bool wake = false;

	pthread_mutex_lock(&s->lock);
	/* at 0: hand-overs keep their order among themselves and come before timers */
	timer_push(s, (struct timer){.at = delay_ms > 0 ? clock_ms() + delay_ms : 0,
				     .order = s->timer_order++,
				     .fn = fn,
				     .ctx = ctx});
	if (!rpc_server_on_loop(s) && !s->wake_sent)
		wake = s->wake_sent = true;
	pthread_mutex_unlock(&s->lock);
	if (wake)
		rpc_server_wake(s);
}

void rpc_server_timers_run(struct rpc_server *s)
{
	int64_t now = clock_ms();
	uint64_t newest;

	pthread_mutex_lock(&s->lock);
	newest = s->timer_order;
	while (s->timers.n > 0 && s->timers.v[0].at <= now && s->timers.v[0].order < newest) {
		struct timer t = timer_pop(s);
		pthread_mutex_unlock(&s->lock);
		t.fn(t.ctx);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
}

int rpc_server_timers_wait(struct rpc_server *s)
{
	int64_t now = clock_ms(), wait = -1;

	pthread_mutex_lock(&s->lock);
	if (s->timers.n > 0)
		wait = s->timers.v[0].at <= now ? 0 : s->timers.v[0].at - now;
	pthread_mutex_unlock(&s->lock);
	return wait > 3600000 ? 3600000 : (int)wait;
}
