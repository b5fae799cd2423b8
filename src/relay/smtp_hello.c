/* From the connection to the point where mail may be sent: greeting, EHLO (HELO, LHLO), STARTTLS and EHLO again,
 * log-in. RFC 5321 3.1, 3.2, 4.1.1.1; RFC 3207; RFC 2033. */
#include "base/clock.h"
#include "base/log.h"
#include "relay/smtp_sts.h"
#include "relay/smtp_tls.h"

struct str smtpc_said(const struct smtpc_try *t, const struct smtpc_conn *c, const char *command)
{
	struct str said = smtpc_reply_text(&c->reply, t->job->arena);

	return arena_printf(t->job->arena, "host %s said: %.*s (in reply to %s)", c->peer, STR_ARG(said), command);
}

void smtpc_note(struct smtpc_try *t, bool permanent, struct str code, struct str text, const struct smtpc_conn *c,
		bool replied)
{
	struct arena *arena = t->job->arena;

	t->permanent = permanent;
	t->code = arena_str(arena, code);
	if (!permanent && (code.len == 0 || code.ptr[0] != '4'))
		t->code = STR("4.0.0");
	t->text = arena_str(arena, text);
	t->mta = c != NULL && replied ? arena_str(arena, str_from(c->host)) : STR("");
	t->said = c != NULL && replied ? smtpc_reply_text(&c->reply, arena) : STR("");
	t->relay = c != NULL ? arena_str(arena, str_from(c->relay)) : STR("none");
}

void smtpc_note_io(struct smtpc_try *t, struct smtpc_conn *c)
{
	const char *code;
	struct str text = smtpc_io_text(c, t->job->arena, &code);

	smtpc_note(t, false, str_from(code), text, c, false);
}

/* This host refuses us as a whole: the next one may not. */
static int refused(struct smtpc_try *t, struct smtpc_conn *c, bool may_be_permanent)
{
	struct str said = smtpc_reply_text(&c->reply, t->job->arena);

	smtpc_note(t, may_be_permanent && c->reply.code / 100 == 5, str_from(c->reply.enhanced),
		   arena_printf(t->job->arena, "host %s refused to talk to me: %.*s", c->peer, STR_ARG(said)), c, true);
	return 0;
}

/* ---- EHLO ---- */

int smtpc_discard_find(struct smtpc_try *t)
{
	const struct remote_env *env = smtpc_env(t);
	struct str list = t->conf->smtp_discard_ehlo_keyword_address_maps, value;
	char text[NET_ADDR_TEXT];
	struct err err = ERR_NONE;
	int rc = 0;

	t->discard = t->conf->smtp_discard_ehlo_keywords;
	if (list.len == 0 || env->lookup == NULL || t->host->addr.len == 0)
		return 0;
	rc = env->lookup(env->lookup_ctx, STR("smtp_discard_ehlo_keyword_address_maps"), list,
			 str_from(net_addr_text(&t->host->addr, text)), t->job->arena, &value, &err);
	if (rc < 0) {
		smtpc_note(t, false, STR("4.3.0"),
			   arena_printf(t->job->arena, "smtp_discard_ehlo_keyword_address_maps: %s", err.text), NULL,
			   false);
		return -1;
	}
	if (rc > 0)
		t->discard = value;
	return 0;
}

static void take_auth(struct smtpc_conn *c, struct str mechanisms)
{
	size_t used = strlen(c->auth_mechanisms);

	/* "AUTH ..." and the old "AUTH=...": each adds. */
	snprintf(c->auth_mechanisms + used, sizeof(c->auth_mechanisms) - used, "%s%.*s", used ? " " : "",
		 STR_ARG(mechanisms));
}

