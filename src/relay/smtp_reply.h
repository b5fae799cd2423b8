/* relay/smtp_reply - replies of an SMTP server (RFC 5321 4.2), line by line. Bytes in, struct out, no I/O. */
#ifndef RELAY_SMTP_REPLY_H
#define RELAY_SMTP_REPLY_H

#include "base/arena.h"
#include "base/buf.h"

#define SMTP_REPLY_LINES_MAX 1000
#define SMTP_REPLY_LINE_MAX  4096  /* longer lines are cut */
#define SMTP_REPLY_TEXT_MAX  16384 /* text kept of one reply; the rest is dropped */

struct smtpc_reply {
	unsigned code;	   /* 200 .. 599; of the last line */
	char enhanced[12]; /* RFC 3463: what the text says where its class fits the code, else "2.0.0", "4.0.0", "5.0.0"
			    */
	struct buf lines;  /* the text behind the code of each line, '\n' between; control characters are '?' */
	unsigned count;
};

enum smtpc_reply_step { SMTP_REPLY_MORE, SMTP_REPLY_DONE, SMTP_REPLY_BAD };

void smtpc_reply_init(struct smtpc_reply *r);
void smtpc_reply_release(struct smtpc_reply *r);
void smtpc_reply_clear(struct smtpc_reply *r);
/* The next line, without its line end. BAD: no reply line, or more of them than any server has reason to send; what
 * follows on the connection cannot be trusted to answer what it seems to. */
enum smtpc_reply_step smtpc_reply_line(struct smtpc_reply *r, struct str line) WARN_UNUSED;
/* "550 5.1.1 no such user" on one line; lives in the arena. */
struct str smtpc_reply_text(const struct smtpc_reply *r, struct arena *arena);

#endif
