/* QUEUE_LIST: an administrator looks. He acts in by_hand.c. */
#include "queue/service_private.h"

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
	m.m.size += m.m.prefix.len; /* as it leaves */
	m.m.summary = m.m.prefix = STR_NULL;
	l->bytes += value.len;
	l->listed.messages.v[l->listed.messages.n++] = m.m;
	return l->listed.messages.n == l->max || l->bytes > LIST_BYTES;
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
	if (kvlog_range(q->k, first, STR("N"), false, list_one, &l, &err) < 0 ||
	    messages_recipients(q, &req->arena, l.listed.messages.v, l.listed.states.v, &l.listed.messages.n,
				l.bytes < LIST_BYTES ? LIST_BYTES - l.bytes : 0, &err) < 0) {
		rpc_refuse(req, &err);
		return;
	}
	l.listed.states.n = l.listed.messages.n;
	rpc_answer(req, &l.listed);
}
