/* check_..._access: what tables in the form of access(5) say of a client, a name, an address, or of the servers behind
 * it. What a table does not know, and what the DNS does not tell, decides nothing.
 *
 * The servers of a domain are chosen by whoever owns the domain: what is said of them may refuse, and never permit. */
#include "base/clock.h"
#include "base/log.h"
#include "policy/access.h"
#include "policy/private.h"
#include <stdio.h>

#define SERVERS_MAX	  50 /* of one domain */
#define PATIENCE_TIMEOUTS 3  /* of the DNS, for all servers of a domain */

static const struct access_check checks[] = {
	{"check_client_access", ABOUT_CLIENT, VIA_ITSELF},
	{"check_client_a_access", ABOUT_CLIENT, VIA_A},
	{"check_client_mx_access", ABOUT_CLIENT, VIA_MX},
	{"check_client_ns_access", ABOUT_CLIENT, VIA_NS},
	{"check_reverse_client_hostname_access", ABOUT_REVERSE, VIA_ITSELF},
	{"check_reverse_client_hostname_a_access", ABOUT_REVERSE, VIA_A},
	{"check_reverse_client_hostname_mx_access", ABOUT_REVERSE, VIA_MX},
	{"check_reverse_client_hostname_ns_access", ABOUT_REVERSE, VIA_NS},
	{"check_helo_access", ABOUT_HELO, VIA_ITSELF},
	{"check_helo_a_access", ABOUT_HELO, VIA_A},
	{"check_helo_mx_access", ABOUT_HELO, VIA_MX},
	{"check_helo_ns_access", ABOUT_HELO, VIA_NS},
	{"check_sender_access", ABOUT_SENDER, VIA_ITSELF},
	{"check_sender_a_access", ABOUT_SENDER, VIA_A},
	{"check_sender_mx_access", ABOUT_SENDER, VIA_MX},
	{"check_sender_ns_access", ABOUT_SENDER, VIA_NS},
	{"check_recipient_access", ABOUT_RECIPIENT, VIA_ITSELF},
	{"check_recipient_a_access", ABOUT_RECIPIENT, VIA_A},
	{"check_recipient_mx_access", ABOUT_RECIPIENT, VIA_MX},
	{"check_recipient_ns_access", ABOUT_RECIPIENT, VIA_NS},
	{"check_sasl_access", ABOUT_SASL, VIA_ITSELF},
	{"check_etrn_access", ABOUT_ETRN, VIA_ITSELF},
};

const struct access_check *policy_access_find(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++)
		if (str_ieq(name, str_from(checks[i].name)))
			return &checks[i];
	return NULL;
}

/* "type:name" alone: of what its list is about. */
static enum access_about about_stage(enum policy_stage stage)
{
	switch (stage) {
	case STAGE_CLIENT:
		return ABOUT_CLIENT;
	case STAGE_HELO:
		return ABOUT_HELO;
	case STAGE_SENDER:
		return ABOUT_SENDER;
	case STAGE_ETRN:
		return ABOUT_ETRN;
	case STAGE_RECIPIENT:
	case STAGE_DATA:
		break;
	}
	return ABOUT_RECIPIENT;
}

/* ---- asking ---------------------------------------------------------------------------------------------- */

/* Asks for one key, however its parts are to be looked up. 1, 0, -1. An empty key is not there. */
static int ask(const struct policy_request *r, struct str table, enum dir_lookup_how how, struct str key,
	       struct str *value_r, struct err *err)
{
	struct dir_lookup lookup = {
		.parameter = STR("smtpd_restrictions"), .list = table, .how = (uint8_t)how, .key = key};

	if (r->lookup == NULL || key.len == 0)
		return 0;
	return r->lookup(r->ctx, &lookup, value_r, err);
}

static int ask_address(const struct policy_request *r, struct str table, const struct address *a, struct str text,
		       struct str *value_r, struct err *err)
{
	if (a == NULL)
		return 0;
	if (a->local.len == 0 && a->domain.len == 0)
		return ask(r, table, LOOKUP_KEY, r->conf->smtpd_null_access_lookup_key, value_r, err);
	return ask(r, table, LOOKUP_ACCESS_ADDRESS, text, value_r, err);
}

/* A host's name and what is above it, then an address of it and its networks. */
static int ask_host(const struct policy_request *r, struct str table, struct str name, const struct net_addr *a,
		    struct str *value_r, struct err *err)
{
	char address[NET_ADDR_TEXT];
	int rc = ask(r, table, LOOKUP_ACCESS_NAME, name, value_r, err);

