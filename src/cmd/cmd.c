/* cmd - how a command is found, and what all have in common. Which there are: cmd/table.c. */
#include "cmd/cmd.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/instance.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <unistd.h>

#define VERSION "0.1.0"

static const struct cmd_set *commands;

int cmd_error(int sysexit, const char *fmt, ...)
{
	va_list args;

	fputs("postrider: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	return sysexit;
}

static const struct cmd_entry *find(const char *noun)
{
	for (size_t i = 0; i < commands->nouns; i++)
		if (strcmp(commands->noun[i].noun, noun) == 0)
			return &commands->noun[i];
	return NULL;
}

static void print_usage(FILE *out, const struct cmd_entry *e)
{
	fprintf(out, "usage: postrider [-c DIR] %s %s\n%s\n", e->noun, e->usage, e->help);
}

int cmd_usage(const struct cmd *c)
{
	const struct cmd_entry *e = find(c->name);

	cmd_error(EX_USAGE, "%s cannot be called like this", c->name);
	if (e)
		print_usage(stderr, e);
	return EX_USAGE;
}

int cmd_status_of(const struct err *err)
{
	if (err->sys == EACCES || err->sys == EPERM)
		return EX_NOPERM;
	switch (err->kind) {
	case ERR_OK:
		return EX_OK;
	case ERR_TEMP:
	case ERR_FULL:
	case ERR_LOST:
		return EX_TEMPFAIL;
	case ERR_SYNTAX:
	case ERR_EXISTS:
		return EX_DATAERR;
	case ERR_DENIED:
		return EX_NOPERM;
	case ERR_NOT_FOUND:
		return EX_UNAVAILABLE;
	case ERR_PERM:
	case ERR_LIMIT:
		break;
	}
	return EX_DATAERR;
}

static int help(FILE *out)
{
	fputs("usage: postrider [-c DIR] COMMAND ...\n\n", out);
	for (size_t i = 0; i < commands->nouns; i++)
		fprintf(out, "  %-9s %.*s\n", commands->noun[i].noun, (int)strcspn(commands->noun[i].help, "\n"),
			commands->noun[i].help);
	fputs("\nDIR is the instance, " INSTANCE_DIR_DEFAULT " unless -c or $POSTRIDER_CONFIG names another.\n"
	      "`postrider COMMAND --help` says more. A new instance: postrider init DIR --domain DOMAIN\n",
	      out);
	return out == stdout ? EX_OK : EX_USAGE;
}

/* The absolute path, also of what does not exist yet. */
static char *absolute(const char *dir)
{
	char resolved[PATH_MAX], cwd[PATH_MAX];

	if (realpath(dir, resolved))
		return mem_strdup(resolved);
	if (dir[0] == '/' || getcwd(cwd, sizeof(cwd)) == NULL)
		return mem_strdup(dir);
	return mem_printf("%s/%s", cwd, dir);
}

/* Takes --json and --help out of the arguments, wherever they stand (but not behind "--"). As postconf's, -h of config
 * is another thing. */
static bool take_flags(struct cmd *c)
{
	bool help_wanted = false, ended = false, short_form = strcmp(c->name, "config") != 0;
	int kept = 0;

	for (int i = 0; i < c->argc; i++) {
		ended = ended || strcmp(c->argv[i], "--") == 0;
		if (!ended && strcmp(c->argv[i], "--json") == 0)
			c->json = true;
		else if (!ended && (strcmp(c->argv[i], "--help") == 0 || (short_form && strcmp(c->argv[i], "-h") == 0)))
			help_wanted = true;
		else
			c->argv[kept++] = c->argv[i];
	}
	c->argc = kept;
	c->argv[kept] = NULL;
	return help_wanted;
}

/* The options in front of the noun; their number, or a sysexits status as -status - 1. */
static int global_options(struct cmd *c, int argc, char **argv, const char **dir)
{
	int at = 1;

	for (; at < argc && argv[at][0] == '-'; at++) {
		if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0)
			return -help(stdout) - 1;
		if (strcmp(argv[at], "--version") == 0)
			return printf("postrider %s\n", VERSION) < 0 ? -EX_IOERR - 1 : -EX_OK - 1;
		if (strcmp(argv[at], "--json") == 0)
			c->json = true;
		else if (strcmp(argv[at], "-c") == 0 && at + 1 < argc && argv[at + 1][0] != '\0')
			*dir = argv[++at];
		else if (strcmp(argv[at], "-c") == 0)
			return -cmd_error(EX_USAGE, "-c names no directory") - 1;
		else
			return -cmd_error(EX_USAGE, "unknown option \"%s\"; see postrider --help", argv[at]) - 1;
	}
	return at;
}

