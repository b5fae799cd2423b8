/* The calling side of a channel.
 *
 * Who reads. At any time at most one thread, the leader, receives from the socket and hands frames to the
 * calls they answer. A caller that finds no leader leads until its own reply has come, then wakes the oldest
 * other waiting caller to lead on: alone, a call costs no wake-up on this side at all. The channel's own
 * thread leads when nobody else has for LEAD_GRACE_MS, so that events and the end of the connection are
 * noticed while nobody calls; it gives way as soon as it has handed out a reply.
 *
 * What nobody waits for (rpc_send_later) gathers in `later` and goes out with the next frame. Should none come,
 * the channel's thread sends it, which looks every LEAD_GRACE_MS while others lead; while that thread leads
 * itself, nobody calls, and it is sent at once.
 *
 * Shared: everything below `lock`, by that lock; writing to the socket and `later`, by `send_lock`, which is taken
 * before `lock` where both are needed; `reader` of a connection belongs to the leader.
 *
 * A call lives on its caller's stack and is registered under `lock` until the caller takes it out. Its caller
 * sleeps on a futex, not on a condition: so he can be woken after the lock was given up, and does not wake only
 * to wait for it. The word may be gone by then; a wake-up that meets nobody, or somebody else, does no harm. */
#include "engine/rpc_wire.h"

#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define LEAD_GRACE_MS  10
#define BUCKETS	       64
#define LATER_MAX      (16u << 10)
#define SOCKET_WAIT_MS 1000 /* how long one receive or send may block before deadlines are looked at */

struct conn {
	int fd;
	unsigned refs; /* under lock */
	bool broken;   /* under lock */
	struct rpc_reader reader;
};

enum pending_state { PENDING_WAIT, PENDING_DONE, PENDING_LOST };

struct pending {
	uint64_t id;
	struct pending *bucket_next;
	struct pending *prev, *next; /* all calls, oldest first */
	_Atomic uint32_t woken;	     /* what its caller sleeps on */
	bool waiting;		     /* asleep: may be told to lead */
	enum pending_state state;
	bool repeatable, sent;
	const struct buf *request;
	const int *fds;
	size_t fd_count;
	struct rpc_frame reply;
};

struct rpc_channel {
	char *name;
	const struct rpc_call *table;
	enum block_kind block;
	void (*on_event)(void *ctx, uint16_t number, const void *msg);
	void *on_event_ctx;
	void (*on_link)(void *ctx, bool up);
	void *on_link_ctx;

	pthread_mutex_t send_lock;
	struct buf later; /* frames without descriptors */
	pthread_mutex_t lock;
	struct conn *conn; /* NULL: no connection */
	uint64_t generation;
	uint64_t next_id;
	bool leader;	      /* somebody reads */
	bool thread_leads;    /* it is the channel's thread */
	bool later_waits;     /* there is something in `later`, and the thread shall see to it */
	uint64_t frames_read; /* how the channel's thread sees that others read */
	bool closing;
	struct pending *first, *last;
	struct pending *buckets[BUCKETS];
	pthread_cond_t thread_wake;
	pthread_t thread;
};

/* ---- small things ---- */

static void cond_init_monotonic(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

static struct timespec timespec_at(int64_t monotonic_ms)
{
	return (struct timespec){.tv_sec = monotonic_ms / 1000, .tv_nsec = monotonic_ms % 1000 * 1000000};
}

static void futex_wake(_Atomic uint32_t *word)
{
	if (word)
		syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Until *word is not 0 any more, the time has come, or for no reason. */
static void futex_wait_until(_Atomic uint32_t *word, const struct timespec *monotonic)
{
	syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, 0, monotonic, NULL, FUTEX_BITSET_MATCH_ANY);
}

static void conn_unref(struct conn **conn)
{
	struct conn *k = *conn;

	*conn = NULL;
	if (--k->refs > 0)
		return;
	close(k->fd);
	rpc_reader_release(&k->reader);
	free(k);
}

static enum block_kind block_kind_of(const char *name)
{
	static const struct {
		const char *name;
		enum block_kind kind;
	} kinds[] = {
		{"store", BLOCK_STORE}, {"directory", BLOCK_DIRECTORY}, {"dns", BLOCK_DNS}, {"queue", BLOCK_QUEUE}};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].name, name) == 0)
			return kinds[i].kind;
	return BLOCK_FILTER;
}