	if (rc != 0 || a == NULL)
		return rc;
	return ask(r, table, LOOKUP_ACCESS_CLIENT, str_from(net_addr_text(a, address)), value_r, err);
}

struct subject {
	struct str shown; /* for the reply */
	const char *kind;
	struct str domain; /* whose servers they are; "": none */
};

static struct subject subject_of(const struct policy_request *r, enum access_about about)
{
	switch (about) {
	case ABOUT_CLIENT:
		return (struct subject){r->client_name, "Client host rejected", r->host_name};
	case ABOUT_REVERSE:
		return (struct subject){r->client_name, "Unverified Client host rejected", r->reverse_name};
	case ABOUT_HELO:
		return (struct subject){r->helo, "Helo command rejected", r->helo};
	case ABOUT_SENDER:
		return (struct subject){r->sender_text, "Sender address rejected",
					r->sender ? r->sender->domain : STR("")};
	case ABOUT_SASL:
		return (struct subject){r->sasl_user, "SASL login name rejected", STR("")};
	case ABOUT_ETRN:
		return (struct subject){r->etrn, "Etrn command rejected", STR("")};
	case ABOUT_RECIPIENT:
		break;
	}
	return (struct subject){r->recipient_text, "Recipient address rejected",
				r->recipient ? r->recipient->domain : STR("")};
}

static int ask_itself(const struct policy_request *r, struct str table, enum access_about about, struct str *value_r,
		      struct err *err)
{
	switch (about) {
	case ABOUT_CLIENT:
		return ask_host(r, table, r->host_name, r->client, value_r, err);
	case ABOUT_REVERSE:
		return ask_host(r, table, r->reverse_name, NULL, value_r, err);
	case ABOUT_HELO:
		return ask_host(r, table, r->helo, NULL, value_r, err);
	case ABOUT_SENDER:
		return ask_address(r, table, r->sender, r->sender_text, value_r, err);
	case ABOUT_SASL:
		return ask(r, table, LOOKUP_KEY, r->sasl_user, value_r, err);
	case ABOUT_ETRN:
		return ask_host(r, table, r->etrn, NULL, value_r, err);
	case ABOUT_RECIPIENT:
		break;
	}
	return ask_address(r, table, r->recipient, r->recipient_text, value_r, err);
}

/* ---- what it says ---------------------------------------------------------------------------------------- */

static void access_error(const struct policy_request *r, const struct access_action *a, const struct subject *s,
			 int *code_r, struct err *err)
{
	bool reject = a->kind == ACCESS_REJECT;
	int code = (int)(reject ? r->conf->access_map_reject_code : r->conf->access_map_defer_code);
	struct str dsn = a->dsn, text = a->text;

	if (a->code)
		code = a->code;
	if (dsn.len == 0)
		dsn = code < 500 ? STR("4.7.1") : STR("5.7.1");
	if (text.len == 0)
		text = reject ? STR("Access denied") : STR("Try again later");
	*code_r = code;
	err_set(err, code < 500 ? ERR_TEMP : ERR_PERM, "", "<%.*s>: %s: %.*s", STR_ARG(s->shown), s->kind,
		STR_ARG(text));
	snprintf(err->code, sizeof(err->code), "%.*s", STR_ARG(dsn));
	err->code[0] = (char)('0' + code / 100);
}

static enum policy_verdict server_error(int *code_r, struct err *err)
{
	*code_r = 451;
	err_set(err, ERR_TEMP, "4.3.5", "Server configuration error");
	return POLICY_REFUSE;
}

/* "Name: value", on one line: RFC 5322 2.2. */
static bool is_header_field(struct str text)
{
	ptrdiff_t colon = str_chr(text, ':');

	for (ptrdiff_t i = 0; i < colon; i++)
		if (text.ptr[i] <= ' ' || text.ptr[i] >= 0x7f)
			return false;
	return colon > 0 && text.len <= 998 && !str_has_control(text);
}

/* What happens to the message, should it be taken. Throwing it away ends the list as a permit does (nobody gets it);
 * the others decide nothing. */
static enum policy_verdict act(const struct policy_request *r, const struct access_action *a, const struct subject *s,
			       struct str table)
{
	const struct {
		enum access_kind kind;
		enum policy_act act;
		const char *word;
	} acts[] = {{ACCESS_PREPEND, ACT_PREPEND, "prepend"},
		    {ACCESS_DISCARD, ACT_DISCARD, "discard"},
		    {ACCESS_HOLD, ACT_HOLD, "hold"},
		    {ACCESS_REDIRECT, ACT_REDIRECT, "redirect"},
		    {ACCESS_BCC, ACT_BCC, "bcc"}};
	size_t i = 0;

