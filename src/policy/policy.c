/* The restriction language. One function a restriction, one table of names. See policy.h. */
#include "policy/policy.h"
#include "base/log.h"
#include "base/mem.h"
#include "policy/private.h"

static enum policy_verdict refuse(int *code_r, struct err *err, int code, const char *dsn, const char *what,
				  struct str name, const char *why)
{
	*code_r = code;
	err_set(err, code < 500 ? ERR_TEMP : ERR_PERM, dsn, "<%.*s>: %s: %s", STR_ARG(name), what, why);
	err->code[0] = (char)('0' + code / 100); /* RFC 3463 2: the class follows the configured code */
	return POLICY_REFUSE;
}

/* 5.7.1, or 4.7.1 with such a code. */
static enum policy_verdict refuse_plain(int *code_r, struct err *err, int code, const char *text)
{
	*code_r = code;
	err_set(err, code < 500 ? ERR_TEMP : ERR_PERM, code < 500 ? "4.7.1" : "5.7.1", "%s", text);
	return POLICY_REFUSE;
}

static enum policy_verdict permit_if(bool yes)
{
	return yes ? POLICY_PERMIT : POLICY_DUNNO;
}

/* ---- unconditional, client ------------------------------------------------------------------------------- */

static enum policy_verdict do_permit(const struct policy_request *r, int *code_r, struct err *err)
{
	(void)r, (void)code_r, (void)err;
	return POLICY_PERMIT;
}

static enum policy_verdict do_reject(const struct policy_request *r, int *code_r, struct err *err)
{
	struct str who = r->recipient != NULL ? r->recipient_text : r->client_name;

	if (r->stage == STAGE_ETRN)
		return refuse(code_r, err, (int)r->conf->reject_code, "5.7.1", "Etrn command rejected", r->etrn,
			      "Access denied");
	return refuse(code_r, err, (int)r->conf->reject_code, "5.7.1",
		      r->recipient != NULL ? "Recipient address rejected" : "Client host rejected", who,
		      "Access denied");
}

static enum policy_verdict do_defer(const struct policy_request *r, int *code_r, struct err *err)
{
	struct str who = r->recipient != NULL ? r->recipient_text : r->client_name;

	return refuse(code_r, err, (int)r->conf->defer_code, "4.7.1",
		      r->recipient != NULL ? "Recipient address rejected" : "Client host rejected", who,
		      "Try again later");
}

/* The first one stays: it is the one to be told. */
void policy_defer_if(const struct policy_request *r, bool permit, int code, const struct err *why)
{
	struct policy_deferral *d = r->deferral;

	if (d == NULL)
		return;
	if (permit && d->if_permit_code == 0) {
		d->if_permit_code = code;
		d->if_permit = *why;
	} else if (!permit && d->if_reject_code == 0) {
		d->if_reject = true;
		d->if_reject_code = code;
		d->if_reject_err = *why;
	}
}

static enum policy_verdict defer_if(const struct policy_request *r, bool permit)
{
	struct err why = ERR_NONE;
	int code;

	(void)do_defer(r, &code, &why);
	policy_defer_if(r, permit, code, &why);
	return POLICY_DUNNO;
}

static enum policy_verdict do_defer_if_permit(const struct policy_request *r, int *code_r, struct err *err)
{
	(void)code_r, (void)err;
	return defer_if(r, true);
}

static enum policy_verdict do_defer_if_reject(const struct policy_request *r, int *code_r, struct err *err)
{
	(void)code_r, (void)err;
	return defer_if(r, false);
}

enum policy_verdict policy_lookup_failed(const struct policy_request *r, const struct err *why, int *code_r,
					 struct err *err)
{
	log_warning("%.*s: %s", STR_ARG(r->client_name), why->text);
	*code_r = 451;
	err_set(err, ERR_TEMP, "4.3.0", "<%.*s>: Temporary lookup failure",
		STR_ARG(r->recipient != NULL ? r->recipient_text : r->client_name));
	return POLICY_REFUSE;
}

