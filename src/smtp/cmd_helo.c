/* HELO, EHLO (RFC 5321 4.1.1.1) and LHLO (RFC 2033 4.1). */
#include "smtp/smtp.h"

/* Also ends a transaction (RFC 5321 4.1.4), and may be said again. */
static enum next hello(struct smtp_session *c, struct str name, bool esmtp)
{
	if (name.len == 0)
		return smtp_reply(c, 501, "5.5.4", "Syntax: %s hostname", c->where);
	if (!smtp_helo_is_sane(name))
		return smtp_reply(c, 501, "5.5.4", "Error: invalid hostname");
	smtp_mail_reset(c);
	c->helo = arena_str(&c->arena, name);
	c->esmtp = esmtp;
	/* The arena lives as long as the connection: who repeats himself for ever shall not fill it. */
	if (arena_used(&c->arena) > 65536)
		return smtp_reply_close(c, "4.7.0", "Error: too many greetings");
	return NEXT_UNIT;
}

enum next smtp_cmd_helo(struct smtp_session *c, struct str args)
{
	unsigned failed = c->failures[CMD_HELO];
	enum next next = hello(c, args, false);

	if (next != NEXT_UNIT || c->failures[CMD_HELO] != failed)
		return next;
	smtp_reply_line(c, 250, "", c->conf->myhostname);
	return NEXT_UNIT;
}

static void announce_auth(struct smtp_session *c, struct buf *out)
{
	struct arena arena;
	struct str names;

	arena_init(&arena);
	names = smtp_auth_mechanisms(c, &arena);
	if (names.len > 0) {
		buf_addf(out, "250-AUTH %.*s\r\n", STR_ARG(names));
		if (c->conf->broken_sasl_auth_clients)
			buf_addf(out, "250-AUTH=%.*s\r\n", STR_ARG(names));
	}
	arena_release(&arena);
}

static enum next announce(struct smtp_session *c, struct str args)
{
	unsigned failed = c->failures[c->command];
	enum next next = hello(c, args, true);
	struct buf out;

	if (next != NEXT_UNIT || c->failures[c->command] != failed)
		return next;
	buf_init(&out, 8192);
	buf_addf(&out, "250-%.*s\r\n250-PIPELINING\r\n", STR_ARG(c->conf->myhostname));
	/* RFC 1870 3: SIZE without a number, no fixed limit. */
	if (c->conf->message_size_limit > 0)
		buf_addf(&out, "250-SIZE %lld\r\n", (long long)c->conf->message_size_limit);
	else
		buf_addz(&out, "250-SIZE\r\n");
	if (!c->conf->disable_vrfy_command)
		buf_addz(&out, "250-VRFY\r\n");
	/* RFC 1985 2; where it would be of no use to anybody it is not offered. */
	if (!c->lmtp && !c->local && c->conf->fast_flush_domains.len > 0)
		buf_addz(&out, "250-ETRN\r\n");
	if (smtp_offers_tls(c))
		buf_addz(&out, "250-STARTTLS\r\n");
	if (!c->local)
		announce_auth(c, &out);
	smtp_verp_announce(c, &out);
	smtp_timing_announce(c, &out);
	buf_addz(&out, "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n");
	session_write(c->s, buf_str(&out));
	buf_release(&out);
	return NEXT_UNIT;
}

enum next smtp_cmd_ehlo(struct smtp_session *c, struct str args)
{
	return announce(c, args);
}

enum next smtp_cmd_lhlo(struct smtp_session *c, struct str args)
{
	return announce(c, args);
}
