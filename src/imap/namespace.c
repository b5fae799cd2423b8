/* NAMESPACE: RFC 2342. One personal namespace without a prefix; levels are separated by '/'. */
#include "imap/session.h"

enum next imap_cmd_namespace(struct imap_session *s, struct imap_parser *p)
{
	if (!imap_parse_end(p))
		return imap_bad(s, p);
	session_write(s->io, STR("* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n"));
	return imap_reply(s, "OK Namespace completed.");
}
