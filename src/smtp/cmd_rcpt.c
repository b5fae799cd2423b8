/* RCPT TO. RFC 5321 4.1.1.3; NOTIFY and ORCPT: RFC 3461 4.1, 4.2.
 *
 * Everything that can be known of a recipient is known here: unknown users, relaying and full mailboxes are
 * answered while the client still holds the message, never by a bounce afterwards. */
#include "smtp/foreign.h"
#include "smtp/smtp.h"

static enum next rcpt_refuse(struct smtp_session *c, int code, const struct err *err, struct str text)
{
	code = smtp_code_of(code, err);
	smtp_log_reject(c, "RCPT", code, err, text);
	return smtp_reply(c, code, err->code[0] != '\0' ? err->code : "5.0.0", "%s", err->text);
}

/* A local part without domain belongs to $myorigin (Postfix's append_at_myorigin); but <postmaster> is whoever
 * the directory says (RFC 5321 4.5.1). */
static struct str lookup_address(struct smtp_session *c, const struct address *rcpt)
{
	struct address full = *rcpt;
	struct buf text;
	struct str copy;

	if (full.domain.len == 0 && str_ieq(full.local, STR("postmaster")))
		return full.local;
	if (full.domain.len == 0)
		full.domain = c->conf->myorigin;
	/* The directory wants it without quotes. */
	buf_init(&text, full.local.len + full.domain.len + 2);
	buf_add_str(&text, full.local);
	buf_addc(&text, '@');
	buf_add_str(&text, full.domain);
	copy = arena_str(&c->mail.arena, buf_str(&text));
	buf_release(&text);
	return copy;
}

static void answer_foreign(struct smtp_session *c, struct str address, struct dir_resolved *found_r)
{
	struct dir_target *target = ARENA_NEW(&c->mail.arena, struct dir_target);

	*target = (struct dir_target){.address = address, .extension = STR("")};
	*found_r = (struct dir_resolved){
		.class = RCPT_REMOTE, .full_code = STR(""), .full_text = STR(""), .owner = STR("")};
	found_r->targets.v = target;
	found_r->targets.n = 1;
}

static int rcpt_resolve(struct smtp_session *c, const struct address *rcpt, struct dir_resolved *found_r,
			struct rpc_reply *hold, struct err *err)
{
	struct dir_resolve ask = {.session = c->mail.grant,
				  .address = lookup_address(c, rcpt),
				  .admit = 1,
				  .size = c->mail.args.size,
				  .maps = smtp_rewrite_rcpt_maps(c),
				  .whole = c->lmtp, /* who hears of every mailbox at once */
				  .here = c->lmtp};
	struct foreign *foreign = c->server->foreign;
	struct err why = ERR_NONE;

	if (ask.maps == 0 && foreign != NULL && foreign_is(foreign, rcpt->domain)) {
		answer_foreign(c, ask.address, found_r);
		return 0;
	}
	c->mail.granted = true;
	if (smtp_directory(c, &DIR_RESOLVE, &ask, found_r, hold, &why) == 0) {
		if (found_r->everybody && foreign != NULL)
			foreign_note(foreign, rcpt->domain);
		return 0;
	}
	smtp_log(c, "warning: %.*s: recipient look-up failed: %s", STR_ARG(ask.address), why.text);
	return err_set(err, ERR_TEMP, "4.3.0", "<%.*s>: Temporary lookup failure", STR_ARG(ask.address));
}

/* Would the mailboxes take a message of that size now? When the store cannot say, the queue will keep it. */
static int rcpt_admit(const struct dir_resolved *found, struct str text, struct err *err)
{
	struct str code = found->full_code;

	if (!found->full)
		return 0;
	if (str_starts(code, STR("4.3")))
		return err_set(err, ERR_FULL, "4.3.1", "Insufficient system storage");
	return err_set(err, (enum err_kind)found->full, str_eq(code, STR("5.2.2")) ? "5.2.2" : "4.2.2",
		       "<%.*s>: Recipient address rejected: %.*s", STR_ARG(text), STR_ARG(found->full_text));
}

/* Adds a recipient of the delivery; its index. */
static size_t target_add(struct smtp_session *c, const struct dir_target *target, const struct rcpt_args *rcpt,
			 struct str given, struct str owner)
{
	struct smtp_mail *m = &c->mail;
	struct delivery_rcpt add = {
		.account = target->account, .address = target->address, .original = given, .notify = rcpt->notify};

	add.owner = arena_str(&m->arena, owner);
	m->elsewhere = m->elsewhere || target->account == 0;
	add.orcpt = rcpt->orcpt;
	return smtp_target_add(m, &add);
}

/* A list goes to the queue as itself: what it leads to has another sender, as a message of its own (relay/forward.c).
 */
