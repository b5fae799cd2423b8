/* engine/private - what the files of the engine share with each other. Nobody else includes this.
 *
 * Shared between threads, and by what:
 *   slot.word                    atomic: generation << 32 | BIT_*
 *   slot.deadline                atomic
 *   engine.free_slots, slots     lock
 *   engine.clients               lock
 *   engine.ready                 ready_lock
 *   engine.heap, slot.heap_*     timer_lock
 *   engine.threads and counters  atomic; waiting for the end: pool_lock, pool_cond
 *   engine.kinds                 kind_lock, kind_cond
 *   struct session               the owner: whoever set BIT_RUNNING */
#ifndef ENGINE_PRIVATE_H
#define ENGINE_PRIVATE_H

#include "base/map.h"
#include "base/vec.h"
#include "engine/session.h"
#include "engine/tls.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#define SLOT_CHUNK	 1024u
#define SLOT_CHUNKS	 1024u
#define INPUT_SIZE	 (16u << 10) /* the buffer a running session reads into, at least */
#define OUTPUT_HIGH	 (64u << 10) /* no further unit runs while this much is unsent */
#define OUTPUT_LOW	 (32u << 10) /* a producer runs while less than this is unsent */
#define OUTPUT_MAX	 (64u << 20) /* a handler that writes more loses its connection */
#define TURN_UNITS	 64
#define TURN_MS		 5
#define DEFAULT_IDLE_MS	 300000
#define HANDSHAKE_MS	 60000
#define LINGER_MS	 2000
#define ACCEPT_PAUSE_MS	 500
#define DESCRIPTORS_KEPT 16 /* that connections leave to everything else */
#define NEVER		 INT64_MAX

/* epoll data: generation << 32 | index of a session, or one of these; a listener: its number << 32 | EVENT_LISTENER. */
#define EVENT_LISTENER 0xffffffffu
#define EVENT_KICK     (UINT64_MAX - 1)
#define EVENT_TIMER    (UINT64_MAX - 2)

enum {
	BIT_RUNNING = 1,
	BIT_INPUT = 2, /* readable, writable or broken */
	BIT_CHANGE = 4,
	BIT_TIMEOUT = 8,
	BIT_STOP = 16,
	BIT_KILL = 32,
	BITS_PENDING = BIT_INPUT | BIT_CHANGE | BIT_TIMEOUT | BIT_STOP | BIT_KILL,
};

struct slot {
	_Atomic uint64_t word;
	struct session *session;  /* the owner's */
	_Atomic int64_t deadline; /* when TIMEOUT is due; NEVER */
	int64_t heap_at;	  /* timer_lock: when the heap will look */
	uint32_t heap_pos;	  /* timer_lock: place in the heap + 1; 0: not in it */
	uint32_t index;
};

struct listener {
	struct engine_listener l;
	struct engine *engine;
	bool paused; /* timer_lock: accepts again at engine.resume_at */
};

struct engine {
	struct engine_limits limits;
	int epfd, kick, timerfd;
	_Atomic int reserve;	/* a descriptor to give up when there are no more */
	_Atomic int highest_fd; /* of a connection, with enough left above it; only grows */

	pthread_mutex_t lock;
	_Atomic(struct slot *) chunks[SLOT_CHUNKS];
	uint32_t slot_count;
	VEC(uint32_t) free_slots;
	struct map *clients;
	_Atomic size_t sessions;
	_Atomic uint64_t next_id;
	VEC(struct listener *) listeners; /* lock */

	pthread_mutex_t ready_lock;
	struct session *ready_first, *ready_last;
	_Atomic unsigned ready_count;

	pthread_mutex_t timer_lock;
	VEC(uint32_t) heap;
	int64_t timer_set; /* what the timerfd will do */
	int64_t resume_at; /* listeners come back */
	int64_t kill_at;   /* the end of engine_stop()'s grace */

	_Atomic unsigned threads, idle, blocked;
	unsigned cores;
	_Atomic bool stopping, listening_ended;
	_Atomic bool running;
	pthread_mutex_t pool_lock;
	pthread_cond_t pool_cond;

