/* LOGOUT: RFC 3501 6.1.3. */
#include "imap/session.h"

enum next imap_cmd_logout(struct imap_session *s, struct imap_parser *p)
{
	if (!imap_parse_end(p))
		return imap_bad(s, p);
	session_write(s->io, STR("* BYE Logging out\r\n"));
	(void)imap_reply(s, "OK Logout completed.");
	return NEXT_CLOSE;
}
