/* The SMTP and LMTP protocols of the engine: from the greeting to the last word, and which line is whose.
 *
 *	open -> unit* -> close          a unit is one command line, or one line of an AUTH exchange
 *	         |  \-> bulk            the body of DATA or of one BDAT chunk, collected by the engine
 *	         \----> secured         STARTTLS: everything said before is forgotten
 *
 * The body never passes through unit(): after 354 the engine feeds the filter, so that no byte of a message
 * can be taken for a command, whatever the client does with its line ends. */
#include "base/log.h"
#include "smtp/smtp.h"

/* ---- commands -------------------------------------------------------------------------------------------- */

/* IN_CLEAR: also where smtpd_tls_security_level is encrypt (RFC 3207 4). BDAT is among them because its bytes follow
 * whatever is said; it has no transaction to add to. */
enum { FOR_SMTP = 1, FOR_LMTP = 2, JUNK = 4, IN_CLEAR = 8, FOR_LOCAL = 16 };

static const struct command {
	const char *name;
	enum smtp_command id;
	smtp_command_fn *fn;
	unsigned flags;
} commands[] = {
	{"HELO", CMD_HELO, smtp_cmd_helo, FOR_LOCAL | FOR_SMTP | IN_CLEAR},
	{"EHLO", CMD_EHLO, smtp_cmd_ehlo, FOR_LOCAL | FOR_SMTP | IN_CLEAR},
	{"LHLO", CMD_LHLO, smtp_cmd_lhlo, FOR_LMTP | IN_CLEAR},
	{"STARTTLS", CMD_STARTTLS, smtp_cmd_starttls, FOR_SMTP | FOR_LMTP | IN_CLEAR},
	{"AUTH", CMD_AUTH, smtp_cmd_auth, FOR_SMTP},
	{"MAIL", CMD_MAIL, smtp_cmd_mail, FOR_LOCAL | FOR_SMTP | FOR_LMTP},
	{"RCPT", CMD_RCPT, smtp_cmd_rcpt, FOR_LOCAL | FOR_SMTP | FOR_LMTP},
	{"DATA", CMD_DATA, smtp_cmd_data, FOR_LOCAL | FOR_SMTP | FOR_LMTP},
	{"BDAT", CMD_BDAT, smtp_cmd_bdat, FOR_LOCAL | FOR_SMTP | FOR_LMTP | IN_CLEAR},
	{"RSET", CMD_RSET, smtp_cmd_rset, FOR_LOCAL | FOR_SMTP | FOR_LMTP | JUNK},
	{"NOOP", CMD_NOOP, smtp_cmd_noop, FOR_LOCAL | FOR_SMTP | FOR_LMTP | JUNK | IN_CLEAR},
	{"VRFY", CMD_VRFY, smtp_cmd_vrfy, FOR_LOCAL | FOR_SMTP | FOR_LMTP | JUNK},
	{"ETRN", CMD_ETRN, smtp_cmd_etrn, FOR_SMTP | JUNK},
	{"QUIT", CMD_QUIT, smtp_cmd_quit, FOR_LOCAL | FOR_SMTP | FOR_LMTP | IN_CLEAR},
	{"HELP", CMD_HELP, smtp_cmd_help, FOR_LOCAL | FOR_SMTP | FOR_LMTP | JUNK},
	{"EXPN", CMD_EXPN, smtp_cmd_expn, FOR_SMTP | FOR_LMTP | JUNK},
	{"XUSER", CMD_XUSER, smtp_cmd_xuser, FOR_LOCAL},
	{"XLOCAL", CMD_XLOCAL, smtp_cmd_xlocal, FOR_LOCAL},
};

static const struct command *command_find(const struct smtp_session *c, struct str verb)
{
	unsigned wanted = c->local ? FOR_LOCAL : c->lmtp ? FOR_LMTP : FOR_SMTP;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (str_ieq(verb, str_from(commands[i].name)))
			return commands[i].flags & wanted ? &commands[i] : NULL;
	return NULL;
}

/* A browser, a proxy or a TLS hello, not a mail client: nothing that follows can make sense. */
static bool is_foreign(const struct smtp_session *c, struct str verb)
{
	return (verb.len > 0 && !ascii_alpha(verb.ptr[0])) || conf_list_ihas(c->conf->smtpd_forbidden_commands, verb);
}

