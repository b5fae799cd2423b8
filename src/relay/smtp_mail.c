/* One transaction (RFC 5321 3.3; RFC 2920 pipelining; RFC 2033 for LMTP's replies).
 *
 * Commands leave in groups: with PIPELINING up to GROUP recipients at a time and DATA behind the last, else one by one.
 * Replies are read in the order of the commands. What a reply means for whom:
 *
 *	MAIL 5xx      failed, all                     4xx   the next host, all
 *	RCPT 5xx      failed, he                      4xx   the next host, he
 *	DATA, BDAT    as MAIL, those accepted
 *	end of data   as MAIL, those accepted; 2xx delivered. LMTP: one reply for each accepted
 *	421           the next host, all who have no outcome; the connection is over
 *
 * DATA goes out before it is known whether anybody was accepted. Who answers 354 all the same, having refused
 *everybody, gets a dot and nothing before it (RFC 2920 3.1).
 *
 * A server that hangs up behind a refusal is remembered by the refusal. */
#include "base/clock.h"
#include "msg/xtext.h"
#include "relay/smtp.h"

#define GROUP 100

struct transaction {
	struct smtpc_try *t;
	struct smtpc_conn *c;
	struct remote_rcpt **rcpts; /* without an outcome, in the order sent */
	size_t n, accepted;
	bool *ok; /* accepted */
	bool data_sent;
	bool mail_refused;
	bool for_nobody; /* 354 came though all were refused: what follows says nothing about them */
	bool began;
	bool seven_bit;
};

/* ---- outcomes ---- */

static void settle(struct transaction *x, struct remote_rcpt *r, enum queue_outcome outcome, struct str text)
{
	struct arena *arena = x->t->job->arena;

	r->outcome = outcome;
	r->code = arena_str(arena, str_from(x->c->reply.enhanced));
	r->text = text;
	r->mta = arena_str(arena, str_from(x->c->host));
	r->said = smtpc_reply_text(&x->c->reply, arena);
	r->relay = arena_str(arena, str_from(x->c->relay));
	r->dsn_by = outcome == OUTCOME_DELIVERED && (x->c->features & SMTP_DSN);
	r->by_passed = outcome == OUTCOME_DELIVERED && (x->c->features & SMTP_DELIVERBY);
}

static void settle_text(struct transaction *x, struct remote_rcpt *r, bool permanent, const char *code, struct str text)
{
	struct arena *arena = x->t->job->arena;

	r->outcome = permanent ? OUTCOME_FAILED : OUTCOME_DEFERRED;
	r->code = arena_str(arena, str_from(code));
	r->text = text;
	r->mta = r->said = STR("");
	r->relay = arena_str(arena, str_from(x->c->relay));
}

/* 5xx fails for good; anything else that is no 2xx is worth another host, or another time. */
static void refuse_one(struct transaction *x, struct remote_rcpt *r, const char *command)
{
	unsigned class = x->c->reply.code / 100, code = x->c->reply.code;
	struct str text = smtpc_said(x->t, x->c, command);

	/* x0z are about syntax and order (RFC 5321 4.2.1): one of us does not speak SMTP, or misuses it. */
	if ((code >= 500 && code < 510) || code == 555 || class < 4)
		x->c->protocol_error = true;
	if (class == 5)
		settle(x, r, OUTCOME_FAILED, text);
	else if (x->t->final)
		settle(x, r, OUTCOME_DEFERRED, text);
	else
		smtpc_note(x->t, false, str_from(x->c->reply.enhanced), text, x->c, true);
	if (class != 5 && r->outcome == OUTCOME_DEFERRED && x->c->reply.enhanced[0] != '4')
		r->code = STR("4.0.0");
}

static void refuse_accepted(struct transaction *x, const char *command)
{
	for (size_t i = 0; i < x->n; i++)
		if (x->ok[i])
			refuse_one(x, x->rcpts[i], command);
	x->accepted = 0;
}

/* 421: the connection is over (RFC 5321 3.8). */
static bool is_goodbye(struct transaction *x)
{
	if (x->c->reply.code != 421)
		return false;
	x->t->job->site = SITE_SLOW;
	return true;
}

