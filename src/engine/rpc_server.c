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
#include "engine/rpc_wire.h"

#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define UNSENT_EVENT_MAX (1u << 20)
#define UNSENT_PAUSE	 (8u << 20)
#define UNSENT_HARD	 (256u << 20)
#define EVENTS_A_ROUND	 32

/* Descriptors that wait in `out`, and where the frame that carries them begins. */
struct out_fds {
	size_t at;
	int fds[FD_PASS_MAX];
	size_t count;
};

struct rpc_peer {
	struct rpc_server *server;
	_Atomic unsigned refs; /* the loop's, and one a request */
	int fd;
	uint64_t tag, id;
	struct rpc_reader reader; /* loop */
	bool paused;		  /* loop: not read from */
	uint32_t armed;		  /* lock: epoll events asked for */
	pthread_mutex_t lock;
	bool closed;
	struct buf out;
	size_t out_at;		 /* sent so far */
	VEC(struct out_fds) fds; /* ascending `at`; duplicates owned here */
	bool dirty;		 /* loop: on the server's list to flush */
};

struct watch {
	int fd;
	void (*fn)(void *ctx, int fd);
	void *ctx;
};

struct timer {
	int64_t at;
	uint64_t order;
	void (*fn)(void *ctx);
	void *ctx;
};

struct rpc_server {
	struct rpc_service service;
	int epfd, wake;
	_Atomic bool stopping;
	pthread_t loop;
	_Atomic bool looping;
	void (*on_idle)(void *ctx);
	void *on_idle_ctx;
	VEC(struct rpc_peer *) dirty;
	VEC(struct watch *) watches;
	VEC(struct watch *) dead_watches;

	pthread_mutex_t lock;
	VEC(struct rpc_peer *) peers;
	VEC(struct timer) timers; /* heap by (at, order) */
	uint64_t timer_order;
	bool wake_sent;

	/* threads mode */
	unsigned threads_max, threads, threads_idle;
	pthread_mutex_t work_lock;
	pthread_cond_t work_cond;
	VEC(struct rpc_request *) work; /* a ring would do; work_at is its front */
	size_t work_at;
	bool work_end;
	pthread_t *thread_ids;
};

static _Atomic uint64_t next_peer_id = 1;

/* epoll data is a pointer; its low bits tell what it points at. */
enum { SOURCE_PEER = 0, SOURCE_WATCH = 1, SOURCE_WAKE = 2, SOURCE_MASK = 3 };

static bool on_loop(struct rpc_server *s)
{
	return s->looping && pthread_equal(s->loop, pthread_self());
}

