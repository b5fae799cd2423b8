/* Reading: active over frozen over index. */
#include "journal/kvlog_private.h"

/* A damaged value is its owner's to mend, if he can; where searches fail nobody can. */
static int doubt_if_failed(struct kvlog *k, int rc, bool of_value)
{
	if (rc < 0 && (!of_value || k->o.keys_alone))
		kvlog_doubt(k);
	return rc;
}

int kvlog_get(struct kvlog *k, struct str key, struct arena *a, struct str *value_r, struct err *err)
{
	const struct overlay *layers[2] = {k->active, k->frozen};
	struct err own = ERR_NONE;
	int rc;

	for (size_t i = 0; i < ARRAY_SIZE(layers); i++) {
		const struct overlay_node *n = layers[i] ? overlay_find(layers[i], key) : NULL;
		struct str value;

		if (!n)
			continue;
		if (!overlay_value(n, &value))
			return 0;
		*value_r = arena_str(a, value);
		return 1;
	}
	err = err ? err : &own;
	rc = index_get(k->index, key, a, value_r, err);
	return doubt_if_failed(k, rc, err->kind == ERR_PERM);
}

/* A walk over both overlays and the index at once. */
struct walk {
	struct kvlog *k;
	bool reverse;
	const struct overlay_node *node[2];
	struct index_cursor *cursor;
	struct str key; /* where the cursor stands */
	bool have;
	bool keys_alone; /* the values of the index are not looked at */
};

static const struct overlay_node *overlay_start(const struct overlay *o, struct str first, struct str end, bool reverse)
{
	if (!o)
		return NULL;
	if (!reverse)
		return overlay_seek(o, first);
	return end.ptr ? overlay_before(o, end) : overlay_last(o);
}

static int cursor_look(struct walk *w, struct err *err)
{
	int rc = doubt_if_failed(w->k, index_cursor_key(w->cursor, &w->key, err), false);

	w->have = rc > 0;
	return rc;
}

static int walk_begin(struct walk *w, struct str first, struct str end, struct err *err)
{
	struct kvlog *k = w->k;
	bool reverse = w->reverse;

	w->node[0] = overlay_start(k->active, first, end, reverse);
	w->node[1] = overlay_start(k->frozen, first, end, reverse);
	if (doubt_if_failed(k, index_cursor_open(k->index, reverse ? end : first, reverse, &w->cursor, err), false) < 0)
		return -1;
	return cursor_look(w, err);
}

/* The key that comes next; false at the end. */
static bool walk_key(const struct walk *w, struct str *key_r)
{
	bool found = w->have;

	if (found)
		*key_r = w->key;
	for (int i = 0; i < 2; i++) {
		int cmp;

		if (!w->node[i])
			continue;
		cmp = found ? str_cmp(overlay_key(w->node[i]), *key_r) : 0;
		if (!found || (w->reverse ? cmp > 0 : cmp < 0))
			*key_r = overlay_key(w->node[i]);
		found = true;
	}
	return found;
}

/* What the topmost layer says of it: 1, 0 for a tombstone, -1 when it is damaged. What it hides may be. */
static int walk_value(const struct walk *w, struct str key, struct str *value_r, struct err *err)
{
	for (int i = 0; i < 2; i++)
		if (w->node[i] && str_eq(overlay_key(w->node[i]), key))
			return overlay_value(w->node[i], value_r) ? 1 : 0;
	*value_r = STR_NULL;
	return w->keys_alone ? 1 : doubt_if_failed(w->k, index_cursor_value(w->cursor, value_r, err), true);
}

static int walk_step(struct walk *w, struct str key, struct err *err)
{
	bool at_cursor = w->have && str_eq(w->key, key);

	for (int i = 0; i < 2; i++)
		if (w->node[i] && str_eq(overlay_key(w->node[i]), key))
			w->node[i] = w->reverse ? overlay_prev(w->node[i]) : overlay_next(w->node[i]);
	if (!at_cursor)
		return 0;
	index_cursor_step(w->cursor);
	return cursor_look(w, err);
}

static int walk_all(struct walk *w, struct str first, struct str end, kvlog_range_fn *fn, void *ctx, struct err *err)
{
	struct str key, value;
	int rc = 0;

	if (walk_begin(w, first, end, err) < 0)
		rc = -1;
	while (rc == 0 && walk_key(w, &key)) {
		if (w->reverse ? str_cmp(key, first) < 0 : end.ptr && str_cmp(key, end) >= 0)
			break;
		rc = walk_value(w, key, &value, err);
		if (rc > 0)
			rc = fn(ctx, key, value);
		if (rc == 0 && walk_step(w, key, err) < 0)
			rc = -1;
	}
	if (w->cursor)
		index_cursor_close(&w->cursor);
	return rc;
}

int kvlog_range(struct kvlog *k, struct str first, struct str end, bool reverse, kvlog_range_fn *fn, void *ctx,
		struct err *err)
{
	struct walk w = {.k = k, .reverse = reverse};

	return walk_all(&w, first, end, fn, ctx, err);
}

int kvlog_keys(struct kvlog *k, struct str first, struct str end, kvlog_range_fn *fn, void *ctx, struct err *err)
{
	struct walk w = {.k = k, .keys_alone = true};

	return walk_all(&w, first, end, fn, ctx, err);
}

bool kvlog_index_has_keys(struct kvlog *k)
{
	struct index_cursor *c;
	struct str key;
	bool found;

	if (index_cursor_open(k->index, STR_NULL, false, &c, NULL) < 0)
		return false;
	found = index_cursor_key(c, &key, NULL) > 0;
	index_cursor_close(&c);
	return found;
}
