/* rpc - calls between our own processes over a socketpair that master made.
 *
 * A frame is {u32 length, u16 type, u16 fd count, u64 call id}, then the encoded message. A service lists
 * its calls in one table of rpc_call (request type, reply type, number). Three parties use it:
 *
 *   caller   struct rpc_channel: many threads call at once over one channel; each blocks until its reply,
 *            its deadline, or the loss of the channel. One of the waiting callers reads for all; a reader
 *            thread a channel does so while nobody calls.
 *   server   struct rpc_server: an event loop that owns peers, decodes requests, runs handlers. The handler
 *            answers at once or keeps the request and answers later, from any thread, exactly once.
 *   events   the server may send a message without a call id (rpc_event); the caller's on_event gets it.
 *
 * A request whose descriptors find no room in the server's process is refused (ERR_TEMP, sys EMFILE) before its handler
 * sees it. Decoding failures close the peer: our own processes do not make syntax errors, captured ones do. What one
 * peer has under way is bounded (4,096 requests, 64 MB): then it is not read from until answers have gone out. Peers
 * are served in turn. */
#ifndef ENGINE_RPC_H
#define ENGINE_RPC_H

#include "engine/rpc_schema.h"

/* One call or event of a service. Numbers are the service's own and never reused. */
struct rpc_call {
	uint16_t number;
	const struct rpc_type *request;
	const struct rpc_type *reply; /* NULL: an event, or a request without an answer */
	bool secret;		      /* the request may hold a password: no buffer of either side keeps it */
};

/* Every reply is preceded on the wire by its outcome: an rpc_call fails with the server's struct err. */

/* ---- caller ------------------------------------------------------------------------------------------ */

struct rpc_channel;

/* name: for the log ("store"). table: the service's calls, ended by {0}; used to decode events. The channel
 * starts without a connection; calls made meanwhile wait for one until their deadline. */
struct rpc_channel *rpc_channel_new(const char *name, const struct rpc_call *table);
void rpc_channel_free(struct rpc_channel **c);
/* Ends the connection for good: what is under way fails, no function of the channel's users runs afterwards, and later
 * calls fail at once. */
void rpc_channel_end(struct rpc_channel *c);
/* Gives the channel its socket (now owned by it), replacing a lost one. Calls marked `repeatable` that are
 * under way are sent again; others have failed with ERR_LOST when the old one broke. */
void rpc_channel_attach(struct rpc_channel *c, int fd);
bool rpc_channel_connected(struct rpc_channel *c);
/* Bumped at each attach: cached state from the peer that carries an older number is stale. */
uint64_t rpc_channel_generation(struct rpc_channel *c);

struct rpc_reply {
	struct arena arena; /* holds what the reply struct points at */
	char *frame;
};
void rpc_reply_init(struct rpc_reply *r);
void rpc_reply_release(struct rpc_reply *r);

/* Calls and waits at most timeout_ms (engine's block_begin/end included). `reply_r` is a struct of
 * call->reply; what it points at lives in `hold` until rpc_reply_release(). Returns 0, or -1 with err: the
 * server's own error, ERR_TEMP on the deadline, ERR_LOST when the channel broke. Descriptors in the request
 * stay the caller's. A reply that came without its descriptors, because this process can have no more, is a failure
 * (ERR_TEMP, sys EMFILE) with *reply_r filled in but for these, which are -1. Thread-safe. */
int rpc_call(struct rpc_channel *c, const struct rpc_call *call, const void *request, void *reply_r,
	     struct rpc_reply *hold, bool repeatable, int64_t timeout_ms, struct err *err) WARN_UNUSED;
/* Whether the call was not even sent: as many calls of its kind (engine.h) as may wait do so already. */
bool rpc_is_busy(const struct err *err);
/* A call that nobody waits for: done(ctx, reply, err) runs once, reply NULL on failure (ERR_LOST, ERR_TEMP when
 * rpc_channel_tend() finds its time over, the server's own error), else a struct of call->reply that lives until it
 * returns. On whichever thread reads the channel or finds it broken: the rules of on_event hold. Never repeated, no
 * descriptors. Returns -1, and done will not run, without a connection or with RPC_ASYNC_MAX under way: call it the
 * other way. */
