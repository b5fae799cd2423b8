/* The restrictions that ask the DNS: names of clients, domains of senders and recipients, lists of good and bad hosts
 * (DNSBL, RFC 5782). As postconf(5) has them.
 *
 * No answer is no verdict. Where the DNS could not tell whether a domain exists, the walk goes on, and what would be
 * let through at the end is put off (defer_if_permit); a list that does not answer lists nobody, a list of good hosts
 * that does not answer turns a lasting refusal into a temporary one (defer_if_reject). */
#include "base/log.h"
#include "policy/private.h"

#define REPLY_MAX 230 /* of text: struct err has no room for more */

/* ---- asking ---------------------------------------------------------------------------------------------- */

enum found { FOUND, ABSENT, UNSURE };

static enum found ask(const struct policy_request *r, struct str name, enum dns_type type, struct arena *arena,
		      struct dns_answer *a)
{
	struct err err = ERR_NONE;

	*a = (struct dns_answer){0};
	if (r->resolve == NULL || r->resolve(r->ctx, name, type, arena, a, &err) < 0)
		return UNSURE;
	switch (a->status) {
	case DNS_OK:
		return FOUND;
	case DNS_NODATA:
	case DNS_NXDOMAIN:
		return ABSENT;
	default:
		return UNSURE;
	}
}

/* Whether the name has a record of one of these types. A yes counts, whatever else could not be told. */
static enum found ask_any(const struct policy_request *r, struct str name, const enum dns_type *types, size_t n,
			  bool *null_mx_r)
{
	enum found result = ABSENT;
	struct dns_answer a;
	struct arena arena;

	*null_mx_r = false;
	arena_init(&arena);
	for (size_t i = 0; i < n && result != FOUND && !*null_mx_r; i++) {
		enum found one = ask(r, name, types[i], &arena, &a);

		if (one == FOUND && types[i] == DNS_MX && a.n == 1 && a.v[0].name.len == 0)
			*null_mx_r = true;
		else if (one != ABSENT)
			result = one;
		if (a.status == DNS_NXDOMAIN)
			break;
	}
	arena_release(&arena);
	return result;
}

static enum policy_verdict refuse(int *code_r, struct err *err, int code, const char *dsn, const char *text)
{
	*code_r = code;
	err_set(err, code < 500 ? ERR_TEMP : ERR_PERM, dsn, "%s", text);
	err->code[0] = (char)('0' + code / 100); /* RFC 3463 2: the class follows the configured code */
	return POLICY_REFUSE;
}

/* The first one stays, as it is the one to be told. */
static enum policy_verdict defer_if_permit(const struct policy_request *r, const char *dsn, const char *text)
{
	if (r->deferral && r->deferral->if_permit_code == 0)
		refuse(&r->deferral->if_permit_code, &r->deferral->if_permit, 450, dsn, text);
	return POLICY_DUNNO;
}

/* ---- the client's name ----------------------------------------------------------------------------------- */

static enum policy_verdict unknown_client(const struct policy_request *r, enum dns_name_status status, const char *what,
					  int *code_r, struct err *err)
{
	char text[REPLY_MAX], address[NET_ADDR_TEXT];

	if (status == DNS_NAME_OK)
		return POLICY_DUNNO;
	snprintf(text, sizeof(text), "Client host rejected: cannot find your %s, [%s]", what,
		 net_addr_text(r->client, address));
	return refuse(code_r, err, status == DNS_NAME_TEMP ? 450 : (int)r->conf->unknown_client_reject_code, "4.7.25",
		      text);
}

static enum policy_verdict do_reject_unknown_client(const struct policy_request *r, int *code_r, struct err *err)
{
	return unknown_client(r, r->name_status, "hostname", code_r, err);
}

static enum policy_verdict do_reject_unknown_reverse(const struct policy_request *r, int *code_r, struct err *err)
{
	return unknown_client(r, r->reverse_status, "reverse hostname", code_r, err);
}

/* ---- domains --------------------------------------------------------------------------------------------- */

