/* USER, PASS (RFC 1939 7), AUTH (RFC 5034), STLS (RFC 2595 4), CAPA (RFC 2449 5). */
#include "base/encode.h"
#include "base/mem.h"
#include "pop3/session.h"

#define AUTH_CALL_MS 30000

bool pop3_cleartext_refused(struct pop3_session *s)
{
	return s->conf->pop3_tls_auth_only && !session_is_tls(s->io) && !net_addr_is_loopback(session_peer(s->io));
}

bool pop3_tls_available(struct pop3_session *s)
{
	struct tls_context *t = service_tls(s->service);
	bool there = t != NULL;

	tls_context_unref(&t);
	return there;
}

/* ---- what follows any log-in ---- */

static enum next logged_in(struct pop3_session *s, const struct dir_auth *answer)
{
	struct conf *newest = service_conf(s->service);
	struct err err = ERR_NONE;

	conf_unref(&s->conf);    /* a log-in takes the newest configuration */
	s->conf = newest;
	s->account = answer->account;
	login_tried(&s->login, answer->user, str_from(s->login.method));
	login_log(&s->login, s->io, "Login");
	if (pop3_maildrop_open(s, &err) < 0) {
		s->account = 0;
		return pop3_err(s, "[SYS/TEMP] The mailbox cannot be opened now: %s", err.text);
	}
	s->state = POP3_TRANSACTION;
	return pop3_ok(s, "Logged in, %zu messages.", s->count);
}

static enum next auth_done(struct pop3_session *s, const struct dir_auth *answer)
{
	switch (answer->status) {
	case AUTH_OK:
		return logged_in(s, answer);
	case AUTH_FAILED:
		break;
	case AUTH_INVALID:
		return pop3_bad(s, "Invalid authentication data.");
	default:
		return pop3_err(s, "[SYS/TEMP] Temporary authentication failure.");
	}
	login_failed(&s->login, s->io, answer);
	(void)pop3_err(s, "[AUTH] Authentication failed.");
	return s->login.failures >= POP3_FAILURES_MAX ? NEXT_CLOSE : NEXT_UNIT;
}

/* ---- USER, PASS ---- */

enum next pop3_cmd_user(struct pop3_session *s, struct str args)
{
	args = str_trim(args);
	if (pop3_cleartext_refused(s))
		return pop3_bad(s, "[AUTH] Log-in over clear text is refused: use STLS or the TLS port.");
	if (args.len == 0)
		return pop3_bad(s, "USER needs a name.");
	free(s->user_given);
	s->user_given = str_dup(args);
	return pop3_ok(s, "Send your password.");
}

enum next pop3_cmd_pass(struct pop3_session *s, struct str args)
{
	struct dir_auth_plain request = {.session = session_id(s->io), .service = STR("pop3"), .password = args};
	struct dir_auth answer;
	struct rpc_reply hold;
	enum next next;

	if (s->user_given == NULL)
		return pop3_bad(s, "USER first.");
	request.user = str_from(s->user_given);
	request.client = str_from(session_peer_text(s->io));
	request.tls = session_is_tls(s->io);
	login_tried(&s->login, request.user, STR("PLAIN"));
	s->session_named = true;
	rpc_reply_init(&hold);
	if (rpc_call(s->server->directory, &DIR_AUTH_PLAIN, &request, &answer, &hold, false, AUTH_CALL_MS, NULL) < 0)
		next = pop3_err(s, "[SYS/TEMP] Temporary authentication failure.");
	else
		next = auth_done(s, &answer);
	rpc_reply_release(&hold);
	free(s->user_given);
	s->user_given = NULL;
	return next;
}

/* ---- AUTH ---- */

static void send_challenge(struct pop3_session *s, struct str challenge)
{
	struct buf out;

	buf_init(&out, challenge.len * 2 + 16);
	buf_addz(&out, "+ ");
	base64_encode(&out, challenge);
	buf_addz(&out, "\r\n");
	session_write(s->io, buf_str(&out));
	buf_release(&out);
}

/* RFC 5034 4: data that comes with success goes out as a challenge, answered by an empty line. The directory has
 * let the user in already; the snapshot is taken when the client has seen the data. */
static enum next succeeded(struct pop3_session *s, const struct dir_auth *answer)
{
	if (answer->challenge.len == 0)
		return auth_done(s, answer);
	s->account = answer->account;
	login_tried(&s->login, answer->user, str_from(s->login.method));
	s->mode = POP3_MODE_SASL;
	send_challenge(s, answer->challenge);
	return NEXT_UNIT;
}

static enum next exchange(struct pop3_session *s, const struct rpc_call *call, const void *request)
{
	struct dir_auth answer;
	struct rpc_reply hold;
	enum next next;

	s->mode = POP3_MODE_COMMAND;
	s->session_named = true;
	rpc_reply_init(&hold);
	if (rpc_call(s->server->directory, call, request, &answer, &hold, false, AUTH_CALL_MS, NULL) < 0) {
		next = pop3_err(s, "[SYS/TEMP] Temporary authentication failure.");
	} else if (answer.status == AUTH_CONTINUE) {
		s->mode = POP3_MODE_SASL;
		send_challenge(s, answer.challenge);
		next = NEXT_UNIT;
	} else {
		next = answer.status == AUTH_OK ? succeeded(s, &answer) : auth_done(s, &answer);
	}
	rpc_reply_release(&hold);
	return next;
}

