/* msg/header - splitting a message into header fields and body (RFC 5322 2.2), LF or CRLF line ends alike. */
#ifndef MSG_HEADER_H
#define MSG_HEADER_H

#include "base/arena.h"
#include "base/buf.h"

struct header {
	struct str name;  /* as written, without the colon and blanks before it */
	struct str value; /* raw, folded, without the final line end; starts behind the colon */
	struct str raw;	  /* the whole field with its final line end */
};

/* Takes one field off the front of *rest. Returns false at the empty line (skipped over: *rest is the body)
 * or at the end. A line that is no field is returned with name.len == 0 (it is part of no header). */
bool header_next(struct str *rest, struct header *h_r);
/* The first field of that name in a header block or message; false if there is none. */
bool header_find(struct str message, const char *name, struct header *h_r);
/* Length of the header block, the empty line included. body_r starts there. */
size_t header_size(struct str message);
/* Value with folding undone (line ends removed), trimmed. */
struct str header_unfold(struct str value, struct arena *arena);
/* RFC 2047 encoded words decoded to UTF-8; unlabelled 8-bit that is not UTF-8 read as ISO-8859-1... */
struct str header_decode(struct str value, struct arena *arena);
/* "Name: value" folded at 78 (RFC 5322 2.1.1); value is ASCII or UTF-8; `encode` turns non-ASCII into encoded words. */
void header_write(struct buf *out, const char *name, struct str value, bool encode);

#endif