static enum next reply_foreign(struct smtp_session *c, struct str line)
{
	smtp_log(c, "warning: non-SMTP command from %.*s: %.*s", STR_ARG(c->client), STR_ARG(str_sub(line, 0, 100)));
	c->ending = true;
	c->failures[CMD_UNKNOWN]++;
	smtp_notice_trouble(c, 500, "5.5.2");
	smtp_reply_line(c, 221, "2.7.0", STR("Error: I can break rules, too. Goodbye."));
	return NEXT_CLOSE;
}

static enum next run_command(struct smtp_session *c, struct str line)
{
	const struct command *cmd;
	struct str verb, args;

	smtp_line_split(line, &verb, &args);
	cmd = command_find(c, verb);
	c->command = cmd != NULL ? cmd->id : CMD_UNKNOWN;
	c->where = cmd != NULL ? cmd->name : "UNKNOWN";
	if (!session_is_again(c->s))
		c->counts[c->command]++;
	if (cmd == NULL && is_foreign(c, verb))
		return reply_foreign(c, line);
	if (c->command == CMD_BDAT) /* its bytes follow whatever is wrong with the line: only it can tell how many */
		return cmd->fn(c, args);
	if (!smtp_line_is_clean(line) || verb.len == 0)
		return smtp_reply(c, 500, "5.5.2", "Error: bad syntax");
	if (line.len > (size_t)c->conf->line_length_limit && c->command != CMD_AUTH)
		return smtp_reply(c, 500, "5.5.2", "Error: command line too long");
	if (cmd == NULL)
		return smtp_reply(c, 502, "5.5.2", "Error: command not recognized");
	if (!(cmd->flags & IN_CLEAR) && smtp_tls_is_missing(c))
		return smtp_reply(c, 530, "5.7.0", "Must issue a STARTTLS command first");
	if ((cmd->flags & JUNK) && c->junk++ >= (unsigned)c->conf->smtpd_junk_command_limit) {
		c->errors++;
		if (c->errors >= (unsigned)c->conf->smtpd_hard_error_limit)
			return smtp_reply(c, 502, "5.5.0", "Error: too many commands without mail");
	}
	return cmd->fn(c, args);
}

/* ---- the engine's side ----------------------------------------------------------------------------------- */

static struct smtp_session *state(struct session *s)
{
	return session_state(s);
}

/* $syslog_name without what -o put behind it (that is part of the service's name), then Postfix's program. With
 * syslog_name = postfix the tools made for Postfix's log need no setting of their own. */
static void name_log(struct smtp_session *c)
{
	struct str base = c->conf->syslog_name, after;

	str_split(base, '/', &base, &after);
	c->log_service = c->service->name != NULL ? c->service->name : "smtpd";
	c->log_name = arena_printf(&c->arena, "%.*s/%s", STR_ARG(base), c->log_service).ptr;
	c->log_cleanup = arena_printf(&c->arena, "%.*s/cleanup", STR_ARG(base)).ptr;
	c->log_qmgr = arena_printf(&c->arena, "%.*s/qmgr", STR_ARG(base)).ptr;
	c->log_virtual = arena_printf(&c->arena, "%.*s/virtual", STR_ARG(base)).ptr;
}

static bool smtp_admit(struct session *s)
{
	struct conf *conf = service_conf(session_service(s));
	bool admitted = service_admits(conf, s, conf->smtpd_client_connection_count_limit);

	service_transcribe(conf, s);
	if (conf->smtpd_per_request_deadline)
		session_set_deadline(s, conf->smtpd_timeout, conf->smtpd_min_data_rate);
	if (!admitted)
		session_printf(s, "421 4.7.0 %.*s Error: too many connections from %s\r\n", STR_ARG(conf->myhostname),
			       session_peer_text(s));
	conf_unref(&conf);
	return admitted;
}

static void announce(struct smtp_session *c)
{
	smtp_log(c, "connect from %.*s", STR_ARG(c->client));
	c->greeted = true;
}

