/* The restriction language. One function a restriction, one table of names. See policy.h. */
#include "policy/policy.h"
#include "base/log.h"
#include "base/mem.h"
#include "policy/access.h"
#include "policy/private.h"
#include <stdio.h>

static enum policy_verdict refuse(int *code_r, struct err *err, int code, const char *dsn, const char *what,
				  struct str name, const char *why)
{
	*code_r = code;
	err_set(err, code < 500 ? ERR_TEMP : ERR_PERM, dsn, "<%.*s>: %s: %s", STR_ARG(name), what, why);
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

	return refuse(code_r, err, 554, "5.7.1",
		      r->recipient != NULL ? "Recipient address rejected" : "Client host rejected", who,
		      "Access denied");
}

static enum policy_verdict do_defer(const struct policy_request *r, int *code_r, struct err *err)
{
	struct str who = r->recipient != NULL ? r->recipient_text : r->client_name;

	return refuse(code_r, err, 450, "4.7.1",
		      r->recipient != NULL ? "Recipient address rejected" : "Client host rejected", who,
		      "Try again later");
}

static enum policy_verdict lookup_failed(const struct policy_request *r, const struct err *why, int *code_r,
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
	return rc < 0 ? lookup_failed(r, &why, code_r, err) : permit_if(rc > 0);
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
	*code_r = 450;
	err_set(err, ERR_TEMP, "4.7.1", "Session encryption is required");
	return POLICY_REFUSE;
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
	return refuse(code_r, err, 501, "5.5.2", "Helo command rejected", r->helo, "Invalid name");
}

static enum policy_verdict do_reject_non_fqdn_helo(const struct policy_request *r, int *code_r, struct err *err)
{
	if (r->helo.len == 0 || r->helo.ptr[0] == '[' || name_is_fqdn(r->helo))
		return POLICY_DUNNO;
	return refuse(code_r, err, 504, "5.5.2", "Helo command rejected", r->helo, "need fully-qualified hostname");
}

/* ---- sender ---------------------------------------------------------------------------------------------- */

static bool address_is_fqdn(const struct address *a)
{
	return (a->domain.len > 0 && a->domain.ptr[0] == '[') || name_is_fqdn(a->domain);
}

static enum policy_verdict do_reject_non_fqdn_sender(const struct policy_request *r, int *code_r, struct err *err)
{
	if (r->sender == NULL || r->sender->local.len == 0 || address_is_fqdn(r->sender))
		return POLICY_DUNNO;
	return refuse(code_r, err, 504, "5.5.2", "Sender address rejected", r->sender_text,
		      "need fully-qualified address");
}

