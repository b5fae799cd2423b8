/* STLS. RFC 2595 4. */
#include "pop3/session.h"

enum next pop3_cmd_stls(struct pop3_session *s, struct str args)
{
	if (str_trim(args).len)
		return pop3_bad(s, "STLS takes no argument.");
	if (session_is_tls(s->io))
		return pop3_bad(s, "TLS is active already.");
	if (!pop3_tls_available(s))
		return pop3_err(s, "TLS is not available.");
	if (session_input_pending(s->io)) { /* somebody put it there, in clear */
		(void)pop3_err(s, "Nothing may follow STLS before the handshake.");
		return NEXT_CLOSE;
	}
	(void)pop3_ok(s, "Begin TLS negotiation now.");
	session_starttls(s->io);
	return NEXT_TLS;
}
