/* The end of the data: the one moment at which a message becomes ours, or does not. RFC 5321 4.1.1.4, 6.1;
 * LMTP answers for each recipient (RFC 2033 4.2). */
#include "base/clock.h"
#include "base/log.h"
#include "os/fault.h"
#include "smtp/smtp.h"

void smtp_delivery_fill(struct smtp_session *c, struct delivery *d)
{
	struct smtp_mail *m = &c->mail;

	*d = (struct delivery){
		.session = m->grant,
		.queue_id = m->queue_id,
		.sender = m->sender,
		.auth_user = c->user,
		.client = c->client,
		.envid = m->args.envid,
		.ret = (uint8_t)m->args.ret,
		.smtputf8 = m->args.smtputf8,
		.arrival = (uint64_t)clock_wall(),
		.content = m->content,
		.hold_until = (uint64_t)m->hold_until,
		.hold_request = m->args.hold_request,
		.by_time = (uint64_t)m->by_time,
		.by_mode = m->args.by_mode,
		.verp = m->args.verp_delimiters,
		.marks = (uint8_t)(m->local.marks | (m->on_hold ? MARK_HOLD : 0)),
		.delivered_to = m->filter.delivered_to,
		.delivered_to_count = m->filter.delivered_to_count,
		.rcpts = m->targets.v,
		.rcpt_count = m->targets.n,
		.fingerprint = STR(""),
		.summary = STR(""),
	};
	memcpy(d->id, m->id, sizeof(d->id));
	d->prefix = smtp_received(c);
}

/* Our answer leaves now; the store may forget the delivery once it has left. Before the transaction's grants
 * end: an unconfirmed delivery of a session that is gone looks to the store like a client that never heard us,
 * and an equal message from elsewhere like its second try. */
void smtp_answer_sent(struct smtp_session *c, const struct delivery *d, int how)
{
	delivery_done_take(&c->unconfirmed, d);
	/* What relay delivers under our id, relay confirms. */
	if (how == DELIVER_QUEUED)
		c->unconfirmed.queued_only = true;
	c->confirm_pending = true;
	session_flush(c->s);
	if (session_unsent(c->s) == 0)
		smtp_confirm(c);
}

/* The whole message is refused: one reply, in LMTP one for each recipient. */
enum next smtp_refuse_all(struct smtp_session *c, int code, const struct err *err)
{
	size_t more = c->lmtp && c->mail.rcpts.n > 0 ? c->mail.rcpts.n - 1 : 0;
	struct err why = *err;

	code = smtp_code_of(code, err);
	smtp_log_reject(c, "END-OF-MESSAGE", code, err, STR(""));
	for (size_t i = 0; i < more; i++)
		smtp_reply_line(c, code, why.code[0] != '\0' ? why.code : "5.0.0", str_from(why.text));
	smtp_mail_reset(c);
	if (code == 521) {
		c->ending = true;
		smtp_reply(c, code, why.code, "%s", why.text);
		return NEXT_CLOSE;
	}
	return smtp_reply(c, code, why.code[0] != '\0' ? why.code : "5.0.0", "%s", why.text);
}

/* ---- SMTP ------------------------------------------------------------------------------------------------ */

void smtp_log_taken(struct smtp_session *c, struct delivery *d, int how, struct str queued_as)
{
	struct str text = arena_printf(&c->mail.arena, "queued as %.*s", STR_ARG(queued_as));
	struct log_gather gather;

	/* What the queue holds under our id is logged by relay when it is done. */
	if (how == DELIVER_QUEUED && d->hold_until > 0)
		smtp_log_held(c, d);
	if (how == DELIVER_QUEUED && str_eq(queued_as, d->queue_id))
		return;
	log_gather(&gather);
	for (size_t i = 0; i < d->rcpt_count; i++)
		if (how == DELIVER_STORED)
			smtp_log_delivery(c, d, &d->rcpts[i], "store", "sent", "2.0.0", "delivered to mailbox");
		else
			smtp_log_delivery(c, d, &d->rcpts[i], "queue", "sent", "2.0.0", text.ptr);
	log_as(c->log_qmgr, "%.*s: removed", STR_ARG(d->queue_id));
	log_gathered(&gather);
}

static enum next accept_smtp(struct smtp_session *c, struct delivery *d, int64_t chunk_size)
{
	struct str queued_as, id = arena_str(&c->mail.arena, d->queue_id);
	struct err err = ERR_NONE;
	int how = deliver_accept(&c->env, d, &c->mail.arena, &queued_as, &err);

	c->mail.content = d->content;
	if (how < 0)
		return smtp_refuse_all(c, smtp_code_of(550, &err), &err);
	FAULT_POINT("smtpd.delivered");
	smtp_log_taken(c, d, how, queued_as);
	smtp_count_sent(c, c->mail.rcpts.n);
	c->errors = c->junk = 0;
	if (chunk_size >= 0)
		smtp_reply(c, 250, "2.0.0", "Ok: %lld bytes queued as %.*s", (long long)chunk_size, STR_ARG(id));
	else
		smtp_reply(c, 250, "2.0.0", "Ok: queued as %.*s", STR_ARG(id));
	if (how == DELIVER_STORED || d->held_count > 0)
		smtp_answer_sent(c, d, how);
	smtp_mail_reset(c);
	return NEXT_UNIT;
}