static enum policy_verdict login_mismatch(const struct policy_request *r, bool authenticated, bool strangers,
					  int *code_r, struct err *err)
{
	struct dir_allowed allowed = {0};
	struct err why = ERR_NONE;

	if (r->sender == NULL || r->sender->local.len == 0 || !(r->sasl_user.len > 0 ? authenticated : strangers))
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
	if (!is_remote(r))
		return POLICY_DUNNO;
	*code_r = 554;
	err_set(err, ERR_PERM, "5.7.1", "<%.*s>: Relay access denied", STR_ARG(r->recipient_text));
	return POLICY_REFUSE;
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

static enum policy_verdict do_reject_unlisted_recipient(const struct policy_request *r, int *code_r, struct err *err)
{
	if (r->recipient == NULL || (r->recipient_class != RCPT_UNKNOWN && r->recipient_class != RCPT_DISABLED))
		return POLICY_DUNNO;
	if (r->recipient_class == RCPT_DISABLED)
		return refuse(code_r, err, 550, "5.2.1", "Recipient address rejected", r->recipient_text,
			      "Mailbox disabled, not accepting messages");
	return refuse(code_r, err, 550, "5.1.1", "Recipient address rejected", r->recipient_text,
		      "User unknown in virtual mailbox table");
}

static enum policy_verdict do_reject_non_fqdn_recipient(const struct policy_request *r, int *code_r, struct err *err)
{
	/* <postmaster> is complete as it is (RFC 5321 4.5.1). */
	if (r->recipient == NULL || address_is_fqdn(r->recipient) ||
	    (r->recipient->domain.len == 0 && str_ieq(r->recipient->local, STR("postmaster"))))
		return POLICY_DUNNO;
	return refuse(code_r, err, 504, "5.5.2", "Recipient address rejected", r->recipient_text,
		      "need fully-qualified address");
}

/* ---- the language ---------------------------------------------------------------------------------------- */

static const struct restriction restrictions[] = {
	{"permit", do_permit},
	{"reject", do_reject},
	{"defer", do_defer},
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
	{"defer_if_permit", false},
	{"defer_if_reject", false},
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
	/* check_client_mx_access hash:/etc/postfix/access and others that ask the DNS first. */
	*argument_r = str_starts(name, STR("check_")) && str_ends(name, STR("_access"));
	return *argument_r;
}

/* check_..._access type:name, by what is looked up. */
static const struct {
	const char *name;
	enum policy_stage stage;
} access_checks[] = {
	{"check_client_access", STAGE_CLIENT},
	{"check_helo_access", STAGE_HELO},
	{"check_sender_access", STAGE_SENDER},
	{"check_recipient_access", STAGE_RECIPIENT},
};

/* An element of a list. */
struct element {
	struct str name;
	struct str argument;		/* of a restriction that has one */
	const struct restriction *rule; /* RESTRICTION */
	struct str table;		/* ACCESS: its tables */
	enum policy_stage stage;	/* ACCESS: what is looked up; 0: what the list is about */
};

static bool is_table(struct str name)
{
	return str_chr(name, ':') > 0;
}

static bool is_access(struct str *list, struct element *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(access_checks); i++)
		if (str_ieq(e->name, str_from(access_checks[i].name))) {
			e->stage = access_checks[i].stage;
			return conf_list_next(list, &e->table) && is_table(e->table);
		}
	e->table = e->name;
	return is_table(e->name);
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
	if (is_access(list, e))
		return ACCESS;
	if (is_class(conf, e->name))
		return CLASS;
	if (!is_not_yet(e->name, &argument))
		return UNKNOWN;
	if (argument)
		(void)conf_list_next(list, &skipped);
	return NOT_YET;
}

/* ---- access tables -------------------------------------------------------------------------------------- */

static enum policy_verdict eval_at(struct str list, const struct policy_request *r, unsigned depth, int *code_r,
				   struct err *err);

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

/* What the table says of the client, the HELO name, the sender or the recipient; *what_r: that, for the reply. */
static int ask_table(const struct policy_request *r, const struct element *e, struct str *what_r, const char **kind_r,
		     struct str *value_r, struct err *err)
{
	char address[NET_ADDR_TEXT];

	switch (e->stage ? e->stage : r->stage) {
	case STAGE_CLIENT:
		*what_r = r->client_name;
		*kind_r = "Client host rejected";
		return ask(r, e->table, LOOKUP_ACCESS_CLIENT, str_from(net_addr_text(r->client, address)), value_r,
			   err);
	case STAGE_HELO:
		*what_r = r->helo;
		*kind_r = "Helo command rejected";
		return ask(r, e->table, LOOKUP_ACCESS_NAME, r->helo, value_r, err);
	case STAGE_SENDER:
		*what_r = r->sender_text;
		*kind_r = "Sender address rejected";
		return ask_address(r, e->table, r->sender, r->sender_text, value_r, err);
	case STAGE_RECIPIENT:
	case STAGE_DATA:
		break;
	}
	*what_r = r->recipient_text;
	*kind_r = "Recipient address rejected";
	return ask_address(r, e->table, r->recipient, r->recipient_text, value_r, err);
}

