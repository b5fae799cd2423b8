/* What was taken, by sender and bytes. What the store's notes are for what it delivers (store/deliver.c), these are for
 * what waits here: a client that did not hear that its message was taken sends it again, and the second must not be
 * taken, too.
 *
 *	F delivery-id -> struct queue_taken
 *
 * The key is written in the commit that takes the message. It goes when the front end has told that its answer left
 * (QUEUE_HEARD) and the message has ended, whichever comes last; it outlives the message by days at most, when no
 * client tries any more. That an answer left is written without a flush of its own, with all others of some seconds;
 *from then on the record is on the disk alone. While the front end's session lives a message is nobody's second try:
 *only one whose session told that its answer did not leave, or whose front end has died, is an orphan that QUEUE_KNOWN
 *speaks of. */
#include "queue/service_private.h"

#include "base/clock.h"
#include "base/log.h"

#define KEEP_S	     (5 * 86400)
#define STRIKE_MS    5000
#define TAKEN_MAX    ((size_t)4 << 20) /* bytes of one record */
#define STRIKE_BATCH 1000

static struct str taken_key(const uint8_t delivery_id[16], char out[QUEUE_KEY_MAX])
{
	out[0] = 'F';
	memcpy(out + 1, delivery_id, 16);
	return str_of(out, 17);
}

static struct taken *taken_find(struct queue_service *q, struct str delivery_id)
{
	return delivery_id.len == 16 ? map_get(q->taken, delivery_id) : NULL;
}

static void taken_free(struct taken *t)
{
	arena_release(&t->arena);
	free(t);
}

static bool taken_add(struct queue_service *q, struct str delivery_id, struct str value, uint64_t peer)
{
	struct taken *t = NEW(struct taken);
	struct err err;

	arena_init(&t->arena);
	memcpy(t->delivery_id, delivery_id.ptr, 16);
	t->peer = peer;
	if (rpc_decode(&queue_taken_type, arena_str(&t->arena, value), NULL, 0, &t->arena, &t->rec, &err) < 0) {
		taken_free(t);
		return false;
	}
	t = map_set(q->taken, delivery_id, t);
	if (t)
		taken_free(t);
	return true;
}

static int taken_encode(const struct queue_taken *rec, struct arena *a, struct str *value_r, struct err *err)
{
	struct buf out;
	int fds[1], rc;
	size_t fd_count = 0;

	buf_init(&out, TAKEN_MAX);
	rc = rpc_encode(&queue_taken_type, rec, &out, fds, &fd_count, err);
	if (rc == 0 && buf_failed(&out))
		rc = err_set(err, ERR_LIMIT, "5.5.3", "too many recipients, or too long ones");
	*value_r = rc == 0 ? arena_str(a, buf_str(&out)) : STR_NULL;
	buf_release(&out);
	return rc;
}

int taken_op(const struct queue_message *m, struct str fingerprint, struct arena *a, struct kvlog_op *op_r,
	     struct err *err)
{
	struct queue_taken rec = {.id = m->id, .fingerprint = fingerprint, .time = (uint64_t)clock_wall()};
	char key[QUEUE_KEY_MAX];

	rec.recipients.v = ARENA_ARRAY(a, struct queue_address, m->rcpts.n);
	for (size_t i = 0; i < m->rcpts.n; i++)
		rec.recipients.v[rec.recipients.n++] = (struct queue_address){m->rcpts.v[i].address};
	*op_r = (struct kvlog_op){.key = arena_str(a, taken_key((const uint8_t *)m->delivery_id.ptr, key))};
	return taken_encode(&rec, a, &op_r->value, err);
}

void taken_committed(struct queue_service *q, const struct kvlog_op *op, const struct rpc_peer *peer)
{
	(void)taken_add(q, str_skip(op->key, 1), op->value, rpc_peer_id(peer) + 1);
}

static void taken_drop(struct queue_service *q, struct str delivery_id)
{
	struct taken *t = map_remove(q->taken, delivery_id);

	if (t)
		taken_free(t);
}

bool taken_ended(struct queue_service *q, struct str delivery_id, bool by_hand, struct arena *a, struct kvlog_op *op_r)
{
	const struct taken *t = taken_find(q, delivery_id);
	char key[QUEUE_KEY_MAX];

	/* Not in memory: heard, or never noted. */
	if (delivery_id.len != 16 || (t && !t->rec.heard && !by_hand))
		return false;
	*op_r = (struct kvlog_op){.key = arena_str(a, taken_key((const uint8_t *)delivery_id.ptr, key)), .del = true};
	taken_drop(q, delivery_id);
	return true;
}

