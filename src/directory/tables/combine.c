/* static, fail, and the tables that are made of others: unionmap, pipemap, randmap. */
#include "config/cf_lines.h"
#include "directory/tables/private.h"
#include <sys/random.h>

/* ---- static:text, static:{ text with blanks }: every key has it ---- */

static int static_find(const struct table *t, struct str key, struct arena *arena, struct str *value_r, struct err *err)
{
	(void)key, (void)arena, (void)err;
	*value_r = str_from(t->data);
	return 1;
}

static const struct table_ops static_ops = {.find = static_find, .free = free};

struct table *table_open_static(const struct opening *o, struct err *err)
{
	struct str value = o->name;
	struct table *t;

	if (value.ptr[0] == '{' && !table_braces(o->name, &value)) {
		err_set(err, ERR_SYNTAX, "", "%.*s: a brace is not closed, or something stands behind it",
			STR_ARG(str_sub(o->spec, 0, 60)));
		return NULL;
	}
	t = table_new(o, &static_ops, str_dup(value), true);
	t->quick = true;
	return t;
}

/* ---- fail:name: every look-up fails for now ---- */

static int fail_find(const struct table *t, struct str key, struct arena *arena, struct str *value_r, struct err *err)
{
	(void)key, (void)arena, (void)value_r;
	return err_set(err, ERR_TEMP, "4.3.0", "%s fails every look-up", t->name);
}

static const struct table_ops fail_ops = {.find = fail_find};

struct table *table_open_fail(const struct opening *o, struct err *err)
{
	(void)err;
	return table_new(o, &fail_ops, NULL, true);
}

/* ---- several in one ---- */

struct several {
	VEC(struct table *) tables;
	VEC(char *) texts; /* randmap */
};

static void several_free(void *data)
{
	struct several *s = data;

	for (size_t i = 0; i < s->tables.n; i++)
		table_free(&s->tables.v[i]);
	for (size_t i = 0; i < s->texts.n; i++)
		free(s->texts.v[i]);
	vec_release(&s->tables);
	vec_release(&s->texts);
	free(s);
}

/* What all of them have, with commas between. */
static int union_find(const struct table *t, struct str key, struct arena *arena, struct str *value_r, struct err *err)
{
	const struct several *s = t->data;
	struct buf all;
	int found = 0;

	buf_init(&all, TABLE_LINE_MAX);
	for (size_t i = 0; i < s->tables.n; i++) {
		struct str value;
		int rc = table_find(s->tables.v[i], key, arena, &value, err);

		if (rc < 0) {
			buf_release(&all);
			return -1;
		}
		if (rc == 0)
			continue;
		if (found)
			buf_addc(&all, ',');
		buf_add_str(&all, value);
		found = 1;
	}
	*value_r = arena_str(arena, buf_str(&all));
	buf_release(&all);
	return found;
}

/* The value of one is the key of the next. */
static int pipe_find(const struct table *t, struct str key, struct arena *arena, struct str *value_r, struct err *err)
{
	const struct several *s = t->data;
	int rc = 0;

	for (size_t i = 0; i < s->tables.n; i++) {
		rc = table_find(s->tables.v[i], key, arena, &key, err);
		if (rc <= 0)
			return rc;
	}
	*value_r = key;
	return rc;
}

static int random_find(const struct table *t, struct str key, struct arena *arena, struct str *value_r, struct err *err)
{
	const struct several *s = t->data;
	uint32_t number = 0;

	(void)key, (void)arena;
	if (getrandom(&number, sizeof(number), GRND_NONBLOCK) < 0)
		return err_errno(err, "no random number for %s", t->name);
	*value_r = str_from(s->texts.v[number % s->texts.n]);
	return 1;
}

static const struct table_ops union_ops = {.find = union_find, .free = several_free},
			      pipe_ops = {.find = pipe_find, .free = several_free},
			      random_ops = {.find = random_find, .free = several_free};

/* Walks "{ item, item }"; items in braces come without them. 1, 0, -1. */
static int next_item(struct str *rest, struct str *item_r)
{
	int rc = cf_word(rest, true, item_r);

	if (rc > 0 && item_r->ptr[0] == '{' && !table_braces(*item_r, item_r))
		return -1;
	return rc;
}

static int syntax(const struct opening *o, const char *what, struct err *err)
{
	return err_set(err, ERR_SYNTAX, "", "%.*s: say %.*s:{ %s, %s }", STR_ARG(str_sub(o->spec, 0, 60)),
		       STR_ARG(o->type), what, what);
}

static struct table *open_several(const struct opening *o, const struct table_ops *ops, struct err *err)
{
	struct several *s = NEW(struct several);
	struct table *t = NULL, *inner;
	bool parts = false;
	struct str rest, item;
	int rc = 1;

	if (table_braces(o->name, &rest)) {
		while ((rc = next_item(&rest, &item)) > 0 && (inner = table_open_nested(o, item, err)) != NULL) {
			parts |= inner->parts;
			vec_push(&s->tables, inner);
		}
		if (rc == 0 && s->tables.n > 0)
			t = table_new(o, ops, s, parts);
	}
	if (t == NULL) {
		if (rc <= 0 || s->tables.n == 0)
			if (err == NULL || err->kind == ERR_OK)
				syntax(o, "type:name", err);
		several_free(s);
	} else {
		t->fold = false; /* each of the tables does, or does not */
	}
	return t;
}

struct table *table_open_union(const struct opening *o, struct err *err)
{
	return open_several(o, &union_ops, err);
}

struct table *table_open_pipe(const struct opening *o, struct err *err)
{
	return open_several(o, &pipe_ops, err);
}

struct table *table_open_random(const struct opening *o, struct err *err)
{
	struct several *s = NEW(struct several);
	struct str rest, item;
	int rc = -1;

	if (table_braces(o->name, &rest))
		while ((rc = next_item(&rest, &item)) > 0)
			vec_push(&s->texts, str_dup(item));
	if (rc == 0 && s->texts.n > 0)
		return table_new(o, &random_ops, s, false);
	syntax(o, "result", err);
	several_free(s);
	return NULL;
}
