/* postrider init: a new instance, ready to run. Nothing that exists is overwritten; main.cf is written last, so that an
 * init that was interrupted can simply be run again. */
#include "base/mem.h"
#include "cmd/certificate.h"
#include "cmd/cmd.h"
#include "config/conf.h"
#include "config/instance.h"
#include "directory/accounts.h"
#include "msg/address.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pwd.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define PORT_OFFSET_MAX (65535 - 995)

struct init {
	const char *dir;
	char *domain, *host; /* A-labels */
	uint32_t offset;
	struct arena arena;
	struct err err;
	struct conf *conf; /* of the main.cf that will be written */
	struct buf main_cf, master_cf;
};

/* ---- the files ---- */

static const char main_cf_text[] =
	"# The configuration of this mail system, as in Postfix's main.cf. \"postrider config\" shows all parameters\n"
	"# with their values, \"postrider config -n\" those set here; \"postrider reload\" puts changes into effect.\n"
	"\n"
	"myhostname = %s\n"
	"mydomain = %s\n"
	"\n"
	"# What an address without a domain means, as local programs (cron, sendmail) write it: root is root@%s.\n"
	"myorigin = $mydomain\n"
	"\n"
	"# Mail for alice+anything@... goes to alice@...\n"
	"recipient_delimiter = +\n"
	"\n"
	"# Clients that may send anywhere without logging in.\n"
	"mynetworks = 127.0.0.0/8 [::1]/128\n"
	"\n"
	"# Replace this self-signed certificate by a real one.\n"
	"smtpd_tls_cert_file = %s/" INSTANCE_TLS_CERT "\n"
	"smtpd_tls_key_file = %s/" INSTANCE_TLS_KEY "\n"
	"\n"
	"queue_directory = %s/" INSTANCE_SPOOL "\n"
	"virtual_mailbox_base = %s/" INSTANCE_MAIL "\n"
	"maillog_file = %s/" INSTANCE_LOG "\n";

struct listener {
	const char *host, *name;
	unsigned port;
	const char *command, *options;
};

#define SUBMISSION_OPTIONS                                                                                             \
	"  -o smtpd_sasl_auth_enable=yes\n"                                                                            \
	"  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject\n"

static const struct listener listeners[] = {
	{"", "smtp", 25, "smtpd", ""},
	{"", "submission", 587, "smtpd",
	 "  -o syslog_name=postrider/submission\n  -o smtpd_tls_security_level=encrypt\n" SUBMISSION_OPTIONS},
	{"", "submissions", 465, "smtpd",
	 "  -o syslog_name=postrider/submissions\n  -o smtpd_tls_wrappermode=yes\n" SUBMISSION_OPTIONS},
	{"", "imap", 143, "imap", ""},
	{"", "imaps", 993, "imap", "  -o imap_tls_wrappermode=yes\n"},
	{"", "pop3", 110, "pop3", ""},
	{"", "pop3s", 995, "pop3", "  -o pop3_tls_wrappermode=yes\n"},
	{"127.0.0.1:", "lmtp", 24, "lmtp", ""},
};

static void write_master_cf(struct init *in)
{
	struct buf *b = &in->master_cf;

	buf_addz(b, "# What listens where, as in Postfix's master.cf; \"-o name=value\" overrides main.cf for one "
		    "service.\n"
		    "# service                type  private unpriv chroot wakeup maxproc command\n");
	for (size_t i = 0; i < ARRAY_SIZE(listeners); i++) {
		const struct listener *l = &listeners[i];
		char service[64];

		if (in->offset > 0)
			snprintf(service, sizeof(service), "%s%u", l->host, l->port + in->offset);
		else
			snprintf(service, sizeof(service), "%s%s", l->host, l->name);
		buf_addf(b, "%-24s inet  n       -      y      -      -       %s\n%s", service, l->command, l->options);
	}
	buf_addf(b, "%-24s unix  n       -      y      60     1       pickup\n", "pickup");
}