static bool offered(struct pop3_session *s, struct str mechanism)
{
	char names[160];

	login_mechanisms_get(&s->server->mechanisms, s->server->directory, "pop3", s->io, names, sizeof(names));
	return login_mechanism_in(str_from(names), mechanism) &&
	       !(login_mechanism_is_cleartext(mechanism) && pop3_cleartext_refused(s));
}

static enum next start(struct pop3_session *s, struct str mechanism, bool has_initial, struct str initial)
{
	char exporter[64], unique[64];
	struct dir_auth_start request = {
		.service = STR("pop3"), .mechanism = mechanism, .has_initial = has_initial, .initial = initial};

	login_describe(s->io, &request, exporter, unique);
	login_tried(&s->login, STR_NULL, mechanism);
	login_tried_response(&s->login, initial);
	return exchange(s, &DIR_AUTH_START, &request);
}

static void wipe(struct buf *b)
{
	mem_wipe(b->ptr, b->size ? b->len : 0);
	buf_release(b);
}

enum next pop3_cmd_auth(struct pop3_session *s, struct str args)
{
	struct str mechanism, text;
	struct buf initial;
	bool has_initial;
	enum next next;

	has_initial = str_split(str_trim(args), ' ', &mechanism, &text);
	if (mechanism.len == 0)
		return pop3_bad(s, "AUTH needs a mechanism; CAPA lists them.");
	if (!offered(s, mechanism))
		return pop3_bad(s, "Unsupported authentication mechanism.");
	buf_init(&initial, POP3_AUTH_LINE_MAX);
	/* "=" alone is an empty initial response (RFC 5034 4). */
	if (has_initial && !str_eq(text, STR("=")) && !base64_decode(&initial, text))
		next = pop3_bad(s, "Invalid base64 in the initial response.");
	else
		next = start(s, mechanism, has_initial, buf_str(&initial));
	wipe(&initial);
	return next;
}

static enum next abandon(struct pop3_session *s, const char *why)
{
	struct dir_session_end end = {.session = session_id(s->io)};

	s->mode = POP3_MODE_COMMAND;
	s->account = 0;
	(void)rpc_send(s->server->directory, &DIR_SESSION_END, &end);
	return pop3_bad(s, "%s", why);
}

enum next pop3_sasl_line(struct pop3_session *s, struct str line)
{
	struct dir_auth_step request = {.session = session_id(s->io)};
	struct dir_auth known = {.status = AUTH_OK, .account = s->account};
	struct buf response;
	enum next next;

	if (s->account) {        /* the client has the data that came with success */
		char user[256];

		if (line.len > 0)
			return abandon(s, "Authentication aborted.");
		s->mode = POP3_MODE_COMMAND;
		snprintf(user, sizeof(user), "%s", s->login.user ? s->login.user : "");
		known.user = str_from(user);
		return logged_in(s, &known);
	}
	if (str_eq(line, STR("*")))
		return abandon(s, "Authentication aborted.");
	buf_init(&response, POP3_AUTH_LINE_MAX);
	if (base64_decode(&response, line)) {
		request.response = buf_str(&response);
		login_tried_response(&s->login, request.response);
		next = exchange(s, &DIR_AUTH_STEP, &request);
	} else {
		next = abandon(s, "Invalid base64 in the response.");
	}
	wipe(&response);
	return next;
}

/* ---- STLS, CAPA ---- */

enum next pop3_cmd_stls(struct pop3_session *s, struct str args)
{
	if (str_trim(args).len)
		return pop3_bad(s, "STLS takes no argument.");
	if (session_is_tls(s->io))
		return pop3_bad(s, "TLS is active already.");
	if (!pop3_tls_available(s))
		return pop3_err(s, "TLS is not available.");
	if (session_input_pending(s->io)) {      /* somebody put it there, in clear */
		(void)pop3_err(s, "Nothing may follow STLS before the handshake.");
		return NEXT_CLOSE;
	}
	(void)pop3_ok(s, "Begin TLS negotiation now.");
	session_starttls(s->io);
	return NEXT_TLS;
}

static void add_mechanisms(struct pop3_session *s)
{
	char names[160];
	struct str rest, name;
	bool any = false;

	login_mechanisms_get(&s->server->mechanisms, s->server->directory, "pop3", s->io, names, sizeof(names));
	for (rest = str_from(names); str_token(&rest, " ", &name);) {
		if (login_mechanism_is_cleartext(name) && pop3_cleartext_refused(s))
			continue;
		session_printf(s->io, "%s %.*s", any ? "" : "SASL", STR_ARG(name));
		any = true;
	}
	if (any)
		session_write(s->io, STR("\r\n"));
}

enum next pop3_cmd_capa(struct pop3_session *s, struct str args)
{
	if (str_trim(args).len)
		return pop3_bad(s, "CAPA takes no argument.");
	(void)pop3_ok(s, "Capability list follows.");
	session_write(s->io, STR("TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\n"));
	if (s->state == POP3_AUTHORIZATION) {
		if (!session_is_tls(s->io) && pop3_tls_available(s))
			session_write(s->io, STR("STLS\r\n"));
		if (!pop3_cleartext_refused(s))
			session_write(s->io, STR("USER\r\n"));
		add_mechanisms(s);
	}
	session_printf(s->io, "IMPLEMENTATION %.*s\r\n.\r\n", STR_ARG(s->conf->mail_name));
	return NEXT_UNIT;
}