static enum policy_verdict do_permit_mynetworks(const struct policy_request *r, int *code_r, struct err *err)
{
	char address[NET_ADDR_TEXT];
	struct dir_lookup ask = {.parameter = STR("mynetworks"), .list = r->conf->mynetworks, .how = LOOKUP_NETWORKS};
	struct err why = ERR_NONE;
	struct str value;
	int rc;

	if (!r->conf->mynetworks_tables || r->lookup == NULL)
		return permit_if(!r->conf->mynetworks_tables && conf_in_mynetworks(r->conf, r->client));
	ask.key = str_from(net_addr_text(r->client, address));
	rc = r->lookup(r->ctx, &ask, &value, &why);
	return rc < 0 ? policy_lookup_failed(r, &why, code_r, err) : permit_if(rc > 0);
}

static enum policy_verdict do_permit_sasl(const struct policy_request *r, int *code_r, struct err *err)
{
	(void)code_r, (void)err;
	return permit_if(r->sasl_user.len > 0);
}

static enum policy_verdict do_reject_plaintext(const struct policy_request *r, int *code_r, struct err *err)
{
	if (r->tls)
		return POLICY_DUNNO;
	return refuse_plain(code_r, err, (int)r->conf->plaintext_reject_code, "Session encryption is required");
}

static enum policy_verdict do_reject_pipelining(const struct policy_request *r, int *code_r, struct err *err)
{
	if (!r->pipelining)
		return POLICY_DUNNO;
	return refuse(code_r, err, 503, "5.5.0", "Data command rejected", r->client_name,
		      "Improper use of SMTP command pipelining");
}

/* ---- helo ------------------------------------------------------------------------------------------------ */

static bool name_is_fqdn(struct str name)
{
	return domain_is_valid(name) && str_chr(name, '.') >= 0;
}

static enum policy_verdict do_reject_invalid_helo(const struct policy_request *r, int *code_r, struct err *err)
{
	if (r->helo.len == 0 || r->helo.ptr[0] == '[' || domain_is_valid(r->helo))
		return POLICY_DUNNO;
	return refuse(code_r, err, (int)r->conf->invalid_hostname_reject_code, "5.5.2", "Helo command rejected",
		      r->helo, "Invalid name");
}

static enum policy_verdict do_reject_non_fqdn_helo(const struct policy_request *r, int *code_r, struct err *err)
{
	if (r->helo.len == 0 || r->helo.ptr[0] == '[' || name_is_fqdn(r->helo))
		return POLICY_DUNNO;
	return refuse(code_r, err, (int)r->conf->non_fqdn_reject_code, "5.5.2", "Helo command rejected", r->helo,
		      "need fully-qualified hostname");
}

/* ---- sender ---------------------------------------------------------------------------------------------- */

static bool address_is_fqdn(const struct address *a)
{
	return (a->domain.len > 0 && a->domain.ptr[0] == '[') || name_is_fqdn(a->domain);
}

static enum policy_verdict do_reject_non_fqdn_sender(const struct policy_request *r, int *code_r, struct err *err)
{
	if (!policy_has_sender(r) || address_is_fqdn(r->sender))
		return POLICY_DUNNO;
	return refuse(code_r, err, (int)r->conf->non_fqdn_reject_code, "5.5.2", "Sender address rejected",
		      r->sender_text, "need fully-qualified address");
}

static enum policy_verdict login_mismatch(const struct policy_request *r, bool authenticated, bool strangers,
					  int *code_r, struct err *err)
{
	struct dir_allowed allowed = {0};
	struct err why = ERR_NONE;

	if (!policy_has_sender(r) || !(r->sasl_user.len > 0 ? authenticated : strangers))
		return POLICY_DUNNO;
	if (r->sender_owned(r->ctx, &allowed, &why) < 0)
		return refuse(code_r, err, 451, "4.3.0", "Sender address rejected", r->sender_text,
			      "Temporary lookup failure");
	if (r->sasl_user.len == 0)
		return allowed.known ? refuse(code_r, err, 553, "5.7.1", "Sender address rejected", r->sender_text,
					      "not logged in")
				     : POLICY_DUNNO;
	if (allowed.allowed)
		return POLICY_DUNNO;
	*code_r = 553;
	err_set(err, ERR_PERM, "5.7.1", "<%.*s>: Sender address rejected: not owned by user %.*s",
		STR_ARG(r->sender_text), STR_ARG(r->sasl_user));
	return POLICY_REFUSE;
}