/* ---- commands ---- */

static void put_xtext(struct buf *out, const char *name, struct str value)
{
	if (value.len == 0)
		return;
	buf_addz(out, name);
	xtext_encode(out, value);
}

static const char *ret_text(uint8_t ret)
{
	return ret == RET_FULL ? " RET=FULL" : ret == RET_HDRS ? " RET=HDRS" : "";
}

/* RFC 2852 4.1.4: what is left of it, now; less than nothing only for who wants to be told. */
static int64_t by_left(const struct transaction *x)
{
	return x->t->job->by_time - clock_wall();
}

static void put_by(const struct transaction *x, struct buf *out)
{
	const struct remote_job *job = x->t->job;

	if (job->by_mode && (x->c->features & SMTP_DELIVERBY))
		buf_addf(out, " BY=%lld;%c%s", (long long)by_left(x), job->by_mode & BY_RETURN ? 'R' : 'N',
			 job->by_mode & BY_TRACE ? "T" : "");
}

static void put_mail(struct transaction *x)
{
	const struct remote_job *job = x->t->job;
	struct smtpc_conn *c = x->c;
	struct buf more;

	buf_init(&more, 4096);
	if (c->features & SMTP_SIZE)
		buf_addf(&more, " SIZE=%llu", (unsigned long long)x->t->message->size);
	if ((c->features & SMTP_8BITMIME) && x->t->message->eight_bit)
		buf_addz(&more, " BODY=8BITMIME");
	if ((c->features & SMTP_SMTPUTF8) && job->smtputf8)
		buf_addz(&more, " SMTPUTF8");
	if (c->features & SMTP_DSN) {
		buf_addz(&more, ret_text(job->ret));
		put_xtext(&more, " ENVID=", job->envid);
	}
	put_by(x, &more);
	if (c->authenticated && c->conf->smtp_send_dummy_mail_auth)
		buf_addz(&more, " AUTH=<>");
	smtpc_put(c, "MAIL FROM:<%.*s>%s", STR_ARG(smtpc_rewritten(x->t->message, job->sender)), more.ptr);
	buf_release(&more);
}

static void put_notify(struct buf *out, uint32_t notify)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} words[] = {{NOTIFY_SUCCESS, "SUCCESS"}, {NOTIFY_FAILURE, "FAILURE"}, {NOTIFY_DELAY, "DELAY"}};
	const char *before = " NOTIFY=";

	if (notify & NOTIFY_NEVER) {
		buf_addz(out, " NOTIFY=NEVER");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (!(notify & words[i].bit))
			continue;
		buf_addz(out, before);
		buf_addz(out, words[i].name);
		before = ",";
	}
}

/* "type;address", of which only the address is xtext; utf-8 ones as RFC 6533 3 has them. */
static void put_orcpt(struct buf *out, struct str orcpt, bool utf8)
{
	struct str type, address;

	if (!str_split(orcpt, ';', &type, &address) || type.len == 0)
		return;
	buf_addf(out, " ORCPT=%.*s;", STR_ARG(type));
	if (str_ieq(type, STR("utf-8")) && utf8)
		xtext_unitext_encode(out, address);
	else if (str_ieq(type, STR("utf-8")))
		xtext_utf8_encode(out, address);
	else
		xtext_encode(out, address);
}

/* RFC 2852 4.1.4.2: who is not told of the time by the next host shall be told of delays at least. */
static uint32_t notify_of(const struct transaction *x, const struct remote_rcpt *r)
{
	bool lost = (x->t->job->by_mode & BY_NOTIFY) && !(x->c->features & SMTP_DELIVERBY) && !x->c->lmtp;

	if (!lost || (r->notify & NOTIFY_NEVER))
		return r->notify;
	return NOTIFY_DELAY | (r->notify ? r->notify : NOTIFY_FAILURE);
}

