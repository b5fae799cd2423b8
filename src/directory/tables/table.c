/* Which types there are, and what they have in common. */
#include "config/cf_lines.h"
#include "directory/tables/private.h"
#include <stdarg.h>
#include <stdio.h>

static const struct {
	const char *name;
	table_open_fn *open;
} types[] = {
	{"hash", table_open_text},	{"btree", table_open_text},	{"lmdb", table_open_text},
	{"cdb", table_open_text},	{"dbm", table_open_text},	{"sdbm", table_open_text},
	{"texthash", table_open_text},	{"regexp", table_open_regexp},	{"pcre", table_open_pcre},
	{"cidr", table_open_cidr},	{"inline", table_open_inline},	{"static", table_open_static},
	{"fail", table_open_fail},	{"unionmap", table_open_union}, {"pipemap", table_open_pipe},
	{"randmap", table_open_random}, {"unix", table_open_unix},	{"sqlite", table_open_sqlite},
};

/* Types of Postfix that wait for their turn: the sentence must not read as if they were a spelling mistake. */
static const char *const not_yet[] = {"mysql",	 "pgsql", "ldap",    "memcache", "socketmap", "tcp",  "mongodb",
				      "environ", "nis",	  "nisplus", "netinfo",	 "internal",  "debug"};

static void list_types(struct buf *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		buf_addf(out, "%s%s", i ? " " : "", types[i].name);
}

static struct table *refuse_type(const struct opening *o, struct err *err)
{
	const char *why = "is unknown";
	struct buf list;

	buf_init(&list, 400);
	list_types(&list);
	for (size_t i = 0; i < ARRAY_SIZE(not_yet); i++)
		if (str_eq(o->type, str_from(not_yet[i])))
			why = "is not supported yet";
	err_set(err, ERR_PERM, "", "%.*s: the table type \"%.*s\" %s; there are: %s", STR_ARG(str_sub(o->spec, 0, 60)),
		STR_ARG(str_sub(o->type, 0, 20)), why, list.ptr);
	buf_release(&list);
	return NULL;
}

static struct table *open_at(struct str spec, const struct table_source *source, unsigned depth, struct err *err)
{
	struct opening o = {.spec = spec, .source = source, .depth = depth};

	while (str_starts(spec, STR("proxy:")))
		spec = str_skip(spec, 6);
	if (depth > TABLE_DEPTH_MAX) {
		err_set(err, ERR_LIMIT, "", "%.*s: tables inside of tables, more than %d",
			STR_ARG(str_sub(spec, 0, 60)), TABLE_DEPTH_MAX);
		return NULL;
	}
	if (!str_split(spec, ':', &o.type, &o.name) || o.type.len == 0 || o.name.len == 0) {
		err_set(err, ERR_SYNTAX, "", "\"%.*s\" is no table: say type:name, as in hash:/etc/postfix/transport",
			STR_ARG(str_sub(spec, 0, 60)));
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (str_eq(o.type, str_from(types[i].name)))
			return types[i].open(&o, err);
	return refuse_type(&o, err);
}

static void note_address(void *ctx, struct str key, struct str value)
{
	bool *seen = ctx;

	(void)value;
	*seen = *seen || str_chr(key, '@') >= 0;
}

struct table *table_open(struct str spec, const struct table_source *source, struct err *err)
{
	struct table *t = open_at(spec, source, 0, err);
	bool seen = false;

	if (t != NULL)
		t->addresses = !table_each(t, note_address, &seen) || seen;
	return t;
}

struct table *table_open_nested(const struct opening *outer, struct str spec, struct err *err)
{
	return open_at(spec, outer->source, outer->depth + 1, err);
}

struct table *table_new(const struct opening *o, const struct table_ops *ops, void *data, bool parts)
{
	struct table *t = NEW(struct table);

	t->ops = ops;
	t->data = data;
	t->name = str_dup(o->spec);
	t->parts = parts;
	t->fold = !o->source->case_kept;
	return t;
}

void table_free(struct table **tp)
{
	struct table *t = *tp;

	*tp = NULL;
	if (t == NULL)
		return;
	if (t->ops->free)
		t->ops->free(t->data);
	free(t->name);
	free(t);
}

struct str table_fold(struct arena *arena, struct str key)
{
	char *copy;