	if (r->act == NULL)
		return POLICY_DUNNO;
	if (a->kind == ACCESS_PREPEND && !is_header_field(a->text)) {
		log_warning("%.*s: PREPEND %.*s: this is no header field", STR_ARG(table), STR_ARG(a->text));
		return POLICY_DUNNO;
	}
	if ((a->kind == ACCESS_REDIRECT || a->kind == ACCESS_BCC) && str_chr(a->text, '@') <= 0) {
		log_warning("%.*s: %.*s %.*s: this is no user@domain", STR_ARG(table), STR_ARG(a->word),
			    STR_ARG(a->text));
		return POLICY_DUNNO;
	}
	while (acts[i].kind != a->kind)
		i++;
	log_info("NOQUEUE: %s: %.*s: <%.*s>: %.*s", acts[i].word, STR_ARG(r->client_name), STR_ARG(s->shown),
		 STR_ARG(a->text));
	r->act(r->ctx, acts[i].act, a->text);
	return a->kind == ACCESS_DISCARD ? POLICY_PERMIT : POLICY_DUNNO;
}

static enum policy_verdict follow(const struct policy_request *r, struct str table, struct str value,
				  const struct subject *s, unsigned depth, int *code_r, struct err *err)
{
	struct access_action a = access_parse(value);
	struct err later = ERR_NONE;
	int code;

	switch (a.kind) {
	case ACCESS_OK:
		return POLICY_PERMIT;
	case ACCESS_DUNNO:
		return POLICY_DUNNO;
	case ACCESS_WARN:
		log_info("NOQUEUE: %s: %.*s: <%.*s>: %.*s", str_ieq(a.word, STR("WARN")) ? "warn" : "info",
			 STR_ARG(r->client_name), STR_ARG(s->shown), STR_ARG(a.text));
		return POLICY_DUNNO;
	case ACCESS_REJECT:
	case ACCESS_DEFER:
		access_error(r, &a, s, code_r, err);
		return POLICY_REFUSE;
	case ACCESS_DEFER_IF_PERMIT:
	case ACCESS_DEFER_IF_REJECT:
		access_error(r, &a, s, &code, &later);
		policy_defer_if(r, a.kind == ACCESS_DEFER_IF_PERMIT, code, &later);
		return POLICY_DUNNO;
	case ACCESS_DISCARD:
	case ACCESS_PREPEND:
	case ACCESS_HOLD:
	case ACCESS_REDIRECT:
	case ACCESS_BCC:
		return act(r, &a, s, table);
	case ACCESS_UNSUPPORTED:
		log_warning("%.*s: the action %.*s is not supported yet: mail has to wait", STR_ARG(table),
			    STR_ARG(a.word));
		return server_error(code_r, err);
	case ACCESS_RESTRICTIONS:
		break;
	}
	return policy_eval_at(a.text, r, depth + 1, code_r, err);
}

/* ---- servers --------------------------------------------------------------------------------------------- */

struct servers {
	const struct policy_request *r;
	const struct element *e;
	const struct subject *subject;
	unsigned depth;
	struct arena arena;
	int64_t until_ms;
};

static bool resolve(struct servers *s, struct str name, enum dns_type type, struct dns_answer *a)
{
	struct err err = ERR_NONE;

	*a = (struct dns_answer){.status = DNS_TEMP};
	return clock_ms() < s->until_ms && s->r->resolve(s->r->ctx, name, type, &s->arena, a, &err) == 0 &&
	       a->status == DNS_OK;
}

/* Whoever is let in because of his own name server lets himself in. */
static enum policy_verdict never_permit(const struct servers *s, enum policy_verdict verdict, int *code_r,
					struct err *err)
{
	if (verdict != POLICY_PERMIT)
		return verdict;
	log_warning("%.*s: %s must not permit: DUNNO makes an exception", STR_ARG(s->e->table), s->e->access->name);
	return server_error(code_r, err);
}

static enum policy_verdict eval_server(struct servers *s, struct str name, const struct net_addr *a, int *code_r,
				       struct err *err)
{
	struct err why = ERR_NONE;
	enum policy_verdict verdict;
	struct str value;
	int rc = ask_host(s->r, s->e->table, name, a, &value, &why);