/* ---- the list of calls; all under lock ---- */

static void pending_add(struct rpc_channel *c, struct pending *p)
{
	struct pending **bucket;

	p->id = ++c->next_id;
	bucket = &c->buckets[p->id % BUCKETS];
	p->bucket_next = *bucket;
	*bucket = p;
	p->prev = c->last;
	if (c->last)
		c->last->next = p;
	else
		c->first = p;
	c->last = p;
}

static struct pending **pending_slot(struct rpc_channel *c, uint64_t id)
{
	struct pending **at = &c->buckets[id % BUCKETS];

	while (*at && (*at)->id != id)
		at = &(*at)->bucket_next;
	return at;
}

static void pending_remove(struct rpc_channel *c, struct pending *p)
{
	*pending_slot(c, p->id) = p->bucket_next;
	if (p->prev)
		p->prev->next = p->next;
	else
		c->first = p->next;
	if (p->next)
		p->next->prev = p->prev;
	else
		c->last = p->prev;
}

/* Returns what to futex_wake() once the lock is given up, if anything. */
static _Atomic uint32_t *pending_settle(struct pending *p, enum pending_state state) WARN_UNUSED;
static _Atomic uint32_t *pending_settle(struct pending *p, enum pending_state state)
{
	p->state = state;
	p->woken = 1;
	return p->waiting ? &p->woken : NULL;
}

/* Somebody else must lead on: the oldest call that still waits, or the channel's thread after its grace. Returns
 * what to futex_wake(). */
static _Atomic uint32_t *lead_pass_on(struct rpc_channel *c) WARN_UNUSED;
static _Atomic uint32_t *lead_pass_on(struct rpc_channel *c)
{
	c->leader = false;
	for (struct pending *p = c->first; p; p = p->next) {
		if (p->waiting && p->state == PENDING_WAIT) {
			p->woken = 1;
			return &p->woken;
		}
	}
	return NULL;
}

/* ---- the connection breaks ---- */

/* Under lock. Returns true if it was the channel's connection: the caller then tells on_link, unlocked. */
static bool conn_lost(struct rpc_channel *c, struct conn *conn)
{
	if (!conn->broken) {
		conn->broken = true;
		shutdown(conn->fd, SHUT_RDWR);
	}
	if (c->conn != conn)
		return false;
	for (struct pending *p = c->first; p; p = p->next) {
		if (!p->sent || p->state != PENDING_WAIT)
			continue;
		p->sent = false;
		if (!p->repeatable)
			futex_wake(pending_settle(p, PENDING_LOST));
	}
	conn_unref(&c->conn);
	return true;
}

static void link_tell(struct rpc_channel *c, bool up)
{
	if (c->on_link)
		c->on_link(c->on_link_ctx, up);
}

static void conn_lost_unlocked(struct rpc_channel *c, struct conn *conn)
{
	bool was_ours;

	pthread_mutex_lock(&c->lock);
	was_ours = conn_lost(c, conn);
	pthread_mutex_unlock(&c->lock);
	if (was_ours)
		link_tell(c, false);
}

/* ---- writing ---- */

/* Under send_lock. Writes a whole frame, unless the deadline comes first or the connection breaks; a frame
 * that stays half written breaks it. */
static int conn_write(struct conn *conn, const struct buf *frame, const int *fds, size_t fd_count, int64_t deadline)
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

