/* err - what went wrong, in a form that a user can read and a protocol can answer.
 *
 * A function that can fail returns a negative number and fills a struct err (which may be NULL if the
 * caller does not care). `kind` decides what to do, `code` (RFC 3463, "5.1.1") and `text` what to say.
 * text never holds CR, LF or NUL: err_set() replaces control characters, so it is safe in a reply line. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/str.h"

enum err_kind {
	ERR_OK = 0,
	ERR_TEMP,      /* may work later: 4xx, NO [UNAVAILABLE] */
	ERR_PERM,      /* will not work: 5xx, NO */
	ERR_SYNTAX,    /* the peer's bytes are malformed: 501, BAD */
	ERR_DENIED,    /* not authenticated or not allowed */
	ERR_NOT_FOUND, /* no such user, mailbox, message */
	ERR_EXISTS,    /* name already taken */
	ERR_FULL,      /* over quota, or the disk is full (ERR_TEMP's cousin; 452) */
	ERR_LIMIT,     /* a limit of ours was exceeded */
	ERR_LOST,      /* the peer process or connection went away; the outcome may be unknown */
};

struct err {
	enum err_kind kind;
	int sys;       /* errno, or 0 */
	char code[12]; /* enhanced status code, or "" */
	char text[244];
};

#define ERR_NONE ((struct err){.kind = ERR_OK})

/* All return -1, so that `return err_set(...)` reads well. err may be NULL. */
int err_set(struct err *err, enum err_kind kind, const char *code, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* Appends ": strerror(errno)"; ENOSPC and EDQUOT give ERR_FULL 4.3.1, everything else ERR_TEMP 4.3.0. */
int err_errno(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Puts "context: " in front of the text. */
int err_context(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
#ifdef __clang_analyzer__ /* it sees one file at a time, and would follow paths on which these return 0 */
#define err_set(...)	 (err_set(__VA_ARGS__), -1)
#define err_errno(...)	 (err_errno(__VA_ARGS__), -1)
#define err_context(...) (err_context(__VA_ARGS__), -1)
#endif
bool err_is_temp(const struct err *err); /* TEMP, FULL or LOST: worth another try */

#endif
