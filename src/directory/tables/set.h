/* directory/tables/set - all tables that the configuration names, open, and looking things up in lists of them.
 *
 * Made whole at each reload (and when a file has changed), then read-only: any number of threads. A parameter's value
 * is given as text, as it stands in the configuration: each table in it is found by its text. Which processes may ask
 * for a table is decided by the parameters that name it: see ROLES in set.c.
 *
 * Results: 1 found (or matched), 0 not, -1 with ERR_TEMP: a table failed, and nobody knows. An empty value is an error,
 * as in Postfix: what is not there shall not be listed. */
#ifndef DIRECTORY_TABLES_SET_H
#define DIRECTORY_TABLES_SET_H

#include "config/conf.h"
#include "config/roles.h"
#include "directory/tables/files.h"

struct table_set;

struct table_set *table_set_new(void);
struct table_set *table_set_ref(struct table_set *s);
void table_set_unref(struct table_set **s);

/* Opens every table that the parameters of conf name and that is not open yet. The files come from `files`. warnings:
 * a line each, or NULL. -1 with err: parameter, file and line. */
int table_set_add(struct table_set *s, const struct conf *conf, struct table_files *files, struct buf *warnings,
		  struct err *err) WARN_UNUSED;
/* Walks the tables: `for (size_t at = 0; table_set_next(s, &at, &parameter, &table);)`; parameter: the first one that
 * names it. */
bool table_set_next(const struct table_set *s, size_t *at, const char **parameter_r, const struct table **table_r);

/* May the process of that role look things up in the parameter of that name? */
bool table_set_may_ask(enum process_role role, struct str parameter);
/* Is every table in the list open, and open to that role? Elements that are no tables are nobody's secret. */
bool table_set_may_read(const struct table_set *s, struct str list, enum process_role role);

/* Where mail goes is told by tables that are quick (table_is_quick()). */
bool table_set_routes_quickly(const struct table_set *s);

/* ---- looking up: `list` is "type:name, type:name" ---- */
/* part: the key is a part of what is looked for; tables of patterns are left out. */
int maps_find(const struct table_set *s, struct str list, struct str key, bool part, struct arena *arena,
	      struct str *value_r, struct err *err) WARN_UNUSED;

/* Does one of them name single addresses (table_names_addresses())? */
bool maps_name_addresses(const struct table_set *s, struct str list);

/* What a list has that an alias of alias_maps names (:include:/path), as member_next() walks it. *nests_r: the lists
 * that it names count, too. -1 with ERR_TEMP: it could not be read. */
int table_set_members(const struct table_set *s, struct str path, struct str *members_r, bool *nests_r,
		      struct err *err) WARN_UNUSED;

/* ---- lists of names: "example.com, .example.org, !bad.example.com, /file, type:name" (postconf(5)) ---- */
enum {
	LIST_PARENTS = 1, /* domain_list: "example.com" holds for www.example.com, too */
	LIST_DOMAINS = 2, /* domain_list: ".example.com" holds for all below it; tables are asked for parents */
};
int list_match(const struct table_set *s, struct str list, struct str name, unsigned flags, struct arena *arena,
	       struct err *err) WARN_UNUSED;
/* Is the parameter among parent_domain_matches_subdomains? LIST_PARENTS, or 0. */
unsigned list_parent_style(const struct conf *conf, struct str parameter);
/* A client's address in a list like mynetworks. */
int list_match_address(const struct table_set *s, struct str list, const struct net_addr *a, struct arena *arena,
		       struct err *err) WARN_UNUSED;

#endif
