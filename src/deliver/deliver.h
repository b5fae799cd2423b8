/* deliver - what happens to a message at its local recipients: in the store with one flush, or safe in the
 * queue, or refused; never half. Used by smtpd, which answers a client with the result, and by relay, which
 * tries again what the queue holds.
 *
 * A delivery has a 128-bit id before its first attempt, and (id, recipient) goes with every attempt: the
 * store does each once. Functions block in RPC and must run on a thread that may. Nothing here is shared. */
#ifndef DELIVER_DELIVER_H
#define DELIVER_DELIVER_H

#include "base/vec.h"
#include "deliver/content.h"
#include "queue/schema.h"

#define DELIVERY_ID_SIZE 16

enum delivery_state {
	DELIVERY_OPEN,	   /* not tried, or nothing known */
	DELIVERY_DONE,	   /* durable in the store */
	DELIVERY_DEFERRED, /* not now: err says why */
	DELIVERY_FAILED,   /* never: err says why */
};

struct delivery_rcpt {
	uint64_t account;    /* 0: elsewhere; only deliver_accept() takes those, into the queue */
	struct str address;  /* resolved; the store's key together with the id */
	struct str original; /* as given in RCPT TO */
	struct str owner;    /* of the list that he is on: the sender of his copy; or "". For the store alone */
	struct str orcpt;
	uint32_t notify;
	uint32_t index; /* the caller's own name for it */
	enum delivery_state state;
	struct err err;
};

struct delivery {
	uint8_t id[DELIVERY_ID_SIZE];
	uint64_t session;    /* under which directory granted the recipients */
	struct str queue_id; /* as logs show it */
	struct str sender, auth_user, client, envid;
	uint8_t ret; /* enum dsn_ret */
	bool smtputf8;
	uint64_t arrival;	      /* seconds */
	uint64_t hold_until, by_time; /* see queue/schema.h; 0: at once, whenever */
	struct str hold_request;
	uint8_t by_mode;
	struct str verp; /* see msg/verp.h, and queue/schema.h; "" for none */
	uint8_t marks;
	struct str prefix; /* Received and what submission added, LF line ends */
	struct content content;
	const struct str *delivered_to; /* Delivered-To values that it came with */
	size_t delivered_to_count;
	struct delivery_rcpt *rcpts;
	size_t rcpt_count;
	bool queued;			   /* it comes from the queue */
	uint8_t (*held)[DELIVERY_ID_SIZE]; /* messages of the queue that our answer speaks of; in the caller's arena */
	size_t held_count;
	struct str summary, fingerprint; /* by deliver_prepare(); live in the arena given there */
};

/* A queue id in the form of Postfix's long ones. */
struct str deliver_queue_id(struct arena *arena);
void delivery_id_make(uint8_t id_r[DELIVERY_ID_SIZE]);
/* Summary (unless there is one) and fingerprint, from one look at the contents. 0, or -1 with err (the contents cannot
 * be read). */
int deliver_prepare(struct delivery *d, struct arena *arena, struct err *err) WARN_UNUSED;

/* Tries every OPEN recipient in the store and leaves each DONE, DEFERRED or FAILED. Those that the store
 * refuses do not hold up the others. Always all recipients are decided. */
void deliver_store(const struct deliver_env *env, struct delivery *d);

enum deliver_result { DELIVER_STORED = 1, DELIVER_QUEUED = 2 };
/* Takes responsibility for the whole message, or for nothing of it (DESIGN 4, "The reply"): one commit in the
 * store; else (a recipient is elsewhere, too, or it is to wait) one in the queue, from where relay delivers and
 * bounces; else -1 with err and nothing written: the refusal of a recipient when all refuse, ERR_TEMP 4.3.0 when nobody
 * can take it now. Recipients for whom the queue has taken the same message from a session that ended without an answer
 * are not served again. Contents are the new owner's on success. queue_id_r (arena): the queue's id, when
 * DELIVER_QUEUED. */
int deliver_accept(const struct deliver_env *env, struct delivery *d, struct arena *arena, struct str *queue_id_r,
		   struct err *err) WARN_UNUSED;
/* The same for a message that nobody is there to be refused: whom the store does not take now or ever, and whoever is
 * DEFERRED because he is not the store's, goes to the queue, from where relay delivers or bounces. -1 with err, nothing
 * written: nobody can take it now. */
int deliver_submit(const struct deliver_env *env, struct delivery *d, struct arena *arena, struct str *queue_id_r,
		   struct err *err) WARN_UNUSED;
struct delivery_key {
	uint8_t id[DELIVERY_ID_SIZE];
};
/* The front end has written its answer: store and queue may forget the delivery id. */
struct delivery_done {
	uint8_t id[DELIVERY_ID_SIZE];
	VEC(struct store_id) accounts; /* that have it */
	VEC(struct delivery_key) held; /* messages of the queue that it spoke of */
	bool queued_only;	       /* the store is not to be told */
};
/* What deliver_confirm() needs when the delivery itself is gone. `done` may be used again. */
void delivery_done_take(struct delivery_done *done, const struct delivery *d);
void delivery_done_release(struct delivery_done *done);
/* The session has ended, and its answer has not left: whoever sends the same again is not told twice. */
void deliver_unheard(const struct deliver_env *env, const struct delivery_done *done);
void deliver_confirm(const struct deliver_env *env, const struct delivery_done *done);

/* "Return-Path: ..", "Delivered-To: ..", (X-Original-To), then d->prefix. CRLF when the contents are as_is. */
struct str deliver_prefix(const struct delivery *d, const struct delivery_rcpt *rcpt, struct arena *arena);
/* Seconds as Postfix logs delays: two digits, never an exponent. Returns where in out it begins. */
const char *deliver_delay_text(double seconds, char out[16]);
/* Whether the message has been at this address before. */
bool deliver_is_loop(const struct delivery *d, struct str address);

#endif