static enum policy_verdict do_reject_mismatch(const struct policy_request *r, int *code_r, struct err *err)
{
	return login_mismatch(r, true, true, code_r, err);
}

static enum policy_verdict do_reject_auth_mismatch(const struct policy_request *r, int *code_r, struct err *err)
{
	return login_mismatch(r, true, false, code_r, err);
}

static enum policy_verdict do_reject_unauth_mismatch(const struct policy_request *r, int *code_r, struct err *err)
{
	return login_mismatch(r, false, true, code_r, err);
}

/* ---- recipient ------------------------------------------------------------------------------------------- */

static bool is_remote(const struct policy_request *r)
{
	return r->recipient != NULL && r->recipient_class == RCPT_REMOTE;
}

static enum policy_verdict do_reject_unauth_destination(const struct policy_request *r, int *code_r, struct err *err)
{
	char text[300];

	if (!is_remote(r))
		return POLICY_DUNNO;
	snprintf(text, sizeof(text), "<%.*s>: Relay access denied", STR_ARG(str_sub(r->recipient_text, 0, 256)));
	return refuse_plain(code_r, err, (int)r->conf->relay_domains_reject_code, text);
}

static enum policy_verdict do_defer_unauth_destination(const struct policy_request *r, int *code_r, struct err *err)
{
	if (!is_remote(r))
		return POLICY_DUNNO;
	*code_r = 454;
	err_set(err, ERR_TEMP, "4.7.1", "<%.*s>: Relay access denied", STR_ARG(r->recipient_text));
	return POLICY_REFUSE;
}

static enum policy_verdict do_permit_auth_destination(const struct policy_request *r, int *code_r, struct err *err)
{
	(void)code_r, (void)err;
	return permit_if(r->recipient != NULL && r->recipient_class != 0 && !is_remote(r));
}

/* parents: also below what is named. That the list is a table, or in a file, is not seen here. */
static bool names_domain(struct str list, struct str domain, bool parents)
{
	struct str item;

	while (conf_list_next(&list, &item)) {
		if (str_ieq(item, domain))
			return true;
		if (parents && item.len > 0 && domain.len > item.len && str_iends(domain, item) &&
		    (item.ptr[0] == '.' || domain.ptr[domain.len - item.len - 1] == '.'))
			return true;
	}
	return false;
}

static enum policy_verdict do_reject_unlisted_recipient(const struct policy_request *r, int *code_r, struct err *err)
{
	if (r->recipient == NULL || (r->recipient_class != RCPT_UNKNOWN && r->recipient_class != RCPT_DISABLED))
		return POLICY_DUNNO;
	if (r->recipient_class == RCPT_DISABLED)
		return refuse(code_r, err, 550, "5.2.1", "Recipient address rejected", r->recipient_text,
			      "Mailbox disabled, not accepting messages");
	if (r->recipient->domain.ptr[0] == '[' || names_domain(r->conf->mydestination, r->recipient->domain, false))
		return refuse(code_r, err, (int)r->conf->unknown_local_recipient_reject_code, "5.1.1",
			      "Recipient address rejected", r->recipient_text, "User unknown in local recipient table");
	if (names_domain(r->conf->virtual_alias_domains, r->recipient->domain, false))
		return refuse(code_r, err, (int)r->conf->unknown_virtual_alias_reject_code, "5.1.1",
			      "Recipient address rejected", r->recipient_text, "User unknown in virtual alias table");
	if (names_domain(r->conf->relay_domains, r->recipient->domain, true))
		return refuse(code_r, err, (int)r->conf->unknown_relay_recipient_reject_code, "5.1.1",
			      "Recipient address rejected", r->recipient_text, "User unknown in relay recipient table");
	return refuse(code_r, err, (int)r->conf->unknown_virtual_mailbox_reject_code, "5.1.1",
		      "Recipient address rejected", r->recipient_text, "User unknown in virtual mailbox table");
}

