/* QUEUE_COMMIT and QUEUE_RESULT: what changes messages. Each is one commit, answered when it is durable. */
#include "queue/change.h"

#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "os/fault.h"
#include "os/io.h"

#define INDEX_WORST ((uint64_t)4 << 20)
#define ENCODED_MAX ((size_t)5 << 20)
#define RECORD_MAX  ((size_t)12 << 20)

struct change *change_new(struct queue_service *q, struct rpc_request *req)
{
	struct change *c = NEW(struct change);

	c->q = q;
	c->req = req;
	arena_init(&c->arena);
	buf_init(&c->contents, RECORD_MAX);
	return c;
}

void change_free(struct change *c)
{
	arena_release(&c->arena);
	buf_release(&c->contents);
	vec_release(&c->ops);
	vec_release(&c->blobs);
	free(c);
}

void change_op(struct change *c, struct str key, struct str value, bool del)
{
	struct kvlog_op op = {arena_str(&c->arena, key), arena_str(&c->arena, value), del};

	vec_push(&c->ops, op);
}

static void add_op(void *ctx, struct str key, struct str value)
{
	change_op(ctx, key, value, false);
}

/* Its schedule stays. */
static int part_replace(struct change *c, struct part_id id, const struct queue_part *p, struct err *err)
{
	char key[QUEUE_KEY_MAX];
	struct buf value;
	int rc = 0;

	buf_init(&value, ENCODED_MAX);
	if (part_encode(p, &value))
		change_op(c, part_key(id, key), buf_str(&value), false);
	else
		rc = err_set(err, ERR_LIMIT, "5.5.3", "too many recipients, or too long ones");
	buf_release(&value);
	return rc;
}

int part_put(struct change *c, struct part_id id, const struct queue_part *p, struct err *err)
{
	char key[QUEUE_KEY_MAX];
	int rc = part_replace(c, id, p, err);

	if (rc == 0 && (id.part < PART_TOLD || id.part == QUEUE_PART_REPORT))
		change_op(c, schedule_key(p->destination, p->bulk, p->due, id, key), STR_NULL, false);
	return rc;
}

void part_unschedule(struct change *c, struct part_id id, const struct queue_part *p)
{
	char key[QUEUE_KEY_MAX];

	change_op(c, schedule_key(p->destination, p->bulk, p->due, id, key), STR_NULL, true);
}

void part_gone(struct change *c, struct part_id id)
{
	char key[QUEUE_KEY_MAX];

	change_op(c, part_key(id, key), STR_NULL, true);
}

int head_put(struct change *c, const struct queued *m, uint32_t parts, struct err *err)
{
	char key[QUEUE_KEY_MAX];
	struct buf head;
	int rc = 0;

	buf_init(&head, ENCODED_MAX);
	if (message_head_encode(&m->m, parts, m->nrcpt, &head))
		change_op(c, message_key(m->m.id, key), buf_str(&head), false);
	else
		rc = err_set(err, ERR_LIMIT, "5.5.3", "too long an envelope");
	buf_release(&head);
	return rc;
}

void change_end(struct change *c, const struct queue_message *m, bool by_hand)
{
	struct ended_message end = {arena_str(&c->arena, m->id), arena_str(&c->arena, m->delivery_id)};
	char key[QUEUE_KEY_MAX];
	struct kvlog_op op;

	if (repeat_is_over(m)) {
		change_op(c, repeat_key(m->delivery_id, key), STR_NULL, true);
		end.delivery_id = STR("");
	}
	vec_push_arena(&c->arena, &c->ends, end);
	change_op(c, message_key(m->id, key), STR_NULL, true);
	if (later_is_counted(m))
		change_op(c, later_key(m, key), STR_NULL, true);
	contents_encode_end(&c->contents, m->id);
	if (taken_ended(c->q, m->delivery_id, by_hand, &c->arena, &op))
		vec_push(&c->ops, op);
}

/* ---- new messages ------------------------------------------------------------------------------------- */

/* Free space is asked for again when the answer is older than this, or when it is not ample: others write too. */
#define ROOM_MS		  50
#define ROOM_AMPLE	  ((uint64_t)1 << 30)
#define ROOM_AMPLE_INODES 100000u