#define RPC_ASYNC_MAX 128
typedef void rpc_done(void *ctx, const void *reply, const struct err *err);
int rpc_call_async(struct rpc_channel *c, const struct rpc_call *call, const void *request, int64_t timeout_ms,
		   rpc_done *done, void *ctx) WARN_UNUSED;
/* How many of them may be under way over this channel, instead of RPC_ASYNC_MAX. Before the first call. */
void rpc_channel_async_max(struct rpc_channel *c, size_t most);
/* Sends without waiting for anything. Returns 0, or -1 when there is no connection. */
int rpc_send(struct rpc_channel *c, const struct rpc_call *call, const void *request);
/* The same for what nobody waits for: goes out with the next call, before it, or after some 10 ms by itself. Carries
 * no descriptors. */
int rpc_send_later(struct rpc_channel *c, const struct rpc_call *call, const void *request);
/* The same, but by itself it leaves only with rpc_channel_tend(): for who has a clock of its own. */
int rpc_send_gather(struct rpc_channel *c, const struct rpc_call *call, const void *request);
/* Sends what was gathered, and ends the calls that nobody waits for whose time is over: to be called some 10 ms after
 * rpc_send_gather(), and about every second while it returns true (such calls are under way). */
bool rpc_channel_tend(struct rpc_channel *c);
/* Set before the first attach. Runs on whichever thread reads the channel at that moment (the channel's own, or
 * one inside rpc_call()), one at a time, in the order of the wire, and before any later reply is handed out: must
 * not block, must not call on this channel, must not take a lock that somebody holds during an rpc_call(). */
void rpc_channel_on_event(struct rpc_channel *c, void (*fn)(void *ctx, uint16_t number, const void *msg), void *ctx);
/* Runs on the attaching thread after each attach (true) and on the thread that noticed at each loss (false). */
void rpc_channel_on_link(struct rpc_channel *c, void (*fn)(void *ctx, bool up), void *ctx);
/* There will be no connection any more: calls that wait for one, and later ones, fail at once with ERR_LOST. Without
 * effect while there is a connection. Any thread. */
void rpc_channel_give_up(struct rpc_channel *c);
/* A call came too late: its caller has given it up, and nobody else knows of what it was given (a claim, a blob). Runs
 * on the channel's own thread, with a struct of the call's reply in which descriptors are -1; may send over this
 * channel. Not of replies over an earlier connection: with that, what was given ended. Set before there are calls. */
void rpc_channel_on_late(struct rpc_channel *c, void (*fn)(void *ctx, uint16_t number, const void *reply), void *ctx);
/* Runs on the channel's own thread when there has been no connection for a moment, and then about every second until
 * there is one: to ask for it. `gone`: how many there have been, all of them lost; one that comes meanwhile is not
 * among them. Set before the first attach. */
void rpc_channel_on_missing(struct rpc_channel *c, void (*fn)(void *ctx, uint64_t gone), void *ctx);

#ifdef POSTRIDER_TEST
/* What a captured process would do with its channel (proc/probe_rpc.c). A call of any number with any bytes: reply
 * takes the answer as it came, its outcome first. */
int rpc_channel_raw_call(struct rpc_channel *c, uint16_t number, struct str body, const int *fds, size_t fd_count,
			 int64_t timeout_ms, struct buf *reply, struct err *err) WARN_UNUSED;
/* Bytes that need not be frames. */
int rpc_channel_raw_send(struct rpc_channel *c, struct str bytes, const int *fds, size_t fd_count);
#endif

/* ---- server ------------------------------------------------------------------------------------------ */

struct rpc_server;
struct rpc_peer;

struct rpc_request {
	struct rpc_peer *peer; /* stays valid (though perhaps closed) until the request is answered */
	uint16_t number;
	uint64_t id;
	void *msg;	    /* decoded request */
	struct arena arena; /* the message's; also free for the handler's own use */
	char *frame;
	size_t frame_len;
};

