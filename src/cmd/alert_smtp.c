/* alert_smtp - see alert_smtp.h. The child speaks, in its jail, by the same client as relay (relay/remote.h), and tells
 * the parent one sentence by a pipe. What it needs of the disk (trusted certificates, the table with the password) is
 * read before the jail; names are never asked for. */
#include "cmd/alert_smtp.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/vec.h"
#include "cmd/map.h"
#include "os/fd.h"
#include "os/sandbox.h"
#include "proc/bundle.h"
#include "relay/remote.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

int alert_relayhost_parse(struct str text, struct net_addr *a_r, struct err *err)
{
	struct str host = text, rest = STR_NULL;
	ptrdiff_t end = str_rchr(text, ']'), colon = str_rchr(text, ':');
	uint32_t port = 25;

	if (end >= 0) {
		host = str_sub(text, 0, (size_t)end + 1);
		rest = str_skip(text, (size_t)end + 1);
	} else if (colon >= 0 && str_chr(text, ':') == colon) {
		host = str_sub(text, 0, (size_t)colon);
		rest = str_skip(text, (size_t)colon);
	}
	if ((rest.len && (rest.ptr[0] != ':' || !str_to_u32(str_skip(rest, 1), &port))) || port == 0 || port > 65535 ||
	    !net_addr_parse(host, (uint16_t)port, a_r))
		return err_set(err, ERR_PERM, "",
			       "alert_relayhost = %.*s: it takes an address, as 192.0.2.1:587 or [2001:db8::1]:587, "
			       "because a name needs a resolver that works",
			       STR_ARG(text));
	return 0;
}

/* ---- before the jail ---- */

struct path {
	struct conf *conf; /* with what is relay's set as alert_relayhost wants it */
	struct str nexthop;
	struct arena arena;
	struct map_files files;
	VEC(struct table *) passwords;
	struct remote *remote;
};

/* smtp_NAME of main.cf holds, but for what alert_relayhost_NAME says, and what would need a resolver or a table. */
static struct conf *path_conf(const struct conf *c, struct arena *arena, struct err *err)
{
	static const char *const times[] = {"connect", "helo",	    "starttls",	 "mail",      "rcpt",
					    "rset",    "data_init", "data_xfer", "data_done", "quit"};
	struct str settings[32];
	struct buf level;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		settings[n++] = arena_printf(arena, "smtp_%s_timeout=%llds", times[i],
					     (long long)c->alert_relayhost_timeout / 1000);
	buf_init(&level, 100);
	if (conf_text(c, STR("alert_relayhost_tls_security_level"), &level))
		settings[n++] = arena_printf(arena, "smtp_tls_security_level=%s", level.ptr);
	buf_release(&level);
	settings[n++] =
		arena_printf(arena, "smtp_tls_wrappermode=%s", c->alert_relayhost_tls_wrappermode ? "yes" : "no");
	if (c->alert_relayhost_tls_match.len) {
		settings[n++] =
			arena_printf(arena, "smtp_tls_verify_cert_match=%.*s", STR_ARG(c->alert_relayhost_tls_match));
		settings[n++] =
			arena_printf(arena, "smtp_tls_secure_cert_match=%.*s", STR_ARG(c->alert_relayhost_tls_match));
	}
	settings[n++] = arena_printf(arena, "smtp_sasl_auth_enable=%s",
				     c->alert_relayhost_sasl_password_maps.len ? "yes" : "no");
	settings[n++] = STR("smtp_sasl_password_maps=inline:{x=x}"); /* asked for by lookup() */
	settings[n++] = STR("smtp_sasl_tls_security_options=noanonymous");
	settings[n++] = STR("smtp_sender_dependent_authentication=no");
	settings[n++] = STR("smtp_tls_policy_maps=");
	settings[n++] = STR("smtp_fallback_relay=");
	return conf_override(c, settings, n, err);
}

