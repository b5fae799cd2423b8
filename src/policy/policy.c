/* The restriction language. One function a restriction, one table of names. See policy.h. */
#include "policy/policy.h"
#include "base/log.h"

/* What a restriction says of a request; on POLICY_REFUSE with the reply in code_r and err. */
typedef enum policy_verdict restriction_fn(const struct policy_request *r, int *code_r, struct err *err);

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

static enum policy_verdict do_permit_mynetworks(const struct policy_request *r, int *code_r, struct err *err)
{
	(void)code_r, (void)err;
	return permit_if(conf_in_mynetworks(r->conf, r->client));
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

static const struct restriction {
	const char *name;
	restriction_fn *fn;
} restrictions[] = {
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
	{"permit_dnswl_client", true},
	{"permit_inet_interfaces", false},
	{"permit_mx_backup", false},
	{"permit_rhswl_client", true},
	{"permit_tls_all_clientcerts", false},
	{"permit_tls_clientcerts", false},
	{"reject_known_sender_login_mismatch", false},
	{"reject_multi_recipient_bounce", false},
	{"reject_rbl_client", true},
	{"reject_rhsbl_client", true},
	{"reject_rhsbl_helo", true},
	{"reject_rhsbl_recipient", true},
	{"reject_rhsbl_reverse_client", true},
	{"reject_rhsbl_sender", true},
	{"reject_unknown_address", false},
	{"reject_unknown_client", false},
	{"reject_unknown_client_hostname", false},
	{"reject_unknown_forward_client_hostname", false},
	{"reject_unknown_helo_hostname", false},
	{"reject_unknown_hostname", false},
	{"reject_unknown_recipient_domain", false},
	{"reject_unknown_reverse_client_hostname", false},
	{"reject_unknown_sender_domain", false},
	{"reject_unlisted_sender", false},
	{"reject_unverified_recipient", false},
	{"reject_unverified_sender", false},
	{"sleep", true},
};

enum kind { END, RESTRICTION, WARN_IF_REJECT, NOT_YET, UNKNOWN };

static const struct restriction *find(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(restrictions); i++)
		if (str_ieq(name, str_from(restrictions[i].name)))
			return &restrictions[i];
	return NULL;
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

static bool is_not_yet(const struct conf *conf, struct str name, bool *argument_r)
{
	for (size_t i = 0; i < ARRAY_SIZE(not_yet); i++)
		if (str_ieq(name, str_from(not_yet[i].name))) {
			*argument_r = not_yet[i].argument;
			return true;
		}
	/* check_client_access hash:/etc/postfix/access; the table alone means the access map of the list's own stage.
	 */
	*argument_r = str_starts(name, STR("check_")) && str_ends(name, STR("_access"));
	return *argument_r || str_chr(name, ':') > 0 || is_class(conf, name);
}

/* Takes the next element, with its argument, off the list. */
static enum kind next_element(const struct conf *conf, struct str *list, struct str *name_r,
			      const struct restriction **rule_r)
{
	bool argument = false;
	struct str skipped;

	if (!conf_list_next(list, name_r))
		return END;
	if (str_ieq(*name_r, STR("warn_if_reject")))
		return WARN_IF_REJECT;
	*rule_r = find(*name_r);
	if (*rule_r != NULL)
		return RESTRICTION;
	if (!is_not_yet(conf, *name_r, &argument))
		return UNKNOWN;
	if (argument)
		(void)conf_list_next(list, &skipped);
	return NOT_YET;
}

enum policy_verdict policy_eval(struct str list, const struct policy_request *r, int *code_r, struct err *err)
{
	const struct restriction *rule;
	bool only_warn = false;
	enum kind kind;
	struct str name;

	while ((kind = next_element(r->conf, &list, &name, &rule)) != END) {
		enum policy_verdict verdict = POLICY_DUNNO;

		if (kind == WARN_IF_REJECT) {
			only_warn = true;
			continue;
		}
		if (kind == UNKNOWN) {
			/* policy_check() keeps this from happening; the safe side all the same. */
			*code_r = 451;
			err_set(err, ERR_TEMP, "4.3.5", "Server configuration error");
			return POLICY_REFUSE;
		}
		if (kind == RESTRICTION)
			verdict = rule->fn(r, code_r, err);
		if (verdict == POLICY_REFUSE && only_warn)
			log_info("NOQUEUE: reject_warning: %.*s: %d %s %s", STR_ARG(r->client_name), *code_r, err->code,
				 err->text);
		else if (verdict != POLICY_DUNNO)
			return verdict;
		only_warn = false;
	}
	return POLICY_DUNNO;
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
	const struct restriction *rule;
	struct str list = l->list, name;
	enum kind kind;

	while ((kind = next_element(conf, &list, &name, &rule)) != END)
		if (kind == UNKNOWN)
			return err_set(err, ERR_PERM, "", "%s: unknown or unsupported restriction \"%.*s\"", l->name,
				       STR_ARG(name));
	return 0;
}

void policy_each_unused(const struct conf *conf, void (*f)(void *ctx, const char *parameter, struct str name),
			void *ctx)
{
	struct named_list lists[LISTS];
	const struct restriction *rule;
	enum kind kind;
	struct str name;

	lists_of(conf, lists);
	for (size_t i = 0; i < LISTS; i++)
		while ((kind = next_element(conf, &lists[i].list, &name, &rule)) != END)
			if (kind == NOT_YET)
				f(ctx, lists[i].name, name);
}

/* Something in the list ends every stranger's relaying: Postfix refuses to start without it, too. */
static bool guards_relaying(const struct conf *conf, struct str list)
{
	static const char *const guards[] = {"reject", "defer", "reject_unauth_destination",
					     "defer_unauth_destination"};
	const struct restriction *rule;
	bool only_warn = false;
	enum kind kind;
	struct str name;

	while ((kind = next_element(conf, &list, &name, &rule)) != END) {
		if (kind == RESTRICTION && !only_warn) {
			for (size_t i = 0; i < ARRAY_SIZE(guards); i++)
				if (str_ieq(name, str_from(guards[i])))
					return true;
			/* All that stands behind is never reached. */
			if (str_ieq(name, STR("permit")))
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
