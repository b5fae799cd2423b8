#include "journal/pool.h"

#include "base/clock.h"
#include "base/fatal.h"
#include "base/mem.h"
#include "base/vec.h"
#include <pthread.h>
#include <sysexits.h>
#include <time.h>

struct task {
	struct task *next;
	int64_t due_ms;
	void (*fn)(void *ctx);
	void *ctx;
};

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct task *ready, **ready_tail;
	struct task *delayed; /* by due time */
	unsigned limit, idle;
	VEC(pthread_t) threads;
	bool stop;
};

struct pool *pool_new(unsigned threads)
{
	struct pool *p = NEW(struct pool);
	pthread_condattr_t attr;

	p->limit = threads;
	p->ready_tail = &p->ready;
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->cond, &attr);
	pthread_condattr_destroy(&attr);
	return p;
}

static void make_ready(struct pool *p, struct task *t)
{
	t->next = NULL;
	*p->ready_tail = t;
	p->ready_tail = &t->next;
}

/* Under the lock: a task to do, waiting for one; NULL to end. */
static struct task *next_task(struct pool *p)
{
	for (;;) {
		struct task *t;

		while ((t = p->delayed) && !p->stop && t->due_ms <= clock_ms()) {
			p->delayed = t->next;
			make_ready(p, t);
		}
		if ((t = p->ready)) {
			p->ready = t->next;
			if (!p->ready)
				p->ready_tail = &p->ready;
			return t;
		}
		if (p->stop)
			return NULL;
		p->idle++;
		if (p->delayed) {
			struct timespec until = {.tv_sec = p->delayed->due_ms / 1000,
						 .tv_nsec = p->delayed->due_ms % 1000 * 1000000};
			pthread_cond_timedwait(&p->cond, &p->lock, &until);
		} else {
			pthread_cond_wait(&p->cond, &p->lock);
		}
		p->idle--;
	}
}

static void *pool_thread(void *arg)
{
	struct pool *p = arg;
	struct task *t;

	pthread_mutex_lock(&p->lock);
	while ((t = next_task(p))) {
		pthread_mutex_unlock(&p->lock);
		t->fn(t->ctx);
		free(t);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void start_thread(struct pool *p)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, pool_thread, p) == 0)
		vec_push(&p->threads, thread);
	else if (p->threads.n == 0)
		die(EX_OSERR, "cannot start a file thread");
}

void pool_run(struct pool *p, int64_t delay_ms, void (*fn)(void *ctx), void *ctx)
{
	struct task *t = NEW(struct task);

	t->fn = fn;
	t->ctx = ctx;
	t->due_ms = clock_ms() + delay_ms;
	pthread_mutex_lock(&p->lock);
	if (delay_ms > 0) {
		struct task **at = &p->delayed;
		while (*at && (*at)->due_ms <= t->due_ms)
			at = &(*at)->next;
		t->next = *at;
		*at = t;
	} else {
		make_ready(p, t);
	}
	if (p->idle == 0 && p->threads.n < p->limit)
		start_thread(p);
	pthread_mutex_unlock(&p->lock);
	/* Outside: who wakes must not have to wait for the lock. */
	pthread_cond_signal(&p->cond);
}

void pool_free(struct pool **pp)
{
	struct pool *p = *pp;
	struct task *t;

	*pp = NULL;
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
	for (size_t i = 0; i < p->threads.n; i++)
		pthread_join(p->threads.v[i], NULL);
	while ((t = p->delayed)) {
		p->delayed = t->next;
		free(t);
	}
	vec_release(&p->threads);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
