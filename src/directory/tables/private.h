/* What the table types share. A type is a function that makes a struct table from the name behind "type:". */
#ifndef DIRECTORY_TABLES_PRIVATE_H
#define DIRECTORY_TABLES_PRIVATE_H

#include "base/mem.h"
#include "base/vec.h"
#include "directory/tables/table.h"

struct table_ops {
	int (*find)(const struct table *t, struct str key, struct arena *arena, struct str *value_r, struct err *err);
	bool (*each)(const struct table *t, void (*f)(void *ctx, struct str key, struct str value), void *ctx);
	size_t (*bytes)(const struct table *t);
	void (*free)(void *data);
};

struct table {
	const struct table_ops *ops;
	void *data;
	char *name;
	bool parts;	/* table_takes_parts() */
	bool quick;	/* table_is_quick() */
	bool addresses; /* table_names_addresses() */
	bool fold;	/* keys are folded to lower case, here and in the file */
};

/* What a type is given to open a table. */
struct opening {
	struct str type, name; /* "hash", "/etc/postfix/transport" */
	struct str spec;
	const struct table_source *source;
	unsigned depth; /* tables inside of tables */
};

#define TABLE_DEPTH_MAX 8

typedef struct table *table_open_fn(const struct opening *o, struct err *err);
table_open_fn table_open_text, table_open_inline, table_open_static, table_open_fail, table_open_regexp,
	table_open_pcre, table_open_cidr, table_open_union, table_open_pipe, table_open_random, table_open_unix,
	table_open_sqlite;

struct table *table_new(const struct opening *o, const struct table_ops *ops, void *data, bool parts);
struct table *table_open_nested(const struct opening *outer, struct str spec, struct err *err);
void table_warn(const struct opening *o, unsigned line, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* err: "FILE, line N: ...". Returns -1. */
int table_error(const struct opening *o, unsigned line, struct err *err, const char *fmt, ...) PRINTF_LIKE(4, 5);
int table_read(const struct opening *o, struct str path, struct str *contents_r, struct err *err);
struct str table_fold(struct arena *arena, struct str key);

/* ---- logical lines of a table file, as Postfix's readllines() ---- */
#define TABLE_LINE_MAX ((size_t)1 << 20)
struct table_lines {
	const struct opening *o;
	struct str rest;
	unsigned line; /* of the next physical line, from 1 */
};
void table_lines_init(struct table_lines *l, const struct opening *o, struct str text);
/* 1 with the line, trimmed at its end, and the number of its first physical line; 0 at the end; -1 with err. */
int table_lines_next(struct table_lines *l, struct buf *line, unsigned *number_r, struct err *err);

/* ---- "{ item, { item } }" ---- */
/* The inside of "{...}", trimmed. False: it does not begin and end with matching braces. */
bool table_braces(struct str s, struct str *inner_r);
/* What a table of rules is made of: the file of that name, or inline "{ {rule}, {rule} }", a line each. text_r lives in
 * the arena or in the source. */
int table_rules_text(const struct opening *o, struct arena *arena, struct str *text_r, struct err *err);

#endif
