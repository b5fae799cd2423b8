/* policy/private - what the files of the restriction language share. */
#ifndef POLICY_PRIVATE_H
#define POLICY_PRIVATE_H

#include "policy/policy.h"

/* What a restriction says of a request; on POLICY_REFUSE with the reply in code_r and err. */
typedef enum policy_verdict restriction_fn(const struct policy_request *r, int *code_r, struct err *err);
typedef enum policy_verdict restriction_with_argument_fn(const struct policy_request *r, struct str argument,
							 int *code_r, struct err *err);

struct restriction {
	const char *name;
	restriction_fn *fn;			     /* or: */
	restriction_with_argument_fn *with_argument; /* the next word of the list is its */
	bool argument;
};

/* ---- dns.c ---- */
/* The restrictions that ask the DNS. */
const struct restriction *policy_dns_find(struct str name);
/* The argument of one: "list.example.org" or "list.example.org=127.0.0.[2;4..8]". */
int policy_dns_check(struct str argument, struct err *err) WARN_UNUSED;

#endif