static int run_by_name(const char *name, const char *dir, int argc, char **argv)
{
	const char *slash = strrchr(name, '/');
	char *instance;
	int status;

	name = slash ? slash + 1 : name;
	for (size_t i = 0; i < commands->names; i++) {
		const struct cmd_name *n = &commands->name[i];

		if (strcmp(n->name, name) != 0)
			continue;
		log_init("postrider");
		instance = absolute(dir && *dir ? dir : INSTANCE_DIR_DEFAULT);
		status = n->run(n->name, instance, argc, argv);
		free(instance);
		return fflush(stdout) != 0 && status == EX_OK ? EX_IOERR : status;
	}
	return -1;
}

/* What was printed must have arrived. Where nobody reads any more, as behind `| head`, nothing is to be said of it. */
static int finish(int status)
{
	struct pollfd reader = {.fd = STDOUT_FILENO};

	if ((fflush(stdout) == 0 && !ferror(stdout)) || status != EX_OK)
		return status;
	if (poll(&reader, 1, 0) > 0 && (reader.revents & POLLERR) != 0)
		return EX_IOERR;
	return cmd_error(EX_IOERR, "cannot write the result");
}

/* To the program that is called as this one without the end of its name, and stands beside it. Returns if that cannot
 * be run. */
static int hand_over(char **argv)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	struct str whole = str_of(path, n > 0 ? (size_t)n : 0), end = str_from(commands->rest_without);

	if (!str_ends(whole, end))
		return cmd_error(EX_OSFILE, "this program was not installed as postrider%s", commands->rest_without);
	path[whole.len - end.len] = 0;
	argv[0] = path;
	execv(path, argv);
	return cmd_error(EX_OSFILE, "cannot run %s: %s", path, strerror(errno));
}

int cmd_do(const char *dir, int argc, char **argv)
{
	const struct cmd_entry *e = find(argv[0]);
	struct cmd c = {.dir = dir, .argc = argc - 1, .argv = argv + 1, .name = argv[0]};
	char option[] = "-c", *whole[8] = {NULL, option, mem_strdup(dir)};
	int status = e ? e->run(&c) : run_by_name(argv[0], dir, argc, argv);

	if (status < 0 && commands->rest_without && argc <= 4) {
		memcpy(whole + 3, argv, (size_t)argc * sizeof(*argv));
		status = hand_over(whole);
	}
	free(whole[2]);
	return status;
}

int cmd_main(const struct cmd_set *set, int argc, char **argv)
{
	const char *dir = getenv("POSTRIDER_CONFIG");
	const struct cmd_entry *e;
	struct cmd c = {0};
	char *instance;
	int at, status;

	commands = set;
	status = argc > 0 ? run_by_name(argv[0], dir, argc, argv) : -1;
	if (status >= 0)
		return status;
	at = global_options(&c, argc, argv, &dir);
	if (at < 0)
		return -at - 1;
	if (at == argc)
		return help(stderr);
	status = run_by_name(argv[at], dir, argc - at, argv + at);
	if (status >= 0)
		return status;
	e = find(argv[at]);
	if (e == NULL && set->rest_without)
		return hand_over(argv);
	if (e == NULL)
		return cmd_error(EX_USAGE, "there is no command \"%s\"; see postrider --help", argv[at]);
	log_init("postrider");
	c.dir = instance = absolute(dir && *dir ? dir : INSTANCE_DIR_DEFAULT);
	c.name = argv[at];
	c.argc = argc - at - 1;
	c.argv = argv + at + 1;
	if (take_flags(&c)) {
		print_usage(stdout, e);
		status = EX_OK;
	} else {
		status = e->run(&c);
	}
	free(instance);
	return finish(status);
}
