/* Where the protocol asks the restriction language. */
#include "base/clock.h"
#include "smtp/smtp.h"

#define QUEUE_ADMIT_MS 5000
#define FIELDS_MAX     10 /* PREPEND, BCC, of one message */

static int sender_owned(void *ctx, struct dir_allowed *allowed_r, struct err *err)
{
	struct smtp_session *c = ctx;
	struct dir_sender ask = {.account = c->account, .address = c->mail.sender};
	struct rpc_reply hold;
	int result;

	rpc_reply_init(&hold);
	result = smtp_directory(c, &DIR_SENDER, &ask, allowed_r, &hold, err);
	rpc_reply_release(&hold);
	return result;
}

/* The value lives as long as the mail. */
static int lookup(void *ctx, const struct dir_lookup *ask, struct str *value_r, struct err *err)
{
	struct smtp_session *c = ctx;
	struct dir_found found;
	struct rpc_reply hold;
	int result;

	rpc_reply_init(&hold);
	result = smtp_directory(c, &DIR_LOOKUP, ask, &found, &hold, err);
	if (result == 0 && found.found) {
		*value_r = arena_str(&c->mail.arena, found.value);
		result = 1;
	}
	rpc_reply_release(&hold);
	return result;
}

static int resolve(void *ctx, struct str name, enum dns_type type, struct arena *arena, struct dns_answer *answer_r,
		   struct err *err)
{
	struct smtp_session *c = ctx;

	return dns_lookup(c->server->dns, name, type, arena, answer_r, err);
}

static bool is_among(const struct str *v, size_t n, struct str text)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(v[i], text))
			return true;
	return false;
}

/* Lists are walked once a recipient, and a field is put there once. */
static void act(void *ctx, enum policy_act what, struct str text)
{
	struct smtp_mail *m = &((struct smtp_session *)ctx)->mail;

	switch (what) {
	case ACT_DISCARD:
		m->unwanted = true;
		break;
	case ACT_HOLD:
		m->on_hold = true;
		break;
	case ACT_REDIRECT: /* the last one says who */
		m->redirect = arena_str(&m->arena, text);
		break;
	case ACT_BCC:
		if (m->copies.n < FIELDS_MAX && !is_among(m->copies.v, m->copies.n, text))
			vec_push_arena(&m->arena, &m->copies, arena_str(&m->arena, text));
		break;
	case ACT_PREPEND:
		if (m->fields.n < FIELDS_MAX && !is_among(m->fields.v, m->fields.n, text))
			vec_push_arena(&m->arena, &m->fields, arena_str(&m->arena, text));
		break;
	}
}

static struct policy_request request_of(struct smtp_session *c)
{
	return (struct policy_request){
		.conf = c->conf,
		.client = session_peer(c->s),
		.client_name = c->client,
		.host_name = c->client_name,
		.reverse_name = c->reverse_name,
		.name_status = c->name_status,
		.reverse_status = c->reverse_status,
		.resolve = c->server->dns ? resolve : NULL,
		.helo = c->helo,
		.sender = c->mail.open ? &c->mail.args.sender : NULL,
		.sender_text = c->mail.sender,
		.sasl_user = c->user,
		.tls = session_is_tls(c->s),
		.sender_owned = sender_owned,
		.lookup = lookup,
		.act = c->mail.open ? act : NULL,
		.ctx = c,
	};
}

/* LMTP speaks to our own hosts only, and delivers only here: it has no relaying to guard. */
int smtp_policy_rcpt(struct smtp_session *c, const struct address *rcpt, struct str text, enum rcpt_class class,
		     int *code_r, struct err *err)
{
	struct policy_request r = request_of(c);
	struct policy_deferral deferral = {0};
	enum policy_verdict verdict = POLICY_DUNNO;
	static const enum policy_stage stages[] = {STAGE_CLIENT,    STAGE_HELO,	     STAGE_SENDER,
						   STAGE_RECIPIENT, STAGE_RECIPIENT, STAGE_RECIPIENT};
	const struct str lists[] = {
		c->conf->smtpd_client_restrictions,
		c->conf->smtpd_helo_restrictions,
		c->conf->smtpd_sender_restrictions,
		c->conf->smtpd_relay_restrictions,
		c->conf->smtpd_recipient_restrictions,
		c->conf->smtpd_reject_unlisted_recipient ? STR("reject_unlisted_recipient") : STR(""),
	};

	r.recipient = rcpt;
	r.recipient_text = text;
	r.recipient_class = class;
	r.deferral = &deferral;
	for (size_t i = c->lmtp ? ARRAY_SIZE(lists) - 1 : 0; i < ARRAY_SIZE(lists) && verdict != POLICY_REFUSE; i++) {
		r.stage = stages[i];
		verdict = policy_eval(lists[i], &r, code_r, err);
	}
	return policy_conclude(verdict, &deferral, code_r, err) == POLICY_REFUSE ? -1 : 0;
}

/* The client is this machine: mail to an address of ours comes from that address. */
static bool is_this_machine(struct smtp_session *c)
{
	char peer[NET_ADDR_TEXT], local[NET_ADDR_TEXT];

	return net_addr_is_loopback(session_peer(c->s)) ||
	       strcmp(net_addr_text(session_peer(c->s), peer), net_addr_text(session_local(c->s), local)) == 0;
}

