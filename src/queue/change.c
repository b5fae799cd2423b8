/* QUEUE_COMMIT and QUEUE_RESULT: what changes messages. Each is one commit, answered when it is durable. */
#include "queue/service_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "os/fault.h"
#include "os/io.h"

#define INDEX_WORST ((uint64_t)4 << 20)
#define ENCODED_MAX ((size_t)5 << 20)
#define RECORD_MAX  ((size_t)12 << 20)

/* A change under construction: key operations and contents, and what is to be said when it is durable. */
struct change {
	struct queue_service *q;
	struct rpc_request *req;
	VEC(struct kvlog_op) ops;
	VEC(uint64_t) blobs;
	struct kvlog_op taken; /* one of ops: QUEUE_COMMIT's note of the fingerprint; no key: none */
	struct arena arena;
	struct buf contents;
	char id[QUEUE_ID_MAX];	   /* QUEUE_COMMIT: what is answered */
	bool ended;		   /* QUEUE_RESULT: the message `id` is gone */
	struct str ended_delivery; /* its delivery id */
};

static struct change *change_new(struct queue_service *q, struct rpc_request *req)
{
	struct change *c = NEW(struct change);

	c->q = q;
	c->req = req;
	arena_init(&c->arena);
	buf_init(&c->contents, RECORD_MAX);
	return c;
}

static void change_free(struct change *c)
{
	arena_release(&c->arena);
	buf_release(&c->contents);
	vec_release(&c->ops);
	vec_release(&c->blobs);
	free(c);
}

static void change_op(struct change *c, struct str key, struct str value, bool del)
{
	struct kvlog_op op = {arena_str(&c->arena, key), arena_str(&c->arena, value), del};

	vec_push(&c->ops, op);
}

/* Both keys of a message. */
static int change_put(struct change *c, struct str id, uint64_t due, const struct queue_message *m, struct str *value_r,
		      struct err *err)
{
	char key[QUEUE_KEY_MAX];
	struct buf value;

	buf_init(&value, ENCODED_MAX);
	if (!message_encode(due, m, &value)) {
		buf_release(&value);
		return err_set(err, ERR_LIMIT, "5.5.3", "too many recipients, or too long ones");
	}
	*value_r = arena_str(&c->arena, buf_str(&value));
	buf_release(&value);
	change_op(c, message_key(id, key), *value_r, false);
	change_op(c, schedule_key(due, message_destination(m), id, key), STR_NULL, false);
	return 0;
}

static void change_unschedule(struct change *c, const struct queued *m)
{
	char key[QUEUE_KEY_MAX];

	change_op(c, schedule_key(m->due, message_destination(&m->m), m->m.id, key), STR_NULL, true);
}

static void change_end(struct change *c, const struct queue_message *m, bool by_hand)
{
	char key[QUEUE_KEY_MAX];
	struct kvlog_op op;

	change_op(c, message_key(m->id, key), STR_NULL, true);
	contents_encode_end(&c->contents, m->id);
	if (taken_ended(c->q, m->delivery_id, by_hand, &c->arena, &op))
		vec_push(&c->ops, op);
}

/* ---- new messages ------------------------------------------------------------------------------------- */

static int admit(struct queue_service *q, uint64_t size, struct err *err)
{
	uint64_t bytes, inodes, need = size + (uint64_t)q->o.parameters.message_size_limit + INDEX_WORST;

	if (io_free_space(q->msgs, &bytes, &inodes) < 0)
		return err_errno(err, "cannot ask for free space");
	if (bytes < need || inodes < 64)
		return err_set(err, ERR_FULL, "4.3.1", "insufficient system storage");
	return 0;
}

static int check_message(struct queue_service *q, const struct queue_message *m, uint64_t *blob_size_r, struct err *err)
{
	if (m->rcpts.n == 0 || m->rcpts.n > QUEUE_RCPTS_MAX)
		return err_set(err, ERR_LIMIT, "5.5.3", "a message with %zu recipients", m->rcpts.n);
	if (m->delivery_id.len != 16)
		return err_set(err, ERR_PERM, "5.3.0", "a message without a delivery id");
	*blob_size_r = m->body.len;
	if (m->blob && m->body.len)
		return err_set(err, ERR_PERM, "5.3.0", "a message with two bodies");
	if (m->blob && !spool_finished(q->spool, m->blob, blob_size_r))
		return err_set(err, ERR_TEMP, "4.3.0", "no such blob");
	if (!m->blob && m->body.len > QUEUE_INLINE_MAX)
		return err_set(err, ERR_LIMIT, "5.3.4", "an inline body of %zu bytes", m->body.len);
	return admit(q, *blob_size_r, err);
}

/* Only of him who began it, and for one message. */
static bool blob_is_free(const struct change *c, uint64_t blob)
{
	for (size_t i = 0; i < c->blobs.n; i++)
		if (c->blobs.v[i] == blob)
			return false;
	return blob_is_of(c->q, blob, c->req->peer);
}