static void put_rcpt(struct transaction *x, const struct remote_rcpt *r)
{
	struct buf more;

	buf_init(&more, 4096);
	if (x->c->features & SMTP_DSN) {
		put_notify(&more, notify_of(x, r));
		put_orcpt(&more, r->orcpt, x->c->features & SMTP_SMTPUTF8);
	}
	smtpc_put(x->c, "RCPT TO:<%.*s>%s", STR_ARG(smtpc_rewritten(x->t->message, r->address)), more.ptr);
	buf_release(&more);
}

/* ---- replies ---- */

static int read_mail(struct transaction *x)
{
	x->c->where = "sending MAIL FROM";
	if (smtpc_read_reply(x->c, x->c->conf->smtp_mail_timeout) < 0)
		return -1;
	x->began = x->c->reply.code != 421;
	if (x->c->reply.code / 100 == 2)
		return 0;
	x->mail_refused = true;
	for (size_t i = 0; i < x->n; i++)
		refuse_one(x, x->rcpts[i], "MAIL FROM command");
	return is_goodbye(x) ? -1 : 0;
}

static int read_rcpt(struct transaction *x, size_t i)
{
	x->c->where = "sending RCPT TO";
	if (smtpc_read_reply(x->c, x->c->conf->smtp_rcpt_timeout) < 0)
		return -1;
	if (x->mail_refused)
		return 0;
	if (x->c->reply.code / 100 == 2 && x->t->job->verify) {
		settle(x, x->rcpts[i], OUTCOME_DELIVERED, smtpc_reply_text(&x->c->reply, x->t->job->arena));
		return 0;
	}
	if (x->c->reply.code / 100 == 2) {
		x->ok[i] = true;
		x->accepted++;
		return 0;
	}
	refuse_one(x, x->rcpts[i], "RCPT TO command");
	return is_goodbye(x) ? -1 : 0;
}

/* The server waits for a message that is nobody's. SMTP answers the dot with 554, or takes nothing for nobody; LMTP
 * answers once for each accepted recipient (RFC 2033 4.2), so not at all. */
static int end_for_nobody(struct transaction *x)
{
	struct smtpc_conn *c = x->c;

	x->for_nobody = true;
	c->where = "sending the end of a message for nobody";
	smtpc_put(c, ".");
	if (c->lmtp)
		return smtpc_flush(c, clock_ms() + c->conf->smtp_rset_timeout);
	if (smtpc_read_reply(c, c->conf->smtp_rset_timeout) < 0)
		return -1;
	return is_goodbye(x) ? -1 : 0;
}

/* 1: the server waits for the message. */
static int read_data(struct transaction *x)
{
	struct smtpc_conn *c = x->c;

	c->where = "sending DATA command";
	if (smtpc_read_reply(c, c->conf->smtp_data_init_timeout) < 0)
		return -1;
	if (c->reply.code / 100 == 3)
		return x->accepted > 0 ? 1 : end_for_nobody(x);
	if (x->accepted > 0)
		refuse_accepted(x, "DATA command");
	return is_goodbye(x) ? -1 : 0;
}

/* MAIL, RCPT and DATA. 1: the message may follow; 0: for nobody; -1. */
static int envelope(struct transaction *x)
{
	bool together = x->c->features & SMTP_PIPELINING;
	bool data = !(x->c->features & SMTP_CHUNKING) && !x->t->job->verify;
	size_t at = 0;

	put_mail(x);
	if (!together && (read_mail(x) < 0 || x->mail_refused))
		return x->mail_refused && x->c->reply.code != 421 ? 0 : -1;
	while (at < x->n) {
		size_t end = together ? at + GROUP : at + 1;

		end = end < x->n ? end : x->n;
		for (size_t i = at; i < end; i++)
			put_rcpt(x, x->rcpts[i]);
		x->data_sent = together && data && end == x->n;
		if (x->data_sent)
			smtpc_put(x->c, "DATA");
		if (together && at == 0 && read_mail(x) < 0)
			return -1;
		for (size_t i = at; i < end; i++)
			if (read_rcpt(x, i) < 0)
				return -1;
		at = end;
		if (x->mail_refused)
			break;
	}
	if (x->accepted == 0 && !x->data_sent)
		return 0;
	if (!data)
		return 1;
	if (!x->data_sent)
		smtpc_put(x->c, "DATA");
	return read_data(x);
}

