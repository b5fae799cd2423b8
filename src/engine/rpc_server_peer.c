/* One peer of a server: its requests decoded and handed on, answers and events back to it. */
#include "engine/rpc_server_private.h"

#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define UNSENT_EVENT_MAX (1u << 20)
#define UNSENT_PAUSE	 (8u << 20)
#define UNSENT_HARD	 (256u << 20)
/* What one peer may have under way: enough for every thread of a front end with a body each, and no more. */
#define HELD_MAX       4096
#define HELD_BYTES_MAX (64u << 20)
/* How long one peer's requests are handled before it is the others' turn. */
#define SLICE_MS      5
#define NOTES_MAX     20
#define NOTES_MS      10000
#define PEER_NAME_MAX 64

static _Atomic uint64_t next_peer_id = 1;

void rpc_peer_unref(struct rpc_peer *p)
{
	if (atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	pthread_mutex_destroy(&p->lock);
	vec_release(&p->work);
	free(p);
}

/* ---- what it does wrong ---- */

static void (*_Atomic on_misconduct)(uint64_t tag, const char *what);

void rpc_on_misconduct(void (*fn)(uint64_t tag, const char *what))
{
	on_misconduct = fn;
}

static void peer_name(const struct rpc_peer *p, char name[PEER_NAME_MAX])
{
	if (p->server->service.peer_name)
		p->server->service.peer_name(p->tag, name, PEER_NAME_MAX);
	else
		snprintf(name, PEER_NAME_MAX, "peer %llx", (unsigned long long)p->tag);
}

/* A line that names it. One that does wrong all the time fills no log: NOTES_MAX lines in NOTES_MS. Under lock. */
static void peer_note(struct rpc_peer *p, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void peer_note(struct rpc_peer *p, const char *fmt, ...)
{
	char name[PEER_NAME_MAX], text[512];
	va_list args;

	if (clock_ms() - p->notes_ms > NOTES_MS) {
		p->notes_ms = clock_ms();
		p->notes = 0;
	}
	if (p->notes++ > NOTES_MAX)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	peer_name(p, name);
	log_warning("%s: %s: %s%s", p->server->service.name, name, text,
		    p->notes > NOTES_MAX ? " (more of that is not told for a moment)" : "");
}

/* Our own processes make no such mistakes: it is closed by the caller, and reported. */
static void peer_misbehaved(struct rpc_peer *p, const char *what)
{
	void (*report)(uint64_t tag, const char *what) = on_misconduct;

	pthread_mutex_lock(&p->lock);
	peer_note(p, "%s", what);
	pthread_mutex_unlock(&p->lock);
	if (report)
		report(p->tag, what);
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
	for (const struct rpc_call *call = s->service.table; call->request; call++)
		p->reader.wipe |= call->secret;
	buf_init(&p->out, UNSENT_HARD);
	pthread_mutex_init(&p->lock, NULL);
	fd_nonblocking(fd, true);
	pthread_mutex_lock(&s->lock);
	vec_push(&s->peers, p);
	if (epoll_ctl(s->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		log_error("%s: a connection was not taken: %m", s->service.name);
		s->peers.n--;
		buf_release(&p->out);
		close(fd);
		rpc_peer_unref(p);
		p = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	return p;
}

void rpc_server_replace(struct rpc_server *s, uint64_t tag)
{
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->peers.n; i++) {
		struct rpc_peer *p = s->peers.v[i];

		if (p->tag != tag)
			continue;
		pthread_mutex_lock(&p->lock);
		if (!p->closed)
			shutdown(p->fd, SHUT_RDWR);
		pthread_mutex_unlock(&p->lock);
	}
	pthread_mutex_unlock(&s->lock);
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
void rpc_peer_close(struct rpc_peer *p)
{
	struct rpc_server *s = p->server;

	pthread_mutex_lock(&s->lock);
	vec_remove_item(&s->peers, p);
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < s->dirty.n; i++)
		if (s->dirty.v[i] == p)
			s->dirty.v[i] = NULL;
	for (size_t i = 0; i < s->behind.n; i++)
		if (s->behind.v[i] == p)
			s->behind.v[i] = NULL;
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
	rpc_peer_unref(p);
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
 * a write ends before the next frame that has some. After an error the loop reads the end, and so does the peer: what
 * was lost must not be waited for. */
static void peer_flush(struct rpc_peer *p)
{
	while (!p->closed && peer_unsent(p) > 0) {
		const struct out_fds *now = p->fds.n > 0 && p->fds.v[0].at == p->out_at ? &p->fds.v[0] : NULL;
		size_t next = now ? 1 : 0;
		size_t end = p->fds.n > next ? p->fds.v[next].at : p->out.len;
		ssize_t n = fd_send(p->fd, p->out.ptr + p->out_at, end - p->out_at, now ? now->fds : NULL,
				    now ? now->count : 0);
		if (n <= 0) {
			if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
				p->out_at = p->out.len;
				shutdown(p->fd, SHUT_RDWR);
			}
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

	if (!rpc_server_on_loop(s)) {
		if (!(p->armed & EPOLLOUT))
			peer_flush(p);
	} else if (!p->dirty) {
		p->dirty = true;
		vec_push(&s->dirty, p);
	}
}

static void look_again(void *ctx);

static void request_free(struct rpc_request *req)
{
	struct rpc_peer *p = req->peer;

	p->held_bytes -= req->frame_len;
	p->held--;
	if (p->too_much && p->held < HELD_MAX / 2 && p->held_bytes < HELD_BYTES_MAX / 2 &&
	    atomic_exchange(&p->too_much, false)) {
		atomic_fetch_add(&p->refs, 1);
		rpc_server_after(p->server, 0, look_again, p);
	}

	if (rpc_table_find(p->server->service.table, req->number)->secret)
		mem_wipe(req->frame, req->frame_len);
	arena_release(&req->arena);
	free(req->frame);
	free(req);
	rpc_peer_unref(p);
}

static void append_failure(struct rpc_request *req, const struct err *err)
{
	struct rpc_failure f = {.sys = (uint32_t)err->sys, .code = str_from(err->code), .text = str_from(err->text)};
	enum err_kind kind = err->kind == ERR_OK ? ERR_TEMP : err->kind;

	if (frame_append(req->peer, req->number, req->id, (int)kind, &rpc_failure_type, &f, NULL) < 0)
		log_error("%s: an answer was lost: too much unsent", req->peer->server->service.name);
}

bool rpc_answer(struct rpc_request *req, const void *reply)
{
	struct rpc_peer *p = req->peer;
	const struct rpc_call *call = rpc_table_find(p->server->service.table, req->number);
	struct err err = ERR_NONE;
	bool answered = true;

	if (call->reply) {
		pthread_mutex_lock(&p->lock);
		answered = !p->closed;
		if (!p->closed) {
			if (frame_append(p, req->number, req->id, ERR_OK, call->reply, reply, &err) < 0) {
				append_failure(req, &err);
				answered = false;
			}
			peer_send_soon(p);
		}
		pthread_mutex_unlock(&p->lock);
	}
	request_free(req);
	return answered;
}

void rpc_refuse(struct rpc_request *req, const struct err *err)
{
	struct rpc_peer *p = req->peer;
	const struct rpc_call *call = rpc_table_find(p->server->service.table, req->number);

	if (err->kind == ERR_DENIED) {
		pthread_mutex_lock(&p->lock);
		peer_note(p, "call %u refused: %s", req->number, err->text);
		pthread_mutex_unlock(&p->lock);
	}
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

static int event_send(struct rpc_peer *p, const struct rpc_call *event, const void *msg, size_t unsent_max)
{
	int result = -1;

	pthread_mutex_lock(&p->lock);
	if (!p->closed && peer_unsent(p) <= unsent_max &&
	    frame_append(p, event->number, 0, -1, event->request, msg, NULL) == 0) {
		peer_send_soon(p);
		result = 0;
	}
	pthread_mutex_unlock(&p->lock);
	return result;
}

int rpc_event(struct rpc_peer *p, const struct rpc_call *event, const void *msg)
{
	return event_send(p, event, msg, UNSENT_EVENT_MAX);
}

void rpc_event_anyway(struct rpc_peer *p, const struct rpc_call *event, const void *msg)
{
	if (event_send(p, event, msg, UNSENT_HARD) == 0)
		return;
	pthread_mutex_lock(&p->lock);
	if (!p->closed)
		shutdown(p->fd, SHUT_RDWR);
	pthread_mutex_unlock(&p->lock);
}

/* ---- reading ---- */

/* It is no fault of the peer's, and others may close theirs in a moment. */
static void refuse_without_fds(struct rpc_request *req)
{
	struct err err = ERR_NONE;

	pthread_mutex_lock(&req->peer->lock);
	peer_note(req->peer, "out of descriptors: call %u refused", req->number);
	pthread_mutex_unlock(&req->peer->lock);
	err_set(&err, ERR_TEMP, "4.3.0", "out of descriptors");
	err.sys = EMFILE;
	rpc_refuse(req, &err);
}

static bool request_begin(struct rpc_peer *p, struct rpc_frame *frame)
{
	struct rpc_server *s = p->server;
	const struct rpc_call *call = rpc_table_find(s->service.table, frame->type);
	struct rpc_request *req;
	struct err err = ERR_NONE;

	if (call == NULL) {
		peer_misbehaved(p, "called a number that no call has");
		rpc_frame_drop(frame);
		return false;
	}
	req = NEW(struct rpc_request);
	atomic_fetch_add(&p->refs, 1);
	req->peer = p;
	req->number = frame->type;
	req->id = frame->id;
	req->frame = frame->bytes;
	p->held++;
	p->held_bytes += frame->len;
	req->frame_len = frame->len;
	arena_init(&req->arena);
	req->msg = arena_alloc(&req->arena, call->request->size);
	frame->bytes = NULL;
	if (frame->fds_lost) {
		refuse_without_fds(req);
		return true;
	}
	if (rpc_decode(call->request, str_of(req->frame, frame->len), frame->fds, frame->fd_count, &req->arena,
		       req->msg, &err) < 0) {
		peer_misbehaved(p, err.text);
		rpc_frame_drop(frame);
		request_free(req);
		return false;
	}
	if (s->threads_max > 0 && s->service.handle_early && s->service.handle_early(s->service.ctx, req))
		return true;
	if (s->threads_max > 0)
		rpc_server_work_push(s, req);
	else
		s->service.handle(s->service.ctx, req);
	return true;
}

static bool peer_holds_too_much(struct rpc_peer *p)
{
	return p->held >= HELD_MAX || p->held_bytes >= HELD_BYTES_MAX;
}

/* Is it to be let wait? What makes it go on again: its output draining, its requests being answered. */
static bool peer_must_wait(struct rpc_peer *p)
{
	bool unsent;

	pthread_mutex_lock(&p->lock);
	unsent = peer_unsent(p) > UNSENT_PAUSE;
	pthread_mutex_unlock(&p->lock);
	if (!peer_holds_too_much(p))
		return unsent;
	p->too_much = true;
	/* Answered in between? Then nobody else will say so. */
	if (!peer_holds_too_much(p))
		p->too_much = false;
	return unsent || p->too_much;
}

/* Handles the whole frames that are there. Returns false when the peer has to be closed. */
static bool peer_handle(struct rpc_peer *p)
{
	int64_t began = clock_ms();
	struct rpc_frame frame;
	int n = 0;

	while (!peer_must_wait(p)) {
		if (clock_ms() - began > SLICE_MS) {
			if (!p->behind)
				vec_push(&p->server->behind, p);
			p->behind = true;
			return true;
		}
		n = rpc_reader_next(&p->reader, &frame);
		if (n <= 0)
			break;
		if (!request_begin(p, &frame))
			return false;
	}
	if (n < 0)
		peer_misbehaved(p, "sent a malformed frame");
	return n >= 0;
}

/* Returns false when the peer has to be closed. One receive a round keeps peers fair: epoll reports the rest. Before
 * that, what an earlier one brought must have been handled. */
static bool peer_read(struct rpc_peer *p)
{
	int n;

	if (p->behind)
		return true;
	n = rpc_reader_fill(&p->reader, p->fd);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return true;
	if (n < 0 && errno == EMSGSIZE)
		peer_misbehaved(p, "sent descriptors that belong to no frame");
	return n > 0 && peer_handle(p);
}

/* Asks for what it may send now. */
static void peer_rearm(struct rpc_peer *p)
{
	p->paused = p->behind || peer_must_wait(p);
	pthread_mutex_lock(&p->lock);
	peer_arm(p, (p->paused ? 0 : EPOLLIN) | (p->armed & EPOLLOUT));
	pthread_mutex_unlock(&p->lock);
}

/* It may go on: first with what is in memory, which epoll does not know of. */
static void peer_go_on(struct rpc_peer *p)
{
	if (p->fd < 0)
		return;
	if (!p->behind && !peer_handle(p))
		rpc_peer_close(p);
	else
		peer_rearm(p);
}

static void look_again(void *ctx)
{
	struct rpc_peer *p = ctx;

	peer_go_on(p);
	rpc_peer_unref(p);
}

void rpc_server_behind_run(struct rpc_server *s)
{
	size_t n = s->behind.n;

	/* Those that fall behind anew come to the end of the list. */
	for (size_t i = 0; i < n; i++) {
		struct rpc_peer *p = s->behind.v[i];

		if (p == NULL)
			continue;
		s->behind.v[i] = NULL;
		p->behind = false;
		peer_go_on(p);
	}
	if (n > 0) {
		memmove(s->behind.v, s->behind.v + n, (s->behind.n - n) * sizeof(*s->behind.v));
		s->behind.n -= n;
	}
}

void rpc_peer_event(struct rpc_peer *p, uint32_t events)
{
	if (events & EPOLLOUT) {
		pthread_mutex_lock(&p->lock);
		peer_flush(p);
		pthread_mutex_unlock(&p->lock);
	}
	if ((events & (EPOLLHUP | EPOLLERR)) || ((events & EPOLLIN) && !p->paused)) {
		if (!peer_read(p)) {
			rpc_peer_close(p);
			return;
		}
		peer_rearm(p);
	} else if (p->paused && !p->behind) {
		peer_go_on(p); /* its output has drained, perhaps */
	}
}

void rpc_server_dirty_flush(struct rpc_server *s)
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
		/* Let wait for what has just left: no event will tell. */
		if (p->paused && !p->behind && !peer_must_wait(p)) {
			p->behind = true;
			vec_push(&s->behind, p);
		}
	}
	vec_clear(&s->dirty);
}