static enum policy_verdict do_reject_unknown_helo(const struct policy_request *r, int *code_r, struct err *err)
{
	static const enum dns_type types[] = {DNS_A, DNS_AAAA, DNS_MX};
	char text[REPLY_MAX];
	enum found found;
	bool null_mx;

	if (r->resolve == NULL || r->helo.len == 0 || r->helo.ptr[0] == '[')
		return POLICY_DUNNO;
	found = ask_any(r, r->helo, types, ARRAY_SIZE(types), &null_mx);
	if (found == FOUND)
		return POLICY_DUNNO;
	snprintf(text, sizeof(text), "<%.*s>: Helo command rejected: Host not found",
		 STR_ARG(str_sub(r->helo, 0, 150)));
	return found == UNSURE ? defer_if_permit(r, "4.7.1", text)
			       : refuse(code_r, err, (int)r->conf->unknown_hostname_reject_code, "4.7.1", text);
}

struct side {
	const char *what, *unknown_dsn, *null_dsn;
	int null_code; /* RFC 7505 4.2 */
};

static const struct side SENDER = {"Sender address rejected", "4.1.8", "5.7.27", 550};
static const struct side RECIPIENT = {"Recipient address rejected", "4.1.2", "5.1.10", 556};

static enum policy_verdict unknown_domain(const struct policy_request *r, const struct address *a, struct str shown,
					  const struct side *side, int *code_r, struct err *err)
{
	static const enum dns_type types[] = {DNS_MX, DNS_A, DNS_AAAA};
	char text[REPLY_MAX];
	enum found found;
	bool null_mx;

	if (r->resolve == NULL || a->domain.len == 0 || a->domain.ptr[0] == '[')
		return POLICY_DUNNO;
	found = ask_any(r, a->domain, types, ARRAY_SIZE(types), &null_mx);
	shown = str_sub(shown, 0, 100);
	if (null_mx) {
		snprintf(text, sizeof(text), "<%.*s>: %s: Domain %.*s does not accept mail (nullMX)", STR_ARG(shown),
			 side->what, STR_ARG(str_sub(a->domain, 0, 60)));
		return refuse(code_r, err, side->null_code, side->null_dsn, text);
	}
	if (found == FOUND)
		return POLICY_DUNNO;
	snprintf(text, sizeof(text), "<%.*s>: %s: Domain not found", STR_ARG(shown), side->what);
	return found == UNSURE
		       ? defer_if_permit(r, side->unknown_dsn, text)
		       : refuse(code_r, err, (int)r->conf->unknown_address_reject_code, side->unknown_dsn, text);
}

/* Mail from an address of ours is nothing to ask strangers about. */
static bool sender_is_ours(const struct policy_request *r)
{
	struct dir_allowed allowed = {0};
	struct err why = ERR_NONE;

	return r->sender_owned && r->sender_owned(r->ctx, &allowed, &why) == 0 && allowed.known;
}

static enum policy_verdict do_reject_unknown_sender_domain(const struct policy_request *r, int *code_r, struct err *err)
{
	if (!policy_has_sender(r) || sender_is_ours(r))
		return POLICY_DUNNO;
	return unknown_domain(r, r->sender, r->sender_text, &SENDER, code_r, err);
}

static enum policy_verdict do_reject_unknown_recipient_domain(const struct policy_request *r, int *code_r,
							      struct err *err)
{
	if (r->recipient == NULL || (r->recipient_class != RCPT_REMOTE && r->recipient_class != RCPT_RELAY))
		return POLICY_DUNNO;
	return unknown_domain(r, r->recipient, r->recipient_text, &RECIPIENT, code_r, err);
}

/* ---- lists of hosts -------------------------------------------------------------------------------------- */

