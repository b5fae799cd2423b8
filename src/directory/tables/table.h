/* directory/tables/table - one look-up table, "type:name" as in Postfix's main.cf (DATABASE_README): a key in, a
 * value out.
 *
 * A table is made whole from bytes that somebody else has read, and never changes: a changed file is a new table.
 * It is for any number of threads at once. No table opens, asks or remembers anything at look-up.
 *
 * Types: hash btree lmdb cdb dbm sdbm (all read the text that postmap(1) would compile: no database is needed),
 * texthash, regexp (regexp_table(5)), pcre (pcre_table(5)), cidr (cidr_table(5)), inline, static, fail, unionmap,
 * pipemap, randmap, sqlite (sqlite_table(5), a copy of the database as it was when the table was opened), unix
 * (passwd.byname and group.byname, from the files, not from NSS), and proxy: in front of any of them, which changes
 * nothing.
 *
 * What Postfix warns of and skips, is warned of and skipped: a line without a value, a key that comes twice (the first
 * one counts). What would leave a hole in a rule set is an error with file and line: an expression that does not
 * compile, a network that is none, an `if` without `endif`. */
#ifndef DIRECTORY_TABLES_TABLE_H
#define DIRECTORY_TABLES_TABLE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

struct table;

/* Where the bytes come from. */
struct table_source {
	/* The whole of a file; *contents_r stays valid until table_open() has returned. -1 with err (ERR_NOT_FOUND or
	 * ERR_TEMP), whose text names the path. */
	int (*read)(void *ctx, struct str path, struct str *contents_r, struct err *err);
	/* The file is in the form of aliases(5), "name: value" (postalias(1)). NULL: none is. */
	bool (*is_aliases)(void *ctx, struct str path);
	void *ctx;
	struct buf *warnings; /* a line each; or NULL */
	bool case_kept;	      /* postmap -f: keys are not folded to lower case */
};

/* Opens "type:name". NULL with err: a sentence that names file and line. */
struct table *table_open(struct str spec, const struct table_source *source, struct err *err);
void table_free(struct table **t);

/* Looks one key up. 1 with *value_r (in the arena, or as long as the table), 0: not there, -1 with ERR_TEMP: nobody
 * knows now, which is never "not there". */
int table_find(const struct table *t, struct str key, struct arena *arena, struct str *value_r,
	       struct err *err) WARN_UNUSED;
/* Keys are compared as a whole: so parts of an address may be looked up in it. Tables of patterns (regexp, pcre, cidr)
 * are asked for whole addresses only. */
bool table_takes_parts(const struct table *t);
/* A look-up compares keys, and does nothing that could take long: no rules are walked, no query is made. */
bool table_is_quick(const struct table *t);
/* Some key is an address with its domain, or none can tell: two addresses of a domain may get different answers. */
bool table_names_addresses(const struct table *t);
struct str table_name(const struct table *t); /* as opened */
/* Visits every entry of a table that has a list of them (postmap -s). False: this type has none. */
bool table_each(const struct table *t, void (*f)(void *ctx, struct str key, struct str value), void *ctx);
size_t table_bytes(const struct table *t); /* of memory, about; 0: not told */

#endif
