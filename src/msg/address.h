/* msg/address - mail addresses as envelopes carry them (RFC 5321 4.1.2) and as headers write them (RFC 5322 3.4).
 * Bytes in, structs out, no I/O. */
#ifndef MSG_ADDRESS_H
#define MSG_ADDRESS_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

struct address {
	struct str local;  /* unquoted, case kept */
	struct str domain; /* as written, without trailing dot; "" for <postmaster>; "[...]" for a literal */
};

enum {
	ADDRESS_UTF8 = 1,   /* SMTPUTF8: allow UTF-8 in both parts (RFC 6531 3.3) */
	ADDRESS_STRICT = 2, /* strict_rfc821_envelopes: brackets required, no blanks, no comments */
	ADDRESS_EMPTY = 4,  /* allow <> : local and domain "" */
};

/* Parses the path at the front of `in` (behind "MAIL FROM:" or "RCPT TO:"): "<a@b>", with a source route
 * that is dropped, quoted local parts, and without ADDRESS_STRICT also " <a@b>", "a@b", comments, dots at
 * odd places and any local part without a domain (domain ""). rest_r: what follows. Strings are copied to the
 * arena. Local part <= 64 bytes (255 without ADDRESS_STRICT), domain <= 255 (RFC 5321 4.5.3.1); a domain is a
 * dotted list of labels or a valid address literal. err: ERR_SYNTAX with 5.1.3, or 5.6.7 where only
 * ADDRESS_UTF8 is missing. */
int address_parse_path(struct str in, unsigned flags, struct arena *arena, struct address *a_r, struct str *rest_r,
		       struct err *err) WARN_UNUSED;
/* "local@domain", quoting the local part where needed; the form for paths and logs. */
void address_write(struct buf *out, const struct address *a);
struct str address_str(struct arena *arena, const struct address *a);
/* Splits a plain "local@domain" (as stored and resolved) at the last '@'; domain "" without one. Quotes
 * around the local part are taken off (not when it holds a backslash: that stays as written). */
struct address address_split(struct str text);

/* The key by which domains are compared: lower case, A-labels (IDNA2008 by libidn2), no trailing dot.
 * False when it is no domain. */
bool domain_normalize(struct str domain, struct arena *arena, struct str *key_r) WARN_UNUSED;
/* U-label form for people; the input itself when it has none. */
struct str domain_unicode(struct str domain, struct arena *arena);
bool domain_is_valid(struct str domain); /* LDH labels (or UTF-8 letters), lengths; not a literal */

/* ---- header address lists ---- */
struct mailbox_addr {
	struct str name;  /* display name, encoded words not decoded, quotes and escapes removed; ptr NULL: none */
	struct str route; /* obsolete route, or NULL */
	struct str local; /* NULL local with non-NULL group fields: see kind */
	struct str domain;
	enum { ADDR_MAILBOX, ADDR_GROUP_START, ADDR_GROUP_END } kind; /* GROUP_START: name is the group's */
	size_t at, len; /* of MAILBOX: where local@domain stands in the value, without brackets, names and route */
};
struct mailbox_addr_list {
	struct mailbox_addr *v;
	size_t n, cap;
};
#define ADDRESS_LIST_MAX 10000
/* As forgiving as IMAP ENVELOPE needs: malformed pieces become what can be saved of them, never an error.
 * A name without any address gives an empty local part and domain (not NULL). */
void address_list_parse(struct str value, struct arena *arena, struct mailbox_addr_list *list_r);
/* The same with a limit of the caller's. */
void address_list_parse_max(struct str value, size_t max, struct arena *arena, struct mailbox_addr_list *list_r);

#endif
