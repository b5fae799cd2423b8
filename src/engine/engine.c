/* The engine as a whole: set-up, listeners, the orderly end. How a session runs: session.c; who runs it:
 * pool.c; who is told of it: slots.c, timers.c, accept.c. */
#include "engine/private.h"

#include "base/clock.h"
#include "base/encode.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

static void watch(struct engine *e, int fd, uint64_t data)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = data};

	if (fd < 0 || epoll_ctl(e->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		die(71, "cannot set up the engine: %m");
}

static void conds_init(struct engine *e)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&e->pool_cond, &attr);
	for (size_t kind = 0; kind < BLOCK_KINDS; kind++)
		pthread_cond_init(&e->kind_cond[kind], &attr);
	pthread_condattr_destroy(&attr);
}

struct engine *engine_new(const struct engine_limits *limits)
{
	struct engine *e = NEW(struct engine);
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
	e->limits = *limits;
	if (e->limits.threads == 0)
		e->limits.threads = 256;
	if (e->limits.sessions == 0 || e->limits.sessions > SLOT_CHUNK * SLOT_CHUNKS)
		e->limits.sessions = SLOT_CHUNK * SLOT_CHUNKS;
	e->cores = cores > 2 ? (unsigned)cores : 2;
	e->epfd = epoll_create1(EPOLL_CLOEXEC);
	e->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (e->epfd < 0)
		die(71, "cannot set up the engine: %m");
	watch(e, e->kick, EVENT_KICK);
	watch(e, e->timerfd, EVENT_TIMER);
	e->reserve = fcntl(e->kick, F_DUPFD_CLOEXEC, 0);
	e->clients = map_new();
	e->next_id = random_u64() >> 1;
	e->timer_set = e->resume_at = e->kill_at = NEVER;
	pthread_mutex_init(&e->lock, NULL);
	pthread_mutex_init(&e->ready_lock, NULL);
	pthread_mutex_init(&e->timer_lock, NULL);
	pthread_mutex_init(&e->pool_lock, NULL);
	pthread_mutex_init(&e->kind_lock, NULL);
	conds_init(e);
	return e;
}

void engine_free(struct engine **engine)
{
	struct engine *e = *engine;

	if (e == NULL)
		return;
	*engine = NULL;
	if (e->sessions > 0 || !e->listening_ended) {
		engine_stop(e, 0);
		engine_run(e);
	}
	for (size_t i = 0; i < e->listeners.n; i++)
		free(e->listeners.v[i]);
	vec_release(&e->listeners);
	for (uint32_t i = 0; i < e->slot_count / SLOT_CHUNK; i++)
		free(e->chunks[i]);
	vec_release(&e->free_slots);
	vec_release(&e->heap);
	map_free(&e->clients);
	close(e->epfd);
	close(e->kick);
	close(e->timerfd);
	if (e->reserve >= 0)
		close(e->reserve);
	pthread_mutex_destroy(&e->lock);
	pthread_mutex_destroy(&e->ready_lock);
	pthread_mutex_destroy(&e->timer_lock);
	pthread_mutex_destroy(&e->pool_lock);
	pthread_mutex_destroy(&e->kind_lock);
	pthread_cond_destroy(&e->pool_cond);
	for (size_t kind = 0; kind < BLOCK_KINDS; kind++)
		pthread_cond_destroy(&e->kind_cond[kind]);
	free(e);
}

/* What connections inherit: a captured predecessor may have left a socket whose clients never wake anybody, or are cut
 * off in the middle of a reply. */
static void listener_defaults(int fd)
{
	struct linger linger = {.l_onoff = 0};
	int one = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one)) < 0)
		log_error("cannot set a listening socket back: %m");
}

void engine_listen(struct engine *e, const struct engine_listener *listener)
{
	struct listener *l = NEW(struct listener);
	struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT};

	l->l = *listener;
	l->engine = e;
	fd_nonblocking(l->l.fd, true);
	listener_defaults(l->l.fd);
	pthread_mutex_lock(&e->lock);
	ev.data.u64 = (uint64_t)e->listeners.n << 32 | EVENT_LISTENER;
	vec_push(&e->listeners, l);
	if (e->stopping)
		fd_close(&l->l.fd);
	else if (epoll_ctl(e->epfd, EPOLL_CTL_ADD, l->l.fd, &ev) < 0)
		die(71, "cannot listen: %m");
	pthread_mutex_unlock(&e->lock);
}

void engine_run(struct engine *e)
{
	engine_pool_run(e);
}

void engine_stop(struct engine *e, int64_t grace_ms)
{
	uint32_t count;

	if (atomic_exchange(&e->stopping, true))
		return;
	listeners_close(e);
	pthread_mutex_lock(&e->lock);
	count = e->slot_count;
	pthread_mutex_unlock(&e->lock);
	for (uint32_t i = 0; i < count; i++)
		slot_post(e, i, slot_generation(slot_at(e, i)), BIT_STOP);
	timer_kill_at(e, clock_ms() + grace_ms);
	engine_pool_kick(e);
}

size_t engine_session_count(const struct engine *e)
{
	return e->sessions;
}

void session_wake(struct engine *e, struct session_ref ref)
{
	/* An index that was never given out names nobody. */
	if (ref.index / SLOT_CHUNK < SLOT_CHUNKS && e->chunks[ref.index / SLOT_CHUNK])
		slot_post(e, ref.index, ref.generation, BIT_CHANGE);
}
