/* postmap(1), postalias(1) and newaliases(1) as scripts and fingers know them.
 *
 * -q and -s look into a table as Postfix's do, with the same output and exit status. Without them there is nothing to
 * compile: the file is read through, what is wrong with it is told, and a running system is told to read it again. */
#include "base/mem.h"
#include "cmd/control.h"
#include "cmd/map.h"
#include "config/instance.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define TABLES_TIMEOUT_MS 60000

struct postmap {
	const char *name; /* "postmap" */
	const char *dir;
	const char *query; /* -q KEY, or NULL */
	bool dump;	   /* -s */
	struct map_files m;
	int status;
};

static int complain(struct postmap *p, int status, const char *severity, const char *text)
{
	fprintf(stderr, "%s: %s: %s\n", p->name, severity, text);
	return p->status = status;
}

/* "type:name", or a name alone, which is of default_database_type. */
static char *full_name(const struct postmap *p, const char *arg)
{
	const char *colon = strchr(arg, ':');
	struct str type = p->m.conf != NULL ? p->m.conf->default_database_type : STR("");

	if (colon && arg[0] != '/')
		return mem_strdup(arg);
	return mem_printf("%.*s:%s", STR_ARG(type.len > 0 ? type : STR("hash")), arg);
}

static struct table *open_table(struct postmap *p, const char *arg)
{
	struct err err = ERR_NONE;
	char *spec = full_name(p, arg);
	struct table *t = table_open(str_from(spec), &p->m.source, &err);

	map_files_warn(&p->m, p->name);
	if (t == NULL)
		complain(p, 1, "fatal", err.text);
	free(spec);
	return t;
}

/* ---- -q ---- */

/* 1 found and printed, 0 not there, -1 failed. */
static int query(struct postmap *p, const struct table *t, struct str key, bool with_key)
{
	struct err err = ERR_NONE;
	struct arena arena;
	struct str value;
	int rc;

	arena_init(&arena);
	rc = table_find(t, key, &arena, &value, &err);
	if (rc > 0 && with_key)
		printf("%.*s%s\t%.*s\n", STR_ARG(key), p->m.aliases ? ":" : "", STR_ARG(value));
	else if (rc > 0)
		printf("%.*s\n", STR_ARG(value));
	else if (rc < 0)
		complain(p, 1, "fatal", err.text);
	arena_release(&arena);
	return rc;
}

/* -q -: the keys are lines of standard input; what is found is printed behind its key. */
static void query_stdin(struct postmap *p, const struct table *t, bool *found)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t len;

	while ((len = getline(&line, &size, stdin)) >= 0) {
		if (len > 0 && line[len - 1] == '\n')
			len--;
		if (query(p, t, str_of(line, (size_t)len), true) > 0)
			*found = true;
	}
	free(line);
}

static void query_tables(struct postmap *p, int argc, char **argv)
{
	bool found = false;

	for (int i = 0; i < argc && !found; i++) {
		struct table *t = open_table(p, argv[i]);

		if (t == NULL)
			return;
		if (strcmp(p->query, "-") == 0)
			query_stdin(p, t, &found);
		else
			found = query(p, t, str_from(p->query), false) > 0;
		table_free(&t);
	}
	if (!found)
		p->status = 1;
}

/* ---- -s ---- */

static void print_entry(void *ctx, struct str key, struct str value)
{
	const struct postmap *p = ctx;

	printf("%.*s%s\t%.*s\n", STR_ARG(key), p->m.aliases ? ":" : "", STR_ARG(value));
}

static void dump_table(struct postmap *p, const char *arg)
{
	struct table *t = open_table(p, arg);

	if (t && !table_each(t, print_entry, p))
		complain(p, 1, "fatal", "this table type has no list of entries");
	table_free(&t);
}

/* ---- compiling, which is not needed ---- */

static void check_file(struct postmap *p, const char *arg)
{
	struct table *t = open_table(p, arg);

	if (t)
		fprintf(stderr, "%s: %s is in order; no database is needed, the text is read as it is\n", p->name, arg);
	table_free(&t);
}

/* A system that runs reads its tables again. One that does not will when it starts. */
static void tell_system(struct postmap *p)
{
	struct control_ok request = {0};
	struct control_reloaded reply = {0};
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	int result = 0;

	rpc_reply_init(&hold);
	if (control_master_pid(p->dir) > 0)
		result = control_call(p->dir, &CONTROL_TABLES, &request, &reply, &hold, TABLES_TIMEOUT_MS, &err);
	if (result < 0 && err.kind != ERR_NOT_FOUND)
		complain(p, 1, "fatal", err.text);
	else if (reply.but.len) /* it will: all is in order */
		fprintf(stderr, "%s: %.*s\n", p->name, STR_ARG(reply.but));
	rpc_reply_release(&hold);
}

static void build(struct postmap *p, int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		check_file(p, argv[i]);
	if (p->status == EX_OK)
		tell_system(p);
}

/* newaliases: every file of alias_database. */
static void build_aliases(struct postmap *p)
{
	struct str rest, item;
	struct buf list;

	buf_init(&list, 1 << 20);
	if (p->m.conf == NULL || !conf_text(p->m.conf, STR("alias_database"), &list) || list.len == 0) {
		fprintf(stderr, "%s: alias_database names no file: nothing to do\n", p->name);
	} else {
		for (rest = buf_str(&list); conf_list_next(&rest, &item);) {
			char *spec = str_dup(item);

			check_file(p, spec);
			free(spec);
		}
		if (p->status == EX_OK)
			tell_system(p);
	}
	buf_release(&list);
}

/* ---- the command line ---- */

static int usage(struct postmap *p)
{
	fprintf(stderr,
		"%s: fatal: usage: %s [-c config_dir] [-f] [-q key] [-s] [map_type:]file...; "
		"there is no database to change: -d, -i, -r edit the file itself\n",
		p->name, p->name);
	return 1;
}

static int run(struct postmap *p, int argc, char **argv)
{
	p->m.aliases = strcmp(p->name, "postmap") != 0;
	if (strcmp(p->name, "newaliases") == 0) {
		build_aliases(p);
		return p->status;
	}
	if (argc == 0 || (p->query && p->dump))
		return usage(p);
	if (p->query)
		query_tables(p, argc, argv);
	else if (p->dump)
		for (int i = 0; i < argc; i++)
			dump_table(p, argv[i]);
	else
		build(p, argc, argv);
	return p->status;
}

int postmap_main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/'), *dir = getenv("MAIL_CONFIG");
	struct postmap p = {.name = slash ? slash + 1 : argv[0]};
	bool case_kept = false;
	int option, status;

	if (dir == NULL || *dir == '\0')
		dir = getenv("POSTRIDER_CONFIG");
	p.dir = dir && *dir ? dir : INSTANCE_DIR_DEFAULT;
	opterr = 0;
	while ((option = getopt(argc, argv, "Nc:d:fFbhimnopq:rsuUvw")) >= 0) {
		if (option == 'c')
			p.dir = optarg;
		else if (option == 'q')
			p.query = optarg;
		else if (option == 's')
			p.dump = true;
		else if (option == 'f')
			case_kept = true;
		else if (strchr("dirbhmF?", option))
			return usage(&p);
	}
	map_files_init(&p.m, p.dir);
	p.m.source.case_kept = case_kept;
	status = run(&p, argc - optind, argv + optind);
	map_files_release(&p.m);
	if (fflush(stdout) != 0 && status == EX_OK)
		return EX_IOERR;
	return status;
}