static void take_keyword(const struct smtpc_try *t, struct smtpc_conn *c, struct str line)
{
	static const struct {
		struct str keyword;
		unsigned feature;
	} known[] = {{STR("PIPELINING"), SMTP_PIPELINING},
		     {STR("8BITMIME"), SMTP_8BITMIME},
		     {STR("SIZE"), SMTP_SIZE},
		     {STR("STARTTLS"), SMTP_STARTTLS},
		     {STR("AUTH"), SMTP_AUTH},
		     {STR("DSN"), SMTP_DSN},
		     {STR("CHUNKING"), SMTP_CHUNKING},
		     {STR("SMTPUTF8"), SMTP_SMTPUTF8},
		     {STR("DELIVERBY"), SMTP_DELIVERBY}};
	struct str keyword, rest = line;

	if (!str_token(&rest, " =", &keyword) || conf_list_ihas(t->discard, keyword))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (str_ieq(keyword, known[i].keyword))
			c->features |= known[i].feature;
	rest = str_trim(rest);
	if (str_ieq(keyword, STR("SIZE")) && !str_to_u64(rest, &c->size_limit))
		c->size_limit = 0;
	/* RFC 2852 2: behind a comma there may be more. */
	if (str_ieq(keyword, STR("DELIVERBY"))) {
		struct str minimum, more;

		str_split(rest, ',', &minimum, &more);
		if (!str_to_u64(minimum, &c->by_minimum))
			c->by_minimum = 0;
	}
	if (str_ieq(keyword, STR("AUTH")))
		take_auth(c, rest);
}

static void take_features(const struct smtpc_try *t, struct smtpc_conn *c)
{
	struct str rest = buf_str(&c->reply.lines), line;
	bool first = true;

	c->features = SMTP_ESMTP;
	c->size_limit = c->by_minimum = 0;
	c->auth_mechanisms[0] = '\0';
	while (rest.len > 0) {
		bool more = str_split(rest, '\n', &line, &rest);

		if (!first)
			take_keyword(t, c, line);
		first = false;
		if (!more)
			break;
	}
}

/* We are the only ones who greet by our name (RFC 5321 2.3.5). */
static bool says_our_name(const struct smtpc_conn *c)
{
	struct str rest = buf_str(&c->reply.lines), word;

	return str_token(&rest, " \n", &word) && str_ieq(word, c->conf->myhostname);
}

static int loops_back(struct smtpc_try *t, const struct smtpc_conn *c)
{
	struct str text = arena_printf(t->job->arena, "mail for %.*s loops back to myself", STR_ARG(t->nexthop));

	smtpc_note(t, true, STR("5.4.6"), text, c, false);
	return 0;
}

static int hello_command(struct smtpc_conn *c, const char *verb, struct str name)
{
	c->where = "performing the EHLO handshake";
	smtpc_put(c, "%s %.*s", verb, STR_ARG(name));
	return smtpc_read_reply(c, c->conf->smtp_helo_timeout);
}

int smtpc_ehlo(struct smtpc_try *t, struct smtpc_conn *c)
{
	const struct conf *conf = c->conf;

	c->features = 0;
	if (c->lmtp || (!conf->smtp_never_send_ehlo && !(c->pix & PIX_DISABLE_ESMTP) &&
			(conf->smtp_always_send_ehlo || c->says_esmtp))) {
		struct str name = c->lmtp ? conf->lmtp_lhlo_name : conf->smtp_helo_name;

		if (hello_command(c, c->lmtp ? "LHLO" : "EHLO", name) < 0)
			return -1;
		if (c->reply.code / 100 == 2) {
			if (t->loop_check && !c->lmtp && says_our_name(c))
				return loops_back(t, c);
			take_features(t, c);
			return 1;
		}
		/* RFC 5321 3.2: a server that knows no EHLO says 5xx. Under TLS there is one that does. */
		if (c->lmtp || c->reply.code == 421 || c->reply.code / 100 != 5 || c->ssl != NULL)
			return refused(t, c, true);
	}
	if (hello_command(c, "HELO", conf->smtp_helo_name) < 0)
		return -1;
	return c->reply.code / 100 == 2 ? 1 : refused(t, c, true);
}

/* ---- all of it ---- */

/* "220 **********": a firewall that hides what the server is, and breaks what it does not know of. */
static bool is_starred(const struct smtpc_reply *r)
{
	struct str lines = buf_str(&r->lines);

	for (size_t i = 0; i < lines.len; i++)
		if (!char_is_one_of(lines.ptr[i], "20 *\n"))
			return false;
	return str_chr(lines, '*') >= 0;
}