/* Under send_lock. Writes what waits in `later` and then the frame (or NULL); returns as conn_write(). */
static int conn_write_all(struct rpc_channel *c, struct conn *conn, const struct buf *frame, const int *fds,
			  size_t fd_count, int64_t deadline)
{
	size_t before = c->later.len;
	int sent;

	if (before > 0 && frame && fd_count == 0 && before + frame->len <= LATER_MAX) {
		buf_add(&c->later, frame->ptr, frame->len);
		sent = conn_write(conn, &c->later, NULL, 0, deadline);
		buf_truncate(&c->later, sent == 0 ? before : 0);
		return sent;
	}
	if (before > 0) {
		sent = conn_write(conn, &c->later, NULL, 0, deadline);
		if (sent != 0)
			buf_clear(&c->later);
		if (sent <= 0)
			return sent;
	}
	return frame ? conn_write(conn, frame, fds, fd_count, deadline) : 1;
}

static bool send_lock_until(struct rpc_channel *c, int64_t deadline)
{
	struct timespec until;
	int64_t at;

	if (pthread_mutex_trylock(&c->send_lock) == 0)
		return true;
	/* pthread_mutex_clocklock() would do, but the sanitizers do not know it. */
	clock_gettime(CLOCK_REALTIME, &until);
	at = (int64_t)until.tv_sec * 1000 + until.tv_nsec / 1000000 + deadline - clock_ms();
	until = timespec_at(at);
	return pthread_mutex_timedlock(&c->send_lock, &until) == 0;
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
		sent = conn_write_all(c, conn, p->request, p->fds, p->fd_count, deadline);
		if (sent < 0)
			conn_lost_unlocked(c, conn);
		pthread_mutex_lock(&c->lock);
		conn_unref(&conn);
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_unlock(&c->send_lock);
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

/* Returns true if it was a reply. One that nobody waits for any more is dropped. */
static bool frame_take(struct rpc_channel *c, struct rpc_frame *frame)
{
	_Atomic uint32_t *wake = NULL;
	struct pending *p;

	if (frame->id == 0) {
		event_take(c, frame);
		return false;
	}
	pthread_mutex_lock(&c->lock);
	p = *pending_slot(c, frame->id);
	if (p && p->state == PENDING_WAIT) {
		p->reply = *frame;
		frame->bytes = NULL;
		frame->fd_count = 0;
		wake = pending_settle(p, PENDING_DONE);
	}
	pthread_mutex_unlock(&c->lock);
	futex_wake(wake);
	rpc_frame_drop(frame);
	return true;
}

/* Receives once, for at most about wait_ms (< 0: without end), and hands out what is whole. Returns -1 when
 * the connection ended, 1 when a reply was among it, else 0. */
static int lead_once(struct rpc_channel *c, struct conn *conn, int64_t wait_ms)
{
	struct rpc_frame frame;
	int n, got = 0;

	if (wait_ms < SOCKET_WAIT_MS && fd_wait(conn->fd, POLLIN, wait_ms) == 0)
		return 0;
	n = rpc_reader_fill(&conn->reader, conn->fd);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return 0;
	if (n <= 0)
		return -1;
	while ((n = rpc_reader_next(&conn->reader, &frame)) > 0)
		got |= frame_take(c, &frame);
	if (n < 0)
		log_error("%s channel: the peer sent a malformed frame", c->name);
	return n < 0 ? -1 : got;
}

/* Under lock; gives it up meanwhile. Leads one receive on the current connection. Returns as lead_once(). */
static int lead_step(struct rpc_channel *c, int64_t wait_ms)
{
	struct conn *conn = c->conn;
	int got;

	c->leader = true;
	conn->refs++;
	pthread_mutex_unlock(&c->lock);
	got = lead_once(c, conn, wait_ms);
	if (got < 0)
		conn_lost_unlocked(c, conn);
	pthread_mutex_lock(&c->lock);
	c->frames_read++;
	conn_unref(&conn);
	return got;
}

/* Sends a frame (or NULL) behind what waits in `later`; now, or with `later` when something comes along. Returns 0,
 * or -1 when there is no connection. */
static int send_unasked(struct rpc_channel *c, const struct buf *frame, const int *fds, size_t fd_count, bool now)
{
	struct conn *conn = NULL;
	int sent = -1;

	pthread_mutex_lock(&c->send_lock);
	pthread_mutex_lock(&c->lock);
	if (c->conn) {
		conn = c->conn;
		conn->refs++;
	}
	now |= c->thread_leads || c->later.len + (frame ? frame->len : 0) > LATER_MAX;
	c->later_waits = conn && !now;
	pthread_mutex_unlock(&c->lock);
	if (conn && !now) {
		buf_add(&c->later, frame->ptr, frame->len);
		sent = 1;
	} else if (conn) {
		sent = conn_write_all(c, conn, frame, fds, fd_count, clock_ms() + SOCKET_WAIT_MS);
	}
	if (conn) {
		if (sent < 0)
			conn_lost_unlocked(c, conn);
		pthread_mutex_lock(&c->lock);
		conn_unref(&conn);
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_unlock(&c->send_lock);
	return sent > 0 ? 0 : -1;
}

static void *channel_thread(void *arg)
{
	struct rpc_channel *c = arg;
	uint64_t seen = 0;
	struct timespec until;

	pthread_mutex_lock(&c->lock);
	while (!c->closing) {
		if (c->conn == NULL) {
			pthread_cond_wait(&c->thread_wake, &c->lock);
			continue;
		}
		if (c->later_waits) {
			c->later_waits = false;
			pthread_mutex_unlock(&c->lock);
			(void)send_unasked(c, NULL, NULL, 0, true);
			pthread_mutex_lock(&c->lock);
			continue;
		}
		if (c->leader || seen != c->frames_read) {
			seen = c->frames_read;
			until = timespec_at(clock_ms() + LEAD_GRACE_MS);
			pthread_cond_timedwait(&c->thread_wake, &c->lock, &until);
			continue;
		}
		c->thread_leads = true;
		while (!c->closing && c->conn && lead_step(c, -1) == 0)
			;
		c->thread_leads = false;
		futex_wake(lead_pass_on(c));
		seen = c->frames_read - 1;
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* ---- life ---- */

struct rpc_channel *rpc_channel_new(const char *name, const struct rpc_call *table)
{
	struct rpc_channel *c = NEW(struct rpc_channel);

	c->name = mem_strdup(name);
	c->table = table;
	c->block = block_kind_of(name);
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->send_lock, NULL);
	cond_init_monotonic(&c->thread_wake);
	buf_init(&c->later, LATER_MAX + RPC_HEADER_SIZE);
	if (pthread_create(&c->thread, NULL, channel_thread, c) != 0)
		die(71, "cannot start a thread");
	return c;
}

void rpc_channel_free(struct rpc_channel **channel)
{
	struct rpc_channel *c = *channel;

	if (c == NULL)
		return;
	*channel = NULL;
	(void)send_unasked(c, NULL, NULL, 0, true);
	pthread_mutex_lock(&c->lock);
	c->closing = true;
	if (c->conn)
		conn_lost(c, c->conn);
	pthread_cond_signal(&c->thread_wake);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	invariant(c->first == NULL);
	pthread_cond_destroy(&c->thread_wake);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->send_lock);
	buf_release(&c->later);
	free(c->name);
	free(c);
}

static struct conn *conn_new(int fd)
{
	struct timeval wait = {.tv_sec = SOCKET_WAIT_MS / 1000};
	struct conn *conn = NEW(struct conn);

	conn->fd = fd;
	conn->refs = 1;
	fd_nonblocking(fd, false);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	return conn;
}

/* Under send_lock: calls made without a connection, and repeatable ones that the old one lost, go out first. */
static void resend_all(struct rpc_channel *c, struct conn *conn)
{
	struct pending *p;
	uint64_t after = 0;

	for (;;) {
		struct buf copy;
		int fds[FD_PASS_MAX];
		size_t fd_count = 0;

		pthread_mutex_lock(&c->lock);
		for (p = c->first; p && (p->id <= after || p->sent || p->state != PENDING_WAIT); p = p->next)
			;
		if (p == NULL || c->conn != conn) {
			pthread_mutex_unlock(&c->lock);
			return;
		}
		after = p->id;
		p->sent = true;
		/* The caller may give up meanwhile: his bytes and descriptors are copied. */
		buf_init(&copy, p->request->len);
		buf_add(&copy, p->request->ptr, p->request->len);
		for (; fd_count < p->fd_count; fd_count++)
			fds[fd_count] = fcntl(p->fds[fd_count], F_DUPFD_CLOEXEC, 0);
		pthread_mutex_unlock(&c->lock);
		if (conn_write(conn, &copy, fds, fd_count, clock_ms() + SOCKET_WAIT_MS) <= 0)
			conn_lost_unlocked(c, conn);
		buf_release(&copy);
		while (fd_count > 0)
			fd_close(&fds[--fd_count]);
	}
}

void rpc_channel_attach(struct rpc_channel *c, int fd)
{
	struct conn *conn = conn_new(fd);
	bool lost;

	pthread_mutex_lock(&c->lock);
	lost = c->conn && conn_lost(c, c->conn);
	pthread_mutex_unlock(&c->lock);
	if (lost)
		link_tell(c, false);

	pthread_mutex_lock(&c->send_lock);
	pthread_mutex_lock(&c->lock);
	c->conn = conn;
	conn->refs++;
	c->generation++;
	c->frames_read++;
	pthread_mutex_unlock(&c->lock);
	buf_clear(&c->later); /* meant for the old one */
	resend_all(c, conn);
	pthread_mutex_unlock(&c->send_lock);
	link_tell(c, true);

	pthread_mutex_lock(&c->lock);
	conn_unref(&conn);
	pthread_cond_signal(&c->thread_wake);
	if (!c->leader)
		futex_wake(lead_pass_on(c));
	pthread_mutex_unlock(&c->lock);
}

bool rpc_channel_connected(struct rpc_channel *c)
{
	bool connected;

	pthread_mutex_lock(&c->lock);
	connected = c->conn != NULL;
	pthread_mutex_unlock(&c->lock);
	return connected;
}

uint64_t rpc_channel_generation(struct rpc_channel *c)
{
	uint64_t generation;

	pthread_mutex_lock(&c->lock);
	generation = c->generation;
	pthread_mutex_unlock(&c->lock);
	return generation;
}

void rpc_channel_on_event(struct rpc_channel *c, void (*fn)(void *ctx, uint16_t number, const void *msg), void *ctx)
{
	c->on_event = fn;
	c->on_event_ctx = ctx;
}

void rpc_channel_on_link(struct rpc_channel *c, void (*fn)(void *ctx, bool up), void *ctx)
{
	c->on_link = fn;
	c->on_link_ctx = ctx;
}

void rpc_reply_init(struct rpc_reply *r)
{
	arena_init(&r->arena);
	r->frame = NULL;
}

void rpc_reply_release(struct rpc_reply *r)
{
	arena_release(&r->arena);
	free(r->frame);
	r->frame = NULL;
}

/* ---- calling ---- */

/* Builds the frame; the id is put in when the call is registered. */
static int request_encode(struct buf *out, const struct rpc_call *call, const void *request, int *fds, size_t *fd_count,
			  struct err *err)
{
	size_t at = rpc_header_begin(out);

	if (rpc_encode(call->request, request, out, fds, fd_count, err) < 0)
		return -1;
	rpc_header_put(out, at, call->number, 0, *fd_count);
	return 0;
}

/* Under lock. Waits until the call is settled or the deadline has come, leading when nobody does. Returns what to
 * futex_wake() once the lock is given up. */
static _Atomic uint32_t *pending_wait(struct rpc_channel *c, struct pending *p, int64_t deadline)
{
	struct timespec until = timespec_at(deadline);
	_Atomic uint32_t *wake = NULL;

	while (p->state == PENDING_WAIT) {
		int64_t left = deadline - clock_ms();
		if (left <= 0)
			break;
		if (c->conn && !c->leader && !c->closing) {
			while (p->state == PENDING_WAIT && c->conn && (left = deadline - clock_ms()) > 0)
				lead_step(c, left);
			futex_wake(wake);
			wake = lead_pass_on(c);
			continue;
		}
		p->waiting = true;
		p->woken = 0;
		pthread_mutex_unlock(&c->lock);
		futex_wake(wake);
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

/* The reply's bytes pass to hold, its descriptors to *reply_r. */
static int reply_take(struct rpc_channel *c, const struct rpc_call *call, struct rpc_frame *frame, void *reply_r,
		      struct rpc_reply *hold, struct err *err)
{
	struct str body = str_of(frame->bytes, frame->len);
	enum err_kind kind = body.len > 0 ? (enum err_kind)(uint8_t)body.ptr[0] : ERR_LOST;
	int result = -1;

	if (kind != ERR_OK) {
		reply_failure(c, kind, str_skip(body, 1), frame, err);
	} else if (call->reply == NULL) {
		result = 0;
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

static int call_outcome(struct rpc_channel *c, struct pending *p, struct err *err)
{
	if (p->state == PENDING_DONE)
		return 0;
	if (p->state == PENDING_LOST)
		return err_set(err, ERR_LOST, "4.3.0", "%s went away before it answered", c->name);
	return err_set(err, ERR_TEMP, "4.3.0", "%s did not answer in time", c->name);
}

int rpc_call(struct rpc_channel *c, const struct rpc_call *call, const void *request, void *reply_r,
	     struct rpc_reply *hold, bool repeatable, int64_t timeout_ms, struct err *err)
{
	int64_t deadline = clock_ms() + timeout_ms;
	int fds[FD_PASS_MAX];
	struct buf frame;
	struct pending p = {.repeatable = repeatable, .request = &frame, .fds = fds};
	_Atomic uint32_t *wake;
	int result;

	buf_init(&frame, RPC_FRAME_MAX + RPC_HEADER_SIZE);
	if (request_encode(&frame, call, request, fds, &p.fd_count, err) < 0) {
		buf_release(&frame);
		return -1;
	}
	if (!engine_block_try(c->block)) {
		buf_release(&frame);
		return err_set(err, ERR_TEMP, "4.3.2", "%s is too busy", c->name);
	}
	pthread_mutex_lock(&c->lock);
	pending_add(c, &p);
	rpc_header_put(&frame, 0, call->number, p.id, p.fd_count);
	pthread_mutex_unlock(&c->lock);
	pending_send(c, &p, deadline);

	pthread_mutex_lock(&c->lock);
	wake = pending_wait(c, &p, deadline);
	pending_remove(c, &p);
	result = call_outcome(c, &p, err);
	pthread_mutex_unlock(&c->lock);
	futex_wake(wake);
	engine_block_end(c->block);

	buf_release(&frame);
	return result < 0 ? -1 : reply_take(c, call, &p.reply, reply_r, hold, err);
}

static int send_request(struct rpc_channel *c, const struct rpc_call *call, const void *request, bool now)
{
	int fds[FD_PASS_MAX];
	size_t fd_count = 0;
	struct buf frame;
	struct err err = ERR_NONE;
	int sent;

	buf_init(&frame, RPC_FRAME_MAX + RPC_HEADER_SIZE);
	if (request_encode(&frame, call, request, fds, &fd_count, &err) < 0) {
		log_error("%s channel: %s", c->name, err.text);
		buf_release(&frame);
		return -1;
	}
	sent = send_unasked(c, &frame, fds, fd_count, now || fd_count > 0);
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
