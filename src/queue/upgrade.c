/* An index of before messages were divided into parts: M had all recipients, and D the time of the whole message.
 * Each message is turned into what is kept now, in one commit; when the process ends half-way the next one goes on.
 * The files and the journal need no upgrade: they are read as they are. */
#include "queue/service_private.h"

#include "base/log.h"

#define BATCH 500

struct old_entry {
	struct str key, id;
};

struct old_entries {
	struct arena *a;
	VEC(struct old_entry) list;
};

static int note(void *ctx, struct str key, struct str value)
{
	struct old_entries *o = ctx;
	ptrdiff_t nul = str_rchr(key, 0);
	struct old_entry e = {.key = arena_str(o->a, key)};

	(void)value;
	if (nul >= 9)
		e.id = str_skip(e.key, (size_t)nul + 1);
	vec_push_arena(o->a, &o->list, e);
	return o->list.n == BATCH;
}

struct op_list {
	struct arena *a;
	VEC(struct kvlog_op) ops;
};

static void add_op(void *ctx, struct str key, struct str value)
{
	struct op_list *l = ctx;
	struct kvlog_op op = {arena_str(l->a, key), arena_str(l->a, value), false};

	vec_push_arena(l->a, &l->ops, op);
}

static int upgrade_one(struct queue_service *q, const struct old_entry *e, struct arena *a, struct err *err)
{
	struct op_list l = {.a = a};
	struct kvlog_op gone = {e->key, STR_NULL, true};
	char key[QUEUE_KEY_MAX];
	struct str value;
	struct queued m;
	int rc = queue_id_ok(e->id) ? kvlog_get(q->k, message_key(e->id, key), a, &value, err) : 0;

	if (rc < 0)
		return -1;
	vec_push_arena(a, &l.ops, gone);
	/* One that is of today already had its old entry left behind by a damaged index; it is enough to drop that. */
	if (rc > 0 && value.len > 0 && value.ptr[0] == 0) {
		if (message_decode(value, a, &m, err) < 0 || message_ops(q, &m.m, m.due, a, add_op, &l, err) < 0)
			return -1;
	}
	return kvlog_commit(q->k, l.ops.v, l.ops.n, NULL, 0, NULL, NULL, err) ? 0 : -1;
}

int queue_upgrade(struct queue_service *q, struct err *err)
{
	size_t done = 0;
	bool more = true;

	while (more) {
		struct arena a;
		struct old_entries o = {.a = &a};
		int rc;

		arena_init(&a);
		rc = kvlog_range(q->k, STR("D"), STR("E"), false, note, &o, err);
		for (size_t i = 0; rc >= 0 && i < o.list.n; i++)
			rc = upgrade_one(q, &o.list.v[i], &a, err);
		done += o.list.n;
		more = o.list.n > 0;
		arena_release(&a);
		if (rc < 0)
			return -1;
	}
	if (done)
		log_info("the queue of %zu messages was taken over from an older version", done);
	return 0;
}
