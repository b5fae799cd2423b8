/* xtext - how ENVID and ORCPT carry any byte (RFC 3461 4), and addresses in UTF-8 where only ASCII may stand
 * (RFC 6533 3). */
#ifndef MSG_XTEXT_H
#define MSG_XTEXT_H

#include "base/buf.h"

void xtext_encode(struct buf *out, struct str text);
/* False on anything that is not xtext (out may hold a part). */
bool xtext_decode(struct buf *out, struct str text) WARN_UNUSED;

/* utf-8-addr-xtext: "\x{C4}" for each character that xtext could not hold as itself. text is UTF-8. */
void xtext_utf8_encode(struct buf *out, struct str text);
/* utf-8-addr-unitext, for who takes UTF-8: that stays. */
void xtext_unitext_encode(struct buf *out, struct str text);
/* utf-8-addr-xtext or utf-8-addr-unitext to UTF-8. False if it is neither. */
bool xtext_utf8_decode(struct buf *out, struct str text) WARN_UNUSED;

#endif
