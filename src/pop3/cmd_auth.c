/* AUTH: SASL runs in directory, this side only carries challenges and responses. RFC 5034. */
#include "base/encode.h"
#include "base/mem.h"
#include "pop3/session.h"

/* RFC 5034 4: data that comes with success goes out as a challenge, answered by an empty line. The directory has
 * let the user in already; the snapshot is taken when the client has seen the data. */
static enum next succeeded(struct pop3_session *s, const struct dir_auth *answer)
{
	if (answer->challenge.len == 0)
		return pop3_auth_done(s, answer);
	s->account = answer->account;
	login_tried(&s->login, answer->user, str_from(s->login.method));
	s->mode = POP3_MODE_SASL;
	login_send_challenge(s->io, answer->challenge);
	return NEXT_UNIT;
}

static enum next exchange(struct pop3_session *s, const struct rpc_call *call, const void *request)
{
	struct err err = ERR_NONE;
	struct dir_auth answer;
	struct rpc_reply hold;
	enum pop3_mode before = s->mode;
	enum next next;

	s->mode = POP3_MODE_COMMAND;
	s->session_named = true;
	rpc_reply_init(&hold);
	if (rpc_call(s->server->directory, call, request, &answer, &hold, false, POP3_AUTH_MS, &err) < 0) {
		next = pop3_auth_unanswered(s, &err);
		if (next == NEXT_AGAIN)
			s->mode = before;
	} else if (answer.status == AUTH_CONTINUE) {
		s->mode = POP3_MODE_SASL;
		login_send_challenge(s->io, answer.challenge);
		next = NEXT_UNIT;
	} else {
		next = answer.status == AUTH_OK ? succeeded(s, &answer) : pop3_auth_done(s, &answer);
	}
	rpc_reply_release(&hold);
	return next;
}

static bool offered(struct pop3_session *s, struct str mechanism)
{
	char names[160];

	login_mechanisms_get(&s->server->mechanisms, s->server->directory, "pop3", s->conf, s->io, names,
			     sizeof(names));
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

	if (s->account) { /* the client has the data that came with success */
		if (line.len > 0)
			return abandon(s, "Authentication aborted.");
		s->mode = POP3_MODE_COMMAND;
		known.user = str_from(s->login.user ? s->login.user : "");
		return pop3_logged_in(s, &known);
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
