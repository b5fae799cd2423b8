/* postrider map: what a look-up table says, and which tables the configuration names. Reads the files as they are now;
 * a running system has read them when it started, at a reload, or when they changed. */
#include "cmd/map.h"
#include "base/mem.h"
#include "cmd/cf_files.h"
#include "cmd/json.h"
#include <limits.h>
#include <unistd.h>

/* ---- opening a table for a command ---- */

static int read_file(void *ctx, struct str path, struct str *contents_r, struct err *err)
{
	struct map_files *m = ctx;

	return table_files_read(m->files, path, contents_r, err);
}

static bool named_in(const struct conf *conf, const char *parameter, struct str path)
{
	struct str rest, item, type, name;
	struct buf text;
	bool found = false;

	buf_init(&text, 1 << 20);
	if (conf_text(conf, str_from(parameter), &text))
		for (rest = buf_str(&text); !found && conf_list_next(&rest, &item);) {
			while (str_starts(item, STR("proxy:")))
				item = str_skip(item, 6);
			found = str_split(item, ':', &type, &name) && str_eq(name, path);
		}
	buf_release(&text);
	return found;
}

static bool is_aliases(void *ctx, struct str path)
{
	const struct map_files *m = ctx;

	return m->aliases ||
	       (m->conf && (named_in(m->conf, "alias_maps", path) || named_in(m->conf, "alias_database", path)));
}

void map_files_init(struct map_files *m, const char *dir)
{
	char cwd[PATH_MAX];

	*m = (struct map_files){.files = table_files_new(getcwd(cwd, sizeof(cwd)) ? cwd : "/")};
	m->conf = cf_read_main(dir, true, NULL, NULL); /* only says which files are aliases(5) */
	buf_init(&m->warnings, 1 << 20);
	m->source =
		(struct table_source){.read = read_file, .is_aliases = is_aliases, .ctx = m, .warnings = &m->warnings};
}

void map_files_release(struct map_files *m)
{
	table_files_free(&m->files);
	conf_unref(&m->conf);
	buf_release(&m->warnings);
}

void map_files_warn(struct map_files *m, const char *command)
{
	struct str rest = buf_str(&m->warnings), line;

	while (str_token(&rest, "\n", &line))
		fprintf(stderr, "%s: warning: %.*s\n", command, STR_ARG(line));
	buf_clear(&m->warnings);
}

/* ---- map lookup ---- */

static int print_found(struct cmd *c, const char *key, struct str value)
{
	json_t *json;

	if (!c->json) {
		printf("%.*s\n", STR_ARG(value));
		return EX_OK;
	}
	json = json_pack("{s:o, s:o}", "key", json_of(str_from(key)), "value", json_of(value));
	json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(json);
	return EX_OK;
}

static int lookup(struct cmd *c, const struct table *t)
{
	int status = EX_OK;

	for (int i = 2; i < c->argc; i++) {
		struct err err = ERR_NONE;
		struct arena arena;
		struct str value;
		int rc;

		arena_init(&arena);
		rc = table_find(t, str_from(c->argv[i]), &arena, &value, &err);
		if (rc > 0)
			print_found(c, c->argv[i], value);
		else if (rc < 0)
			status = cmd_error(EX_TEMPFAIL, "%s", err.text);
		else
			status = cmd_error(EX_UNAVAILABLE, "%s: not in %s", c->argv[i], c->argv[1]);
		arena_release(&arena);
	}
	return status;
}

static int map_lookup(struct cmd *c)
{
	struct err err = ERR_NONE;
	struct map_files m;
	struct table *t;
	int status;

	if (c->argc < 3)
		return cmd_usage(c);
	map_files_init(&m, c->dir);
	t = table_open(str_from(c->argv[1]), &m.source, &err);
	map_files_warn(&m, "postrider");
	status = t ? lookup(c, t) : cmd_error(cmd_status_of(&err), "%s", err.text);
	table_free(&t);
	map_files_release(&m);
	return status;
}

/* ---- map list ---- */

static void count(void *ctx, struct str key, struct str value)
{
	(void)key, (void)value;
	++*(size_t *)ctx;
}

static void list_table(json_t *json, const char *parameter, const struct table *t)
{
	struct str name = table_name(t);
	size_t entries = 0;
	bool counted = table_each(t, count, &entries);

	if (json)
		json_array_append_new(json,
				      json_pack("{s:s, s:o, s:o, s:I}", "parameter", parameter, "table", json_of(name),
						"entries", counted ? json_integer((json_int_t)entries) : json_null(),
						"bytes", (json_int_t)table_bytes(t)));
	else if (counted)
		printf("%-32s %-48.*s %8zu entries %10zu bytes\n", parameter, STR_ARG(name), entries, table_bytes(t));
	else
		printf("%-32s %.*s\n", parameter, STR_ARG(name));
}

static int map_list(struct cmd *c)
{
	json_t *json = c->json ? json_array() : NULL;
	struct table_set *tables = NULL;
	struct bundle *b;
	struct err err = ERR_NONE;
	const struct table *t;
	const char *parameter;

	b = bundle_read(c->dir, NULL, &err);
	if (b)
		tables = bundle_tables(b, b->files, NULL, &err);
	for (size_t at = 0; tables && table_set_next(tables, &at, &parameter, &t);)
		list_table(json, parameter, t);
	if (json && tables) {
		json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
		putchar('\n');
	}
	json_decref(json);
	table_set_unref(&tables);
	bundle_unref(&b);
	return err.kind == ERR_OK ? EX_OK : cmd_error(cmd_status_of(&err), "%s", err.text);
}

int cmd_map(struct cmd *c)
{
	if (c->argc >= 1 && strcmp(c->argv[0], "lookup") == 0)
		return map_lookup(c);
	if (c->argc == 1 && strcmp(c->argv[0], "list") == 0)
		return map_list(c);
	return cmd_usage(c);
}
