/* utf8 - checking and stepping through UTF-8 (RFC 3629: no surrogates, no overlong forms, up to U+10FFFF). */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/buf.h"

bool utf8_valid(struct str s);
/* Takes one code point off the front of *s. Returns it, or -1 (and skips one byte) where it is malformed,
 * or -2 at the end. */
int32_t utf8_next(struct str *s);
void utf8_add(struct buf *out, uint32_t code_point);
/* Copies s with malformed bytes replaced by U+FFFD. */
void utf8_sanitize(struct buf *out, struct str s);
/* Puts a '?' for each byte that a terminal would obey: controls of ASCII, and those of U+0080 to U+009F, which are as
 * good as an escape (U+009B is ESC [). */
void utf8_hide_controls(char *text, size_t len);
bool utf8_has_control(struct str s);

#endif
