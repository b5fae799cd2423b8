/* The end of the data of a local submission: who its recipients are, and then all of it is taken, or nothing. */
#include "base/clock.h"
#include "base/log.h"
#include "os/fault.h"
#include "smtp/smtp.h"
#include <openssl/evp.h>

/* The same submission again has the same id. Who has no token (sendmail -bs) has no second try either. */
static void delivery_id(struct smtp_session *c)
{
	struct str token = c->mail.local.token, text;
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned int len = 0;

	if (token.len == 0)
		return;
	text = arena_printf(&c->mail.arena, "sendmail %u %.*s", c->uid, STR_ARG(token));
	if (EVP_Digest(text.ptr, text.len, hash, &len, EVP_sha256(), NULL) == 1 && len >= DELIVERY_ID_SIZE)
		memcpy(c->mail.id, hash, DELIVERY_ID_SIZE);
}

/* Accounts of ours are served at once. Everybody else is the queue's: relay finds the way, or bounces. It rewrites
 * nobody, so where there are tables for that somebody must be there to ask. */
static int rcpt_resolve(struct smtp_session *c, struct smtp_local_rcpt *rcpt, struct err *why)
{
	struct dir_resolve ask = {.session = c->mail.grant, .address = rcpt->lookup, .maps = smtp_rewrite_rcpt_maps(c)};
	struct delivery_rcpt add = {.orcpt = rcpt->orcpt, .notify = rcpt->notify, .original = STR("")};
	struct dir_resolved found;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	int rc;

	c->mail.granted = true;
	rpc_reply_init(&hold);
	rc = smtp_directory(c, &DIR_RESOLVE, &ask, &found, &hold, &err);
	if (rc < 0 && ask.maps != 0) {
		smtp_log(c, "warning: %.*s: recipient look-up failed: %s", STR_ARG(rcpt->lookup), err.text);
		rpc_reply_release(&hold);
		return err_set(why, ERR_TEMP, "4.3.0", "Temporary lookup failure");
	}
	if (rc == 0 && found.rewritten.len > 0) {
		rcpt->lookup = arena_str(&c->mail.arena, found.rewritten);
		add.original = rcpt->address;
	}
	if (rc == 0 && found.class == RCPT_LOCAL && found.targets.n > 0 && found.owner.len == 0) {
		for (size_t i = 0; i < found.targets.n; i++) {
			add.original = rcpt->address;
			add.account = found.targets.v[i].account;
			add.address = arena_str(&c->mail.arena, found.targets.v[i].address);
			(void)smtp_target_add(&c->mail, &add);
		}
	} else {
		add.address = rc == 0 && found.rewritten.len > 0 ? rcpt->lookup : rcpt->address;
		/* Nothing is said twice, or of what was not tried: 50,000 of them must fit into one envelope. */
		add.state = DELIVERY_DEFERRED;
		add.err.kind = ERR_TEMP;
		(void)smtp_target_add(&c->mail, &add);
	}
	rpc_reply_release(&hold);
	return 0;
}

static size_t rcpts_given(const struct smtp_session *c)
{
	const struct smtp_local *l = &c->mail.local;

	return l->rcpts.n + (l->resent ? l->header_resent.n : l->header.n);
}

static int rcpts_resolve(struct smtp_session *c, int *code_r, struct err *err)
{
	struct smtp_local *l = &c->mail.local;
	size_t more = l->resent ? l->header_resent.n : l->header.n;

	*code_r = 554;
	if (l->rcpts.n + more == 0)
		return err_set(err, ERR_PERM, "5.5.4", "No recipient addresses found in message header");
	if (l->too_many || l->rcpts.n + more > 50000)
		return err_set(err, ERR_PERM, "5.5.3", "More than 50000 recipients");
	*code_r = 451;
	for (size_t i = 0; i < l->rcpts.n; i++)
		if (rcpt_resolve(c, &l->rcpts.v[i], err) < 0)
			return -1;
	for (size_t i = 0; i < more; i++)
		if (rcpt_resolve(c, l->resent ? &l->header_resent.v[i] : &l->header.v[i], err) < 0)
			return -1;
	return 0;
}

/* What may come again is not confirmed: a file of the maildrop that a crash brings back, a submission whose first half
 * is in the queue while this one went to the store. The store forgets it by itself after maximal_queue_lifetime. */
static bool may_come_again(const struct smtp_session *c)
{
	return c->dropped || c->mail.local.again;
}

enum next smtp_accept_local(struct smtp_session *c, int64_t chunk_size)
{
	struct delivery d;
	struct str queued_as, id;
	struct err err = ERR_NONE;
	int code, how;

	c->mail.data_us = clock_us();
	if (smtp_body_end(c, &code, &err) < 0 || rcpts_resolve(c, &code, &err) < 0)
		return smtp_refuse_all(c, code, &err);
	if (smtp_rewrite_sender(c, &err) < 0 || smtp_copies(c, &err) < 0)
		return smtp_refuse_all(c, 451, &err);
	delivery_id(c);
	smtp_delivery_fill(c, &d);
	if (c->mail.rewrite.err.kind != ERR_OK)
		return smtp_refuse_all(c, 451, &c->mail.rewrite.err);
	if (deliver_prepare(&d, &c->mail.arena, &err) < 0)
		return smtp_refuse_all(c, 451, &err);
	d.fingerprint = STR(""); /* the id alone says what is the same */
	id = arena_str(&c->mail.arena, d.queue_id);
	smtp_log_message(c, &d);
	how = deliver_submit(&c->env, &d, &c->mail.arena, &queued_as, &err);
	c->mail.content = d.content;
	if (how < 0)
		return smtp_refuse_all(c, smtp_code_of(550, &err), &err);
	FAULT_POINT("smtpd.delivered");
	smtp_log_taken(c, &d, how, queued_as);
	smtp_count_sent(c, rcpts_given(c));
	c->errors = c->junk = 0;
	(void)chunk_size;
	smtp_reply(c, 250, "2.0.0", "Ok: queued as %.*s", STR_ARG(id));
	if (how == DELIVER_STORED && !may_come_again(c))
		smtp_answer_sent(c, &d, how);
	smtp_mail_reset(c);
	return NEXT_UNIT;
}