static int header_table(struct smtp_session *c, struct str table, struct err *err)
{
	char address[NET_ADDR_TEXT];
	struct dir_lookup ask = {.parameter = STR("local_header_rewrite_clients"), .list = table, .how = LOOKUP_KEY};
	struct err why = ERR_NONE;
	struct str value;
	int rc;

	ask.key = str_from(net_addr_text(session_peer(c->s), address));
	rc = lookup(c, &ask, &value, &why);
	if (rc < 0) {
		smtp_log(c, "warning: local_header_rewrite_clients: %s", why.text);
		return err_set(err, ERR_TEMP, "4.3.0", "Temporary lookup failure");
	}
	return rc;
}

static int is_header_client(struct smtp_session *c, struct str item, struct err *err)
{
	struct policy_request r = request_of(c);
	enum policy_verdict verdict;
	int code;

	if (str_ieq(item, STR("permit_inet_interfaces")))
		return is_this_machine(c);
	if (str_chr(item, ':') > 0)
		return header_table(c, item, err);
	if (!str_ieq(item, STR("permit_mynetworks")) && !str_ieq(item, STR("permit_sasl_authenticated")))
		return 0;
	r.stage = STAGE_CLIENT;
	verdict = policy_eval(item, &r, &code, err);
	return verdict == POLICY_REFUSE ? -1 : verdict == POLICY_PERMIT;
}

int smtp_policy_header(struct smtp_session *c, struct err *err)
{
	struct str list = c->conf->local_header_rewrite_clients, item;
	int rc = 0;

	while (rc == 0 && conf_list_next(&list, &item))
		rc = is_header_client(c, item, err);
	return rc;
}

int smtp_policy_etrn(struct smtp_session *c, struct str domain, int *code_r, struct err *err)
{
	struct policy_request r = request_of(c);
	struct policy_deferral deferral = {0};
	enum policy_verdict verdict = POLICY_DUNNO;
	static const enum policy_stage stages[] = {STAGE_CLIENT, STAGE_HELO, STAGE_ETRN};
	const struct str lists[] = {
		c->conf->smtpd_client_restrictions,
		c->conf->smtpd_helo_restrictions,
		c->conf->smtpd_etrn_restrictions,
	};

	r.etrn = domain;
	r.deferral = &deferral;
	for (size_t i = 0; i < ARRAY_SIZE(lists) && verdict != POLICY_REFUSE; i++) {
		r.stage = stages[i];
		verdict = policy_eval(lists[i], &r, code_r, err);
	}
	return policy_conclude(verdict, &deferral, code_r, err) == POLICY_REFUSE ? -1 : 0;
}

/* Until when there is room enough that nobody need ask: the queue's own word, for all sessions of this process. */
static _Atomic int64_t ample_until_ms;

/* A queue that cannot be asked now may be back when the message is there. */
static int queue_admits(struct smtp_session *c, struct err *err)
{
	struct queue_admit ask = {.size = c->mail.args.size};
	struct err why = ERR_NONE;
	struct rpc_reply hold;
	struct queue_admitted admitted;

	if (clock_ms() < ample_until_ms)
		return 0;
	rpc_reply_init(&hold);
	if (rpc_call(c->env.queue, &QUEUE_ADMIT, &ask, &admitted, &hold, true, QUEUE_ADMIT_MS, &why) == 0) {
		why.kind = ERR_OK;
		ample_until_ms = admitted.ample_ms ? clock_ms() + admitted.ample_ms : 0;
	}
	rpc_reply_release(&hold);
	return why.kind == ERR_FULL ? err_set(err, ERR_FULL, "4.3.1", "Error: Insufficient system storage") : 0;
}

int smtp_policy_data(struct smtp_session *c, int *code_r, struct err *err)
{
	struct policy_request r = request_of(c);
	struct policy_deferral deferral = {0};
	enum policy_verdict verdict;

	if (c->lmtp || c->local)
		return 0;
	r.deferral = &deferral;
	/* With CHUNKING a client may pipeline whatever it likes (RFC 3030 4.2), so only DATA can be improper. */
	r.stage = STAGE_DATA;
	r.pipelining = c->command == CMD_DATA && session_input_pending(c->s);
	verdict = policy_eval(c->conf->smtpd_data_restrictions, &r, code_r, err);
	if (policy_conclude(verdict, &deferral, code_r, err) == POLICY_REFUSE)
		return -1;
	*code_r = 452;
	return c->mail.elsewhere && c->env.queue ? queue_admits(c, err) : 0;
}

/* The words of smtpd_tls_security_level, as params.def has them. */
enum { LEVEL_NONE, LEVEL_MAY, LEVEL_ENCRYPT };

bool smtp_offers_tls(struct smtp_session *c)
{
	struct tls_context *tls;
	bool offers;

	if (c->local || session_is_tls(c->s) || c->conf->smtpd_tls_security_level == LEVEL_NONE)
		return false;
	tls = service_tls(c->service);
	offers = tls != NULL;
	tls_context_unref(&tls);
	return offers;
}

bool smtp_tls_is_missing(struct smtp_session *c)
{
	return !c->lmtp && !c->local && c->conf->smtpd_tls_security_level == LEVEL_ENCRYPT && !session_is_tls(c->s);
}

bool smtp_rejects_bare_lf(struct smtp_session *c)
{
	struct buf mode;
	bool yes;

	if (c->local)
		return false;
	buf_init(&mode, 64);
	yes = conf_text(c->conf, STR("smtpd_forbid_bare_newline"), &mode) && str_ieq(buf_str(&mode), STR("reject"));
	buf_release(&mode);
	return yes && !conf_in_networks(c->conf->smtpd_forbid_bare_newline_exclusions, session_peer(c->s));
}
