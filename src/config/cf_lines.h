/* cf_lines - logical lines of main.cf and master.cf (postconf(5)): a line that begins with a blank goes on with the
 * one before; empty lines and comments vanish, also between such lines. */
#ifndef CONFIG_CF_LINES_H
#define CONFIG_CF_LINES_H

#include "base/buf.h"
#include "base/err.h"

#define CF_SIZE_MAX 1048576

struct cf_lines {
	struct str rest;
	const char *file_name;
	unsigned line; /* of the next physical line, from 1 */
};

void cf_lines_init(struct cf_lines *c, struct str text, const char *file_name);
/* The next logical line, trimmed at its end, and the number of its first physical line. 1, or 0 at the end, or -1. */
int cf_lines_next(struct cf_lines *c, struct buf *line, unsigned *number_r, struct err *err) WARN_UNUSED;
/* The next word of *rest: blanks separate, { } keep what they enclose (and themselves) in one word. 1, 0, or -1 when
 * a brace is never closed. With `commas` these separate too. */
int cf_word(struct str *rest, bool commas, struct str *word_r);

#endif