static void loop_wake(struct rpc_server *s)
{
	uint64_t one = 1;

	if (write(s->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error("%s: eventfd: %m", s->service.name);
}

/* ---- peers ---- */

static void peer_unref(struct rpc_peer *p)
{
	if (atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static void out_fds_drop(struct rpc_peer *p, size_t first_n)
{
	if (first_n == 0)
		return;
	for (size_t i = 0; i < first_n; i++)
		for (size_t k = 0; k < p->fds.v[i].count; k++)
			fd_close(&p->fds.v[i].fds[k]);
	memmove(p->fds.v, p->fds.v + first_n, (p->fds.n - first_n) * sizeof(*p->fds.v));
	p->fds.n -= first_n;
}

struct rpc_peer *rpc_server_add_peer(struct rpc_server *s, int fd, uint64_t tag)
{
	struct rpc_peer *p = NEW(struct rpc_peer);
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = (uintptr_t)p | SOURCE_PEER};

	p->server = s;
	p->refs = 1;
	p->fd = fd;
	p->tag = tag;
	p->id = atomic_fetch_add(&next_peer_id, 1);
	p->armed = EPOLLIN;
	buf_init(&p->out, UNSENT_HARD);
	pthread_mutex_init(&p->lock, NULL);
	fd_nonblocking(fd, true);
	pthread_mutex_lock(&s->lock);
	vec_push(&s->peers, p);
	pthread_mutex_unlock(&s->lock);
	if (epoll_ctl(s->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		die(71, "epoll_ctl: %m");
	return p;
}

uint64_t rpc_peer_tag(const struct rpc_peer *p)
{
	return p->tag;
}

uint64_t rpc_peer_id(const struct rpc_peer *p)
{
	return p->id;
}

/* Loop thread. */
static void peer_close(struct rpc_peer *p)
{
	struct rpc_server *s = p->server;

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->peers.n; i++) {
		if (s->peers.v[i] == p) {
			vec_remove(&s->peers, i);
			break;
		}
	}
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < s->dirty.n; i++)
		if (s->dirty.v[i] == p)
			s->dirty.v[i] = NULL;
	pthread_mutex_lock(&p->lock);
	p->closed = true;
	/* By name: a process that is just being forked may hold the socket a moment longer, and epoll with it. */
	epoll_ctl(s->epfd, EPOLL_CTL_DEL, p->fd, NULL);
	close(p->fd);
	p->fd = -1;
	out_fds_drop(p, p->fds.n);
	vec_release(&p->fds);
	buf_release(&p->out);
	pthread_mutex_unlock(&p->lock);
	rpc_reader_release(&p->reader);
	if (s->service.peer_closed)
		s->service.peer_closed(s->service.ctx, p);
	peer_unref(p);
}

/* Under the peer's lock. */
static void peer_arm(struct rpc_peer *p, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.u64 = (uintptr_t)p | SOURCE_PEER};

	if (p->closed || p->armed == events)
		return;
	p->armed = events;
	if (epoll_ctl(p->server->epfd, EPOLL_CTL_MOD, p->fd, &ev) < 0)
		log_error("%s: epoll_ctl: %m", p->server->service.name);
}

/* ---- writing ---- */

static size_t peer_unsent(const struct rpc_peer *p)
{
	return p->out.len - p->out_at;
}

/* Under the peer's lock. Sends what the socket takes; descriptors go with the first byte of their frame, so
 * a write ends before the next frame that has some. An error is left to the loop, which will read the end. */
static void peer_flush(struct rpc_peer *p)
{
	while (!p->closed && peer_unsent(p) > 0) {
		const struct out_fds *now = p->fds.n > 0 && p->fds.v[0].at == p->out_at ? &p->fds.v[0] : NULL;
		size_t next = now ? 1 : 0;
		size_t end = p->fds.n > next ? p->fds.v[next].at : p->out.len;
		ssize_t n = fd_send(p->fd, p->out.ptr + p->out_at, end - p->out_at, now ? now->fds : NULL,
				    now ? now->count : 0);
		if (n <= 0) {
			if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
				p->out_at = p->out.len;
			break;
		}
		if (now)
			out_fds_drop(p, 1);
		p->out_at += (size_t)n;
	}
	if (!p->closed && peer_unsent(p) == 0) {
		if (p->out.size > RPC_READ_SIZE) {
			buf_release(&p->out);
			buf_init(&p->out, UNSENT_HARD);
		}
		buf_clear(&p->out);
		p->out_at = 0;
		out_fds_drop(p, p->fds.n);
	}
	if (!p->closed && (peer_unsent(p) > 0 || (p->armed & EPOLLOUT)))
		peer_arm(p, (p->armed & EPOLLIN) | (peer_unsent(p) > 0 ? EPOLLOUT : 0));
}

/* Under the peer's lock. A half-sent queue is moved to the front before it grows for ever. */
static void peer_compact(struct rpc_peer *p)
{
	if (p->out_at < RPC_READ_SIZE || p->out_at < p->out.len / 2)
		return;
	buf_consume(&p->out, p->out_at);
	for (size_t i = 0; i < p->fds.n; i++)
		p->fds.v[i].at -= p->out_at;
	p->out_at = 0;
}

static int peer_queue_fds(struct rpc_peer *p, size_t at, const int *fds, size_t count, struct err *err)
{
	struct out_fds o = {.at = at};

	for (; o.count < count; o.count++) {
		o.fds[o.count] = fcntl(fds[o.count], F_DUPFD_CLOEXEC, 0);
		if (o.fds[o.count] < 0) {
			err_errno(err, "cannot pass a descriptor");
			while (o.count > 0)
				fd_close(&o.fds[--o.count]);
			return -1;
		}
	}
	if (count > 0)
		vec_push(&p->fds, o);
	return 0;
}

/* Under the peer's lock. Appends one frame; outcome < 0: an event, which has none. All or nothing. */
static int frame_append(struct rpc_peer *p, uint16_t number, uint64_t id, int outcome, const struct rpc_type *type,
			const void *body, struct err *err)
{
	int fds[FD_PASS_MAX];
	size_t fd_count = 0, at;
	char kind = (char)outcome;

	peer_compact(p);
	at = rpc_header_begin(&p->out);
	if (outcome >= 0)
		buf_add(&p->out, &kind, 1);
	if (buf_failed(&p->out) || (type && rpc_encode(type, body, &p->out, fds, &fd_count, err) < 0)) {
		bool full = buf_failed(&p->out);
		buf_truncate(&p->out, at);
		p->out.failed = false;
		return full ? err_set(err, ERR_LIMIT, "4.3.0", "%s: too much unsent", p->server->service.name) : -1;
	}
	rpc_header_put(&p->out, at, number, id, fd_count);
	if (peer_queue_fds(p, at, fds, fd_count, err) < 0) {
		buf_truncate(&p->out, at);
		return -1;
	}
	return 0;
}

/* Under the peer's lock: on the loop at the round's end, elsewhere now. */
static void peer_send_soon(struct rpc_peer *p)
{
	struct rpc_server *s = p->server;

	if (!on_loop(s)) {
		if (!(p->armed & EPOLLOUT))
			peer_flush(p);
	} else if (!p->dirty) {
		p->dirty = true;
		vec_push(&s->dirty, p);
	}
}

static void request_free(struct rpc_request *req)
{
	struct rpc_peer *p = req->peer;

	arena_release(&req->arena);
	free(req->frame);
	free(req);
	peer_unref(p);
}

static void append_failure(struct rpc_request *req, const struct err *err)
{
	struct rpc_failure f = {.sys = (uint32_t)err->sys, .code = str_from(err->code), .text = str_from(err->text)};
	enum err_kind kind = err->kind == ERR_OK ? ERR_TEMP : err->kind;

	if (frame_append(req->peer, req->number, req->id, (int)kind, &rpc_failure_type, &f, NULL) < 0)
		log_error("%s: an answer was lost: too much unsent", req->peer->server->service.name);
}

void rpc_answer(struct rpc_request *req, const void *reply)
{
	struct rpc_peer *p = req->peer;
	const struct rpc_call *call = rpc_table_find(p->server->service.table, req->number);
	struct err err = ERR_NONE;

	if (call->reply) {
		pthread_mutex_lock(&p->lock);
		if (!p->closed) {
			if (frame_append(p, req->number, req->id, ERR_OK, call->reply, reply, &err) < 0)
				append_failure(req, &err);
			peer_send_soon(p);
		}
		pthread_mutex_unlock(&p->lock);
	}
	request_free(req);
}

void rpc_refuse(struct rpc_request *req, const struct err *err)
{
	struct rpc_peer *p = req->peer;
	const struct rpc_call *call = rpc_table_find(p->server->service.table, req->number);

	if (call->reply) {
		pthread_mutex_lock(&p->lock);
		if (!p->closed) {
			append_failure(req, err);
			peer_send_soon(p);
		}
		pthread_mutex_unlock(&p->lock);
	}
	request_free(req);
}

int rpc_event(struct rpc_peer *p, const struct rpc_call *event, const void *msg)
{
	int result = -1;

	pthread_mutex_lock(&p->lock);
	if (!p->closed && peer_unsent(p) <= UNSENT_EVENT_MAX &&
	    frame_append(p, event->number, 0, -1, event->request, msg, NULL) == 0) {
		peer_send_soon(p);
		result = 0;
	}
	pthread_mutex_unlock(&p->lock);
	return result;
}

/* ---- threads mode ---- */

static void *worker(void *arg)
{
	struct rpc_server *s = arg;
	struct rpc_request *req;

	pthread_mutex_lock(&s->work_lock);
	for (;;) {
		while (s->work_at == s->work.n && !s->work_end) {
			s->threads_idle++;
			pthread_cond_wait(&s->work_cond, &s->work_lock);
			s->threads_idle--;
		}
		if (s->work_at == s->work.n)
			break;
		req = s->work.v[s->work_at++];
		if (s->work_at == s->work.n) {
			vec_clear(&s->work);
			s->work_at = 0;
		}
		pthread_mutex_unlock(&s->work_lock);
		s->service.handle(s->service.ctx, req);
		pthread_mutex_lock(&s->work_lock);
	}
	pthread_mutex_unlock(&s->work_lock);
	return NULL;
}

static void work_push(struct rpc_server *s, struct rpc_request *req)
{
	bool wake = true;

	pthread_mutex_lock(&s->work_lock);
	vec_push(&s->work, req);
	if (s->threads_idle == 0 && s->threads < s->threads_max &&
	    pthread_create(&s->thread_ids[s->threads], NULL, worker, s) == 0) {
		s->threads++;
		wake = false;
	}
	pthread_mutex_unlock(&s->work_lock);
	/* Outside: who wakes must not have to wait for the lock. */
	if (wake)
		pthread_cond_signal(&s->work_cond);
}

void rpc_server_use_threads(struct rpc_server *s, unsigned threads)
{
	s->threads_max = threads;
	s->thread_ids = mem_alloc(threads * sizeof(*s->thread_ids));
}

/* ---- reading ---- */

static bool request_begin(struct rpc_peer *p, struct rpc_frame *frame)
{
	struct rpc_server *s = p->server;
	const struct rpc_call *call = rpc_table_find(s->service.table, frame->type);
	struct rpc_request *req;
	struct err err = ERR_NONE;

	if (call == NULL) {
		log_error("%s: peer %llx called unknown number %u", s->service.name, (unsigned long long)p->tag,
			  frame->type);
		rpc_frame_drop(frame);
		return false;
	}
	req = NEW(struct rpc_request);
	atomic_fetch_add(&p->refs, 1);
	req->peer = p;
	req->number = frame->type;
	req->id = frame->id;
	req->frame = frame->bytes;
	arena_init(&req->arena);
	req->msg = arena_alloc(&req->arena, call->request->size);
	frame->bytes = NULL;
	if (rpc_decode(call->request, str_of(req->frame, frame->len), frame->fds, frame->fd_count, &req->arena,
		       req->msg, &err) < 0) {
		log_error("%s: peer %llx: %s", s->service.name, (unsigned long long)p->tag, err.text);
		rpc_frame_drop(frame);
		request_free(req);
		return false;
	}
	if (s->threads_max > 0 && s->service.handle_early && s->service.handle_early(s->service.ctx, req))
		return true;
	if (s->threads_max > 0)
		work_push(s, req);
	else
		s->service.handle(s->service.ctx, req);
	return true;
}

/* Returns false when the peer has to be closed. One receive a round keeps peers fair: epoll reports the rest. */
static bool peer_read(struct rpc_peer *p)
{
	struct rpc_frame frame;
	int n = rpc_reader_fill(&p->reader, p->fd);

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return true;
	if (n <= 0)
		return false;
	while ((n = rpc_reader_next(&p->reader, &frame)) > 0)
		if (!request_begin(p, &frame))
			return false;
	if (n < 0)
		log_error("%s: peer %llx sent a malformed frame", p->server->service.name, (unsigned long long)p->tag);
	return n == 0;
}

static void peer_event(struct rpc_peer *p, uint32_t events)
{
	bool paused;

	if (events & EPOLLOUT) {
		pthread_mutex_lock(&p->lock);
		peer_flush(p);
		pthread_mutex_unlock(&p->lock);
	}
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !(p->paused && !(events & (EPOLLHUP | EPOLLERR))) &&
	    !peer_read(p)) {
		peer_close(p);
		return;
	}
	pthread_mutex_lock(&p->lock);
	paused = peer_unsent(p) > UNSENT_PAUSE;
	p->paused = paused;
	peer_arm(p, (paused ? 0 : EPOLLIN) | (p->armed & EPOLLOUT));
	pthread_mutex_unlock(&p->lock);
}

/* ---- timers and hand-overs ---- */

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
	if (!on_loop(s) && !s->wake_sent)
		wake = s->wake_sent = true;
	pthread_mutex_unlock(&s->lock);
	if (wake)
		loop_wake(s);
}

