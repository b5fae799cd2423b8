/* The life of a connection: greeting, one command after the other, good-bye. */
#include "imap/session.h"
#include "base/clock.h"
#include "base/mem.h"
#include "imap/reply.h"

#define ANY	  (IMAP_NOT_AUTHENTICATED | IMAP_AUTHENTICATED | IMAP_SELECTED)
#define LOGGED_IN (IMAP_AUTHENTICATED | IMAP_SELECTED)

static const struct imap_command commands[] = {
	{"APPEND", LOGGED_IN, 0, imap_cmd_append},
	{"AUTHENTICATE", IMAP_NOT_AUTHENTICATED, 0, imap_cmd_authenticate},
	{"CAPABILITY", ANY, 0, imap_cmd_capability},
	{"CHECK", IMAP_SELECTED, 0, imap_cmd_check},
	{"CLOSE", IMAP_SELECTED, IMAP_CMD_NO_SYNC, imap_cmd_close},
	{"COPY", IMAP_SELECTED, IMAP_CMD_UID, imap_cmd_copy},
	{"CREATE", LOGGED_IN, 0, imap_cmd_create},
	{"DELETE", LOGGED_IN, 0, imap_cmd_delete},
	{"ENABLE", LOGGED_IN, 0, imap_cmd_enable},
	{"EXAMINE", LOGGED_IN, IMAP_CMD_NO_SYNC, imap_cmd_examine},
	{"EXPUNGE", IMAP_SELECTED, IMAP_CMD_UID, imap_cmd_expunge},
	{"FETCH", IMAP_SELECTED, IMAP_CMD_UID | IMAP_CMD_ONLY_UID_EXPUNGES, imap_cmd_fetch},
	{"ID", ANY, 0, imap_cmd_id},
	{"IDLE", LOGGED_IN, 0, imap_cmd_idle},
	{"LIST", LOGGED_IN, 0, imap_cmd_list},
	{"LOGIN", IMAP_NOT_AUTHENTICATED, 0, imap_cmd_login},
	{"LOGOUT", ANY, IMAP_CMD_NO_SYNC, imap_cmd_logout},
	{"LSUB", LOGGED_IN, 0, imap_cmd_lsub},
	{"MOVE", IMAP_SELECTED, IMAP_CMD_UID, imap_cmd_move},
	{"NAMESPACE", LOGGED_IN, 0, imap_cmd_namespace},
	{"NOOP", ANY, 0, imap_cmd_noop},
	{"RENAME", LOGGED_IN, 0, imap_cmd_rename},
	{"SEARCH", IMAP_SELECTED, IMAP_CMD_UID | IMAP_CMD_ONLY_UID_EXPUNGES, imap_cmd_search},
	{"SELECT", LOGGED_IN, IMAP_CMD_NO_SYNC, imap_cmd_select},
	{"STARTTLS", IMAP_NOT_AUTHENTICATED, 0, imap_cmd_starttls},
	{"STATUS", LOGGED_IN, 0, imap_cmd_status},
	{"STORE", IMAP_SELECTED, IMAP_CMD_UID | IMAP_CMD_ONLY_UID_EXPUNGES, imap_cmd_store},
	{"SUBSCRIBE", LOGGED_IN, 0, imap_cmd_subscribe},
	{"UNSELECT", IMAP_SELECTED, IMAP_CMD_NO_SYNC, imap_cmd_unselect},
	{"UNSUBSCRIBE", LOGGED_IN, 0, imap_cmd_unsubscribe},
};

/* ---- replies ---- */

static bool expunges_allowed(const struct imap_session *s)
{
	return s->command == NULL || !(s->command->flags & IMAP_CMD_ONLY_UID_EXPUNGES) || s->uid_command;
}

enum next imap_bye(struct imap_session *s, const char *text)
{
	session_printf(s->io, "* BYE %s\r\n", text);
	return NEXT_CLOSE;
}

static enum next tagged(struct imap_session *s, struct str text)
{
	bool sync = s->command == NULL || !(s->command->flags & IMAP_CMD_NO_SYNC);

	if (s->view && sync)
		imap_sync(s, expunges_allowed(s));
	session_printf(s->io, "%s ", s->tag);
	session_write(s->io, text);
	session_write(s->io, STR("\r\n"));
	if (s->view && view_gone(s->view))
		return imap_bye(s, "The selected mailbox is gone");
	return NEXT_UNIT;
}

