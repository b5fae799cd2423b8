/* The elastic pool of threads.
 *
 * All threads that have nothing to do wait in epoll_wait() on the engine's one set; the kernel wakes the one
 * that went to sleep last. As many run as there are cores, and one more for each that is blocked: whoever
 * takes an event or blocks, and leaves nobody polling, starts another thread if that rule and the limit let
 * him. A thread that has polled in vain for IDLE_EXIT_MS goes, unless it is the last poller or the thread
 * inside engine_run(). */
#include "engine/private.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#define IDLE_EXIT_MS 10000
#define STACK_SIZE   (512u << 10)

static void pool_loop(struct pool_thread *t);

static void *pool_thread_main(void *arg)
{
	struct pool_thread t = {.engine = arg, .another = engine_pool_start_another};
	struct engine *e = t.engine;

	engine_thread = &t;
	pool_loop(&t);
	engine_thread = NULL;
	buffers_thread_end();
	pthread_mutex_lock(&e->pool_lock);
	if (--e->threads == 0)
		pthread_cond_broadcast(&e->pool_cond);
	pthread_mutex_unlock(&e->pool_lock);
	return NULL;
}

static unsigned running_max(struct engine *e)
{
	return e->cores + e->blocked;
}

void engine_pool_start_another(struct engine *e)
{
	pthread_attr_t attr;
	pthread_t thread;
	unsigned threads = e->threads;

	if (e->idle > 0 || !e->running || (e->stopping && e->sessions == 0))
		return;
	do {
		if (threads >= e->limits.threads || threads >= running_max(e))
			return;
	} while (!atomic_compare_exchange_weak(&e->threads, &threads, threads + 1));

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	if (pthread_create(&thread, &attr, pool_thread_main, e) != 0) {
		log_warning("cannot start a thread: %m");
		pthread_mutex_lock(&e->pool_lock);
		e->threads--;
		pthread_mutex_unlock(&e->pool_lock);
	}
	pthread_attr_destroy(&attr);
}

void engine_pool_kick(struct engine *e)
{
	uint64_t one = 1;

	if (write(e->kick, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error("eventfd: %m");
}

/* ---- a thread's life ---- */

static bool pool_ended(struct engine *e)
{
	return e->stopping && e->sessions == 0;
}

/* Leaves the pollers if there are others. */
static bool idle_leave(struct engine *e)
{
	unsigned idle = e->idle;

	while (idle > 1)
		if (atomic_compare_exchange_weak(&e->idle, &idle, idle - 1))
			return true;
	return false;
}

static void turn_begin(struct engine *e, struct session *s)
{
	if (e->ready_count > 0 && e->idle > 0)
		engine_pool_kick(e);
	engine_pool_start_another(e);
	session_run(s);
}

static void event_take(struct engine *e, uint64_t data)
{
	struct session *s;

	if (data == EVENT_KICK)
		return; /* edge-triggered: nothing to read; the line is looked at next */
	if (data == EVENT_TIMER) {
		timers_fire(e);
	} else if ((uint32_t)data == EVENT_LISTENER) {
		listener_ready(listener_at(e, data >> 32));
	} else {
		s = slot_win(e, (uint32_t)data, (uint32_t)(data >> 32), BIT_INPUT);
		if (s)
			turn_begin(e, s);
	}
}

/* Waits for one event. Returns false when the thread should go. */
static bool pool_poll(struct pool_thread *t, int timeout_ms)
{
	struct engine *e = t->engine;
	struct epoll_event ev;
	int n;

	e->idle++;
	if (e->ready_count > 0 || pool_ended(e))
		timeout_ms = 0;
	n = epoll_wait(e->epfd, &ev, 1, timeout_ms);
	if (n == 0 && timeout_ms == IDLE_EXIT_MS && !t->first && idle_leave(e))
		return false;
	e->idle--;
	if (n > 0)
		event_take(e, ev.data.u64);
	return true;
}

static void pool_loop(struct pool_thread *t)
{
	struct engine *e = t->engine;
	struct session *s;

	while (!pool_ended(e)) {
		if (e->ready_count == 0 || t->ready_turn) {
			t->ready_turn = false;
			if (!pool_poll(t, e->ready_count == 0 ? IDLE_EXIT_MS : 0))
				return;
			continue;
		}
		t->ready_turn = true;
		s = ready_pop(e);
		if (s == NULL)
			continue;
		turn_begin(e, s);
	}
	engine_pool_kick(e); /* the next one hears it too */
}

void engine_pool_run(struct engine *e)
{
	struct pool_thread t = {.engine = e, .another = engine_pool_start_another, .first = true};

	pthread_mutex_lock(&e->pool_lock);
	e->threads++;
	pthread_mutex_unlock(&e->pool_lock);
	engine_thread = &t;
	e->running = true;
	pool_loop(&t);
	e->running = false;
	engine_thread = NULL;
	buffers_thread_end();
	pthread_mutex_lock(&e->pool_lock);
	e->threads--;
	while (e->threads > 0) {
		pthread_mutex_unlock(&e->pool_lock);
		engine_pool_kick(e);
		pthread_mutex_lock(&e->pool_lock);
		if (e->threads > 0) {
			struct timespec until;
			clock_gettime(CLOCK_MONOTONIC, &until);
			until.tv_nsec += 10000000;
			if (until.tv_nsec >= 1000000000) {
				until.tv_sec++;
				until.tv_nsec -= 1000000000;
			}
			pthread_cond_timedwait(&e->pool_cond, &e->pool_lock, &until);
		}
	}
	pthread_mutex_unlock(&e->pool_lock);
}
