/* QUEUE_ACT: an administrator deletes, flushes, holds, releases, requeues. QUEUE_ETRN: a stranger may ask for a little
 * of it.
 *
 * Whatever the number of messages, each is read once and many are changed by one commit. All that is done at a time is
 * a step of some milliseconds, and between the steps the loop serves others. A walk over the whole queue is answered
 * after a while although there is more, with the id to go on after: no caller waits longer than he would for a dead
 * process, and he can show how far it is. When the index cannot follow, the next step waits: otherwise all changes of a
 * great queue would be in memory at once. */
#include "queue/change.h"

#include "base/clock.h"
#include "base/log.h"

#define STEP_MESSAGES 1000u
#define STEP_BYTES    ((size_t)1 << 20)
#define COUNT_MANY    20000u
#define ANSWER_MS     500
#define BEHIND_MS     10
#define LOOK_MANY     QUEUE_ETRN_MAX /* of one destination: so many are looked up at a time */

struct acting {
	struct queue_service *q;
	struct rpc_request *req;
	const struct queue_act *r; /* in the request's arena */
	uint64_t now;		   /* seconds */
	struct arena arena;	   /* of ids */
	VEC(struct str) ids;
	VEC(struct queue_id) changed; /* of those that were named */
	size_t at;
	struct buf site, site_end; /* keys of a destination's schedule between which more ids are to be found */
	bool walks;		   /* all messages instead of ids */
	char cursor[QUEUE_ID_MAX]; /* walked up to here */
	bool counts;		   /* first how many there are, up to `counted` so far */
	char counted[QUEUE_ID_MAX];
	int64_t since_ms;
	bool finished;
	uint64_t found; /* ETRN: so many are told, however many it flushes */
	struct err err;
	struct queue_acted acted;
};

/* ---- one message ---------------------------------------------------------------------------------------- */

/* Those of all messages of a step, in the order of the ids. */
struct part_seen {
	struct str key, value;
};
struct parts_seen {
	struct part_seen *v;
	size_t n, cap;
};

struct by_hand {
	struct change *c;
	const struct parts_seen *parts; /* NULL: each message's are read when it is its turn */
	size_t at;
	enum queue_action action;
	struct str destination;
	uint64_t now;
	size_t bytes;
	struct err *err;
	bool no_heads; /* of the messages of this step: what is due by the schedule needs none */
	bool met;      /* a part of the message was there */
	bool hold_known;
	uint64_t hold_until; /* of the message */
	bool early;	     /* a part goes out before that */
	bool whole;	     /* its head is written: all of its parts go with it */
};

/* When the part is due, by this hand. False: it is not for what is in its state. */
static bool due_by_hand(struct by_hand *h, struct queue_part *p)
{
	bool held = p->due >= QUEUE_HELD, waits = (p->bulk & PART_LATER) && h->hold_until > h->now;

	switch (h->action) {
	case QUEUE_FLUSH:
		p->due = h->now;
		return !held && !waits;
	case QUEUE_RELEASE:
		if (!held && !waits)
			return false;
		h->early = h->early || !held;
		p->due = held && waits ? h->hold_until : h->now;
		return true;
	case QUEUE_HOLD:
		p->due = QUEUE_HELD;
		return !held;
	case QUEUE_EXPIRE: /* of the message, not of its parts */
		return false;
	case QUEUE_REQUEUE:
		p->due = waits ? h->hold_until : h->now;
		return true;
	case QUEUE_DELETE:
		break;
	}
	return true;
}

/* Without an index the journal is what tells of a message, once it tells of its head: then it must tell all, or the
 * file, which knows the rest, would not be asked. */