/* One octet: "2", or "[2;4..8]". Takes it off *pattern, with the dot behind it. */
static bool octet_matches(struct str *pattern, unsigned octet, bool *valid_r)
{
	struct str rest = *pattern, item, from, to;
	bool set = str_starts(rest, STR("[")), match = false;
	ptrdiff_t end = set ? str_chr(rest, ']') : str_chr(rest, '.');
	size_t len = end < 0 ? rest.len : (size_t)end;
	uint32_t low, high;

	*valid_r = !(set && end < 0) && rest.len > 0;
	if (!*valid_r)
		return false;
	*pattern = str_skip(rest, len + set);
	if (str_starts(*pattern, STR(".")))
		*pattern = str_skip(*pattern, 1);
	rest = str_sub(rest, set, len - set);
	*valid_r = rest.len > 0;
	while (str_token(&rest, ";", &item)) {
		ptrdiff_t dots = str_find(item, STR(".."));

		from = dots < 0 ? item : str_sub(item, 0, (size_t)dots);
		to = dots < 0 ? item : str_skip(item, (size_t)dots + 2);
		if (!str_to_u32(from, &low) || !str_to_u32(to, &high) || low > high || high > 255)
			*valid_r = false;
		else
			match |= octet >= low && octet <= high;
	}
	return match && *valid_r;
}

static bool address_matches(struct str pattern, const uint8_t octets[4], bool *valid_r)
{
	bool match = true, valid = true;

	*valid_r = true;
	for (int i = 0; i < 4 && *valid_r; i++) {
		match &= octet_matches(&pattern, octets[i], &valid);
		*valid_r = valid;
	}
	*valid_r = *valid_r && pattern.len == 0;
	return match && *valid_r;
}

int policy_dns_check(struct str argument, struct err *err)
{
	static const uint8_t any[4];
	struct str domain, filter;
	bool valid = true;

	if (str_split(argument, '=', &domain, &filter))
		address_matches(filter, any, &valid);
	if (!domain_is_valid(domain) || str_chr(domain, '.') < 0)
		return err_set(err, ERR_PERM, "", "\"%.*s\" is no domain", STR_ARG(domain));
	if (!valid)
		return err_set(err, ERR_PERM, "", "\"%.*s\" is no address pattern such as 127.0.0.[2;4..8]",
			       STR_ARG(filter));
	return 0;
}

/* What an answer means that no pattern picked. Entries are addresses of 127/8 (RFC 5782 2.1); any other comes from a
 * list that is no more, whose name leads to somebody's web server. With 127.255.255.x the great lists say that they do
 * not serve whoever asked, such as a public resolver or one that asks too much. Neither is about the host in question.
 */
static enum found answer_itself(struct str query, const struct dns_answer *a)
{
	enum found found = ABSENT;

	for (size_t i = 0; i < a->n; i++) {
		const uint8_t *octets = (const uint8_t *)&a->v[i].address.v4.sin_addr;

		if (octets[0] != 127)
			continue;
		if (octets[1] != 255 || octets[2] != 255)
			return FOUND;
		found = UNSURE;
	}
	if (found == UNSURE)
		log_warning("%.*s: RBL lookup error: the list says (by 127.255.255.x) that it does not answer us",
			    STR_ARG(query));
	else
		log_warning("%.*s: RBL lookup error: an address that is none of 127.0.0.0/8", STR_ARG(query));
	return found;
}

/* Whether `name` stands in the list `argument` says. *domain_r: of the list, without the pattern. */
static enum found listed(const struct policy_request *r, struct str name, struct str argument, struct arena *arena,
			 struct str *query_r, struct str *domain_r)
{
	struct str filter = STR("");
	struct dns_answer a;
	enum found found;
	bool valid;

	str_split(argument, '=', domain_r, &filter);
	*query_r = arena_printf(arena, "%.*s.%.*s", STR_ARG(name), STR_ARG(*domain_r));
	found = ask(r, *query_r, DNS_A, arena, &a);
	if (found == UNSURE && a.why.len)
		log_warning("%.*s: RBL lookup error: %.*s", STR_ARG(*query_r), STR_ARG(a.why));
	if (found != FOUND)
		return found;
	for (size_t i = 0; filter.len > 0 && i < a.n; i++)
		if (address_matches(filter, (const uint8_t *)&a.v[i].address.v4.sin_addr, &valid))
			return FOUND;
	found = answer_itself(*query_r, &a);
	return found == FOUND && filter.len > 0 ? ABSENT : found;
}

