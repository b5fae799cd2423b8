/* See set.h. */
#include "directory/tables/set.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/vec.h"
#include "config/cf_lines.h"
#include "directory/tables/members.h"
#include <stdatomic.h>

#define FILE_DEPTH_MAX 8  /* files named in files */
#define LIST_DEPTH_MAX 16 /* lists of aliases named in lists */

struct entry {
	const char *parameter;
	unsigned roles;
	struct table *table;
	bool searched; /* for the lists that it names */
};

struct members {
	struct str elements; /* a line each; ptr NULL: could not be read */
	struct err why;
	bool nests;
};

struct table_set {
	atomic_uint refs;
	struct arena arena;
	struct map *tables; /* text in the configuration -> struct entry */
	VEC(struct entry *) entries;
	struct map *lists;   /* "/file" in a list -> struct str, its elements */
	struct map *aliases; /* files in the form of aliases(5) */
	struct map *members; /* path behind :include: -> struct members */
	bool slow_routes;    /* a table of those in routing[] is not quick */
};

/* ---- which parameters name tables ---- */

enum kind {
	MAPS,	      /* each element is a table */
	LIST,	      /* an element may be a table or a file */
	RESTRICTIONS, /* check_..._access type:name, and type:name alone */
};

#define ROLE(role)    (1u << (role))
#define SMTPD	      ROLE(PROCESS_SMTPD)
#define RELAY	      ROLE(PROCESS_RELAY)
#define RESTRICTION_P "smtpd_restrictions" /* DIR_LOOKUP's name for the tables of all lists of restrictions */

/* ROLES: what a process may ask for by DIR_LOOKUP. What directory itself looks up needs none. */
static const struct {
	const char *name;
	enum kind kind;
	unsigned roles;
} parameters[] = {
	{"alias_maps", MAPS, 0},
	{"canonical_maps", MAPS, 0},
	{"recipient_canonical_maps", MAPS, 0},
	{"relay_recipient_maps", MAPS, 0},
	{"relocated_maps", MAPS, 0},
	{"sender_canonical_maps", MAPS, 0},
	{"sender_dependent_default_transport_maps", MAPS, 0},
	{"sender_dependent_relayhost_maps", MAPS, 0},
	{"smtpd_sender_login_maps", MAPS, 0},
	{"transport_maps", MAPS, 0},
	{"virtual_alias_maps", MAPS, 0},
	{"lmtp_discard_ehlo_keyword_address_maps", MAPS, RELAY},
	{"lmtp_generic_maps", MAPS, RELAY},
	{"default_delivery_status_filter", MAPS, RELAY},
	{"lmtp_delivery_status_filter", MAPS, RELAY},
	{"lmtp_pix_workaround_maps", MAPS, RELAY},
	{"lmtp_reply_filter", MAPS, RELAY},
	{"lmtp_sasl_password_maps", MAPS, RELAY},
	{"local_delivery_status_filter", MAPS, RELAY},
	{"lmtp_tls_policy_maps", MAPS, RELAY},
	{"recipient_bcc_maps", MAPS, SMTPD},
	{"sender_bcc_maps", MAPS, SMTPD},
	{"smtp_discard_ehlo_keyword_address_maps", MAPS, RELAY},
	{"smtp_generic_maps", MAPS, RELAY},
	{"smtp_delivery_status_filter", MAPS, RELAY},
	{"smtp_pix_workaround_maps", MAPS, RELAY},
	{"smtp_reply_filter", MAPS, RELAY},
	{"smtp_sasl_password_maps", MAPS, RELAY},
	{"virtual_delivery_status_filter", MAPS, RELAY},
	{"smtp_tls_policy_maps", MAPS, RELAY},
	{"smtpd_discard_ehlo_keyword_address_maps", MAPS, SMTPD},
	{"masquerade_exceptions", LIST, 0},
	{"local_header_rewrite_clients", LIST, SMTPD},
	{"relay_domains", LIST, 0},
	{"virtual_alias_domains", LIST, 0},
	{"mydestination", LIST, 0},
	{"mynetworks", LIST, SMTPD},
	{"fast_flush_domains", LIST, SMTPD},
	{"smtpd_authorized_verp_clients", LIST, SMTPD},
	{"smtpd_client_restrictions", RESTRICTIONS, SMTPD},
	{"smtpd_helo_restrictions", RESTRICTIONS, SMTPD},
	{"smtpd_sender_restrictions", RESTRICTIONS, SMTPD},
	{"smtpd_relay_restrictions", RESTRICTIONS, SMTPD},
	{"smtpd_recipient_restrictions", RESTRICTIONS, SMTPD},
	{"smtpd_data_restrictions", RESTRICTIONS, SMTPD},
	{"smtpd_etrn_restrictions", RESTRICTIONS, SMTPD},
};