static int part_as_it_is(struct by_hand *h, struct part_id id, struct str key, struct str value)
{
	struct change *c = h->c;
	char out[QUEUE_KEY_MAX];
	struct queue_part p;

	if (!h->whole)
		return 0;
	change_op(c, key, value, false);
	if (id.part >= PART_TOLD && id.part != QUEUE_PART_REPORT)
		return 0;
	if (part_decode(value, &c->arena, &p, h->err) < 0)
		return -1;
	change_op(c, schedule_key(p.destination, p.bulk, p.due, id, out), STR_NULL, false);
	return 0;
}

/* Where heads are not read: only a message that shall go later has more to say than its part. */
static int know_hold(struct by_hand *h, struct part_id id, const struct queue_part *p)
{
	struct queued m;
	int rc;

	if (h->hold_known || !(p->bulk & PART_LATER))
		return 0;
	rc = message_get(h->c->q, id.id, &h->c->arena, &m, h->err);
	h->hold_until = rc > 0 ? m.m.hold_until : 0;
	h->hold_known = true;
	return rc < 0 ? -1 : 0;
}

static int part_by_hand(void *ctx, struct str key, struct str value)
{
	struct by_hand *h = ctx;
	struct change *c = h->c;
	struct part_id id;
	struct queue_part p, before;

	if (!part_key_parse(key, &id))
		return 0;
	h->bytes += value.len;
	h->met = true;
	if (h->action == QUEUE_DELETE) {
		part_gone(c, id);
		if (id.part >= PART_TOLD && id.part != QUEUE_PART_REPORT)
			return 0;
	} else if (id.part >= PART_TOLD) {
		return part_as_it_is(h, id, key, value);
	}
	if (part_decode(value, &c->arena, &p, h->err) < 0)
		return h->action == QUEUE_DELETE ? 0 : -1;
	if (h->action == QUEUE_FLUSH && h->destination.len && !str_ieq(h->destination, p.destination))
		return 0;
	if (know_hold(h, id, &p) < 0)
		return -1;
	before = p;
	if (!due_by_hand(h, &p))
		return part_as_it_is(h, id, key, value);
	part_unschedule(c, id, &before);
	if (p.due <= h->now)
		p.bulk &= (uint8_t)~PART_LATER;
	for (size_t i = 0; i < p.rcpts.n && h->action == QUEUE_REQUEUE; i++)
		p.rcpts.v[i].attempts = 0;
	return h->action == QUEUE_DELETE ? 0 : part_put(c, id, &p, h->err);
}

/* From now on it is as old as if it had come now: its life begins with its release. */
static int release_early(struct change *c, struct queued *m, uint64_t now, struct err *err)
{
	char key[QUEUE_KEY_MAX];

	if (later_is_counted(&m->m))
		change_op(c, later_key(&m->m, key), STR_NULL, true);
	m->m.hold_until = now;
	return head_put(c, m, m->parts, err);
}

/* Its file says that it is to be held, and the file is what is left when the index is lost. */
static int release_marked(struct change *c, struct queued *m, struct err *err)
{
	m->m.marks &= (uint8_t)~MARK_HOLD;
	if (head_put(c, m, m->parts, err) < 0)
		return -1;
	contents_encode_released(&c->contents, m->m.id);
	return 0;
}

/* All parts of a message: as they were read for the whole step, or now. */
static int parts_by_hand(struct by_hand *h, struct str id)
{
	char first[QUEUE_KEY_MAX], end[QUEUE_KEY_MAX];
	struct part_id p;
	struct str from, to;
	int rc = 0;

	if (!h->parts) {
		part_range(id, first, end, &from, &to);
		return kvlog_range(h->c->q->k, from, to, false, part_by_hand, h, h->err);
	}
	for (; rc == 0 && h->at < h->parts->n; h->at++) {
		const struct part_seen *seen = &h->parts->v[h->at];
		int order = part_key_parse(seen->key, &p) ? str_cmp(p.id, id) : -1;

		if (order > 0)
			break;
		rc = order == 0 ? part_by_hand(h, seen->key, seen->value) : 0;
	}
	return rc;
}