	for (size_t i = 0; i < key.len; i++) {
		if (key.ptr[i] == ascii_lower(key.ptr[i]))
			continue;
		copy = arena_strz(arena, key);
		for (; i < key.len; i++)
			copy[i] = ascii_lower(copy[i]);
		return str_of(copy, key.len);
	}
	return key;
}

int table_find(const struct table *t, struct str key, struct arena *arena, struct str *value_r, struct err *err)
{
	/* Postfix' keys are C strings: none of its tables holds such a key. */
	if (key.len == 0 || memchr(key.ptr, '\0', key.len) != NULL)
		return 0;
	return t->ops->find(t, t->parts && t->fold ? table_fold(arena, key) : key, arena, value_r, err);
}

bool table_takes_parts(const struct table *t)
{
	return t->parts;
}

struct str table_name(const struct table *t)
{
	return str_from(t->name);
}

bool table_each(const struct table *t, void (*f)(void *ctx, struct str key, struct str value), void *ctx)
{
	return t->ops->each != NULL && t->ops->each(t, f, ctx);
}

bool table_is_quick(const struct table *t)
{
	return t->quick;
}

bool table_names_addresses(const struct table *t)
{
	return t->addresses;
}

size_t table_bytes(const struct table *t)
{
	return t->ops->bytes ? t->ops->bytes(t) : 0;
}

/* ---- what a file's faults are told by ---- */

static struct str told_name(const struct opening *o)
{
	return o->name.ptr[0] == '{' ? str_sub(o->spec, 0, 60) : o->name;
}

void table_warn(const struct opening *o, unsigned line, const char *fmt, ...)
{
	struct str name = told_name(o);
	va_list args;

	if (o->source->warnings == NULL)
		return;
	va_start(args, fmt);
	buf_addf(o->source->warnings, "%.*s, line %u: ", STR_ARG(name), line);
	buf_vaddf(o->source->warnings, fmt, args);
	buf_addc(o->source->warnings, '\n');
	va_end(args);
}

int table_error(const struct opening *o, unsigned line, struct err *err, const char *fmt, ...)
{
	struct str name = told_name(o);
	char text[200];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return err_set(err, ERR_SYNTAX, "", "%.*s, line %u: %s", STR_ARG(name), line, text);
}

int table_read(const struct opening *o, struct str path, struct str *contents_r, struct err *err)
{
	return o->source->read(o->source->ctx, path, contents_r, err);
}

/* ---- lines ---- */

void table_lines_init(struct table_lines *l, const struct opening *o, struct str text)
{
	*l = (struct table_lines){.o = o, .rest = text, .line = 1};
}

static bool is_nothing(struct str line)
{
	for (size_t i = 0; i < line.len; i++)
		if (!ascii_space(line.ptr[i]))
			return line.ptr[i] == '#';
	return true;
}

/* What stands on the next physical line; a NUL ends it early, as it does in Postfix. */
static struct str physical_line(struct table_lines *l)
{
	struct str line, rest;
	ptrdiff_t nul;

	str_split(l->rest, '\n', &line, &rest);
	l->rest = str_skip(l->rest, line.len + 1);
	l->line++;
	nul = str_chr(line, '\0');
	return nul >= 0 ? str_sub(line, 0, (size_t)nul) : line;
}

int table_lines_next(struct table_lines *l, struct buf *line, unsigned *number_r, struct err *err)
{
	buf_clear(line);
	while (l->rest.len > 0) {
		struct table_lines before = *l;
		struct str next = physical_line(l);

		if (is_nothing(next))
			continue;
		if (line->len > 0 && !ascii_space(next.ptr[0])) {
			*l = before;
			break;
		}
		if (line->len == 0) {
			*number_r = before.line;
			if (ascii_space(next.ptr[0])) {
				table_warn(l->o, before.line,
					   "a line must not begin with blanks when none stands before it: ignored");
				continue;
			}
		}
		buf_add_str(line, next);
		if (buf_failed(line))
			return table_error(l->o, *number_r, err, "longer than %zu bytes", line->max);
	}
	while (line->len > 0 && ascii_space(line->ptr[line->len - 1]))
		buf_truncate(line, line->len - 1);
	return line->len > 0;
}

/* ---- braces ---- */

bool table_braces(struct str s, struct str *inner_r)
{
	size_t depth = 0;

	s = str_trim(s);
	if (s.len < 2 || s.ptr[0] != '{' || s.ptr[s.len - 1] != '}')
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] == '{')
			depth++;
		else if (s.ptr[i] == '}' && --depth == 0 && i + 1 < s.len)
			return false;
	}
	*inner_r = str_trim(str_sub(s, 1, s.len - 2));
	return depth == 0;
}

int table_rules_text(const struct opening *o, struct arena *arena, struct str *text_r, struct err *err)
{
	struct str rest, item, rule;
	struct buf text;

	if (o->name.ptr[0] != '{')
		return table_read(o, o->name, text_r, err);
	if (!table_braces(o->name, &rest))
		return err_set(err, ERR_SYNTAX, "", "%.*s: say %.*s:{ { rule }, { rule } }",
			       STR_ARG(str_sub(o->spec, 0, 60)), STR_ARG(o->type));
	buf_init(&text, TABLE_LINE_MAX);
	for (unsigned line = 1; cf_word(&rest, true, &item) > 0; line++) {
		if (!table_braces(item, &rule)) {
			buf_release(&text);
			return table_error(o, line, err, "each rule stands in braces of its own");
		}
		buf_add_str(&text, rule);
		buf_addc(&text, '\n');
	}
	*text_r = arena_str(arena, buf_str(&text));
	buf_release(&text);
	return rest.len > 0
		       ? err_set(err, ERR_SYNTAX, "", "%.*s: a brace is not closed", STR_ARG(str_sub(o->spec, 0, 60)))
		       : 0;
}