/* ---- the message ---- */

static void delivered(struct transaction *x, struct remote_rcpt *r)
{
	settle(x, r, OUTCOME_DELIVERED, smtpc_reply_text(&x->c->reply, x->t->job->arena));
}

/* LMTP: whoever waits for more answers tells of those he has. */
static void tell_progress(struct transaction *x, size_t *untold)
{
	struct remote_job *job = x->t->job;

	if (*untold == 0 || job->progress == NULL || smtpc_has_input(x->c))
		return;
	*untold = 0;
	job->progress(job, job->progress_ctx);
}

static int read_done(struct transaction *x)
{
	struct smtpc_conn *c = x->c;
	size_t untold = 0;
	int rc = 0;

	for (size_t i = 0; i < x->n; i++) {
		if (!x->ok[i])
			continue;
		tell_progress(x, &untold);
		if (smtpc_read_reply(c, c->conf->smtp_data_done_timeout) < 0)
			return -1;
		if (!c->lmtp) {
			c->all_sent = false;
			if (c->reply.code / 100 != 2)
				refuse_accepted(x, "end of DATA command");
			for (size_t k = 0; c->reply.code / 100 == 2 && k < x->n; k++)
				if (x->ok[k])
					delivered(x, x->rcpts[k]);
			return is_goodbye(x) ? -1 : 0;
		}
		x->ok[i] = false;
		untold += c->reply.code / 100 == 2;
		if (c->reply.code / 100 == 2)
			delivered(x, x->rcpts[i]);
		else
			refuse_one(x, x->rcpts[i], "end of DATA command");
		if (is_goodbye(x))
			rc = -1;
	}
	c->all_sent = false;
	return rc;
}

static int message(struct transaction *x)
{
	struct smtpc_conn *c = x->c;
	bool refused = false;

	c->where = "sending message body";
	if (smtpc_body_send(c, x->t->message, !x->data_sent && (c->features & SMTP_CHUNKING), x->seven_bit, &refused) <
	    0) {
		/* Who hangs up on a message may have said why: 552, 554. (250 is for an earlier piece.) */
		if (c->io_error == SMTP_IO_LOST && smtpc_read_reply(c, 1000) == 0 && c->reply.code >= 400) {
			refuse_accepted(x, "sending message body");
			is_goodbye(x);
		}
		return -1;
	}
	if (refused) {
		refuse_accepted(x, "BDAT command");
		return is_goodbye(x) ? -1 : 0;
	}
	return read_done(x);
}

/* ---- what the server cannot take ---- */

static bool needs_utf8(const struct transaction *x)
{
	const struct remote_job *job = x->t->job;
	const struct smtpc_message *m = x->t->message;
	bool needs = !str_is_ascii(smtpc_rewritten(m, job->sender)) || (job->smtputf8 && m->eight_header);

	for (size_t i = 0; i < x->n && !needs; i++)
		needs = !str_is_ascii(smtpc_rewritten(m, x->rcpts[i]->address));
	return needs;
}

static void refuse_all(struct transaction *x, const char *code, struct str text)
{
	for (size_t i = 0; i < x->n; i++)
		settle_text(x, x->rcpts[i], true, code, text);
}

/* RFC 2852 4.1.3, 4.1.4.1: only where the time is kept. To whom LMTP is spoken is where mail ends, not a relay. No
 * other host is tried for that (7). */
static bool is_in_time(struct transaction *x)
{
	struct smtpc_conn *c = x->c;
	struct arena *arena = x->t->job->arena;

	if (!(x->t->job->by_mode & BY_RETURN))
		return true;
	if (by_left(x) <= 0) {
		refuse_all(x, "5.4.7", STR("delivery time expired"));
		return false;
	}
	if (c->lmtp && !(c->features & SMTP_DELIVERBY))
		return true;
	if (!(c->features & SMTP_DELIVERBY)) {
		refuse_all(x, "5.3.3",
			   arena_printf(arena, "DELIVERBY is required, but was not offered by host %s", c->peer));
		return false;
	}
	if ((int64_t)c->by_minimum <= by_left(x))
		return true;
	refuse_all(x, "5.3.3",
		   arena_printf(arena, "the %lld seconds left are less than host %s asks for (DELIVERBY %llu)",
				(long long)by_left(x), c->peer, (unsigned long long)c->by_minimum));
	return false;
}

