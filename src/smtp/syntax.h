/* smtp/syntax - command lines taken apart. Pure: bytes in, structs out, no session, no I/O.
 *
 * Strings point into the line or the arena given. Errors carry the enhanced code and the sentence of the
 * reply; ERR_SYNTAX is a 501, ERR_PERM a 555 (unknown parameter), ERR_LIMIT a 552. */
#ifndef SMTP_SYNTAX_H
#define SMTP_SYNTAX_H

#include "msg/address.h"
#include "queue/schema.h"

/* Splits a line without its line end into verb and arguments (blanks around them removed). */
void smtp_line_split(struct str line, struct str *verb_r, struct str *args_r);
/* The line without its CRLF or LF. *bare_r: it ended with LF alone. */
struct str smtp_line_strip(struct str unit, bool *bare_r);
/* Bytes that no command may hold: NUL and other controls, but HTAB. */
bool smtp_line_is_clean(struct str line);

struct mail_args {
	struct address sender; /* "" and "": the null sender */
	uint64_t size;	       /* SIZE=, 0: not declared (RFC 1870) */
	bool body_8bit, smtputf8;
	int ret;	  /* enum dsn_ret (RFC 3461 4.3) */
	struct str envid; /* decoded from xtext */
	/* HOLDFOR in seconds, HOLDUNTIL in seconds since 1970 (RFC 4865 3); 0: not given. */
	int64_t hold_for, hold_until;
	struct str hold_request; /* "for;600": as a report quotes it */
	int64_t by_seconds;	 /* BY (RFC 2852 4), from now; may have passed. If by_mode */
	uint8_t by_mode;	 /* enum by_mode; 0: not given */
	bool verp;		 /* XVERP, and its two delimiters, "" for the default */
	struct str verp_delimiters;
};
/* args: what stands behind MAIL: "FROM:<a@b> SIZE=1000 ...". RFC 5321 4.1.1.2. */
int smtp_mail_parse(struct str args, bool strict, struct arena *arena, struct mail_args *mail_r,
		    struct err *err) WARN_UNUSED;

struct rcpt_args {
	struct address recipient;
	uint32_t notify;  /* enum dsn_notify bits, 0: not given (RFC 3461 4.1) */
	struct str orcpt; /* "rfc822;address", xtext decoded, or "" */
};
/* args: what stands behind RCPT: "TO:<a@b> NOTIFY=...". utf8: MAIL said SMTPUTF8 (RFC 6531 3.4). */
int smtp_rcpt_parse(struct str args, bool strict, bool utf8, struct arena *arena, struct rcpt_args *rcpt_r,
		    struct err *err) WARN_UNUSED;

struct bdat_args {
	uint64_t count;
	bool last;
};
/* RFC 3030 2. */
int smtp_bdat_parse(struct str args, struct bdat_args *bdat_r, struct err *err) WARN_UNUSED;

/* RFC 3461 4: "+3D" for "=". False on anything that is no xtext. */
bool smtp_xtext_decode(struct str in, struct arena *arena, struct str *out_r) WARN_UNUSED;
/* A host name or address literal as a HELO argument; lenient about its characters, strict about blanks. */
bool smtp_helo_is_sane(struct str name);

#endif
