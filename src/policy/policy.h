/* policy - the restriction language of Postfix (smtpd_*_restrictions in postconf(5)), as far as it needs
 * nothing from outside but the directory's answers.
 *
 * A list is walked from left to right; the first restriction that decides ends it. Nothing decides: dunno,
 * and the mail goes on. A list never lets through what a later list refuses. Names nobody knows are an error
 * when the configuration is read (policy_check), never a guess at run time; what Postfix knows and we do not yet
 * decides nothing, and is told (policy_each_unused). Thread-safe: no state. */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include "config/conf.h"
#include "directory/schema.h"
#include "dns/client.h"
#include "msg/address.h"

enum policy_verdict { POLICY_DUNNO, POLICY_PERMIT, POLICY_REFUSE };
/* Whose list it is: what "type:name" alone in it is asked about. */
enum policy_stage { STAGE_CLIENT = 1, STAGE_HELO, STAGE_SENDER, STAGE_RECIPIENT, STAGE_DATA, STAGE_ETRN };

/* Actions of access(5) on the message under way: throw it away; put a header field in front of it; let it wait for an
 * administrator; send it to somebody else instead, or as well. */
enum policy_act { ACT_DISCARD, ACT_PREPEND, ACT_HOLD, ACT_REDIRECT, ACT_BCC };

/* What restrictions that could not decide leave behind for the end of all lists (Postfix's defer_if_permit and
 * defer_if_reject): the DNS gave no answer, so a permit must not stand, or a lasting refusal. */
struct policy_deferral {
	int if_permit_code; /* 0: none */
	struct err if_permit;
	bool if_reject;
	int if_reject_code; /* 0: the refusal's own, as a temporary one */
	struct err if_reject_err;
};

/* What is known when a list is evaluated. Strings are borrowed. */
struct policy_request {
	const struct conf *conf;
	const struct net_addr *client;
	struct str client_name;	 /* "unknown[192.0.2.1]" */
	struct str host_name;	 /* "unknown", or the name that leads back to the client */
	struct str reverse_name; /* "unknown", or what its address is called */
	enum dns_name_status name_status, reverse_status;
	struct str helo;
	struct str etrn;	      /* domain of ETRN, or "" */
	const struct address *sender; /* NULL before MAIL */
	struct str sender_text;
	const struct address *recipient; /* NULL before RCPT */
	struct str recipient_text;
	enum rcpt_class recipient_class; /* 0: not resolved */
	struct str sasl_user;		 /* "": not authenticated */
	bool tls;
	bool pipelining; /* the client sent more before it was time to */
	/* Asks directory whether sasl_user may send as sender (DIR_SENDER); called at most once a list.
	 * 0 with the answer, or -1: nobody knows now. */
	int (*sender_owned)(void *ctx, struct dir_allowed *allowed_r, struct err *err);
	/* Asks directory what look-up tables say (DIR_LOOKUP). 1 with the value, 0, or -1: nobody knows now. NULL:
	 * there are no tables. The value lives as long as the request. */
	int (*lookup)(void *ctx, const struct dir_lookup *ask, struct str *value_r, struct err *err);
	/* dns_lookup(), or NULL: restrictions that need it decide nothing. May block. */
	int (*resolve)(void *ctx, struct str name, enum dns_type type, struct arena *arena, struct dns_answer *answer_r,
		       struct err *err);
	/* Notes what is to happen to the message, should it be taken. NULL: there is no message. */
	void (*act)(void *ctx, enum policy_act what, struct str text);
	struct policy_deferral *deferral;
	enum policy_stage stage;
	void *ctx;
};

/* When all lists are through, or one has refused (code_r, err): what was left behind changes the verdict. */
enum policy_verdict policy_conclude(enum policy_verdict verdict, const struct policy_deferral *d, int *code_r,
				    struct err *err);

/* Evaluates `list`. On POLICY_REFUSE: *code_r and err (enhanced code and sentence) are the reply; a temporary
 * one is a 4xx. What warn_if_reject lets through is logged. */
enum policy_verdict policy_eval(struct str list, const struct policy_request *r, int *code_r, struct err *err);

/* Every restriction list of the configuration names only what exists, and smtpd_relay_restrictions or
 * smtpd_recipient_restrictions refuse strangers' relaying. 0, or -1 with the parameter and the name in err. */
int policy_check(const struct conf *conf, struct err *err) WARN_UNUSED;
/* Calls f for every restriction of Postfix that stands in a list and decides nothing yet. */
void policy_each_unused(const struct conf *conf, void (*f)(void *ctx, const char *parameter, struct str name),
			void *ctx);
/* Calls f for every parameter that says more of a message by SMTP than mail by LMTP hears: lists with access tables
 * (REJECT, HOLD, REDIRECT, BCC ...), and who gets copies. */
void policy_each_unheard_by_lmtp(const struct conf *conf, void (*f)(void *ctx, const char *parameter), void *ctx);

#endif
