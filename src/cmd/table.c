/* The commands of `postrider`. */
#include "cmd/map.h"
#include "cmd/names.h"

static const struct cmd_entry nouns[] = {
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
	{"config", cmd_config, "[-n | -d] [-x] [-h] [--json] [NAME ...] | -b [FILE] | -t [FILE]",
	 "Show parameters: all, those set in main.cf (-n), the defaults (-d), or some; with $names expanded (-x), "
	 "without\n"
	 "their own names (-h); or the templates of notifications\n"
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
	CMD_QUEUE_NOUN,
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
	 "  --log FILE    another log than maillog_file and what was rotated away from it: syslog's, a copy; may be "
	 "given\n"
	 "                several times, the oldest first"},
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
static int run_postmap(const char *name, const char *dir, int argc, char **argv)
{
	(void)name;
	(void)dir;
	return postmap_main(argc, argv);
}

/* The names by which programs of a mail system are called; what is behind them is theirs alone. */
static const struct cmd_name names[] = {
	CMD_CLIENT_NAMES,
	{"postmap", run_postmap},
	{"postalias", run_postmap},
	{"newaliases", run_postmap},
};

const struct cmd_set cmd_all = {nouns, ARRAY_SIZE(nouns), names, ARRAY_SIZE(names)};
