/* cmd - the table of commands, and what they have in common. */
#include "cmd/cmd.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/map.h"
#include "cmd/queue.h"
#include "cmd/sendmail.h"
#include "config/instance.h"
#include <limits.h>
#include <stdarg.h>
#include <unistd.h>

#define VERSION "0.1.0"

const struct cmd_entry cmd_table[] = {
	{"init", cmd_init, "DIR --domain DOMAIN [--host NAME] [--port-offset N]",
	 "Make a new instance: configuration, account database, certificate. Nothing that exists is overwritten.\n"
	 "  --domain DOMAIN    the first domain that mail is taken for\n"
	 "  --host NAME        the name of this host, mail.DOMAIN if not given\n"
	 "  --port-offset N    listen on 25+N, 587+N, 465+N, 143+N, 993+N, 110+N, 995+N, 24+N: without root, above "
	 "1024"},
	{"run", cmd_run, "", "Run in the foreground until Ctrl-C."},
	{"start", cmd_start, "", "Start in the background; returns when everything serves."},
	{"stop", cmd_stop, "", "Stop orderly; returns when everything has ended."},
	{"reload", cmd_reload, "", "Read configuration and certificates again, without dropping a connection."},
	{"restart", cmd_restart, "",
	 "Stop and start anew, as after an upgrade; clients wait instead of being refused."},
	{"status", cmd_status, "[--json]", "Show the processes, their uptime and what their jails hold."},
	{"check", cmd_check, "[--json]", "Read the configuration and tell what is wrong, unknown or not used yet."},
	{"config", cmd_config, "[-n | -d] [--json] [NAME ...] | -b [FILE] | -t [FILE]",
	 "Show parameters: all, those set in main.cf (-n), the defaults (-d), or some; or the templates of "
	 "notifications\n"
	 "as they expand (-b) or as they are written (-t): those of FILE, which may be tried like this before it is "
	 "used,\n"
	 "or of bounce_template_file. What FILE does not say is as built in."},
	{"domain", cmd_domain, "add | list | show | set | delete ... [--json]",
	 "The domains that mail is taken for.\n"
	 "  add DOMAIN [--description TEXT]\n"
	 "  set DOMAIN [--description TEXT] [--enable | --disable]\n"
	 "  list; show DOMAIN; delete DOMAIN"},
	{"user", cmd_user, "add | list | show | set | delete ... [--json]",
	 "The users: addresses, passwords, quota.\n"
	 "  add ADDRESS [OPTION ...]           asks for the password twice, unless an option says where it is\n"
	 "  add --from FILE [--quota SIZE]     many, all or none: lines ADDRESS:HASH:::NAME; - is standard input\n"
	 "  set ADDRESS [OPTION ...]\n"
	 "  list [DOMAIN]; show ADDRESS; delete ADDRESS\n"
	 "Options of add and set:\n"
	 "  --password                         ask for it\n"
	 "  --password-stdin                   one line of standard input\n"
	 "  --password-hash HASH               a crypt(3) or {SCHEME} hash; then no SCRAM\n"
	 "  --no-password                      nobody can log in\n"
	 "  --quota SIZE                       500M, 2G or none\n"
	 "  --quota-messages N                 a number or none\n"
	 "  --name TEXT                        display name\n"
	 "  --admin, --no-admin                receives the postmaster's mail when no alias says otherwise\n"
	 "  --add-address A                    a further address of the same mailbox; may be repeated\n"
	 "Options of set: --remove-address A, --enable, --disable"},
	{"alias", cmd_alias, "add | list | show | set | delete ... [--json]",
	 "Addresses that lead to other addresses.\n"
	 "  add ADDRESS TARGET ...             @DOMAIN as the address: the catch-all; as the target: the same user "
	 "there\n"
	 "  set ADDRESS [TARGET ...] [--enable | --disable]\n"
	 "  list [DOMAIN]; show ADDRESS; delete ADDRESS"},
	{"queue", cmd_queue, "list | show | flush | hold | release | requeue | expire | delete ... [--json]",
	 "The messages that wait to be delivered.\n"
	 "  list [CHOICE] [--by-destination | --by-age]   as mailq, or counted as qshape does\n"
	 "  show ID                       envelope, header, and why it waits\n"
	 "  flush [CHOICE]                try again now: all, unless chosen\n"
	 "  hold CHOICE; release CHOICE   not at all, until it is released\n"
	 "  requeue CHOICE                as if it had just come\n"
	 "  expire CHOICE                 what its next attempt cannot deliver goes back to its sender\n"
	 "  delete CHOICE                 nobody is told\n"
	 "CHOICE: ID ..., ALL, or what must all be so:\n"
	 "  --sender ADDRESS, --recipient ADDRESS    or @DOMAIN; <> is the null sender\n"
	 "  --destination DOMAIN\n"
	 "  --older AGE, --younger AGE               90, 15m, 2h, 5d, 1w\n"
	 "  --state active | deferred | hold"},
	{"dns", cmd_dns, "lookup NAME [TYPE] [--json]",
	 "What the running system gets when it asks the DNS: the records, whether DNSSEC proves them, and why not.\n"
	 "TYPE is A (the default), AAAA, MX, CNAME, TXT, PTR, SRV or TLSA; of an address its PTR is asked for.\n"
	 "Exit status: 0 found, 68 there is none, 75 nobody could tell, or the answer is bogus."},
	{"sts", cmd_sts, "show DOMAIN [--json] | fetch DOMAIN [--json]",
	 "The MTA-STS policy (RFC 8461) that mail to DOMAIN is held to: its mode, the mail servers that it names, how "
	 "long it\n"
	 "holds; and the id that the DNS tells of now.\n"
	 "  show     what is known; a policy that the DNS tells of, and none is known that holds, is fetched\n"
	 "  fetch    fetches it now in any case\n"
	 "Exit status: 0 there is one, 68 there is none, 75 it cannot be fetched now."},
	{"alert", cmd_alert, "[-s SUBJECT] [--both] [ADDRESS ...] | list [--json] | test [--json] [ADDRESS ...]",
	 "Send standard input as an alarm mail, also when the system is down; or show which conditions hold.\n"
	 "  [ADDRESS ...]    alert_recipient, if none is given\n"
	 "  -s SUBJECT       the subject\n"
	 "  --both           by our own queue and by alert_relayhost, not by the latter only if the former fails\n"
	 "  list             the conditions that hold; exit status 0: none, 75: some, 69: the system is not running\n"
	 "  test             send a test by both paths and tell what became of it\n"
	 "Exit status: 0 when a path has taken the mail, 75 when none has."},
	{"trace", cmd_trace, "ID | ADDRESS [--log FILE] [--json]",
	 "The story of a message, or of all messages from or to an address, in sentences from the log.\n"
	 "  --log FILE    another log than maillog_file: one that was rotated, or syslog's"},
	{"mail", cmd_mail, "fsck [--check] [--json] [USER]",
	 "The mail itself: fsck rebuilds the index of a user, or of all, from the files; with --check it only "
	 "compares."},
	{"map", cmd_map, "lookup TYPE:NAME KEY ... | list [--json]",
	 "What look-up tables say: lookup asks one, list shows those that the configuration names.\n"
	 "Tables are read as text: postmap is not needed; called by that name, it checks a file and tells the system."},
#ifdef POSTRIDER_TEST
	{"probe", cmd_probe, "PROCESS WHAT [ARGUMENT]", "Make a process try what its jail forbids (test builds only)."},
#endif
};
const size_t cmd_count = ARRAY_SIZE(cmd_table);

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
	for (size_t i = 0; i < cmd_count; i++)
		if (strcmp(cmd_table[i].noun, noun) == 0)
			return &cmd_table[i];
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
	for (size_t i = 0; i < cmd_count; i++)
		fprintf(out, "  %-9s %.*s\n", cmd_table[i].noun, (int)strcspn(cmd_table[i].help, "\n"),
			cmd_table[i].help);
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