enum next imap_reply(struct imap_session *s, const char *fmt, ...)
{
	va_list args;
	struct str text;

	va_start(args, fmt);
	text = arena_vprintf(&s->arena, fmt, args);
	va_end(args);
	return tagged(s, text);
}

static enum next count_bad(struct imap_session *s, enum next next)
{
	unsigned max = s->state == IMAP_NOT_AUTHENTICATED ? IMAP_BAD_MAX_PRELOGIN : IMAP_BAD_MAX;

	if (++s->bad_commands <= max)
		return next;
	return imap_bye(s, "Too many invalid IMAP commands");
}

enum next imap_bad(struct imap_session *s, const struct imap_parser *p)
{
	return count_bad(s, imap_reply(s, "BAD %s", p->error ? p->error : "Syntax error"));
}

const char *imap_err_code(const struct err *err)
{
	switch (err->kind) {
	case ERR_TEMP:
	case ERR_LOST:
		return "[UNAVAILABLE] ";
	case ERR_FULL:
		return str_eq(str_from(err->code), STR("4.3.1")) ? "[UNAVAILABLE] " : "[OVERQUOTA] ";
	case ERR_NOT_FOUND:
		return "[NONEXISTENT] ";
	case ERR_EXISTS:
		return "[ALREADYEXISTS] ";
	case ERR_LIMIT:
		return "[LIMIT] ";
	case ERR_DENIED:
		return "[NOPERM] ";
	case ERR_PERM:
	case ERR_SYNTAX:
		return "[CANNOT] ";
	case ERR_OK:
		break;
	}
	return "";
}

bool imap_login_gone(const struct err *err)
{
	return err->kind == ERR_DENIED && err->code[0] == '4';
}

enum next imap_reply_err(struct imap_session *s, const struct err *err)
{
	/* Only another log-in helps, and clients make one when the connection ends. */
	if (imap_login_gone(err)) {
		(void)!imap_reply(s, "NO [UNAVAILABLE] %s", err->text);
		return imap_bye(s, "Please log in again");
	}
	return imap_reply(s, "NO %s%s", imap_err_code(err), err->text[0] ? err->text : "The request failed");
}

static void release_job(struct imap_session *s)
{
	if (s->job_release)
		s->job_release(s);
	s->job = NULL;
	s->job_release = NULL;
}

enum next imap_command_end(struct imap_session *s, enum next next)
{
	release_job(s);
	s->command = NULL;
	s->append = NULL;
	s->uid_command = false;
	arena_release(&s->arena);
	return next;
}

/* ---- literals that are not wanted ---- */

static enum next skip_literal(struct imap_session *s)
{
	struct bulk_options options = {.count = s->frame.literal_size, .max = 1};

	s->mode = IMAP_MODE_SKIP;
	if (s->frame.literal_size == 0)
		return NEXT_UNIT;
	session_bulk(s->io, &options);
	return NEXT_BULK;
}

enum next imap_refuse_literal(struct imap_session *s, const char *fmt, ...)
{
	struct str text;
	va_list args;

	va_start(args, fmt);
	text = arena_vprintf(&s->arena, fmt, args);
	va_end(args);
	if (s->frame.literal_sync) /* RFC 7888 3: the client waits for our "+" and takes this reply instead */
		return tagged(s, text);
	if (s->state == IMAP_NOT_AUTHENTICATED && s->frame.literal_size > IMAP_LITERAL_MAX)
		return imap_bye(s, "Literal too large");
	free(s->held_reply);
	s->held_reply = str_dup(text);
	return skip_literal(s);
}

static enum next skip_unit(struct imap_session *s)
{
	enum next next;

	if (s->frame.literal && !s->frame.literal_sync)
		return skip_literal(s);
	s->mode = IMAP_MODE_COMMAND;
	next = tagged(s, str_from(s->held_reply));
	free(s->held_reply);
	s->held_reply = NULL;
	return imap_command_end(s, count_bad(s, next));
}

/* ---- commands ---- */

static const struct imap_command *find_command(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (str_ieq(name, str_from(commands[i].name)))
			return &commands[i];
	}
	return NULL;
}

