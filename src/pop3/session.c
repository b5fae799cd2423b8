/* The life of a POP3 connection: greeting, one command after the other, good-bye. */
#include "pop3/session.h"

#include "base/log.h"
#include "base/mem.h"
#include "pop3/wire.h"

#include <stdarg.h>

static const struct pop3_command commands[] = {
	{"AUTH", POP3_AUTHORIZATION, pop3_cmd_auth},
	{"CAPA", POP3_AUTHORIZATION | POP3_TRANSACTION, pop3_cmd_capa},
	{"DELE", POP3_TRANSACTION, pop3_cmd_dele},
	{"LIST", POP3_TRANSACTION, pop3_cmd_list},
	{"NOOP", POP3_TRANSACTION, pop3_cmd_noop},
	{"PASS", POP3_AUTHORIZATION, pop3_cmd_pass},
	{"QUIT", POP3_AUTHORIZATION | POP3_TRANSACTION, pop3_cmd_quit},
	{"RETR", POP3_TRANSACTION, pop3_cmd_retr},
	{"RSET", POP3_TRANSACTION, pop3_cmd_rset},
	{"STAT", POP3_TRANSACTION, pop3_cmd_stat},
	{"STLS", POP3_AUTHORIZATION, pop3_cmd_stls},
	{"TOP", POP3_TRANSACTION, pop3_cmd_top},
	{"UIDL", POP3_TRANSACTION, pop3_cmd_uidl},
	{"USER", POP3_AUTHORIZATION, pop3_cmd_user},
};

/* ---- replies ---- */

static void reply(struct pop3_session *s, const char *indicator, const char *fmt, va_list args)
{
	char text[400];
	int n = vsnprintf(text, sizeof(text), fmt, args);

	/* RFC 2449 4: a reply is one line; what a user or another process said may not add one. */
	for (int i = 0; i < n && text[i]; i++) {
		if ((unsigned char)text[i] < ' ')
			text[i] = '?';
	}
	session_printf(s->io, "%s %s\r\n", indicator, text);
}

enum next pop3_ok(struct pop3_session *s, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	reply(s, "+OK", fmt, args);
	va_end(args);
	s->bad_commands = 0;
	return NEXT_UNIT;
}

enum next pop3_err(struct pop3_session *s, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	reply(s, "-ERR", fmt, args);
	va_end(args);
	return NEXT_UNIT;
}

enum next pop3_bad(struct pop3_session *s, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	reply(s, "-ERR", fmt, args);
	va_end(args);
	s->bad_commands++;
	return pop3_after_bad(s);
}

/* One reply a command (RFC 1939 3): the log tells why the connection ends. */
enum next pop3_after_bad(struct pop3_session *s)
{
	if (s->bad_commands <= POP3_BAD_MAX)
		return NEXT_UNIT;
	log_info("pop3: too many errors from %s", session_peer_text(s->io));
	return NEXT_CLOSE;
}

/* ---- units ---- */

static enum next run_command(struct pop3_session *s, struct str line)
{
	struct str name, args;

	pop3_line_split(line, &name, &args);
	if (str_ieq(name, STR("PASS")) || str_ieq(name, STR("AUTH")))
		session_transcript_hide(s->io, 5);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!str_ieq(name, str_from(commands[i].name)))
			continue;
		if (commands[i].states & s->state)
			return commands[i].run(s, args);
		return pop3_bad(s, s->state == POP3_AUTHORIZATION ? "Log in first." : "You are logged in already.");
	}
	return pop3_bad(s, "Unknown command.");
}

static ssize_t pop3_frame(struct session *io, struct str in, size_t *scanned)
{
	struct pop3_session *s = pop3_of(io);
	size_t max = POP3_LINE_MAX;
	ssize_t len;

	/* An AUTH command may carry its initial response (RFC 5034 4). */
	if (s->mode == POP3_MODE_SASL || str_istarts(in, STR("AUTH ")))
		max = POP3_AUTH_LINE_MAX;
	len = pop3_line_find(in, max, scanned);
	return len > 0 ? len : len < 0 ? FRAME_TOO_LONG : FRAME_MORE;
}

static enum next pop3_unit(struct session *io, struct str unit)
{
	struct pop3_session *s = pop3_of(io);

	if (s->mode == POP3_MODE_SASL) {
		session_transcript_hide(io, 0);
		return pop3_sasl_line(s, str_trim(unit));
	}
	return run_command(s, unit);
}

static enum next pop3_too_long(struct session *io)
{
	session_write(io, STR("-ERR Line too long.\r\n"));
	return NEXT_CLOSE;
}

/* ---- life ---- */

static bool pop3_admit(struct session *io)
{
	struct conf *conf = service_conf(session_service(io));
	bool admitted = service_admits(conf, io, conf->pop3_client_connection_count_limit);

	service_transcribe(conf, io);
	session_set_deadline(io, conf->pop3_request_timeout, conf->pop3_min_data_rate);
	if (!admitted)
		session_printf(io, "-ERR [SYS/TEMP] Too many connections from %s.\r\n", session_peer_text(io));
	conf_unref(&conf);
	return admitted;
}

static enum next pop3_open(struct session *io)
{
	struct pop3_session *s = pop3_of(io);

	s->io = io;
	s->service = session_service(io);
	s->server = s->service->server;
	s->conf = service_conf(s->service);
	s->state = POP3_AUTHORIZATION;
	login_init(&s->login, "pop3");
	session_set_timeout(io, s->conf->pop3_timeout);
	return pop3_ok(s, "%.*s ready.", STR_ARG(s->conf->mail_name));
}

static enum next pop3_secured(struct session *io)
{
	struct pop3_session *s = pop3_of(io);

	free(s->user_given); /* RFC 2595 4: nothing said before TLS is kept */
	s->user_given = NULL;
	return NEXT_UNIT;
}

static enum next pop3_timed_out(struct session *io)
{
	session_write(io, STR("-ERR [SYS/TEMP] Disconnected for inactivity.\r\n"));
	return NEXT_CLOSE;
}

static enum next pop3_stop(struct session *io)
{
	session_write(io, STR("-ERR [SYS/TEMP] Server shutting down.\r\n"));
	return NEXT_CLOSE;
}

static struct tls_context *pop3_tls(struct session *io)
{
	return service_tls(session_service(io)); /* may run before pop3_open() */
}

static void pop3_close(struct session *io)
{
	struct pop3_session *s = pop3_of(io);
	struct dir_session_end end = {.session = session_id(io)};

	if (s->io == NULL)
		return;
	if (s->state == POP3_AUTHORIZATION)
		login_log_failures(&s->login, io, "Connection closed");
	if (s->session_named)
		(void)rpc_send(s->server->directory, &DIR_SESSION_END, &end);
	pop3_retrieval_free(s);
	login_release(&s->login);
	free(s->user_given);
	free(s->messages);
	conf_unref(&s->conf);
}

const struct protocol pop3_protocol = {
	.name = "pop3",
	.state_size = sizeof(struct pop3_session),
	.input_max = POP3_AUTH_LINE_MAX + 2,
	.admit = pop3_admit,
	.open = pop3_open,
	.frame = pop3_frame,
	.unit = pop3_unit,
	.too_long = pop3_too_long,
	.secured = pop3_secured,
	.timeout = pop3_timed_out,
	.stop = pop3_stop,
	.tls = pop3_tls,
	.close = pop3_close,
};
