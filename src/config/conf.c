/* struct conf: built whole from settings and the table, then never changed.
 *
 * A service of master.cf with -o settings gets a conf of its own, built again from all settings, because a
 * changed parameter changes every value that mentions it. */
#include "config/conf.h"
#include "base/mem.h"
#include "base/vec.h"
#include "config/cf_lines.h"
#include "config/expand.h"
#include "config/params.h"
#include "config/private.h"
#include "os/fd.h"
#include <fcntl.h>
#include <unistd.h>

#define VALUE_MAX    1048576
#define ORIGIN_MAX   4096
#define NETWORKS_MAX 10000

/* ---- settings ---- */

struct numbered {
	struct setting s;
	size_t at;
};

static int by_name_then_order(const void *a, const void *b)
{
	const struct numbered *x = a, *y = b;
	int order = str_cmp(x->s.name, y->s.name);

	return order != 0 ? order : x->at < y->at ? -1 : 1;
}

/* Sorted copies in the conf's arena; of several settings of a name the last one. */
static void keep_settings(struct conf_private *p, const struct setting *settings, size_t count)
{
	struct numbered *all = mem_alloc((count + 1) * sizeof(*all));

	for (size_t i = 0; i < count; i++)
		all[i] = (struct numbered){settings[i], i};
	qsort(all, count, sizeof(*all), by_name_then_order);
	p->settings = ARENA_ARRAY(&p->arena, struct setting, count + 1);
	for (size_t i = 0; i < count; i++) {
		if (i + 1 < count && str_eq(all[i].s.name, all[i + 1].s.name)) {
			if (all[i + 1].s.earlier == 0)
				all[i + 1].s.earlier = all[i].s.line;
			continue;
		}
		p->settings[p->count++] = (struct setting){.name = arena_str(&p->arena, all[i].s.name),
							   .raw = arena_str(&p->arena, all[i].s.raw),
							   .line = all[i].s.line,
							   .earlier = all[i].s.earlier};
	}
	free(all);
}

static int compare_name(const void *key, const void *item)
{
	return str_cmp(*(const struct str *)key, ((const struct setting *)item)->name);
}

const struct setting *conf_setting(const struct conf *c, struct str name)
{
	return bsearch(&name, c->p->settings, c->p->count, sizeof(struct setting), compare_name);
}

/* ---- values ---- */

/* config_directory, where no main.cf says otherwise. */
bool conf_is_directory(const struct conf *c, struct str name, struct str *directory_r)
{
	const struct setting *set;

	if (!str_eq(name, STR("config_directory")))
		return false;
	set = conf_setting(c, name);
	*directory_r = set != NULL && set->raw.len > 0 ? set->raw : c->p->directory;
	return true;
}

static struct str directory_of(struct str path)
{
	ptrdiff_t slash = str_rchr(path, '/');

	return slash > 0 ? str_sub(path, 0, (size_t)slash) : STR("");
}

static bool lookup(const void *ctx, struct str name, struct expand_value *value_r)
{
	const struct conf *c = ctx;
	const struct setting *set = conf_setting(c, name);
	const struct param *p;

	*value_r = (struct expand_value){.raw = STR("")};
	if (conf_is_directory(c, name, &value_r->raw))
		return true;
	if (str_eq(name, STR("mydomain")) && (set == NULL || set->raw.len == 0)) {
		*value_r = (struct expand_value){.raw = STR("$myhostname"), .domain_of = true};
		return true;
	}
	if (set != NULL) {
		value_r->raw = set->raw;
		return true;
	}
	p = param_find(name);
	if (p != NULL)
		value_r->raw = param_default(p);
	return p != NULL;
}

static int expand(const struct conf *c, struct str name, struct buf *out, struct err *err)
{
	struct expander e = {.lookup = lookup, .ctx = c, .err = err};

	return expand_name(&e, name, out);
}

/* Says where the value of a name comes from. */
static int where(const struct conf *c, struct str name, struct err *err)
{
	const struct setting *set = conf_setting(c, name);

	if (set == NULL)
		return err_context(err, "%.*s (default)", STR_ARG(name));
	if (set->line == 0)
		return err_context(err, "-o %.*s", STR_ARG(name));
	return err_context(err, "%s, line %u: %.*s", c->p->file_name, set->line, STR_ARG(name));
}

static void store(struct conf *c, const struct param *p, struct str text, int64_t value)
{
	void *field = (char *)c + p->offset;

	switch (p->type) {
	case PARAM_TYPE_STR:
		*(struct str *)field = text.len > 0 ? arena_str(&c->p->arena, text) : STR("");
		break;
	case PARAM_TYPE_BOOL:
		*(bool *)field = value != 0;
		break;
	case PARAM_TYPE_ENUM:
		*(int *)field = (int)value;
		break;
	case PARAM_TYPE_INT:
	case PARAM_TYPE_SIZE:
	case PARAM_TYPE_TIME:
		*(int64_t *)field = value;
		break;
	}
}

