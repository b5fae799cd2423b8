/* session - one connection as its protocol sees it.
 *
 * All functions are for the thread that owns the session (a handler), except session_wake(). Output is
 * buffered and flushed when the handler returns and no further unit is waiting: replies to pipelined
 * commands leave together. */
#ifndef ENGINE_SESSION_H
#define ENGINE_SESSION_H

#include "base/arena.h"
#include "base/buf.h"
#include "engine/engine.h"

struct session;

/* Names a session from outside; harmless when it is gone. */
struct session_ref {
	uint32_t index;
	uint32_t generation;
};

/* What a handler wants next. */
enum next {
	NEXT_UNIT,    /* wait for the next unit */
	NEXT_BULK,    /* session_bulk() was called: collect it, then run protocol->bulk */
	NEXT_PRODUCE, /* session_produce() was called: run the producer until it is done, then go on */
	NEXT_TLS,     /* session_starttls() was called: flush, hand-shake, then run protocol->secured */
	NEXT_CLOSE,   /* flush what is buffered, then close */
	NEXT_ABORT,   /* close at once */
	NEXT_AGAIN,   /* session_again() said yes: the same unit runs again a little later */
};

/* What frame() may answer instead of a length. */
#define FRAME_MORE 0 /* not a whole unit yet */
#define FRAME_TOO_LONG                                                                                                 \
	(-1) /* the unit is over the protocol's limit: protocol->too_long runs, which replies                          \
		and returns NEXT_CLOSE, or NEXT_UNIT after calling session_skip_line() */

struct protocol {
	const char *name;  /* "smtp" */
	size_t state_size; /* the protocol's own struct: zeroed, session_state(), freed after close() */
	size_t input_max;  /* bytes of one unit at most, collected by the engine (frame is asked below that) */

	/* The first moment of a connection, before a hand-shake is paid for: may it stay (session_client_count())?
	 * If not, what this has written is sent (over a port with implicit TLS nothing can be) and it is closed;
	 * open and close do not run, the state is not to be touched. NULL: all may. */
	bool (*admit)(struct session *s);
	enum next (*open)(struct session *s); /* connected (TLS done if implicit): greet */
	/* Length of the first whole unit in `in`, FRAME_MORE or FRAME_TOO_LONG. Called again with more bytes;
	 * *scanned starts at 0 for each unit and is the protocol's to remember how far it has looked. May
	 * write (an IMAP continuation for a literal). */
	ssize_t (*frame)(struct session *s, struct str in, size_t *scanned);
	enum next (*unit)(struct session *s, struct str unit); /* one whole unit; valid until return */
	enum next (*too_long)(struct session *s);
	enum next (*bulk)(struct session *s);	 /* the bulk is whole, or was refused: see session_bulk_*() */
	enum next (*secured)(struct session *s); /* TLS is up after STARTTLS */
	enum next (*change)(struct session *s);	 /* session_wake() was called; may be NULL */
	enum next (*timeout)(struct session *s); /* nothing came for session_set_timeout(); NULL: close */
	enum next (*stop)(struct session *s);	 /* the system stops: 421, BYE; NULL: close */
	/* The context for a handshake that starts now; the engine takes over the reference (service_tls() gives
	 * one). NULL (or a NULL function): TLS is not to be had. */
	struct tls_context *(*tls)(struct session *s);
	void (*close)(struct session *s); /* release the state; nothing can be written; may be NULL */
};

/* ---- who and where ---- */
void *session_state(struct session *s);
void *session_service(struct session *s);
uint64_t session_id(struct session *s); /* unique in this process's life; grants quote it */
struct session_ref session_ref(struct session *s);
const struct net_addr *session_peer(struct session *s);
const struct net_addr *session_local(struct session *s);
const char *session_peer_text(struct session *s); /* "192.0.2.1", "unix" */
/* Who connected to a UNIX socket, as the kernel knows it (SO_PEERCRED). False for other sockets. */
bool session_peer_uid(struct session *s, uint32_t *uid_r);
/* Open connections of this one's client (its address, of IPv6 the /64) to this service, itself included; counted
 * when it was connected. 0 for a UNIX socket. */
unsigned session_client_count(const struct session *s);
/* From now on this session counts as one of `user` (any number but 0) from its address: returns how many there are by
 * this protocol, itself included. 0 for a UNIX socket. */
unsigned session_user_count(struct session *s, uint64_t user);

