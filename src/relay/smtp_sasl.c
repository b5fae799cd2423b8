/* Log-in at servers (RFC 4954, SASL_README): SCRAM, CRAM-MD5 and PLAIN by GNU SASL, LOGIN by hand.
 *
 * The password is looked up before a host is connected to, because whom we log in as is part of what a connection may
 * be shared by. It lives as long as the try, and is wiped. */
#include "base/encode.h"
#include "base/log.h"
#include "base/mem.h"
#include "relay/refused_logins.h"
#include "relay/settings.h"
#include "relay/smtp_tls.h"
#include <gsasl.h>

/* What a mechanism is not, in the words of smtp_sasl_security_options; preferred ones first. */
struct mechanism {
	const char *name;
	bool plaintext, active, dictionary, one_way;
	bool first; /* the client begins */
};
static const struct mechanism mechanisms[] = {
	{"SCRAM-SHA-256", .first = true},
	{"SCRAM-SHA-1", .first = true},
	{"CRAM-MD5", .active = true, .dictionary = true, .one_way = true},
	{"PLAIN", .plaintext = true, .active = true, .dictionary = true, .one_way = true, .first = true},
	{"LOGIN", .plaintext = true, .active = true, .dictionary = true, .one_way = true},
};

/* ---- who we are there ---- */

static int lookup(struct smtpc_try *t, struct str key, bool address, struct str *value_r, struct err *err)
{
	const struct remote_env *env = smtpc_env(t);
	int (*ask)(void *, struct str, struct str, struct str, struct arena *, struct str *, struct err *) =
		address && env->lookup_address ? env->lookup_address : env->lookup;

	if (key.len == 0)
		return 0;
	return ask(env->lookup_ctx, STR("smtp_sasl_password_maps"), t->conf->smtp_sasl_password_maps, key,
		   t->job->arena, value_r, err);
}

void smtpc_sasl_forget(struct smtpc_try *t)
{
	if (t->password.len > 0)
		mem_wipe((void *)(uintptr_t)t->password.ptr, t->password.len);
	t->login = t->password = STR("");
}

int smtpc_sasl_find(struct smtpc_try *t)
{
	struct err err = ERR_NONE;
	struct str value;
	int rc = 0;

	smtpc_sasl_forget(t);
	if (!t->conf->smtp_sasl_auth_enable || t->conf->smtp_sasl_password_maps.len == 0 ||
	    smtpc_env(t)->lookup == NULL)
		return 0;
	if (t->conf->smtp_sender_dependent_authentication)
		rc = lookup(t, t->job->sender, true, &value, &err);
	if (rc == 0)
		rc = lookup(t, t->host->name, false, &value, &err);
	if (rc == 0)
		rc = lookup(t, t->nexthop_full, false, &value, &err);
	if (rc == 1) {
		if (!str_split(value, ':', &t->login, &t->password))
			t->password = STR("");
		return 0;
	}
	if (rc == 0)
		return 0;
	smtpc_note(t, false, STR("4.7.0"), arena_printf(t->job->arena, "smtp_sasl_password_maps: %s", err.text), NULL,
		   false);
	return -1;
}

/* ---- which mechanism ---- */

static bool has_word(struct str list, struct str word)
{
	struct str item;

	while (str_token(&list, " \t,", &item))
		if (str_ieq(item, word))
			return true;
	return false;
}

static bool is_allowed(const struct smtpc_conn *c, const struct mechanism *m)
{
	const struct conf *conf = c->conf;
	struct str options = c->ssl == NULL    ? conf->smtp_sasl_security_options
			     : c->tls_verified ? conf->smtp_sasl_tls_verified_security_options
					       : conf->smtp_sasl_tls_security_options;

	if (!has_word(str_from(c->auth_mechanisms), str_from(m->name)))
		return false;
	if (!relay_mechanism_passes(conf->smtp_sasl_mechanism_filter, str_from(m->name)))
		return false;
	return !(m->plaintext && has_word(options, STR("noplaintext"))) &&
	       !(m->active && has_word(options, STR("noactive"))) &&
	       !(m->dictionary && has_word(options, STR("nodictionary"))) &&
	       !(m->one_way && has_word(options, STR("mutual_auth")));
}

static const struct mechanism *choose(const struct smtpc_conn *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(mechanisms); i++)
		if (is_allowed(c, &mechanisms[i]))
			return &mechanisms[i];
	return NULL;
}

/* ---- the exchange ---- */

static int note_failure(struct smtpc_try *t, struct smtpc_conn *c, const char *what, struct str said, bool permanent,
			bool replied)
{
	bool soft = t->conf->smtp_sasl_auth_soft_bounce || !permanent;
	struct str text = arena_printf(t->job->arena, "%s; server %s said: %.*s", what, c->peer, STR_ARG(said));

	smtpc_note(t, !soft, soft ? STR("4.7.8") : STR("5.7.8"), text, c, replied);
	log_warning("%.*s", STR_ARG(text));
	return 0;
}

static int fail(struct smtpc_try *t, struct smtpc_conn *c, const char *why)
{
	return note_failure(t, c, "SASL authentication failed", str_from(why), false, false);
}

static struct login_there login_there(const struct smtpc_try *t)
{
	return (struct login_there){t->host->name, t->login, t->password};
}

