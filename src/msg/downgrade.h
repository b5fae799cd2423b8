/* msg/downgrade - 8-bit mail for servers that take 7 bits only (RFC 6152 3): bodies become quoted-printable or base64.
 *
 * Every leaf part that holds a byte above 0x7f (or a line that no 7-bit transport takes) is encoded and its
 * Content-Transfer-Encoding field replaced; containers that said 8bit or binary say 7bit. All other bytes, line by
 * line, stay as they are. Header fields are left alone (RFC 2047 words are their own business).
 *
 * What is inside multipart/signed stays as it is, even with 8-bit bytes, which its maker should have encoded (RFC 1847
 * 2.1): a conversion breaks the signature for certain, while nearly every server that does not say 8BITMIME passes all
 * 8 bits on. Containers around it go on saying 8bit. Pure; memory: the MIME tree. */
#ifndef MSG_DOWNGRADE_H
#define MSG_DOWNGRADE_H

#include "base/str.h"

/* Calls put for the pieces of the converted message, in order; stops with -1 when put says so. Line ends as in the
 * message; encoded lines end with LF, or CRLF in a message that has them. */
int mime_downgrade(struct str message, int (*put)(void *ctx, struct str piece), void *ctx) WARN_UNUSED;

#endif