static int fill_param(struct conf *c, const struct param *p, struct buf *text, struct err *err)
{
	struct str name = str_from(p->name), value;
	struct buf why;
	int64_t number = 0;
	int result = 0;

	buf_clear(text);
	if (expand(c, name, text, err) < 0)
		return where(c, name, err);
	value = str_trim(buf_str(text));
	buf_init(&why, 200);
	if (param_value(p, value, &number, &why)) {
		store(c, p, value, number);
	} else {
		err_set(err, ERR_SYNTAX, "", "%s", why.ptr);
		result = where(c, name, err);
	}
	buf_release(&why);
	return result;
}

static int fill_params(struct conf *c, struct err *err)
{
	struct buf text;
	int result = 0;

	buf_init(&text, VALUE_MAX);
	for (size_t i = 0; i < PARAM_COUNT && result == 0; i++)
		result = fill_param(c, &PARAMS[i], &text, err);
	buf_release(&text);
	return result;
}

/* Names nobody asks for yet must expand too: a loop is an error wherever it stands. */
static int check_settings(const struct conf *c, struct err *err)
{
	struct buf text;
	int result = 0;

	buf_init(&text, VALUE_MAX);
	for (size_t i = 0; i < c->p->count && result == 0; i++) {
		buf_clear(&text);
		if (param_find(c->p->settings[i].name) == NULL && !param_is_late(c->p->settings[i].name) &&
		    expand(c, c->p->settings[i].name, &text, err) < 0)
			result = where(c, c->p->settings[i].name, err);
	}
	buf_release(&text);
	return result;
}

/* ---- derived ---- */

/* It looks like a table, "2001:db8::/32". */
static bool is_bare_ipv6(struct str item)
{
	struct net_cidr net;

	return item.len > 0 && item.ptr[0] != '[' && str_chr(item, ':') >= 0 && net_cidr_parse(item, &net, NULL) == 0;
}

static int fill_mynetworks(struct conf *c, struct err *err)
{
	VEC(struct net_cidr) nets = {0};
	struct str rest = c->mynetworks, item;

	while (conf_list_next(&rest, &item)) {
		struct net_cidr net;

		struct str plain = item;

		while (plain.len > 0 && plain.ptr[0] == '!')
			plain = str_skip(plain, 1);
		if (is_bare_ipv6(plain)) {
			err_set(err, ERR_SYNTAX, "", "\"%.*s\": IPv6 addresses stand in brackets, [2001:db8::]/32",
				STR_ARG(item));
			return where(c, STR("mynetworks"), err);
		}
		if (plain.len > 0 && (plain.ptr[0] == '/' || (plain.ptr[0] != '[' && str_chr(plain, ':') > 0))) {
			c->mynetworks_tables = true;
			continue;
		}
		if (nets.n == NETWORKS_MAX)
			err_set(err, ERR_LIMIT, "", "more than %d networks", NETWORKS_MAX);
		else if (net_cidr_parse(item, &net, err) == 0) {
			vec_push_arena(&c->p->arena, &nets, net);
			continue;
		}
		return where(c, STR("mynetworks"), err);
	}
	c->mynetworks_list = nets.v;
	c->mynetworks_count = nets.n;
	return 0;
}

struct conf *conf_build(const struct setting *settings, size_t count, const char *file_name, struct err *err)
{
	struct conf *c = NEW(struct conf);

	c->p = NEW(struct conf_private);
	atomic_init(&c->p->refs, 1);
	arena_init(&c->p->arena);
	c->p->file_name = arena_strz(&c->p->arena, str_from(file_name));
	c->p->directory = directory_of(str_from(c->p->file_name));
	keep_settings(c->p, settings, count);
	if (fill_params(c, err) < 0 || check_settings(c, err) < 0 || fill_mynetworks(c, err) < 0)
		conf_unref(&c);
	return c;
}

struct conf *conf_override(const struct conf *base, const struct str *settings, size_t count, struct err *err)
{
	struct setting *all = mem_alloc((base->p->count + count + 1) * sizeof(*all));
	struct conf *c = NULL;
	size_t n = 0;

	for (; n < base->p->count; n++)
		all[n] = base->p->settings[n];
	for (size_t i = 0; i < count; i++, n++)
		if (main_cf_split(settings[i], &all[n]) < 0) {
			err_set(err, ERR_SYNTAX, "", "-o %.*s: not name=value", STR_ARG(str_sub(settings[i], 0, 60)));
			break;
		}
	if (n == base->p->count + count)
		c = conf_build(all, n, base->p->file_name, err);
	free(all);
	return c;
}