/* What its head says is different from now on. */
static int heads_by_hand(struct by_hand *h, struct queued *m, bool releases)
{
	if (h->action == QUEUE_EXPIRE) {
		m->m.marks |= MARK_EXPIRED;
		return head_put(h->c, m, m->parts, h->err);
	}
	if (h->early && release_early(h->c, m, h->now, h->err) < 0)
		return -1;
	return releases ? release_marked(h->c, m, h->err) : 0;
}

/* Adds one message to the change. One that cannot be read is left as it is, and said. Whether there is something to
 * change. */
static bool message_by_hand(struct by_hand *h, struct queued *m)
{
	struct change *c = h->c;
	size_t before = c->ops.n;
	bool releases = (h->action == QUEUE_RELEASE || h->action == QUEUE_REQUEUE) && (m->m.marks & MARK_HOLD);

	if (h->action == QUEUE_EXPIRE && (m->m.marks & MARK_EXPIRED))
		return false;
	h->hold_until = m->m.hold_until;
	h->hold_known = !h->no_heads;
	h->met = false;
	h->early = false;
	h->whole = h->action == QUEUE_EXPIRE || releases || (h->action == QUEUE_RELEASE && h->hold_until > h->now);
	if (parts_by_hand(h, m->m.id) < 0 || heads_by_hand(h, m, releases) < 0) {
		log_error("%.*s: %s", STR_ARG(m->m.id), h->err->text);
		c->ops.n = before;
		return false;
	}
	if (h->action == QUEUE_DELETE) {
		change_end(c, &m->m, true);
		spread_drop(c->q, m->m.id);
	}
	return c->ops.n > before;
}

static void note_changed(struct acting *a, struct str id)
{
	struct queue_id changed = {id};

	if (!a->walks && a->r->ids.n > 0)
		vec_push_arena(&a->req->arena, &a->changed, changed);
}

/* ---- a step --------------------------------------------------------------------------------------------- */

/* Those of a step, read before anything is changed. */
struct batch {
	struct acting *a;
	struct arena *arena;
	VEC(struct queued) messages;
	struct parts_seen parts;
	bool has_parts; /* of all messages */
	bool no_heads;	/* of the messages only the ids are known */
	size_t seen, bytes;
};

static int batch_one(void *ctx, struct str key, struct str value)
{
	struct batch *b = ctx;
	struct acting *a = b->a;
	struct err err = ERR_NONE;
	struct queued m;

	snprintf(a->cursor, sizeof(a->cursor), "%.*s", STR_ARG(str_skip(key, 1)));
	b->seen++;
	b->bytes += value.len;
	if (message_head_decode(arena_str(b->arena, value), b->arena, &m, &err) < 0) {
		log_error("%s: %s", a->cursor, err.text);
	} else if (!a->r->until || m.m.arrival <= a->r->until) {
		m.m.id = arena_str(b->arena, str_skip(key, 1)); /* what came after the question was not meant */
		vec_push_arena(b->arena, &b->messages, m);
	}
	return b->seen == STEP_MESSAGES || b->bytes > STEP_BYTES;
}

static int batch_part(void *ctx, struct str key, struct str value)
{
	struct batch *b = ctx;
	struct part_seen seen = {arena_str(b->arena, key), arena_str(b->arena, value)};

	vec_push_arena(b->arena, &b->parts, seen);
	b->bytes += value.len;
	return b->bytes > STEP_BYTES;
}

/* The parts of what was walked over, in one walk: they stand together. Where one cannot be read, or they are too many,
 * each message is looked up by itself. */
static void batch_parts(struct acting *a, struct batch *b)
{
	char first[QUEUE_KEY_MAX], end[QUEUE_KEY_MAX], unused[QUEUE_KEY_MAX];
	struct str from, to, none;

	if (b->messages.n == 0)
		return;
	part_range(b->messages.v[0].m.id, first, unused, &from, &none);
	part_range(b->messages.v[b->messages.n - 1].m.id, unused, end, &none, &to);
	b->has_parts = kvlog_range(a->q->k, from, to, false, batch_part, b, NULL) == 0;
}