static bool parse_command_name(struct imap_session *s, struct imap_parser *p)
{
	struct str name;

	if (!imap_parse_space(p) || !imap_parse_atom(p, &name))
		return false;
	if (str_ieq(name, STR("UID"))) {
		if (!imap_parse_space(p) || !imap_parse_atom(p, &name))
			return false;
		s->uid_command = true;
	}
	s->command = find_command(name);
	if (s->command == NULL || (s->uid_command && !(s->command->flags & IMAP_CMD_UID)))
		return imap_parse_fail(p, "Unknown command");
	if (!(s->command->states & s->state))
		return imap_parse_fail(p, s->state == IMAP_NOT_AUTHENTICATED	? "Please log in first"
					  : s->command->states == IMAP_SELECTED ? "No mailbox selected"
										: "Already logged in");
	return true;
}

static enum next run_command(struct imap_session *s, struct imap_parser *p)
{
	if (!parse_command_name(s, p)) {
		s->command = NULL;
		s->uid_command = false;
		if (s->frame.literal)
			return imap_refuse_literal(s, "BAD %s", p->error);
		return imap_bad(s, p);
	}
	if (s->frame.literal && s->command->run != imap_cmd_append)
		return imap_refuse_literal(s, "NO [TOOBIG] Literal too large");
	return s->command->run(s, p);
}

static enum next command_unit(struct imap_session *s, struct str line)
{
	struct imap_parser p;
	struct str tag;
	enum next next;

	if (line.len == 0) /* a stray empty line says nothing */
		return count_bad(s, NEXT_UNIT);
	imap_parser_init(&p, line, &s->arena);
	if (!imap_parse_tag(&p, &tag) || tag.len > IMAP_TAG_MAX) {
		session_write(s->io, STR("* BAD Invalid tag\r\n"));
		return s->frame.literal ? imap_bye(s, "Cannot go on after an invalid tag") : count_bad(s, NEXT_UNIT);
	}
	memcpy(s->tag, tag.ptr, tag.len);
	s->tag[tag.len] = '\0';
	if (s->state == IMAP_NOT_AUTHENTICATED) /* before log-in every argument may be a password */
		session_transcript_hide(s->io, tag.len + sizeof(" LOGIN"));
	next = run_command(s, &p);
	if (next == NEXT_BULK || next == NEXT_PRODUCE || s->mode != IMAP_MODE_COMMAND || s->append)
		return next;
	return imap_command_end(s, next);
}

static struct str without_line_end(struct str unit)
{
	if (str_ends(unit, STR("\n")))
		unit.len--;
	if (str_ends(unit, STR("\r")))
		unit.len--;
	return unit;
}

static enum next run_unit(struct imap_session *s, struct str line)
{
	switch (s->mode) {
	case IMAP_MODE_COMMAND:
		return command_unit(s, line);
	case IMAP_MODE_AUTH:
	case IMAP_MODE_AUTH_FINAL:
		session_transcript_hide(s->io, 0);
		return imap_authenticate_unit(s, line);
	case IMAP_MODE_IDLE:
		return imap_idle_unit(s, line);
	case IMAP_MODE_APPEND_TAIL:
		return imap_append_tail(s, line);
	case IMAP_MODE_SKIP:
		return skip_unit(s);
	}
	return NEXT_CLOSE;
}

/* How long the client may be silent from now on; in IDLE: until the next sign of life is due. These are spread a
 * little, so that a thousand idle phones are not woken in the same second. */
static void arm_timeout(struct imap_session *s)
{
	int64_t notify = s->conf->imap_idle_notify_interval, ms, left;

	ms = s->state == IMAP_NOT_AUTHENTICATED ? s->conf->imap_login_timeout : s->conf->imap_timeout;
	if (s->mode == IMAP_MODE_IDLE && notify > 0) {
		left = s->active_ms + ms - clock_ms();
		ms = notify + (int64_t)(session_id(s->io) * 7919 % (uint64_t)(notify / 8 + 1));
		ms = ms < left ? ms : left > 1 ? left : 1;
	}
	session_set_timeout(s->io, ms);
}

/* Before log-in nothing is long: there imap_login_timeout holds for the whole of a command, too. */
void imap_deadline(const struct conf *conf, struct session *io, bool logged_in)
{
	int64_t ms = conf->imap_request_timeout;

	if (!logged_in && ms > conf->imap_login_timeout)
		ms = conf->imap_login_timeout;
	session_set_deadline(io, ms, logged_in ? conf->imap_min_data_rate : 0);
}

/* ---- what the engine calls ---- */

