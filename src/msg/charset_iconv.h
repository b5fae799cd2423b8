/* charset_iconv - the East Asian charsets of mail, read by the C library's iconv(3).
 *
 * Their tables are far larger than all of ours, and every system has them. The library loads each from a file of
 * its own, which a jail forbids: charset_load() does it before. Until then, and where the system lacks the file, the
 * charset is as unknown as any other. */
#ifndef MSG_CHARSET_ICONV_H
#define MSG_CHARSET_ICONV_H

#include "base/buf.h"

/* `name` in lower case, with '-' and not '_'. */
bool charset_iconv_known(struct str name);
/* Appends the bytes as UTF-8, U+FFFD for what means nothing. False, and nothing is appended, if the charset is not
 * known. From any thread. */
bool charset_iconv_decode(struct buf *out, struct str name, struct str bytes);

#endif
