/* imap/structure - ENVELOPE and BODYSTRUCTURE as IMAP writes them (RFC 3501 7.4.2). */
#ifndef IMAP_STRUCTURE_H
#define IMAP_STRUCTURE_H

#include "base/buf.h"
#include "msg/mime.h"

/* envelope NULL: every field NIL. Sender and reply-to fall back to from. */
void imap_add_envelope(struct buf *out, const struct envelope *envelope);
/* extended: BODYSTRUCTURE; otherwise BODY. */
void imap_add_structure(struct buf *out, const struct mime_part *part, bool extended);

#endif