/* Takes --json and --help out of the arguments, wherever they stand (but not behind "--"). */
static bool take_flags(struct cmd *c)
{
	bool help_wanted = false, ended = false;
	int kept = 0;

	for (int i = 0; i < c->argc; i++) {
		ended = ended || strcmp(c->argv[i], "--") == 0;
		if (!ended && strcmp(c->argv[i], "--json") == 0)
			c->json = true;
		else if (!ended && (strcmp(c->argv[i], "--help") == 0 || strcmp(c->argv[i], "-h") == 0))
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
		else if (strcmp(argv[at], "-c") == 0 && at + 1 < argc)
			*dir = argv[++at];
		else
			return -cmd_error(EX_USAGE, "unknown option \"%s\"; see postrider --help", argv[at]) - 1;
	}
	return at;
}

static int run_postmap(const char *name, const char *dir, int argc, char **argv)
{
	(void)name;
	(void)dir;
	return postmap_main(argc, argv);
}

/* The names by which programs of a mail system are called; what is behind them is theirs alone. */
static const struct {
	const char *name;
	int (*run)(const char *name, const char *dir, int argc, char **argv);
} by_name[] = {
	{"sendmail", sendmail_main},   {"mailq", sendmail_main},    {"postmap", run_postmap},
	{"postalias", run_postmap},    {"newaliases", run_postmap}, {"postqueue", postqueue_main},
	{"postsuper", postsuper_main}, {"postcat", postcat_main},   {"qshape", qshape_main},
};

static int run_by_name(const char *name, const char *dir, int argc, char **argv)
{
	const char *slash = strrchr(name, '/');
	char *instance;
	int status;

	name = slash ? slash + 1 : name;
	for (size_t i = 0; i < ARRAY_SIZE(by_name); i++) {
		if (strcmp(by_name[i].name, name) != 0)
			continue;
		log_init("postrider");
		instance = absolute(dir && *dir ? dir : INSTANCE_DIR_DEFAULT);
		status = by_name[i].run(by_name[i].name, instance, argc, argv);
		free(instance);
		return fflush(stdout) != 0 && status == EX_OK ? EX_IOERR : status;
	}
	return -1;
}

int cmd_main(int argc, char **argv)
{
	const char *dir = getenv("POSTRIDER_CONFIG");
	const struct cmd_entry *e;
	struct cmd c = {0};
	int at, status = argc > 0 ? run_by_name(argv[0], dir, argc, argv) : -1;
	char *instance;

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
	if (fflush(stdout) != 0 && status == EX_OK)
		return cmd_error(EX_IOERR, "cannot write the result");
	return status;
}
