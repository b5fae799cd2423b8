/* XVERP, Postfix's parameter of MAIL FROM: each recipient's copy gets a sender of its own (msg/verp.h). Programs of
 * this machine may ask for it, others when smtpd_authorized_verp_clients has them. */
#include "msg/verp.h"
#include "smtp/smtp.h"

static int in_list(struct smtp_session *c, enum dir_lookup_how how, struct str key, struct err *err)
{
	struct dir_lookup ask = {.parameter = STR("smtpd_authorized_verp_clients"),
				 .list = c->conf->smtpd_authorized_verp_clients,
				 .how = (uint8_t)how,
				 .key = key};
	struct dir_found found;
	struct rpc_reply hold;
	int rc;

	rpc_reply_init(&hold);
	rc = smtp_directory(c, &DIR_LOOKUP, &ask, &found, &hold, err) < 0 ? -1 : found.found;
	rpc_reply_release(&hold);
	return rc;
}

int smtp_verp_allowed(struct smtp_session *c, struct err *err)
{
	char text[NET_ADDR_TEXT];
	int rc;

	if (c->local)
		return 1;
	if (c->lmtp || c->conf->smtpd_authorized_verp_clients.len == 0)
		return 0;
	rc = in_list(c, LOOKUP_NETWORKS, str_from(net_addr_text(session_peer(c->s), text)), err);
	if (rc == 0 && !str_eq(c->client_name, STR("unknown")))
		rc = in_list(c, LOOKUP_DOMAIN_LIST, c->client_name, err);
	return rc;
}

void smtp_verp_announce(struct smtp_session *c, struct buf *out)
{
	struct err err = ERR_NONE;

	if (!c->local && smtp_verp_allowed(c, &err) > 0)
		buf_addz(out, "250-XVERP\r\n");
}

int smtp_verp_check(struct smtp_session *c, struct mail_args *mail, int *code_r, struct err *err)
{
	struct str filter = c->conf->verp_delimiter_filter;
	int rc;

	if (!mail->verp)
		return 0;
	*code_r = 451;
	rc = smtp_verp_allowed(c, err);
	if (rc < 0)
		return -1;
	*code_r = 555;
	if (rc == 0)
		return err_set(err, ERR_PERM, "5.5.4", "Unsupported option: XVERP");
	if (mail->verp_delimiters.len == 0)
		mail->verp_delimiters = c->conf->default_verp_delimiters;
	*code_r = 503;
	if (mail->sender.local.len == 0)
		return err_set(err, ERR_PERM, "5.5.4", "Error: XVERP requires a sender");
	*code_r = 501;
	if (verp_delimiters_ok(mail->verp_delimiters, filter))
		return 0;
	/* Who left it in the maildrop has long gone. */
	if (!c->dropped)
		return err_set(err, ERR_PERM, "5.5.4", "Error: XVERP needs two characters of %.*s", STR_ARG(filter));
	smtp_log(c, "warning: a request for VERP with \"%.*s\" is ignored: they are not in verp_delimiter_filter",
		 STR_ARG(mail->verp_delimiters));
	mail->verp_delimiters = STR("");
	return 0;
}