/* ---- writing what was heard ---- */

static bool message_there(struct queue_service *q, struct str id, struct arena *a)
{
	char key[QUEUE_KEY_MAX];
	struct str value;

	return kvlog_get(q->k, message_key(id, key), a, &value, NULL) > 0;
}

/* The record says so from now on, or goes, when its message has ended. */
static void heard_op(struct queue_service *q, const struct delivery_key *d, struct arena *a, struct kvlog_op *op_r)
{
	struct str id = str_of(d->id, sizeof(d->id));
	struct taken *t = taken_find(q, id);
	char key[QUEUE_KEY_MAX];

	*op_r = (struct kvlog_op){.key = arena_str(a, taken_key(d->id, key)), .del = true};
	if (t && message_there(q, t->rec.id, a))
		op_r->del = taken_encode(&t->rec, a, &op_r->value, NULL) < 0;
}

static void strike_soon(struct queue_service *q, bool may_now);

static void strike(void *ctx)
{
	struct queue_service *q = ctx;
	struct kvlog_op *ops;
	struct arena arena;
	struct err err = ERR_NONE;
	bool failed = false;
	size_t n = 0;

	q->striking = q->striking_now = false;
	arena_init(&arena);
	ops = ARENA_ARRAY(&arena, struct kvlog_op, STRIKE_BATCH);
	for (; n < STRIKE_BATCH && n < q->heard.n; n++)
		heard_op(q, &q->heard.v[q->heard.n - 1 - n], &arena, &ops[n]);
	if (n > 0 && !kvlog_commit(q->k, ops, n, NULL, 0, NULL, NULL, &err)) {
		/* Tried again: what nobody seems to have heard makes the next message like it a second try. */
		if (!q->strike_failed)
			log_warning("cannot strike off what was answered, tried again until it is possible: %s",
				    err.text);
		n = 0;
		failed = true;
	}
	q->strike_failed = failed;
	for (; n > 0; n--) {
		struct delivery_key *d = &q->heard.v[--q->heard.n];

		taken_drop(q, str_of(d->id, sizeof(d->id)));
	}
	arena_release(&arena);
	if (q->heard.n > 0)
		strike_soon(q, !failed);
}

/* What waits for it is in memory: a full batch goes at once. */
static void strike_soon(struct queue_service *q, bool may_now)
{
	bool now = may_now && q->heard.n >= STRIKE_BATCH;

	if (now ? q->striking_now : q->striking)
		return;
	q->striking = true;
	q->striking_now = now;
	rpc_server_after(q->server, now ? 0 : STRIKE_MS, strike, q);
}

/* ---- calls ---- */

void queue_handle_heard(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_heard *msg = req->msg;
	struct taken *t = taken_find(q, msg->delivery_id);
	struct delivery_key id;

	/* Also of another front end's message: it has answered the second try of that one's sender. */
	if (t && msg->heard && !t->rec.heard) {
		t->rec.heard = 1;
		memcpy(id.id, t->delivery_id, sizeof(id.id));
		vec_push(&q->heard, id);
		strike_soon(q, true);
	} else if (t && !msg->heard && t->peer == rpc_peer_id(req->peer) + 1) {
		t->peer = 0;
	}
	rpc_answer(req, NULL);
}

void taken_peer_closed(struct queue_service *q, const struct rpc_peer *peer)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(q->taken, &at, &key, &value);) {
		struct taken *t = value;

		if (t->peer == rpc_peer_id(peer) + 1)
			t->peer = 0;
	}
}

static bool is_orphan(const struct taken *t)
{
	return t->peer == 0 && !t->rec.heard;
}

void queue_handle_orphans(struct queue_service *q, struct rpc_request *req)
{
	struct queue_orphans *out = ARENA_NEW(&req->arena, struct queue_orphans);
	struct str key;
	void *value;

	out->fingerprints.v = ARENA_ARRAY(&req->arena, struct queue_fingerprint, map_count(q->taken) + 1);
	for (size_t at = 0; map_next(q->taken, &at, &key, &value);) {
		const struct taken *t = value;

		if (is_orphan(t) && out->fingerprints.n < QUEUE_ORPHANS_MAX)
			out->fingerprints.v[out->fingerprints.n++] = (struct queue_fingerprint){t->rec.fingerprint};
	}
	rpc_answer(req, out);
}

