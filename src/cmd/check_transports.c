/* See check_transports.h. */
#include "cmd/check_transports.h"
#include "base/mem.h"
#include "config/instance.h"
#include "config/names.h"
#include "directory/tables/table.h"
#include "os/fd.h"
#include "relay/mx.h"
#include "relay/tls_policy.h"
#include "relay/transport.h"
#include <fcntl.h>
#include <unistd.h>

#define TABLE_MAX ((size_t)64 << 20)

struct looking {
	const char *dir;
	const struct transports *transports;
	void (*tell)(void *ctx, const char *text);
	void *ctx;
	const char *where;					 /* "main.cf, line 3: transport_maps" */
	void (*look)(const struct looking *l, struct str value); /* at a value of a table */
	struct conf *conf;
};

static void tell(const struct looking *l, const char *fault, const char *so)
{
	char *text = mem_printf("%s: %s: %s", l->where, fault, so);

	l->tell(l->ctx, text);
	free(text);
}

/* "host", "[host]:port", and lists of them. */
static void look_at_nexthops(const struct looking *l, struct str list, bool lmtp)
{
	struct nexthop n;
	struct str item;

	while (str_token(&list, ", \t\r\n", &item)) {
		struct err err = ERR_NONE;

		/* "[$1]": what a pattern makes of it is seen then. */
		if (str_chr(item, '$') < 0 && nexthop_parse(item, 25, lmtp, &n, &err) < 0)
			tell(l, err.text, "mail for it waits");
	}
}

static void look_at_relayhosts(const struct looking *l, struct str value)
{
	if (!str_ieq(str_trim(value), STR("DUNNO")))
		look_at_nexthops(l, value, false);
}

/* A value as in transport(5): "transport:nexthop", "transport", ":nexthop". */
static void look_at(const struct looking *l, struct str value)
{
	struct str name, rest;
	char *text;

	str_split(str_trim(value), ':', &name, &rest);
	if (str_ieq(name, STR("DUNNO")))
		return;
	switch (name.len > 0 ? transport_kind(l->transports, name) : TRANSPORT_LMTP) {
	case TRANSPORT_SMTP:
		look_at_nexthops(l, rest, false);
		return;
	case TRANSPORT_LMTP:
		look_at_nexthops(l, rest, true);
		return;
	default:
		return;
	case TRANSPORT_UNKNOWN:
		break;
	}
	text = mem_printf("%s: nobody serves the transport \"%.*s\", which %s/%s does not have: mail for it waits",
			  l->where, STR_ARG(str_sub(name, 0, 60)), l->dir, INSTANCE_MASTER_CF);
	l->tell(l->ctx, text);
	free(text);
}

/* A value of smtp_tls_policy_maps. */
static void look_at_policy(const struct looking *l, struct str value)
{
	struct smtpc_tls_policy policy;
	struct err err = ERR_NONE;
	struct arena arena;

	arena_init(&arena);
	if (tls_policy_parse(l->conf, value, &arena, &policy, &err) < 0)
		tell(l, err.text, "mail for it waits");
	arena_release(&arena);
}

/* Of smtp_sasl_password_maps; what it is stays unsaid. */
static void look_at_password(const struct looking *l, struct str value)
{
	if (str_chr(value, ':') < 0)
		tell(l, "an entry is not user:password", "its password is empty");
}

/* ---- tables ---- */

/* A line of a table: what stands behind the key, which may be a pattern. */
static struct str value_of(struct str line, bool patterns)
{
	struct str rest = line, key;

	if (!str_token(&rest, " \t", &key))
		return STR("");
	/* A pattern with blanks in it is not taken apart here: what follows then has no colon, or no name in front. */
	rest = str_trim(rest);
	if (patterns)
		for (ptrdiff_t i = 0, end = str_chr(rest, ':'); i < end || end < 0; i++)
			if (end < 0 || (!ascii_alnum(rest.ptr[i]) && !char_is_one_of(rest.ptr[i], "-_.")))
				return STR("");
	return rest;
}

static void look_through(struct looking *l, const char *path, struct str text, bool patterns)
{
	struct str line;
	bool more = true;

	for (unsigned number = 1; more; number++) {
		char *where;

		more = str_split(text, '\n', &line, &text);
		if (line.len == 0 || char_is_one_of(line.ptr[0], "# \t\r"))
			continue;
		where = mem_printf("%s, line %u", path, number);
		l->where = where;
		line = value_of(line, patterns);
		if (line.len > 0) /* else it is in the next line, or not there */
			l->look(l, line);
		free(where);
	}
}