/* Looks at the message and at what was offered. False: everybody has an outcome. */
static bool is_sendable(struct transaction *x)
{
	struct smtpc_conn *c = x->c;
	struct arena *arena = x->t->job->arena;
	struct err err = ERR_NONE;

	if (smtpc_rewrite_find(x->t, &err) < 0 || smtpc_message_scan(x->t->message, &err) < 0) {
		for (size_t i = 0; i < x->n; i++)
			settle_text(x, x->rcpts[i], false, "4.3.0", arena_str(arena, str_from(err.text)));
		return false;
	}
	if ((c->features & SMTP_SIZE) && c->size_limit > 0 && x->t->message->size > c->size_limit) {
		refuse_all(x, "5.3.4",
			   arena_printf(arena, "message size %llu exceeds size limit %llu of server %s",
					(unsigned long long)x->t->message->size, (unsigned long long)c->size_limit,
					c->peer));
		return false;
	}
	if (!(c->features & SMTP_SMTPUTF8) && needs_utf8(x)) {
		refuse_all(x, "5.6.7",
			   arena_printf(arena, "SMTPUTF8 is required, but was not offered by host %s", c->peer));
		return false;
	}
	if (!is_in_time(x))
		return false;
	x->seven_bit =
		x->t->message->eight_bit && !(c->features & SMTP_8BITMIME) && !c->conf->disable_mime_output_conversion;
	return true;
}

static void collect(struct transaction *x)
{
	struct remote_job *job = x->t->job;

	x->rcpts = ARENA_ARRAY(job->arena, struct remote_rcpt *, job->rcpt_count + 1);
	x->ok = ARENA_ARRAY(job->arena, bool, job->rcpt_count + 1);
	for (size_t i = 0; i < job->rcpt_count; i++)
		if (job->rcpts[i].outcome == 0)
			x->rcpts[x->n++] = &job->rcpts[i];
}

/* The answer to the end of the data was not heard: no other host may be tried for those who were accepted. */
static void settle_unheard(struct transaction *x)
{
	const char *code;
	struct str text;

	if (!x->c->all_sent)
		return;
	text = smtpc_io_text(x->c, x->t->job->arena, &code);
	for (size_t i = 0; i < x->n; i++)
		if (x->ok[i] && x->rcpts[i]->outcome == 0)
			settle_text(x, x->rcpts[i], false, code, text);
}

int smtpc_mail(struct smtpc_try *t, struct smtpc_conn *c, bool *began_r)
{
	struct transaction x = {.t = t, .c = c};
	int64_t from = clock_us();
	int rc;

	collect(&x);
	c->messages++;
	*began_r = true;
	if (!is_sendable(&x))
		return 1;
	rc = envelope(&x);
	if (rc == 1)
		rc = message(&x);
	t->job->transmission_us += clock_us() - from;
	*began_r = x.began || c->io_error == SMTP_IO_TIMEOUT || c->io_error == SMTP_IO_STOP;
	if (rc < 0) {
		settle_unheard(&x);
		if (c->io_error != SMTP_IO_NONE && !x.for_nobody && !(x.mail_refused && c->io_error == SMTP_IO_LOST))
			smtpc_note_io(t, c);
		return -1;
	}
	if (x.for_nobody)
		return !c->lmtp && c->io_error == SMTP_IO_NONE;
	/* Nothing was sent: the next message begins with a clean slate. */
	if (c->io_error == SMTP_IO_NONE && x.accepted == 0 && !x.mail_refused) {
		c->where = "sending RSET";
		smtpc_put(c, "RSET");
		if (smtpc_read_reply(c, c->conf->smtp_rset_timeout) < 0 || c->reply.code / 100 != 2)
			return 0;
	}
	return c->io_error == SMTP_IO_NONE;
}
