/* directory/sasl_private - what sasl.c and sasl_scram.c share. */
#ifndef DIRECTORY_SASL_PRIVATE_H
#define DIRECTORY_SASL_PRIVATE_H

#include "directory/sasl.h"

struct sasl;
struct Gsasl_session;

typedef enum dir_auth_status sasl_step_fn(struct sasl *s, const struct sasl_env *env, const struct str *response,
					  struct buf *challenge, struct err *why_r);

struct sasl {
	struct arena arena;
	sasl_step_fn *step;
	unsigned stage;
	struct str user; /* as the client wrote it */
	struct account account;
	struct str service, client;
	uint64_t epoch;
	/* SCRAM */
	struct Gsasl_session *gsasl;
	bool plus;
	struct str exporter64, unique64; /* base64, NUL behind; "" without */
	const struct sasl_env *env;	 /* during a step */
	int found;			 /* as user_find() said; 2: not asked yet */
	struct scram_keys keys;		 /* the user's, or a dummy's */
	struct err *why;		 /* during a step */
};

bool sasl_may_act_as(const struct sasl *s, struct str authzid);

/* False: not offered (no binding for -PLUS, or the library has no SCRAM). */
bool sasl_scram_init(struct sasl *s, const struct sasl_options *options, bool plus) WARN_UNUSED;
sasl_step_fn sasl_scram_step;
void sasl_scram_release(struct sasl *s);

#endif
