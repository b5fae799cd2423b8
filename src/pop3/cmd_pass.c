/* PASS: the rest of the line, spaces included, is the password. RFC 1939 7. */
#include "base/mem.h"
#include "pop3/session.h"

enum next pop3_cmd_pass(struct pop3_session *s, struct str args)
{
	struct dir_auth_plain request = {.session = session_id(s->io), .service = STR("pop3"), .password = args};
	struct err err = ERR_NONE;
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
	if (rpc_call(s->server->directory, &DIR_AUTH_PLAIN, &request, &answer, &hold, false, POP3_AUTH_MS, &err) < 0)
		next = pop3_auth_unanswered(s, &err);
	else
		next = pop3_auth_done(s, &answer);
	rpc_reply_release(&hold);
	if (next == NEXT_AGAIN)
		return next;
	free(s->user_given);
	s->user_given = NULL;
	return next;
}
