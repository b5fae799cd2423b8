/* directory/sasl - one log-in exchange: PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 and -PLUS (RFC 5802, 7677, 9266).
 *
 * SCRAM is GNU SASL's; around it this module refuses what the library lets pass. All refusals look alike to the
 * client: unknown user, wrong password, disabled user, and cost the same time. An exchange is used by one thread
 * at a time; different ones run in parallel. Secrets are wiped. */
#ifndef DIRECTORY_SASL_H
#define DIRECTORY_SASL_H

#include "directory/accounts.h"
#include "directory/schema.h"
#include "directory/verified.h"

#define SASL_RESPONSE_MAX 9216 /* RFC 4954 4: 12288 octets of base64 */
#define SASL_USER_MAX	  320

/* Who answers for the users; on the stack of the caller for each step. */
struct sasl_env {
	/* 1, 0 or -1, as user_find(); adds a default domain where that is wanted. */
	int (*find)(void *ctx, struct str user, struct arena *arena, struct account *user_r, struct err *err);
	void *ctx;
	uint8_t secret[DB_SECRET_LEN]; /* of the database: for dummy salts */
	uint32_t scram_iterations;     /* what new users get: dummies too */
	struct verified *verified;     /* NULL: each password is hashed */
	int64_t verified_ms;	       /* for how long one that was right is known */
};

struct sasl_options {
	struct str mechanism;	     /* any case */
	struct str binding_exporter; /* bytes of the channel binding (RFC 9266), or "" */
	struct str binding_unique;   /* RFC 5929, or "" */
	/* Kept for the caller, who gets them back at the end. */
	struct str service, client;
	uint64_t epoch;
};

struct sasl;

/* NULL: there is no such mechanism (-PLUS without a channel binding is none either). */
struct sasl *sasl_new(const struct sasl_options *options) WARN_UNUSED;
void sasl_free(struct sasl **s);

/* response NULL: the client has not said anything yet (no initial response). challenge: cleared, then what
 * CONTINUE sends. Anything but CONTINUE ends the exchange. why_r: one sentence for the log, "" with CONTINUE. */
enum dir_auth_status sasl_step(struct sasl *s, const struct sasl_env *env, const struct str *response,
			       struct buf *challenge, struct err *why_r) WARN_UNUSED;
/* The name that the client gave so far, or "". */
struct str sasl_user(const struct sasl *s);
struct str sasl_service(const struct sasl *s);
struct str sasl_client(const struct sasl *s);
uint64_t sasl_epoch(const struct sasl *s);
/* After AUTH_OK: who it is. Lives as long as s. */
const struct account *sasl_account(const struct sasl *s);

/* User name and password outside of SASL, by the same rules: OK, FAILED, TEMP. */
enum dir_auth_status sasl_verify(const struct sasl_env *env, struct str user, struct str password, struct arena *arena,
				 struct account *user_r, struct err *why_r) WARN_UNUSED;

#endif
