/* postrider check: what is wrong with the configuration, what is dangerous, what nobody knows, what waits.
 *
 * Errors keep the system from starting or put secrets in the open (exit status 78); warnings are most likely mistakes;
 * notes say what is accepted and has no effect yet. */
#include "base/mem.h"
#include "base/vec.h"
#include "cmd/cf_files.h"
#include "cmd/check_transports.h"
#include "cmd/check_values.h"
#include "cmd/cmd.h"
#include "cmd/json.h"
#include "config/instance.h"
#include "config/master_cf.h"
#include "config/names.h"
#include "directory/accounts.h"
#include "msg/address.h"
#include "policy/policy.h"
#include "proc/bundle.h"
#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

enum level { LEVEL_NOTE, LEVEL_WARNING, LEVEL_ERROR };
static const char *const LEVELS[] = {[LEVEL_NOTE] = "note", [LEVEL_WARNING] = "warning", [LEVEL_ERROR] = "error"};

struct check {
	const char *dir;
	json_t *json; /* list of findings, or NULL: print them */
	unsigned count[3];
};

static void finding(struct check *k, enum level level, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void finding(struct check *k, enum level level, const char *fmt, ...)
{
	struct buf text;
	va_list args;

	buf_init(&text, 65536);
	va_start(args, fmt);
	buf_vaddf(&text, fmt, args);
	va_end(args);
	k->count[level]++;
	if (k->json != NULL)
		json_array_append_new(k->json,
				      json_pack("{s:s, s:o}", "level", LEVELS[level], "text", json_of(buf_str(&text))));
	else
		printf("%s: %s\n", LEVELS[level], text.ptr);
	buf_release(&text);
}

/* ---- names ---- */

static void name_finding(void *ctx, const struct conf_name *name)
{
	struct check *k = ctx;

	if (name->earlier > 0)
		finding(k, LEVEL_NOTE, "%s/%s, line %u: %.*s: what line %u says of it does not count", k->dir,
			INSTANCE_MAIN_CF, name->line, STR_ARG(name->name), name->earlier);
	if (name->status == CONF_NAME_NOT_YET && name->why != NULL)
		finding(k, LEVEL_WARNING, "accepted, not used yet: %.*s: %s", STR_ARG(name->name), name->why);
	else if (name->status == CONF_NAME_NOT_YET)
		finding(k, LEVEL_NOTE, "accepted, not used yet: %.*s", STR_ARG(name->name));
	else if (name->status == CONF_NAME_NO_USE)
		finding(k, name->warn ? LEVEL_WARNING : LEVEL_NOTE, "accepted, without effect: %.*s: %s",
			STR_ARG(name->name), name->why);
	else if (name->status == CONF_NAME_UNKNOWN)
		finding(k, LEVEL_WARNING, "%s/%s, line %u: unknown parameter that nothing refers to: %.*s", k->dir,
			INSTANCE_MAIN_CF, name->line, STR_ARG(name->name));
}

struct override_names {
	struct check *check;
	const struct master_service *service;
	const struct conf *base;
};

/* Of a service's own settings; those of main.cf were told already. */
static void override_finding(void *ctx, const struct conf_name *name)
{
	struct override_names *o = ctx;

	if (name->line != 0 || (conf_is_set(o->base, name->name) && !(name->warn && name->status == CONF_NAME_NOT_YET)))
		return;
	if (name->status == CONF_NAME_NOT_YET && name->why != NULL)
		finding(o->check, LEVEL_WARNING, "accepted, not used yet: %.*s (-o of service %.*s): %s",
			STR_ARG(name->name), STR_ARG(o->service->name), name->why);
	else if (name->status == CONF_NAME_NOT_YET)
		finding(o->check, LEVEL_NOTE, "accepted, not used yet: %.*s (-o of service %.*s)", STR_ARG(name->name),
			STR_ARG(o->service->name));
	else if (name->status == CONF_NAME_NO_USE)
		finding(o->check, name->warn ? LEVEL_WARNING : LEVEL_NOTE,
			"accepted, without effect: %.*s (-o of service %.*s): %s", STR_ARG(name->name),
			STR_ARG(o->service->name), name->why);
	else if (name->status == CONF_NAME_UNKNOWN)
		finding(o->check, LEVEL_WARNING, "%s/%s, line %u: unknown parameter that nothing refers to: -o %.*s",
			o->check->dir, INSTANCE_MASTER_CF, o->service->line, STR_ARG(name->name));
}

static void undefined_finding(void *ctx, struct str in, unsigned line, struct str name)
{
	struct check *k = ctx;

	if (line != 0)
		finding(k, LEVEL_WARNING, "%s/%s, line %u: %.*s: $%.*s is set nowhere: it counts as empty", k->dir,
			INSTANCE_MAIN_CF, line, STR_ARG(in), STR_ARG(name));
}

static void undefined_in_override(void *ctx, struct str in, unsigned line, struct str name)
{
	const struct override_names *o = ctx;

	if (line == 0)
		finding(o->check, LEVEL_WARNING, "%s/%s, line %u: -o %.*s: $%.*s is set nowhere: it counts as empty",
			o->check->dir, INSTANCE_MASTER_CF, o->service->line, STR_ARG(in), STR_ARG(name));
}

struct restriction_names {
	struct check *check;
	const struct master_service *service;
	VEC(char *) told; /* for the same list of another service says nothing new */
};

static void restriction_finding(void *ctx, const char *parameter, struct str name)
{
	struct restriction_names *r = ctx;
	char *text = mem_printf("%.*s in %s", STR_ARG(name), parameter);

	for (size_t i = 0; i < r->told.n; i++)
		if (strcmp(r->told.v[i], text) == 0) {
			free(text);
			return;
		}
	vec_push(&r->told, text);
	finding(r->check, LEVEL_WARNING, "accepted, but refuses and permits nobody yet: %s", text);
}

static void unheard_finding(void *ctx, const char *parameter)
{
	struct restriction_names *r = ctx;

	finding(r->check, LEVEL_NOTE,
		"%s: not for mail that comes by LMTP (service %.*s): its client has judged it, and keeps what is "
		"refused",
		parameter, STR_ARG(r->service->name));
}

static bool is_by(const struct master_service *s, const char *command)
{
	return s->type == SERVICE_INET && str_eq(s->command, str_from(command));
}

/* The restrictions of every service that uses them. */
static void check_restrictions(struct check *k, const struct conf *conf, const struct master_cf *cf)
{
	struct restriction_names r = {.check = k};

	for (size_t i = 0; i < cf->count; i++) {
		const struct master_service *s = &cf->services[i];
		struct conf *own;

		if (!is_by(s, "smtpd") && !is_by(s, "lmtp"))
			continue;
		own = conf_override(conf, s->overrides, s->override_count, NULL);
		r.service = s;
		if (own != NULL && is_by(s, "lmtp"))
			policy_each_unheard_by_lmtp(own, unheard_finding, &r);
		else if (own != NULL)
			policy_each_unused(own, restriction_finding, &r);
		conf_unref(&own);
	}
	for (size_t i = 0; i < r.told.n; i++)
		free(r.told.v[i]);
	vec_release(&r.told);
}

/* A listener of ours, or a transport of relay (relay/route.c). */
static bool is_served(const struct master_service *s)
{
	static const char *const transports[] = {"smtp", "lmtp", "error", "discard"};

	if (s->type == SERVICE_INET || bundle_is_listener(s))
		return bundle_role_of(s->command) != 0;
	for (size_t i = 0; s->type == SERVICE_UNIX && i < ARRAY_SIZE(transports); i++)
		if (str_eq(s->command, str_from(transports[i])))
			return true;
	return false;
}

/* What a service of Postfix that has no process here is for, and who does it; NULL: it is not built yet. */
static const char *done_by(struct str command)
{
	static const struct {
		const char *command, *by;
	} own[] = {
		{"anvil", "directory counts clients"},
		{"bounce", "relay writes notifications"},
		{"cleanup", "smtpd takes messages whole"},
		{"flush", "queue finds what waits for a destination"},
		{"local", "relay and store deliver"},
		{"pickup", "master finds what programs left in the maildrop"},
		{"postlogd", "master writes the log"},
		{"proxymap", "directory reads all tables"},
		{"qmgr", "queue keeps what waits, relay sends it"},
		{"scache", "relay keeps connections"},
		{"showq", "queue lists itself"},
		{"tlsmgr", "each process keeps the TLS sessions that it needs"},
		{"trivial-rewrite", "directory knows where mail goes"},
		{"virtual", "store delivers"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		if (str_eq(command, str_from(own[i].command)))
			return own[i].by;
	return NULL;
}

static void check_service(struct check *k, const struct conf *conf, const struct master_service *s)
{
	struct err err = ERR_NONE;
	struct conf *own = conf_override(conf, s->overrides, s->override_count, &err);
	struct override_names o = {.check = k, .service = s, .base = conf};

	if (own == NULL) {
		finding(k, LEVEL_ERROR, "%s/%s, line %u: service %.*s: %s", k->dir, INSTANCE_MASTER_CF, s->line,
			STR_ARG(s->name), err.text);
		return;
	}
	conf_each_name(own, s->overrides, s->override_count, override_finding, &o);
	conf_each_undefined(own, undefined_in_override, &o);
	conf_unref(&own);
	if (is_served(s))
		return;
	if (s->type == SERVICE_INET) {
		finding(k, LEVEL_WARNING, "accepted, not used yet: service %.*s (%.*s): nobody listens on port %u%s",
			STR_ARG(s->name), STR_ARG(s->command), s->port,
			str_eq(s->command, STR("postscreen")) ? ": let the command be smtpd" : "");
		return;
	}
	if (done_by(s->command))
		finding(k, LEVEL_NOTE, "accepted, without effect: service %.*s (%.*s): %s", STR_ARG(s->name),
			STR_ARG(s->command), done_by(s->command));
	else
		finding(k, LEVEL_NOTE, "accepted, not used yet: service %.*s (%.*s)", STR_ARG(s->name),
			STR_ARG(s->command));
}

/* $names in all -o settings count as uses of what main.cf defines. */
static void check_names(struct check *k, const struct conf *conf, const struct master_cf *cf)
{
	struct str *all;
	size_t n = 0;

	for (size_t i = 0; i < cf->count; i++)
		n += cf->services[i].override_count;
	all = mem_alloc((n + 1) * sizeof(*all));
	n = 0;
	for (size_t i = 0; i < cf->count; i++)
		for (size_t j = 0; j < cf->services[i].override_count; j++)
			all[n++] = cf->services[i].overrides[j];
	conf_each_name(conf, all, n, name_finding, k);
	conf_each_undefined(conf, undefined_finding, k);
	free(all);
	for (size_t i = 0; i < cf->count; i++)
		check_service(k, conf, &cf->services[i]);
}

static void warning_finding(void *ctx, const char *text)
{
	finding(ctx, LEVEL_WARNING, "%s", text);
}

static void error_finding(void *ctx, const char *text)
{
	finding(ctx, LEVEL_ERROR, "%s", text);
}

static void check_service_values(struct check *k, const struct conf *conf, const struct master_service *s,
				 const char *file)
{
	struct conf *own = s->override_count > 0 ? conf_override(conf, s->overrides, s->override_count, NULL) : NULL;
	char *name = str_dup(s->name);
	struct values_told told = {
		.tell = warning_finding, .refuse = error_finding, .ctx = k, .file = file, .service = name};

	if (own != NULL)
		check_values(own, &told);
	conf_unref(&own);
	free(name);
}

/* TLS without a certificate is no TLS: who may not do without it is not served at all. */
static void check_certificate(struct check *k, const struct conf *conf, const struct master_service *s)
{
	enum { ENCRYPT = 2 }; /* in the order of the parameter's words */
	struct conf *own = conf_override(conf, s->overrides, s->override_count, NULL);
	bool imap = is_by(s, "imap"), pop3 = is_by(s, "pop3"), smtp = is_by(s, "smtpd") || is_by(s, "lmtp");
	const char *name = NULL;

	if (own == NULL || own->smtpd_tls_cert_file.len + own->smtpd_tls_chain_files.len > 0)
		name = NULL;
	else if (imap && own->imap_tls_wrappermode)
		name = "imap_tls_wrappermode";
	else if (pop3 && own->pop3_tls_wrappermode)
		name = "pop3_tls_wrappermode";
	else if (smtp && own->smtpd_tls_wrappermode)
		name = "smtpd_tls_wrappermode";
	else if (is_by(s, "smtpd") && own->smtpd_tls_security_level == ENCRYPT)
		name = "smtpd_tls_security_level";
	if (name != NULL)
		finding(k, LEVEL_WARNING,
			"service %.*s: %s demands TLS, and smtpd_tls_cert_file names no certificate: nobody is served",
			STR_ARG(s->name), name);
	conf_unref(&own);
}

/* A master.cf without lines is in order, and nobody's wish. */
static void check_listeners(struct check *k, const struct conf *conf, const struct master_cf *cf)
{
	bool any = false;

	for (size_t i = 0; i < cf->count; i++)
		any = any || bundle_is_listener(&cf->services[i]);
	for (size_t i = 0; i < cf->count; i++)
		check_certificate(k, conf, &cf->services[i]);
	if (!any)
		finding(k, LEVEL_WARNING, "%s/%s: no service takes mail, or gives it to readers", k->dir,
			INSTANCE_MASTER_CF);
}

static void check_all_values(struct check *k, const struct conf *conf, const struct master_cf *cf)
{
	char *main_cf = mem_printf("%s/%s", k->dir, INSTANCE_MAIN_CF),
	     *master_cf = mem_printf("%s/%s", k->dir, INSTANCE_MASTER_CF);
	struct values_told told = {.tell = warning_finding, .refuse = error_finding, .ctx = k, .file = main_cf};

	check_values(conf, &told);
	check_values_together(conf, &told);
	for (size_t i = 0; i < cf->count; i++)
		check_service_values(k, conf, &cf->services[i], master_cf);
	free(main_cf);
	free(master_cf);
}

/* ---- files ---- */

/* Bits of `forbidden` that the file must not have. A file that is not there is somebody else's finding. */
static void check_mode(struct check *k, const char *path, unsigned forbidden, const char *why)
{
	struct stat st;

	if (stat(path, &st) < 0) {
		if (errno != ENOENT)
			finding(k, LEVEL_WARNING, "%s: %s", path, strerror(errno));
		return;
	}
	if ((st.st_mode & forbidden) != 0)
		finding(k, LEVEL_ERROR, "%s (mode %04o) %s: chmod %04o %s", path, (unsigned)st.st_mode & 07777, why,
			(unsigned)st.st_mode & 07777 & ~forbidden, path);
}

static char *absolute(const char *dir, struct str path)
{
	return path.len > 0 && path.ptr[0] == '/' ? str_dup(path) : mem_printf("%s/%.*s", dir, STR_ARG(path));
}

static void check_key_files(struct check *k, struct str list)
{
	struct str path;

	while (conf_list_next(&list, &path)) {
		char *file = absolute(k->dir, path);

		check_mode(k, file, S_IRWXO, "holds a secret key that others may read");
		free(file);
	}
}

/* What stands in the file is as good as the key. */
static void check_password_files(struct check *k, struct str list)
{
	struct str item, type, name;
	struct stat st;

	while (conf_list_next(&list, &item)) {
		char *file;

		while (str_starts(item, STR("proxy:")))
			item = str_skip(item, 6);
		if (!str_split(item, ':', &type, &name) || name.len == 0 || name.ptr[0] != '/')
			continue;
		file = str_dup(name);
		if (stat(file, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_IRWXO) != 0)
			finding(k, LEVEL_WARNING, "%s (mode %04o) holds passwords that others may read: chmod %04o %s",
				file, (unsigned)st.st_mode & 07777, (unsigned)st.st_mode & 07777 & ~(unsigned)S_IRWXO,
				file);
		free(file);
	}
}

static void check_files(struct check *k, const struct conf *conf)
{
	static const char *const written[] = {INSTANCE_MAIN_CF, INSTANCE_MASTER_CF};
	static const char *const secret[] = {INSTANCE_DIRECTORY_DIR, INSTANCE_DIRECTORY, INSTANCE_TLS_KEY};
	char *path;

	check_mode(k, k->dir, S_IWOTH, "may be changed by everybody");
	for (size_t i = 0; i < ARRAY_SIZE(written); i++) {
		path = mem_printf("%s/%s", k->dir, written[i]);
		check_mode(k, path, S_IWOTH, "may be changed by everybody");
		free(path);
	}
	for (size_t i = 0; i < ARRAY_SIZE(secret); i++) {
		path = mem_printf("%s/%s", k->dir, secret[i]);
		check_mode(k, path, S_IRWXO, "holds secrets that others may read");
		free(path);
	}
	if (conf != NULL) {
		check_key_files(k, conf->smtpd_tls_key_file);
		check_key_files(k, conf->smtpd_tls_chain_files);
		check_key_files(k, conf->smtp_tls_key_file);
		check_key_files(k, conf->smtp_tls_chain_files);
		check_password_files(k, conf->smtp_sasl_password_maps);
		check_password_files(k, conf->alert_relayhost_sasl_password_maps);
	}
}

/* ---- destinations ---- */

static bool is_known(struct db *db, struct str name)
{
	struct arena arena;
	struct domain d;
	bool known;

	arena_init(&arena);
	known = domain_get(db, name, &arena, &d, NULL) != 0;
	arena_release(&arena);
	return known;
}

/* Whose users a Postfix finds in /etc/passwd. That nobody told us of them is found out by whoever writes to them. */
static void check_destinations(struct check *k, const struct conf *conf)
{
	char *path = mem_printf("%s/%s", k->dir, INSTANCE_DIRECTORY);
	struct str list = conf->mydestination, item;
	struct db *db = NULL;
	struct buf unknown;

	buf_init(&unknown, 4096);
	if (conf_is_set(conf, STR("mydestination")) && db_open(path, 0, &db, NULL) == 0)
		while (conf_list_next(&list, &item))
			if (domain_is_valid(item) && !str_ieq(item, STR("localhost")) &&
			    !str_istarts(item, STR("localhost.")) && !str_ieq(item, STR("localdomain")) &&
			    !is_known(db, item))
				buf_addf(&unknown, "%s%.*s", unknown.len > 0 ? ", " : "", STR_ARG(item));
	if (unknown.len > 0)
		finding(k, LEVEL_WARNING,
			"mydestination: users of this machine get no mail at %s: mail for who is in no alias_maps is "
			"refused, "
			"but for users of ours (postrider domain add, postrider user add)",
			unknown.ptr);
	db_close(&db);
	buf_release(&unknown);
	free(path);
}

/* ---- accounts ---- */

/* Those that processes become: a system that root starts needs them. */
static void check_accounts(struct check *k, const struct conf *conf)
{
	const struct {
		const char *name;
		struct str account;
	} all[] = {{"mail_owner", conf->mail_owner},
		   {"directory_owner", conf->directory_owner},
		   {"queue_owner", conf->queue_owner},
		   {"store_owner", conf->store_owner}};

	for (size_t i = 0; geteuid() == 0 && i < ARRAY_SIZE(all); i++) {
		char *account = str_dup(all[i].account);
		const struct passwd *pw = getpwnam(account);

		if (pw == NULL)
			finding(k, LEVEL_ERROR,
				"%s: this machine has no account \"%s\": useradd --system --shell %s %s", all[i].name,
				account, "/usr/sbin/nologin", account);
		else if (pw->pw_uid == 0)
			finding(k, LEVEL_ERROR, "%s: \"%s\" is root, whose rights no process needs", all[i].name,
				account);
		free(account);
	}
}

/* ---- copies ---- */

static void check_copies(struct check *k, const struct conf *conf)
{
	struct str text = str_trim(conf->always_bcc), rest;
	struct err err = ERR_NONE;
	struct address a;
	struct arena arena;

	if (text.len == 0)
		return;
	arena_init(&arena);
	if (address_parse_path(arena_printf(&arena, "<%.*s>", STR_ARG(text)), ADDRESS_UTF8, &arena, &a, &rest, &err) <
		    0 ||
	    rest.len > 0 || a.local.len == 0)
		finding(k, LEVEL_WARNING, "always_bcc: \"%.*s\" is no single address: no mail is taken", STR_ARG(text));
	arena_release(&arena);
}

/* ---- notifications ---- */

static void check_templates(struct check *k, const struct conf *conf)
{
	struct err err = ERR_NONE;
	struct bounce_templates *t;
	struct str rest, line;
	struct buf warnings;

	buf_init(&warnings, 65536);
	t = cf_read_templates(conf, NULL, &warnings, &err);
	if (t == NULL)
		finding(k, LEVEL_ERROR, "bounce_template_file: %s", err.text);
	rest = buf_str(&warnings);
	while (str_token(&rest, "\n", &line))
		finding(k, LEVEL_WARNING, "%.*s", STR_ARG(line));
	bounce_templates_unref(&t);
	buf_release(&warnings);
}

/* ---- all of it ---- */

static struct conf *check_main(struct check *k)
{
	struct err err = ERR_NONE;
	struct conf *conf = cf_read_main(k->dir, false, NULL, &err);

	if (conf == NULL)
		finding(k, LEVEL_ERROR, "%s", err.text);
	return conf;
}

static bool check_master(struct check *k, struct arena *arena, struct master_cf *cf)
{
	struct err err = ERR_NONE;
	char *path, *text = cf_read_file(k->dir, INSTANCE_MASTER_CF, &path, &err);
	bool ok = text != NULL && master_cf_parse(arena_str(arena, str_from(text)), path, arena, cf, &err) == 0;

	if (!ok)
		finding(k, LEVEL_ERROR, "%s", err.text);
	free(text);
	free(path);
	return ok;
}

/* Lines of tables that do not count, as a start tells them. */
static void check_tables(struct check *k, const struct bundle *b)
{
	struct table_files *files;
	struct str rest, line;
	struct buf warnings;

	buf_init(&warnings, 1 << 20);
	files = bundle_read_tables(b, k->dir, &warnings, NULL);
	rest = buf_str(&warnings);
	while (str_token(&rest, "\n", &line))
		finding(k, LEVEL_WARNING, "%.*s", STR_ARG(line));
	table_files_free(&files);
	buf_release(&warnings);
}

/* What master would refuse: certificates, keys, services. Told last, for the other checks say it better. */
static void check_whole(struct check *k)
{
	struct err err = ERR_NONE;
	struct bundle *b;

	if (k->count[LEVEL_ERROR] > 0)
		return;
	b = bundle_read(k->dir, NULL, &err);
	if (b == NULL)
		finding(k, LEVEL_ERROR, "%s", err.text);
	else
		check_tables(k, b);
	bundle_unref(&b);
}

static int result(struct check *k)
{
	if (k->json != NULL) {
		json_t *all = json_pack("{s:b, s:o}", "ok", k->count[LEVEL_ERROR] == 0, "findings", k->json);

		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(all);
	} else {
		printf("%s: %u errors, %u warnings, %u notes\n", k->dir, k->count[LEVEL_ERROR], k->count[LEVEL_WARNING],
		       k->count[LEVEL_NOTE]);
	}
	return k->count[LEVEL_ERROR] > 0 ? EX_CONFIG : EX_OK;
}

int cmd_check(struct cmd *c)
{
	struct check k = {.dir = c->dir, .json = c->json ? json_array() : NULL};
	struct master_cf cf;
	struct arena arena;
	struct conf *conf;

	if (c->argc > 0)
		return cmd_usage(c);
	arena_init(&arena);
	conf = check_main(&k);
	if (check_master(&k, &arena, &cf) && conf != NULL) {
		check_names(&k, conf, &cf);
		check_listeners(&k, conf, &cf);
		check_restrictions(&k, conf, &cf);
		check_transports(k.dir, conf, &cf, warning_finding, &k);
		check_all_values(&k, conf, &cf);
	}
	check_files(&k, conf);
	if (conf != NULL) {
		check_templates(&k, conf);
		check_copies(&k, conf);
		check_destinations(&k, conf);
		check_accounts(&k, conf);
	}
	check_whole(&k);
	conf_unref(&conf);
	arena_release(&arena);
	return result(&k);
}
