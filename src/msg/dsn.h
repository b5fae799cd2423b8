/* dsn - delivery status notifications (RFC 3464 in a multipart/report, RFC 6522; internationalized: RFC 6533).
 *
 * The writer only writes: whether a notification may be sent at all (never for the null sender, NOTIFY, once for a
 * delay) is the caller's. Its envelope sender is <>. */
#ifndef MSG_DSN_H
#define MSG_DSN_H

#include "base/buf.h"

/* The last two are what sendmail -bv is told: nothing was sent. */
enum dsn_action {
	DSN_FAILED,
	DSN_DELAYED,
	DSN_DELIVERED,
	DSN_RELAYED,
	DSN_EXPANDED,
	DSN_DELIVERABLE,
	DSN_UNDELIVERABLE
};

struct dsn_recipient {
	struct str address;  /* where the mail went: local@domain */
	struct str original; /* ORCPT, decoded: "rfc822;user@domain", or "" */
	enum dsn_action action;
	struct str status;	  /* "5.1.1"; one that is malformed becomes x.0.0 by action */
	struct str diagnostic;	  /* one sentence or reply; "" for none */
	struct str remote_mta;	  /* host that said it, then diagnostic is its SMTP reply; "" if it was us */
	int64_t last_attempt;	  /* seconds; 0: not told */
	int64_t will_retry_until; /* seconds; 0: not told; of delayed mail only */
};

/* What people read, from a template (bounce_template.h). */
struct dsn_words {
	struct str charset;	  /* of the others; US-ASCII is a part of it */
	struct str from, subject; /* a From without domain is of our host */
	struct str text;	  /* above the facts; "" for none */
};

struct dsn {
	struct str reporting_mta; /* our host name */
	struct dsn_words words;
	struct str to;		 /* the sender of the message, who reads this: local@domain */
	struct str message_id;	 /* of the notification, without <>; unique, the caller's */
	int64_t date, arrival;	 /* now; when the message came; seconds */
	int64_t deliver_by;	 /* RFC 2852 5; seconds; 0: not asked for */
	struct str hold_request; /* RFC 4865 5.1.2: "for;600", or "" */
	struct str envelope_id;	 /* ENVID, decoded, or "" */
	struct str queue_id;	 /* as in the log, or "" */
	const struct dsn_recipient *recipients;
	size_t count;
	struct str message; /* the original in stored form; LF or CRLF */
	bool headers_only;  /* RET=HDRS, or too large to return */
	bool threaded;	    /* refer to it (References, In-Reply-To) */
	bool utf8;	    /* whoever gets this knows SMTPUTF8: addresses stand in UTF-8 */
};

/* Appends a whole message with LF line ends. */
void dsn_write(const struct dsn *d, struct buf *out);

#endif