static int write_file(struct init *in, const char *name, const struct buf *text, mode_t mode)
{
	char *path = mem_printf("%s/%s", in->dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode), rc = -1;

	if (fd < 0)
		err_errno(&in->err, "cannot create %s", path);
	else if (fchmod(fd, mode) < 0 || write(fd, text->ptr, text->len) != (ssize_t)text->len || fsync(fd) < 0)
		err_errno(&in->err, "cannot write %s", path);
	else
		rc = 0;
	if (fd >= 0)
		close(fd);
	if (fd >= 0 && rc < 0)
		unlink(path);
	free(path);
	return rc;
}

static bool file_exists(const struct init *in, const char *name)
{
	char *path = mem_printf("%s/%s", in->dir, name);
	bool found = access(path, F_OK) == 0;

	free(path);
	return found;
}

/* ---- accounts of the system ---- */

static bool run_program(const char *const argv[])
{
	pid_t pid;
	int status;

	if (posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ) != 0)
		return false;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int make_account(struct init *in, struct str name)
{
	const char *account = arena_strz(&in->arena, name);
	const char *const useradd[] = {"useradd",      "--system",
				       "--user-group", "--no-create-home",
				       "--home-dir",   "/nonexistent",
				       "--shell",      "/usr/sbin/nologin",
				       account,	       NULL};
	const char *const adduser[] = {
		"adduser",	     "--system", "--group", "--no-create-home", "--home", "/nonexistent", "--shell",
		"/usr/sbin/nologin", account,	 NULL};

	if (getpwnam(account))
		return 0;
	if (!run_program(useradd) && !run_program(adduser))
		return err_set(&in->err, ERR_PERM, "", "cannot create the account %s: neither useradd nor adduser did",
			       account);
	printf("Created the account %s for a process of the mail system.\n", account);
	return 0;
}

/* As root, each process has an account of its own; without root, everything runs under one. */
static int make_accounts(struct init *in)
{
	const struct str names[] = {in->conf->mail_owner, in->conf->directory_owner, in->conf->queue_owner,
				    in->conf->store_owner};

	for (size_t i = 0; geteuid() == 0 && i < ARRAY_SIZE(names); i++)
		if (make_account(in, names[i]) < 0)
			return -1;
	return 0;
}

static int give_to(struct init *in, const char *name, struct str owner)
{
	const struct passwd *pw;
	char *path;
	int rc = 0;

	if (geteuid() != 0)
		return 0;
	pw = getpwnam(arena_strz(&in->arena, owner));
	if (!pw)
		return err_set(&in->err, ERR_PERM, "", "there is no account %.*s", STR_ARG(owner));
	path = mem_printf("%s/%s", in->dir, name);
	if (lchown(path, pw->pw_uid, pw->pw_gid) < 0 && errno != ENOENT)
		rc = err_errno(&in->err, "cannot give %s to %.*s", path, STR_ARG(owner));
	free(path);
	return rc;
}

/* ---- directories ---- */

static int make_directory(struct init *in, const char *name, mode_t mode)
{
	char *path = name ? mem_printf("%s/%s", in->dir, name) : mem_strdup(in->dir);
	int rc = 0;

	for (char *p = path + 1; !name && *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			rc = err_errno(&in->err, "cannot create the directory %s", path);
		*p = '/';
	}
	if (rc == 0 && mkdir(path, mode & 0777) < 0) {
		if (errno != EEXIST)
			rc = err_errno(&in->err, "cannot create the directory %s", path);
	} else if (rc == 0 && chmod(path, mode) < 0) {
		rc = err_errno(&in->err, "cannot set the mode of %s", path);
	}
	free(path);
	return rc;
}

static int make_directories(struct init *in)
{
	static const struct {
		const char *name;
		mode_t mode;
	} dirs[] = {{NULL, 0755},
		    {"tls", 0755},
		    {INSTANCE_DIRECTORY_DIR, 0700},
		    {INSTANCE_SPOOL, 0755},
		    {INSTANCE_MAIL, 0700},
		    {INSTANCE_RUN, 0755},
		    {INSTANCE_SPOOL "/" INSTANCE_PUBLIC, 0755},
		    {INSTANCE_SPOOL "/" INSTANCE_MAILDROP, 01733},
		    {INSTANCE_SPOOL "/" INSTANCE_CORRUPT, 0700},
		    {"log", 0755}};

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		if (make_directory(in, dirs[i].name, dirs[i].mode) < 0)
			return -1;
	return give_to(in, INSTANCE_MAIL, in->conf->store_owner);
}

