/* See smtp_sts.h. */
#include "relay/smtp_sts.h"
#include "base/log.h"

/* Where the administrator asks for something else than "TLS if there is", that is what he gets. */
static bool counts(const struct smtpc_try *t)
{
	enum tls_level level = t->policy_all->level;

	return smtpc_sts(t) != NULL && t->conf->smtp_mta_sts != MTA_STS_NO && t->by_mx && !t->policy_found &&
	       (level == TLS_LEVEL_MAY || level == TLS_LEVEL_ENCRYPT || level == TLS_LEVEL_DANE) &&
	       !t->conf->smtp_tls_wrappermode;
}

int smtpc_sts_find(struct smtpc_try *t)
{
	struct arena *arena = t->job->arena;
	struct sts_found *found;
	struct err err = ERR_NONE;
	int rc;

	t->sts = NULL;
	if (!counts(t))
		return 0;
	found = ARENA_NEW(arena, struct sts_found);
	rc = sts_find(smtpc_sts(t), t->nexthop, arena, found, &err);
	if (rc < 0) {
		smtpc_note(t, false, STR("4.3.0"),
			   arena_printf(arena, "cannot tell whether %.*s has an MTA-STS policy: %s",
					STR_ARG(t->nexthop), err.text),
			   NULL, false);
		return -1;
	}
	if (rc > 0 && t->conf->smtp_mta_sts == MTA_STS_TESTING_ONLY && found->policy.mode == STS_ENFORCE)
		found->policy.mode = STS_TESTING;
	if (rc > 0 && found->policy.mode != STS_NONE)
		t->sts = found;
	return 0;
}

static struct str demand(const struct smtpc_try *t, struct str what)
{
	return arena_printf(t->job->arena, "policy of %.*s (MTA-STS, %s) demands %.*s", STR_ARG(t->sts->domain),
			    sts_mode_text(t->sts->policy.mode), STR_ARG(what));
}

static struct str unnamed(const struct smtpc_try *t)
{
	return arena_printf(t->job->arena, "mail servers that it names, and %.*s is none of them",
			    STR_ARG(t->host->name));
}

/* RFC 8461 4.2: the name that the MX record has, whatever else the certificate says. */
static const struct smtpc_tls_policy *enforced(const struct smtpc_try *t)
{
	struct smtpc_tls_policy *p = ARENA_NEW(t->job->arena, struct smtpc_tls_policy);

	*p = *t->policy_all;
	p->level = TLS_LEVEL_VERIFY;
	p->protocols = t->conf->smtp_tls_mandatory_protocols;
	p->grade = (enum tls_grade)t->conf->smtp_tls_mandatory_ciphers;
	p->match = p->servername = STR("hostname");
	return p;
}

int smtpc_sts_host(struct smtpc_try *t)
{
	struct arena *arena = t->job->arena;
	bool named;

	t->sts_mode = STS_NONE;
	/* RFC 8461 2: DANE goes before it. TLSA records of a host whose MX record is not proven protect from nobody who
	 * can forge that one, so they stand behind a policy that is enforced. */
	if (t->sts == NULL || (smtpc_is_dane(t) && (t->host->secure || t->sts->policy.mode != STS_ENFORCE)))
		return 0;
	named = sts_policy_names(&t->sts->policy, t->host->name, arena);
	t->sts_mode = t->sts->policy.mode;
	if (t->sts_mode == STS_ENFORCE && !named) {
		smtpc_note(t, false, STR("4.7.5"), demand(t, unnamed(t)), NULL, false);
		return -1;
	}
	if (t->sts_mode == STS_ENFORCE) {
		t->policy = enforced(t);
		t->effective = t->policy->level;
	} else if (!named) {
		log_info("%.*s: %.*s; delivered all the same", STR_ARG(t->job->queue_id),
			 STR_ARG(demand(t, unnamed(t))));
	}
	return 0;
}

struct str smtpc_sts_says(const struct smtpc_try *t, struct str problem)
{
	if (t->sts_mode != STS_ENFORCE)
		return problem;
	return demand(t, arena_printf(t->job->arena, "TLS with a trusted certificate of %.*s: %.*s",
				      STR_ARG(t->host->name), STR_ARG(problem)));
}

void smtpc_sts_tested(const struct smtpc_try *t, const struct smtpc_conn *c, const char *problem)
{
	if (t->sts_mode == STS_TESTING && problem != NULL)
		log_info("%.*s: %.*s: %s: %s; delivered all the same", STR_ARG(t->job->queue_id),
			 STR_ARG(demand(t, arena_printf(t->job->arena, "TLS with a trusted certificate of %.*s",
							STR_ARG(t->host->name)))),
			 c->relay, problem);
}