static enum next session_unit(struct session *io, struct str unit)
{
	struct imap_session *s = imap_of(io);
	enum next next;

	s->active_ms = clock_ms();
	next = run_unit(s, without_line_end(unit));
	arm_timeout(s);
	return next;
}

static bool session_admit(struct session *io)
{
	struct conf *conf = service_conf(session_service(io));
	bool admitted = service_admits(conf, io, conf->imap_client_connection_count_limit);

	service_transcribe(conf, io);
	imap_deadline(conf, io, false);
	if (!admitted)
		session_printf(io, "* BYE Too many connections from %s.\r\n", session_peer_text(io));
	conf_unref(&conf);
	return admitted;
}

static enum next session_open(struct session *io)
{
	struct imap_session *s = imap_of(io);
	struct buf out;

	s->io = io;
	s->service = session_service(io);
	s->server = s->service->server;
	s->conf = service_conf(s->service);
	s->state = IMAP_NOT_AUTHENTICATED;
	s->active_ms = clock_ms();
	login_init(&s->login, "imap");
	arena_init(&s->arena);
	buf_init(&out, 4096);
	buf_addz(&out, "* OK [CAPABILITY ");
	imap_add_capabilities(&out, s);
	buf_addf(&out, "] %.*s ready.\r\n", STR_ARG(s->conf->mail_name));
	session_write(io, buf_str(&out));
	buf_release(&out);
	arm_timeout(s);
	return NEXT_UNIT;
}

static enum next session_too_long(struct session *io)
{
	return imap_bye(imap_of(io), "Command line too long");
}

static enum next session_bulk_done(struct session *io)
{
	struct imap_session *s = imap_of(io);

	s->active_ms = clock_ms();
	if (s->append)
		return imap_append_bulk(s);
	session_bulk_drop(io);
	return NEXT_UNIT;
}

static enum next session_secured(struct session *io)
{
	arm_timeout(imap_of(io));
	return NEXT_UNIT;
}

/* The mailbox changed. Only IDLE may be told unasked: outside of it an EXPUNGE must wait for a command
 * (RFC 3501 7.4.1), and it is simplest for clients when the rest waits too. */
static enum next session_change(struct session *io)
{
	struct imap_session *s = imap_of(io);

	if (s->mode != IMAP_MODE_IDLE || s->view == NULL)
		return NEXT_UNIT;
	if (view_pending(s->view))
		imap_sync(s, true);
	return view_gone(s->view) ? imap_bye(s, "The selected mailbox is gone") : NEXT_UNIT;
}

static enum next session_timeout(struct session *io)
{
	struct imap_session *s = imap_of(io);

	if (s->mode == IMAP_MODE_IDLE && clock_ms() - s->active_ms < s->conf->imap_timeout) {
		session_write(io, STR("* OK Still here\r\n"));
		arm_timeout(s);
		return NEXT_UNIT;
	}
	return imap_bye(s, "Disconnected for inactivity.");
}

static enum next session_stop(struct session *io)
{
	return imap_bye(imap_of(io), "Server shutting down.");
}

static struct tls_context *session_tls(struct session *io)
{
	return service_tls(session_service(io)); /* may run before session_open() */
}

static void session_close(struct session *io)
{
	struct imap_session *s = imap_of(io);
	struct dir_session_end end = {.session = session_id(io)};

	if (s->io == NULL)
		return;
	release_job(s);
	imap_deselect(s);
	if (s->state == IMAP_NOT_AUTHENTICATED)
		login_log_failures(&s->login, io, "Connection closed");
	if (s->session_named)
		(void)rpc_send(s->server->directory, &DIR_SESSION_END, &end);
	arena_release(&s->arena);
	free(s->user);
	login_release(&s->login);
	free(s->held_reply);
	conf_unref(&s->conf);
}

const struct protocol imap_protocol = {
	.name = "imap",
	.state_size = sizeof(struct imap_session),
	.input_max = IMAP_UNIT_MAX + IMAP_LINE_MAX + 2,
	.admit = session_admit,
	.open = session_open,
	.frame = imap_frame,
	.unit = session_unit,
	.too_long = session_too_long,
	.bulk = session_bulk_done,
	.secured = session_secured,
	.change = session_change,
	.timeout = session_timeout,
	.stop = session_stop,
	.tls = session_tls,
	.close = session_close,
};