static int passwords_open(struct path *p, const struct conf *c, struct err *err)
{
	struct str list = c->alert_relayhost_sasl_password_maps, item;

	while (conf_list_next(&list, &item)) {
		struct table *t = table_open(item, &p->files.source, err);

		if (t == NULL)
			return err_context(err, "alert_relayhost_sasl_password_maps");
		vec_push(&p->passwords, t);
	}
	return 0;
}

/* remote_env.lookup: the password, by "[address]:port" or by alert_relayhost as it is written. */
static int lookup(void *ctx, struct str parameter, struct str list, struct str key, struct arena *arena,
		  struct str *value_r, struct err *err)
{
	struct path *p = ctx;
	struct str keys[] = {key, p->conf->alert_relayhost};

	(void)list;
	if (!str_eq(parameter, STR("smtp_sasl_password_maps")))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		for (size_t t = 0; t < p->passwords.n; t++) {
			int rc = table_find(p->passwords.v[t], keys[i], arena, value_r, err);

			if (rc != 0)
				return rc;
		}
	return 0;
}

static bool read_files(struct path *p, const char *dir)
{
	struct err why = ERR_NONE;
	struct bundle *b = bundle_read(dir, NULL, &why);
	bool ok = b != NULL && bundle_remote_tls(b, NULL, p->remote, &why) == 0;

	bundle_unref(&b);
	return ok;
}

/* Who may not read them, or has a configuration with a fault, speaks without: what must be verified is then refused. */
static int trust_files(struct path *p, const char *dir, struct err *err)
{
	static const struct str none[] = {STR("smtp_tls_CAfile="), STR("smtp_tls_CApath="), STR("smtp_tls_cert_file="),
					  STR("smtp_tls_chain_files=")};
	const struct conf *c = p->conf;
	struct conf *without;

	if (c->smtp_tls_CAfile.len + c->smtp_tls_CApath.len + c->smtp_tls_cert_file.len + c->smtp_tls_chain_files.len +
			    c->smtp_tls_trust_anchor_file.len ==
		    0 ||
	    read_files(p, dir))
		return 0;
	if ((without = conf_override(c, none, ARRAY_SIZE(none), err)) == NULL)
		return -1;
	conf_unref(&p->conf);
	p->conf = without;
	return 0;
}

static int path_init(struct path *p, const struct conf *c, const char *dir, const struct net_addr *to, struct err *err)
{
	char text[NET_ADDR_TEXT];

	*p = (struct path){0};
	arena_init(&p->arena);
	map_files_init(&p->files, dir);
	net_addr_text(to, text);
	p->nexthop = arena_printf(&p->arena, "[%s]:%u", text, net_addr_port(to));
	p->conf = path_conf(c, &p->arena, err);
	p->remote = remote_new(&(struct remote_env){.lookup = lookup, .lookup_ctx = p});
	if (p->conf == NULL || passwords_open(p, c, err) < 0)
		return -1;
	return trust_files(p, dir, err);
}

static void path_release(struct path *p)
{
	remote_free(&p->remote);
	for (size_t i = 0; i < p->passwords.n; i++)
		table_free(&p->passwords.v[i]);
	vec_release(&p->passwords);
	map_files_release(&p->files);
	conf_unref(&p->conf);
	arena_release(&p->arena);
}

/* ---- in it ---- */

