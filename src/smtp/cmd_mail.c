/* MAIL FROM. RFC 5321 4.1.1.2; SIZE: RFC 1870; DSN: RFC 3461 4.3, 4.4; SMTPUTF8: RFC 6531; when: timing.c. */
#include "smtp/smtp.h"

static enum next mail_check(struct smtp_session *c, struct mail_args *args, struct str sender)
{
	struct smtp_mail *m = &c->mail;
	struct err err = ERR_NONE;
	int code;

	/* RFC 1870 6.1: told before, refused before. */
	if (c->conf->message_size_limit > 0 && args->size > (uint64_t)c->conf->message_size_limit) {
		smtp_mail_reset(c);
		return smtp_reply(c, 552, "5.3.4", "Message size exceeds fixed limit");
	}
	if (smtp_timing_check(c, args, &code, &err) < 0 || smtp_verp_check(c, args, &code, &err) < 0) {
		smtp_mail_reset(c);
		return smtp_reply_err(c, code, &err);
	}
	if (smtp_limit_check(c, EVENT_MESSAGE, &err) < 0) {
		smtp_mail_reset(c);
		return smtp_reply(c, 450, "4.7.1", "%s", err.text);
	}
	m->args = *args;
	m->sender = sender;
	smtp_timing_take(c);
	return smtp_reply(c, 250, "2.1.0", "Ok");
}

enum next smtp_cmd_mail(struct smtp_session *c, struct str args)
{
	struct mail_args mail;
	struct err err = ERR_NONE;
	struct str sender;

	if (c->mail.open)
		return smtp_reply(c, 503, "5.5.1", "Error: nested MAIL command");
	if (c->helo.len == 0 && (c->lmtp || c->conf->smtpd_helo_required))
		return smtp_reply(c, 503, "5.5.1", "Error: send %s first", c->lmtp ? "LHLO" : "HELO/EHLO");
	smtp_mail_begin(c);
	if (smtp_mail_parse(args, c->conf->strict_rfc821_envelopes, &c->mail.arena, &mail, &err) < 0) {
		smtp_mail_reset(c);
		return smtp_reply_err(c,
				      err.kind == ERR_PERM			 ? 555
				      : str_eq(str_from(err.code), STR("5.6.7")) ? 553
										 : 501,
				      &err);
	}
	if (c->local) {
		c->mail.local.sender = address_str(&c->mail.arena, &mail.sender);
		smtp_local_complete(c, &mail.sender);
	}
	sender = address_str(&c->mail.arena, &mail.sender);
	return mail_check(c, &mail, sender);
}