static enum policy_verdict do_reject_non_fqdn_recipient(const struct policy_request *r, int *code_r, struct err *err)
{
	/* <postmaster> is complete as it is (RFC 5321 4.5.1). */
	if (r->recipient == NULL || address_is_fqdn(r->recipient) ||
	    (r->recipient->domain.len == 0 && str_ieq(r->recipient->local, STR("postmaster"))))
		return POLICY_DUNNO;
	return refuse(code_r, err, (int)r->conf->non_fqdn_reject_code, "5.5.2", "Recipient address rejected",
		      r->recipient_text, "need fully-qualified address");
}

/* ---- the language ---------------------------------------------------------------------------------------- */

static const struct restriction restrictions[] = {
	{"permit", do_permit},
	{"reject", do_reject},
	{"defer", do_defer},
	{"defer_if_permit", do_defer_if_permit},
	{"defer_if_reject", do_defer_if_reject},
	{"permit_mynetworks", do_permit_mynetworks},
	{"permit_sasl_authenticated", do_permit_sasl},
	{"permit_auth_destination", do_permit_auth_destination},
	{"reject_unauth_destination", do_reject_unauth_destination},
	{"defer_unauth_destination", do_defer_unauth_destination},
	{"reject_unlisted_recipient", do_reject_unlisted_recipient},
	{"reject_non_fqdn_helo_hostname", do_reject_non_fqdn_helo},
	{"reject_non_fqdn_hostname", do_reject_non_fqdn_helo},
	{"reject_invalid_helo_hostname", do_reject_invalid_helo},
	{"reject_invalid_hostname", do_reject_invalid_helo},
	{"reject_non_fqdn_sender", do_reject_non_fqdn_sender},
	{"reject_non_fqdn_recipient", do_reject_non_fqdn_recipient},
	{"reject_unauth_pipelining", do_reject_pipelining},
	{"reject_plaintext_session", do_reject_plaintext},
	{"reject_sender_login_mismatch", do_reject_mismatch},
	{"reject_authenticated_sender_login_mismatch", do_reject_auth_mismatch},
	{"reject_unauthenticated_sender_login_mismatch", do_reject_unauth_mismatch},
};

/* Restrictions of Postfix that decide nothing yet, and whether an argument follows them. An existing configuration
 * may hold them; policy_each_unused() tells which. Doing nothing never lets anybody relay: guards_relaying() counts
 * only on what works. */
static const struct {
	const char *name;
	bool argument;
} not_yet[] = {
	{"check_policy_service", true},
	{"permit_inet_interfaces", false},
	{"permit_mx_backup", false},
	{"permit_tls_all_clientcerts", false},
	{"permit_tls_clientcerts", false},
	{"reject_known_sender_login_mismatch", false},
	{"reject_multi_recipient_bounce", false},
	{"reject_unknown_forward_client_hostname", false},
	{"reject_unlisted_sender", false},
	{"reject_unverified_recipient", false},
	{"reject_unverified_sender", false},
	{"sleep", true},
};

enum kind { END, RESTRICTION, ACCESS, CLASS, WARN_IF_REJECT, NOT_YET, UNKNOWN };

static const struct restriction *find(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(restrictions); i++)
		if (str_ieq(name, str_from(restrictions[i].name)))
			return &restrictions[i];
	return policy_dns_find(name);
}

