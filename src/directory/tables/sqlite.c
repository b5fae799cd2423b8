/* sqlite:/path/of.cf - a query of an SQLite database (sqlite_table(5)).
 *
 * The database is not opened where it lies, which no jail lets us: the whole file travels as the other files of tables
 * do, and is SQLite's own memory. So it is a copy of the moment; when the file is written again, master sees it and a
 * new copy comes. What a writer has left in a file -wal beside it is seen after its checkpoint. One look-up at a time a
 * table. */
#include "config/conf.h"
#include "directory/db.h"
#include "directory/tables/private.h"
#include "msg/address.h"
#include <sqlite3.h>

#define SETTING_MAX 16384

struct sqlite {
	struct arena arena;
	sqlite3 *db;
	struct str dbpath, query, result_format, domain;
	uint32_t expansion_limit; /* 0: none */
};

/* ---- the .cf file ---- */

static bool take_setting(struct sqlite *s, struct str name, struct str value)
{
	const struct {
		struct str name;
		struct str *to;
	} texts[] = {{STR("dbpath"), &s->dbpath},
		     {STR("query"), &s->query},
		     {STR("result_format"), &s->result_format},
		     {STR("domain"), &s->domain}};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (str_eq(name, texts[i].name)) {
			*texts[i].to = arena_str(&s->arena, value);
			return true;
		}
	return str_eq(name, STR("expansion_limit")) && str_to_u32(value, &s->expansion_limit);
}

static int read_settings(struct sqlite *s, const struct opening *o, struct str text, struct err *err)
{
	struct table_lines lines;
	struct str name, value;
	struct buf line;
	unsigned number;
	int more;

	buf_init(&line, SETTING_MAX);
	table_lines_init(&lines, o, text);
	while ((more = table_lines_next(&lines, &line, &number, err)) > 0)
		if (!str_split(buf_str(&line), '=', &name, &value) ||
		    !take_setting(s, str_trim(name), str_trim(value))) {
			more = table_error(
				o, number, err,
				"\"%.*s\": there are dbpath, query, result_format, domain and expansion_limit",
				STR_ARG(str_sub(buf_str(&line), 0, 60)));
			break;
		}
	buf_release(&line);
	if (more == 0 && (s->dbpath.len == 0 || s->query.len == 0))
		return table_error(o, 1, err, "dbpath and query must be there");
	return more;
}

/* ---- %s and its kin ---- */

struct expansion {
	struct str key;	 /* what %S, %U, %D mean */
	struct str with; /* what %s, %u, %d mean: the key, or in a result the column */
	bool quote;	 /* for the inside of an SQL string */
};

static void add_quoted(struct buf *out, struct str s, bool quote)
{
	for (size_t i = 0; i < s.len; i++) {
		if (quote && s.ptr[i] == '\'')
			buf_addc(out, '\'');
		buf_addc(out, s.ptr[i]);
	}
}

/* The n-th label of the domain from the right, from 1. */
static struct str label(struct str domain, unsigned n)
{
	ptrdiff_t dot = 0;

	for (; n > 1 && dot >= 0; n--) {
		dot = str_rchr(domain, '.');
		domain = dot < 0 ? STR("") : str_sub(domain, 0, (size_t)dot);
	}
	dot = str_rchr(domain, '.');
	return dot < 0 ? domain : str_skip(domain, (size_t)dot + 1);
}

/* What a letter stands for. False: there is no such part, and so no answer. */
static bool part_of(const struct expansion *x, char c, struct str *part_r)
{
	struct str from = c >= 'a' && c <= 'z' ? x->with : x->key, local = from, domain = STR("");
	ptrdiff_t at = str_rchr(from, '@');

	if (at >= 0) {
		local = str_sub(from, 0, (size_t)at);
		domain = str_skip(from, (size_t)at + 1);
	}
	if (ascii_digit(c)) {
		at = str_rchr(x->key, '@');
		*part_r = at < 0 ? STR("") : label(str_skip(x->key, (size_t)at + 1), (unsigned)(c - '0'));
	} else {
		*part_r = c == 's' || c == 'S' ? from : c == 'u' || c == 'U' ? local : domain;
	}
	return part_r->len > 0;
}

/* 1, 0: a part that is asked for is not there; the format itself was checked when the table was opened. */
static int expand(const struct expansion *x, struct str format, struct buf *out)
{
	struct str part;

	for (size_t i = 0; i < format.len; i++) {
		if (format.ptr[i] != '%' || i + 1 == format.len) {
			buf_addc(out, format.ptr[i]);
			continue;
		}
		i++;
		if (format.ptr[i] == '%')
			buf_addc(out, '%');
		else if (!part_of(x, format.ptr[i], &part))
			return 0;
		else
			add_quoted(out, part, x->quote);
	}
	return 1;
}

static bool valid_format(struct str format)
{
	for (size_t i = 0; i < format.len; i++)
		if (format.ptr[i] == '%' &&
		    (++i == format.len || strchr("%sudSUD123456789", format.ptr[i]) == NULL || format.ptr[i] == '\0'))
			return false;
	return true;
}

/* ---- looking up ---- */

static bool wants_domain(const struct sqlite *s, struct str key)
{
	ptrdiff_t at = str_rchr(key, '@');
	struct str rest = s->domain, item;

	if (rest.len == 0)
		return true;
	while (at >= 0 && conf_list_next(&rest, &item))
		if (str_ieq(item, str_skip(key, (size_t)at + 1)))
			return true;
	return false;
}

