/* ETRN: a host that was away asks for its mail. RFC 1985; who may, and for whom, is Postfix's: smtpd_etrn_restrictions,
 * and only domains of fast_flush_domains.
 *
 * Nothing is sent to who asks, but to where the mail would go anyway; the queue does not let one destination be asked
 * for all the time (QUEUE_ETRN). */
#include "smtp/smtp.h"

#define ETRN_MS 30000

/* 1, 0, -1: nobody knows now. */
static int is_served(struct smtp_session *c, struct str domain, struct err *err)
{
	struct dir_lookup ask = {.parameter = STR("fast_flush_domains"),
				 .list = c->conf->fast_flush_domains,
				 .how = LOOKUP_DOMAIN_LIST,
				 .key = domain};
	struct dir_found found;
	struct rpc_reply hold;
	int rc;

	if (c->conf->fast_flush_domains.len == 0)
		return 0;
	rpc_reply_init(&hold);
	rc = smtp_directory(c, &DIR_LOOKUP, &ask, &found, &hold, err) < 0 ? -1 : found.found;
	rpc_reply_release(&hold);
	return rc;
}

static enum next start(struct smtp_session *c, struct str domain)
{
	struct queue_etrn ask = {.destination = domain};
	struct queue_acted acted;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	unsigned long long count = 0;
	int rc;

	rpc_reply_init(&hold);
	rc = rpc_call(c->env.queue, &QUEUE_ETRN, &ask, &acted, &hold, false, ETRN_MS, &err);
	if (rc == 0)
		count = acted.count;
	rpc_reply_release(&hold);
	if (rc < 0)
		return smtp_reply(c, 458, "4.3.0", "Unable to queue messages for node %.*s", STR_ARG(domain));
	if (count == 0)
		return smtp_reply(c, 251, "2.0.0", "OK, no messages waiting for node %.*s", STR_ARG(domain));
	smtp_log(c, "ETRN %.*s from %.*s: %llu messages", STR_ARG(domain), STR_ARG(c->client), count);
	return smtp_reply(c, 253, "2.0.0", "OK, %llu pending messages for node %.*s started", count, STR_ARG(domain));
}

enum next smtp_cmd_etrn(struct smtp_session *c, struct str args)
{
	struct err err = ERR_NONE;
	struct str domain = args;
	int code, rc;

	if (c->helo.len == 0 && c->conf->smtpd_helo_required)
		return smtp_reply(c, 503, "5.5.1", "Error: send HELO/EHLO first");
	if (c->mail.open)
		return smtp_reply(c, 503, "5.5.1", "Error: MAIL transaction in progress");
	if (args.len == 0 || str_chr(args, ' ') >= 0)
		return smtp_reply(c, 500, "5.5.4", "Syntax: ETRN domain");
	/* As Postfix: "@" and "#" ask for more than a name, and get what the name is. */
	if (domain.ptr[0] == '@' || domain.ptr[0] == '#')
		domain = str_skip(domain, 1);
	if (!domain_is_valid(domain) || str_chr(domain, '.') < 0)
		return smtp_reply(c, 501, "5.5.4", "Error: invalid parameter syntax");
	smtp_mail_reset(c); /* its memory takes what tables say */
	if (smtp_policy_etrn(c, domain, &code, &err) < 0) {
		smtp_log_reject(c, "ETRN", code, &err, STR(""));
		return smtp_reply_err(c, code, &err);
	}
	rc = is_served(c, domain, &err);
	if (rc < 0)
		return smtp_reply(c, 458, "4.3.0", "Unable to queue messages for node %.*s", STR_ARG(domain));
	if (rc == 0)
		return smtp_reply(c, 459, "4.7.1", "Node %.*s not allowed: service unavailable", STR_ARG(domain));
	return start(c, domain);
}