static enum next greet(struct smtp_session *c)
{
	struct err err = ERR_NONE;

	session_set_timeout(c->s, c->conf->smtpd_timeout);
	announce(c);
	if (smtp_limit_check(c, EVENT_CONNECTION, &err) < 0)
		return smtp_reply_close(c, "4.7.0", err.text);
	smtp_reply_line(c, 220, "", c->conf->smtpd_banner);
	return NEXT_UNIT;
}

/* The client's name has come. */
static enum next smtp_change(struct session *s)
{
	struct smtp_session *c = state(s);

	if (!smtp_peername_is_known(c))
		return NEXT_UNIT;
	smtp_peername_take(c);
	session_look_again(s);
	return greet(c);
}

enum dialect { DIALECT_SMTP, DIALECT_LMTP, DIALECT_LOCAL };

static enum next open_any(struct session *s, enum dialect dialect)
{
	struct smtp_session *c = state(s);

	c->s = s;
	c->service = session_service(s);
	c->server = c->service->server;
	c->conf = service_conf(c->service);
	c->env = (struct deliver_env){.store = c->server->store,
				      .queue = queue_client_channel(c->server->queue),
				      .queue_client = c->server->queue};
	c->lmtp = dialect == DIALECT_LMTP;
	c->local = dialect == DIALECT_LOCAL;
	c->where = "CONNECT";
	c->helo = c->user = c->method = STR("");
	arena_init(&c->arena);
	arena_init(&c->auth_arena);
	arena_init(&c->mail.arena);
	c->mail.content = CONTENT_NONE;
	c->mail.sender = c->mail.queue_id = STR("");
	name_log(c);
	smtp_notice_begin(c);
	session_set_timeout(s, c->conf->smtpd_timeout);
	if (!c->local)
		return smtp_peername_begin(c) ? greet(c) : NEXT_UNIT;
	if (!smtp_local_open(c))
		return NEXT_CLOSE;
	c->client_name = c->reverse_name = STR("localhost");
	c->client = arena_printf(&c->arena, "localhost[uid %u]", c->uid);
	smtp_reply_line(c, 220, "", c->conf->smtpd_banner);
	return NEXT_UNIT;
}

static enum next smtp_open(struct session *s)
{
	return open_any(s, DIALECT_SMTP);
}

static enum next lmtp_open(struct session *s)
{
	return open_any(s, DIALECT_LMTP);
}

static enum next local_open(struct session *s)
{
	return open_any(s, DIALECT_LOCAL);
}

static ssize_t smtp_frame(struct session *s, struct str in, size_t *scanned)
{
	bool waits = state(s)->peername != NULL;
	const char *nl = in.len > *scanned ? memchr(in.ptr + *scanned, '\n', in.len - *scanned) : NULL;
	size_t len = nl != NULL ? (size_t)(nl - in.ptr) + 1 : in.len;

	/* Who speaks before he is greeted waits. */
	if (waits)
		return FRAME_MORE;
	*scanned = in.len;
	if (len > SMTP_AUTH_LINE_MAX + 2) {
		state(s)->command = str_istarts(in, STR("BDAT")) ? CMD_BDAT : CMD_UNKNOWN;
		return FRAME_TOO_LONG;
	}
	return nl != NULL ? (ssize_t)len : FRAME_MORE;
}

/* No transcript shows a log-in: its lines, what stands behind AUTH, and what a client that does not wait to hear that
 * it was refused says next, which is no command. */
static void hide_login(struct smtp_session *c, struct str unit, struct str line)
{
	struct str verb, args;

	smtp_line_split(line, &verb, &args);
	if (c->auth_state != AUTH_IDLE || (c->counts[CMD_AUTH] > 0 && command_find(c, verb) == NULL))
		session_transcript_hide(c->s, 0);
	else if (str_ieq(verb, STR("AUTH")))
		session_transcript_hide(c->s, args.len > 0 ? (size_t)(args.ptr - unit.ptr) : unit.len);
}

static enum next smtp_unit(struct session *s, struct str unit)
{
	struct smtp_session *c = state(s);
	bool bare;
	struct str line = smtp_line_strip(unit, &bare);