/* All columns of all rows, each by result_format, with commas between. */
static int collect(const struct table *t, sqlite3_stmt *stmt, struct str key, struct buf *out, struct err *err)
{
	const struct sqlite *s = t->data;
	uint32_t count = 0;
	int step;

	while ((step = sqlite3_step(stmt)) == SQLITE_ROW)
		for (int i = 0; i < sqlite3_column_count(stmt); i++) {
			const char *column = (const char *)sqlite3_column_text(stmt, i);
			struct expansion x = {.key = key, .with = str_from(column)};
			size_t before = out->len;

			db_check_column(stmt, column);
			if (column == NULL || column[0] == '\0')
				continue;
			if (before > 0)
				buf_addc(out, ',');
			if (!expand(&x, s->result_format, out)) {
				buf_truncate(out, before);
				continue;
			}
			if (s->expansion_limit > 0 && ++count > s->expansion_limit)
				return err_set(err, ERR_TEMP, "4.3.0", "%s: more than %u results for %.*s", t->name,
					       s->expansion_limit, STR_ARG(str_sub(key, 0, 80)));
		}
	if (step != SQLITE_DONE)
		return err_set(err, ERR_TEMP, "4.3.0", "%s: %s", t->name, sqlite3_errmsg(s->db));
	return out->len > 0;
}

static int sqlite_find(const struct table *t, struct str key, struct arena *arena, struct str *value_r, struct err *err)
{
	const struct sqlite *s = t->data;
	struct expansion x = {.key = key, .with = key, .quote = true};
	sqlite3_stmt *stmt = NULL;
	struct buf query, out;
	int rc = 0;

	if (!wants_domain(s, key))
		return 0;
	buf_init(&query, TABLE_LINE_MAX);
	buf_init(&out, TABLE_LINE_MAX);
	if (expand(&x, s->query, &query)) {
		if (sqlite3_prepare_v2(s->db, query.ptr, -1, &stmt, NULL) != SQLITE_OK)
			rc = err_set(err, ERR_TEMP, "4.3.0", "%s: the query failed for %.*s", t->name,
				     STR_ARG(str_sub(key, 0, 80)));
		else
			rc = collect(t, stmt, key, &out, err);
		sqlite3_finalize(stmt);
	}
	if (rc > 0)
		*value_r = arena_str(arena, buf_str(&out));
	buf_release(&query);
	buf_release(&out);
	return rc;
}

static void sqlite_free(void *data)
{
	struct sqlite *s = data;

	sqlite3_close(s->db);
	arena_release(&s->arena);
	free(s);
}

static const struct table_ops sqlite_ops = {.find = sqlite_find, .free = sqlite_free};

/* ---- opening ---- */

/* A journal beside the file is none of ours: in memory a database in WAL mode could not be opened. */
static int load(struct sqlite *s, struct str bytes, struct err *err)
{
	unsigned char *copy;

	if (bytes.len < 100 || memcmp(bytes.ptr, "SQLite format 3", 16) != 0)
		return err_set(err, ERR_SYNTAX, "", "%.*s is no SQLite database", STR_ARG(s->dbpath));
	copy = sqlite3_malloc64(bytes.len);
	if (copy == NULL ||
	    sqlite3_open_v2(":memory:", &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, NULL) != SQLITE_OK) {
		sqlite3_free(copy);
		return err_set(err, ERR_TEMP, "4.3.0", "no memory for %.*s", STR_ARG(s->dbpath));
	}
	memcpy(copy, bytes.ptr, bytes.len);
	copy[18] = copy[19] = 1;
	sqlite3_limit(s->db, SQLITE_LIMIT_ATTACHED, 0);
	if (sqlite3_deserialize(s->db, "main", copy, (sqlite3_int64)bytes.len, (sqlite3_int64)bytes.len,
				SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_READONLY) != SQLITE_OK)
		return err_set(err, ERR_SYNTAX, "", "%.*s: %s", STR_ARG(s->dbpath), sqlite3_errmsg(s->db));
	return 0;
}

/* With a key that every part can be taken from. */
static int try_query(const struct sqlite *s, const struct opening *o, struct err *err)
{
	struct expansion x = {.key = STR("a@i.h.g.f.e.d.c.b.a"), .with = STR("a@i.h.g.f.e.d.c.b.a"), .quote = true};
	sqlite3_stmt *stmt = NULL;
	struct buf query;
	int result = 0;

	if (!valid_format(s->query) || !valid_format(s->result_format))
		return table_error(o, 1, err, "%% must be followed by one of: %% s u d S U D 1 to 9");
	buf_init(&query, TABLE_LINE_MAX);
	(void)expand(&x, s->query, &query);
	if (sqlite3_prepare_v2(s->db, query.ptr, -1, &stmt, NULL) != SQLITE_OK)
		result = table_error(o, 1, err, "query: %s", sqlite3_errmsg(s->db));
	else if (!sqlite3_stmt_readonly(stmt))
		result = table_error(o, 1, err, "query: it would change the database");
	sqlite3_finalize(stmt);
	buf_release(&query);
	return result;
}

struct table *table_open_sqlite(const struct opening *o, struct err *err)
{
	struct sqlite *s = NEW(struct sqlite);
	struct str text, bytes;

	arena_init(&s->arena);
	s->result_format = STR("%s");
	if (table_read(o, o->name, &text, err) == 0 && read_settings(s, o, text, err) == 0 &&
	    table_read(o, s->dbpath, &bytes, err) == 0 && load(s, bytes, err) == 0 && try_query(s, o, err) == 0)
		return table_new(o, &sqlite_ops, s, true);
	sqlite_free(s);
	return NULL;
}