/* Adds one new message to the change; its id to id_r. One that was taken before is not added again. */
static int change_add(struct change *c, const struct queue_message *given, struct str fingerprint,
		      char id_r[QUEUE_ID_MAX], struct err *err)
{
	struct queue_message m = *given;
	char key[QUEUE_KEY_MAX];
	uint64_t blob_size;
	struct str value, id;
	int known = repeat_find(c->q, m.delivery_id, &c->arena, &id, err);

	if (known > 0)
		snprintf(id_r, QUEUE_ID_MAX, "%.*s", STR_ARG(id));
	/* The caller takes it for used: nobody else would ever drop it. */
	if (known > 0 && m.blob && blob_is_free(c, m.blob)) {
		spool_drop(c->q->spool, m.blob);
		map_remove_u64(c->q->blobs, m.blob);
	}
	if (known != 0)
		return known < 0 ? -1 : 0;
	if (m.blob && !blob_is_free(c, m.blob))
		return err_set(err, ERR_TEMP, "4.3.0", "no such blob");
	if (check_message(c->q, &m, &blob_size, err) < 0)
		return -1;
	queue_id_new(c->q, id_r);
	m.id = str_from(id_r);
	m.arrival = (uint64_t)clock_wall();
	m.size = blob_size;
	if (change_put(c, m.id, m.arrival, &m, &value, err) < 0)
		return -1;
	change_op(c, repeat_key(m.delivery_id, key), m.id, false);
	if (fingerprint.len > 0) {
		if (taken_op(&m, fingerprint, &c->arena, &c->taken, err) < 0)
			return -1;
		vec_push(&c->ops, c->taken);
	}
	contents_encode(&c->contents, m.id, &m, value, blob_size);
	if (m.blob)
		vec_push(&c->blobs, m.blob);
	return 0;
}

/* ---- committing --------------------------------------------------------------------------------------- */

static void change_durable(void *ctx)
{
	struct change *c = ctx;
	struct queue_service *q = c->q;
	struct queue_id id = {str_from(c->id)};
	struct queue_ok ok = {0};

	FAULT_POINT("queue.flushed");
	if (c->ended) {
		repeat_ended(q, c->ended_delivery);
		contents_end(q, id.id);
		map_remove(q->claims, id.id);
	}
	if (c->req && c->req->number == QUEUE_COMMIT.number)
		rpc_answer(c->req, &id);
	else if (c->req)
		rpc_answer(c->req, &ok);
	change_free(c);
	queue_pump(q);
}

static void change_refuse(struct change *c, const struct err *err)
{
	rpc_refuse(c->req, err);
	change_free(c);
}

/* The journal and the memory hold the same bytes: what a replay would make of the record. */
static int change_commit(struct change *c, struct err *err)
{
	struct queue_service *q = c->q;
	struct str extra = buf_str(&c->contents);
	char key[QUEUE_KEY_MAX];
	uint8_t outdated[16];
	uint64_t lsn;

	if (buf_failed(&c->contents))
		return err_set(err, ERR_LIMIT, "5.3.4", "a change too large for the queue");
	if (c->ops.n == 0) {
		kvlog_barrier(q->k, change_durable, c);
		return 0;
	}
	for (unsigned n = 0; n < 20 && repeat_outdated(q, outdated); n++)
		change_op(c, repeat_key(str_of(outdated, sizeof(outdated)), key), STR_NULL, true);
	lsn = kvlog_commit(q->k, c->ops.v, c->ops.n, &extra, 1, change_durable, c, err);
	if (!lsn)
		return -1;
	if (c->taken.key.len > 0)
		taken_committed(q, &c->taken, c->req->peer);
	for (size_t i = 0; i < c->blobs.n; i++) {
		spool_use(q->spool, c->blobs.v[i]);
		map_remove_u64(q->blobs, c->blobs.v[i]);
	}
	contents_take(q, lsn, extra);
	return 0;
}

void queue_handle_commit(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_commit *msg = req->msg;
	struct change *c = change_new(q, req);
	struct err err = ERR_NONE;

	if (change_add(c, &msg->message, msg->fingerprint, c->id, &err) < 0 || change_commit(c, &err) < 0)
		change_refuse(c, &err);
}

/* ---- results ------------------------------------------------------------------------------------------ */

static const struct queue_rcpt_outcome *outcome_of(const struct queue_result *r, uint32_t index)
{
	for (size_t i = 0; i < r->outcomes.n; i++)
		if (r->outcomes.v[i].index == index)
			return &r->outcomes.v[i];
	return NULL;
}

/* Takes the finished recipients out. Returns whether one of the others was deferred. */
static bool apply_outcomes(struct queue_message *m, const struct queue_result *r)
{
	bool deferred = false;
	size_t left = 0;

	for (size_t i = 0; i < m->rcpts.n; i++) {
		struct queue_rcpt rcpt = m->rcpts.v[i];
		const struct queue_rcpt_outcome *o = outcome_of(r, rcpt.index);

		if (o && o->outcome != OUTCOME_DEFERRED)
			continue;
		if (o) {
			deferred = true;
			rcpt.attempts++;
			rcpt.last_code = o->code;
			rcpt.last_text = o->text;
		}
		m->rcpts.v[left++] = rcpt;
	}
	m->rcpts.n = left;
	return deferred;
}