/* One who has it is enough: the others' refusals would be heard again and again. */
static int deliver(struct path *p, const struct alert_mail *mail, struct err *err)
{
	struct content content = {.place = CONTENT_MEMORY,
				  .bytes = mail->text,
				  .fd = -1,
				  .stored_size = mail->text.len,
				  .size = mail->text.len};
	struct remote_rcpt *rcpts = ARENA_ARRAY(&p->arena, struct remote_rcpt, mail->recipient_count);
	struct remote_job job = {.conf = p->conf,
				 .transport = STR("smtp"),
				 .nexthop = p->nexthop,
				 .queue_id = STR("alert"),
				 .sender = mail->sender,
				 .envid = STR(""),
				 .prefix = STR(""),
				 .content = &content,
				 .rcpts = rcpts,
				 .rcpt_count = mail->recipient_count,
				 .arena = &p->arena};

	for (size_t i = 0; i < mail->text.len; i++)
		content.size += mail->text.ptr[i] == '\n';
	for (size_t i = 0; i < mail->recipient_count; i++)
		rcpts[i] =
			(struct remote_rcpt){.address = mail->recipients[i], .orcpt = STR(""), .notify = NOTIFY_NEVER};
	remote_deliver(p->remote, &job);
	for (size_t i = 0; i < mail->recipient_count; i++)
		if (rcpts[i].outcome == OUTCOME_DELIVERED)
			return 0;
	return err_set(err, ERR_TEMP, "", "%.*s", STR_ARG(rcpts[0].text));
}

/* ---- the process of its own ---- */

static void child(struct path *p, const char *empty_dir, const struct alert_mail *mail, int words) NORETURN;
static void child(struct path *p, const char *empty_dir, const struct alert_mail *mail, int words)
{
	char *account = str_dup(p->conf->mail_owner);
	bool root = getuid() == 0;
	struct err err = ERR_NONE;
	int result, null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	signal(SIGPIPE, SIG_IGN);
	/* The one sentence is all that is said: what the client would log is in it. */
	if (null < 0 || dup2(null, STDERR_FILENO) < 0)
		_exit(2);
	sandbox_enter(&(struct sandbox){.process = "alert",
					.account = root ? account : NULL,
					.chroot_dir = root ? empty_dir : NULL,
					.allow = SANDBOX_CONNECT});
	result = deliver(p, mail, &err);
	if (result < 0 && write(words, err.text, strlen(err.text)) < 0)
		_exit(2);
	_exit(result < 0 ? 1 : 0);
}

static int wait_for_child(pid_t pid, int words, int64_t until_ms, struct err *err)
{
	char text[sizeof(err->text)] = "";
	struct pollfd p = {.fd = words, .events = POLLIN};
	int64_t left;
	ssize_t n;
	int status;

	while ((left = until_ms - clock_ms()) > 0 && poll(&p, 1, (int)left) < 0 && errno == EINTR)
		;
	n = left > 0 ? read(words, text, sizeof(text) - 1) : 0;
	if (left <= 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (left <= 0)
		return err_set(err, ERR_TEMP, "", "no answer within alert_relayhost_timeout");
	return err_set(err, ERR_TEMP, "", "%s", n > 0 ? text : "the process that speaks with the server was ended");
}

static int send_by(struct path *p, const char *empty_dir, const struct alert_mail *mail, struct err *err)
{
	int words[2], result;
	pid_t pid;

	if (pipe2(words, O_CLOEXEC) < 0)
		return err_errno(err, "cannot make a pipe");
	pid = fork();
	if (pid == 0)
		child(p, empty_dir, mail, words[1]);
	close(words[1]);
	result = pid < 0 ? err_errno(err, "cannot start a process")
			 : wait_for_child(pid, words[0], clock_ms() + p->conf->alert_relayhost_timeout + 5000, err);
	close(words[0]);
	return result;
}

int alert_smtp_send(const struct conf *conf, const char *dir, const char *empty_dir, const struct alert_mail *mail,
		    struct err *err)
{
	struct net_addr to;
	struct path p;
	int result;

	if (conf->alert_relayhost.len == 0)
		return err_set(err, ERR_PERM, "", "main.cf does not set alert_relayhost");
	if (alert_relayhost_parse(conf->alert_relayhost, &to, err) < 0)
		return -1;
	result = path_init(&p, conf, dir, &to, err);
	if (result == 0)
		result = send_by(&p, empty_dir, mail, err);
	path_release(&p);
	return result < 0 ? err_context(err, "%.*s", STR_ARG(conf->alert_relayhost)) : 0;
}