/* That it cannot be read is said by who needs it. */
static void look_at_file(struct looking *l, struct str name, bool patterns)
{
	char *path = name.ptr[0] == '/' ? str_dup(name) : mem_printf("%s/%.*s", l->dir, STR_ARG(name)), *data = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t len = fd < 0 ? -1 : fd_read_all(fd, TABLE_MAX, &data, NULL);

	if (len >= 0)
		look_through(l, path, str_of(data, (size_t)len), patterns);
	free(data);
	free(path);
	if (fd >= 0)
		close(fd);
}

static void look_at_entry(void *ctx, struct str key, struct str value)
{
	const struct looking *l = ctx;

	(void)key;
	l->look(l, value);
}

static void look_at_inline(struct looking *l, struct str spec)
{
	struct table_source none = {0};
	struct table *t = table_open(spec, &none, NULL);

	if (t != NULL)
		(void)table_each(t, look_at_entry, l);
	table_free(&t);
}

static bool is_one_of(struct str type, const char *const *types)
{
	for (; *types != NULL; types++)
		if (str_ieq(type, str_from(*types)))
			return true;
	return false;
}

static void look_at_table(struct looking *l, struct str spec)
{
	static const char *const text[] = {"hash", "texthash", "btree", "lmdb", "cdb", "dbm", "sdbm", NULL};
	static const char *const patterns[] = {"pcre", "regexp", NULL};
	const char *where = l->where;
	struct str type, name;

	if (str_istarts(spec, STR("proxy:")))
		spec = str_skip(spec, 6);
	if (!str_split(spec, ':', &type, &name) || name.len == 0)
		return;
	if (is_one_of(type, text) || (is_one_of(type, patterns) && l->look == look_at))
		look_at_file(l, name, is_one_of(type, patterns));
	else if (str_ieq(type, STR("inline")))
		look_at_inline(l, spec);
	l->where = where;
}

/* ---- parameters ---- */

enum kind { A_TRANSPORT, TABLES, NEXTHOPS };
static const struct {
	const char *name;
	enum kind kind;
	void (*look)(const struct looking *l, struct str value);
} parameters[] = {
	{"default_transport", A_TRANSPORT, look_at},
	{"local_transport", A_TRANSPORT, look_at},
	{"relay_transport", A_TRANSPORT, look_at},
	{"sender_dependent_default_transport_maps", TABLES, look_at},
	{"sender_dependent_relayhost_maps", TABLES, look_at_relayhosts},
	{"smtp_sasl_password_maps", TABLES, look_at_password},
	{"smtp_tls_policy_maps", TABLES, look_at_policy},
	{"transport_maps", TABLES, look_at},
	{"virtual_transport", A_TRANSPORT, look_at},
	{"relayhost", NEXTHOPS, look_at_relayhosts},
	{"smtp_fallback_relay", NEXTHOPS, look_at_relayhosts},
};

struct walk {
	struct looking looking;
};

/* The defaults name what is there. */
static void on_name(void *ctx, const struct conf_name *name)
{
	struct walk *w = ctx;
	struct buf value;
	struct str list, item;
	char *where;

	for (size_t i = 0; i < ARRAY_SIZE(parameters); i++) {
		if (!str_eq(name->name, str_from(parameters[i].name)))
			continue;
		buf_init(&value, 1 << 20);
		(void)conf_text(w->looking.conf, name->name, &value);
		where = mem_printf("%s/%s, line %u: %s", w->looking.dir, INSTANCE_MAIN_CF, name->line,
				   parameters[i].name);
		w->looking.where = where;
		w->looking.look = parameters[i].look;
		list = buf_str(&value);
		if (parameters[i].kind == A_TRANSPORT && (list.len == 0 || list.ptr[0] == ':'))
			tell(&w->looking, "it names no transport", "mail for it waits");
		else if (parameters[i].kind != TABLES)
			parameters[i].look(&w->looking, list);
		while (parameters[i].kind == TABLES && conf_list_next(&list, &item))
			look_at_table(&w->looking, item);
		free(where);
		buf_release(&value);
	}
}

void check_transports(const char *dir, struct conf *conf, const struct master_cf *cf,
		      void (*tell_it)(void *ctx, const char *text), void *ctx)
{
	struct transports *ts = transports_new(cf, conf, NULL);
	struct walk w = {.looking = {.dir = dir, .transports = ts, .tell = tell_it, .ctx = ctx, .conf = conf}};

	if (ts != NULL)
		conf_each_name(conf, NULL, 0, on_name, &w);
	transports_unref(&ts);
}