static void keep_list(struct smtp_session *c, const struct rcpt_args *rcpt, struct dir_resolved *found)
{
	struct dir_target *itself = ARENA_NEW(&c->mail.arena, struct dir_target);

	*itself = (struct dir_target){.address = lookup_address(c, &rcpt->recipient), .extension = STR("")};
	if (found->rewritten.len > 0)
		itself->address = arena_str(&c->mail.arena, found->rewritten);
	found->targets.v = itself;
	found->targets.n = 1;
	found->owner = STR("");
}

static enum next rcpt_accept(struct smtp_session *c, const struct rcpt_args *rcpt, struct dir_resolved *found,
			     struct str given)
{
	struct smtp_mail *m = &c->mail;
	struct smtp_rcpt add = {.given = given, .rewritten = given};

	if (found->owner.len > 0 && !c->lmtp)
		keep_list(c, rcpt, found);
	add.target_count = found->targets.n;

	if (m->queue_id.len == 0) {
		m->queue_id = deliver_queue_id(&m->arena);
		smtp_log_client(c);
	}
	if (found->rewritten.len > 0)
		add.rewritten = arena_str(&m->arena, found->rewritten);
	add.targets = ARENA_ARRAY(&m->arena, size_t, found->targets.n);
	for (size_t i = 0; i < found->targets.n; i++)
		add.targets[i] = target_add(c, &found->targets.v[i], rcpt, given, found->owner);
	vec_push_arena(&m->arena, &m->rcpts, add);
	return smtp_reply(c, 250, "2.1.5", "Ok");
}

/* Answers what directory and policy say of a recipient; *code_r and err when they refuse. */
static int rcpt_judge(struct smtp_session *c, const struct address *rcpt, struct str text,
		      const struct dir_resolved *found, int *code_r, struct err *err)
{
	bool refused = found->refused && c->conf->smtpd_reject_unlisted_recipient;
	bool unlisted = found->class == RCPT_UNKNOWN || found->class == RCPT_DISABLED;

	/* What refuses him has more to say than that he is not there. */
	if (smtp_policy_rcpt(c, rcpt, text, refused && unlisted ? RCPT_LOCAL : found->class, code_r, err) < 0)
		return -1;
	*code_r = found->refused == ERR_TEMP ? 450 : 550;
	if (refused)
		return err_set(err, (enum err_kind)found->refused, arena_strz(&c->mail.arena, found->refused_code),
			       "<%.*s>: Recipient address rejected: %.*s", STR_ARG(text), STR_ARG(found->refused_text));
	*code_r = 550;
	/* Who speaks LMTP keeps what we do not take at once; mail for elsewhere he can send himself. */
	if (c->lmtp && (found->class == RCPT_REMOTE || found->class == RCPT_MIXED))
		return err_set(err, ERR_PERM, "5.4.4",
			       "<%.*s>: Recipient address rejected: not all of its mailboxes are here", STR_ARG(text));
	if (found->class == RCPT_UNKNOWN || found->class == RCPT_DISABLED || found->targets.n == 0)
		return err_set(err, ERR_PERM, "5.1.1", "<%.*s>: Recipient address rejected: User unknown",
			       STR_ARG(text));
	*code_r = 552;
	return rcpt_admit(found, text, err);
}

static enum next rcpt_run(struct smtp_session *c, const struct rcpt_args *rcpt)
{
	struct str text = address_str(&c->mail.arena, &rcpt->recipient);
	struct dir_resolved found;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	int code = 451;
	enum next next;

	rpc_reply_init(&hold);
	if (rcpt_resolve(c, &rcpt->recipient, &found, &hold, &err) < 0 ||
	    rcpt_judge(c, &rcpt->recipient, text, &found, &code, &err) < 0)
		next = rcpt_refuse(c, code, &err, text);
	else
		next = rcpt_accept(c, rcpt, &found, text);
	rpc_reply_release(&hold);
	return next;
}

enum next smtp_cmd_rcpt(struct smtp_session *c, struct str args)
{
	struct rcpt_args rcpt;
	struct err err = ERR_NONE;

	if (!c->mail.open)
		return smtp_reply(c, 503, "5.5.1", "Error: need MAIL command");
	if (c->mail.chunking)
		return smtp_reply(c, 503, "5.5.1", "Error: RCPT after BDAT");
	if (!c->local && c->mail.rcpts.n >= (size_t)c->conf->smtpd_recipient_limit)
		return smtp_reply(c, 452, "4.5.3", "Error: too many recipients");
	if (smtp_rcpt_parse(args, c->conf->strict_rfc821_envelopes && !c->local, c->mail.args.smtputf8, &c->mail.arena,
			    &rcpt, &err) < 0) {
		smtp_local_spoil(c);
		return smtp_reply_err(c,
				      err.kind == ERR_PERM			 ? 555
				      : str_eq(str_from(err.code), STR("5.6.7")) ? 553
										 : 501,
				      &err);
	}
	if (smtp_limit_check(c, EVENT_RECIPIENT, &err) < 0)
		return smtp_reply(c, 450, "4.7.1", "%s", err.text);
	return c->local ? smtp_local_rcpt(c, &rcpt) : rcpt_run(c, &rcpt);
}
