/* Parts of messages: their keys and values, and how recipients are divided into them. */
#include "queue/service_private.h"

#include "base/encode.h"

#define PART_MAX ((size_t)16 << 20)

static void be32_put(char *out, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		out[i] = (char)(value >> (24 - 8 * i));
}

static uint32_t be32_get(const char *in)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++)
		value = value << 8 | (uint8_t)in[i];
	return value;
}

/* id NUL part(4), behind `at` bytes that stand there. */
static size_t put_part_id(char *out, size_t at, struct part_id p)
{
	if (p.id.len)
		memcpy(out + at, p.id.ptr, p.id.len);
	at += p.id.len;
	out[at++] = 0;
	be32_put(out + at, p.part);
	return at + 4;
}

static bool take_part_id(struct str in, struct part_id *p_r)
{
	if (in.len < 6 || in.ptr[in.len - 5] != 0)
		return false;
	p_r->id = str_sub(in, 0, in.len - 5);
	p_r->part = be32_get(in.ptr + in.len - 4);
	return queue_id_ok(p_r->id);
}

struct str part_key(struct part_id p, char out[QUEUE_KEY_MAX])
{
	out[0] = 'R';
	return str_of(out, put_part_id(out, 1, p));
}

bool part_key_parse(struct str key, struct part_id *p_r)
{
	return key.len > 0 && key.ptr[0] == 'R' && take_part_id(str_skip(key, 1), p_r);
}

void part_range(struct str id, char first[QUEUE_KEY_MAX], char end[QUEUE_KEY_MAX], struct str *first_r,
		struct str *end_r)
{
	first[0] = 'R';
	memcpy(first + 1, id.ptr, id.len);
	first[1 + id.len] = 0;
	memcpy(end, first, id.len + 1);
	end[1 + id.len] = 1;
	*first_r = str_of(first, id.len + 2);
	*end_r = str_of(end, id.len + 2);
}

struct str schedule_key(struct str destination, unsigned bulk, uint64_t due, struct part_id p, char out[QUEUE_KEY_MAX])
{
	size_t at = 1;

	out[0] = 'S';
	if (destination.len)
		memcpy(out + at, destination.ptr, destination.len);
	at += destination.len;
	out[at++] = 0;
	out[at++] = (char)(bulk & PART_LATER ? CLASS_LATER : bulk);
	for (int i = 0; i < 8; i++)
		out[at++] = (char)(due >> (56 - 8 * i));
	return str_of(out, put_part_id(out, at, p));
}

bool schedule_parse(struct str key, struct schedule_entry *e_r)
{
	ptrdiff_t nul = str_chr(key, 0);
	struct str rest;

	if (nul < 1 || key.ptr[0] != 'S' || nul > 1 + DESTINATION_MAX)
		return false;
	e_r->destination = str_sub(key, 1, (size_t)nul - 1);
	rest = str_skip(key, (size_t)nul + 1);
	if (rest.len < 9 || (uint8_t)rest.ptr[0] >= SCHEDULE_CLASSES)
		return false;
	e_r->class = (uint8_t)rest.ptr[0];
	e_r->due = 0;
	for (int i = 1; i < 9; i++)
		e_r->due = e_r->due << 8 | (uint8_t)rest.ptr[i];
	return take_part_id(str_skip(rest, 9), &e_r->p);
}

bool part_encode(const struct queue_part *p, struct buf *out)
{
	int fds[1];
	size_t fd_count = 0;

	buf_clear(out);
	return rpc_encode(&queue_part_type, p, out, fds, &fd_count, NULL) == 0 && !buf_failed(out);
}

int part_decode(struct str value, struct arena *a, struct queue_part *p_r, struct err *err)
{
	if (rpc_decode(&queue_part_type, value, NULL, 0, a, p_r, err) < 0)
		return -1;
	if (p_r->destination.len > DESTINATION_MAX || memchr(p_r->destination.ptr, 0, p_r->destination.len))
		return err_set(err, ERR_PERM, "5.3.0", "a queue entry is damaged");
	return 0;
}

