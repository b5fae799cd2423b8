/* submission - one message of sendmail(1) on its way: collected from standard input, then told to the running system,
 * or kept in the maildrop directory until there is one. Nothing of the message is parsed here: that is for the jailed
 * process that receives it. */
#ifndef CMD_SUBMISSION_H
#define CMD_SUBMISSION_H

#include "base/buf.h"
#include "base/vec.h"
#include "cmd/cmd.h"
#include "config/conf.h"

struct submission {
	const char *dir;
	char *spool;	    /* queue_directory */
	uint64_t size_max;  /* message_size_limit, 0: none */
	bool extract;	    /* -t */
	bool gateway;	    /* -G */
	bool dot_is_text;   /* -i */
	bool body_8bit;	    /* -B 8BITMIME */
	bool utf8;	    /* an address needs SMTPUTF8 */
	const char *ret;    /* "FULL", "HDRS", or NULL */
	const char *notify; /* "NEVER", "SUCCESS,DELAY", or NULL */
	const char *verp;   /* -XV: two delimiters, "" for the default; or NULL */
	bool report;	    /* -v: of the first attempt */
	bool verify;	    /* -bv: nothing is delivered */
	char *verp_filter;  /* verp_delimiter_filter */
	struct str sender, full_name, envid;
	struct arena arena;
	VEC(struct str) rcpts; /* as RCPT TO wants them */

	/* what was read */
	struct buf head;
	struct buf memory; /* the message, while it is short */
	int file;	   /* where it is when it is not; -1 */
	uint64_t file_size;
};

void submission_init(struct submission *s, const char *dir);
void submission_release(struct submission *s);
/* Addresses as people write them ("a, b <c@d>"), of the command line. 0, or -1 with err. */
int submission_add(struct submission *s, struct str list, struct err *err);
/* Reads the message from fd to its end. 0, or a sysexits status after having said what is wrong. */
int submission_read(struct submission *s, int fd);
/* A sysexits status, EX_OK only when the message is durable. */
int submission_send(struct submission *s);
/* Keeps it in the maildrop without asking whether the system runs: what says the same again and again is there once.
 * `same`: a part of the message by which its like is known. At most SUBMISSION_KEPT_MAX of one user are there. 1 kept,
 * 0 one like it is kept already, -1 with err. */
#define SUBMISSION_KEPT_MAX 50
int submission_keep_once(struct submission *s, struct str same, struct err *err) WARN_UNUSED;
/* A connection to the running system; -1 with err. */
int submission_connect(const struct submission *s, struct err *err);

#endif
