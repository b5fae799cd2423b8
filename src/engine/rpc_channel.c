/* The calling side of a channel.
 *
 * Who reads. At any time at most one thread, the leader, receives from the socket and hands frames to the
 * calls they answer. A caller that finds no leader leads until its own reply has come, then wakes the oldest
 * other waiting caller to lead on: alone, a call costs no wake-up on this side at all. The channel's own
 * thread leads when nobody else has for LEAD_GRACE_MS, so that events and the end of the connection are
 * noticed while nobody calls; it gives way as soon as it has handed out a reply. While one call waits long (relay for
 * work from the queue) it sleeps for good, until that leader goes.
 *
 * What nobody waits for (rpc_send_later) gathers in `later` and goes out with the next frame. Should none come,
 * the channel's thread sends it, which looks every LEAD_GRACE_MS while others lead; while that thread leads
 * itself, nobody calls, and it is sent at once.
 *
 * Calls that nobody waits for (rpc_call_async) are on the heap; who reads their reply runs their function. While there
 * are any, the channel's thread leads whenever no caller does, without the grace.
 *
 * Shared: everything below `lock`, by that lock; writing to the socket and `later`, by `send_lock`, which is taken
 * before `lock` where both are needed; `reader` of a connection belongs to the leader.
 *
 * A call lives on its caller's stack and is registered under `lock` until the caller takes it out. Its caller
 * sleeps on a futex, not on a condition: so he can be woken after the lock was given up, and does not wake only
 * to wait for it. The word may be gone by then; a wake-up that meets nobody, or somebody else, does no harm. */
#include "engine/rpc_channel_private.h"

#include "base/clock.h"
#include "base/fatal.h"
#include "base/mem.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define LEAD_GRACE_MS	 10
#define MISSING_FIRST_MS 100 /* one that ended by itself is usually replaced sooner */
#define MISSING_AGAIN_MS 1000

/* ---- small things ---- */