/* smtpd_restriction_classes: names that stand for a list of their own. */
static bool is_class(const struct conf *conf, struct str name)
{
	struct str rest, item;
	struct buf classes;
	bool found = false;

	buf_init(&classes, 65536);
	if (conf_text(conf, STR("smtpd_restriction_classes"), &classes))
		for (rest = buf_str(&classes); !found && conf_list_next(&rest, &item);)
			found = str_eq(item, name);
	buf_release(&classes);
	return found;
}

static bool is_not_yet(struct str name, bool *argument_r)
{
	for (size_t i = 0; i < ARRAY_SIZE(not_yet); i++)
		if (str_ieq(name, str_from(not_yet[i].name))) {
			*argument_r = not_yet[i].argument;
			return true;
		}
	/* check_ccert_access and its like. */
	*argument_r = str_starts(name, STR("check_")) && str_ends(name, STR("_access"));
	return *argument_r;
}

static bool is_table(struct str name)
{
	return str_chr(name, ':') > 0;
}

/* check_client_access without a table is a mistake: what stands behind it is not its own, and must not go with it. */
static enum kind access_kind(struct str *list, struct element *e)
{
	struct str behind = *list;

	e->access = policy_access_find(e->name);
	if (!conf_list_next(&behind, &e->table) || !is_table(e->table))
		return UNKNOWN;
	*list = behind;
	return ACCESS;
}

/* Takes the next element, with its argument, off the list. */
static enum kind next_element(const struct conf *conf, struct str *list, struct element *e)
{
	bool argument = false;
	struct str skipped;

	*e = (struct element){.name = STR_NULL};

	if (!conf_list_next(list, &e->name))
		return END;
	if (str_ieq(e->name, STR("warn_if_reject")))
		return WARN_IF_REJECT;
	e->rule = find(e->name);
	if (e->rule != NULL && e->rule->argument && !conf_list_next(list, &e->argument))
		return UNKNOWN;
	if (e->rule != NULL)
		return RESTRICTION;
	if (is_table(e->name)) {
		e->table = e->name;
		return ACCESS;
	}
	if (policy_access_find(e->name) != NULL)
		return access_kind(list, e);
	if (is_class(conf, e->name))
		return CLASS;
	if (!is_not_yet(e->name, &argument))
		return UNKNOWN;
	if (argument)
		(void)conf_list_next(list, &skipped);
	return NOT_YET;
}

/* ---- classes ---------------------------------------------------------------------------------------------- */

static enum policy_verdict eval_class(const struct policy_request *r, struct str name, unsigned depth, int *code_r,
				      struct err *err)
{
	enum policy_verdict verdict = POLICY_DUNNO;
	struct buf list;

	buf_init(&list, 65536);
	if (conf_text(r->conf, name, &list))
		verdict = policy_eval_at(buf_str(&list), r, depth + 1, code_r, err);
	buf_release(&list);
	return verdict;
}

/* ---- walking a list -------------------------------------------------------------------------------------- */

#define DEPTH_MAX 20 /* lists in tables and classes */

static enum policy_verdict eval_element(const struct policy_request *r, enum kind kind, const struct element *e,
					unsigned depth, int *code_r, struct err *err)
{
	switch (kind) {
	case RESTRICTION:
		return e->rule->fn ? e->rule->fn(r, code_r, err) : e->rule->with_argument(r, e->argument, code_r, err);
	case ACCESS:
		return policy_access_eval(r, e, depth, code_r, err);
	case CLASS:
		return eval_class(r, e->name, depth, code_r, err);
	case UNKNOWN:
		/* policy_check() keeps this from happening, but not in tables; the safe side all the same. */
		log_warning("unknown restriction \"%.*s\"", STR_ARG(str_sub(e->name, 0, 80)));
		*code_r = 451;
		err_set(err, ERR_TEMP, "4.3.5", "Server configuration error");
		return POLICY_REFUSE;
	case NOT_YET:
	case WARN_IF_REJECT:
	case END:
		break;
	}
	return POLICY_DUNNO;
}

enum policy_verdict policy_eval_at(struct str list, const struct policy_request *r, unsigned depth, int *code_r,
				   struct err *err)
{
	bool only_warn = false;
	struct element e;
	enum kind kind;

