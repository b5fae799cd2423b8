/* The calls of a channel: the list of those under way, sending one, waiting for its reply, leading meanwhile. */
#include "engine/rpc_channel_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BUSY_CODE	    "4.3.2"
#define SECRET_REQUEST_SIZE (32u << 10) /* no request with a password in it is larger */

/* ---- the list of calls; all under lock ---- */

void channel_pending_add(struct rpc_channel *c, struct pending *p)
{
	struct pending **bucket;

	p->id = ++c->next_id;
	bucket = &c->buckets[p->id % CHANNEL_BUCKETS];
	p->bucket_next = *bucket;
	*bucket = p;
	p->prev = c->last;
	if (c->last)
		c->last->next = p;
	else
		c->first = p;
	c->last = p;
}

struct pending **channel_pending(struct rpc_channel *c, uint64_t id)
{
	struct pending **at = &c->buckets[id % CHANNEL_BUCKETS];

	while (*at && (*at)->id != id)
		at = &(*at)->bucket_next;
	return at;
}

void channel_pending_remove(struct rpc_channel *c, struct pending *p)
{
	*channel_pending(c, p->id) = p->bucket_next;
	if (p->prev)
		p->prev->next = p->next;
	else
		c->first = p->next;
	if (p->next)
		p->next->prev = p->prev;
	else
		c->last = p->prev;
}

_Atomic uint32_t *channel_settle(struct pending *p, enum pending_state state)
{
	p->state = state;
	p->woken = 1;
	return p->waiting ? &p->woken : NULL;
}

_Atomic uint32_t *channel_lead_pass_on(struct rpc_channel *c)
{
	c->leader = false;
	if (c->async_count > 0)
		pthread_cond_signal(&c->thread_wake);
	for (struct pending *p = c->first; p; p = p->next) {
		if (p->waiting && p->state == PENDING_WAIT) {
			p->woken = 1;
			return &p->woken;
		}
	}
	channel_doze_end(c);
	return NULL;
}

/* ---- calling ---- */

static bool send_lock_until(struct rpc_channel *c, int64_t deadline)
{
	struct timespec until = channel_timespec(deadline);

	if (pthread_mutex_trylock(&c->send_lock) == 0)
		return true;
#ifdef __SANITIZE_THREAD__
	/* It does not know pthread_mutex_clocklock(). */
	clock_gettime(CLOCK_REALTIME, &until);
	until = channel_timespec((int64_t)until.tv_sec * 1000 + until.tv_nsec / 1000000 + deadline - clock_ms());
	return pthread_mutex_timedlock(&c->send_lock, &until) == 0;
#else
	return pthread_mutex_clocklock(&c->send_lock, CLOCK_MONOTONIC, &until) == 0;
#endif
}

/* Sends a registered call if there is a connection and nobody (an attach) has sent it meanwhile. */
static void pending_send(struct rpc_channel *c, struct pending *p, int64_t deadline)
{
	struct conn *conn = NULL;
	int sent;

	if (!send_lock_until(c, deadline))
		return;
	pthread_mutex_lock(&c->lock);
	if (c->conn && !p->sent && p->state == PENDING_WAIT) {
		conn = c->conn;
		conn->refs++;
		p->sent = true;
	}
	pthread_mutex_unlock(&c->lock);
	if (conn) {
		sent = channel_write_all(c, conn, p->request, p->fds, p->fd_count, deadline);
		if (sent < 0)
			channel_lost_unlocked(c, conn);
		pthread_mutex_lock(&c->lock);
		channel_conn_unref(&conn);
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_unlock(&c->send_lock);
}

/* Until *word is not 0 any more, the time has come, or for no reason. */
static void futex_wait_until(_Atomic uint32_t *word, const struct timespec *monotonic)
{
	syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, 0, monotonic, NULL, FUTEX_BITSET_MATCH_ANY);
}

int channel_encode(struct buf *out, const struct rpc_call *call, const void *request, int *fds, size_t *fd_count,
		   struct err *err)
{
	size_t at;

	/* So that it is not moved as it grows, and parts of it stay behind. */
	if (call->secret && buf_reserve(out, SECRET_REQUEST_SIZE) == NULL)
		return err_set(err, ERR_LIMIT, "4.3.0", "request too large");
	at = rpc_header_begin(out);
	if (rpc_encode(call->request, request, out, fds, fd_count, err) < 0)
		return -1;
	rpc_header_put(out, at, call->number, 0, *fd_count);
	return 0;
}

