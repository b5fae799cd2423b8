/* What every way to log in shares: whether it is allowed, and what follows its answer. */
#include "base/mem.h"
#include "pop3/session.h"

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

enum next pop3_logged_in(struct pop3_session *s, const struct dir_auth *answer)
{
	struct conf *newest = service_conf(s->service);
	struct err err = ERR_NONE;

	conf_unref(&s->conf); /* a log-in takes the newest configuration */
	s->conf = newest;
	if (!service_admits_user(newest, s->io, answer->account, newest->pop3_user_connection_count_limit)) {
		s->account = 0;
		(void)pop3_err(s, "[SYS/TEMP] Too many connections of this user from %s.", session_peer_text(s->io));
		return NEXT_CLOSE;
	}
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

enum next pop3_auth_unanswered(struct pop3_session *s, const struct err *err)
{
	if (rpc_is_busy(err) && session_again(s->io))
		return NEXT_AGAIN;
	return pop3_err(s, "[SYS/TEMP] Temporary authentication failure.");
}

enum next pop3_auth_done(struct pop3_session *s, const struct dir_auth *answer)
{
	switch (answer->status) {
	case AUTH_OK:
		return pop3_logged_in(s, answer);
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
