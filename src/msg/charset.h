/* charset - text in other character sets to UTF-8.
 *
 * Known: UTF-8, US-ASCII, ISO-8859-1 .. -16, windows-1250 .. -1258, KOI8-R and -U, UTF-16 in both orders, by tables of
 * our own; after charset_load(), by iconv(3), GB18030 (and GBK, GB2312), Big5, EUC-JP, ISO-2022-JP, Shift_JIS and
 * EUC-KR; and the aliases mail uses for them. */
#ifndef MSG_CHARSET_H
#define MSG_CHARSET_H

#include "base/buf.h"

/* Loads what iconv(3) has for East Asia. Once in a process that shows or searches text: before its jail, which loads
 * nothing, and before its threads. */
void charset_load(void);
/* True if charset_decode() knows the name. */
bool charset_known(struct str name);
/* Appends `bytes` in the charset `name` as UTF-8. What means nothing becomes U+FFFD. An unknown charset is read as
 * UTF-8 where the bytes are that; otherwise its bytes above 0x7f become U+FFFD, and the result is false. */
bool charset_decode(struct buf *out, struct str name, struct str bytes);
/* Unlabelled text: UTF-8 if it is that, else windows-1252, which is what such mail mostly is. */
void charset_guess(struct buf *out, struct str bytes);

#endif
