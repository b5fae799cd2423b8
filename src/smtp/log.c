/* The log lines of Postfix, word for word: pflogsumm, fail2ban and people's eyes know them. */
#include "base/log.h"
#include "base/clock.h"
#include "msg/date.h"
#include "smtp/smtp.h"
#include <stdarg.h>

static const char *const command_names[CMD_COUNT] = {
	"helo", "ehlo", "lhlo", "starttls", "auth", "mail", "rcpt",  "data",   "bdat",	  "rset",
	"noop", "vrfy", "etrn", "quit",	    "help", "expn", "xuser", "xlocal", "unknown",
};

void smtp_log(struct smtp_session *c, const char *fmt, ...)
{
	char text[3000];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	log_as(c->log_name, "%s", text);
}

void smtp_log_auth_failed(struct smtp_session *c, struct str why, struct str user)
{
	const char *service = strchr(c->log_name, '/');
	char name[100];

	snprintf(name, sizeof(name), "postfix%s", service != NULL ? service : "/smtpd");
	log_as(name, "warning: %.*s: SASL %.*s authentication failed: %.*s%s%.*s", STR_ARG(c->client),
	       STR_ARG(c->auth_mechanism), STR_ARG(why), user.len > 0 ? ", sasl_username=" : "", STR_ARG(user));
}

/* An address can be longer than a line of the log: 255 bytes of escapes and a domain of U-labels. */
static struct str shown(struct str address)
{
	return str_sub(address, 0, 400);
}

void smtp_log_client(struct smtp_session *c)
{
	if (c->local)
		smtp_log(c, "%.*s: uid=%u from=<%.*s>", STR_ARG(c->mail.queue_id), c->uid,
			 STR_ARG(shown(c->mail.local.sender)));
	else if (c->user.len > 0)
		smtp_log(c, "%.*s: client=%.*s, sasl_method=%.*s, sasl_username=%.*s", STR_ARG(c->mail.queue_id),
			 STR_ARG(c->client), STR_ARG(c->method), STR_ARG(c->user));
	else
		smtp_log(c, "%.*s: client=%.*s", STR_ARG(c->mail.queue_id), STR_ARG(c->client));
}

void smtp_log_reject(struct smtp_session *c, const char *stage, int code, const struct err *err, struct str recipient)
{
	struct str id = c->mail.queue_id.len > 0 ? c->mail.queue_id : STR("NOQUEUE");
	char dsn[sizeof(err->code)];
	struct buf line;

	code = smtp_soft_code(c, code);
	snprintf(dsn, sizeof(dsn), "%s", err->code);
	dsn[0] = (char)('0' + code / 100);
	buf_init(&line, 3000);
	buf_addf(&line, "%.*s: reject: %s from %.*s: %d %s %s;", STR_ARG(id), stage, STR_ARG(c->client), code, dsn,
		 err->text);
	if (c->mail.open)
		buf_addf(&line, " from=<%.*s>", STR_ARG(shown(c->mail.sender)));
	if (recipient.len > 0)
		buf_addf(&line, " to=<%.*s>", STR_ARG(shown(recipient)));
	buf_addf(&line, " proto=%s helo=<%.*s>", c->lmtp ? "LMTP" : c->esmtp ? "ESMTP" : "SMTP", STR_ARG(c->helo));
	smtp_log(c, "%s", line.ptr);
	buf_release(&line);
}

static void add_count(struct buf *out, const char *name, unsigned total, unsigned failed)
{
	if (total == 0)
		return;
	buf_addf(out, " %s=%u", name, total - failed);
	if (failed > 0)
		buf_addf(out, "/%u", total);
}

void smtp_log_disconnect(struct smtp_session *c)
{
	unsigned total = 0, failed = 0;
	struct buf text;

	buf_init(&text, 1000);
	for (int i = 0; i < CMD_COUNT; i++) {
		unsigned bad = c->failures[i] < c->counts[i] ? c->failures[i] : c->counts[i];

		add_count(&text, command_names[i], c->counts[i], bad);
		total += c->counts[i];
		failed += bad;
	}
	buf_addf(&text, " commands=%u", total - failed);
	if (failed > 0)
		buf_addf(&text, "/%u", total);
	smtp_log(c, "disconnect from %.*s%s", STR_ARG(c->client), text.ptr);
	buf_release(&text);
}

void smtp_log_message(struct smtp_session *c, struct delivery *d)
{
	struct str id = c->mail.added_message_id.len > 0 ? c->mail.added_message_id : c->mail.filter.message_id;
	struct log_gather gather;

	log_gather(&gather);
	log_as(c->log_cleanup, "%.*s: message-id=%.*s", STR_ARG(d->queue_id), STR_ARG(id));
	log_as(c->log_qmgr, "%.*s: from=<%.*s>, size=%llu, nrcpt=%zu (queue active)", STR_ARG(d->queue_id),
	       STR_ARG(d->sender), (unsigned long long)(d->content.size + d->prefix.len), d->rcpt_count);
	log_gathered(&gather);
}

void smtp_log_held(struct smtp_session *c, const struct delivery *d)
{
	struct buf when;

	buf_init(&when, 64);
	date_internet_write(&when, (int64_t)d->hold_until);
	log_as(c->log_qmgr, "%.*s: held until %.*s, as the sender asked (%.*s)", STR_ARG(d->queue_id),
	       STR_ARG(buf_str(&when)), STR_ARG(d->hold_request));
	buf_release(&when);
}

static double seconds(int64_t us)
{
	return (double)us / 1e6;
}

void smtp_log_delivery(struct smtp_session *c, const struct delivery *d, const struct delivery_rcpt *r,
		       const char *relay, const char *status, const char *dsn, const char *text)
{
	int64_t now = clock_us();
	char delay[16], before[16], spent[16];
	struct buf line;

	buf_init(&line, 3000);
	buf_addf(&line, "%.*s: to=<%.*s>", STR_ARG(d->queue_id), STR_ARG(r->address));
	if (r->original.len > 0 && !str_ieq(r->original, r->address))
		buf_addf(&line, ", orig_to=<%.*s>", STR_ARG(shown(r->original)));
	buf_addf(&line, ", relay=%s, delay=%s, delays=%s/0/0/%s, dsn=%s, status=%s (%s)", relay,
		 deliver_delay_text(seconds(now - c->mail.started_us), delay),
		 deliver_delay_text(seconds(c->mail.data_us - c->mail.started_us), before),
		 deliver_delay_text(seconds(now - c->mail.data_us), spent), dsn, status, text);
	log_as(c->log_virtual, "%s", line.ptr);
	buf_release(&line);
}
