/* sasl - see sasl.h.
 *
 * Each mechanism is one step function; `stage` counts what it has seen. SCRAM (sasl_scram.c) is the only one with
 * state of its own. */
#include "base/clock.h"
#include "base/mem.h"
#include "directory/sasl_private.h"

/* ---- user name and password ---- */

enum dir_auth_status sasl_verify(const struct sasl_env *env, struct str user, struct str password, struct arena *arena,
				 struct account *user_r, struct err *why_r)
{
	int found = user.len > 0 && user.len <= SASL_USER_MAX ? env->find(env->ctx, user, arena, user_r, why_r) : 0;
	bool fits;

	if (found < 0)
		return AUTH_TEMP;
	if (found == 0) {
		password_waste(password);
		err_set(why_r, ERR_DENIED, "5.7.8", "unknown user");
		return AUTH_FAILED;
	}
	fits = env->verified
		       ? verified_password(env->verified, user_r->password, password, env->verified_ms, clock_ms())
		       : password_verify(user_r->password, password);
	if (!user_r->active) {
		err_set(why_r, ERR_DENIED, "5.7.8", "user disabled");
		return AUTH_FAILED;
	}
	if (!fits) {
		err_set(why_r, ERR_DENIED, "5.7.8", "password mismatch");
		return AUTH_FAILED;
	}
	return AUTH_OK;
}

static enum dir_auth_status malformed(struct err *why_r, const char *what)
{
	err_set(why_r, ERR_SYNTAX, "5.5.2", "malformed %s response", what);
	return AUTH_INVALID;
}

/* RFC 4616 2: [authzid] NUL authcid NUL passwd. Acting for somebody else is not offered. */
static enum dir_auth_status plain_step(struct sasl *s, const struct sasl_env *env, const struct str *response,
				       struct buf *challenge, struct err *why_r)
{
	struct str authzid, rest, authcid, password;
	enum dir_auth_status status;

	(void)challenge;
	if (!response)
		return AUTH_CONTINUE;
	if (!str_split(*response, '\0', &authzid, &rest) || !str_split(rest, '\0', &authcid, &password) ||
	    authcid.len == 0 || authcid.len > SASL_USER_MAX || password.len == 0 || str_chr(password, '\0') >= 0)
		return malformed(why_r, "PLAIN");
	s->user = arena_str(&s->arena, authcid);
	status = sasl_verify(env, authcid, password, &s->arena, &s->account, why_r);
	if (status == AUTH_OK && !sasl_may_act_as(s, authzid)) {
		err_set(why_r, ERR_DENIED, "5.7.8", "authorization identity differs");
		return AUTH_FAILED;
	}
	return status;
}

/* draft-murchison-sasl-login; clients look for exactly these prompts. */
static enum dir_auth_status login_step(struct sasl *s, const struct sasl_env *env, const struct str *response,
				       struct buf *challenge, struct err *why_r)
{
	if (!response) {
		buf_addz(challenge, "Username:");
		return AUTH_CONTINUE;
	}
	if (s->stage++ > 0)
		return sasl_verify(env, s->user, *response, &s->arena, &s->account, why_r);
	if (response->len == 0 || response->len > SASL_USER_MAX)
		return malformed(why_r, "LOGIN");
	s->user = arena_str(&s->arena, *response);
	buf_addz(challenge, "Password:");
	return AUTH_CONTINUE;
}

/* ---- the exchange ---- */

bool sasl_may_act_as(const struct sasl *s, struct str authzid)
{
	return authzid.len == 0 || str_ieq(authzid, s->user) || str_ieq(authzid, s->account.address);
}

static const struct {
	const char *name;
	sasl_step_fn *step;
	bool scram, plus;
} mechanisms[] = {
	{"PLAIN", plain_step, false, false},
	{"LOGIN", login_step, false, false},
	{"SCRAM-SHA-256", sasl_scram_step, true, false},
	{"SCRAM-SHA-256-PLUS", sasl_scram_step, true, true},
};

struct sasl *sasl_new(const struct sasl_options *options)
{
	struct sasl *s = NEW(struct sasl);

	arena_init(&s->arena);
	s->service = arena_str(&s->arena, options->service);
	s->client = arena_str(&s->arena, options->client);
	s->epoch = options->epoch;
	for (size_t i = 0; i < ARRAY_SIZE(mechanisms); i++)
		if (str_ieq(options->mechanism, str_from(mechanisms[i].name))) {
			s->step = mechanisms[i].step;
			if (mechanisms[i].scram && !sasl_scram_init(s, options, mechanisms[i].plus))
				s->step = NULL;
		}
	if (!s->step)
		sasl_free(&s);
	return s;
}

void sasl_free(struct sasl **sp)
{
	struct sasl *s = *sp;

	if (!s)
		return;
	*sp = NULL;
	sasl_scram_release(s);
	mem_wipe(&s->account.scram, sizeof(s->account.scram));
	arena_release(&s->arena);
	free(s);
}

enum dir_auth_status sasl_step(struct sasl *s, const struct sasl_env *env, const struct str *response,
			       struct buf *challenge, struct err *why_r)
{
	*why_r = ERR_NONE;
	buf_clear(challenge);
	if (response && response->len > SASL_RESPONSE_MAX)
		return malformed(why_r, "too long");
	return s->step(s, env, response, challenge, why_r);
}

struct str sasl_user(const struct sasl *s)
{
	return s->user;
}

struct str sasl_service(const struct sasl *s)
{
	return s->service;
}

struct str sasl_client(const struct sasl *s)
{
	return s->client;
}

uint64_t sasl_epoch(const struct sasl *s)
{
	return s->epoch;
}

const struct account *sasl_account(const struct sasl *s)
{
	return &s->account;
}
