/* CAPABILITY: RFC 3501 6.1.1; also in the greeting and in the reply to log-in, for clients that read it there. */
#include "imap/session.h"

static const char before_login[] = "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE";
static const char after_login[] = "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE NAMESPACE UIDPLUS UNSELECT MOVE CHILDREN "
				  "SPECIAL-USE CREATE-SPECIAL-USE LIST-EXTENDED LIST-STATUS CONDSTORE ESEARCH";

bool imap_cleartext_refused(struct imap_session *s)
{
	return s->conf->imap_tls_auth_only && !session_is_tls(s->io) && !net_addr_is_loopback(session_peer(s->io));
}

bool imap_tls_available(struct imap_session *s)
{
	struct tls_context *t = service_tls(s->service);
	bool there = t != NULL;

	tls_context_unref(&t);
	return there;
}

static void mechanisms(struct imap_session *s, char *out, size_t size)
{
	login_mechanisms_get(&s->server->mechanisms, s->server->directory, "imap", s->conf, s->io, out, size);
}

bool imap_mechanism_offered(struct imap_session *s, struct str mechanism)
{
	char names[160];

	mechanisms(s, names, sizeof(names));
	return login_mechanism_in(str_from(names), mechanism);
}

void imap_add_capabilities(struct buf *out, struct imap_session *s)
{
	bool refused = imap_cleartext_refused(s);
	char names[160];
	struct str rest, name;

	if (s->state != IMAP_NOT_AUTHENTICATED) {
		buf_addz(out, after_login);
		return;
	}
	buf_addz(out, before_login);
	if (!session_is_tls(s->io) && imap_tls_available(s))
		buf_addz(out, " STARTTLS");
	if (refused) /* RFC 3501 6.2.3 */
		buf_addz(out, " LOGINDISABLED");
	mechanisms(s, names, sizeof(names));
	for (rest = str_from(names); str_token(&rest, " ", &name);) {
		if (!(refused && login_mechanism_is_cleartext(name)))
			buf_addf(out, " AUTH=%.*s", STR_ARG(name));
	}
}

enum next imap_cmd_capability(struct imap_session *s, struct imap_parser *p)
{
	struct buf out;

	if (!imap_parse_end(p))
		return imap_bad(s, p);
	buf_init(&out, 4096);
	buf_addz(&out, "* CAPABILITY ");
	imap_add_capabilities(&out, s);
	buf_addz(&out, "\r\n");
	session_write(s->io, buf_str(&out));
	buf_release(&out);
	return imap_reply(s, "OK Capability completed.");
}
