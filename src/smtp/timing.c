/* When a message is to be delivered: not before (FUTURERELEASE, RFC 4865), or until (DELIVERBY, RFC 2852).
 *
 * The first is for submission only (RFC 4865 4.2): on ports 587 and 465, whatever master.cf calls them, and for users
 * who have logged in. The limits on messages and recipients count when MAIL and RCPT are said; how much of a user's may
 * wait has a limit of its own (queue/later.c). */
#include "base/clock.h"
#include "msg/date.h"
#include "smtp/smtp.h"

#define QUOTA_MS 5000

static bool is_submission_service(const struct smtp_session *c)
{
	const struct net_addr *local = session_local(c->s);
	unsigned port = local ? net_addr_port(local) : 0;

	return !c->lmtp && !c->local && c->conf->smtpd_sasl_auth_enable &&
	       (port == 587 || port == 465 || c->conf->smtpd_tls_wrappermode ||
		str_istarts(str_from(c->log_service), STR("submission")));
}

static int64_t hold_limit(const struct smtp_session *c)
{
	return is_submission_service(c) ? c->conf->submission_future_release_limit / 1000 : 0;
}

static bool takes_by(const struct smtp_session *c)
{
	return !c->local && c->conf->smtpd_deliver_by_enable;
}

void smtp_timing_announce(const struct smtp_session *c, struct buf *out)
{
	int64_t limit = hold_limit(c), least = c->conf->smtpd_deliver_by_minimum / 1000;

	if (takes_by(c) && least > 0)
		buf_addf(out, "250-DELIVERBY %lld\r\n", (long long)least);
	else if (takes_by(c))
		buf_addz(out, "250-DELIVERBY\r\n");
	if (limit > 0) {
		buf_addf(out, "250-FUTURERELEASE %lld ", (long long)limit);
		date_internet_write(out, clock_wall() + limit);
		buf_addz(out, "\r\n");
	}
}

static int refuse(int *code_r, int code, struct err *err, const char *dsn, const char *text)
{
	*code_r = code;
	return err_set(err, ERR_PERM, dsn, "%s", text);
}

/* How much of the user's waits already: refused before he sends the message. A queue that does not answer now says it
 * at its commit. */
static int quota_check(const struct smtp_session *c, const struct mail_args *mail, int *code_r, struct err *err)
{
	struct queue_admit ask = {.size = mail->size, .later_user = c->user};
	struct queue_admitted admitted;
	struct rpc_reply hold;
	struct err why = ERR_NONE;

	if (!c->env.queue)
		return 0;
	rpc_reply_init(&hold);
	if (rpc_call(c->env.queue, &QUEUE_ADMIT, &ask, &admitted, &hold, true, QUOTA_MS, &why) == 0)
		why.kind = ERR_OK;
	rpc_reply_release(&hold);
	*code_r = 450;
	return why.kind == ERR_DENIED ? err_set(err, ERR_PERM, why.code, "%s", why.text) : 0;
}

/* RFC 4865 4.2, items 7, 8, 10 and 11. */
static int hold_check(const struct smtp_session *c, const struct mail_args *mail, int *code_r, struct err *err)
{
	int64_t limit = hold_limit(c);

	if (mail->hold_request.len == 0)
		return 0;
	if (limit == 0)
		return refuse(code_r, 555, err, "5.5.4", "Unsupported option: messages are not held here");
	if (c->user.len == 0)
		return refuse(code_r, 530, err, "5.7.0", "Authentication required to have a message held");
	if (mail->hold_for > limit || mail->hold_until > clock_wall() + limit)
		return refuse(code_r, 501, err, "5.5.4", "Error: later than messages are held here");
	return quota_check(c, mail, code_r, err);
}

/* RFC 2852 3: less than the minimum is a 55z; RFC 4865 5.2.2: what is to arrive before it leaves. */
static int by_check(const struct smtp_session *c, const struct mail_args *mail, int *code_r, struct err *err)
{
	int64_t now = clock_wall(), hold = mail->hold_for ? now + mail->hold_for : mail->hold_until;

	if (mail->by_mode == 0)
		return 0;
	if (!takes_by(c))
		return refuse(code_r, 555, err, "5.5.4", "Unsupported option: BY");
	if ((mail->by_mode & BY_RETURN) && mail->by_seconds < c->conf->smtpd_deliver_by_minimum / 1000)
		return refuse(code_r, 555, err, "5.5.4", "Error: BY is below the minimum of this server");
	if (mail->hold_request.len > 0 && hold > now + mail->by_seconds)
		return refuse(code_r, 501, err, "5.5.4", "Error: to be held longer than until the time of BY");
	return 0;
}

int smtp_timing_check(const struct smtp_session *c, const struct mail_args *mail, int *code_r, struct err *err)
{
	return hold_check(c, mail, code_r, err) < 0 ? -1 : by_check(c, mail, code_r, err);
}

/* An hour of the past is now. */
void smtp_timing_take(struct smtp_session *c)
{
	struct smtp_mail *m = &c->mail;
	int64_t now = clock_wall();

	m->hold_until = m->args.hold_for ? now + m->args.hold_for : m->args.hold_until > now ? m->args.hold_until : 0;
	m->by_time = m->args.by_mode ? now + m->args.by_seconds : 0;
}
