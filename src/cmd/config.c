/* postrider config: the parameters, as postconf(1) shows Postfix's. */
#include "base/mem.h"
#include "cmd/cf_files.h"
#include "cmd/cmd.h"
#include "cmd/json.h"
#include "config/man.h"
#include "config/names.h"
#include "config/params.h"

enum which { SHOW_ALL, SHOW_SET, SHOW_DEFAULTS };

struct show {
	enum which which;
	bool expand, bare; /* -x, -h */
	bool man;
	bool templates, expanded; /* -t or -b; -b */
	const struct conf *conf;
	json_t *json; /* or NULL: print */
	int status;
};

static void show_value(struct show *s, struct str name, struct str value)
{
	if (s->json != NULL) {
		char *key = str_dup(name);

		json_object_set_new(s->json, key, json_of(value));
		free(key);
	} else if (s->bare) {
		printf("%.*s\n", STR_ARG(value));
	} else {
		printf("%.*s =%s%.*s\n", STR_ARG(name), value.len > 0 ? " " : "", STR_ARG(value));
	}
}

/* False: nobody knows the name. */
static bool show_name(struct show *s, struct str name)
{
	const struct param *p = param_find(name);
	struct str raw;
	struct buf text;

	if (s->which == SHOW_DEFAULTS) {
		if (p != NULL)
			show_value(s, name, param_default(p));
		return p != NULL;
	}
	if (!conf_raw(s->conf, name, &raw))
		return false;
	buf_init(&text, 1 << 20);
	if (s->expand && conf_text(s->conf, name, &text))
		raw = buf_str(&text);
	show_value(s, name, raw);
	buf_release(&text);
	return true;
}

static void show_set(void *ctx, const struct conf_name *name)
{
	show_name(ctx, name->name);
}

static int by_name(const void *a, const void *b)
{
	return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

struct names {
	struct str *v;
	size_t n;
};

static void add_user_defined(void *ctx, const struct conf_name *name)
{
	struct names *names = ctx;

	if (name->status != CONF_NAME_USED) {
		names->v = mem_realloc(names->v, (names->n + 1) * sizeof(*names->v));
		names->v[names->n++] = name->name;
	}
}

static void show_all(struct show *s)
{
	struct names names = {mem_alloc(PARAM_COUNT * sizeof(struct str)), PARAM_COUNT};

	for (size_t i = 0; i < PARAM_COUNT; i++)
		names.v[i] = str_from(PARAMS[i].name);
	if (s->which == SHOW_ALL)
		conf_each_name(s->conf, NULL, 0, add_user_defined, &names);
	qsort(names.v, names.n, sizeof(*names.v), by_name);
	for (size_t i = 0; i < names.n; i++)
		show_name(s, names.v[i]);
	free(names.v);
}

/* Options in any order in front of the names. Returns how many words they take, or -1. */
static int options(struct cmd *c, struct show *s)
{
	int i = 0;

	for (; i < c->argc && c->argv[i][0] == '-'; i++) {
		if (strcmp(c->argv[i], "-n") == 0)
			s->which = SHOW_SET;
		else if (strcmp(c->argv[i], "-d") == 0)
			s->which = SHOW_DEFAULTS;
		else if (strcmp(c->argv[i], "-x") == 0)
			s->expand = true;
		else if (strcmp(c->argv[i], "-h") == 0)
			s->bare = true;
		else if (strcmp(c->argv[i], "--man") == 0)
			s->man = true;
		else if (strcmp(c->argv[i], "-b") == 0 || strcmp(c->argv[i], "-t") == 0)
			s->templates = true, s->expanded = c->argv[i][1] == 'b';
		else
			return -1;
	}
	return i;
}

static int print_man(void)
{
	struct buf out;

	buf_init(&out, 1 << 20);
	params_man(&out);
	fwrite(out.ptr, 1, out.len, stdout);
	buf_release(&out);
	return EX_OK;
}

/* As postconf -b and -t show them. What is wrong with a file is told with its line. */
static int show_templates(const struct show *s, const char *path)
{
	struct buf out, warnings;
	struct err err = ERR_NONE;
	struct bounce_templates *t;
	int status = EX_OK;

	buf_init(&out, 1 << 20);
	buf_init(&warnings, 1 << 20);
	t = cf_read_templates(s->conf, path, &warnings, &err);
	fwrite(warnings.ptr, 1, warnings.len, stderr);
	if (t == NULL)
		status = cmd_error(EX_DATAERR, "%s", err.text);
	else
		bounce_templates_write(t, s->expanded, &out);
	fwrite(out.ptr, 1, out.len, stdout);
	bounce_templates_unref(&t);
	buf_release(&out);
	buf_release(&warnings);
	return status;
}

static void show_names(struct show *s, struct cmd *c, int first)
{
	for (int i = first; i < c->argc; i++)
		if (!show_name(s, str_from(c->argv[i])))
			s->status = cmd_error(EX_DATAERR, "%s: unknown parameter", c->argv[i]);
}

static void show(struct show *s, struct cmd *c, int first)
{
	if (first < c->argc)
		show_names(s, c, first);
	else if (s->which == SHOW_SET)
		conf_each_name(s->conf, NULL, 0, show_set, s);
	else
		show_all(s);
	if (s->json != NULL) {
		json_dumpf(s->json, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
		putchar('\n');
	}
}

int cmd_config(struct cmd *c)
{
	struct show s = {.status = EX_OK};
	struct err err = ERR_NONE;
	int first = options(c, &s);
	struct conf *conf = NULL;

	if (first < 0 || (s.templates && (c->json || s.which != SHOW_ALL || first + 1 < c->argc)))
		return cmd_usage(c);
	if (s.man)
		return print_man();
	/* Defaults are ours, whatever the instance says or does not say. */
	if (s.which != SHOW_DEFAULTS) {
		conf = cf_read_main(c->dir, s.which != SHOW_SET, NULL, &err);
		if (conf == NULL)
			return cmd_error(EX_CONFIG, "%s", err.text);
	}
	s.conf = conf;
	if (s.templates) {
		s.status = show_templates(&s, first < c->argc ? c->argv[first] : NULL);
		conf_unref(&conf);
		return s.status;
	}
	s.json = c->json ? json_object() : NULL;
	show(&s, c, first);
	json_decref(s.json);
	conf_unref(&conf);
	return s.status;
}
