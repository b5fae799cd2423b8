/* The mail transaction: what MAIL begins and RSET, EHLO, STARTTLS, the reply to the data, or the end of the
 * connection ends. */
#include "base/clock.h"
#include "smtp/smtp.h"

#define GRANT_BIT (1ull << 63)

int smtp_directory(struct smtp_session *c, const struct rpc_call *call, const void *request, void *reply_r,
		   struct rpc_reply *hold, struct err *err)
{
	return rpc_call(c->server->directory, call, request, reply_r, hold, call != &DIR_AUTH_STEP, SMTP_RPC_TIMEOUT_MS,
			err);
}

/* A session number of the transaction's own, so that its grants end with it and can never be those of the
 * next one, however directory's threads order the calls. */
static uint64_t grant_number(struct smtp_session *c)
{
	return GRANT_BIT | (session_id(c->s) << 24) | (c->mail_count & 0xffffff);
}

void smtp_mail_begin(struct smtp_session *c)
{
	struct smtp_mail *m = &c->mail;
	struct conf *newest = service_conf(c->service);

	conf_unref(&c->conf);
	c->conf = newest;
	c->mail_count++;
	m->open = true;
	m->grant = grant_number(c);
	m->started_us = clock_us();
	delivery_id_make(m->id);
}

void smtp_mail_reset(struct smtp_session *c)
{
	struct smtp_mail *m = &c->mail;
	struct arena arena = m->arena;

	if (m->filtering)
		smtp_filter_release(&m->filter);
	smtp_local_reset(c);
	content_drop(&m->content, &c->env);
	session_bulk_drop(c->s);
	if (m->granted) {
		struct dir_session_end end = {.session = m->grant};

		(void)!rpc_send_later(c->server->directory, &DIR_SESSION_END, &end);
	}
	arena_clear(&arena);
	*m = (struct smtp_mail){.arena = arena, .content = CONTENT_NONE, .sender = STR(""), .queue_id = STR("")};
}

void smtp_confirm(struct smtp_session *c)
{
	if (!c->confirm_pending)
		return;
	c->confirm_pending = false;
	deliver_confirm(&c->env, &c->unconfirmed);
}

void smtp_session_forget(struct smtp_session *c)
{
	struct dir_session_end end = {.session = session_id(c->s)};

	smtp_mail_reset(c);
	smtp_auth_reset(c);
	if (c->user.len > 0)
		(void)!rpc_send_later(c->server->directory, &DIR_SESSION_END, &end);
	c->user = c->method = STR("");
	c->account = 0;
	c->helo = STR("");
	c->esmtp = false;
}

bool smtp_is_submission(const struct smtp_session *c)
{
	return c->user.len > 0 || (c->local && !c->mail.local.gateway) || c->conf->always_add_missing_headers;
}

const char *smtp_with(struct smtp_session *c, char out[24])
{
	bool extended = c->esmtp || c->lmtp, tls = session_is_tls(c->s), auth = c->user.len > 0;

	if (!extended && !tls && !auth)
		snprintf(out, 24, "SMTP");
	else
		snprintf(out, 24, "%s%s%s%s",
			 c->mail.args.smtputf8 ? "UTF8"
			 : c->lmtp	       ? ""
					       : "E",
			 c->lmtp ? "LMTP" : "SMTP", tls ? "S" : "", auth ? "A" : "");
	return out;
}
