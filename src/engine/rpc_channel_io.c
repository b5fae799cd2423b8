/* What moves the bytes of a channel: writing frames, and the leader's part of reading. */
#include "engine/rpc_channel_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>

/* ---- writing ---- */

int channel_write(struct conn *conn, const struct buf *frame, const int *fds, size_t fd_count, int64_t deadline)
{
	size_t done = 0;

	while (done < frame->len) {
		ssize_t n =
			fd_send(conn->fd, frame->ptr + done, frame->len - done, done ? NULL : fds, done ? 0 : fd_count);
		if (n > 0)
			done += (size_t)n;
		else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
			return -1;
		if (done < frame->len && clock_ms() >= deadline)
			return done > 0 ? -1 : 0;
	}
	return 1;
}

int channel_write_all(struct rpc_channel *c, struct conn *conn, const struct buf *frame, const int *fds,
		      size_t fd_count, int64_t deadline)
{
	size_t before = c->later.len;
	int sent;

	if (before > 0 && frame && fd_count == 0 && before + frame->len <= CHANNEL_LATER_MAX) {
		buf_add(&c->later, frame->ptr, frame->len);
		sent = channel_write(conn, &c->later, NULL, 0, deadline);
		mem_wipe(c->later.ptr + before, frame->len); /* a password may be in it */
		buf_truncate(&c->later, sent == 0 ? before : 0);
		return sent;
	}
	if (before > 0) {
		sent = channel_write(conn, &c->later, NULL, 0, deadline);
		if (sent != 0)
			buf_clear(&c->later);
		if (sent <= 0)
			return sent;
	}
	return frame ? channel_write(conn, frame, fds, fd_count, deadline) : 1;
}

int channel_send_unasked(struct rpc_channel *c, const struct buf *frame, const int *fds, size_t fd_count, bool now)
{
	struct conn *conn = NULL;
	int sent = -1;

	pthread_mutex_lock(&c->send_lock);
	pthread_mutex_lock(&c->lock);
	if (c->conn) {
		conn = c->conn;
		conn->refs++;
	}
	now |= !frame || c->thread_leads || c->later.len + frame->len > CHANNEL_LATER_MAX;
	c->later_waits = conn && !now;
	if (c->later_waits)
		channel_doze_end(c);
	pthread_mutex_unlock(&c->lock);
	if (conn && !now) {
		buf_add(&c->later, frame->ptr, frame->len);
		sent = 1;
	} else if (conn) {
		sent = channel_write_all(c, conn, frame, fds, fd_count, clock_ms() + CHANNEL_SOCKET_WAIT_MS);
	}
	if (conn) {
		if (sent < 0)
			channel_lost_unlocked(c, conn);
		pthread_mutex_lock(&c->lock);
		channel_conn_unref(&conn);
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_unlock(&c->send_lock);
	return sent > 0 ? 0 : -1;
}

/* ---- reading: the leader's part ---- */

static void event_take(struct rpc_channel *c, struct rpc_frame *frame)
{
	const struct rpc_call *call = rpc_table_find(c->table, frame->type);
	struct arena arena;
	struct err err = ERR_NONE;
	void *msg;

	if (call == NULL || c->on_event == NULL) {
		rpc_frame_drop(frame);
		return;
	}
	if (frame->fds_lost) {
		log_warning("out of descriptors: an event of %s could not be taken", c->name);
		rpc_frame_drop(frame);
		return;
	}
	arena_init(&arena);
	msg = arena_alloc(&arena, call->request->size);
	if (rpc_decode(call->request, str_of(frame->bytes, frame->len), frame->fds, frame->fd_count, &arena, msg,
		       &err) < 0) {
		log_error("%s channel: %s", c->name, err.text);
	} else {
		frame->fd_count = 0;
		c->on_event(c->on_event_ctx, frame->type, msg);
	}
	arena_release(&arena);
	rpc_frame_drop(frame);
}

/* Returns true if it was a reply for a caller who waits. One that nobody waits for any more is the channel's thread's.
 */
static bool frame_take(struct rpc_channel *c, struct conn *conn, struct rpc_frame *frame)
{
	_Atomic uint32_t *wake = NULL;
	struct pending *p, *async = NULL;

	if (frame->id == 0) {
		event_take(c, frame);
		return false;
	}
	pthread_mutex_lock(&c->lock);
	p = *channel_pending(c, frame->id);
	if (p && p->state == PENDING_WAIT) {
		p->reply = *frame;
		frame->bytes = NULL;
		frame->fd_count = 0;
		if (p->done) {
			channel_pending_remove(c, p);
			c->async_count--;
			async = p;
		} else {
			wake = channel_settle(p, PENDING_DONE);
		}
	} else if (p == NULL && c->conn == conn) {
		channel_late_add(c, frame);
	}
	pthread_mutex_unlock(&c->lock);
	if (async) {
		channel_async_answered(c, async);
		return false;
	}
	channel_wake(wake);
	rpc_frame_drop(frame);
	return true;
}

/* Receives once, for at most about wait_ms (< 0: without end), and hands out what is whole. Returns -1 when
 * the connection ended, 1 when a reply was among it, else 0. */
static int lead_once(struct rpc_channel *c, struct conn *conn, int64_t wait_ms)
{
	struct rpc_frame frame;
	int n, got = 0;

	if (wait_ms < CHANNEL_SOCKET_WAIT_MS && fd_wait(conn->fd, POLLIN, wait_ms) == 0)
		return 0;
	n = rpc_reader_fill(&conn->reader, conn->fd);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return 0;
	if (n <= 0)
		return -1;
	while ((n = rpc_reader_next(&conn->reader, &frame)) > 0)
		got |= frame_take(c, conn, &frame);
	if (n < 0)
		log_error("%s channel: the peer sent a malformed frame", c->name);
	return n < 0 ? -1 : got;
}

int channel_lead_step(struct rpc_channel *c, int64_t wait_ms)
{
	struct conn *conn = c->conn;
	int got;

	c->leader = true;
	conn->refs++;
	pthread_mutex_unlock(&c->lock);
	got = lead_once(c, conn, wait_ms);
	if (got < 0)
		channel_lost_unlocked(c, conn);
	pthread_mutex_lock(&c->lock);
	c->frames_read++;
	channel_conn_unref(&conn);
	return got;
}