static void cond_init_monotonic(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

struct timespec channel_timespec(int64_t monotonic_ms)
{
	return (struct timespec){.tv_sec = monotonic_ms / 1000, .tv_nsec = monotonic_ms % 1000 * 1000000};
}

void channel_wake(_Atomic uint32_t *word)
{
	if (word)
		syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void channel_conn_unref(struct conn **conn)
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

/* ---- the connection breaks ---- */

bool channel_lost(struct rpc_channel *c, struct conn *conn)
{
	if (!conn->broken) {
		conn->broken = true;
		shutdown(conn->fd, SHUT_RDWR);
	}
	if (c->conn != conn)
		return false;
	for (struct pending *p = c->first, *next; p; p = next) {
		next = p->next;
		if (!p->sent || p->state != PENDING_WAIT)
			continue;
		p->sent = false;
		if (p->done)
			channel_async_end(c, p);
		else if (!p->repeatable)
			channel_wake(channel_settle(p, PENDING_LOST));
	}
	channel_conn_unref(&c->conn);
	channel_late_end(c, false);
	/* Who led waits now, or passes on to somebody who waits, for what this thread has to ask for. */
	channel_doze_end(c);
	return true;
}

static void link_tell(struct rpc_channel *c, bool up)
{
	if (c->on_link)
		c->on_link(c->on_link_ctx, up);
}

void channel_lost_unlocked(struct rpc_channel *c, struct conn *conn)
{
	bool was_ours;

	pthread_mutex_lock(&c->lock);
	was_ours = channel_lost(c, conn);
	pthread_mutex_unlock(&c->lock);
	if (was_ours) {
		link_tell(c, false);
		channel_async_tell(c);
	}
}

void channel_doze_end(struct rpc_channel *c)
{
	if (c->thread_dozes) {
		c->thread_dozes = false;
		pthread_cond_signal(&c->thread_wake);
	}
}

/* ---- the channel's thread ---- */

/* Under lock; gives it up meanwhile. */
static void wait_for_connection(struct rpc_channel *c)
{
	int64_t at = clock_ms() + MISSING_FIRST_MS;

	while (!c->closing && c->conn == NULL) {
		struct timespec until = channel_timespec(at);
		uint64_t gone;

		if (c->on_missing == NULL) {
			pthread_cond_wait(&c->thread_wake, &c->lock);
			continue;
		}
		pthread_cond_timedwait(&c->thread_wake, &c->lock, &until);
		if (c->closing || c->conn || clock_ms() < at)
			continue;
		gone = c->generation;
		pthread_mutex_unlock(&c->lock);
		c->on_missing(c->on_missing_ctx, gone);
		at = clock_ms() + MISSING_AGAIN_MS;
		pthread_mutex_lock(&c->lock);
	}
}

static void *channel_thread(void *arg)
{
	struct rpc_channel *c = arg;
	uint64_t seen = 0;
	struct timespec until;
	bool quiet = false; /* somebody has led through a whole grace without a frame: he waits for something rare */

	pthread_mutex_lock(&c->lock);
	while (!c->closing) {
		if (c->conn == NULL) {
			wait_for_connection(c);
			continue;
		}
		if (c->late) {
			channel_late_end(c, true);
			continue;
		}
		if (c->later_waits) {
			c->later_waits = false;
			pthread_mutex_unlock(&c->lock);
			(void)channel_send_unasked(c, NULL, NULL, 0, true);
			pthread_mutex_lock(&c->lock);
			continue;
		}
		if (c->leader && quiet && seen == c->frames_read) {
			c->thread_dozes = true;
			while (c->thread_dozes && !c->closing)
				pthread_cond_wait(&c->thread_wake, &c->lock);
			continue;
		}
		if (c->leader || (seen != c->frames_read && c->async_count == 0)) {
			quiet = seen == c->frames_read;
			seen = c->frames_read;
			until = channel_timespec(clock_ms() + LEAD_GRACE_MS);
			pthread_cond_timedwait(&c->thread_wake, &c->lock, &until);
			continue;
		}
		c->thread_leads = true;
		while (!c->closing && c->conn &&
		       channel_lead_step(c, c->async_count > 0 ? CHANNEL_SOCKET_WAIT_MS : -1) == 0)
			;
		c->thread_leads = false;
		channel_wake(channel_lead_pass_on(c));
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
	c->async_max = RPC_ASYNC_MAX;
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->send_lock, NULL);
	cond_init_monotonic(&c->thread_wake);
	buf_init(&c->later, CHANNEL_LATER_MAX + RPC_HEADER_SIZE);
	if (pthread_create(&c->thread, NULL, channel_thread, c) != 0)
		die(71, "cannot start a thread");
	return c;
}

void rpc_channel_end(struct rpc_channel *c)
{
	bool ended;

	(void)channel_send_unasked(c, NULL, NULL, 0, true);
	pthread_mutex_lock(&c->lock);
	ended = c->closing;
	c->closing = true;
	if (c->conn)
		channel_lost(c, c->conn);
	for (struct pending *p = c->first; p; p = p->next)
		if (p->state == PENDING_WAIT)
			channel_wake(channel_settle(p, PENDING_LOST));
	pthread_cond_signal(&c->thread_wake);
	pthread_mutex_unlock(&c->lock);
	if (!ended)
		pthread_join(c->thread, NULL);
	pthread_mutex_lock(&c->lock);
	channel_late_end(c, false);
	pthread_mutex_unlock(&c->lock);
	channel_async_tell(c);
}

void rpc_channel_free(struct rpc_channel **channel)
{
	struct rpc_channel *c = *channel;

	if (c == NULL)
		return;
	*channel = NULL;
	rpc_channel_end(c);
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
	struct timeval wait = {.tv_sec = CHANNEL_SOCKET_WAIT_MS / 1000};
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
		bool secret;

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
		secret = p->secret;
		buf_init(&copy, p->request->len);
		buf_add(&copy, p->request->ptr, p->request->len);
		for (; fd_count < p->fd_count; fd_count++)
			fds[fd_count] = fcntl(p->fds[fd_count], F_DUPFD_CLOEXEC, 0);
		pthread_mutex_unlock(&c->lock);
		if (channel_write(conn, &copy, fds, fd_count, clock_ms() + CHANNEL_SOCKET_WAIT_MS) <= 0)
			channel_lost_unlocked(c, conn);
		if (secret)
			mem_wipe(copy.ptr, copy.len);
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
	lost = c->conn && channel_lost(c, c->conn);
	pthread_mutex_unlock(&c->lock);
	if (lost) {
		link_tell(c, false);
		channel_async_tell(c);
	}

	pthread_mutex_lock(&c->send_lock);
	pthread_mutex_lock(&c->lock);
	c->conn = conn;
	c->given_up = false;
	conn->refs++;
	c->generation++;
	c->frames_read++;
	pthread_mutex_unlock(&c->lock);
	buf_clear(&c->later); /* meant for the old one */
	resend_all(c, conn);
	pthread_mutex_unlock(&c->send_lock);
	link_tell(c, true);

	pthread_mutex_lock(&c->lock);
	channel_conn_unref(&conn);
	pthread_cond_signal(&c->thread_wake);
	if (!c->leader)
		channel_wake(channel_lead_pass_on(c));
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

void rpc_channel_give_up(struct rpc_channel *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->conn == NULL) {
		c->given_up = true;
		for (struct pending *p = c->first; p; p = p->next)
			if (p->state == PENDING_WAIT && !p->done)
				channel_wake(channel_settle(p, PENDING_LOST));
	}
	pthread_mutex_unlock(&c->lock);
}

void rpc_channel_on_missing(struct rpc_channel *c, void (*fn)(void *ctx, uint64_t gone), void *ctx)
{
	pthread_mutex_lock(&c->lock);
	c->on_missing_ctx = ctx;
	c->on_missing = fn;
	pthread_cond_signal(&c->thread_wake);
	pthread_mutex_unlock(&c->lock);
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