/* The client's address as lists have it: reversed. */
static bool client_key(const struct policy_request *r, struct arena *arena, struct str *key_r)
{
	return r->resolve && dns_reverse_name(r->client, STR(""), STR(""), arena, key_r);
}

/* default_rbl_reply of Postfix. */
static enum policy_verdict refuse_listed(const struct policy_request *r, const char *class, struct str what,
					 struct str query, struct str domain, struct arena *arena, int *code_r,
					 struct err *err)
{
	char text[REPLY_MAX];
	struct dns_answer reason;
	bool told = ask(r, query, DNS_TXT, arena, &reason) == FOUND;

	snprintf(text, sizeof(text), "Service unavailable; %s [%.*s] blocked using %.*s%s%.*s", class,
		 STR_ARG(str_sub(what, 0, 80)), STR_ARG(str_sub(domain, 0, 60)), told ? "; " : "",
		 STR_ARG(told ? str_sub(reason.v[0].data, 0, 150) : STR("")));
	return refuse(code_r, err, (int)r->conf->maps_rbl_reject_code, "5.7.1", text);
}

static enum policy_verdict reject_if_listed(const struct policy_request *r, const char *class, struct str key,
					    struct str what, struct str argument, struct arena *arena, int *code_r,
					    struct err *err)
{
	struct str query, domain;

	if (listed(r, key, argument, arena, &query, &domain) != FOUND)
		return POLICY_DUNNO;
	return refuse_listed(r, class, what, query, domain, arena, code_r, err);
}

static enum policy_verdict do_reject_rbl_client(const struct policy_request *r, struct str argument, int *code_r,
						struct err *err)
{
	enum policy_verdict verdict = POLICY_DUNNO;
	char address[NET_ADDR_TEXT];
	struct arena arena;
	struct str key;

	arena_init(&arena);
	if (client_key(r, &arena, &key))
		verdict = reject_if_listed(r, "Client host", key, str_from(net_addr_text(r->client, address)), argument,
					   &arena, code_r, err);
	arena_release(&arena);
	return verdict;
}

static enum policy_verdict reject_rhsbl(const struct policy_request *r, const char *class, struct str domain,
					struct str what, struct str argument, int *code_r, struct err *err)
{
	enum policy_verdict verdict = POLICY_DUNNO;
	struct arena arena;

	if (r->resolve == NULL || domain.len == 0 || domain.ptr[0] == '[' || str_eq(domain, STR("unknown")))
		return POLICY_DUNNO;
	arena_init(&arena);
	verdict = reject_if_listed(r, class, domain, what, argument, &arena, code_r, err);
	arena_release(&arena);
	return verdict;
}

static enum policy_verdict do_reject_rhsbl_client(const struct policy_request *r, struct str argument, int *code_r,
						  struct err *err)
{
	return reject_rhsbl(r, "Client host", r->host_name, r->host_name, argument, code_r, err);
}

static enum policy_verdict do_reject_rhsbl_reverse(const struct policy_request *r, struct str argument, int *code_r,
						   struct err *err)
{
	return reject_rhsbl(r, "Unverified Client host", r->reverse_name, r->reverse_name, argument, code_r, err);
}

static enum policy_verdict do_reject_rhsbl_helo(const struct policy_request *r, struct str argument, int *code_r,
						struct err *err)
{
	return reject_rhsbl(r, "Helo command", r->helo, r->helo, argument, code_r, err);
}

static enum policy_verdict do_reject_rhsbl_sender(const struct policy_request *r, struct str argument, int *code_r,
						  struct err *err)
{
	return r->sender ? reject_rhsbl(r, "Sender address", r->sender->domain, r->sender_text, argument, code_r, err)
			 : POLICY_DUNNO;
}

