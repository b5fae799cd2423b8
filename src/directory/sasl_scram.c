/* SCRAM-SHA-256 and SCRAM-SHA-256-PLUS: GNU SASL does the exchange, this file answers its questions.
 *
 * Stages: 0 client-first, 1 client-final, 2 the empty response to the server's last message. Left to the
 * library: parsing, nonces, proof, comparison of the channel binding. Done here: what it does not refuse (a client
 * that asks for a binding without -PLUS; RFC 5802 6), dummy keys for unknown users, the authorization identity. */
#include "base/encode.h"
#include "base/mem.h"
#include "directory/sasl_private.h"
#include <gsasl.h>
#include <pthread.h>

enum { STAGE_FIRST, STAGE_FINAL, STAGE_EMPTY };
#define NOT_ASKED 2

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static Gsasl *library; /* read-only once made; NULL: unusable */

static void set_base64(Gsasl_session *session, Gsasl_property property, const void *data, size_t len)
{
	struct buf b;

	buf_init(&b, 1024);
	base64_encode(&b, str_of(data, len));
	(void)gsasl_property_set(session, property, b.ptr);
	mem_wipe(b.ptr, b.len);
	buf_release(&b);
}

/* The salt of an unknown name is derived from its folded form: asked twice, it is the same. */
static void dummy_keys(struct sasl *s)
{
	char *folded = arena_strz(&s->arena, s->user);

	for (size_t i = 0; i < s->user.len; i++)
		folded[i] = ascii_lower(folded[i]);
	scram_keys_dummy(s->env->secret, sizeof(s->env->secret), str_of(folded, s->user.len), s->env->scram_iterations,
			 &s->keys);
}

static void load_user(struct sasl *s, Gsasl_session *session)
{
	const char *name = gsasl_property_fast(session, GSASL_AUTHID);

	s->user = arena_str(&s->arena, str_sub(str_from(name ? name : ""), 0, SASL_USER_MAX + 1));
	s->found = s->user.len > 0 && s->user.len <= SASL_USER_MAX
			   ? s->env->find(s->env->ctx, s->user, &s->arena, &s->account, s->why)
			   : 0;
	if (s->found > 0 && s->account.scram.iterations > 0)
		s->keys = s->account.scram;
	else
		dummy_keys(s);
}

static int answer(Gsasl *ctx, Gsasl_session *session, Gsasl_property property)
{
	struct sasl *s = gsasl_session_hook_get(session);
	char number[16];

	(void)ctx;
	switch (property) {
	case GSASL_CB_TLS_EXPORTER:
		return s->exporter64.len > 0 ? gsasl_property_set(session, property, s->exporter64.ptr)
					     : GSASL_NO_CALLBACK;
	case GSASL_CB_TLS_UNIQUE:
		return s->unique64.len > 0 ? gsasl_property_set(session, property, s->unique64.ptr) : GSASL_NO_CALLBACK;
	case GSASL_SCRAM_ITER:
	case GSASL_SCRAM_SALT:
	case GSASL_SCRAM_STOREDKEY:
	case GSASL_SCRAM_SERVERKEY:
		break;
	default:
		return GSASL_NO_CALLBACK;
	}
	if (s->found == NOT_ASKED)
		load_user(s, session);
	snprintf(number, sizeof(number), "%u", (unsigned)s->keys.iterations);
	(void)gsasl_property_set(session, GSASL_SCRAM_ITER, number);
	set_base64(session, GSASL_SCRAM_SALT, s->keys.salt, s->keys.salt_len);
	set_base64(session, GSASL_SCRAM_STOREDKEY, s->keys.stored, SCRAM_KEY_LEN);
	set_base64(session, GSASL_SCRAM_SERVERKEY, s->keys.server, SCRAM_KEY_LEN);
	return GSASL_OK;
}

static void library_start(void)
{
	if (gsasl_init(&library) != GSASL_OK) {
		library = NULL;
		return;
	}
	gsasl_callback_set(library, answer);
}

static struct str base64_in(struct arena *arena, struct str data)
{
	struct str text;
	struct buf b;

	buf_init(&b, 1024);
	base64_encode(&b, data);
	text = data.len > 0 && !buf_failed(&b) ? arena_str(arena, buf_str(&b)) : STR_NULL;
	buf_release(&b);
	return text;
}