	pthread_mutex_t kind_lock;
	pthread_cond_t kind_cond[BLOCK_KINDS];
	unsigned kind_blocked[BLOCK_KINDS], kind_waiting[BLOCK_KINDS], kind_ended[BLOCK_KINDS];
};

enum phase {
	PHASE_PROXY, /* a PROXY header comes first */
	PHASE_TLS,   /* hand-shake */
	PHASE_OPEN,  /* protocol->open or ->secured is to run */
	PHASE_UNITS,
	PHASE_BULK,
	PHASE_PRODUCE,
	PHASE_CLOSING, /* flush, then close */
	PHASE_LINGER,  /* our side is shut; what the peer still sends is thrown away */
	PHASE_DEAD,
};

struct bulk;
struct out_chunk;

struct session {
	struct engine *engine;
	struct slot *slot;
	uint32_t generation;
	uint64_t id;
	const struct protocol *protocol;
	void *service;
	void *state;
	int fd;
	enum phase phase;
	bool registered; /* in the epoll set */
	bool skip_line;
	bool eof;     /* the peer has finished sending */
	bool drained; /* the socket had no more input when last asked */
	bool change_due, stop_due, stopped;
	bool transcript;
	bool opened;	  /* protocol->open ran: close will */
	bool secured_due; /* the hand-shake under way is STARTTLS's */
	bool tls_due;	  /* the implicit hand-shake is still to come */
	bool want_write;  /* TLS needs the socket writable to go on */
	int64_t idle_ms;
	int64_t idle_since;    /* a unit ended, or whatever else shows that the client lives */
	int64_t request_ms;    /* session_set_deadline(); 0: none, each read or write counts as life */
	int64_t min_rate;      /* bytes a second that buy more time */
	int64_t in_by, out_by; /* when the unit or bulk that has begun must be here, the output gone; 0: not begun */
	int64_t delay_until;   /* 0: none */
	int64_t again_until;   /* when session_again() says no to the unit that runs; 0: it was not asked */
	int64_t again_ms;      /* how long the unit waited when it ran last */
	int64_t phase_by;      /* hand-shake, PROXY, linger: to end by then */
	int64_t due_at;	       /* what the timer was set to when it parked */
	unsigned client_count; /* of its client at this service when it came; 0: not counted */

	struct buf in;
	size_t in_at;	 /* consumed */
	size_t unit_len; /* of the unit that runs */
	size_t again;	 /* the length of the unit that is to run again; 0: there is none */
	size_t scanned;
	size_t asked; /* input length frame() wanted more than */

	struct out_chunk *out_first, *out_last;
	size_t unsent;	   /* bytes, those of file slices included */
	size_t out_memory; /* those in memory */

	struct bulk *bulk;
	bool (*produce)(struct session *s, void *arg);
	enum next (*produce_then)(struct session *s, void *arg);
	void *produce_arg;

	SSL *ssl;
	int hello_want; /* bytes that the socket was told to wait for before it wakes us */
	struct tls_context *tls;
	struct kept *kept;     /* session_keep() */
	char *transcript_line; /* the unit that runs, not logged yet */
	bool secret;	       /* the unit that runs is wiped behind its handler */
	unsigned key_updates;  /* TLS 1.3, since the last byte of the protocol itself */

	struct net_addr peer, local;
	char peer_text[NET_ADDR_TEXT];
	uint8_t client_key[24]; /* address and service, for the per-client count */
	uint64_t user;		/* counted together with the address; 0: not */

	struct session *ready_next;
};

/* ---- slots.c: naming sessions, the state word, the line of those that can run ---- */
struct slot *slot_at(struct engine *e, uint32_t index);
struct slot *slot_take(struct engine *e); /* RUNNING, owned by the caller; NULL: all taken */
void slot_release(struct engine *e, struct slot *slot);
/* Sets bits. Returns the session if the caller has won it by that, else NULL. */
struct session *slot_win(struct engine *e, uint32_t index, uint32_t generation, unsigned bits);
/* The same, and puts a session that was won into the line. */
void slot_post(struct engine *e, uint32_t index, uint32_t generation, unsigned bits);
uint32_t slot_generation(const struct slot *slot);
unsigned slot_take_bits(struct slot *slot); /* the owner fetches and clears what is pending */
bool slot_park(struct slot *slot);	    /* false: something is pending, still owned */
void ready_push(struct engine *e, struct session *s);
struct session *ready_pop(struct engine *e);

