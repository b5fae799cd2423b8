/* CLOSE: RFC 3501 6.4.2; UNSELECT: RFC 3691. */
#include "imap/expunge.h"

enum next imap_cmd_close(struct imap_session *s, struct imap_parser *p)
{
	struct err err = ERR_NONE;
	int rc = 0;

	if (!imap_parse_end(p))
		return imap_bad(s, p);
	if (!s->read_only) {
		struct imap_seqs seqs = imap_seqs_all(s);

		rc = imap_expunge(s, &seqs, &err);
	}
	imap_deselect(s);
	/* The mailbox is closed in any case; that messages are still there must not be kept from the client. */
	return rc < 0 ? imap_reply_err(s, &err) : imap_reply(s, "OK Close completed.");
}

enum next imap_cmd_unselect(struct imap_session *s, struct imap_parser *p)
{
	if (!imap_parse_end(p))
		return imap_bad(s, p);
	imap_deselect(s);
	return imap_reply(s, "OK Unselect completed.");
}