/* *ample_r: so much is free that nobody need ask again so soon. */
static int admit(struct queue_service *q, uint64_t size, bool *ample_r, struct err *err)
{
	uint64_t bytes, inodes, need = size + q->o.parameters.stays_free + INDEX_WORST;

	*ample_r = clock_ms() - q->room.asked_ms < ROOM_MS && q->room.bytes > need + ROOM_AMPLE &&
		   q->room.inodes > ROOM_AMPLE_INODES;
	if (!*ample_r) {
		if (io_free_space(q->msgs, &bytes, &inodes) < 0)
			return err_errno(err, "cannot ask for free space");
		if (bytes < need || inodes < 64)
			return err_set(err, ERR_FULL, "4.3.1", "insufficient system storage");
		q->room = (struct queue_room){clock_ms(), bytes, inodes};
		*ample_r = bytes > need + ROOM_AMPLE && inodes > ROOM_AMPLE_INODES;
	}
	q->room.bytes -= need < q->room.bytes ? size + INDEX_WORST / 64 : q->room.bytes;
	q->room.inodes -= q->room.inodes > 0;
	return 0;
}

static int check_message(struct queue_service *q, const struct queue_message *m, uint64_t *blob_size_r, struct err *err)
{
	bool ample;

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
	return admit(q, *blob_size_r, &ample, err);
}

/* Only of him who began it, and for one message. */
static bool blob_is_free(const struct change *c, uint64_t blob)
{
	for (size_t i = 0; i < c->blobs.n; i++)
		if (c->blobs.v[i] == blob)
			return false;
	return blob_is_of(c->q, blob, c->req->peer);
}

/* The name that smtpd has told its client and the log already, unless something has it. */
static bool id_is_free(struct queue_service *q, struct str id, struct arena *a)
{
	char key[QUEUE_KEY_MAX];
	struct str value;

	return queue_id_is_given(id) && kvlog_get(q->k, message_key(id, key), a, &value, NULL) == 0;
}

static int add_contents(struct change *c, const struct queue_message *m, uint64_t blob_size, struct err *err)
{
	struct buf envelope;
	int rc = 0;

	buf_init(&envelope, ENCODED_MAX);
	if (message_encode(m->arrival, m, &envelope))
		contents_encode(&c->contents, m->id, m, buf_str(&envelope), blob_size);
	else
		rc = err_set(err, ERR_LIMIT, "5.5.3", "too many recipients, or too long ones");
	buf_release(&envelope);
	return rc;
}

/* Adds one new message to the change; its id to id_r. One that was taken before is not added again. */
static int change_add(struct change *c, const struct queue_message *given, struct str fingerprint,
		      char id_r[QUEUE_ID_MAX], struct err *err)
{
	struct queue_message m = *given;
	char key[QUEUE_KEY_MAX];
	uint64_t blob_size;
	struct str id;
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
	if (id_is_free(c->q, m.id, &c->arena))
		snprintf(id_r, QUEUE_ID_MAX, "%.*s", STR_ARG(m.id));
	else
		queue_id_new(c->q, id_r);
	m.id = str_from(id_r);
	m.arrival = (uint64_t)clock_wall();
	m.size = blob_size;
	if (later_is_counted(&m) && m.hold_until > m.arrival && later_admit(c->q, m.auth_user, m.size, err) < 0)
		return -1;
	if (message_ops(c->q, &m, m.arrival, &c->arena, add_op, c, err) < 0)
		return -1;
	change_op(c, repeat_key(m.delivery_id, key), m.id, false);
	if (fingerprint.len > 0) {
		if (taken_op(&m, fingerprint, &c->arena, &c->taken, err) < 0)
			return -1;
		vec_push(&c->ops, c->taken);
	}
	if (m.blob)
		vec_push(&c->blobs, m.blob);
	return add_contents(c, &m, blob_size, err);
}

/* ---- committing --------------------------------------------------------------------------------------- */

static void pump(void *ctx)
{
	queue_pump(ctx);
}

static void change_durable(void *ctx)
{
	struct change *c = ctx;
	struct queue_service *q = c->q;
	bool by_hand = c->req == NULL;
	struct queue_id id = {str_from(c->id)};
	struct queue_ended ended = {c->ends.n > 0};

	FAULT_POINT("queue.flushed");
	for (size_t i = 0; i < c->ends.n; i++) {
		repeat_ended(q, c->ends.v[i].delivery_id);
		contents_end(q, c->ends.v[i].id);
	}
	if (c->req && c->req->number == QUEUE_COMMIT.number)
		rpc_answer(c->req, &id);
	else if (c->req)
		rpc_answer(c->req, &ended);
	change_free(c);
	/* Whose command this was has his answer before what it made due is gathered for others. */
	if (by_hand)
		rpc_server_after(q->server, 0, pump, q);
	else
		queue_pump(q);
}