/* ---- database and certificate ---- */

/* The domain, and abuse@ and root@ for the postmaster (RFC 2142 4; cron writes to root), who is the first user until an
 * alias says otherwise. */
static int fill_database(struct init *in, struct db *db)
{
	struct str root = arena_printf(&in->arena, "root@%s", in->domain);
	struct str target = arena_printf(&in->arena, "postmaster@%s", in->domain);
	struct str abuse = arena_printf(&in->arena, "abuse@%s", in->domain);

	if (domain_add(db, str_from(in->domain), STR_NULL, &in->err) < 0 && in->err.kind != ERR_EXISTS)
		return -1;
	if (alias_add(db, abuse, &target, 1, &in->err) < 0 && in->err.kind != ERR_EXISTS)
		return -1;
	if (alias_add(db, root, &target, 1, &in->err) < 0 && in->err.kind != ERR_EXISTS)
		return -1;
	return 0;
}

static int make_database(struct init *in)
{
	static const char *const files[] = {INSTANCE_DIRECTORY_DIR, INSTANCE_DIRECTORY, INSTANCE_DIRECTORY "-wal",
					    INSTANCE_DIRECTORY "-shm"};
	char *path = mem_printf("%s/%s", in->dir, INSTANCE_DIRECTORY);
	struct db *db = NULL;
	int rc = db_open(path, DB_CREATE, &db, &in->err);

	if (rc == 0)
		rc = fill_database(in, db);
	db_close(&db);
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(files); i++)
		rc = give_to(in, files[i], in->conf->directory_owner);
	free(path);
	return rc;
}

static int make_certificate(struct init *in)
{
	struct buf cert, key;
	int rc;

	if (file_exists(in, INSTANCE_TLS_CERT) || file_exists(in, INSTANCE_TLS_KEY)) {
		printf("Kept the certificate that was there: %s/%s\n", in->dir, INSTANCE_TLS_CERT);
		return 0;
	}
	buf_init(&cert, 1 << 16);
	buf_init(&key, 1 << 16);
	rc = certificate_make(in->host, in->domain, &cert, &key, &in->err);
	if (rc == 0)
		rc = write_file(in, INSTANCE_TLS_KEY, &key, 0600);
	if (rc == 0)
		rc = write_file(in, INSTANCE_TLS_CERT, &cert, 0644);
	mem_wipe(key.ptr, key.len);
	buf_release(&cert);
	buf_release(&key);
	return rc;
}

/* ---- what was asked for ---- */

static int name_of(struct init *in, const char *given, const char *what, char **name_r)
{
	struct str key;

	if (!domain_is_valid(str_from(given)) || !domain_normalize(str_from(given), &in->arena, &key))
		return err_set(&in->err, ERR_SYNTAX, "", "\"%s\" is no %s name", given, what);
	*name_r = arena_strz(&in->arena, key);
	return 0;
}

static int check_unused(struct init *in)
{
	static const char *const own[] = {INSTANCE_MAIN_CF, INSTANCE_MASTER_CF};

	/* Paths stand in main.cf, where blanks, '$' and '#' have a meaning. */
	for (const char *p = in->dir; *p; p++)
		if (!ascii_alnum(*p) && !strchr("/._-+,=@%", *p) && (unsigned char)*p < 0x80)
			return err_set(&in->err, ERR_SYNTAX, "",
				       "the path %s holds a character that main.cf cannot: choose another", in->dir);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		if (file_exists(in, own[i]))
			return err_set(
				&in->err, ERR_EXISTS, "",
				"%s already holds an instance (%s): nothing was changed; choose another directory",
				in->dir, own[i]);
	return 0;
}

static int prepare(struct init *in, const char *domain, const char *host)
{
	char *default_host;

	if (name_of(in, domain, "domain", &in->domain) < 0)
		return -1;
	default_host = mem_printf("mail.%s", in->domain);
	if (name_of(in, host ? host : default_host, "host", &in->host) < 0 || check_unused(in) < 0) {
		free(default_host);
		return -1;
	}
	free(default_host);
	buf_addf(&in->main_cf, main_cf_text, in->host, in->domain, in->domain, in->dir, in->dir, in->dir, in->dir,
		 in->dir);
	write_master_cf(in);
	in->conf = conf_parse(buf_str(&in->main_cf), INSTANCE_MAIN_CF, NULL, &in->err);
	return in->conf ? 0 : -1;
}

