/* policy/rewriting - which addresses of a message that comes in are rewritten, and by what (ADDRESS_REWRITING_README).
 */
#ifndef POLICY_REWRITING_H
#define POLICY_REWRITING_H

#include "config/conf.h"

enum rewriting_class {
	REWRITING_ENVELOPE_SENDER,
	REWRITING_ENVELOPE_RECIPIENT,
	REWRITING_HEADER_SENDER,
	REWRITING_HEADER_RECIPIENT
};

/* The tables for addresses of that class: enum dir_rewrite_maps; 0 where nothing is configured. */
unsigned rewriting_maps(const struct conf *conf, enum rewriting_class class);

/* The words of canonical_classes and its kin and of local_header_rewrite_clients are some; those of Postfix that decide
 * nothing yet are told in warnings (a line each, or NULL). 0, or -1 with the parameter and the word in err. */
int rewriting_check(const struct conf *conf, struct buf *warnings, struct err *err) WARN_UNUSED;

#endif
