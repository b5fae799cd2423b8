/* The answering side: one loop that owns the peers' reading ends.
 *
 * Answers given on the loop thread gather in the peer's `out` and leave together at the end of the round;
 * answers given elsewhere are written at once by the thread that gives them, when nothing is queued before
 * them. What the socket does not take is sent by the loop when it drains. A peer whose unsent bytes exceed
 * UNSENT_PAUSE is not read from until they have gone.
 *
 * Shared: a peer's `out`, `fds`, `closed` and writing to its socket, by the peer's lock; its reference
 * count is atomic; timers and hand-overs, by the server's lock; the queue of threads mode, by its own lock.
 * Everything else belongs to the loop thread. */
#include "engine/rpc_server_private.h"

#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_A_ROUND 32

bool rpc_server_on_loop(struct rpc_server *s)
{
	return s->looping && pthread_equal(s->loop, pthread_self());
}

void rpc_server_wake(struct rpc_server *s)
{
	uint64_t one = 1;

	if (write(s->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error("%s: eventfd: %m", s->service.name);
}

/* ---- other descriptors ---- */

int rpc_server_watch_fd(struct rpc_server *s, int fd, void (*fn)(void *ctx, int fd), void *ctx)
{
	struct watch *w = NEW(struct watch);
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = (uintptr_t)w | SOURCE_WATCH};

	*w = (struct watch){.fd = fd, .fn = fn, .ctx = ctx};
	if (epoll_ctl(s->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		free(w);
		return -1;
	}
	vec_push(&s->watches, w);
	return 0;
}

void rpc_server_unwatch_fd(struct rpc_server *s, int fd)
{
	for (size_t i = 0; i < s->watches.n; i++) {
		struct watch *w = s->watches.v[i];
		if (w->fd != fd)
			continue;
		epoll_ctl(s->epfd, EPOLL_CTL_DEL, fd, NULL);
		w->fn = NULL; /* an event of this round may still name it */
		vec_push(&s->dead_watches, w);
		vec_remove(&s->watches, i);
		return;
	}
}

void rpc_server_on_idle(struct rpc_server *s, void (*fn)(void *ctx), void *ctx)
{
	s->on_idle = fn;
	s->on_idle_ctx = ctx;
}

/* ---- the loop ---- */

static void wake_read(struct rpc_server *s)
{
	uint64_t count;

	/* Read first: a wake-up written after the flag was cleared would be swallowed here, with the flag set again,
	 * and nobody would ever write another. What is handed over before the flag is cleared runs in this round. */
	if (read(s->wake, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("%s: eventfd: %m", s->service.name);
	pthread_mutex_lock(&s->lock);
	s->wake_sent = false;
	pthread_mutex_unlock(&s->lock);
}

static void dispatch(struct rpc_server *s, const struct epoll_event *ev)
{
	void *source = (void *)(uintptr_t)(ev->data.u64 & ~(uint64_t)SOURCE_MASK);
	struct watch *w;

	switch (ev->data.u64 & SOURCE_MASK) {
	case SOURCE_PEER:
		rpc_peer_event(source, ev->events);
		break;
	case SOURCE_WATCH:
		w = source;
		if (w->fn)
			w->fn(w->ctx, w->fd);
		break;
	default:
		wake_read(s);
		break;
	}
}

void rpc_server_run(struct rpc_server *s)
{
	struct epoll_event events[EVENTS_A_ROUND];
	int n;

	s->loop = pthread_self();
	s->looping = true;
	while (!s->stopping) {
		rpc_server_timers_run(s);
		rpc_server_behind_run(s);
		if (s->on_idle)
			s->on_idle(s->on_idle_ctx);
		rpc_server_dirty_flush(s);
		while (s->dead_watches.n > 0)
			free(s->dead_watches.v[--s->dead_watches.n]);
		n = epoll_wait(s->epfd, events, EVENTS_A_ROUND, s->behind.n > 0 ? 0 : rpc_server_timers_wait(s));
		for (int i = 0; i < n; i++)
			dispatch(s, &events[i]);
	}
	rpc_server_dirty_flush(s);
	s->looping = false;
}

void rpc_server_stop(struct rpc_server *s)
{
	s->stopping = true;
	rpc_server_wake(s);
}

struct rpc_server *rpc_server_new(const struct rpc_service *service)
{
	struct rpc_server *s = NEW(struct rpc_server);
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = SOURCE_WAKE};

	s->service = *service;
	s->epfd = epoll_create1(EPOLL_CLOEXEC);
	s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->epfd < 0 || s->wake < 0 || epoll_ctl(s->epfd, EPOLL_CTL_ADD, s->wake, &ev) < 0)
		die(71, "cannot set up the event loop: %m");
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->work_lock, NULL);
	pthread_cond_init(&s->work_cond, NULL);
	return s;
}

void rpc_server_free(struct rpc_server **server)
{
	struct rpc_server *s = *server;

	if (s == NULL)
		return;
	*server = NULL;
	rpc_server_workers_end(s);
	while (s->peers.n > 0)
		rpc_peer_close(s->peers.v[0]);
	for (size_t i = 0; i < s->watches.n; i++)
		free(s->watches.v[i]);
	while (s->dead_watches.n > 0)
		free(s->dead_watches.v[--s->dead_watches.n]);
	vec_release(&s->watches);
	vec_release(&s->dead_watches);
	vec_release(&s->dirty);
	vec_release(&s->behind);
	vec_release(&s->peers);
	vec_release(&s->timers);
	close(s->epfd);
	close(s->wake);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->work_lock);
	pthread_cond_destroy(&s->work_cond);
	free(s);
}
