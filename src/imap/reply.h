/* imap/reply - the pieces of which IMAP responses are made (RFC 3501 9), appended to a buffer. */
#ifndef IMAP_REPLY_H
#define IMAP_REPLY_H

#include "base/arena.h"
#include "base/buf.h"
#include "store/schema.h"

/* Quoted if short and 7-bit printable, else a literal. NUL, which neither can hold, becomes '?'. */
void imap_add_string(struct buf *out, struct str s);
/* The same, as an atom where that is possible. */
void imap_add_astring(struct buf *out, struct str s);
/* NIL when s.ptr is NULL. */
void imap_add_nstring(struct buf *out, struct str s);
/* A header value for a client that has not enabled UTF-8: 8-bit bytes leave as RFC 2047 encoded words. */
void imap_add_header_nstring(struct buf *out, struct str value);
/* A mailbox name in modified UTF-7 (RFC 3501 5.1.3). */
void imap_add_mailbox(struct buf *out, struct str name);
/* "(\Answered \Seen $Junk)" without the parentheses; blanks between. */
void imap_add_system_flags(struct buf *out, uint32_t flags, bool recent);
/* "1:4,7" */
void imap_add_ranges(struct buf *out, const struct uid_range *v, size_t n);

#endif