/* The first key behind that of a message, or of all: the same with a NUL more. */
static struct str key_behind(const char *id, char key[QUEUE_KEY_MAX])
{
	struct str first = STR("M");

	if (id[0]) {
		first = message_key(str_from(id), key);
		key[first.len++] = 0;
	}
	return first;
}

static int batch_walk(struct acting *a, struct batch *b)
{
	char key[QUEUE_KEY_MAX];
	struct str first = key_behind(a->cursor, key);
	int rc;

	rc = kvlog_range(a->q->k, first, STR("N"), false, batch_one, b, &a->err);
	a->finished = rc <= 0;
	if (rc >= 0)
		batch_parts(a, b);
	return rc < 0 ? -1 : 0;
}

/* ---- what waits for one destination --------------------------------------------------------------------- */

static int look_one(void *ctx, struct str key, struct str value)
{
	struct acting *a = ctx;
	struct schedule_entry e;

	(void)value;
	/* Parts of a message stand together, or its id comes twice: then there is nothing left to do. */
	if (schedule_parse(key, &e) && (a->ids.n == 0 || !str_eq(a->ids.v[a->ids.n - 1], e.p.id)))
		vec_push_arena(&a->arena, &a->ids, arena_str(&a->arena, e.p.id));
	if (a->ids.n < LOOK_MANY)
		return 0;
	buf_clear(&a->site);
	buf_add_str(&a->site, key);
	buf_addc(&a->site, 0); /* the first key behind it */
	return 1;
}

/* The next messages with parts for the destination; the others are not looked at. Many at a time, before any of them is
 * changed: what is tried and put off meanwhile stands further behind, and need not come again. */
static int look_at_site(struct acting *a)
{
	int rc;

	arena_clear(&a->arena);
	memset(&a->ids, 0, sizeof(a->ids));
	a->at = 0;
	if (a->site.len == 0)
		return 0;
	rc = kvlog_keys(a->q->k, buf_str(&a->site), buf_str(&a->site_end), look_one, a, &a->err);
	if (rc == 0)
		buf_clear(&a->site); /* these were the last */
	return rc < 0 ? -1 : 0;
}

static int look_first(struct acting *a, struct str destination)
{
	struct arena *arena = &a->req->arena;
	struct queue_rcpt rcpt = {.address = arena_printf(arena, "@%.*s", STR_ARG(destination))};
	struct str name = part_destination(&rcpt, arena);

	buf_addf(&a->site, "S%.*s%c", STR_ARG(name), 0);
	buf_addf(&a->site_end, "S%.*s%c", STR_ARG(name), 1);
	return look_at_site(a);
}

static int batch_list(struct acting *a, struct batch *b)
{
	struct queued m;

	if (a->at == a->ids.n && look_at_site(a) < 0)
		return -1;
	b->no_heads = a->r->action == QUEUE_FLUSH && a->site_end.len > 0;
	for (; a->at < a->ids.n && b->messages.n < STEP_MESSAGES; a->at++) {
		struct str id = a->ids.v[a->at];

		m = (struct queued){0};
		if (!b->no_heads && message_get(a->q, id, b->arena, &m, NULL) <= 0)
			continue;
		m.m.id = id;
		vec_push_arena(b->arena, &b->messages, m);
	}
	a->finished = a->at == a->ids.n && a->site.len == 0;
	return 0;
}