/* ---- timers.c ---- */
void timer_session(struct engine *e, struct slot *slot, int64_t deadline); /* owner */
void timer_forget(struct engine *e, struct slot *slot);
void timer_resume_listeners_at(struct engine *e, struct listener *l, int64_t at);
void timer_kill_at(struct engine *e, int64_t at);
void timers_fire(struct engine *e);

/* ---- accept.c ---- */
void listener_ready(struct listener *l);
void listener_arm(struct listener *l);
void listeners_close(struct engine *e);
struct listener *listener_at(struct engine *e, size_t i); /* NULL behind the last */
void client_release(struct session *s);
/* Counts the session for its (perhaps new) address. */
void client_count(struct session *s);
void user_release(struct session *s);

/* ---- pool.c ---- */
void engine_pool_start_another(struct engine *e); /* if nobody polls and there is room */
void engine_pool_kick(struct engine *e);
void engine_pool_run(struct engine *e);

/* ---- session.c ---- */
struct session *session_new(struct engine *e, struct slot *slot, int fd, const struct engine_listener *l);
void session_run(struct session *s); /* the owner's turn; parks or frees it */
void session_set_peer(struct session *s);
struct str session_input(const struct session *s);
void session_consume(struct session *s, size_t n);

/* Bytes have come, or have left: more time for what is under way. */
void session_came(struct session *s, size_t n);
void session_left(struct session *s, size_t n);

/* ---- session_io.c: sockets, plain or TLS ---- */
enum io_result { IO_AGAIN_ = 0, IO_DONE_ = 1, IO_END_ = 2, IO_BROKEN_ = 3 };
enum io_result session_fill(struct session *s); /* one read into s->in */
/* Another buffer of `size` bytes (at least in.len) for the input. Half a password may be in it: the old one is wiped.
 */
void input_resize(struct session *s, size_t size);
bool session_unread(struct session *s); /* the kernel holds input that nobody has read */
ssize_t session_send(struct session *s, const void *data, size_t len, bool more); /* as send(2); EAGAIN */
/* Is a whole record there to begin with (or something that is none, or the end)? Until then no SSL, which takes 50 KB.
 */
bool session_hello_came(struct session *s);
enum io_result session_handshake(struct session *s);
int session_tls_begin(struct session *s); /* -1: no TLS to be had */
void session_tls_end(struct session *s, bool orderly);

/* ---- output.c ---- */
enum io_result output_flush(struct session *s); /* DONE: all gone; AGAIN: the socket is full */
void output_release(struct session *s);

/* ---- bulk.c ---- */
bool bulk_feed(struct session *s); /* true: whole */
void bulk_release(struct session *s);

/* ---- proxy.c ---- */
/* 1: taken, addresses set; 0: more bytes; -1: not a PROXY header. */
int proxy_header_take(struct session *s);
/* The same over plain bytes: returns the header's length, 0 or -1. family_r AF_UNSPEC: keep the socket's. */
ssize_t proxy_parse(struct str in, struct net_addr *peer_r, struct net_addr *local_r, bool *known_r);

/* ---- transcript.c ---- */
void transcript_unit(struct session *s, struct str unit);
void transcript_flush(struct session *s);
void transcript_end(struct session *s);
void transcript_output(struct session *s, struct str bytes);

/* ---- tls.c ---- */
SSL *tls_session_new(struct tls_context *t, struct session *s);
void tls_log_errors(const char *what, const char *peer);

/* ---- buffers a thread keeps for the session it runs ---- */
void buffer_lend(struct buf *b, size_t max);
void buffer_return(struct buf *b, size_t max);
void buffers_thread_end(void);

/* A thread of the pool: pool.c, block.c. */
struct pool_thread {
	struct engine *engine;
	void (*another)(struct engine *e); /* engine_pool_start_another() */
	bool first;			   /* the one inside engine_run() */
	bool ready_turn;		   /* fairness between the line and the sockets */
	unsigned nested[BLOCK_KINDS];
};
extern __thread struct pool_thread *engine_thread; /* NULL in any other */

#endif
