/* SUBSCRIBE, UNSUBSCRIBE: RFC 3501 6.3.6, 6.3.7. A name may be subscribed that is no mailbox (any more). */
#include "imap/session.h"

static enum next change_subscription(struct imap_session *s, struct imap_parser *p, enum mailbox_change what,
				     const char *text)
{
	struct store_mailbox_change change = {.change = (uint8_t)what};

	if (!imap_parse_space(p) || !imap_parse_mailbox(p, &change.name) || !imap_parse_end(p))
		return imap_bad(s, p);
	return imap_mailbox_change(s, &change, text);
}

enum next imap_cmd_subscribe(struct imap_session *s, struct imap_parser *p)
{
	return change_subscription(s, p, MAILBOX_SUBSCRIBE, "Subscribe completed.");
}

enum next imap_cmd_unsubscribe(struct imap_session *s, struct imap_parser *p)
{
	return change_subscription(s, p, MAILBOX_UNSUBSCRIBE, "Unsubscribe completed.");
}