struct rpc_service {
	const char *name;
	const struct rpc_call *table;
	/* Handles a request on the loop thread. Owns it until it calls rpc_answer() or rpc_refuse().
	 * Descriptors in msg are the handler's to close. */
	void (*handle)(void *ctx, struct rpc_request *req);
	/* May be NULL. With rpc_server_use_threads: asked first, on the loop thread, in the order of the wire; true:
	 * it has taken the request. For what must not be overtaken by the peer's next request. */
	bool (*handle_early)(void *ctx, struct rpc_request *req);
	void (*peer_closed)(void *ctx, struct rpc_peer *peer); /* may be NULL; on the loop thread */
	/* How the log calls the peer of that tag. May be NULL. */
	void (*peer_name)(uint64_t tag, char *name, size_t size);
	void *ctx;
};

struct rpc_server *rpc_server_new(const struct rpc_service *service);
void rpc_server_free(struct rpc_server **s);
/* Adds a connection (now owned). tag: who that is, from master: process number << 8 | role. Loop thread, or any. NULL,
 * logged and fd closed, when the kernel has no memory for it: the other side sees the connection end. */
struct rpc_peer *rpc_server_add_peer(struct rpc_server *s, int fd, uint64_t tag);
/* A new connection of who has this tag is about to come, in place of any before, which end. Any thread. */
void rpc_server_replace(struct rpc_server *s, uint64_t tag);
uint64_t rpc_peer_tag(const struct rpc_peer *p);
uint64_t rpc_peer_id(const struct rpc_peer *p); /* unique in this process's life */

/* Runs the loop until rpc_server_stop(). Other descriptors and timers join it by the functions below. */
void rpc_server_run(struct rpc_server *s);
void rpc_server_stop(struct rpc_server *s); /* any thread */
/* Calls fn on the loop thread when fd is readable. fd stays the caller's. -1 with errno when the kernel has no memory.
 */
int rpc_server_watch_fd(struct rpc_server *s, int fd, void (*fn)(void *ctx, int fd), void *ctx) WARN_UNUSED;
void rpc_server_unwatch_fd(struct rpc_server *s, int fd);
/* Calls fn once on the loop thread after delay_ms; also the way for other threads to hand it work (0 ms). */
void rpc_server_after(struct rpc_server *s, int64_t delay_ms, void (*fn)(void *ctx), void *ctx);
/* Runs after each round of events, before the loop sleeps: where a batch is handed to the journal. */
void rpc_server_on_idle(struct rpc_server *s, void (*fn)(void *ctx), void *ctx);

/* Both end the request's life. Any thread. Descriptors in reply stay the caller's. A refusal with ERR_DENIED is logged
 * with the peer's name. rpc_answer() is false when nobody will have this answer, because the peer is gone, or because
 * it could not be put together and a refusal went instead. */
bool rpc_answer(struct rpc_request *req, const void *reply);
void rpc_refuse(struct rpc_request *req, const struct err *err);
/* A request that handle_early took goes to the threads after all. Any thread, until rpc_server_free(). */
void rpc_defer(struct rpc_request *req);
/* Sends an event. Any thread. Returns -1 (and sends nothing) when the peer's unsent bytes exceed 1 MB: the
 * server never waits for a peer; the service marks the gap and fills it later. */
int rpc_event(struct rpc_peer *p, const struct rpc_call *event, const void *msg);
/* The same however much is unsent: for what is small, seldom, and must come before the answers behind it (a gap).
 * A peer that has no room even for this is cut off. */
void rpc_event_anyway(struct rpc_peer *p, const struct rpc_call *event, const void *msg);

/* Told, for all servers of the process, of each peer that was closed because it broke the rules of the wire. Before the
 * first peer; runs on a loop thread. */
void rpc_on_misconduct(void (*fn)(uint64_t tag, const char *what));

/* A server whose handlers block (directory): runs them on a pool of at most `threads` threads instead. */
void rpc_server_use_threads(struct rpc_server *s, unsigned threads);

#endif