static enum policy_verdict do_reject_rhsbl_recipient(const struct policy_request *r, struct str argument, int *code_r,
						     struct err *err)
{
	return r->recipient ? reject_rhsbl(r, "Recipient address", r->recipient->domain, r->recipient_text, argument,
					   code_r, err)
			    : POLICY_DUNNO;
}

/* Whoever publishes a list of good hosts does not decide who relays: such a permit holds for mail to our own domains
 * only, wherever it stands. */
static bool may_be_let_in(const struct policy_request *r)
{
	return r->resolve && r->recipient && r->recipient_class != 0 && r->recipient_class != RCPT_REMOTE;
}

static enum policy_verdict permit_if_listed(const struct policy_request *r, struct str key, struct str argument,
					    struct arena *arena)
{
	struct str query, domain;
	enum found found = listed(r, key, argument, arena, &query, &domain);

	if (found == UNSURE && r->deferral)
		r->deferral->if_reject = true;
	return found == FOUND ? POLICY_PERMIT : POLICY_DUNNO;
}

static enum policy_verdict do_permit_dnswl(const struct policy_request *r, struct str argument, int *code_r,
					   struct err *err)
{
	enum policy_verdict verdict = POLICY_DUNNO;
	struct arena arena;
	struct str key;

	(void)code_r, (void)err;
	arena_init(&arena);
	if (may_be_let_in(r) && client_key(r, &arena, &key))
		verdict = permit_if_listed(r, key, argument, &arena);
	arena_release(&arena);
	return verdict;
}

static enum policy_verdict do_permit_rhswl(const struct policy_request *r, struct str argument, int *code_r,
					   struct err *err)
{
	enum policy_verdict verdict = POLICY_DUNNO;
	struct arena arena;

	(void)code_r, (void)err;
	arena_init(&arena);
	if (may_be_let_in(r) && r->host_name.len && !str_eq(r->host_name, STR("unknown")))
		verdict = permit_if_listed(r, r->host_name, argument, &arena);
	arena_release(&arena);
	return verdict;
}

/* ---- their names ----------------------------------------------------------------------------------------- */

static const struct restriction restrictions[] = {
	{.name = "reject_unknown_client_hostname", .fn = do_reject_unknown_client},
	{.name = "reject_unknown_client", .fn = do_reject_unknown_client},
	{.name = "reject_unknown_reverse_client_hostname", .fn = do_reject_unknown_reverse},
	{.name = "reject_unknown_helo_hostname", .fn = do_reject_unknown_helo},
	{.name = "reject_unknown_hostname", .fn = do_reject_unknown_helo},
	{.name = "reject_unknown_sender_domain", .fn = do_reject_unknown_sender_domain},
	{.name = "reject_unknown_address", .fn = do_reject_unknown_sender_domain},
	{.name = "reject_unknown_recipient_domain", .fn = do_reject_unknown_recipient_domain},
	{.name = "reject_rbl_client", .with_argument = do_reject_rbl_client, .argument = true},
	{.name = "reject_rhsbl_client", .with_argument = do_reject_rhsbl_client, .argument = true},
	{.name = "reject_rhsbl_reverse_client", .with_argument = do_reject_rhsbl_reverse, .argument = true},
	{.name = "reject_rhsbl_helo", .with_argument = do_reject_rhsbl_helo, .argument = true},
	{.name = "reject_rhsbl_sender", .with_argument = do_reject_rhsbl_sender, .argument = true},
	{.name = "reject_rhsbl_recipient", .with_argument = do_reject_rhsbl_recipient, .argument = true},
	{.name = "permit_dnswl_client", .with_argument = do_permit_dnswl, .argument = true},
	{.name = "permit_rhswl_client", .with_argument = do_permit_rhswl, .argument = true},
};

const struct restriction *policy_dns_find(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(restrictions); i++)
		if (str_ieq(name, str_from(restrictions[i].name)))
			return &restrictions[i];
	return NULL;
}
