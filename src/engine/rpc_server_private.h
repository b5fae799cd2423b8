/* rpc_server_private - the inside of the answering side; shared by rpc_server*.c only.
 *
 * rpc_server.c has the loop and its life, rpc_server_peer.c the peers: requests in, answers out; rpc_server_timers.c
 * timers and hand-overs, rpc_server_threads.c the pool of a server whose handlers block. */
#ifndef ENGINE_RPC_SERVER_PRIVATE_H
#define ENGINE_RPC_SERVER_PRIVATE_H

#include "base/vec.h"
#include "engine/rpc_wire.h"
#include <pthread.h>
#include <stdatomic.h>

/* Descriptors that wait in `out`, and where the frame that carries them begins. */
struct out_fds {
	size_t at;
	int fds[FD_PASS_MAX];
	size_t count;
};

struct rpc_peer {
	struct rpc_server *server;
	_Atomic unsigned refs; /* the loop's, and one a request */
	int fd;
	uint64_t tag, id;
	struct rpc_reader reader;	/* loop */
	bool paused;			/* loop: not read from */
	bool behind;			/* loop: on the server's list, with whole frames in `reader` */
	VEC(struct rpc_request *) work; /* threads mode, under work_lock; work_at is its front */
	size_t work_at;
	_Atomic unsigned held;	     /* requests begun and not answered */
	_Atomic uint64_t held_bytes; /* of their frames */
	_Atomic bool too_much;	     /* not read from because of these; who frees wakes the loop */
	unsigned notes;		     /* lock: log lines about it since notes_ms */
	int64_t notes_ms;
	uint32_t armed; /* lock: epoll events asked for */
	pthread_mutex_t lock;
	bool closed;
	struct buf out;
	size_t out_at;		 /* sent so far */
	VEC(struct out_fds) fds; /* ascending `at`; duplicates owned here */
	bool dirty;		 /* loop: on the server's list to flush */
};

struct watch {
	int fd;
	void (*fn)(void *ctx, int fd);
	void *ctx;
};

struct timer {
	int64_t at;
	uint64_t order;
	void (*fn)(void *ctx);
	void *ctx;
};

struct rpc_server {
	struct rpc_service service;
	int epfd, wake;
	_Atomic bool stopping;
	pthread_t loop;
	_Atomic bool looping;
	void (*on_idle)(void *ctx);
	void *on_idle_ctx;
	VEC(struct rpc_peer *) dirty;
	VEC(struct rpc_peer *) behind; /* read, and not all handled: next round */
	VEC(struct watch *) watches;
	VEC(struct watch *) dead_watches;

	pthread_mutex_t lock;
	VEC(struct rpc_peer *) peers;
	VEC(struct timer) timers; /* heap by (at, order) */
	uint64_t timer_order;
	bool wake_sent;

	/* threads mode */
	unsigned threads_max, threads, threads_idle;
	pthread_mutex_t work_lock;
	pthread_cond_t work_cond;
	VEC(struct rpc_peer *) busy; /* peers with work, each once, in turn; each holds a reference */
	bool work_end;
	pthread_t *thread_ids;
};

/* epoll data is a pointer; its low bits tell what it points at. */
enum { SOURCE_PEER = 0, SOURCE_WATCH = 1, SOURCE_WAKE = 2, SOURCE_MASK = 3 };

/* ---- rpc_server.c ---- */
bool rpc_server_on_loop(struct rpc_server *s);
/* The loop looks again; any thread. */
void rpc_server_wake(struct rpc_server *s);

/* ---- rpc_server_peer.c; loop thread ---- */
void rpc_peer_unref(struct rpc_peer *p); /* any thread */
void rpc_peer_close(struct rpc_peer *p);
void rpc_peer_event(struct rpc_peer *p, uint32_t events);
/* Handles what was left of the last round. */
void rpc_server_behind_run(struct rpc_server *s);
/* Sends what was answered in this round. */
void rpc_server_dirty_flush(struct rpc_server *s);

/* ---- rpc_server_timers.c; loop thread ---- */
/* Runs what is due now; what these add waits for the next round. */
void rpc_server_timers_run(struct rpc_server *s);
/* Milliseconds until the next timer, or -1. */
int rpc_server_timers_wait(struct rpc_server *s);

/* ---- rpc_server_threads.c ---- */
void rpc_server_work_push(struct rpc_server *s, struct rpc_request *req);
/* Lets the threads finish what was pushed. */
void rpc_server_workers_end(struct rpc_server *s);

#endif
