/* msg/mime - the MIME tree of a message (RFC 2045, 2046), found in one pass, in bounded memory and time.
 *
 * Input is the stored form (LF or CRLF). All offsets are bytes of that input; sizes in the wire form (CRLF)
 * are kept beside them, because IMAP counts those. Limits: MIME_PARTS_MAX parts, MIME_DEPTH_MAX levels;
 * past them a part is a leaf "application/octet-stream" (what follows is its body). Malformed structure becomes
 * what can be saved. A multipart always has a child: one without any part gets a text/plain one that is its
 * whole body. Wire form: a message that holds a CRLF is sent as it is, any other with each LF as CRLF. */
#ifndef MSG_MIME_H
#define MSG_MIME_H

#include "base/arena.h"
#include "base/buf.h"
#include "msg/address.h"

#define MIME_PARTS_MAX	    1000
#define MIME_DEPTH_MAX	    50
#define MIME_PARAMS_MAX	    50
#define MIME_VALUE_MAX	    16384   /* longer values of fields and parameters are cut */
#define MIME_LIST_VALUE_MAX 1048576 /* bytes of one address field that are read */
#define MIME_TEXT_MAX	    4194304 /* bytes of all values kept of one message; then they are "" */
#define MIME_ADDRESSES_MAX  50000   /* of one message, embedded ones included */

struct mime_param {
	struct str name;  /* upper or lower case as written */
	struct str value; /* decoded from quotes; RFC 2231 pieces joined under the plain name with "*" as IMAP shows
			     them */
};

struct envelope { /* RFC 3501 7.4.2; raw unfolded values, encoded words kept; ptr NULL: no such field */
	struct str date, subject, in_reply_to, message_id;
	struct mailbox_addr_list from, sender, reply_to, to, cc, bcc; /* sender/reply_to as written (empty: use from) */
};

struct mime_part {
	struct str type, subtype; /* as written; "text"/"plain" by default (RFC 2045 5.2) */
	struct mime_param *params;
	size_t param_count;
	struct str id, description, encoding, md5, disposition, location; /* ptr NULL: absent */
	struct mime_param *disposition_params;
	size_t disposition_param_count;
	struct str *languages;
	size_t language_count;

	size_t header_offset, header_len; /* header block with its empty line */
	size_t body_offset, body_len;
	uint64_t header_size_crlf, body_size_crlf;
	uint32_t body_lines;
	bool message; /* message/rfc822 or message/global: children[0] is its content */
	bool multipart;
	struct envelope *envelope;		 /* of the root, and of the content of a message part */
	struct mime_part *parent, *first, *next; /* children and siblings */
	size_t child_count;
};

/* Parses the whole message. The tree and its strings live in the arena (strings are copied: the input may go). */
struct mime_part *mime_parse(struct str message, struct arena *arena);
/* The part that IMAP calls "1.2" (RFC 3501 6.4.5), numbers from 1; NULL if there is none. n 0: root. */
struct mime_part *mime_find(struct mime_part *root, const uint32_t *path, size_t n);
/* The value of a parameter as text for people, UTF-8: RFC 2231 or encoded words undone. ptr NULL: no such one.
 * For a file name ask for "filename" of the disposition, then for "name" of the type. */
struct str mime_param_text(const struct mime_param *params, size_t count, const char *name, struct arena *arena);
/* The value as written of a parameter, or ptr NULL. */
struct str mime_param(const struct mime_param *params, size_t count, const char *name);
/* Content-Transfer-Encoding undone: base64 and quoted-printable; others copied. False on malformed bytes and
 * on an encoding that nobody knows (out holds what could be read). */
bool mime_decode(struct str encoding, struct str body, struct buf *out);
/* Up to max bytes of readable text for lists: the first text part, decoded, blanks folded. UTF-8. */
void mime_preview(struct str message, const struct mime_part *root, size_t max, struct buf *out);

#endif
