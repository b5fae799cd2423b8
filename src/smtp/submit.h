/* smtp/submit - the other side of a local submission: a dialogue that is known from its first byte to its last is
 * written into the socket, and the replies say what became of it. For sendmail(1), which has just put it together, and
 * for who feeds a file of the maildrop directory, which holds it as sendmail wrote it.
 *
 * The dialogue ends with QUIT. What is in it is not looked at. Blocks; one thread. */
#ifndef SMTP_SUBMIT_H
#define SMTP_SUBMIT_H

#include "base/err.h"
#include "base/str.h"

/* head, body, the file's bytes from 0 to file_size, tail: one behind the other. */
struct submit_dialogue {
	struct str head, body;
	int fd; /* -1: no file */
	uint64_t file_size;
	struct str tail;
};

enum submit_result {
	SUBMIT_TAKEN, /* durable; nobody need do anything any more */
	SUBMIT_LATER, /* not now (a temporary refusal, a stop), or nobody knows: the same again, under the same token */
	SUBMIT_NEVER, /* refused, or no whole dialogue */
};
/* why_r: the reply that decided, or what went wrong. idle_ms: how long the other side may neither read nor write. */
enum submit_result submit_run(int conn, const struct submit_dialogue *d, int64_t idle_ms, struct err *why_r);

#endif