static void change_refuse(struct change *c, const struct err *err)
{
	rpc_refuse(c->req, err);
	change_free(c);
}

int change_commit(struct change *c, struct err *err)
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
	for (size_t i = 0; i < c->ops.n; i++)
		if (!c->ops.v[i].del && c->ops.v[i].key.ptr[0] == 'S')
			schedule_put(q, c->ops.v[i].key);
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
static bool apply_outcomes(struct queue_part *p, const struct queue_result *r)
{
	bool deferred = false;
	size_t left = 0;

	for (size_t i = 0; i < p->rcpts.n; i++) {
		struct queue_rcpt rcpt = p->rcpts.v[i];
		const struct queue_rcpt_outcome *o = outcome_of(r, rcpt.index);

		if (o && o->outcome != OUTCOME_DEFERRED)
			continue;
		if (o) {
			deferred = true;
			rcpt.attempts++;
			rcpt.last_code = o->code;
			rcpt.last_text = o->text;
		}
		p->rcpts.v[left++] = rcpt;
	}
	p->rcpts.n = left;
	return deferred;
}

/* As old as the message is, within the bounds (the rule of qmgr(8)); the last attempt falls on the end of its
 * life, so that it does not outlive it by a whole pause. */
static uint64_t next_due(const struct queue_service *q, const struct queue_message *m)
{
	const struct queue_parameters *p = &q->o.parameters;
	uint64_t now = (uint64_t)clock_wall(), since = queue_message_since(m), age = now > since ? now - since : 0;
	uint64_t low = (uint64_t)p->minimal_backoff_time / 1000, high = (uint64_t)p->maximal_backoff_time / 1000;
	uint64_t life = (uint64_t)(m->sender.len ? p->maximal_queue_lifetime : p->bounce_queue_lifetime) / 1000;
	uint64_t pause = age < low ? low : age > high ? high : age;

	pause = pause ? pause : 1;
	if (age < life && age + pause > life)
		pause = life - age;
	/* When its time is over something is to be done: returned, or told (RFC 2852 4.1.3). */
	if (m->by_mode && m->by_time > now && m->by_time - now < pause)
		pause = m->by_time - now;
	return now + pause;
}

static int check_result(const struct queue_result *r, struct err *err)
{
	for (size_t i = 0; i < r->outcomes.n; i++)
		if (r->outcomes.v[i].outcome < OUTCOME_DELIVERED || r->outcomes.v[i].outcome > OUTCOME_FAILED)
			return err_set(err, ERR_SYNTAX, "5.5.4", "an unknown outcome");
	return 0;
}

/* ---- reports: what its sender must be told of a message of several parts, gathered ---- */

/* Until all parts were tried once; then it is told of those that fail within so long. */
#define REPORT_WAIT_S 300
#define REPORT_LATE_S 30

static int told_add(struct change *c, struct str id, const struct queue_result *r, struct err *err)
{
	struct queue_part p = {0};
	struct part_id record = {id, PART_TOLD | (uint32_t)(random_u64() & 0x7fffffff)};

	if (record.part == QUEUE_PART_REPORT)
		record.part--;
	p.told.v = r->told.v;
	p.told.n = r->told.n;
	return part_put(c, record, &p, err);
}

static int report_put(struct change *c, struct str id, struct spread *s, uint64_t due, struct err *err)
{
	struct queue_part p = {.due = due, .destination = STR("")};
	struct part_id report = {id, QUEUE_PART_REPORT};

	if (s->report) {
		p.due = s->report;
		part_unschedule(c, report, &p);
		p.due = due;
	}
	s->report = due;
	return part_put(c, report, &p, err);
}

/* The counts as they are with this result; `s` goes when the change fails. */
static int spread_change(struct change *c, const struct queue_result *r, const struct queued *m, bool was_untried,
			 bool gone, struct err *err)
{
	bool is_new;
	struct spread *s = spread_of(c->q, m->m.id, &is_new, err);
	uint64_t now = (uint64_t)clock_wall();
	bool quiet;

	if (!s)
		return -1;
	s->untried -= was_untried && s->untried;
	s->left -= gone && s->left;
	quiet = s->untried == 0 && s->claimed == 0;
	if (r->told.n && told_add(c, m->m.id, r, err) < 0)
		return -1;
	/* A report is gathered while something may come to it soon. */
	if (r->told.n && !s->report &&
	    report_put(c, m->m.id, s, now + (s->untried ? REPORT_WAIT_S : REPORT_LATE_S), err) < 0)
		return -1;
	if (s->report > now && quiet && (s->left == 0 || was_untried) && report_put(c, m->m.id, s, now, err) < 0)
		return -1;
	if (s->left == 0 && !s->report)
		change_end(c, &m->m, false);
	return 0;
}