	hide_login(c, unit, line);
	smtp_confirm(c);
	if (bare && smtp_rejects_bare_lf(c)) {
		smtp_log(c, "warning: bare <LF> received after %s from %.*s", c->where, STR_ARG(c->client));
		c->ending = true;
		smtp_notice_trouble(c, 521, "5.5.2");
		smtp_reply_line(c, 521, "5.5.2", STR("Error: bare <LF> received"));
		return NEXT_CLOSE;
	}
	if (c->auth_state != AUTH_IDLE)
		return smtp_auth_line(c, line);
	return run_command(c, line);
}

static enum next smtp_too_long(struct session *s)
{
	struct smtp_session *c = state(s);

	if (c->peername)
		return NEXT_CLOSE;
	session_skip_line(s);
	if (c->auth_state != AUTH_IDLE) {
		smtp_auth_reset(c);
		return smtp_reply(c, 500, "5.5.6", "Authentication exchange line is too long");
	}
	c->where = "UNKNOWN";
	c->counts[c->command]++;
	if (c->command == CMD_BDAT) { /* what is behind the line is no commands, and nobody knows how much it is */
		c->ending = true;
		smtp_reply(c, 521, "5.5.2", "Error: line too long");
		return NEXT_CLOSE;
	}
	return smtp_reply(c, 500, "5.5.2", "Error: line too long");
}

static enum next smtp_bulk(struct session *s)
{
	struct smtp_session *c = state(s);

	return c->command == CMD_BDAT ? smtp_bdat_bulk(c) : smtp_data_bulk(c);
}

static enum next smtp_secured(struct session *s)
{
	struct smtp_session *c = state(s);
	struct session_tls info;

	smtp_session_forget(c);
	if (session_tls_info(s, &info))
		log_debug("TLS connection established from %.*s: %s with cipher %s", STR_ARG(c->client), info.protocol,
			  info.cipher);
	return NEXT_UNIT;
}

static enum next smtp_timeout(struct session *s)
{
	struct smtp_session *c = state(s);

	if (c->peername) {
		smtp_peername_take(c);
		session_look_again(s);
		return greet(c);
	}
	smtp_log(c, "timeout after %s from %.*s", c->where, STR_ARG(c->client));
	return smtp_reply_close(c, "4.4.2", "Error: timeout exceeded");
}

static enum next smtp_stop(struct session *s)
{
	return smtp_reply_close(state(s), "4.3.2", "Service shutting down and closing transmission channel");
}

static struct tls_context *smtp_tls(struct session *s)
{
	return service_tls(session_service(s));
}

static void smtp_close(struct session *s)
{
	struct smtp_session *c = state(s);

	if (c->peername) {
		smtp_peername_drop(c);
		announce(c);
	}
	if (!c->greeted && !c->local)
		return;
	if (!c->ending && (!c->local || c->mail.queue_id.len > 0))
		smtp_log(c, "lost connection after %s from %.*s", c->where, STR_ARG(c->client));
	if (!c->local)
		smtp_log_disconnect(c);
	smtp_notice_end(c);
	smtp_session_forget(c);
	if (c->confirm_pending)
		deliver_unheard(&c->env, &c->unconfirmed);
	delivery_done_release(&c->unconfirmed);
	arena_release(&c->mail.arena);
	arena_release(&c->auth_arena);
	arena_release(&c->arena);
	conf_unref(&c->conf);
}

#define PROTOCOL(name_, open_)                                                                                         \
	{                                                                                                              \
		.name = name_, .state_size = sizeof(struct smtp_session), .input_max = SMTP_AUTH_LINE_MAX + 4,         \
		.admit = smtp_admit, .open = open_, .frame = smtp_frame, .unit = smtp_unit, .too_long = smtp_too_long, \
		.bulk = smtp_bulk, .secured = smtp_secured, .change = smtp_change, .timeout = smtp_timeout,            \
		.stop = smtp_stop, .tls = smtp_tls, .close = smtp_close,                                               \
	}

const struct protocol smtp_protocol = PROTOCOL("smtp", smtp_open);
const struct protocol lmtp_protocol = PROTOCOL("lmtp", lmtp_open);
const struct protocol local_protocol = PROTOCOL("local", local_open);
