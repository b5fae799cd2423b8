/* cmd - what every command of `postrider NOUN VERB` is given, and how commands are found.
 *
 * A command is one function `int cmd_NAME(struct cmd *c)` in its own file, entered in the table of
 * cmd/table.c. It returns a sysexits status (EX_OK, EX_USAGE, EX_DATAERR, EX_NOUSER, EX_UNAVAILABLE, ...) after it has
 * printed its result to stdout or, by cmd_error(), one sentence to stderr that says what to do. */
#ifndef CMD_CMD_H
#define CMD_CMD_H

#include "base/err.h"
#include <sysexits.h>

struct cmd {
	const char *dir;  /* the instance: absolute path; from -c, else $POSTRIDER_CONFIG, else /etc/postrider */
	bool json;	  /* --json was given, anywhere; print JSON to stdout */
	int argc;	  /* what follows the noun (`user`), without -c DIR and --json: argv[0] is the verb */
	char **argv;	  /* NULL-terminated; may be reordered by getopt */
	const char *name; /* the noun as typed: "user", "start" */
};

/* How a command is entered. `usage` follows "postrider [-c DIR] NOUN "; `help` is one sentence, then details
 * a line each. --help and the man page check print both. */
struct cmd_entry {
	const char *noun;
	int (*run)(struct cmd *c);
	const char *usage;
	const char *help;
};
/* A program that is known by a name of its own, as that it was called by or as the first argument. */
struct cmd_name {
	const char *name;
	int (*run)(const char *name, const char *dir, int argc, char **argv);
};
/* What one executable can do. */
struct cmd_set {
	const struct cmd_entry *noun;
	size_t nouns;
	const struct cmd_name *name;
	size_t names;
	/* "-client": whatever else is asked does the program whose name is without it, beside this one. NULL: there is
	 * no more. */
	const char *rest_without;
};
extern const struct cmd_set cmd_all; /* cmd/table.c */

/* One sentence to stderr, "postrider: " in front; returns `sysexit`. */
int cmd_error(int sysexit, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Prints the usage lines of c's noun to stderr; returns EX_USAGE. */
int cmd_usage(const struct cmd *c);
/* The sysexits status for an error. */
int cmd_status_of(const struct err *err);

/* Finds, runs, returns the exit status. For main(). */
int cmd_main(const struct cmd_set *set, int argc, char **argv);

/* One command for another: argv[0] is its noun or name, behind which flags are not looked for. */
int cmd_do(const char *dir, int argc, char **argv);

int cmd_init(struct cmd *c);
int cmd_user(struct cmd *c);
int cmd_domain(struct cmd *c);
int cmd_alias(struct cmd *c);
int cmd_config(struct cmd *c);
int cmd_check(struct cmd *c);
int cmd_run(struct cmd *c);
int cmd_start(struct cmd *c);
int cmd_stop(struct cmd *c);
int cmd_reload(struct cmd *c);
int cmd_restart(struct cmd *c);
int cmd_status(struct cmd *c);
int cmd_queue(struct cmd *c);
int cmd_trace(struct cmd *c);
int cmd_dns(struct cmd *c);
int cmd_sts(struct cmd *c);
int cmd_mail(struct cmd *c);
int cmd_map(struct cmd *c);
int cmd_alert(struct cmd *c);
int cmd_probe(struct cmd *c); /* test builds only */

#endif
