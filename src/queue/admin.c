/* QUEUE_LIST and QUEUE_ACT: an administrator looks and acts. QUEUE_ETRN: a stranger may ask for a little of it. */
#include "queue/service_private.h"

#include "base/clock.h"
#include "base/log.h"

#define LIST_MAX   1000u
#define LIST_BYTES ((size_t)2 << 20)

struct listing {
	struct queue_service *q;
	struct rpc_request *req;
	struct queue_listed listed;
	size_t max, bytes;
};

static int list_one(void *ctx, struct str key, struct str value)
{
	struct listing *l = ctx;
	struct arena *a = &l->req->arena;
	struct err err = ERR_NONE;
	struct queued m;

	if (message_head_decode(arena_str(a, value), a, &m, &err) < 0) {
		log_error("%.*s: %s", STR_ARG(str_skip(key, 1)), err.text);
		return 0;
	}
	m.m.body_fd = -1;
	m.m.summary = m.m.prefix = STR_NULL;
	l->bytes += value.len;
	l->listed.messages.v[l->listed.messages.n++] = m.m;
	return l->listed.messages.n == l->max || l->bytes > LIST_BYTES;
}

/* Of the first of them, as many as the answer takes. */
static int list_recipients(struct listing *l, struct err *err)
{
	for (size_t i = 0; i < l->listed.messages.n; i++) {
		if (message_recipients(l->q, &l->req->arena, &l->listed.messages.v[i], &l->listed.states.v[i],
				       &l->bytes, err) < 0)
			return -1;
		if (l->bytes > LIST_BYTES)
			l->listed.messages.n = i + 1;
	}
	l->listed.states.n = l->listed.messages.n;
	return 0;
}

void queue_handle_list(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_list *r = req->msg;
	struct listing l = {.q = q, .req = req, .max = r->max == 0 || r->max > LIST_MAX ? LIST_MAX : r->max};
	struct err err = ERR_NONE;
	char key[QUEUE_KEY_MAX];
	struct str first = STR("M");

	if (r->after.len && !queue_id_ok(r->after)) {
		err_set(&err, ERR_SYNTAX, "5.5.4", "no queue id");
		rpc_refuse(req, &err);
		return;
	}
	if (r->after.len) {
		/* The first key behind it: the same with a NUL more. */
		first = message_key(r->after, key);
		key[first.len++] = 0;
	}
	l.listed.messages.v = ARENA_ARRAY(&req->arena, struct queue_message, l.max);
	l.listed.states.v = ARENA_ARRAY(&req->arena, struct queue_state, l.max);
	if (kvlog_range(q->k, first, STR("N"), false, list_one, &l, &err) < 0 || list_recipients(&l, &err) < 0)
		rpc_refuse(req, &err);
	else
		rpc_answer(req, &l.listed);
}

struct all {
	struct arena *arena;
	VEC(struct str) ids;
};

static int all_one(void *ctx, struct str key, struct str value)
{
	struct all *a = ctx;

	(void)value;
	vec_push_arena(a->arena, &a->ids, arena_str(a->arena, str_skip(key, 1)));
	return 0;
}

static int at_one(void *ctx, struct str key, struct str value)
{
	struct all *a = ctx;
	struct schedule_entry e;

	(void)value;
	/* Parts of a message stand together, or its id comes twice: then there is nothing left to do. */
	if (schedule_parse(key, &e) && (a->ids.n == 0 || !str_eq(a->ids.v[a->ids.n - 1], e.p.id)))
		vec_push_arena(a->arena, &a->ids, arena_str(a->arena, e.p.id));
	return 0;
}

/* Messages with parts for one destination; the others are not looked at. */
static int all_at(struct queue_service *q, struct str destination, struct all *all, struct err *err)
{
	struct queue_rcpt rcpt = {.address = arena_printf(all->arena, "@%.*s", STR_ARG(destination))};
	struct str name = part_destination(&rcpt, all->arena);
	struct str first = arena_printf(all->arena, "S%.*s%c", STR_ARG(name), 0);
	struct str end = arena_printf(all->arena, "S%.*s%c", STR_ARG(name), 1);

	return kvlog_range(q->k, first, end, false, at_one, all, err);
}

struct act_answer {
	struct queue_service *q;
	struct rpc_request *req;
	struct queue_acted acted;
};

static void act_durable(void *ctx)
{
	struct act_answer *a = ctx;

	rpc_answer(a->req, &a->acted);
	free(a);
}

static int check_act(struct queue_service *q, const struct queue_act *r, struct all *all, struct err *err)
{
	struct queued m;
	int rc;

	if (r->action < QUEUE_DELETE || r->action > QUEUE_REQUEUE)
		return err_set(err, ERR_SYNTAX, "5.5.4", "an unknown action");
	for (size_t i = 0; i < r->ids.n; i++) {
		rc = message_get(q, r->ids.v[i].id, all->arena, &m, NULL);
		if (rc > 0)
			vec_push_arena(all->arena, &all->ids, r->ids.v[i].id);
	}
	if (r->ids.n > 0)
		return 0;
	if (r->id.len == 0 && r->destination.len)
		return all_at(q, r->destination, all, err);
	if (r->id.len == 0)
		return kvlog_range(q->k, STR("M"), STR("N"), false, all_one, all, err);
	rc = message_get(q, r->id, all->arena, &m, err);
	if (rc == 0)
		return err_set(err, ERR_NOT_FOUND, "5.1.1", "no such message in the queue");
	vec_push_arena(all->arena, &all->ids, r->id);
	return rc < 0 ? -1 : 0;
}

void queue_handle_act(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_act *r = req->msg;
	struct all all = {.arena = &req->arena};
	struct err err = ERR_NONE;
	struct act_answer *a;

	if (check_act(q, r, &all, &err) < 0) {
		rpc_refuse(req, &err);
		return;
	}
	for (size_t i = 0; i < all.ids.n; i++)
		queue_change_by_hand(q, all.ids.v[i], r->action, r->destination);
	a = NEW(struct act_answer);
	*a = (struct act_answer){q, req, {all.ids.n}};
	kvlog_barrier(q->k, act_durable, a);
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
	struct str name = part_destination(&rcpt, &req->arena);
	struct all all = {.arena = &req->arena};
	struct err err = ERR_NONE;
	struct act_answer *a;

	if (r->destination.len == 0 || str_eq(name, STR("local"))) {
		err_set(&err, ERR_SYNTAX, "5.5.4", "no destination");
		rpc_refuse(req, &err);
		return;
	}
	if (all_at(q, name, &all, &err) < 0) {
		rpc_refuse(req, &err);
		return;
	}
	if (all.ids.n > 0 && etrn_may_begin(q, name))
		for (size_t i = 0; i < all.ids.n && i < QUEUE_ETRN_MAX; i++)
			queue_change_by_hand(q, all.ids.v[i], QUEUE_FLUSH, name);
	a = NEW(struct act_answer);
	*a = (struct act_answer){q, req, {all.ids.n}};
	kvlog_barrier(q->k, act_durable, a);
}