/* Which of them say where mail goes (directory/route.h). */
static const char *const routing[] = {"mydestination",
				      "relay_domains",
				      "relocated_maps",
				      "sender_dependent_default_transport_maps",
				      "sender_dependent_relayhost_maps",
				      "transport_maps",
				      "virtual_alias_domains"};

static bool is_routing(const char *parameter)
{
	for (size_t i = 0; i < ARRAY_SIZE(routing); i++)
		if (strcmp(parameter, routing[i]) == 0)
			return true;
	return false;
}

bool table_set_may_ask(enum process_role role, struct str parameter)
{
	if (str_eq(parameter, STR(RESTRICTION_P)))
		return role == PROCESS_SMTPD;
	for (size_t i = 0; i < ARRAY_SIZE(parameters); i++)
		if (str_eq(parameter, str_from(parameters[i].name)))
			return (parameters[i].roles & ROLE(role)) != 0;
	return false;
}

/* "type:name". Not "[::1]", and no restriction. */
static bool is_table(struct str item)
{
	return item.len > 0 && item.ptr[0] != '[' && item.ptr[0] != '/' && str_chr(item, ':') > 0;
}

/* ---- making one ---- */

struct table_set *table_set_new(void)
{
	struct table_set *s = NEW(struct table_set);

	atomic_init(&s->refs, 1);
	arena_init(&s->arena);
	s->tables = map_new();
	s->lists = map_new();
	s->aliases = map_new();
	s->members = map_new();
	return s;
}