	if (rc <= 0)
		return rc < 0 ? policy_lookup_failed(s->r, &why, code_r, err) : POLICY_DUNNO;
	verdict = follow(s->r, s->e->table, value, s->subject, s->depth, code_r, err);
	return never_permit(s, verdict, code_r, err);
}

/* The host's name, and each of its addresses. */
static enum policy_verdict eval_host(struct servers *s, struct str name, int *code_r, struct err *err)
{
	static const enum dns_type types[] = {DNS_A, DNS_AAAA};
	enum policy_verdict verdict = eval_server(s, name, NULL, code_r, err);
	struct dns_answer a;

	for (size_t t = 0; t < ARRAY_SIZE(types) && verdict == POLICY_DUNNO; t++) {
		if (!resolve(s, name, types[t], &a))
			continue;
		for (size_t i = 0; i < a.n && i < SERVERS_MAX && verdict == POLICY_DUNNO; i++)
			verdict = eval_server(s, STR(""), &a.v[i].address, code_r, err);
	}
	return verdict;
}

/* The hosts that MX or NS records name. A domain without MX is its own; one without NS has those above it. */
static enum policy_verdict eval_servers(struct servers *s, struct str domain, int *code_r, struct err *err)
{
	enum dns_type type = s->e->access->via == VIA_MX ? DNS_MX : DNS_NS;
	enum policy_verdict verdict = POLICY_DUNNO;
	struct dns_answer a;
	ptrdiff_t dot;

	while (!resolve(s, domain, type, &a)) {
		if (type == DNS_MX)
			return a.status == DNS_NODATA ? eval_host(s, domain, code_r, err) : POLICY_DUNNO;
		dot = str_chr(domain, '.');
		if ((a.status != DNS_NODATA && a.status != DNS_NXDOMAIN) || dot < 0 ||
		    str_chr(str_skip(domain, (size_t)dot + 1), '.') < 0)
			return POLICY_DUNNO;
		domain = str_skip(domain, (size_t)dot + 1);
	}
	for (size_t i = 0; i < a.n && i < SERVERS_MAX && verdict == POLICY_DUNNO; i++)
		if (a.v[i].name.len)
			verdict = eval_host(s, a.v[i].name, code_r, err);
	return verdict;
}

/* "[192.0.2.1]", "[IPv6:2001:db8::1]" */
static bool literal_address(struct str domain, struct net_addr *a)
{
	domain = str_sub(domain, 1, domain.len > 2 ? domain.len - 2 : 0);
	return net_addr_parse(str_istarts(domain, STR("IPv6:")) ? str_skip(domain, 5) : domain, 0, a);
}

static enum policy_verdict eval_behind(const struct policy_request *r, const struct element *e, const struct subject *s,
				       unsigned depth, int *code_r, struct err *err)
{
	struct servers servers = {.r = r, .e = e, .subject = s, .depth = depth};
	enum policy_verdict verdict;
	struct net_addr literal;

	if (r->resolve == NULL || s->domain.len == 0 || str_eq(s->domain, STR("unknown")))
		return POLICY_DUNNO;
	arena_init(&servers.arena);
	servers.until_ms = clock_ms() + PATIENCE_TIMEOUTS * r->conf->dns_timeout;
	if (s->domain.ptr[0] == '[')
		verdict = literal_address(s->domain, &literal) ? eval_server(&servers, STR(""), &literal, code_r, err)
							       : POLICY_DUNNO;
	else if (e->access->via == VIA_A)
		verdict = eval_host(&servers, s->domain, code_r, err);
	else
		verdict = eval_servers(&servers, s->domain, code_r, err);
	arena_release(&servers.arena);
	return verdict;
}

enum policy_verdict policy_access_eval(const struct policy_request *r, const struct element *e, unsigned depth,
				       int *code_r, struct err *err)
{
	enum access_about about = e->access ? e->access->about : about_stage(r->stage);
	struct subject subject = subject_of(r, about);
	struct err why = ERR_NONE;
	struct str value;
	int rc;

	if (e->access && e->access->via != VIA_ITSELF)
		return eval_behind(r, e, &subject, depth, code_r, err);
	rc = ask_itself(r, e->table, about, &value, &why);
	if (rc <= 0)
		return rc < 0 ? policy_lookup_failed(r, &why, code_r, err) : POLICY_DUNNO;
	return follow(r, e->table, value, &subject, depth, code_r, err);
}