static int refused(struct smtpc_try *t, struct smtpc_conn *c)
{
	bool permanent = c->reply.code / 100 == 5;
	struct str said = smtpc_reply_text(&c->reply, t->job->arena);
	struct login_there there = login_there(t);

	if (permanent && t->conf->smtp_sasl_auth_cache_name.len > 0)
		refused_logins_add(smtpc_refused_logins(t), &there, said, t->conf->smtp_sasl_auth_cache_time);
	return note_failure(t, c, "SASL authentication failed", said, permanent, true);
}

static bool was_refused(const struct smtpc_try *t, struct str *said_r)
{
	struct login_there there = login_there(t);

	return t->conf->smtp_sasl_auth_cache_name.len > 0 &&
	       refused_logins_find(smtpc_refused_logins(t), &there, t->job->arena, said_r);
}

static int send_line(struct smtpc_conn *c, const char *line)
{
	int rc;

	c->where = "sending AUTH";
	smtpc_put(c, "%s", line);
	rc = smtpc_read_reply(c, c->conf->smtp_helo_timeout);
	return rc;
}

/* 1 logged in, 0 refused (noted), -1 I/O. */
static int done(struct smtpc_try *t, struct smtpc_conn *c)
{
	if (c->reply.code / 100 != 2)
		return refused(t, c);
	c->authenticated = true;
	return 1;
}

static int login(struct smtpc_try *t, struct smtpc_conn *c)
{
	const struct str words[] = {t->login, t->password};

	if (send_line(c, "AUTH LOGIN") < 0)
		return -1;
	for (size_t i = 0; i < 2 && c->reply.code == 334; i++) {
		struct buf line;
		int rc;

		buf_init(&line, 20000);
		base64_encode(&line, words[i]);
		rc = send_line(c, line.ptr);
		mem_wipe(line.ptr, line.len);
		buf_release(&line);
		if (rc < 0)
			return -1;
	}
	return done(t, c);
}

/* The challenge of a 334, or "". Lives in the reply. */
static char *challenge(struct smtpc_try *t, const struct smtpc_conn *c)
{
	return arena_strz(t->job->arena, str_trim(buf_str(&c->reply.lines)));
}

static int exchange(struct smtpc_try *t, struct smtpc_conn *c, const struct mechanism *m, Gsasl_session *session)
{
	char *out = NULL;
	int step = GSASL_NEEDS_MORE, rc;
	struct str line = arena_printf(t->job->arena, "AUTH %s", m->name);

	if (m->first) {
		step = gsasl_step64(session, NULL, &out);
		if (step != GSASL_OK && step != GSASL_NEEDS_MORE)
			return fail(t, c, gsasl_strerror(step));
		line = arena_printf(t->job->arena, "AUTH %s %s", m->name, out != NULL && *out ? out : "=");
		gsasl_free(out);
	}
	rc = send_line(c, line.ptr);
	mem_wipe((void *)(uintptr_t)line.ptr, line.len);
	while (rc == 0 && c->reply.code == 334) {
		out = NULL;
		step = gsasl_step64(session, challenge(t, c), &out);
		if (step != GSASL_OK && step != GSASL_NEEDS_MORE) {
			/* "*" cancels (RFC 4954 4). */
			if (send_line(c, "*") < 0)
				return -1;
			return fail(t, c, gsasl_strerror(step));
		}
		rc = send_line(c, out != NULL ? out : "");
		gsasl_free(out);
	}
	if (rc < 0)
		return -1;
	/* A server that cannot show that it knows the password, too, is another one (RFC 5802 5). */
	if (c->reply.code / 100 == 2 && !m->one_way && step != GSASL_OK)
		return fail(t, c, "log-in accepted without proof of the password");
	return done(t, c);
}

static int with_gsasl(struct smtpc_try *t, struct smtpc_conn *c, const struct mechanism *m)
{
	struct arena *arena = t->job->arena;
	char *password = arena_strz(arena, t->password);
	Gsasl_session *session = NULL;
	Gsasl *sasl = NULL;
	int rc;

	if (gsasl_init(&sasl) != GSASL_OK)
		return fail(t, c, "SASL is not available");
	if (gsasl_client_start(sasl, m->name, &session) == GSASL_OK) {
		gsasl_property_set(session, GSASL_AUTHID, arena_strz(arena, t->login));
		gsasl_property_set(session, GSASL_PASSWORD, password);
		gsasl_property_set(session, GSASL_SERVICE, "smtp");
		gsasl_property_set(session, GSASL_HOSTNAME, c->host);
		rc = exchange(t, c, m, session);
		gsasl_finish(session);
	} else {
		rc = fail(t, c, "the mechanism is not available");
	}
	gsasl_done(sasl);
	mem_wipe(password, t->password.len);
	return rc;
}

int smtpc_sasl_login(struct smtpc_try *t, struct smtpc_conn *c)
{
	const struct mechanism *m;
	struct str said;
	int rc;

	if (t->login.len == 0 || !(c->features & SMTP_AUTH))
		return 1;
	m = choose(c);
	if (m == NULL)
		return fail(t, c, "no mechanism available");
	if (was_refused(t, &said))
		return note_failure(t, c, "SASL [CACHED] authentication failed", said, true, false);
	c->secret = true;
	rc = strcmp(m->name, "LOGIN") == 0 ? login(t, c) : with_gsasl(t, c, m);
	c->secret = false;
	return rc;
}
