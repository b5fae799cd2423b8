/* One peer of a server: its requests decoded and handed on, answers and events back to it. */
#include "engine/rpc_server_private.h"

#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#define UNSENT_EVENT_MAX (1u << 20)
#define UNSENT_PAUSE	 (8u << 20)
#define UNSENT_HARD	 (256u << 20)

static _Atomic uint64_t next_peer_id = 1;

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
	for (const struct rpc_call *call = s->service.table; call->request; call++)
		p->reader.wipe |= call->secret;
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
void rpc_peer_close(struct rpc_peer *p)
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

	if (!rpc_server_on_loop(s)) {
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

	if (rpc_table_find(p->server->service.table, req->number)->secret)
		mem_wipe(req->frame, req->frame_len);
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
	}
	vec_clear(&s->dirty);
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
	req->frame_len = frame->len;
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
		rpc_server_work_push(s, req);
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

void rpc_peer_event(struct rpc_peer *p, uint32_t events)
{
	bool paused;

	if (events & EPOLLOUT) {
		pthread_mutex_lock(&p->lock);
		peer_flush(p);
		pthread_mutex_unlock(&p->lock);
	}
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !(p->paused && !(events & (EPOLLHUP | EPOLLERR))) &&
	    !peer_read(p)) {
		rpc_peer_close(p);
		return;
	}
	pthread_mutex_lock(&p->lock);
	paused = peer_unsent(p) > UNSENT_PAUSE;
	p->paused = paused;
	peer_arm(p, (paused ? 0 : EPOLLIN) | (p->armed & EPOLLOUT));
	pthread_mutex_unlock(&p->lock);
}