/* Under lock. Waits until the call is settled or the deadline has come, leading when nobody does. Returns what to
 * channel_wake() once the lock is given up. */
static _Atomic uint32_t *pending_wait(struct rpc_channel *c, struct pending *p, int64_t deadline)
{
	struct timespec until = channel_timespec(deadline);
	_Atomic uint32_t *wake = NULL;

	while (p->state == PENDING_WAIT) {
		int64_t left = deadline - clock_ms();
		if (left <= 0)
			break;
		if (c->conn && !c->leader && !c->closing) {
			while (p->state == PENDING_WAIT && c->conn && (left = deadline - clock_ms()) > 0)
				channel_lead_step(c, left);
			channel_wake(wake);
			wake = channel_lead_pass_on(c);
			continue;
		}
		p->waiting = true;
		p->woken = 0;
		pthread_mutex_unlock(&c->lock);
		channel_wake(wake);
		wake = NULL;
		futex_wait_until(&p->woken, &until);
		pthread_mutex_lock(&c->lock);
		p->waiting = false;
	}
	return wake;
}

static int reply_failure(struct rpc_channel *c, enum err_kind kind, struct str body, const struct rpc_frame *frame,
			 struct err *err)
{
	struct rpc_failure f;
	struct arena arena;

	arena_init(&arena);
	if (kind > ERR_LOST || rpc_decode(&rpc_failure_type, body, frame->fds, frame->fd_count, &arena, &f, NULL) < 0) {
		err_set(err, ERR_TEMP, "4.3.0", "%s: malformed refusal", c->name);
	} else {
		char code[sizeof(err->code)];
		snprintf(code, sizeof(code), "%.*s", STR_ARG(f.code));
		err_set(err, kind, code, "%.*s", STR_ARG(f.text));
		if (err)
			err->sys = (int)f.sys;
	}
	arena_release(&arena);
	return -1;
}

int channel_reply_take(struct rpc_channel *c, const struct rpc_call *call, struct rpc_frame *frame, void *reply_r,
		       struct rpc_reply *hold, struct err *err)
{
	struct str body = str_of(frame->bytes, frame->len);
	enum err_kind kind = body.len > 0 ? (enum err_kind)(uint8_t)body.ptr[0] : ERR_LOST;
	int result = -1;

	if (kind != ERR_OK) {
		reply_failure(c, kind, str_skip(body, 1), frame, err);
	} else if (call->reply == NULL) {
		result = 0;
	} else if (frame->fds_lost) {
		/* What it names, the caller may have to give back. */
		(void)!rpc_decode_without_fds(call->reply, str_skip(body, 1), &hold->arena, reply_r, NULL);
		free(hold->frame);
		hold->frame = frame->bytes;
		frame->bytes = NULL;
		log_warning("out of descriptors: what %s opened for us could not be taken", c->name);
		err_set(err, ERR_TEMP, "4.3.0", "out of descriptors");
		if (err)
			err->sys = EMFILE;
	} else if (rpc_decode(call->reply, str_skip(body, 1), frame->fds, frame->fd_count, &hold->arena, reply_r,
			      err) == 0) {
		frame->fd_count = 0;
		free(hold->frame);
		hold->frame = frame->bytes;
		frame->bytes = NULL;
		result = 0;
	}
	rpc_frame_drop(frame);
	return result;
}

static void request_release(struct buf *frame, bool secret)
{
	if (secret && frame->size > 0)
		mem_wipe(frame->ptr, frame->len);
	buf_release(frame);
}

static int call_outcome(struct rpc_channel *c, struct pending *p, struct err *err)
{
	if (p->state == PENDING_DONE)
		return 0;
	if (p->state == PENDING_LOST)
		return err_set(err, ERR_LOST, "4.3.0", "%s went away before it answered", c->name);
	return err_set(err, ERR_TEMP, "4.3.0", "%s did not answer in time", c->name);
}

bool rpc_is_busy(const struct err *err)
{
	return err->kind == ERR_TEMP && str_eq(str_from(err->code), STR(BUSY_CODE));
}

