/* Trace and completion: the Received: field (RFC 5321 4.4, in Postfix's form) and the fields that a submitted
 * message lacks (RFC 6409 8). */
#include "base/clock.h"
#include "msg/date.h"
#include "smtp/smtp.h"
#include <time.h>

#define PREFIX_MAX 32768

/* A client's own words inside a structured field: what could end an atom or open a comment is replaced. */
static void add_helo(struct buf *out, struct str helo)
{
	if (helo.len == 0)
		helo = STR("unknown");
	for (size_t i = 0; i < helo.len; i++) {
		char ch = helo.ptr[i];

		buf_addc(out, ascii_alnum(ch) || char_is_one_of(ch, ".-_:[]") ? ch : '?');
	}
}

static void add_tls(struct smtp_session *c, struct buf *out)
{
	struct session_tls info;

	if (c->conf->smtpd_tls_received_header && session_tls_info(c->s, &info))
		buf_addf(out, "\t(using %s with cipher %s (%d/%d bits))\n", info.protocol, info.cipher, info.bits,
			 info.alg_bits);
}

/* As Postfix has it. A comment's own characters in the name would end it. */
static void add_user(struct buf *out, struct str user)
{
	buf_addz(out, "\t(Authenticated sender: ");
	for (size_t i = 0; i < user.len; i++)
		buf_addc(out, strchr("()\\", user.ptr[i]) || str_has_control(str_sub(user, i, 1)) ? '?' : user.ptr[i]);
	buf_addz(out, ")\n");
}

static void add_received(struct smtp_session *c, struct buf *out)
{
	char literal[NET_ADDR_TEXT], with[24];

	if (c->local) {
		buf_addf(out, "Received: by %.*s (%.*s, from userid %u)\n\tid %.*s; ", STR_ARG(c->conf->myhostname),
			 STR_ARG(c->conf->mail_name), c->uid, STR_ARG(c->mail.queue_id));
		date_write(out, clock_wall(), 0);
		buf_addz(out, " (UTC)\n");
		return;
	}
	buf_addz(out, "Received: from ");
	if (c->user.len > 0 && c->conf->submission_hide_client) {
		buf_addz(out, "submission (client hidden)\n");
	} else {
		add_helo(out, c->helo);
		buf_addf(out, " (%.*s [%s])\n", STR_ARG(c->client_name), net_addr_literal(session_peer(c->s), literal));
	}
	add_tls(c, out);
	if (c->user.len > 0 && c->conf->smtpd_sasl_authenticated_header)
		add_user(out, c->user);
	buf_addf(out, "\tby %.*s (%.*s) with %s id %.*s", STR_ARG(c->conf->myhostname), STR_ARG(c->conf->mail_name),
		 smtp_with(c, with), STR_ARG(c->mail.queue_id));
	/* With several recipients it would tell each about another. */
	if (c->mail.rcpts.n == 1)
		buf_addf(out, "\n\tfor <%.*s>", STR_ARG(c->mail.rcpts.v[0].given));
	buf_addz(out, "; ");
	date_write(out, clock_wall(), 0);
	buf_addz(out, " (UTC)\n");
}

static struct str date_value(struct arena *arena)
{
	struct buf text;
	struct str copy;

	buf_init(&text, 64);
	date_write(&text, clock_wall(), 0);
	copy = arena_str(arena, buf_str(&text));
	buf_release(&text);
	return copy;
}

static struct str message_id_value(struct smtp_session *c)
{
	time_t now = (time_t)clock_wall();
	struct tm tm;
	char stamp[32];

	gmtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%d%H%M%S", &tm);
	return arena_printf(&c->mail.arena, "<%s.%.*s@%.*s>", stamp, STR_ARG(c->mail.queue_id),
			    STR_ARG(c->conf->myhostname));
}

/* Fields that a message from a mail client or program must have and this one lacks (RFC 6409 8). */
static void complete(struct smtp_session *c, struct buf *out)
{
	const struct smtp_filter *f = &c->mail.filter;
	struct str from;

	if (!f->has_from) {
		from = smtp_rewrite_added(c, c->local	       ? smtp_local_from(c)
					     : c->user.len > 0 ? c->user
							       : c->mail.sender);
		if (from.len > 0)
			buf_addf(out, "From: %.*s\n", STR_ARG(from));
	}
	if (!f->has_date)
		buf_addf(out, "Date: %.*s\n", STR_ARG(date_value(&c->mail.arena)));
	if (!f->has_message_id) {
		c->mail.added_message_id = message_id_value(c);
		buf_addf(out, "Message-ID: %.*s\n", STR_ARG(c->mail.added_message_id));
	}
}

struct str smtp_received(struct smtp_session *c)
{
	struct buf out;
	struct str copy;

	buf_init(&out, PREFIX_MAX);
	for (size_t i = 0; i < c->mail.fields.n; i++)
		buf_addf(&out, "%.*s\n", STR_ARG(c->mail.fields.v[i]));
	add_received(c, &out);
	if (smtp_is_submission(c))
		complete(c, &out);
	copy = arena_str(&c->mail.arena, buf_str(&out));
	buf_release(&out);
	return copy;
}