/* Runs what is due now; what these add waits for the next round. */
static void timers_run(struct rpc_server *s)
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

/* Milliseconds until the next timer, or -1. */
static int timers_wait(struct rpc_server *s)
{
	int64_t now = clock_ms(), wait = -1;

	pthread_mutex_lock(&s->lock);
	if (s->timers.n > 0)
		wait = s->timers.v[0].at <= now ? 0 : s->timers.v[0].at - now;
	pthread_mutex_unlock(&s->lock);
	return wait > 3600000 ? 3600000 : (int)wait;
}

/* ---- other descriptors ---- */

void rpc_server_watch_fd(struct rpc_server *s, int fd, void (*fn)(void *ctx, int fd), void *ctx)
{
	struct watch *w = NEW(struct watch);
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = (uintptr_t)w | SOURCE_WATCH};

	*w = (struct watch){.fd = fd, .fn = fn, .ctx = ctx};
	vec_push(&s->watches, w);
	if (epoll_ctl(s->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		die(71, "epoll_ctl: %m");
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
		peer_event(source, ev->events);
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

static void dirty_flush(struct rpc_server *s)
{
	for (size_t i = 0; i < s->dirty.n; i++) {
		struct rpc_peer *p = s->dirty.v[i];
		if (p == NULL)
			continue;
		pthread_mutex_lock(&p->lock);
		p->dirty = false;
		if (!(p->armed & EPOLLOUT))
			peer_flush(p);
		pthread_mutex_unlock(&p->lock);
	}
	vec_clear(&s->dirty);
}

void rpc_server_run(struct rpc_server *s)
{
	struct epoll_event events[EVENTS_A_ROUND];
	int n;

	s->loop = pthread_self();
	s->looping = true;
	while (!s->stopping) {
		timers_run(s);
		if (s->on_idle)
			s->on_idle(s->on_idle_ctx);
		dirty_flush(s);
		while (s->dead_watches.n > 0)
			free(s->dead_watches.v[--s->dead_watches.n]);
		n = epoll_wait(s->epfd, events, EVENTS_A_ROUND, timers_wait(s));
		for (int i = 0; i < n; i++)
			dispatch(s, &events[i]);
	}
	dirty_flush(s);
	s->looping = false;
}

void rpc_server_stop(struct rpc_server *s)
{
	s->stopping = true;
	loop_wake(s);
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

static void workers_end(struct rpc_server *s)
{
	pthread_mutex_lock(&s->work_lock);
	s->work_end = true;
	pthread_cond_broadcast(&s->work_cond);
	pthread_mutex_unlock(&s->work_lock);
	for (unsigned i = 0; i < s->threads; i++)
		pthread_join(s->thread_ids[i], NULL);
	free(s->thread_ids);
	vec_release(&s->work);
}

void rpc_server_free(struct rpc_server **server)
{
	struct rpc_server *s = *server;

	if (s == NULL)
		return;
	*server = NULL;
	workers_end(s);
	while (s->peers.n > 0)
		peer_close(s->peers.v[0]);
	for (size_t i = 0; i < s->watches.n; i++)
		free(s->watches.v[i]);
	while (s->dead_watches.n > 0)
		free(s->dead_watches.v[--s->dead_watches.n]);
	vec_release(&s->watches);
	vec_release(&s->dead_watches);
	vec_release(&s->dirty);
	vec_release(&s->peers);
	vec_release(&s->timers);
	close(s->epfd);
	close(s->wake);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->work_lock);
	pthread_cond_destroy(&s->work_cond);
	free(s);
}