/* Sends the frame, whose header has place for the id, and waits for what answers it. 0: p->reply is the caller's. */
static int exchange(struct rpc_channel *c, struct pending *p, uint16_t number, struct buf *frame, int64_t timeout_ms,
		    struct err *err)
{
	enum block_kind kind = p->secret ? BLOCK_LOGIN : c->block;
	int64_t deadline = clock_ms() + timeout_ms;
	_Atomic uint32_t *wake;
	int result;

	if (!engine_block_try(kind))
		return err_set(err, ERR_TEMP, BUSY_CODE, "%s is too busy", c->name);
	pthread_mutex_lock(&c->lock);
	channel_pending_add(c, p);
	if (c->closing || c->given_up)
		p->state = PENDING_LOST;
	rpc_header_put(frame, 0, number, p->id, p->fd_count);
	pthread_mutex_unlock(&c->lock);
	pending_send(c, p, deadline);

	pthread_mutex_lock(&c->lock);
	wake = pending_wait(c, p, deadline);
	channel_pending_remove(c, p);
	result = call_outcome(c, p, err);
	pthread_mutex_unlock(&c->lock);
	channel_wake(wake);
	engine_block_end(kind);
	return result;
}

int rpc_call(struct rpc_channel *c, const struct rpc_call *call, const void *request, void *reply_r,
	     struct rpc_reply *hold, bool repeatable, int64_t timeout_ms, struct err *err)
{
	int fds[FD_PASS_MAX];
	struct buf frame;
	struct pending p = {.repeatable = repeatable, .secret = call->secret, .request = &frame, .fds = fds};
	int result;

	buf_init(&frame, RPC_FRAME_MAX + RPC_HEADER_SIZE);
	result = channel_encode(&frame, call, request, fds, &p.fd_count, err);
	if (result == 0)
		result = exchange(c, &p, call->number, &frame, timeout_ms, err);
	request_release(&frame, call->secret);
	return result < 0 ? -1 : channel_reply_take(c, call, &p.reply, reply_r, hold, err);
}

static int send_request(struct rpc_channel *c, const struct rpc_call *call, const void *request, bool now)
{
	int fds[FD_PASS_MAX];
	size_t fd_count = 0;
	struct buf frame;
	struct err err = ERR_NONE;
	int sent;

	buf_init(&frame, RPC_FRAME_MAX + RPC_HEADER_SIZE);
	if (channel_encode(&frame, call, request, fds, &fd_count, &err) < 0) {
		log_error("%s channel: %s", c->name, err.text);
		buf_release(&frame);
		return -1;
	}
	sent = channel_send_unasked(c, &frame, fds, fd_count, now || fd_count > 0);
	buf_release(&frame);
	return sent;
}

int rpc_send(struct rpc_channel *c, const struct rpc_call *call, const void *request)
{
	return send_request(c, call, request, true);
}

int rpc_send_later(struct rpc_channel *c, const struct rpc_call *call, const void *request)
{
	return send_request(c, call, request, false);
}

#ifdef POSTRIDER_TEST

int rpc_channel_raw_call(struct rpc_channel *c, uint16_t number, struct str body, const int *fds, size_t fd_count,
			 int64_t timeout_ms, struct buf *reply, struct err *err)
{
	struct buf frame;
	struct pending p = {.request = &frame, .fds = fds, .fd_count = fd_count};
	int result;

	buf_init(&frame, RPC_FRAME_MAX + RPC_HEADER_SIZE);
	(void)rpc_header_begin(&frame);
	buf_add(&frame, body.ptr, body.len);
	result = exchange(c, &p, number, &frame, timeout_ms, err);
	buf_release(&frame);
	if (result < 0)
		return -1;
	buf_add(reply, p.reply.bytes, p.reply.len);
	rpc_frame_drop(&p.reply);
	return 0;
}

int rpc_channel_raw_send(struct rpc_channel *c, struct str bytes, const int *fds, size_t fd_count)
{
	struct buf frame;
	int sent;

	buf_init(&frame, RPC_FRAME_MAX + RPC_HEADER_SIZE);
	buf_add(&frame, bytes.ptr, bytes.len);
	sent = channel_send_unasked(c, &frame, fds, fd_count, true);
	buf_release(&frame);
	return sent;
}

#endif