	if (depth > DEPTH_MAX) {
		log_warning("restrictions lead to one another in a circle");
		*code_r = 451;
		err_set(err, ERR_TEMP, "4.3.5", "Server configuration error");
		return POLICY_REFUSE;
	}
	while ((kind = next_element(r->conf, &list, &e)) != END) {
		struct policy_deferral before = r->deferral ? *r->deferral : (struct policy_deferral){0};
		enum policy_verdict verdict;

		if (kind == WARN_IF_REJECT) {
			only_warn = true;
			continue;
		}
		verdict = eval_element(r, kind, &e, depth, code_r, err);
		if (only_warn && r->deferral)
			*r->deferral = before;
		if (verdict == POLICY_REFUSE && only_warn && kind != UNKNOWN)
			log_info("NOQUEUE: reject_warning: %.*s: %d %s %s", STR_ARG(r->client_name), *code_r, err->code,
				 err->text);
		else if (verdict != POLICY_DUNNO)
			return verdict;
		only_warn = false;
	}
	return POLICY_DUNNO;
}

enum policy_verdict policy_eval(struct str list, const struct policy_request *r, int *code_r, struct err *err)
{
	return policy_eval_at(list, r, 0, code_r, err);
}

enum policy_verdict policy_conclude(enum policy_verdict verdict, const struct policy_deferral *d, int *code_r,
				    struct err *err)
{
	if (verdict == POLICY_REFUSE) {
		if (d->if_reject_code != 0 && *code_r >= 500) {
			*code_r = d->if_reject_code;
			*err = d->if_reject_err;
		} else if (d->if_reject && *code_r >= 500) {
			*code_r = 450;
			err->kind = ERR_TEMP;
			err->code[0] = '4';
		}
		return POLICY_REFUSE;
	}
	if (d->if_permit_code == 0)
		return verdict;
	*code_r = d->if_permit_code;
	*err = d->if_permit;
	return POLICY_REFUSE;
}

/* ---- the configuration ----------------------------------------------------------------------------------- */

#define LISTS 7

struct named_list {
	const char *name;
	struct str list;
};

static void lists_of(const struct conf *conf, struct named_list lists[LISTS])
{
	lists[0] = (struct named_list){"smtpd_client_restrictions", conf->smtpd_client_restrictions};
	lists[1] = (struct named_list){"smtpd_helo_restrictions", conf->smtpd_helo_restrictions};
	lists[2] = (struct named_list){"smtpd_sender_restrictions", conf->smtpd_sender_restrictions};
	lists[3] = (struct named_list){"smtpd_relay_restrictions", conf->smtpd_relay_restrictions};
	lists[4] = (struct named_list){"smtpd_recipient_restrictions", conf->smtpd_recipient_restrictions};
	lists[5] = (struct named_list){"smtpd_data_restrictions", conf->smtpd_data_restrictions};
	lists[6] = (struct named_list){"smtpd_etrn_restrictions", conf->smtpd_etrn_restrictions};
}

static int list_check(const struct conf *conf, const struct named_list *l, struct err *err)
{
	struct str list = l->list;
	struct element e;
	enum kind kind;

	while ((kind = next_element(conf, &list, &e)) != END) {
		if (kind == UNKNOWN && e.access != NULL)
			return err_set(err, ERR_PERM, "", "%s: %.*s needs a table behind it, as in %.*s hash:/path",
				       l->name, STR_ARG(e.name), STR_ARG(e.name));
		if (kind == UNKNOWN && e.rule != NULL)
			return err_set(err, ERR_PERM, "", "%s: %.*s needs a name behind it, as in %.*s list.example",
				       l->name, STR_ARG(e.name), STR_ARG(e.name));
		if (kind == UNKNOWN)
			return err_set(err, ERR_PERM, "", "%s: unknown or unsupported restriction \"%.*s\"", l->name,
				       STR_ARG(e.name));
		if (kind == RESTRICTION && e.rule->argument && policy_dns_check(e.argument, err) < 0)
			return err_context(err, "%s: %.*s", l->name, STR_ARG(e.name));
	}
	return 0;
}