/* The change of a step, divided where it would be too large for one. */
static int batch_apply(struct acting *a, const struct batch *b)
{
	struct by_hand h = {.action = a->r->action,
			    .parts = b->has_parts ? &b->parts : NULL,
			    .destination = a->r->destination,
			    .no_heads = b->no_heads,
			    .now = a->now,
			    .err = &a->err};

	for (size_t i = 0; i < b->messages.n || h.c; i++) {
		if (i < b->messages.n) {
			h.c = h.c ? h.c : change_new(a->q, NULL);
			if (message_by_hand(&h, &b->messages.v[i]))
				note_changed(a, b->messages.v[i].m.id);
			a->acted.count += !b->no_heads || h.met;
		}
		if (i + 1 < b->messages.n && h.bytes < STEP_BYTES)
			continue;
		if (h.c->ops.n == 0 || change_commit(h.c, &a->err) < 0) {
			bool failed = h.c->ops.n > 0;

			change_free(h.c);
			if (failed)
				return -1;
		}
		h.c = NULL;
		h.bytes = 0;
	}
	return 0;
}

static int step(struct acting *a)
{
	struct arena arena;
	struct batch b = {.a = a, .arena = &arena};
	int rc;

	arena_init(&arena);
	rc = a->walks ? batch_walk(a, &b) : batch_list(a, &b);
	if (rc == 0)
		rc = batch_apply(a, &b);
	for (size_t i = 0; rc == 0 && a->r->action == QUEUE_DELETE && i < b.messages.n; i++)
		log_info("%.*s: removed", STR_ARG(b.messages.v[i].m.id));
	arena_release(&arena);
	return rc;
}

/* ---- the whole ------------------------------------------------------------------------------------------ */

static struct acting *act_new(struct queue_service *q, struct rpc_request *req, const struct queue_act *r)
{
	struct acting *a = NEW(struct acting);

	*a = (struct acting){.q = q, .req = req, .r = r, .now = (uint64_t)clock_wall(), .since_ms = clock_ms()};
	arena_init(&a->arena);
	buf_init(&a->site, QUEUE_KEY_MAX);
	buf_init(&a->site_end, QUEUE_KEY_MAX);
	return a;
}

static void act_free(struct acting *a)
{
	arena_release(&a->arena);
	buf_release(&a->site);
	buf_release(&a->site_end);
	free(a);
}

/* Its request has ended. */
static void act_refuse(struct acting *a, const struct err *err)
{
	rpc_refuse(a->req, err);
	act_free(a);
}

static void act_durable(void *ctx)
{
	struct acting *a = ctx;

	if (a->found)
		a->acted.count = a->found;
	a->acted.next = a->finished ? STR("") : str_from(a->cursor);
	a->acted.ids.v = a->changed.v;
	a->acted.ids.n = a->changed.n;
	rpc_answer(a->req, &a->acted);
	act_free(a);
}

struct counting {
	struct acting *a;
	size_t n;
};

static int count_one(void *ctx, struct str key, struct str value)
{
	struct counting *c = ctx;

	(void)value;
	snprintf(c->a->counted, sizeof(c->a->counted), "%.*s", STR_ARG(str_skip(key, 1)));
	return ++c->n == COUNT_MANY;
}

/* Some of them. Keys are counted: what comes meanwhile, and is not meant, may be among them. */
static void count_on(struct acting *a)
{
	char key[QUEUE_KEY_MAX];
	struct counting c = {.a = a};

	a->counts = kvlog_keys(a->q->k, key_behind(a->counted, key), STR("N"), count_one, &c, NULL) > 0;
	a->acted.total += c.n;
}

static void act_go_on(void *ctx)
{
	struct acting *a = ctx;
	struct log_gather lines;
	int rc;

	if (a->counts) {
		count_on(a);
		rpc_server_after(a->q->server, 0, act_go_on, a);
		return;
	}
	if (kvlog_is_behind(a->q->k)) {
		rpc_server_after(a->q->server, BEHIND_MS, act_go_on, a);
		return;
	}
	log_gather(&lines);
	rc = step(a);
	log_gathered(&lines);
	if (rc == 0 && !a->finished && !(a->walks && clock_ms() - a->since_ms > ANSWER_MS)) {
		rpc_server_after(a->q->server, 0, act_go_on, a);
		return;
	}
	vec_remove_item(&a->q->acting, a);
	if (rc == 0) {
		kvlog_barrier(a->q->k, act_durable, a);
		return;
	}
	act_refuse(a, &a->err);
}