/* ---- output ---- */
void session_write(struct session *s, struct str bytes);
void session_printf(struct session *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* len bytes of a file from offset; the descriptor is duplicated. */
enum {
	SLICE_CRLF = 1,	  /* each LF not behind a CR is sent as CRLF */
	SLICE_NO_NUL = 2, /* each NUL is sent as 0x80: as many bytes, and none that clients stop at */
};
void session_write_file(struct session *s, int fd, uint64_t offset, uint64_t len, unsigned how);
/* What was promised (the rest of a literal) cannot be sent any more: the connection ends without another word. */
void session_break(struct session *s);
size_t session_unsent(struct session *s);
void session_flush(struct session *s); /* now, as far as the socket takes it without waiting */
/* Produces a long answer a piece at a time: fn runs whenever little is unsent, writes some, and returns true
 * while there is more. No unit runs meanwhile. Return NEXT_PRODUCE after this call. `then` runs at the end. */
void session_produce(struct session *s, bool (*fn)(struct session *s, void *arg), void *arg,
		     enum next (*then)(struct session *s, void *arg));

/* ---- bulk input: DATA, BDAT, APPEND ---- */
struct bulk_filter {
	/* Takes bytes from in, appends decoded ones to out, returns how many it took; *done at the end of the
	 * bulk (bytes behind it stay input). Called with at least one byte. */
	size_t (*take)(void *state, struct str in, struct buf *out, bool *done);
	void *state;
};
/* Opens the file for a bulk that outgrows memory: a descriptor of the process that will own it. May block
 * in an RPC. Returns the descriptor (the engine writes, never closes it), or -1 with err: the rest is
 * swallowed, session_bulk_error() tells. */
typedef int bulk_spill_fn(struct session *s, void *arg, struct err *err);
struct bulk_options {
	uint64_t count; /* exactly so many bytes, when filter.take is NULL */
	struct bulk_filter filter;
	uint64_t max;	   /* decoded bytes past which the bulk is refused (swallowed, too_large); 0: none */
	size_t memory_max; /* kept in memory up to here (64 KB by default when 0), then spilled */
	bulk_spill_fn *spill;
	void *spill_arg;
	bool append; /* go on with the bulk collected before (BDAT) instead of a new one */
};
void session_bulk(struct session *s, const struct bulk_options *options); /* then return NEXT_BULK */
uint64_t session_bulk_size(struct session *s);				  /* decoded bytes */
struct str session_bulk_memory(struct session *s);			  /* all of it, when nothing was spilled */
bool session_bulk_spilled(struct session *s); /* it is in the file; session_bulk_memory() is empty */
bool session_bulk_too_large(struct session *s);
const struct err *session_bulk_error(struct session *s); /* kind ERR_OK when all is well */
uint32_t session_bulk_crc(struct session *s);		 /* CRC32C of the decoded bytes */
void session_bulk_drop(struct session *s);		 /* forget it; memory given back */

/* ---- TLS ---- */
/* Bytes behind the current unit that the peer has already sent. STARTTLS with any is an attack: refuse. */
bool session_input_pending(struct session *s);
void session_starttls(struct session *s); /* then return NEXT_TLS */
bool session_is_tls(struct session *s);
struct session_tls {
	const char *protocol; /* "TLSv1.3" */
	const char *cipher;   /* "TLS_AES_256_GCM_SHA384" */
	int bits, alg_bits;
	const char *sni; /* or NULL */
};
bool session_tls_info(struct session *s, struct session_tls *info_r);
/* Channel binding for SCRAM-PLUS: "tls-exporter" (RFC 9266) with TLS 1.3, "tls-unique" (RFC 5929) before.
 * False without TLS, or for a type that does not fit the connection. */
bool session_channel_binding(struct session *s, struct str type, char out[64], size_t *len_r);

/* ---- time and events ---- */
/* How long the client may be silent between units, from now on. Where session_set_deadline() was not called it holds
 * for each read and write as well. */
void session_set_timeout(struct session *s, int64_t idle_ms);
/* From now on a unit or bulk that has begun to come must be whole, and output taken, within request_ms; every min_rate
 * bytes of it buy a second more, but never more than request_ms from now on. So who sends or takes a byte now and then
 * does not stay for ever. A hand-shake has to end within request_ms, too, when that is less than the engine's own
 * limit. When the time is over protocol->timeout runs (or, with output unsent, the connection closes). 0: no deadline.
 * May be called in admit(). */
void session_set_deadline(struct session *s, int64_t request_ms, int64_t min_rate);
/* What this handler has written leaves, and the next unit runs (or the connection closes), only after delay_ms:
 * failed log-ins, error floods. Holds no thread. */
void session_delay(struct session *s, int64_t delay_ms);
/* For a unit() that cannot be served yet, because too many others are (rpc_is_busy()): true, and the handler, which has
 * written nothing, returns NEXT_AGAIN and is called with the same unit soon, holding no thread meanwhile. False when
 * that has gone on for half a minute. */
bool session_again(struct session *s);
bool session_is_again(const struct session *s); /* this is not the first time that unit() sees this unit */
/* Sets CHANGE and runs protocol->change soon. Any thread, any time. */
void session_wake(struct engine *e, struct session_ref ref);
/* From change(): frame() is asked again about what it called FRAME_MORE before. */
void session_look_again(struct session *s);
struct engine *session_engine(struct session *s);
void session_skip_line(struct session *s); /* drop input up to and including the next LF */
/* From now on every line in and out is logged (debug_peer_list); secrets: pass the count of bytes of the
 * unit to show to session_transcript_hide(). What is hidden is wiped from the input buffer behind the handler, too. */
void session_transcript(struct session *s, bool on);
/* The dialogue is kept from now on, at most about 10 KB: its first lines and its last ones, without what bulks hold;
 * and appended to out ("In:  ", "Out: "), also from close(). */
void session_keep(struct session *s);
void session_kept(const struct session *s, struct buf *out);
void session_transcript_hide(struct session *s, size_t shown); /* before the handler's first output */

#endif
