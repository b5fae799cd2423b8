/* LOGIN: RFC 3501 6.2.3; and what follows any log-in, LOGIN's or AUTHENTICATE's. */
#include "base/mem.h"
#include "imap/session.h"

#define LOGIN_CALL_MS 30000

static enum next logged_in(struct imap_session *s, const struct dir_auth *answer)
{
	struct conf *newest = service_conf(s->service);
	enum next next;
	struct buf out;

	conf_unref(&s->conf); /* a log-in takes the newest configuration */
	s->conf = newest;
	if (!service_admits_user(newest, s->io, answer->account, newest->imap_user_connection_count_limit)) {
		(void)imap_reply(s, "NO [LIMIT] Too many connections of this user from %s", session_peer_text(s->io));
		return imap_bye(s, "Too many connections.");
	}
	imap_deadline(newest, s->io, true);
	s->account = answer->account;
	free(s->user);
	s->user = str_dup(answer->user);
	s->state = IMAP_AUTHENTICATED;
	s->bad_commands = 0;
	login_tried(&s->login, answer->user, str_from(s->login.method));
	login_log(&s->login, s->io, "Login");
	buf_init(&out, 4096);
	imap_add_capabilities(&out, s);
	next = imap_reply(s, "OK [CAPABILITY %.*s] Logged in", STR_ARG(buf_str(&out)));
	buf_release(&out);
	return next;
}

enum next imap_auth_done(struct imap_session *s, const struct dir_auth *answer)
{
	switch (answer->status) {
	case AUTH_OK:
		return logged_in(s, answer);
	case AUTH_FAILED:
		break;
	case AUTH_INVALID:
		return imap_reply(s, "BAD Invalid authentication data");
	default:
		return imap_reply(s, "NO [UNAVAILABLE] Temporary authentication failure");
	}
	login_failed(&s->login, s->io, answer);
	(void)imap_reply(s, "NO [AUTHENTICATIONFAILED] Authentication failed.");
	if (s->login.failures >= IMAP_AUTH_FAILURES_MAX)
		return imap_bye(s, "Too many failed log-ins");
	return NEXT_UNIT;
}

enum next imap_auth_unanswered(struct imap_session *s, const struct err *err)
{
	if (rpc_is_busy(err) && session_again(s->io))
		return NEXT_AGAIN;
	return imap_reply(s, "NO [UNAVAILABLE] Temporary authentication failure");
}

enum next imap_cmd_login(struct imap_session *s, struct imap_parser *p)
{
	struct dir_auth_plain request = {
		.session = session_id(s->io), .service = STR("imap"), .tls = session_is_tls(s->io)};
	struct err err = ERR_NONE;
	struct dir_auth answer;
	struct rpc_reply hold;
	enum next next;

	if (!imap_parse_space(p) || !imap_parse_astring(p, &request.user) || !imap_parse_space(p) ||
	    !imap_parse_astring(p, &request.password) || !imap_parse_end(p))
		return imap_bad(s, p);
	login_tried(&s->login, request.user, STR("PLAIN"));
	if (imap_cleartext_refused(s))
		return imap_reply(s, "NO [PRIVACYREQUIRED] Log-in over clear text is refused: use TLS");
	request.client = str_from(session_peer_text(s->io));
	s->session_named = true;
	rpc_reply_init(&hold);
	if (rpc_call(s->server->directory, &DIR_AUTH_PLAIN, &request, &answer, &hold, false, LOGIN_CALL_MS, &err) < 0)
		next = imap_auth_unanswered(s, &err);
	else
		next = imap_auth_done(s, &answer);
	/* A quoted one was copied; what was not is read again when the command runs again. */
	if (next != NEXT_AGAIN || request.password.ptr < p->in.ptr || request.password.ptr >= p->in.ptr + p->in.len)
		mem_wipe((void *)(uintptr_t)request.password.ptr, request.password.len);
	rpc_reply_release(&hold);
	return next;
}