static void act_begin(struct acting *a)
{
	if (a->r->action != QUEUE_DELETE && a->r->action != QUEUE_HOLD)
		a->q->asked++;
	vec_push(&a->q->acting, a);
	act_go_on(a);
}

static int act_prepare(struct acting *a)
{
	const struct queue_act *r = a->r;
	struct queued m;
	int rc;

	if (r->action < QUEUE_DELETE || r->action > QUEUE_EXPIRE)
		return err_set(&a->err, ERR_SYNTAX, "5.5.4", "an unknown action");
	if (r->after.len && !queue_id_ok(r->after))
		return err_set(&a->err, ERR_SYNTAX, "5.5.4", "no queue id");
	for (size_t i = 0; i < r->ids.n; i++)
		vec_push_arena(&a->arena, &a->ids, r->ids.v[i].id);
	if (r->ids.n > 0)
		return 0;
	if (r->id.len == 0 && r->destination.len)
		return look_first(a, r->destination);
	a->walks = r->id.len == 0;
	a->counts = a->walks && r->counts;
	snprintf(a->cursor, sizeof(a->cursor), "%.*s", STR_ARG(r->after));
	snprintf(a->counted, sizeof(a->counted), "%s", a->cursor);
	if (a->walks)
		return 0;
	rc = message_get(a->q, r->id, &a->req->arena, &m, &a->err);
	if (rc == 0)
		return err_set(&a->err, ERR_NOT_FOUND, "5.1.1", "no such message in the queue");
	vec_push_arena(&a->arena, &a->ids, r->id);
	return rc < 0 ? -1 : 0;
}

void queue_handle_act(struct queue_service *q, struct rpc_request *req)
{
	struct acting *a = act_new(q, req, req->msg);

	if (act_prepare(a) < 0)
		act_refuse(a, &a->err);
	else
		act_begin(a);
}

/* ---- ETRN ----------------------------------------------------------------------------------------------- */

#define ETRN_DESTINATIONS 1000u /* remembered; only what is in the queue is */

/* True, and noted, unless it was asked for a moment ago. */
static bool etrn_may_begin(struct queue_service *q, struct str destination)
{
	int64_t now = clock_ms();

	if ((int64_t)(intptr_t)map_get(q->etrn, destination) > now)
		return false;
	if (map_count(q->etrn) >= ETRN_DESTINATIONS) {
		map_free(&q->etrn);
		q->etrn = map_new();
	}
	map_set(q->etrn, destination, (void *)(intptr_t)(now + QUEUE_ETRN_PAUSE_S * 1000));
	return true;
}

void queue_handle_etrn(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_etrn *r = req->msg;
	struct queue_rcpt rcpt = {.address = arena_printf(&req->arena, "@%.*s", STR_ARG(r->destination))};
	struct queue_act *act = ARENA_NEW(&req->arena, struct queue_act);
	struct acting *a = act_new(q, req, act);

	*act = (struct queue_act){.action = QUEUE_FLUSH, .destination = part_destination(&rcpt, &req->arena)};
	if (r->destination.len == 0 || str_eq(act->destination, STR("local")))
		err_set(&a->err, ERR_SYNTAX, "5.5.4", "no destination");
	else
		(void)look_first(a, act->destination);
	if (a->err.kind != ERR_OK) {
		act_refuse(a, &a->err);
		return;
	}
	a->found = a->ids.n;
	buf_clear(&a->site); /* no more than these */
	if (a->ids.n > 0 && etrn_may_begin(q, act->destination))
		act_begin(a);
	else
		act_durable(a);
}

void queue_acts_refuse(struct queue_service *q, const struct err *err)
{
	for (size_t i = 0; i < q->acting.n; i++)
		act_refuse(q->acting.v[i], err);
	vec_release(&q->acting);
}
