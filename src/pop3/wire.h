/* pop3/wire - the syntax of POP3 lines, and a message in its multi-line wire form. Pure: no I/O. */
#ifndef POP3_WIRE_H
#define POP3_WIRE_H

#include "base/buf.h"

/* Length of the first line in `in`, its LF included; 0: none yet; -1: longer than max bytes. *scanned is where
 * to look on, 0 at first. */
ssize_t pop3_line_find(struct str in, size_t max, size_t *scanned);
/* The command word and what stands behind its space, without line end. */
void pop3_line_split(struct str line, struct str *name_r, struct str *args_r);

/* RFC 1939 3: each LF becomes CRLF (unless the message is kept as received), a dot that begins a line is
 * doubled, "." ends it. */
struct pop3_wire {
	bool as_is;
	uint64_t body_lines; /* TOP: lines of the body still to send; UINT64_MAX: all */
	bool in_body;
	bool after_crlf; /* what was sent ends in CRLF, or nothing was */
	char before;	 /* the last byte sent; a newline at the start */
	size_t line_len; /* bytes in the current line, to find the empty one */
};
void pop3_wire_init(struct pop3_wire *w, bool as_is, uint64_t body_lines);
/* Appends the wire form of the next piece of the message. False when nothing behind it is wanted. */
bool pop3_wire_add(struct pop3_wire *w, struct str piece, struct buf *out);
void pop3_wire_end(const struct pop3_wire *w, struct buf *out);

#endif
