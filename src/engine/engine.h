/* engine - parked connections, straight-line handlers.
 *
 * A connection is parked in one epoll set and costs only its struct. A thread that gets its readiness
 * reads, and as soon as one whole unit has arrived (as the protocol's `frame` says) runs the protocol's
 * handler to the end, as plain blocking code, then re-arms and parks. One thread at a time owns a session,
 * by one atomic word: PARKED or RUNNING plus pending bits INPUT, CHANGE, TIMEOUT, STOP. Whoever has an event
 * sets its bit; if the session was PARKED he wins it and runs it, else the owner sees the bit before it
 * parks. Only the owner frees. Events carry index and generation (struct session_ref), never pointers.
 * After 64 units or 5 ms an owner goes to the end of the line.
 *
 * The pool is elastic: engine_block_begin/end surround each wait; while a thread is blocked another may run,
 * up to engine_limits.threads. The engine knows nothing of mail. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "base/err.h"
#include "os/net.h"

struct engine;
struct tls_context;
struct protocol;

struct engine_limits {
	unsigned threads;  /* at most; default 256 */
	unsigned sessions; /* open connections at most */
};

struct engine *engine_new(const struct engine_limits *limits);
/* Stops (if still running) and frees. */
void engine_free(struct engine **e);

struct engine_listener {
	int fd; /* listening, non-blocking; now owned by the engine */
	const struct protocol *protocol;
	void *service;	     /* session_service(): the protocol's view of this listener (its conf) */
	bool tls_wrapper;    /* implicit TLS: 465, 993, 995 */
	bool proxy_protocol; /* a PROXY v1/v2 header comes first ... */
	const struct net_cidr
		*proxy_from;	 /* ... from these peers (others are direct clients); borrowed for the engine's life */
	size_t proxy_from_count; /* 0: from every peer */
};
/* Any thread, also while the engine runs. A socket that is shut down (SHUT_RDWR, by another process that holds
 * it) is closed here, too. */
void engine_listen(struct engine *e, const struct engine_listener *listener);
/* Takes over one connected socket (tests; sendmail on a UNIX socket). Returns 0, or -1 when a limit says no. */
int engine_adopt(struct engine *e, int fd, const struct engine_listener *listener);

/* Runs until engine_stop() has emptied it. Starts threads as needed; the calling thread serves too. */
void engine_run(struct engine *e);
/* Orderly: closes listeners, gives every session STOP (421 / BYE after the running unit); after grace_ms
 * whatever is left is closed. Any thread. */
void engine_stop(struct engine *e, int64_t grace_ms);
size_t engine_session_count(const struct engine *e);

/* Around every wait outside the engine's own (RPC, files that may be slow). Nestable; a no-op on threads that
 * are not the engine's. `kind` gives each sort of wait its own share of the threads, so that one dead
 * service cannot take the last. Begin may itself wait for the share. */
/* BLOCK_LOGIN: calls with a secret; many log-ins at a time are no reason for mail to wait. */
enum block_kind { BLOCK_STORE, BLOCK_DIRECTORY, BLOCK_LOGIN, BLOCK_DNS, BLOCK_QUEUE, BLOCK_FILTER, BLOCK_KINDS };
void engine_block_begin(enum block_kind kind);
void engine_block_end(enum block_kind kind);
/* Like begin, but returns false (and nothing is to be ended) when too many already wait for this kind and it does not
 * work them off: the caller answers "try again later" rather than take one of the last threads. */
bool engine_block_try(enum block_kind kind) WARN_UNUSED;

#endif
