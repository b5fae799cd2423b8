/* LOGIN: RFC 3501 6.2.3; and what follows any log-in, LOGIN's or AUTHENTICATE's.
 *
 * The log lines are those of Dovecot, so that fail2ban's rules for it find them. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "directory/schema.h"
#include "imap/session.h"

#define LOGIN_CALL_MS 30000
#define LOG_USER_MAX 200

/* A name from outside may not close the angle brackets that the log puts around it. */
static char *log_name(struct str user)
{
	char *name = str_dup(str_sub(user, 0, LOG_USER_MAX));

	for (char *c = name; *c; c++) {
		if (*c == '<' || *c == '>' || *c == '\r' || *c == '\n')
			*c = '?';
	}
	return name;
}

void imap_log_tried(struct imap_session *s, struct str user, const char *method)
{
	free(s->auth_user);
	s->auth_user = user.len ? log_name(user) : NULL;
	if (method != s->auth_method)
		snprintf(s->auth_method, sizeof(s->auth_method), "%s", method);
}

static void log_login(struct imap_session *s, const char *event, const char *user)
{
	char local[NET_ADDR_TEXT];

	log_as("dovecot", "imap-login: %s: user=<%s>, method=%s, rip=%s, lip=%s%s", event, user ? user : "",
	       s->auth_method, session_peer_text(s->io), net_addr_text(session_local(s->io), local),
	       session_is_tls(s->io) ? ", TLS" : "");
}

void imap_log_disconnect(struct imap_session *s, const char *why)
{
	char event[160];

	if (s->state != IMAP_NOT_AUTHENTICATED || s->auth_failures == 0)
		return;
	snprintf(event, sizeof(event), "Disconnected: %s (auth failed, %u attempts in %lld secs)", why, s->auth_failures,
		 (long long)((clock_ms() - s->opened_ms) / 1000));
	log_login(s, event, s->auth_user);
}

static enum next logged_in(struct imap_session *s, const struct dir_auth *answer)
{
	struct conf *newest = service_conf(s->service);
	enum next next;
	struct buf out;

	conf_unref(&s->conf);   /* a log-in takes the newest configuration */
	s->conf = newest;
	s->account = answer->account;
	free(s->user);
	s->user = log_name(answer->user);
	s->state = IMAP_AUTHENTICATED;
	s->bad_commands = 0;
	log_login(s, "Login", s->user);
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
	if (answer->user.len)
		imap_log_tried(s, answer->user, s->auth_method);
	log_info("%s: %s log-in failed for <%s>: %.*s", session_peer_text(s->io), s->auth_method,
		 s->auth_user ? s->auth_user : "", STR_ARG(answer->text));
	s->auth_failures++;
	session_delay(s->io, answer->delay_ms);
	(void)imap_reply(s, "NO [AUTHENTICATIONFAILED] Authentication failed.");
	if (s->auth_failures >= IMAP_AUTH_FAILURES_MAX)
		return imap_bye(s, "Too many failed log-ins");
	return NEXT_UNIT;
}

enum next imap_cmd_login(struct imap_session *s, struct imap_parser *p)
{
	struct dir_auth_plain request = {.session = session_id(s->io), .service = STR("imap"), .tls = session_is_tls(s->io)};
	struct err err = ERR_NONE;
	struct dir_auth answer;
	struct rpc_reply hold;
	enum next next;

	if (!imap_parse_space(p) || !imap_parse_astring(p, &request.user) || !imap_parse_space(p) ||
	    !imap_parse_astring(p, &request.password) || !imap_parse_end(p))
		return imap_bad(s, p);
	imap_log_tried(s, request.user, "PLAIN");
	if (imap_cleartext_refused(s))
		return imap_reply(s, "NO [PRIVACYREQUIRED] Log-in over clear text is refused: use TLS");
	request.client = str_from(session_peer_text(s->io));
	s->session_named = true;
	rpc_reply_init(&hold);
	if (rpc_call(s->server->directory, &DIR_AUTH_PLAIN, &request, &answer, &hold, false, LOGIN_CALL_MS, &err) < 0)
		next = imap_reply(s, "NO [UNAVAILABLE] Temporary authentication failure");
	else
		next = imap_auth_done(s, &answer);
	rpc_reply_release(&hold);
	return next;
}