bool sasl_scram_init(struct sasl *s, const struct sasl_options *options, bool plus)
{
	pthread_once(&library_once, library_start);
	s->plus = plus;
	s->found = NOT_ASKED;
	s->exporter64 = base64_in(&s->arena, options->binding_exporter);
	s->unique64 = base64_in(&s->arena, options->binding_unique);
	if (!library || (plus && s->exporter64.len == 0 && s->unique64.len == 0))
		return false;
	if (gsasl_server_start(library, plus ? "SCRAM-SHA-256-PLUS" : "SCRAM-SHA-256", &s->gsasl) != GSASL_OK)
		return false;
	gsasl_session_hook_set(s->gsasl, s);
	return true;
}

void sasl_scram_release(struct sasl *s)
{
	if (s->gsasl)
		gsasl_finish(s->gsasl);
	s->gsasl = NULL;
	mem_wipe(&s->keys, sizeof(s->keys));
}

static enum dir_auth_status refuse(struct err *why_r, const char *why)
{
	err_set(why_r, ERR_DENIED, "5.7.8", "%s", why);
	return AUTH_FAILED;
}

/* RFC 5802 6: "p" needs -PLUS; "y" says that the client could bind and believes we cannot, though we have offered
 * it: somebody took -PLUS out of our list. */
static const char *binding_fault(const struct sasl *s, struct str first)
{
	bool offered = s->exporter64.len > 0 || s->unique64.len > 0;

	if (first.len == 0)
		return NULL;
	if (s->plus)
		return first.ptr[0] == 'p' ? NULL : "SCRAM-SHA-256-PLUS without channel binding";
	if (first.ptr[0] == 'p')
		return "channel binding without SCRAM-SHA-256-PLUS";
	if (first.ptr[0] == 'y' && offered)
		return "channel binding was offered but not seen by the client (downgrade)";
	return NULL;
}

/* What the library's verdict means for the client. */
static enum dir_auth_status verdict(struct sasl *s, int rc, struct err *why_r)
{
	const char *authzid;

	if (s->found < 0)
		return AUTH_TEMP; /* why_r is set */
	if (rc == GSASL_NEEDS_MORE)
		return AUTH_CONTINUE;
	if (rc == GSASL_MECHANISM_PARSE_ERROR || rc == GSASL_BASE64_ERROR ||
	    rc == GSASL_MECHANISM_CALLED_TOO_MANY_TIMES) {
		err_set(why_r, ERR_SYNTAX, "5.5.2", "malformed SCRAM message");
		return AUTH_INVALID;
	}
	if (rc == GSASL_MALLOC_ERROR || rc == GSASL_CRYPTO_ERROR) {
		err_set(why_r, ERR_TEMP, "4.7.0", "SCRAM: %s", gsasl_strerror(rc));
		return AUTH_TEMP;
	}
	if (s->found == 0)
		return refuse(why_r, "unknown user");
	if (s->found == 1 && s->account.scram.iterations == 0)
		return refuse(why_r, "user has no SCRAM keys");
	if (rc != GSASL_OK)
		return refuse(why_r, s->stage == STAGE_FINAL ? "password or channel binding mismatch"
							     : "SCRAM message refused");
	authzid = gsasl_property_fast(s->gsasl, GSASL_AUTHZID);
	if (!sasl_may_act_as(s, str_from(authzid)))
		return refuse(why_r, "authorization identity differs");
	if (!s->account.active)
		return refuse(why_r, "user disabled");
	return AUTH_OK;
}

enum dir_auth_status sasl_scram_step(struct sasl *s, const struct sasl_env *env, const struct str *response,
				     struct buf *challenge, struct err *why_r)
{
	enum dir_auth_status status;
	const char *fault;
	char *out = NULL;
	size_t len = 0;
	int rc;

	if (!response)
		return AUTH_CONTINUE;
	if (s->stage == STAGE_EMPTY) {
		if (response->len == 0)
			return AUTH_OK;
		err_set(why_r, ERR_SYNTAX, "5.5.2", "the answer to SCRAM's last message is not empty");
		return AUTH_INVALID;
	}
	/* The library works on C strings. */
	if (response->len == 0 || str_chr(*response, '\0') >= 0) {
		err_set(why_r, ERR_SYNTAX, "5.5.2", "malformed SCRAM message");
		return AUTH_INVALID;
	}
	fault = s->stage == STAGE_FIRST ? binding_fault(s, *response) : NULL;
	if (fault)
		return refuse(why_r, fault);
	s->env = env;
	s->why = why_r;
	rc = gsasl_step(s->gsasl, response->ptr, response->len, &out, &len);
	s->env = NULL;
	s->why = NULL;
	status = verdict(s, rc, why_r);
	if (status == AUTH_CONTINUE || status == AUTH_OK) {
		s->stage++;
		buf_add(challenge, out, len);
	}
	gsasl_free(out);
	return status == AUTH_OK ? AUTH_CONTINUE : status;
}