/* ---- life ---- */

struct conf *conf_ref(struct conf *c)
{
	atomic_fetch_add_explicit(&c->p->refs, 1, memory_order_relaxed);
	return c;
}

void conf_unref(struct conf **c)
{
	struct conf *conf = *c;

	*c = NULL;
	if (conf == NULL || atomic_fetch_sub_explicit(&conf->p->refs, 1, memory_order_acq_rel) != 1)
		return;
	arena_release(&conf->p->arena);
	free(conf->p);
	free(conf);
}

/* ---- reading ---- */

bool conf_text(const struct conf *c, struct str name, struct buf *out)
{
	struct expand_value value;

	if (!lookup(c, name, &value))
		return false;
	return expand(c, name, out, NULL) == 0;
}

bool conf_is_set(const struct conf *c, struct str name)
{
	return conf_setting(c, name) != NULL;
}

uint64_t conf_stays_free(const struct conf *c)
{
	return (uint64_t)(c->queue_minfree > c->message_size_limit ? c->queue_minfree : c->message_size_limit);
}

bool conf_list_next(struct str *rest, struct str *item_r)
{
	/* An unclosed brace takes the rest: who uses the item finds it malformed. */
	return cf_word(rest, true, item_r) != 0 && item_r->len > 0;
}

bool conf_list_has(struct str list, struct str word)
{
	struct str item;

	while (conf_list_next(&list, &item))
		if (str_eq(item, word))
			return true;
	return false;
}

bool conf_list_ihas(struct str list, struct str word)
{
	struct str item;

	while (conf_list_next(&list, &item))
		if (str_ieq(item, word))
			return true;
	return false;
}

/* The first pattern that matches decides; "!pattern" says no (postconf(5), mynetworks). */
bool conf_in_mynetworks(const struct conf *c, const struct net_addr *a)
{
	for (size_t i = 0; i < c->mynetworks_count; i++) {
		struct net_cidr net = c->mynetworks_list[i];
		bool negate = net.negate;

		net.negate = false;
		if (net_cidr_match(&net, a))
			return !negate;
	}
	return false;
}

bool conf_in_networks(struct str list, const struct net_addr *a)
{
	struct net_cidr net;
	struct str item;

	while (conf_list_next(&list, &item))
		if (net_cidr_parse(item, &net, NULL) == 0 && net_cidr_match(&net, a))
			return !net.negate;
	return false;
}

void conf_add_hostname(struct buf *main_cf)
{
	struct err err;
	struct conf *c = conf_parse(buf_str(main_cf), "main.cf", NULL, &err);
	char host[256] = "";

	if (c == NULL || conf_is_set(c, STR("myhostname")) || gethostname(host, sizeof(host) - 1) < 0 ||
	    host[0] == '\0') {
		conf_unref(&c);
		return;
	}
	/* As Postfix: a name without a domain gets one that cannot be real. */
	buf_addf(main_cf, "\nmyhostname = %s%s\n", host, strchr(host, '.') != NULL ? "" : ".localdomain");
	conf_unref(&c);
}

static int read_origin(struct str path, struct buf *main_cf, struct err *err)
{
	char name[4096], *text = NULL;
	struct str line, rest;
	int fd, rc = -1;

	snprintf(name, sizeof(name), "%.*s", STR_ARG(path));
	if ((fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY)) < 0)
		return err_errno(err, "myorigin: cannot open %s", name);
	if (fd_read_all(fd, ORIGIN_MAX, &text, err) < 0) {
		err_context(err, "myorigin: %s", name);
	} else {
		(void)str_split(str_from(text), '\n', &line, &rest);
		line = str_trim(line);
		if (line.len == 0 || line.len > 255 || str_has_control(line) || str_chr(line, ' ') >= 0)
			err_set(err, ERR_SYNTAX, "", "myorigin: the first line of %s is no domain", name);
		else
			rc = 0, buf_addf(main_cf, "\nmyorigin = %.*s\n", STR_ARG(line));
	}
	free(text);
	fd_close(&fd);
	return rc;
}

int conf_add_origin(struct buf *main_cf, struct err *err)
{
	struct conf *c = conf_parse(buf_str(main_cf), "main.cf", NULL, NULL);
	int rc = 0;

	/* What is wrong with the file is found by who parses the result. */
	if (c != NULL && str_starts(c->myorigin, STR("/")))
		rc = read_origin(c->myorigin, main_cf, err);
	conf_unref(&c);
	return rc;
}
