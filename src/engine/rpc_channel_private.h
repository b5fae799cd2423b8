/* rpc_channel_private - the inside of a calling channel; shared by rpc_channel*.c only.
 *
 * rpc_channel.c has its life and its thread, rpc_channel_call.c the calls, rpc_channel_async.c those that
 * nobody waits for, rpc_channel_late.c replies that nobody waits for any more, rpc_channel_io.c what moves bytes. How
 * they share it is told on top of rpc_channel.c. */
#ifndef ENGINE_RPC_CHANNEL_PRIVATE_H
#define ENGINE_RPC_CHANNEL_PRIVATE_H

#include "engine/engine.h"
#include "engine/rpc_wire.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define CHANNEL_BUCKETS	       64
#define CHANNEL_LATER_MAX      (16u << 10)
#define CHANNEL_SOCKET_WAIT_MS 1000 /* how long one receive or send may block before deadlines are looked at */

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
	bool repeatable, sent, secret;
	const struct buf *request;
	const int *fds;
	size_t fd_count;
	struct rpc_frame reply;
	/* of rpc_call_async() */
	rpc_done *done;
	void *ctx;
	const struct rpc_call *call;
	int64_t deadline;
	bool late;
};

struct late {
	struct late *next;
	struct rpc_frame frame; /* without descriptors */
};

struct rpc_channel {
	char *name;
	const struct rpc_call *table;
	enum block_kind block;
	void (*on_event)(void *ctx, uint16_t number, const void *msg);
	void *on_event_ctx;
	void (*on_link)(void *ctx, bool up);
	void *on_link_ctx;
	void (*on_missing)(void *ctx, uint64_t gone);
	void *on_missing_ctx;
	void (*on_late)(void *ctx, uint16_t number, const void *reply);
	void *on_late_ctx;

	pthread_mutex_t send_lock;
	struct buf later; /* frames without descriptors */
	pthread_mutex_t lock;
	struct conn *conn; /* NULL: no connection */
	uint64_t generation;
	uint64_t next_id;
	bool leader;	      /* somebody reads */
	bool thread_leads;    /* it is the channel's thread */
	bool later_waits;     /* there is something in `later`, and the thread shall see to it */
	bool thread_dozes;    /* until there is no leader, or something in `later`: see channel_doze_end() */
	uint64_t frames_read; /* how the channel's thread sees that others read */
	bool closing;
	bool given_up; /* no connection will come */
	size_t async_count, async_max;
	struct pending *async_over; /* those that will have no reply, by `next` */
	struct late *late;	    /* replies that nobody waits for any more; the thread's to look at */
	struct pending *first, *last;
	struct pending *buckets[CHANNEL_BUCKETS];
	pthread_cond_t thread_wake;
	pthread_t thread;
};

/* ---- rpc_channel.c ---- */
struct timespec channel_timespec(int64_t monotonic_ms);
/* word: what a function below has returned; NULL does nothing. Not under lock. */
void channel_wake(_Atomic uint32_t *word);
/* Under lock. */
void channel_conn_unref(struct conn **conn);
/* Under lock: the channel's thread looks again, should it doze. */
void channel_doze_end(struct rpc_channel *c);
/* Under lock. Returns true if it was the channel's connection: the caller then tells on_link, unlocked. */
bool channel_lost(struct rpc_channel *c, struct conn *conn);
void channel_lost_unlocked(struct rpc_channel *c, struct conn *conn);

/* ---- rpc_channel_late.c; both under lock ---- */
/* The frame answers no call that is under way. Takes its bytes if somebody wants to know. */
void channel_late_add(struct rpc_channel *c, struct rpc_frame *frame);
/* Tells of them (tell), giving up the lock meanwhile, or drops them. */
void channel_late_end(struct rpc_channel *c, bool tell);

/* ---- rpc_channel_call.c; all under lock ---- */
/* Where the call of this id hangs, or would. */
struct pending **channel_pending(struct rpc_channel *c, uint64_t id);
void channel_pending_add(struct rpc_channel *c, struct pending *p);
void channel_pending_remove(struct rpc_channel *c, struct pending *p);
/* Returns what to channel_wake() once the lock is given up, if anything. */
_Atomic uint32_t *channel_settle(struct pending *p, enum pending_state state) WARN_UNUSED;
/* Somebody else must lead on: the oldest call that still waits, or the channel's thread after its grace. Returns
 * what to channel_wake(). */
_Atomic uint32_t *channel_lead_pass_on(struct rpc_channel *c) WARN_UNUSED;

/* These two without a lock. Builds the frame; the id is put in when the call is registered. */
int channel_encode(struct buf *out, const struct rpc_call *call, const void *request, int *fds, size_t *fd_count,
		   struct err *err);
/* The reply's bytes pass to hold, its descriptors to *reply_r. */
int channel_reply_take(struct rpc_channel *c, const struct rpc_call *call, struct rpc_frame *frame, void *reply_r,
		       struct rpc_reply *hold, struct err *err);

/* ---- rpc_channel_async.c ---- */
/* Under lock: the call will have no reply. */
void channel_async_end(struct rpc_channel *c, struct pending *p);
/* Not under lock: tells those of which channel_async_end() knows. */
void channel_async_tell(struct rpc_channel *c);
/* Not under lock: its reply is here, and it is off the list. */
void channel_async_answered(struct rpc_channel *c, struct pending *p);

/* ---- rpc_channel_io.c ---- */
/* Under send_lock. Writes a whole frame. 1; 0 when the deadline came before its first byte; -1 when the connection is
 * broken, which a frame that stays half written does. */
int channel_write(struct conn *conn, const struct buf *frame, const int *fds, size_t fd_count, int64_t deadline);
/* Under send_lock. Writes what waits in `later` and then the frame (or NULL); returns as channel_write(). */
int channel_write_all(struct rpc_channel *c, struct conn *conn, const struct buf *frame, const int *fds,
		      size_t fd_count, int64_t deadline);
/* Sends a frame (or NULL) behind what waits in `later`; now, or with `later` when something comes along. Returns 0,
 * or -1 when there is no connection. */
int channel_send_unasked(struct rpc_channel *c, const struct buf *frame, const int *fds, size_t fd_count, bool now);
/* Under lock; gives it up meanwhile. Leads one receive on the current connection, for at most about wait_ms (< 0:
 * without end). Returns -1 when the connection ended, 1 when a reply was among what came, else 0. */
int channel_lead_step(struct rpc_channel *c, int64_t wait_ms);

#endif