/* As old as the message is, within the bounds (the rule of qmgr(8)); the last attempt falls on the end of its
 * life, so that it does not outlive it by a whole pause. */
static uint64_t next_due(const struct queue_service *q, const struct queue_message *m)
{
	const struct queue_parameters *p = &q->o.parameters;
	uint64_t now = (uint64_t)clock_wall(), age = now > m->arrival ? now - m->arrival : 0;
	uint64_t low = (uint64_t)p->minimal_backoff_time / 1000, high = (uint64_t)p->maximal_backoff_time / 1000;
	uint64_t life = (uint64_t)(m->sender.len ? p->maximal_queue_lifetime : p->bounce_queue_lifetime) / 1000;
	uint64_t pause = age < low ? low : age > high ? high : age;

	pause = pause ? pause : 1;
	if (age < life && age + pause > life)
		pause = life - age;
	return now + pause;
}

static int check_result(const struct queue_result *r, struct err *err)
{
	for (size_t i = 0; i < r->outcomes.n; i++)
		if (r->outcomes.v[i].outcome < OUTCOME_DELIVERED || r->outcomes.v[i].outcome > OUTCOME_FAILED)
			return err_set(err, ERR_SYNTAX, "5.5.4", "an unknown outcome");
	return 0;
}

static int change_result(struct change *c, const struct queue_result *r, struct err *err)
{
	char bounce[QUEUE_ID_MAX];
	struct queued m;
	struct str value;
	bool deferred;
	int rc;

	if (check_result(r, err) < 0)
		return -1;
	rc = message_get(c->q, r->id, &c->arena, &m, err);
	if (rc <= 0)
		return rc < 0 ? -1 : err_set(err, ERR_NOT_FOUND, "5.1.1", "no such message in the queue");
	change_unschedule(c, &m);
	deferred = apply_outcomes(&m.m, r);
	c->ended = m.m.rcpts.n == 0;
	c->ended_delivery = m.m.delivery_id;
	if (c->ended)
		change_end(c, &m.m, false);
	else if (change_put(c, m.m.id, deferred && m.due < QUEUE_HELD ? next_due(c->q, &m.m) : m.due, &m.m, &value, err) < 0)
		return -1;
	for (size_t i = 0; i < r->bounces.n; i++)
		if (r->bounces.v[i].rcpts.n && change_add(c, &r->bounces.v[i], STR(""), bounce, err) < 0)
			return -1;
	return 0;
}

void queue_handle_result(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_result *r = req->msg;
	struct change *c = change_new(q, req);
	struct err err = ERR_NONE;

	/* With its report the peer has let go of the message, whether we can take the report or not: then it comes
	 * back, and the store knows by the delivery id what was delivered already. */
	if (claimed_by_another(q, r->id, req->peer)) {
		err_set(&err, ERR_DENIED, "4.3.0", "that message was claimed by another");
		change_refuse(c, &err);
		return;
	}
	if (queue_id_ok(r->id)) {
		snprintf(c->id, sizeof(c->id), "%.*s", STR_ARG(r->id));
		claim_drop_of(q, r->id, req->peer);
	}
	if (change_result(c, r, &err) < 0 || change_commit(c, &err) < 0)
		change_refuse(c, &err);
}

/* ---- an administrator's hand -------------------------------------------------------------------------- */

/* One commit a message; the last one answers for all. */
void queue_change_by_hand(struct queue_service *q, struct str id, enum queue_action action)
{
	struct change *c = change_new(q, NULL);
	struct err err = ERR_NONE;
	struct str value;
	struct queued m;

	snprintf(c->id, sizeof(c->id), "%.*s", STR_ARG(id));
	if (message_get(q, id, &c->arena, &m, &err) <= 0) {
		change_free(c);
		return;
	}
	/* Each of these is for what is in its own state. */
	if ((action == QUEUE_FLUSH && m.due >= QUEUE_HELD) || (action == QUEUE_RELEASE && m.due < QUEUE_HELD)) {
		change_free(c);
		return;
	}
	for (size_t i = 0; i < m.m.rcpts.n && action == QUEUE_REQUEUE; i++)
		m.m.rcpts.v[i].attempts = 0;
	change_unschedule(c, &m);
	c->ended = action == QUEUE_DELETE;
	c->ended_delivery = m.m.delivery_id;
	if (c->ended)
		change_end(c, &m.m, true);
	else if (change_put(c, m.m.id, action == QUEUE_HOLD ? QUEUE_HELD : (uint64_t)clock_wall(), &m.m, &value, &err) < 0)
		log_error("%s: %s", c->id, err.text);
	if (change_commit(c, &err) < 0) {
		log_error("%s: %s", c->id, err.text);
		change_free(c);
	} else if (action == QUEUE_DELETE) {
		log_info("%.*s: removed", STR_ARG(m.m.id));
	}
}