struct table_set *table_set_ref(struct table_set *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void table_set_unref(struct table_set **sp)
{
	struct table_set *s = *sp;

	*sp = NULL;
	if (s == NULL || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < s->entries.n; i++)
		table_free(&s->entries.v[i]->table);
	vec_release(&s->entries);
	map_free(&s->tables);
	map_free(&s->lists);
	map_free(&s->aliases);
	map_free(&s->members);
	arena_release(&s->arena);
	free(s);
}

struct adding {
	struct table_set *set;
	const struct conf *conf;
	struct table_files *files;
	struct buf *warnings;
	const char *parameter;
	unsigned roles;
};

static int source_read(void *ctx, struct str path, struct str *contents_r, struct err *err)
{
	struct adding *a = ctx;

	return table_files_read(a->files, path, contents_r, err);
}

static bool source_is_aliases(void *ctx, struct str path)
{
	struct adding *a = ctx;

	return map_get(a->set->aliases, path) != NULL;
}

static int add_table(struct adding *a, struct str spec, struct err *err)
{
	struct entry *e = map_get(a->set->tables, spec);
	struct table_source source = {
		.read = source_read, .is_aliases = source_is_aliases, .ctx = a, .warnings = a->warnings};

	if (e) {
		e->roles |= a->roles;
		a->set->slow_routes |= is_routing(a->parameter) && !table_is_quick(e->table);
		return 0;
	}
	e = ARENA_NEW(&a->set->arena, struct entry);
	*e = (struct entry){.parameter = a->parameter, .roles = a->roles, .table = table_open(spec, &source, err)};
	if (e->table == NULL)
		return err_context(err, "%s", a->parameter);
	a->set->slow_routes |= is_routing(a->parameter) && !table_is_quick(e->table);
	vec_push(&a->set->entries, e);
	map_set(a->set->tables, spec, e);
	return 0;
}

static int add_list(struct adding *a, struct str list, unsigned depth, struct err *err);

/* The elements of a file in a list: lines, and blanks and commas in them, with comments. */
static int add_list_file(struct adding *a, struct str path, unsigned depth, struct err *err)
{
	struct str text, line, *kept;
	struct buf elements;

	if (map_get(a->set->lists, path))
		return 0;
	if (depth > FILE_DEPTH_MAX)
		return err_set(err, ERR_LIMIT, "", "%s: files name each other more than %d deep", a->parameter,
			       FILE_DEPTH_MAX);
	if (table_files_read(a->files, path, &text, err) < 0)
		return err_context(err, "%s", a->parameter);
	buf_init(&elements, (size_t)1 << 30);
	while (text.len > 0) {
		struct str rest;

		str_split(text, '\n', &line, &rest);
		text = str_skip(text, line.len + 1);
		line = str_trim(line);
		if (line.len > 0 && line.ptr[0] != '#') {
			buf_add_str(&elements, line);
			buf_addc(&elements, '\n');
		}
	}
	kept = ARENA_NEW(&a->set->arena, struct str);
	*kept = arena_str(&a->set->arena, buf_str(&elements));
	buf_release(&elements);
	map_set(a->set->lists, path, kept);
	return add_list(a, *kept, depth + 1, err);
}

static struct str without_not(struct str item, bool *negated_r)
{
	for (*negated_r = false; item.len > 0 && item.ptr[0] == '!'; item = str_skip(item, 1))
		*negated_r = !*negated_r;
	return item;
}

static int add_list(struct adding *a, struct str list, unsigned depth, struct err *err)
{
	struct str item;
	bool negated;

	while (conf_list_next(&list, &item)) {
		item = without_not(item, &negated);
		if (item.len > 0 && item.ptr[0] == '/' && add_list_file(a, item, depth, err) < 0)
			return -1;
		if (is_table(item) && add_table(a, item, err) < 0)
			return -1;
	}
	return 0;
}

static int add_maps(struct adding *a, struct str list, struct err *err)
{
	struct str item;

	while (conf_list_next(&list, &item))
		if (add_table(a, item, err) < 0)
			return -1;
	return 0;
}

/* The elements that are tables: what stands behind check_..._access, and a table alone. Policy services are none. */
static int add_restrictions(struct adding *a, struct str list, struct err *err)
{
	struct str item, skipped;

	while (conf_list_next(&list, &item)) {
		if (str_eq(item, STR("check_policy_service")))
			(void)conf_list_next(&list, &skipped);
		else if (is_table(item) && add_table(a, item, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- lists that aliases name ---- */

static void find_lists(struct adding *a, struct str elements, unsigned depth);

/* One that cannot be read is told of, and keeps no other alias from working. */
static void add_members(struct adding *a, struct str path, unsigned depth)
{
	struct members *m;
	struct str text;
	struct buf elements;

	if (map_get(a->set->members, path) || depth > LIST_DEPTH_MAX)
		return;
	m = ARENA_NEW(&a->set->arena, struct members);
	map_set(a->set->members, arena_str(&a->set->arena, path), m);
	*m = (struct members){.elements = STR_NULL};
	if (path.len == 0 || path.ptr[0] != '/') {
		err_set(&m->why, ERR_PERM, "4.3.5", "the list \"%.*s\" has no whole path", STR_ARG(path));
	} else if (table_files_read_list(a->files, path, &text, &m->nests, &m->why) == 0) {
		buf_init(&elements, 2 * text.len + 1000);
		members_of_list(text, &elements);
		m->elements = arena_str(&a->set->arena, buf_str(&elements));
		buf_release(&elements);
		if (m->nests)
			find_lists(a, m->elements, depth + 1);
		return;
	}
	if (a->warnings)
		buf_addf(a->warnings, "%s: %s\n", a->parameter, m->why.text);
}

static void find_lists(struct adding *a, struct str elements, unsigned depth)
{
	struct str member, what;

	if (str_ifind(elements, STR(MEMBERS_INCLUDE)) < 0)
		return;
	while (member_next(&elements, &member))
		if (member_kind(member, &what) == MEMBER_INCLUDE)
			add_members(a, what, depth);
}

static void find_lists_in(void *ctx, struct str key, struct str value)
{
	(void)key;
	find_lists(ctx, value, 0);
}

/* Tables that do not show what they hold (of patterns, databases) cannot be searched. */
static void search_aliases(struct adding *a)
{
	for (size_t i = 0; i < a->set->entries.n; i++) {
		struct entry *e = a->set->entries.v[i];

		if (!e->searched && strcmp(e->parameter, "alias_maps") == 0)
			(void)table_each(e->table, find_lists_in, a);
		e->searched = true;
	}
}

static int add_parameter(struct adding *a, const char *name, enum kind kind, unsigned roles, struct err *err)
{
	struct buf text;
	int result = 0;

	a->parameter = name;
	a->roles = roles;
	buf_init(&text, 1 << 20);
	if (conf_text(a->conf, str_from(name), &text))
		result = kind == MAPS	? add_maps(a, buf_str(&text), err)
			 : kind == LIST ? add_list(a, buf_str(&text), 0, err)
					: add_restrictions(a, buf_str(&text), err);
	buf_release(&text);
	return result;
}

/* Files that alias_maps or alias_database name are in the form of aliases(5), whoever else names them. */
static void note_aliases(struct adding *a, const char *parameter)
{
	struct str rest, item, type, path;
	struct buf text;

	buf_init(&text, 1 << 20);
	if (conf_text(a->conf, str_from(parameter), &text))
		for (rest = buf_str(&text); conf_list_next(&rest, &item);) {
			while (str_starts(item, STR("proxy:")))
				item = str_skip(item, 6);
			if (str_split(item, ':', &type, &path))
				map_set(a->set->aliases, path, a->set);
		}
	buf_release(&text);
}

/* smtpd_restriction_classes: each name is a list of its own. */
static int add_classes(struct adding *a, struct err *err)
{
	struct str rest, item;
	struct buf classes;
	int result = 0;

	buf_init(&classes, 1 << 20);
	if (conf_text(a->conf, STR("smtpd_restriction_classes"), &classes))
		for (rest = buf_str(&classes); result == 0 && conf_list_next(&rest, &item);)
			result = add_parameter(a, arena_strz(&a->set->arena, item), RESTRICTIONS, SMTPD, err);
	buf_release(&classes);
	return result;
}

int table_set_add(struct table_set *s, const struct conf *conf, struct table_files *files, struct buf *warnings,
		  struct err *err)
{
	struct adding a = {.set = s, .conf = conf, .files = files, .warnings = warnings};

	note_aliases(&a, "alias_maps");
	note_aliases(&a, "alias_database");
	for (size_t i = 0; i < ARRAY_SIZE(parameters); i++)
		if (add_parameter(&a, parameters[i].name, parameters[i].kind, parameters[i].roles, err) < 0)
			return -1;
	a.parameter = "alias_maps";
	search_aliases(&a);
	return add_classes(&a, err);
}

bool table_set_next(const struct table_set *s, size_t *at, const char **parameter_r, const struct table **table_r)
{
	if (*at >= s->entries.n)
		return false;
	*parameter_r = s->entries.v[*at]->parameter;
	*table_r = s->entries.v[(*at)++]->table;
	return true;
}

bool table_set_routes_quickly(const struct table_set *s)
{
	return !s->slow_routes;
}

bool table_set_may_read(const struct table_set *s, struct str list, enum process_role role)
{
	struct str item;
	bool negated;

	while (conf_list_next(&list, &item)) {
		const struct entry *e;

		item = without_not(item, &negated);
		e = is_table(item) ? map_get(s->tables, item) : NULL;
		if (is_table(item) && (e == NULL || !(e->roles & ROLE(role))))
			return false;
	}
	return true;
}

/* ---- looking up ---- */

static const struct table *table_of(const struct table_set *s, struct str spec, struct err *err)
{
	const struct entry *e = map_get(s->tables, spec);

	if (e == NULL)
		err_set(err, ERR_TEMP, "4.3.0", "the table %.*s is not open", STR_ARG(str_sub(spec, 0, 80)));
	return e ? e->table : NULL;
}

int table_set_members(const struct table_set *s, struct str path, struct str *members_r, bool *nests_r, struct err *err)
{
	const struct members *m = map_get(s->members, path);

	if (m == NULL)
		return err_set(err, ERR_TEMP, "4.3.5",
			       "the list %.*s was not read: its alias comes from a table that cannot be searched",
			       STR_ARG(str_sub(path, 0, 200)));
	if (m->elements.ptr == NULL)
		return err_set(err, ERR_TEMP, "4.3.5", "%s", m->why.text);
	*members_r = m->elements;
	*nests_r = m->nests;
	return 0;
}

int maps_find(const struct table_set *s, struct str list, struct str key, bool part, struct arena *arena,
	      struct str *value_r, struct err *err)
{
	struct str item;

	while (conf_list_next(&list, &item)) {
		const struct table *t = table_of(s, item, err);
		int rc;

		if (t == NULL)
			return -1;
		if (part && !table_takes_parts(t))
			continue;
		rc = table_find(t, key, arena, value_r, err);
		if (rc > 0 && value_r->len == 0)
			return err_set(err, ERR_TEMP, "4.3.0", "%.*s gives an empty result for %.*s",
				       STR_ARG(str_sub(item, 0, 80)), STR_ARG(str_sub(key, 0, 80)));
		if (rc != 0)
			return rc;
	}
	return 0;
}

bool maps_name_addresses(const struct table_set *s, struct str list)
{
	struct str item;

	while (conf_list_next(&list, &item)) {
		const struct table *t = table_of(s, item, NULL);

		if (t == NULL || table_names_addresses(t))
			return true;
	}
	return false;
}

/* ---- lists ---- */

struct matching {
	const struct table_set *set;
	struct str name; /* or NULL with address */
	const struct net_addr *address;
	unsigned flags;
	struct arena *arena;
	struct err *err;
};

static bool name_matches(const struct matching *m, struct str pattern)
{
	struct str tail;

	if (str_ieq(m->name, pattern))
		return true;
	if (pattern.len == 0 || m->name.len <= pattern.len)
		return false;
	tail = str_skip(m->name, m->name.len - pattern.len);
	if (m->flags & LIST_PARENTS)
		return m->name.ptr[m->name.len - pattern.len - 1] == '.' && str_ieq(tail, pattern);
	return (m->flags & LIST_DOMAINS) && pattern.ptr[0] == '.' && str_ieq(tail, pattern);
}

/* The name itself, and what is above it: example.com with LIST_PARENTS, else .example.com. */
static int table_matches(const struct matching *m, const struct table *t)
{
	struct str key = m->name, value;
	int rc = table_find(t, key, m->arena, &value, m->err);

	while (rc == 0 && (m->flags & (LIST_DOMAINS | LIST_PARENTS)) && table_takes_parts(t)) {
		ptrdiff_t dot = str_chr(str_skip(key, 1), '.');

		if (key.len == 0 || dot < 0)
			break;
		key = str_skip(key, (size_t)dot + 1 + ((m->flags & LIST_PARENTS) != 0));
		rc = key.len ? table_find(t, key, m->arena, &value, m->err) : 0;
	}
	return rc;
}

static bool address_matches(const struct matching *m, struct str pattern)
{
	struct net_cidr net;

	return net_cidr_parse(pattern, &net, NULL) == 0 && net_cidr_match(&net, m->address);
}

static int matches(const struct matching *m, struct str list, unsigned depth);

static int element_matches(const struct matching *m, struct str item, unsigned depth)
{
	const struct table *t;
	const struct str *file;

	if (item.ptr[0] == '/') {
		file = map_get(m->set->lists, item);
		if (file == NULL || depth > FILE_DEPTH_MAX)
			return err_set(m->err, ERR_TEMP, "4.3.0", "the list %.*s was not read", STR_ARG(item));
		return matches(m, *file, depth + 1);
	}
	if (is_table(item)) {
		t = table_of(m->set, item, m->err);
		return t ? table_matches(m, t) : -1;
	}
	return m->address ? address_matches(m, item) : name_matches(m, item);
}

/* The first element that matches decides, a "!" in front of it says no. */
static int matches(const struct matching *m, struct str list, unsigned depth)
{
	struct str item;
	bool negated;

	while (conf_list_next(&list, &item)) {
		int rc;

		item = without_not(item, &negated);
		rc = item.len ? element_matches(m, item, depth) : 0;
		if (rc != 0)
			return rc < 0 ? -1 : !negated;
	}
	return 0;
}

int list_match(const struct table_set *s, struct str list, struct str name, unsigned flags, struct arena *arena,
	       struct err *err)
{
	struct matching m = {.set = s, .name = name, .flags = flags, .arena = arena, .err = err};

	return matches(&m, list, 0);
}

int list_match_address(const struct table_set *s, struct str list, const struct net_addr *a, struct arena *arena,
		       struct err *err)
{
	struct matching m = {.set = s, .address = a, .arena = arena, .err = err};
	char text[NET_ADDR_TEXT];

	m.name = str_from(net_addr_text(a, text));
	return matches(&m, list, 0);
}

unsigned list_parent_style(const struct conf *conf, struct str parameter)
{
	return conf_list_ihas(conf->parent_domain_matches_subdomains, parameter) ? LIST_PARENTS : 0;
}