int part_get(struct queue_service *q, struct part_id p, struct arena *a, struct queue_part *p_r, struct err *err)
{
	char key[QUEUE_KEY_MAX];
	struct str value;
	int rc;

	if (!queue_id_ok(p.id))
		return 0;
	rc = kvlog_get(q->k, part_key(p, key), a, &value, err);
	if (rc <= 0)
		return rc;
	return part_decode(value, a, p_r, err) < 0 ? -1 : 1;
}

/* ---- dividing ------------------------------------------------------------------------------------------- */

struct str part_destination(const struct queue_rcpt *rcpt, struct arena *a)
{
	ptrdiff_t at = str_rchr(rcpt->address, '@');
	struct str domain = at < 0 ? STR_NULL : str_skip(rcpt->address, (size_t)at + 1);
	char *lower;

	if (rcpt->account || domain.len == 0 || memchr(domain.ptr, 0, domain.len))
		return STR("local");
	domain = str_sub(domain, 0, DESTINATION_MAX);
	lower = arena_alloc(a, domain.len + 1);
	for (size_t i = 0; i < domain.len; i++)
		lower[i] = ascii_lower(domain.ptr[i]);
	return str_of(lower, domain.len);
}

struct group { /* of recipients at one destination */
	struct str destination;
	size_t open; /* the part that has room, plus one; 0: none */
	size_t parts;
};

typedef VEC(struct queue_part) part_list;

static struct group *group_of(struct map *groups, struct str destination, struct arena *a)
{
	struct group *g = map_get(groups, destination);

	if (g)
		return g;
	g = ARENA_NEW(a, struct group);
	g->destination = destination;
	map_set(groups, destination, g);
	return g;
}

static void group_add(struct group *g, const struct queue_rcpt *rcpt, uint64_t due, size_t limit, struct arena *a,
		      part_list *list)
{
	struct queue_part *p = g->open ? &list->v[g->open - 1] : NULL;

	if (!p || p->rcpts.n == limit) {
		struct queue_part fresh = {.due = due, .destination = g->destination, .bulk = g->parts > 0};

		/* Room for all is made when it is needed: most parts have one. */
		vec_push_arena(a, list, fresh);
		if (g->parts++ == 1)
			list->v[g->open - 1].bulk = 1;
		g->open = list->n;
		p = &list->v[list->n - 1];
	}
	if ((p->rcpts.n & (p->rcpts.n - 1)) == 0) {
		struct queue_rcpt *grown = ARENA_ARRAY(a, struct queue_rcpt, p->rcpts.n ? 2 * p->rcpts.n : 1);

		if (p->rcpts.n)
			memcpy(grown, p->rcpts.v, p->rcpts.n * sizeof(*grown));
		p->rcpts.v = grown;
	}
	p->rcpts.v[p->rcpts.n++] = *rcpt;
}

struct queue_part *part_split(const struct queue_message *m, uint64_t due, size_t limit, struct arena *a,
			      size_t *count_r)
{
	struct map *groups = map_new();
	part_list list = {0};

	for (size_t i = 0; i < m->rcpts.n; i++) {
		const struct queue_rcpt *rcpt = &m->rcpts.v[i];

		group_add(group_of(groups, part_destination(rcpt, a), a), rcpt, due, limit ? limit : 1, a, &list);
	}
	map_free(&groups);
	*count_r = list.n;
	return list.v;
}

/* ---- all keys of a message ------------------------------------------------------------------------------ */

static int add_part(const struct queue_message *m, uint32_t number, const struct queue_part *p, struct buf *value,
		    void (*add)(void *ctx, struct str key, struct str value), void *ctx)
{
	struct part_id id = {m->id, number};
	char key[QUEUE_KEY_MAX];

	if (!part_encode(p, value))
		return -1;
	add(ctx, part_key(id, key), buf_str(value));
	add(ctx, schedule_key(p->destination, p->bulk, p->due, id, key), STR_NULL);
	return 0;
}

static size_t together(const struct queue_service *q)
{
	return q->o.parameters.recipients_together ? q->o.parameters.recipients_together : 50;
}