static int count_record(void *ctx, struct str key, struct str value)
{
	struct part_id id;
	size_t *n = ctx;

	(void)value;
	*n += part_key_parse(key, &id) && id.part >= PART_TOLD && id.part != QUEUE_PART_REPORT;
	return 0;
}

/* The report was made: its records go. */
static int change_report(struct change *c, const struct queue_result *r, const struct queued *m, struct err *err)
{
	char first[QUEUE_KEY_MAX], end[QUEUE_KEY_MAX];
	struct part_id report = {m->m.id, QUEUE_PART_REPORT};
	struct queue_part p;
	struct str from, to;
	struct spread *s;
	size_t records = 0;
	bool is_new;
	int rc = part_get(c->q, report, &c->arena, &p, err);

	if (rc <= 0)
		return rc < 0 ? -1 : err_set(err, ERR_NOT_FOUND, "5.1.1", "no such report in the queue");
	part_range(m->m.id, first, end, &from, &to);
	s = spread_of(c->q, m->m.id, &is_new, err);
	if (!s || kvlog_range(c->q->k, from, to, false, count_record, &records, err) < 0)
		return -1;
	for (size_t i = 0; i < r->records.n; i++) {
		struct part_id record = {m->m.id, r->records.v[i].number};

		if (record.part >= PART_TOLD && record.part != QUEUE_PART_REPORT)
			part_gone(c, record);
	}
	/* Others came while it was made. */
	if (records > r->records.n)
		return report_put(c, m->m.id, s, (uint64_t)clock_wall(), err);
	part_unschedule(c, report, &p);
	part_gone(c, report);
	s->report = 0;
	if (s->left == 0)
		change_end(c, &m->m, false);
	return 0;
}

/* ---- results of recipients ---- */

/* A message of one part whose notification is put off: from now on its report is another. */
static int make_spread(struct change *c, const struct queued *m, struct err *err)
{
	return head_put(c, m, 2, err);
}

static int change_part(struct change *c, const struct queue_result *r, const struct queued *m, struct err *err)
{
	struct part_id id = {m->m.id, r->part};
	struct queue_part p;
	bool deferred, was_untried;
	int rc = part_get(c->q, id, &c->arena, &p, err);

	if (rc <= 0)
		return rc < 0 ? -1 : err_set(err, ERR_NOT_FOUND, "5.1.1", "no such message in the queue");
	/* Taken before; the answer was lost with the process that should have given it. */
	if (r->attempt && r->attempt <= p.attempts)
		return 0;
	part_unschedule(c, id, &p);
	deferred = apply_outcomes(&p, r);
	was_untried = p.attempts == 0;
	if (deferred) {
		p.attempts++;
		if (p.due < QUEUE_HELD) {
			p.due = next_due(c->q, &m->m);
			p.bulk &= (uint8_t)~PART_LATER;
		}
	}
	p.warned |= r->warned;
	if (p.rcpts.n == 0)
		part_gone(c, id);
	else if (part_put(c, id, &p, err) < 0)
		return -1;
	if (m->parts != 1 || r->told.n)
		return (m->parts == 1 && make_spread(c, m, err) < 0)
			       ? -1
			       : spread_change(c, r, m, was_untried && (deferred || p.rcpts.n == 0), p.rcpts.n == 0,
					       err);
	if (p.rcpts.n == 0)
		change_end(c, &m->m, false);
	return 0;
}

static int change_result(struct change *c, const struct queue_result *r, struct err *err)
{
	char bounce[QUEUE_ID_MAX];
	struct queued m;
	int rc;

	if (check_result(r, err) < 0)
		return -1;
	rc = message_get(c->q, r->id, &c->arena, &m, err);
	if (rc <= 0)
		return rc < 0 ? -1 : err_set(err, ERR_NOT_FOUND, "5.1.1", "no such message in the queue");
	rc = r->part == QUEUE_PART_REPORT ? change_report(c, r, &m, err) : change_part(c, r, &m, err);
	for (size_t i = 0; rc == 0 && i < r->bounces.n; i++)
		if (r->bounces.v[i].rcpts.n)
			rc = change_add(c, &r->bounces.v[i], STR(""), bounce, err);
	return rc;
}

