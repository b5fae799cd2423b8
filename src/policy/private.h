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

/* check_..._access: what is looked up, and whether it is its own name or its servers'. */
enum access_about { ABOUT_CLIENT, ABOUT_REVERSE, ABOUT_HELO, ABOUT_SENDER, ABOUT_RECIPIENT, ABOUT_SASL, ABOUT_ETRN };
enum access_via { VIA_ITSELF, VIA_A, VIA_MX, VIA_NS };
struct access_check {
	const char *name;
	enum access_about about;
	enum access_via via;
};

/* An element of a list. */
struct element {
	struct str name;
	struct str argument;		   /* of a restriction that has one */
	const struct restriction *rule;	   /* RESTRICTION */
	struct str table;		   /* ACCESS: its tables */
	const struct access_check *access; /* ACCESS: NULL: what the list is about */
};

/* Somebody says that he sent it: it is not the null sender. <""@domain> is an address like others. */
static inline bool policy_has_sender(const struct policy_request *r)
{
	return r->sender != NULL && (r->sender->local.len > 0 || r->sender->domain.len > 0);
}

/* ---- policy.c ---- */
/* policy_eval(), `depth` lists deep. */
enum policy_verdict policy_eval_at(struct str list, const struct policy_request *r, unsigned depth, int *code_r,
				   struct err *err);
/* POLICY_REFUSE for now; the reason goes to the log. */
enum policy_verdict policy_lookup_failed(const struct policy_request *r, const struct err *why, int *code_r,
					 struct err *err);
/* Leaves code and why behind for policy_conclude(), unless something was before. */
void policy_defer_if(const struct policy_request *r, bool permit, int code, const struct err *why);

/* ---- tables.c ---- */
/* The check of that name, or NULL. */
const struct access_check *policy_access_find(struct str name);
enum policy_verdict policy_access_eval(const struct policy_request *r, const struct element *e, unsigned depth,
				       int *code_r, struct err *err);

/* ---- dns.c ---- */
/* The restrictions that ask the DNS. */
const struct restriction *policy_dns_find(struct str name);
/* The argument of one: "list.example.org" or "list.example.org=127.0.0.[2;4..8]". */
int policy_dns_check(struct str argument, struct err *err) WARN_UNUSED;

#endif