static enum policy_verdict refuse_access(const struct access_action *a, struct str what, const char *kind, int *code_r,
					 struct err *err)
{
	bool reject = a->kind == ACCESS_REJECT;
	char dsn[12], *text = str_dup(a->text.len ? a->text : reject ? STR("Access denied") : STR("Try again later"));

	snprintf(dsn, sizeof(dsn), "%.*s", STR_ARG(a->dsn.len ? a->dsn : reject ? STR("5.7.1") : STR("4.7.1")));
	*code_r = a->code ? a->code : reject ? 554 : 450;
	refuse(code_r, err, *code_r, dsn, kind, what, text);
	free(text);
	return POLICY_REFUSE;
}

static enum policy_verdict eval_access(const struct policy_request *r, const struct element *e, unsigned depth,
				       int *code_r, struct err *err)
{
	struct access_action a;
	struct err why = ERR_NONE;
	const char *kind;
	struct str value, what;
	int rc = ask_table(r, e, &what, &kind, &value, &why);

	if (rc <= 0)
		return rc < 0 ? lookup_failed(r, &why, code_r, err) : POLICY_DUNNO;
	a = access_parse(value);
	switch (a.kind) {
	case ACCESS_OK:
		return POLICY_PERMIT;
	case ACCESS_DUNNO:
		return POLICY_DUNNO;
	case ACCESS_WARN:
		log_info("NOQUEUE: %s: %.*s: <%.*s>: %.*s", str_ieq(a.word, STR("WARN")) ? "warn" : "info",
			 STR_ARG(r->client_name), STR_ARG(what), STR_ARG(a.text));
		return POLICY_DUNNO;
	case ACCESS_REJECT:
	case ACCESS_DEFER:
		return refuse_access(&a, what, kind, code_r, err);
	case ACCESS_UNSUPPORTED:
		log_warning("%.*s: the action %.*s is not supported yet: mail has to wait", STR_ARG(e->table),
			    STR_ARG(a.word));
		*code_r = 451;
		err_set(err, ERR_TEMP, "4.3.5", "Server configuration error");
		return POLICY_REFUSE;
	case ACCESS_RESTRICTIONS:
		break;
	}
	return eval_at(a.text, r, depth + 1, code_r, err);
}

static enum policy_verdict eval_class(const struct policy_request *r, struct str name, unsigned depth, int *code_r,
				      struct err *err)
{
	enum policy_verdict verdict = POLICY_DUNNO;
	struct buf list;

	buf_init(&list, 65536);
	if (conf_text(r->conf, name, &list))
		verdict = eval_at(buf_str(&list), r, depth + 1, code_r, err);
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
		return eval_access(r, e, depth, code_r, err);
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

static enum policy_verdict eval_at(struct str list, const struct policy_request *r, unsigned depth, int *code_r,
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
	return eval_at(list, r, 0, code_r, err);
}

enum policy_verdict policy_conclude(enum policy_verdict verdict, const struct policy_deferral *d, int *code_r,
				    struct err *err)
{
	if (verdict == POLICY_REFUSE) {
		if (d->if_reject && *code_r >= 500) {
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

#define LISTS 6

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
}

static int list_check(const struct conf *conf, const struct named_list *l, struct err *err)
{
	struct str list = l->list;
	struct element e;
	enum kind kind;

	while ((kind = next_element(conf, &list, &e)) != END) {
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

int policy_check(const struct conf *conf, struct err *err)
{
	struct named_list lists[LISTS];

	lists_of(conf, lists);
	for (size_t i = 0; i < LISTS; i++)
		if (list_check(conf, &lists[i], err) < 0)
			return -1;
	if (!guards_relaying(conf, conf->smtpd_relay_restrictions) &&
	    !guards_relaying(conf, conf->smtpd_recipient_restrictions))
		return err_set(
			err, ERR_PERM, "",
			"smtpd_relay_restrictions or smtpd_recipient_restrictions must hold one of: reject, defer, "
			"reject_unauth_destination, defer_unauth_destination");
	return 0;
}