static int pix_find(struct smtpc_try *t, struct smtpc_conn *c)
{
	struct str words = c->conf->smtp_pix_workarounds, maps = c->conf->smtp_pix_workaround_maps, item;
	const struct remote_env *env = maps.len > 0 ? smtpc_env(t) : NULL;
	char text[NET_ADDR_TEXT];
	struct err err = ERR_NONE;

	if (env != NULL && env->lookup != NULL && c->addr.len > 0 &&
	    env->lookup(env->lookup_ctx, STR("smtp_pix_workaround_maps"), maps, str_from(net_addr_text(&c->addr, text)),
			t->job->arena, &words, &err) < 0) {
		smtpc_note(t, false, STR("4.3.0"),
			   arena_printf(t->job->arena, "smtp_pix_workaround_maps: %s", err.text), NULL, false);
		return 0;
	}
	while (conf_list_next(&words, &item)) {
		if (str_ieq(item, STR("disable_esmtp")))
			c->pix |= PIX_DISABLE_ESMTP;
		else if (str_ieq(item, STR("delay_dotcrlf")))
			c->pix |= PIX_DELAY_DOTCRLF;
		else
			log_warning("smtp_pix_workarounds: \"%.*s\" is none", STR_ARG(str_sub(item, 0, 50)));
	}
	if (c->pix != 0)
		log_info("%.*s: enabling PIX workarounds:%s%s for %s", STR_ARG(t->job->queue_id),
			 c->pix & PIX_DISABLE_ESMTP ? " disable_esmtp" : "",
			 c->pix & PIX_DELAY_DOTCRLF ? " delay_dotcrlf" : "", c->relay);
	return 1;
}

static int greeting(struct smtpc_try *t, struct smtpc_conn *c)
{
	c->where = "receiving the initial server greeting";
	if (smtpc_read_reply(c, c->conf->smtp_helo_timeout) < 0)
		return -1;
	c->says_esmtp = str_ifind(buf_str(&c->reply.lines), STR("ESMTP")) >= 0;
	if (c->reply.code / 100 == 2)
		return is_starred(&c->reply) ? pix_find(t, c) : 1;
	return refused(t, c, !c->conf->smtp_skip_5xx_greeting);
}

static int secure(struct smtpc_try *t, struct smtpc_conn *c)
{
	int rc;

	if (t->effective == TLS_LEVEL_NONE && c->features & SMTP_STARTTLS && t->conf->smtp_tls_note_starttls_offer)
		log_info("Host offered STARTTLS: [%s]", c->peer);
	if (t->no_tls || t->effective == TLS_LEVEL_NONE)
		return 1;
	if (!(c->features & SMTP_STARTTLS)) {
		struct str text =
			arena_printf(t->job->arena, "TLS is required, but was not offered by host %s", c->peer);

		smtpc_sts_tested(t, c, "STARTTLS was not offered");
		if (t->effective == TLS_LEVEL_MAY)
			return 1;
		smtpc_note(t, false, STR("4.7.4"), smtpc_sts_says(t, text), c, false);
		return 0;
	}
	rc = smtpc_tls_start(t, c);
	/* What was said before TLS is forgotten (RFC 3207 4.2). */
	return rc == 1 && c->ssl != NULL ? smtpc_ehlo(t, c) : rc;
}

int smtpc_hello(struct smtpc_try *t, struct smtpc_conn *c)
{
	int rc = 1;

	if (c->conf->smtp_tls_wrappermode && !c->lmtp)
		rc = smtpc_tls_start(t, c);
	if (rc == 1)
		rc = greeting(t, c);
	if (rc == 1)
		rc = smtpc_ehlo(t, c);
	if (rc == 1 && c->ssl == NULL)
		rc = secure(t, c);
	if (rc == 1)
		rc = smtpc_sasl_login(t, c);
	if (rc < 0)
		smtpc_note_io(t, c);
	return rc;
}