/* ---- progress: of recipients of a part that is being delivered ---- */

/* What is to be told is kept for the report that the message makes in the end. */
static int progress_told(struct change *c, const struct queue_result *r, const struct queued *m, struct err *err)
{
	struct spread *s;
	bool is_new;

	if (m->parts == 1 && make_spread(c, m, err) < 0)
		return -1;
	s = spread_of(c->q, m->m.id, &is_new, err);
	if (!s)
		return -1;
	/* It is claimed since before anybody counted. */
	s->claimed += is_new;
	return spread_change(c, r, m, false, false, err);
}

static int change_progress(struct change *c, const struct queue_result *r, struct err *err)
{
	struct part_id id = {r->id, r->part};
	struct queue_part p;
	struct queued m;
	size_t before;
	int rc = r->part < PART_TOLD ? message_get(c->q, r->id, &c->arena, &m, err) : 0;

	if (rc > 0)
		rc = part_get(c->q, id, &c->arena, &p, err);
	if (rc <= 0)
		return rc < 0 ? -1 : err_set(err, ERR_NOT_FOUND, "5.1.1", "no such message in the queue");
	before = p.rcpts.n;
	if (check_result(r, err) < 0)
		return -1;
	if (apply_outcomes(&p, r) || p.rcpts.n == 0)
		return err_set(err, ERR_SYNTAX, "5.5.4", "no progress, but a result");
	if (p.rcpts.n == before)
		return 0;
	if (part_replace(c, id, &p, err) < 0)
		return -1;
	return r->told.n ? progress_told(c, r, &m, err) : 0;
}

void queue_handle_progress(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_result *r = req->msg;
	struct change *c = change_new(q, req);
	struct err err = ERR_NONE;

	if (!queue_id_ok(r->id)) {
		err_set(&err, ERR_NOT_FOUND, "5.1.1", "no such message in the queue");
		change_refuse(c, &err);
	} else if (claimed_by_another(q, (struct part_id){r->id, r->part}, req->peer)) {
		err_set(&err, ERR_DENIED, "4.3.0", "that message was claimed by another");
		change_refuse(c, &err);
	} else if (change_progress(c, r, &err) < 0 || change_commit(c, &err) < 0) {
		if (r->told.n)
			spread_drop(q, r->id);
		change_refuse(c, &err);
	}
}

void queue_handle_result(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_result *r = req->msg;
	struct part_id p = {r->id, r->part};
	struct change *c = change_new(q, req);
	struct err err = ERR_NONE;
	char id[QUEUE_ID_MAX];
	bool good;

	if (!queue_id_ok(r->id)) {
		err_set(&err, ERR_NOT_FOUND, "5.1.1", "no such message in the queue");
		change_refuse(c, &err);
		return;
	}
	if (claimed_by_another(q, p, req->peer)) {
		err_set(&err, ERR_DENIED, "4.3.0", "that message was claimed by another");
		change_refuse(c, &err);
		return;
	}
	/* With its report the peer lets go of the part, if we can take it. If not, what was delivered is known to the
	 * peer alone: handed out again, it would be delivered again. */
	claim_drop(q, p, false);
	snprintf(id, sizeof(id), "%.*s", STR_ARG(r->id)); /* the request may end with the commit */
	good = change_result(c, r, &err) == 0 && change_commit(c, &err) == 0;
	if (!good) {
		spread_drop(q, r->id);
		claim_return(q, p, req->peer);
		change_refuse(c, &err);
		return;
	}
	spread_rest(q, str_from(id));
}

/* Before DATA: the disk is looked at, not the queue's length, which is bounded by it. */
void queue_handle_admit(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_admit *a = req->msg;
	struct queue_admitted admitted = {0};
	struct err err = ERR_NONE;
	bool ample;

	if (admit(q, a->size, &ample, &err) < 0 ||
	    (a->later_user.len > 0 && later_admit(q, a->later_user, a->size, &err) < 0)) {
		rpc_refuse(req, &err);
		return;
	}
	admitted.ample_ms = ample ? ROOM_MS : 0;
	rpc_answer(req, &admitted);
}
