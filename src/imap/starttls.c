/* STARTTLS: RFC 3501 6.2.1. Whatever the client sent in clear behind the command could have been put there by
 * somebody else: it is an error, not input. */
#include "imap/session.h"

enum next imap_cmd_starttls(struct imap_session *s, struct imap_parser *p)
{
	if (!imap_parse_end(p))
		return imap_bad(s, p);
	if (session_is_tls(s->io))
		return imap_reply(s, "BAD TLS is active already");
	if (!imap_tls_available(s))
		return imap_reply(s, "NO [UNAVAILABLE] TLS is not available");
	if (session_input_pending(s->io)) {
		(void)imap_reply(s, "BAD Nothing may follow STARTTLS before the handshake");
		return imap_bye(s, "Data was sent in clear behind STARTTLS");
	}
	(void)imap_reply(s, "OK Begin TLS negotiation now.");
	session_starttls(s->io);
	return NEXT_TLS;
}
