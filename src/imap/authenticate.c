/* AUTHENTICATE: RFC 3501 6.2.2, with an initial response (SASL-IR, RFC 4959).
 *
 * The mechanisms run in directory; here base64 lines pass through. IMAP has no place for data that comes with
 * success (RFC 4422 3.6): it goes out as one more challenge, which the client answers with an empty line. */
#include "base/encode.h"
#include "base/mem.h"
#include "imap/session.h"

#define AUTH_CALL_MS  30000
#define AUTH_LINE_MAX 12288

static enum next succeeded(struct imap_session *s, const struct dir_auth *answer)
{
	if (answer->challenge.len == 0)
		return imap_auth_done(s, answer);
	s->account = answer->account;
	free(s->user);
	s->user = str_dup(answer->user);
	s->mode = IMAP_MODE_AUTH_FINAL;
	login_send_challenge(s->io, answer->challenge);
	return NEXT_UNIT;
}

static enum next exchange(struct imap_session *s, const struct rpc_call *call, const void *request)
{
	struct err err = ERR_NONE;
	struct dir_auth answer;
	struct rpc_reply hold;
	enum imap_mode before = s->mode;
	enum next next;

	s->mode = IMAP_MODE_COMMAND;
	s->session_named = true;
	rpc_reply_init(&hold);
	if (rpc_call(s->server->directory, call, request, &answer, &hold, false, AUTH_CALL_MS, &err) < 0) {
		next = imap_auth_unanswered(s, &err);
		if (next == NEXT_AGAIN)
			s->mode = before;
	} else if (answer.status == AUTH_CONTINUE) {
		s->mode = IMAP_MODE_AUTH;
		login_send_challenge(s->io, answer.challenge);
		next = NEXT_UNIT;
	} else if (answer.status == AUTH_OK) {
		next = succeeded(s, &answer);
	} else {
		next = imap_auth_done(s, &answer);
	}
	rpc_reply_release(&hold);
	return next;
}

static enum next start(struct imap_session *s, struct str mechanism, bool has_initial, struct str initial)
{
	char exporter[64], unique[64];
	struct dir_auth_start request = {
		.service = STR("imap"), .mechanism = mechanism, .has_initial = has_initial, .initial = initial};

	login_describe(s->io, &request, exporter, unique);
	login_tried_response(&s->login, initial);
	return exchange(s, &DIR_AUTH_START, &request);
}

/* Decoded into out. "=" alone is an empty initial response (RFC 4959 3). */
static bool decode(struct buf *out, struct str text, bool initial)
{
	if (initial && str_eq(text, STR("=")))
		return true;
	return base64_decode(out, text) && !buf_failed(out);
}

static void wipe(struct buf *b)
{
	mem_wipe(b->ptr, b->size ? b->len : 0);
	buf_release(b);
}

enum next imap_cmd_authenticate(struct imap_session *s, struct imap_parser *p)
{
	struct str mechanism, text = STR_NULL;
	bool has_initial = false;
	struct buf initial;
	enum next next;

	if (!imap_parse_space(p) || !imap_parse_atom(p, &mechanism))
		return imap_bad(s, p);
	if (!imap_parse_at_end(p)) {
		has_initial = true;
		text = str_trim(str_skip(p->in, p->at));
	}
	login_tried(&s->login, STR_NULL, mechanism);
	if (imap_cleartext_refused(s) && login_mechanism_is_cleartext(mechanism))
		return imap_reply(s, "NO [PRIVACYREQUIRED] Log-in over clear text is refused: use TLS");
	if (!imap_mechanism_offered(s, mechanism))
		return imap_reply(s, "NO [CANNOT] Unsupported authentication mechanism");
	buf_init(&initial, AUTH_LINE_MAX);
	if (has_initial && !decode(&initial, text, true))
		next = imap_reply(s, "BAD Invalid base64 in the initial response");
	else
		next = start(s, mechanism, has_initial, buf_str(&initial));
	wipe(&initial);
	return next;
}

static void abort_exchange(struct imap_session *s)
{
	struct dir_session_end end = {.session = session_id(s->io)};

	(void)rpc_send(s->server->directory, &DIR_SESSION_END, &end);
}

static enum next final_unit(struct imap_session *s, struct str line)
{
	struct dir_auth answer = {.status = AUTH_OK, .account = s->account};
	enum next next;

	s->mode = IMAP_MODE_COMMAND;
	if (line.len > 0) {
		abort_exchange(s);
		return imap_reply(s, "BAD Authentication aborted");
	}
	answer.user = arena_str(&s->arena, str_from(s->user));
	next = imap_auth_done(s, &answer);
	return next;
}

enum next imap_authenticate_unit(struct imap_session *s, struct str line)
{
	struct dir_auth_step request = {.session = session_id(s->io)};
	struct buf response;
	enum next next;

	if (s->mode == IMAP_MODE_AUTH_FINAL) {
		next = final_unit(s, line);
	} else if (str_eq(line, STR("*"))) {
		s->mode = IMAP_MODE_COMMAND;
		abort_exchange(s);
		next = imap_reply(s, "BAD Authentication aborted");
	} else {
		buf_init(&response, AUTH_LINE_MAX);
		if (decode(&response, line, false)) {
			request.response = buf_str(&response);
			login_tried_response(&s->login, request.response);
			next = exchange(s, &DIR_AUTH_STEP, &request);
		} else {
			s->mode = IMAP_MODE_COMMAND;
			abort_exchange(s);
			next = imap_reply(s, "BAD Invalid base64 in the response");
		}
		wipe(&response);
	}
	return s->mode == IMAP_MODE_COMMAND ? imap_command_end(s, next) : next;
}
