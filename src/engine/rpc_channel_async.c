/* Calls that nobody waits for, and what is sent by the clock of the channel's owner. */
#include "engine/rpc_channel_private.h"

#include "base/clock.h"
#include "base/mem.h"

void channel_async_end(struct rpc_channel *c, struct pending *p)
{
	channel_pending_remove(c, p);
	c->async_count--;
	p->next = c->async_over;
	c->async_over = p;
}

void channel_async_tell(struct rpc_channel *c)
{
	struct pending *p;
	struct err err = ERR_NONE;

	pthread_mutex_lock(&c->lock);
	p = c->async_over;
	c->async_over = NULL;
	pthread_mutex_unlock(&c->lock);
	while (p) {
		struct pending *next = p->next;

		if (p->late)
			err_set(&err, ERR_TEMP, "4.3.0", "%s did not answer in time", c->name);
		else
			err_set(&err, ERR_LOST, "4.3.0", "%s went away before it answered", c->name);
		p->done(p->ctx, NULL, &err);
		free(p);
		p = next;
	}
}

void channel_async_answered(struct rpc_channel *c, struct pending *p)
{
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	void *reply;
	int rc;

	rpc_reply_init(&hold);
	reply = arena_alloc(&hold.arena, p->call->reply->size);
	rc = channel_reply_take(c, p->call, &p->reply, reply, &hold, &err);
	p->done(p->ctx, rc == 0 ? reply : NULL, &err);
	rpc_reply_release(&hold);
	free(p);
}

/* Under lock. */
static void async_expire(struct rpc_channel *c)
{
	int64_t now = clock_ms();

	for (struct pending *p = c->first, *next; p && c->async_count > 0; p = next) {
		next = p->next;
		if (p->done && p->deadline <= now) {
			p->late = true;
			channel_async_end(c, p);
		}
	}
}

/* Under send_lock. Registers the call and puts its number into the frame. NULL: not possible now. */
static struct conn *async_register(struct rpc_channel *c, struct pending *p, struct buf *frame)
{
	struct conn *conn = NULL;

	pthread_mutex_lock(&c->lock);
	if (c->conn && !c->closing && c->async_count < c->async_max) {
		conn = c->conn;
		conn->refs++;
		channel_pending_add(c, p);
		p->sent = true;
		c->async_count++;
		rpc_header_put(frame, 0, p->call->number, p->id, 0);
		if (!c->leader)
			pthread_cond_signal(&c->thread_wake);
	}
	pthread_mutex_unlock(&c->lock);
	return conn;
}

void rpc_channel_async_max(struct rpc_channel *c, size_t most)
{
	c->async_max = most;
}

int rpc_call_async(struct rpc_channel *c, const struct rpc_call *call, const void *request, int64_t timeout_ms,
		   rpc_done *done, void *ctx)
{
	struct pending *p = NEW(struct pending);
	struct conn *conn = NULL;
	int fds[FD_PASS_MAX], sent = -1;
	size_t fd_count = 0;
	struct buf frame;
	struct err err = ERR_NONE;

	*p = (struct pending){.done = done, .ctx = ctx, .call = call, .deadline = clock_ms() + timeout_ms};
	buf_init(&frame, RPC_FRAME_MAX + RPC_HEADER_SIZE);
	pthread_mutex_lock(&c->send_lock);
	if (channel_encode(&frame, call, request, fds, &fd_count, &err) == 0 && fd_count == 0)
		conn = async_register(c, p, &frame);
	if (conn)
		sent = channel_write_all(c, conn, &frame, NULL, 0, clock_ms() + CHANNEL_SOCKET_WAIT_MS);
	pthread_mutex_unlock(&c->send_lock);
	buf_release(&frame);
	if (!conn) {
		free(p);
		return -1;
	}
	/* What left in part breaks the connection, and `done` hears of that; what did not leave at all is late. */
	if (sent < 0)
		channel_lost_unlocked(c, conn);
	pthread_mutex_lock(&c->lock);
	channel_conn_unref(&conn);
	pthread_mutex_unlock(&c->lock);
	return 0;
}

int rpc_send_gather(struct rpc_channel *c, const struct rpc_call *call, const void *request)
{
	struct buf frame;
	int fds[FD_PASS_MAX], result = -1;
	size_t fd_count = 0;
	struct err err = ERR_NONE;

	buf_init(&frame, RPC_FRAME_MAX + RPC_HEADER_SIZE);
	if (channel_encode(&frame, call, request, fds, &fd_count, &err) == 0 && fd_count == 0) {
		pthread_mutex_lock(&c->send_lock);
		if (rpc_channel_connected(c) && c->later.len + frame.len <= CHANNEL_LATER_MAX) {
			buf_add(&c->later, frame.ptr, frame.len);
			result = 0;
		}
		pthread_mutex_unlock(&c->send_lock);
		if (result < 0)
			result = channel_send_unasked(c, &frame, NULL, 0, true);
	}
	buf_release(&frame);
	return result;
}

bool rpc_channel_tend(struct rpc_channel *c)
{
	bool more;

	(void)channel_send_unasked(c, NULL, NULL, 0, true);
	pthread_mutex_lock(&c->lock);
	async_expire(c);
	more = c->async_count > 0;
	pthread_mutex_unlock(&c->lock);
	channel_async_tell(c);
	return more;
}
