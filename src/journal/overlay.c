#include "journal/overlay.h"

#include "base/arena.h"
#include "base/mem.h"
#include <endian.h>

#define LEVELS 14

/* The first bytes of a key as numbers whose order is theirs, zeros behind its end: nearly every comparison ends there,
 * without a look at the key itself. Sixteen, for names of messages begin alike when they come close together. */
struct prefix {
	uint64_t a, b;
};

struct overlay_node {
	struct prefix prefix;
	uint32_t key_len, value_len, value_room;
	bool alive;		   /* or a tombstone */
	struct overlay_node *prev; /* NULL: the first */
	char *key, *value;	   /* the key is behind next[] */
	struct overlay_node *next[];
};

struct overlay {
	struct overlay_node *head[LEVELS];
	struct overlay_node *last;
	struct arena arena; /* nodes and values */
	unsigned level;
	uint32_t seed;
	size_t count;
};

struct overlay *overlay_new(void)
{
	struct overlay *o = NEW(struct overlay);

	arena_init(&o->arena);
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
	arena_release(&o->arena);
	free(o);
}

size_t overlay_bytes(const struct overlay *o)
{
	return arena_used(&o->arena);
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
	*value_r = n->alive ? str_of(n->value, n->value_len) : STR_NULL;
	return n->alive;
}

static struct prefix prefix_of(struct str key)
{
	unsigned char bytes[sizeof(struct prefix)] = {0};
	struct prefix p;

	if (key.len)
		memcpy(bytes, key.ptr, key.len < sizeof(bytes) ? key.len : sizeof(bytes));
	memcpy(&p, bytes, sizeof(p));
	return (struct prefix){be64toh(p.a), be64toh(p.b)};
}

static bool is_before(const struct overlay_node *n, struct prefix p, struct str key)
{
	if (n->prefix.a != p.a)
		return n->prefix.a < p.a;
	if (n->prefix.b != p.b)
		return n->prefix.b < p.b;
	return str_cmp(overlay_key(n), key) < 0;
}

/* The last node < key, and in links (if given) the pointers that an insertion has to change. */
static struct overlay_node *descend(const struct overlay *o, struct str key, struct overlay_node ***links)
{
	const struct prefix prefix = prefix_of(key);
	struct overlay_node *at = NULL;

	for (unsigned i = o->level; i-- > 0;) {
		struct overlay_node *n;

		while ((n = at ? at->next[i] : o->head[i]) && is_before(n, prefix, key))
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
	n = arena_alloc(&o->arena, sizeof(*n) + height * sizeof(n->next[0]) + key.len);
	n->prefix = prefix_of(key);
	n->key = (char *)&n->next[height];
	n->key_len = (uint32_t)key.len;
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
	return n;
}

void overlay_put(struct overlay *o, struct str key, struct str value)
{
	struct overlay_node *n = node_for(o, key);

	/* In the place of the old one, of which the caller's may be a view, if there is room. */
	if (value.len > n->value_room || !n->value) {
		n->value_room = (uint32_t)value.len;
		n->value = arena_dup(&o->arena, value.ptr, value.len);
	} else if (value.len) {
		memmove(n->value, value.ptr, value.len);
	}
	n->value_len = (uint32_t)value.len;
	n->alive = true;
}

void overlay_del(struct overlay *o, struct str key)
{
	node_for(o, key)->alive = false;
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
