#include "journal/overlay.h"

#include "base/mem.h"

#define LEVELS 14

struct overlay_node {
	struct overlay_node *prev; /* NULL: the first */
	char *value;		   /* NULL: a tombstone */
	size_t value_len;
	size_t key_len;
	char *key; /* behind next[] */
	struct overlay_node *next[];
};

struct overlay {
	struct overlay_node *head[LEVELS];
	struct overlay_node *last;
	unsigned level;
	uint32_t seed;
	size_t bytes, count;
};

struct overlay *overlay_new(void)
{
	struct overlay *o = NEW(struct overlay);

	o->level = 1;
	o->seed = 2463534242u;
	return o;
}

void overlay_free(struct overlay **op)
{
	struct overlay *o = *op;

	*op = NULL;
	if (!o)
		return;
	for (struct overlay_node *n = o->head[0]; n;) {
		struct overlay_node *next = n->next[0];
		free(n->value);
		free(n);
		n = next;
	}
	free(o);
}

size_t overlay_bytes(const struct overlay *o)
{
	return o->bytes;
}

size_t overlay_count(const struct overlay *o)
{
	return o->count;
}

struct str overlay_key(const struct overlay_node *n)
{
	return str_of(n->key, n->key_len);
}

bool overlay_value(const struct overlay_node *n, struct str *value_r)
{
	*value_r = n->value ? str_of(n->value, n->value_len) : STR_NULL;
	return n->value != NULL;
}

/* The last node < key, and in links (if given) the pointers that an insertion has to change. */
static struct overlay_node *descend(const struct overlay *o, struct str key, struct overlay_node ***links)
{
	struct overlay_node *at = NULL;

	for (unsigned i = o->level; i-- > 0;) {
		struct overlay_node *n;

		while ((n = at ? at->next[i] : o->head[i]) && str_cmp(overlay_key(n), key) < 0)
			at = n;
		if (links)
			links[i] = at ? &at->next[i] : (struct overlay_node **)&o->head[i];
	}
	return at;
}

/* A quarter of the nodes of each level reaches the next. */
static unsigned random_height(struct overlay *o)
{
	unsigned height = 1;

	o->seed ^= o->seed << 13;
	o->seed ^= o->seed >> 17;
	o->seed ^= o->seed << 5;
	for (uint32_t r = o->seed; height < LEVELS && (r & 3) == 0; r >>= 2)
		height++;
	return height;
}

static struct overlay_node *node_for(struct overlay *o, struct str key)
{
	struct overlay_node **links[LEVELS], *before, *n;
	unsigned height;

	before = descend(o, key, links);
	n = before ? before->next[0] : o->head[0];
	if (n && str_eq(overlay_key(n), key))
		return n;
	height = random_height(o);
	for (; o->level < height; o->level++)
		links[o->level] = &o->head[o->level];
	n = mem_alloc(sizeof(*n) + height * sizeof(n->next[0]) + key.len);
	n->key = (char *)&n->next[height];
	n->key_len = key.len;
	if (key.len)
		memcpy(n->key, key.ptr, key.len);
	for (unsigned i = 0; i < height; i++) {
		n->next[i] = *links[i];
		*links[i] = n;
	}
	n->prev = before;
	if (n->next[0])
		n->next[0]->prev = n;
	else
		o->last = n;
	o->count++;
	o->bytes += sizeof(*n) + height * sizeof(n->next[0]) + key.len;
	return n;
}

void overlay_put(struct overlay *o, struct str key, struct str value)
{
	struct overlay_node *n = node_for(o, key);

	/* Copied before the old value goes: the caller's may be a view of it. */
	char *copy = mem_alloc(value.len + 1);
	if (value.len)
		memcpy(copy, value.ptr, value.len);
	o->bytes += value.len;
	o->bytes -= n->value_len;
	free(n->value);
	n->value = copy;
	n->value_len = value.len;
}

void overlay_del(struct overlay *o, struct str key)
{
	struct overlay_node *n = node_for(o, key);

	o->bytes -= n->value_len;
	free(n->value);
	n->value = NULL;
	n->value_len = 0;
}

const struct overlay_node *overlay_seek(const struct overlay *o, struct str key)
{
	struct overlay_node *before = descend(o, key, NULL);

	return before ? before->next[0] : o->head[0];
}

const struct overlay_node *overlay_find(const struct overlay *o, struct str key)
{
	const struct overlay_node *n = overlay_seek(o, key);

	return n && str_eq(overlay_key(n), key) ? n : NULL;
}

const struct overlay_node *overlay_before(const struct overlay *o, struct str key)
{
	return descend(o, key, NULL);
}

const struct overlay_node *overlay_first(const struct overlay *o)
{
	return o->head[0];
}

const struct overlay_node *overlay_last(const struct overlay *o)
{
	return o->last;
}

const struct overlay_node *overlay_next(const struct overlay_node *n)
{
	return n->next[0];
}

const struct overlay_node *overlay_prev(const struct overlay_node *n)
{
	return n->prev;
}