void policy_each_unused(const struct conf *conf, void (*f)(void *ctx, const char *parameter, struct str name),
			void *ctx)
{
	struct named_list lists[LISTS];
	struct element e;
	enum kind kind;

	lists_of(conf, lists);
	for (size_t i = 0; i < LISTS; i++)
		while ((kind = next_element(conf, &lists[i].list, &e)) != END)
			if (kind == NOT_YET)
				f(ctx, lists[i].name, e.name);
}

void policy_each_unheard_by_lmtp(const struct conf *conf, void (*f)(void *ctx, const char *parameter), void *ctx)
{
	struct named_list lists[LISTS];
	struct element e;
	enum kind kind;

	lists_of(conf, lists);
	for (size_t i = 0; i < LISTS; i++) {
		while ((kind = next_element(conf, &lists[i].list, &e)) != END && kind != ACCESS)
			;
		if (kind == ACCESS && strcmp(lists[i].name, "smtpd_etrn_restrictions") != 0)
			f(ctx, lists[i].name);
	}
	if (conf->always_bcc.len > 0)
		f(ctx, "always_bcc");
	if (conf->sender_bcc_maps.len > 0)
		f(ctx, "sender_bcc_maps");
	if (conf->recipient_bcc_maps.len > 0)
		f(ctx, "recipient_bcc_maps");
}

/* Something in the list ends every stranger's relaying: Postfix refuses to start without it, too. */
static bool guards_relaying(const struct conf *conf, struct str list)
{
	static const char *const guards[] = {"reject", "defer", "reject_unauth_destination",
					     "defer_unauth_destination"};
	bool only_warn = false;
	struct element e;
	enum kind kind;

	while ((kind = next_element(conf, &list, &e)) != END) {
		if (kind == RESTRICTION && !only_warn) {
			for (size_t i = 0; i < ARRAY_SIZE(guards); i++)
				if (str_ieq(e.name, str_from(guards[i])))
					return true;
			/* All that stands behind is never reached. */
			if (str_ieq(e.name, STR("permit")))
				return false;
		}
		only_warn = kind == WARN_IF_REJECT;
	}
	return false;
}

/* Lists of their own: one that is not there, or that nobody understands, would be found out by the first client. */
static int check_classes(const struct conf *conf, struct err *err)
{
	struct str rest, item;
	struct buf classes, list;
	int rc = 0;

	buf_init(&classes, 65536);
	(void)conf_text(conf, STR("smtpd_restriction_classes"), &classes);
	for (rest = buf_str(&classes); rc == 0 && conf_list_next(&rest, &item);) {
		char *name = str_dup(item);

		buf_init(&list, 65536);
		if (!conf_is_set(conf, item))
			rc = err_set(err, ERR_PERM, "", "smtpd_restriction_classes: nothing says what %s is", name);
		else if (conf_text(conf, item, &list))
			rc = list_check(conf, &(struct named_list){name, buf_str(&list)}, err);
		buf_release(&list);
		free(name);
	}
	buf_release(&classes);
	return rc;
}

int policy_check(const struct conf *conf, struct err *err)
{
	struct named_list lists[LISTS];

	lists_of(conf, lists);
	for (size_t i = 0; i < LISTS; i++)
		if (list_check(conf, &lists[i], err) < 0)
			return -1;
	if (check_classes(conf, err) < 0)
		return -1;
	if (!guards_relaying(conf, conf->smtpd_relay_restrictions) &&
	    !guards_relaying(conf, conf->smtpd_recipient_restrictions))
		return err_set(
			err, ERR_PERM, "",
			"smtpd_relay_restrictions or smtpd_recipient_restrictions must hold one of: reject, defer, "
			"reject_unauth_destination, defer_unauth_destination");
	return 0;
}
