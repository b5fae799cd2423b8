/* mutf7 - mailbox names on the wire of IMAP4rev1, and in the folders of a Maildir++: modified UTF-7 (RFC 3501 5.1.3),
 * which is UTF-8 inside. */
#ifndef MSG_MUTF7_H
#define MSG_MUTF7_H

#include "base/buf.h"

/* Appends the UTF-8 of a name. False for what is not the one right writing of a name: 8-bit bytes, characters
 * encoded without need, broken base64 or surrogates, two shifts side by side, controls that stand as such. A name
 * so written can never match a mailbox. out may then hold a part. */
bool mutf7_decode(struct buf *out, struct str name) WARN_UNUSED;
/* The same for a folder's name, which other tools have written as they like: only what says nothing is refused. */
bool mutf7_decode_any(struct buf *out, struct str name) WARN_UNUSED;
/* Appends the wire form of a UTF-8 name. False if it is not UTF-8, or holds a NUL. */
bool mutf7_encode(struct buf *out, struct str name) WARN_UNUSED;
/* The same for one level of a folder's name, in which '.' and '/' cannot stand as themselves. */
bool mutf7_encode_level(struct buf *out, struct str level) WARN_UNUSED;

#endif