int message_ops(struct queue_service *q, const struct queue_message *m, uint64_t due, struct arena *a,
		void (*add)(void *ctx, struct str key, struct str value), void *ctx, struct err *err)
{
	size_t count;
	bool later = m->hold_until > due;
	uint64_t from = m->marks & MARK_HOLD ? QUEUE_HELD : later ? m->hold_until : due;
	struct queue_part *parts = part_split(m, from, together(q), a, &count);
	char key[QUEUE_KEY_MAX], wait[16];
	struct buf value;
	int rc = 0;

	if (later_is_counted(m))
		add(ctx, later_key(m, key), later_value(m, wait));
	buf_init(&value, PART_MAX);
	if (message_head_encode(m, (uint32_t)count, (uint32_t)m->rcpts.n, &value))
		add(ctx, message_key(m->id, key), buf_str(&value));
	else
		rc = -1;
	for (size_t i = 0; rc == 0 && i < count; i++) {
		parts[i].bulk |= later ? PART_LATER : 0;
		rc = add_part(m, (uint32_t)i, &parts[i], &value, add, ctx);
	}
	buf_release(&value);
	return rc < 0 ? err_set(err, ERR_LIMIT, "5.5.3", "too many recipients, or too long ones") : 0;
}

/* ---- all recipients of messages ------------------------------------------------------------------------- */

struct gathering {
	struct queue_service *q;
	struct arena *a;
	struct queue_message *messages;
	struct queue_state *states;
	size_t n, at; /* the one whose parts come */
	size_t bytes, max_bytes;
	size_t room; /* for its recipients */
};

static void gather_rcpts(struct gathering *g, const struct queue_part *p)
{
	struct queue_message *m = &g->messages[g->at];
	struct queue_rcpt *grown;

	if (m->rcpts.n == 0) { /* most have no other part */
		m->rcpts.v = p->rcpts.v;
		m->rcpts.n = g->room = p->rcpts.n;
		return;
	}
	if (m->rcpts.n + p->rcpts.n > g->room) {
		g->room = 2 * (m->rcpts.n + p->rcpts.n);
		grown = ARENA_ARRAY(g->a, struct queue_rcpt, g->room);
		memcpy(grown, m->rcpts.v, m->rcpts.n * sizeof(*grown));
		m->rcpts.v = grown;
	}
	for (size_t i = 0; i < p->rcpts.n; i++)
		m->rcpts.v[m->rcpts.n++] = p->rcpts.v[i];
}

static int gather_one(void *ctx, struct str key, struct str value)
{
	struct gathering *g = ctx;
	struct part_id id;
	struct queue_part p;
	int order;

	if (!part_key_parse(key, &id) || id.part >= PART_TOLD)
		return 0;
	/* Both stand in the order of their ids. */
	while ((order = str_cmp(id.id, g->messages[g->at].id)) > 0) {
		if (++g->at == g->n || g->bytes > g->max_bytes)
			return 1;
		g->room = 0;
	}
	if (order < 0 || part_decode(arena_str(g->a, value), g->a, &p, NULL) < 0)
		return 0;
	g->bytes += value.len;
	g->states[g->at].active = g->states[g->at].active || part_is_claimed(g->q, key);
	if (p.due < g->states[g->at].due)
		g->states[g->at].due = p.due;
	gather_rcpts(g, &p);
	return 0;
}

int messages_recipients(struct queue_service *q, struct arena *a, struct queue_message *messages,
			struct queue_state *states_r, size_t *n, size_t max_bytes, struct err *err)
{
	char first[QUEUE_KEY_MAX], end[QUEUE_KEY_MAX], unused[QUEUE_KEY_MAX];
	struct gathering g = {
		.q = q, .a = a, .messages = messages, .states = states_r, .n = *n, .max_bytes = max_bytes};
	struct str from, to, none;
	int rc;

	if (*n == 0)
		return 0;
	for (size_t i = 0; i < *n; i++)
		states_r[i] = (struct queue_state){.due = UINT64_MAX};
	part_range(messages[0].id, first, unused, &from, &none);
	part_range(messages[*n - 1].id, unused, end, &none, &to);
	rc = kvlog_range(q->k, from, to, false, gather_one, &g, err);
	if (rc > 0)
		*n = g.at;
	for (size_t i = 0; i < *n; i++)
		if (states_r[i].due == UINT64_MAX)
			states_r[i].due = 0; /* only a report is left */
	return rc < 0 ? -1 : 0;
}