/* The record may go before the answer does. */
static void known_add(struct queue_known *out, const struct taken *t, struct arena *a)
{
	struct queue_known_one *k = &out->messages.v[out->messages.n++];

	*k = (struct queue_known_one){.delivery_id = arena_str(a, str_of(t->delivery_id, 16)),
				      .id = arena_str(a, t->rec.id)};
	k->recipients.v = ARENA_ARRAY(a, struct queue_address, t->rec.recipients.n + 1);
	for (size_t i = 0; i < t->rec.recipients.n; i++)
		k->recipients.v[k->recipients.n++] =
			(struct queue_address){arena_str(a, t->rec.recipients.v[i].address)};
}

struct known_answer {
	struct rpc_request *req;
	struct queue_known *known;
};

static void known_durable(void *ctx)
{
	struct known_answer *k = ctx;

	rpc_answer(k->req, k->known);
	free(k);
}

/* "It was taken" is as good as a 250: said when it is durable. */
void queue_handle_known(struct queue_service *q, struct rpc_request *req)
{
	struct known_answer *k = NEW(struct known_answer);
	const struct queue_fingerprint *ask = req->msg;
	struct queue_known *out = ARENA_NEW(&req->arena, struct queue_known);
	struct str key;
	void *value;

	out->messages.v = ARENA_ARRAY(&req->arena, struct queue_known_one, map_count(q->taken) + 1);
	for (size_t at = 0; map_next(q->taken, &at, &key, &value);) {
		const struct taken *t = value;

		if (is_orphan(t) && str_eq(t->rec.fingerprint, ask->fingerprint))
			known_add(out, t, &req->arena);
	}
	*k = (struct known_answer){req, out};
	kvlog_barrier(q->k, known_durable, k);
}

/* ---- for the relay ---- */

/* The sender's first try may lie in the store, unanswered, while this is his second. */
struct str taken_fingerprint(struct queue_service *q, struct str delivery_id, struct arena *a)
{
	struct taken *t = taken_find(q, delivery_id);
	struct queue_taken rec;
	char key[QUEUE_KEY_MAX];
	struct str value;

	if (t)
		return arena_str(a, t->rec.fingerprint);
	if (delivery_id.len != 16 ||
	    kvlog_get(q->k, taken_key((const uint8_t *)delivery_id.ptr, key), a, &value, NULL) <= 0 ||
	    rpc_decode(&queue_taken_type, value, NULL, 0, a, &rec, NULL) < 0)
		return STR("");
	return rec.fingerprint;
}

/* ---- start ---- */

static void heard_add(struct queue_service *q, struct str delivery_id)
{
	struct delivery_key id;

	memcpy(id.id, delivery_id.ptr, sizeof(id.id));
	vec_push(&q->heard, id);
	strike_soon(q, true);
}

/* Those that were not heard are all in memory, unless they are outdated or damaged: these go. Of the others, which may
 * be as many as there are messages, tidy.c finds what is left to do. */
static int load_one(void *ctx, struct str key, struct str value)
{
	struct queue_service *q = ctx;
	struct queue_taken rec;
	struct str id = str_skip(key, 1);
	struct arena a;
	bool heard;

	if (key.len != 17)
		return 0;
	arena_init(&a);
	heard = rpc_decode(&queue_taken_type, value, NULL, 0, &a, &rec, NULL) == 0 && rec.heard;
	arena_release(&a);
	if (heard)
		return 0;
	if (taken_add(q, id, value, 0)) {
		if (taken_find(q, id)->rec.time + KEEP_S >= (uint64_t)clock_wall())
			return 0;
		taken_drop(q, id);
	}
	heard_add(q, id);
	return 0;
}

void taken_found(struct queue_service *q, struct str key, struct str value)
{
	struct queue_taken rec;
	struct arena a;

	if (key.len != 17)
		return;
	arena_init(&a);
	if (rpc_decode(&queue_taken_type, arena_str(&a, value), NULL, 0, &a, &rec, NULL) == 0 && rec.heard &&
	    !message_there(q, rec.id, &a))
		heard_add(q, str_skip(key, 1));
	arena_release(&a);
}

int taken_load(struct queue_service *q, struct err *err)
{
	return kvlog_range(q->k, STR("F"), STR("G"), false, load_one, q, err) < 0 ? -1 : 0;
}

void taken_free_all(struct queue_service *q)
{
	struct str key;
	void *value;

	for (size_t at = 0; q->taken && map_next(q->taken, &at, &key, &value);)
		taken_free(value);
	map_free(&q->taken);
	vec_release(&q->heard);
}
