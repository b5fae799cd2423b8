/* lex - the lexical tokens that address lists, MIME fields and dates share (RFC 5322 3.2).
 *
 * Inside msg/ only. A cursor is the unread rest of a field value, folded or not. Every function takes what it
 * reads off the front, in time linear in what it takes, without recursion: 100,000 parentheses are one loop. */
#ifndef MSG_LEX_H
#define MSG_LEX_H

#include "base/buf.h"

static inline bool lex_is_wsp(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}
/* atext, RFC 5322 3.2.3; bytes above 0x7f count as RFC 6532 3.2 has them. */
bool lex_is_atext(char c);

void lex_skip_wsp(struct str *rest);
/* Takes a comment with everything nested in it; *rest begins with '('. An open one ends with the text.
 * comment_r, if not NULL, is what stood between the outermost parentheses. */
void lex_comment(struct str *rest, struct str *comment_r);
/* Blanks, folding and comments. last_comment_r, if not NULL, is set when a comment was skipped. */
void lex_skip_cfws(struct str *rest, struct str *last_comment_r);
/* Takes a quoted string, *rest begins with '"'; an open one ends with the text. The contents, without quotes,
 * backslashes and line ends, are appended to out. */
void lex_quoted(struct str *rest, struct buf *out);
/* The value of a hex digit, or -1. */
int lex_hex(char c);

#endif