/* ---- LMTP ------------------------------------------------------------------------------------------------ */

/* An alias is done when all its members are; else the first that is not speaks for it. */
static const struct delivery_rcpt *verdict_of(const struct delivery *d, const struct smtp_rcpt *r)
{
	const struct delivery_rcpt *verdict = &d->rcpts[r->targets[0]];

	for (size_t i = 1; i < r->target_count; i++) {
		const struct delivery_rcpt *member = &d->rcpts[r->targets[i]];

		if (verdict->state == DELIVERY_DONE ||
		    (verdict->state == DELIVERY_FAILED && member->state == DELIVERY_DEFERRED))
			verdict = member;
	}
	return verdict;
}

static void answer_rcpt(struct smtp_session *c, const struct delivery *d, const struct smtp_rcpt *r)
{
	const struct delivery_rcpt *verdict = verdict_of(d, r);
	const struct err *err = &verdict->err;
	struct str text;
	int code;

	if (verdict->state == DELIVERY_DONE) {
		text = arena_printf(&c->mail.arena, "<%.*s> Ok: delivered as %.*s", STR_ARG(r->given),
				    STR_ARG(d->queue_id));
		smtp_reply_line(c, 250, "2.0.0", text);
		return;
	}
	code = verdict->state == DELIVERY_FAILED ? smtp_code_of(550, err) : err->kind == ERR_FULL ? 452 : 451;
	text = arena_printf(&c->mail.arena, "<%.*s> %s", STR_ARG(r->given), err->text);
	smtp_reply_line(c, code, err->code[0] != '\0' ? err->code : "4.3.0", text);
}

static enum next accept_lmtp(struct smtp_session *c, struct delivery *d)
{
	bool all_done = true;

	deliver_store(&c->env, d);
	FAULT_POINT("smtpd.delivered");
	c->mail.content = d->content;
	for (size_t i = 0; i < d->rcpt_count; i++) {
		const struct delivery_rcpt *r = &d->rcpts[i];
		bool done = r->state == DELIVERY_DONE;

		all_done = all_done && done;
		smtp_log_delivery(c, d, r, "store",
				  done				? "sent"
				  : r->state == DELIVERY_FAILED ? "bounced"
								: "deferred",
				  done ? "2.0.0" : r->err.code, done ? "delivered to mailbox" : r->err.text);
	}
	for (size_t i = 0; i < c->mail.rcpts.n; i++)
		answer_rcpt(c, d, &c->mail.rcpts.v[i]);
	c->errors = c->junk = 0;
	/* Not confirmed while something was put off: the client comes again with the same bytes, and those who
	 * have them must not get them twice. */
	if (all_done)
		smtp_answer_sent(c, d, DELIVER_STORED);
	smtp_mail_reset(c);
	return NEXT_UNIT;
}

/* Answered as if it had been delivered (DISCARD in access(5)): nobody gets it, nobody is told. */
static enum next accept_unwanted(struct smtp_session *c, int64_t chunk_size)
{
	struct str id = arena_str(&c->mail.arena, c->mail.queue_id);

	smtp_log(c, "discarded, as an access table says");
	c->errors = c->junk = 0;
	if (chunk_size >= 0)
		smtp_reply(c, 250, "2.0.0", "Ok: %lld bytes queued as %.*s", (long long)chunk_size, STR_ARG(id));
	else
		smtp_reply(c, 250, "2.0.0", "Ok: queued as %.*s", STR_ARG(id));
	smtp_mail_reset(c);
	return NEXT_UNIT;
}

enum next smtp_accept(struct smtp_session *c, int64_t chunk_size)
{
	struct delivery d;
	struct err err = ERR_NONE;
	int code;

	if (c->local)
		return smtp_accept_local(c, chunk_size);
	c->mail.data_us = clock_us();
	if (smtp_body_end(c, &code, &err) < 0)
		return smtp_refuse_all(c, code, &err);
	if (smtp_rewrite_sender(c, &err) < 0 || smtp_copies(c, &err) < 0)
		return smtp_refuse_all(c, 451, &err);
	smtp_delivery_fill(c, &d);
	if (c->mail.rewrite.err.kind != ERR_OK)
		return smtp_refuse_all(c, 451, &c->mail.rewrite.err);
	if (deliver_prepare(&d, &c->mail.arena, &err) < 0)
		return smtp_refuse_all(c, 451, &err);
	smtp_log_message(c, &d);
	if (c->mail.unwanted)
		return accept_unwanted(c, chunk_size);
	return c->lmtp ? accept_lmtp(c, &d) : accept_smtp(c, &d, chunk_size);
}
