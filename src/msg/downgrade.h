/* msg/downgrade - 8-bit mail for servers that take 7 bits only (RFC 6152 3): bodies become quoted-printable or base64.
 *
 * Every leaf part that holds a byte above 0x7f (or a line that no 7-bit transport takes) is encoded and its
 * Content-Transfer-Encoding field replaced; containers that said 8bit or binary say 7bit. All other bytes, line by
 * line, stay as they are; what is inside multipart/signed is not touched unless it holds 8-bit bytes itself. Header
 * fields are left alone (RFC 2047 words are their own business). Pure; memory: the MIME tree. */
#ifndef MSG_DOWNGRADE_H
#define MSG_DOWNGRADE_H

#include "base/str.h"

/* Calls put for the pieces of the converted message, in order; stops with -1 when put says so. Line ends as in the
 * message; encoded lines end with LF, or CRLF in a message that has them. */
int mime_downgrade(struct str message, int (*put)(void *ctx, struct str piece), void *ctx) WARN_UNUSED;

#endif
