/* NOOP, CHECK: RFC 3501 6.1.2, 6.4.1. What is durable is durable at once: CHECK has nothing left to do. */
#include "imap/session.h"

static enum next nothing(struct imap_session *s, struct imap_parser *p, const char *text)
{
	return imap_parse_end(p) ? imap_reply(s, "OK %s", text) : imap_bad(s, p);
}

enum next imap_cmd_noop(struct imap_session *s, struct imap_parser *p)
{
	return nothing(s, p, "NOOP completed.");
}

enum next imap_cmd_check(struct imap_session *s, struct imap_parser *p)
{
	return nothing(s, p, "Check completed.");
}