static int make_all(struct init *in)
{
	if (make_accounts(in) < 0 || make_directories(in) < 0 || make_database(in) < 0 || make_certificate(in) < 0)
		return -1;
	if (write_file(in, INSTANCE_MASTER_CF, &in->master_cf, 0644) < 0)
		return -1;
	return write_file(in, INSTANCE_MAIN_CF, &in->main_cf, 0644);
}

static void print_next_steps(const struct init *in)
{
	printf("%s is ready: mail for %s on the host %s.\nNext:\n", in->dir, in->domain, in->host);
	printf("  postrider -c %s user add YOU@%s    # the first user also receives the postmaster's mail\n", in->dir,
	       in->domain);
	printf("  postrider -c %s run                # in the foreground; or start, stop, status\n", in->dir);
	printf("Listening will be on");
	for (size_t i = 0; i < ARRAY_SIZE(listeners); i++)
		printf("%s %u (%s)", i ? "," : "", listeners[i].port + in->offset, listeners[i].name);
	printf(".\nThe certificate is self-signed: put a real one in place of %s/%s and %s/%s.\n", in->dir,
	       INSTANCE_TLS_CERT, in->dir, INSTANCE_TLS_KEY);
}

/* The path as processes will see it: absolute. */
static char *absolute_path(const char *dir)
{
	char *cwd, *path, *resolved = realpath(dir, NULL);

	if (resolved || dir[0] == '/')
		return resolved ? resolved : mem_strdup(dir);
	cwd = getcwd(NULL, 0);
	path = mem_printf("%s/%s", cwd ? cwd : "", str_starts(str_from(dir), STR("./")) ? dir + 2 : dir);
	free(cwd);
	return path;
}

static bool options_take(struct cmd *c, const char **domain, const char **host, const char **dir, uint32_t *offset)
{
	static const struct option known[] = {{"domain", required_argument, NULL, 'd'},
					      {"host", required_argument, NULL, 'h'},
					      {"port-offset", required_argument, NULL, 'p'},
					      {0}};
	char **argv = mem_alloc(((size_t)c->argc + 2) * sizeof(*argv));
	bool ok = true;
	int opt;

	argv[0] = (char *)(uintptr_t) "init";
	memcpy(argv + 1, c->argv, (size_t)c->argc * sizeof(*argv));
	optind = 0;
	while (ok && (opt = getopt_long(c->argc + 1, argv, "", known, NULL)) != -1) {
		if (opt == 'd')
			*domain = optarg;
		else if (opt == 'h')
			*host = optarg;
		else
			ok = opt == 'p' && str_to_u32(str_from(optarg), offset) && *offset <= PORT_OFFSET_MAX;
	}
	if (ok && optind < c->argc + 1)
		*dir = argv[optind++];
	ok = ok && optind == c->argc + 1 && *domain;
	free(argv);
	return ok;
}

int cmd_init(struct cmd *c)
{
	struct init in = {0};
	const char *domain = NULL, *host = NULL, *dir = c->dir;
	int status = EX_OK;
	char *path;

	if (!options_take(c, &domain, &host, &dir, &in.offset)) {
		cmd_usage(c);
		return cmd_error(EX_USAGE, "init needs a directory and --domain; --port-offset is a number up to %d",
				 PORT_OFFSET_MAX);
	}
	if (*dir == '\0')
		return cmd_error(EX_USAGE, "the directory has no name");
	path = absolute_path(dir);
	in.dir = path;
	arena_init(&in.arena);
	buf_init(&in.main_cf, 1 << 16);
	buf_init(&in.master_cf, 1 << 16);
	if (prepare(&in, domain, host) < 0 || make_all(&in) < 0)
		status =
			cmd_error(in.err.kind == ERR_EXISTS ? EX_CANTCREAT : cmd_status_of(&in.err), "%s", in.err.text);
	else
		print_next_steps(&in);
	conf_unref(&in.conf);
	buf_release(&in.main_cf);
	buf_release(&in.master_cf);
	arena_release(&in.arena);
	free(path);
	return status;
}
