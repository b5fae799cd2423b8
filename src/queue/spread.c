/* How far a message of several parts is: whether one of them is the last, and whether the sender can be told of all
 * in one report. Counted once, by a walk over its parts, when one of them is claimed; kept true by every change. */
#include "queue/service_private.h"

struct counting {
	struct spread *s;
	struct err *err;
};

static int count_one(void *ctx, struct str key, struct str value)
{
	struct counting *c = ctx;
	struct part_id id;
	struct queue_part p;
	struct arena a;
	int rc = 0;

	if (!part_key_parse(key, &id) || (id.part >= PART_TOLD && id.part != QUEUE_PART_REPORT))
		return 0;
	arena_init(&a);
	if (part_decode(value, &a, &p, c->err) < 0)
		rc = -1;
	else if (id.part == QUEUE_PART_REPORT)
		c->s->report = p.due;
	else
		c->s->left++, c->s->untried += p.attempts == 0;
	arena_release(&a);
	return rc;
}

struct spread *spread_of(struct queue_service *q, struct str id, bool *is_new_r, struct err *err)
{
	struct spread *s = map_get(q->spreads, id);
	char first[QUEUE_KEY_MAX], end[QUEUE_KEY_MAX];
	struct str from, to;
	struct counting c;

	*is_new_r = s == NULL;
	if (s)
		return s;
	s = NEW(struct spread);
	c = (struct counting){s, err};
	part_range(id, first, end, &from, &to);
	if (kvlog_range(q->k, from, to, false, count_one, &c, err) != 0) {
		free(s);
		return NULL;
	}
	map_set(q->spreads, id, s);
	return s;
}

void spread_drop(struct queue_service *q, struct str id)
{
	free(map_remove(q->spreads, id));
}

void spread_rest(struct queue_service *q, struct str id)
{
	const struct spread *s = map_get(q->spreads, id);

	if (s && s->claimed == 0 && s->untried == 0)
		spread_drop(q, id);
}

void spread_free_all(struct queue_service *q)
{
	struct str key;
	void *value;

	for (size_t at = 0; q->spreads && map_next(q->spreads, &at, &key, &value);)
		free(value);
	map_free(&q->spreads);
}
