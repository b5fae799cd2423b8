/* The restriction language: who decides, in which order, and what a configuration must not say. */
#include "policy/policy.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct conf *conf_of(const char *text)
{
	struct err err = ERR_NONE;
	struct conf *conf = conf_parse(str_from(text), "main.cf", NULL, &err);

	if (conf == NULL)
		fail_msg("%s", err.text);
	return conf;
}

static int owned(void *ctx, struct dir_allowed *allowed_r, struct err *err)
{
	const char *how = ctx;

	(void)err;
	*allowed_r = (struct dir_allowed){.allowed = how[0] == 'y', .known = how[0] != 'u'};
	return how[0] == 'e' ? -1 : 0;
}

struct ask {
	const char *client, *user, *owns, *conf;
	enum rcpt_class class;
	enum policy_stage stage;
	const char *says; /* what every table says; NULL: nothing, "!": it fails */
	const char *key;  /* only of this key; NULL: of any */
	const char *host; /* the client's name */
	const char *sender;
	bool no_local; /* ""@sender */
	bool conclude; /* what is left behind for the end of all lists counts, too */
};

static struct buf asked; /* "TABLE how key; " for each look-up */

static int lookup(void *ctx, const struct dir_lookup *ask, struct str *value_r, struct err *err)
{
	const struct ask *a = ctx;
	static const char *const ways[] = {[LOOKUP_KEY] = "key",
					   [LOOKUP_ACCESS_ADDRESS] = "address",
					   [LOOKUP_ACCESS_NAME] = "name",
					   [LOOKUP_ACCESS_CLIENT] = "client",
					   [LOOKUP_NETWORKS] = "networks"};

	buf_addf(&asked, "%.*s %s %.*s;", STR_ARG(ask->list), ways[ask->how], STR_ARG(ask->key));
	if (a->says && a->says[0] == '!')
		return err_set(err, ERR_TEMP, "4.3.0", "the table fails");
	*value_r = str_from(a->says);
	return a->says != NULL && (a->key == NULL || str_eq(ask->key, str_from(a->key)));
}

/* b.example has one mail server, which has one address; so has its only name server. */
static int resolve(void *ctx, struct str name, enum dns_type type, struct arena *arena, struct dns_answer *a,
		   struct err *err)
{
	static const struct {
		const char *name;
		enum dns_type type;
		const char *value;
	} zone[] = {{"b.example", DNS_MX, "mx.elsewhere.example"},
		    {"mx.elsewhere.example", DNS_A, "203.0.113.7"},
		    {"b.example", DNS_NS, "ns.elsewhere.example"},
		    {"ns.elsewhere.example", DNS_AAAA, "2001:db8::53"},
		    {"b.example", DNS_A, "203.0.113.80"},
		    {"client.b.example", DNS_A, "198.51.100.1"},
		    {"alone.b.example", DNS_A, "203.0.113.9"},
		    {"1.100.51.198.black.example", DNS_A, "127.0.0.2"},
		    {"1.100.51.198.busy.example", DNS_A, "127.255.255.254"},
		    {"1.100.51.198.parked.example", DNS_A, "203.0.113.80"}};

	(void)ctx, (void)err;
	*a = (struct dns_answer){.status = str_ends(name, STR("example")) ? DNS_NODATA : DNS_TEMP};
	for (size_t i = 0; i < ARRAY_SIZE(zone); i++) {
		if (!str_eq(name, str_from(zone[i].name)) || type != zone[i].type)
			continue;
		a->status = DNS_OK;
		a->v = ARENA_NEW(arena, struct dns_record);
		a->n = 1;
		a->v->name = str_from(zone[i].value);
		if (type == DNS_A || type == DNS_AAAA)
			assert_true(net_addr_parse(a->v->name, 0, &a->v->address));
	}
	return 0;
}

/* "permit", "dunno", or the reply. */
static const char *eval(const char *list, struct ask ask)
{
	static char text[400];
	struct conf *conf = conf_of(ask.conf ? ask.conf : "mynetworks = 127.0.0.0/8, 192.0.2.0/24\n");
	struct policy_deferral deferral = {0};
	struct address sender = {ask.no_local ? STR("") : STR("a"), str_from(ask.sender ? ask.sender : "b.example")},
		       rcpt = {STR("x"), STR("y.example")};
	struct net_addr client;
	struct policy_request r = {
		.conf = conf,
		.client = &client,
		.client_name = STR("unknown[198.51.100.1]"),
		.helo = STR("client"),
		.host_name = str_from(ask.host),
		.resolve = ask.key ? resolve : NULL,
		.deferral = &deferral,
		.sender = &sender,
		.sender_text = STR("a@b.example"),
		.recipient = &rcpt,
		.recipient_text = STR("x@y.example"),
		.recipient_class = ask.class ? ask.class : RCPT_LOCAL,
		.sasl_user = str_from(ask.user),
		.sender_owned = owned,
		.ctx = (void *)(uintptr_t)(ask.owns ? ask.owns : "y"),
	};
	struct err err = ERR_NONE;
	enum policy_verdict verdict;
	int code = 0;

	if (ask.says || ask.conf) {
		r.lookup = lookup;
		r.ctx = &ask;
	}
	r.stage = ask.stage;
	buf_clear(&asked);
	assert_true(net_addr_parse(str_from(ask.client ? ask.client : "198.51.100.1"), 1, &client));
	verdict = policy_eval(str_from(list), &r, &code, &err);
	if (ask.conclude)
		verdict = policy_conclude(verdict, &deferral, &code, &err);
	conf_unref(&conf);
	if (verdict == POLICY_REFUSE && ask.says)
		snprintf(text, sizeof(text), "%d %s %s", code, err.code, err.text);
	else if (verdict == POLICY_REFUSE)
		snprintf(text, sizeof(text), "%d %s", code, err.code);
	return verdict == POLICY_DUNNO ? "dunno" : verdict == POLICY_PERMIT ? "permit" : text;
}

#define DEFAULT "permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination"

static void strangers_do_not_relay(void **state)
{
	(void)state;
	assert_string_equal(eval(DEFAULT, (struct ask){.class = RCPT_REMOTE}), "554 5.7.1");
	assert_string_equal(eval(DEFAULT, (struct ask){.class = RCPT_LOCAL}), "dunno");
	assert_string_equal(eval(DEFAULT, (struct ask){.class = RCPT_UNKNOWN}), "dunno");
	assert_string_equal(eval(DEFAULT, (struct ask){.class = RCPT_REMOTE, .client = "192.0.2.7"}), "permit");
	assert_string_equal(eval(DEFAULT, (struct ask){.class = RCPT_REMOTE, .user = "alice"}), "permit");
	assert_string_equal(eval("defer_unauth_destination", (struct ask){.class = RCPT_REMOTE}), "454 4.7.1");
}

static void the_first_that_decides_ends_the_list(void **state)
{
	(void)state;
	assert_string_equal(eval("", (struct ask){0}), "dunno");
	assert_string_equal(eval("permit, reject", (struct ask){0}), "permit");
	assert_string_equal(eval("reject, permit", (struct ask){0}), "554 5.7.1");
	assert_string_equal(eval("warn_if_reject reject, permit", (struct ask){0}), "permit");
	assert_string_equal(eval("warn_if_reject permit_mynetworks, reject", (struct ask){0}), "554 5.7.1");
	assert_string_equal(eval("no_such_thing", (struct ask){0}), "451 4.3.5");
}

static void senders_belong_to_their_users(void **state)
{
	static const char both[] = "reject_sender_login_mismatch",
			  auth[] = "reject_authenticated_sender_login_mismatch";

	(void)state;
	assert_string_equal(eval(both, (struct ask){.user = "alice", .owns = "y"}), "dunno");
	assert_string_equal(eval(both, (struct ask){.user = "alice", .owns = "n"}), "553 5.7.1");
	assert_string_equal(eval(both, (struct ask){.user = "alice", .owns = "u"}), "553 5.7.1");
	assert_string_equal(eval(both, (struct ask){.owns = "n"}), "553 5.7.1");
	assert_string_equal(eval(both, (struct ask){.owns = "u"}), "dunno");
	assert_string_equal(eval(auth, (struct ask){.owns = "n"}), "dunno");
	assert_string_equal(eval(auth, (struct ask){.user = "alice", .owns = "n"}), "553 5.7.1");
	assert_string_equal(eval(auth, (struct ask){.user = "alice", .owns = "e"}), "451 4.3.0");
}

/* <> is nobody's address; <""@domain> is one. */
static void only_the_null_sender_is_let_alone(void **state)
{
	static const char both[] = "reject_sender_login_mismatch", known[] = "reject_unknown_sender_domain",
			  whole[] = "reject_non_fqdn_sender";

	(void)state;
	assert_string_equal(eval(both, (struct ask){.user = "alice", .owns = "n", .no_local = true}), "553 5.7.1");
	assert_string_equal(eval(both, (struct ask){.owns = "n", .no_local = true}), "553 5.7.1");
	assert_string_equal(
		eval(known, (struct ask){.owns = "u", .no_local = true, .sender = "no.example", .key = "?"}),
		"450 4.1.8");
	assert_string_equal(eval(whole, (struct ask){.no_local = true, .sender = "host"}), "504 5.5.2");
	assert_string_equal(eval(both, (struct ask){.user = "alice", .owns = "n", .no_local = true, .sender = ""}),
			    "dunno");
	assert_string_equal(eval(known, (struct ask){.owns = "u", .no_local = true, .sender = "", .key = "?"}),
			    "dunno");
	assert_string_equal(eval(whole, (struct ask){.no_local = true, .sender = ""}), "dunno");
}

static void unknown_recipients_and_names(void **state)
{
	(void)state;
	assert_string_equal(eval("reject_unlisted_recipient", (struct ask){.class = RCPT_UNKNOWN}), "550 5.1.1");
	assert_string_equal(eval("reject_unlisted_recipient", (struct ask){.class = RCPT_DISABLED}), "550 5.2.1");
	assert_string_equal(eval("reject_non_fqdn_helo_hostname", (struct ask){0}), "504 5.5.2");
	assert_string_equal(eval("reject_non_fqdn_sender, reject_non_fqdn_recipient", (struct ask){0}), "dunno");
}

static void a_configuration_is_checked(void **state)
{
	static const struct {
		const char *text;
		bool good;
	} cases[] = {
		{"", true},
		{"smtpd_relay_restrictions = permit_mynetworks, reject\n", true},
		{"smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = reject_unauth_destination\n", true},
		{"smtpd_relay_restrictions =\n", false},
		{"smtpd_relay_restrictions = permit, reject_unauth_destination\n", false},
		{"smtpd_relay_restrictions = warn_if_reject reject_unauth_destination\n", false},
		{"smtpd_helo_restrictions = reject_everybody_i_dislike\n", false},
		{"smtpd_sender_restrictions = check_sender_access hash:/etc/postfix/sender, "
		 "reject_unknown_sender_domain\n",
		 true},
		{"smtpd_restriction_classes = greylist\nsmtpd_client_restrictions = greylist\n", false},
		{"smtpd_restriction_classes = greylist\nsmtpd_client_restrictions = greylist\n"
		 "greylist = check_policy_service inet:127.0.0.1:10023\n",
		 true},
		{"smtpd_restriction_classes = mine\nmine = reject_nonsense\n", false},
		{"smtpd_recipient_restrictions = check_recipient_access, reject_unauth_destination\n", false},
		{"smtpd_client_restrictions = check_client_access\n", false},
		{"smtpd_client_restrictions = check_client_access cidr:/x, reject_rbl_client list.example\n", true},
		{"smtpd_client_restrictions = check_ccert_access hash:/x, hash:/y\n", true},
		{"smtpd_recipient_restrictions = reject_rbl_client reject\nsmtpd_relay_restrictions =\n", false},
		{"smtpd_relay_restrictions = check_policy_service inet:127.0.0.1:10023 reject\n", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct conf *conf = conf_of(cases[i].text);
		struct err err = ERR_NONE;

		if ((policy_check(conf, &err) == 0) != cases[i].good)
			fail_msg("%s: %s", cases[i].text, err.text);
		conf_unref(&conf);
	}
}

static void name_unused(void *ctx, const char *parameter, struct str name)
{
	buf_addf(ctx, "%s:%.*s ", parameter, STR_ARG(name));
}

static void what_decides_nothing_yet_is_named(void **state)
{
	struct conf *conf =
		conf_of("smtpd_client_restrictions = permit_mynetworks, reject_rbl_client zen.example, "
			"hash:/etc/postfix/access\n"
			"smtpd_recipient_restrictions = check_policy_service { unix:private/x, timeout=3s } reject\n");
	struct buf out;

	(void)state;
	buf_init(&out, 1000);
	policy_each_unused(conf, name_unused, &out);
	assert_string_equal(out.ptr, ""
				     "smtpd_recipient_restrictions:check_policy_service ");
	buf_release(&out);
	conf_unref(&conf);
}

static void what_decides_nothing_yet_lets_the_next_decide(void **state)
{
	(void)state;
	assert_string_equal(eval("reject_rbl_client permit, check_ccert_access hash:/x reject", (struct ask){0}),
			    "554 5.7.1");
	assert_string_equal(eval("warn_if_reject reject_unknown_client_hostname, reject", (struct ask){0}),
			    "554 5.7.1");
}

/* ---- access(5) ---- */

static void actions_of_access_tables(void **state)
{
	static const struct {
		const char *says, *verdict;
	} cases[] = {
		{"OK", "permit"},
		{"ok", "permit"},
		{"1234", "permit"},
		{"DUNNO", "dunno"},
		{"WARN look here", "dunno"},
		{"INFO just so", "dunno"},
		{"REJECT", "554 5.7.1 <a@b.example>: Sender address rejected: Access denied"},
		{"reject 5.1.8 no such domain", "554 5.1.8 <a@b.example>: Sender address rejected: no such domain"},
		{"DEFER", "450 4.7.1 <a@b.example>: Sender address rejected: Try again later"},
		{"DEFER_IF_PERMIT wait", "dunno"},
		{"DEFER_IF_REJECT wait", "dunno"},
		{"550 5.7.26 not you", "550 5.7.26 <a@b.example>: Sender address rejected: not you"},
		{"421 later", "421 4.7.1 <a@b.example>: Sender address rejected: later"},
		{"HOLD", "dunno"},
		{"BCC b@c.example", "dunno"},
		{"FILTER smtp:[192.0.2.1]", "451 4.3.5 Server configuration error"},
		{"REDIRECT b@c.example", "dunno"},
		{"DISCARD", "dunno"}, /* there is no message */
		{"reject_non_fqdn_sender, permit", "permit"},
		{"reject_unlisted_recipient", "dunno"},
		{"no_such_thing", "451 4.3.5 Server configuration error"},
		/* A table that leads to itself ends. */
		{"check_sender_access hash:/s", "451 4.3.5 Server configuration error"},
		{"!", "451 4.3.0 <x@y.example>: Temporary lookup failure"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *verdict = eval("check_sender_access hash:/s", (struct ask){.says = cases[i].says});

		if (strcmp(verdict, cases[i].verdict) != 0)
			fail_msg("%s: expected \"%s\", got \"%s\"", cases[i].says, cases[i].verdict, verdict);
	}
}

static void each_check_asks_for_what_it_is_about(void **state)
{
	(void)state;
	eval("check_client_access hash:/a, check_helo_access hash:/b, check_sender_access hash:/c, "
	     "check_recipient_access hash:/d",
	     (struct ask){.says = "DUNNO"});
	assert_string_equal(asked.ptr, "hash:/a client 198.51.100.1;hash:/b name client;hash:/c address "
				       "a@b.example;hash:/d address x@y.example;");
	eval("hash:/a", (struct ask){.says = "DUNNO", .stage = STAGE_CLIENT});
	assert_string_equal(asked.ptr, "hash:/a client 198.51.100.1;");
	eval("hash:/a", (struct ask){.says = "DUNNO", .stage = STAGE_RECIPIENT});
	assert_string_equal(asked.ptr, "hash:/a address x@y.example;");
	assert_string_equal(eval("warn_if_reject check_sender_access hash:/a, permit", (struct ask){.says = "REJECT"}),
			    "permit");
}

static void clients_are_asked_for_by_name_and_by_address(void **state)
{
	static const char client[] = "check_client_access hash:/a";

	(void)state;
	eval(client, (struct ask){.says = "x", .key = "none", .host = "unknown"});
	assert_string_equal(asked.ptr, "hash:/a name unknown;hash:/a client 198.51.100.1;");
	assert_string_equal(eval(client, (struct ask){.says = "REJECT", .key = "c.example", .host = "c.example"}),
			    "554 5.7.1 <unknown[198.51.100.1]>: Client host rejected: Access denied");
	assert_string_equal(eval(client, (struct ask){.says = "!", .host = "c.example"}),
			    "451 4.3.0 <x@y.example>: Temporary lookup failure");
}

static void log_in_names_have_their_own_check(void **state)
{
	static const char sasl[] = "check_sasl_access hash:/a";

	(void)state;
	assert_string_equal(eval(sasl, (struct ask){.says = "REJECT paid up?", .user = "alice"}),
			    "554 5.7.1 <alice>: SASL login name rejected: paid up?");
	assert_string_equal(asked.ptr, "hash:/a key alice;");
	/* Who is not logged in has no name, and is not asked for. */
	assert_string_equal(eval(sasl, (struct ask){.says = "OK"}), "dunno");
	assert_string_equal(asked.ptr, "");
}

static void servers_of_a_domain_may_refuse_and_never_permit(void **state)
{
	static const struct {
		const char *list, *key, *sender, *host;
		bool found;
	} cases[] = {
		{"check_sender_mx_access hash:/m", "mx.elsewhere.example", NULL, NULL, true},
		{"check_sender_mx_access hash:/m", "203.0.113.7", NULL, NULL, true},
		{"check_sender_mx_access hash:/m", "203.0.113.80", NULL, NULL, false},
		{"check_sender_mx_access hash:/m", "203.0.113.9", "alone.b.example", NULL, true}, /* it is its own */
		{"check_sender_mx_access hash:/m", "203.0.113.9", "[203.0.113.9]", NULL, true},
		{"check_sender_mx_access hash:/m", "2001:db8::9", "[IPv6:2001:db8::9]", NULL, true},
		{"check_sender_mx_access hash:/m", "x", "silent.test", NULL, false},
		{"check_sender_ns_access hash:/m", "2001:db8::53", NULL, NULL, true},
		{"check_sender_ns_access hash:/m", "ns.elsewhere.example", "deep.down.b.example", NULL, true},
		{"check_sender_ns_access hash:/m", "x", "only.example", NULL, false},
		{"check_sender_a_access hash:/m", "203.0.113.80", NULL, NULL, true},
		{"check_client_a_access hash:/m", "198.51.100.1", NULL, "client.b.example", true},
		{"check_client_ns_access hash:/m", "ns.elsewhere.example", NULL, "client.b.example", true},
		{"check_client_a_access hash:/m", "unknown", NULL, "unknown", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ask ask = {.key = cases[i].key, .sender = cases[i].sender, .host = cases[i].host};
		const char *verdict;

		ask.says = "554 go away";
		verdict = eval(cases[i].list, ask);
		if (cases[i].found ? strncmp(verdict, "554 5.7.1 ", 10) != 0 : strcmp(verdict, "dunno") != 0)
			fail_msg("case %zu: %s", i, verdict);
		ask.says = "OK";
		ask.class = RCPT_REMOTE;
		assert_string_equal(eval(cases[i].list, ask),
				    cases[i].found ? "451 4.3.5 Server configuration error" : "dunno");
	}
}

/* RFC 5782 2.1; what lists of hosts say of whoever asks is not said of the client. */
static void only_what_is_an_entry_of_a_list_counts(void **state)
{
	static const struct {
		const char *list, *want;
	} cases[] = {
		{"reject_rbl_client black.example", "554 5.7.1"},
		{"reject_rbl_client black.example=127.0.0.2", "554 5.7.1"},
		{"reject_rbl_client black.example=127.0.0.3", "dunno"},
		{"reject_rbl_client busy.example", "dunno"},
		{"reject_rbl_client busy.example=127.0.0.[2..11]", "dunno"},
		{"reject_rbl_client busy.example=127.255.255.254", "554 5.7.1"},
		{"reject_rbl_client parked.example", "dunno"},
		{"reject_rbl_client parked.example=203.0.113.80", "554 5.7.1"},
		{"permit_dnswl_client black.example", "permit"},
		{"permit_dnswl_client busy.example", "dunno"},
		{"permit_dnswl_client parked.example", "dunno"},
		/* who cannot be asked whether he is good is put off instead of refused */
		{"permit_dnswl_client busy.example, reject", "450 4.7.1"},
		{"permit_dnswl_client parked.example, reject", "554 5.7.1"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *got = eval(cases[i].list, (struct ask){.key = "x", .conclude = true});

		if (strcmp(got, cases[i].want) != 0)
			fail_msg("%s: %s", cases[i].list, got);
	}
}

static void what_is_put_off_waits_for_the_end(void **state)
{
	static const struct {
		const char *list, *says, *verdict;
	} cases[] = {
		{"hash:/s, permit", "DEFER_IF_PERMIT 4.1.1 busy",
		 "450 4.1.1 <x@y.example>: Recipient address rejected: busy"},
		{"hash:/s, reject", "DEFER_IF_PERMIT busy",
		 "554 5.7.1 <x@y.example>: Recipient address rejected: Access denied"},
		{"hash:/s, reject", "DEFER_IF_REJECT 5.1.1 busy",
		 "450 4.1.1 <x@y.example>: Recipient address rejected: busy"},
		{"hash:/s, permit", "DEFER_IF_REJECT busy", "permit"},
		{"hash:/s, defer", "DEFER_IF_REJECT busy",
		 "450 4.7.1 <x@y.example>: Recipient address rejected: Try again later"},
		{"warn_if_reject hash:/s, permit", "DEFER_IF_PERMIT busy", "permit"},
		{"defer_if_permit, permit", "", "450 4.7.1 <x@y.example>: Recipient address rejected: Try again later"},
		{"defer_if_reject, reject", "", "450 4.7.1 <x@y.example>: Recipient address rejected: Try again later"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *verdict = eval(
			cases[i].list, (struct ask){.says = cases[i].says, .stage = STAGE_RECIPIENT, .conclude = true});

		if (strcmp(verdict, cases[i].verdict) != 0)
			fail_msg("case %zu: %s", i, verdict);
	}
}

static void reply_codes_are_the_configuration_s(void **state)
{
	static const struct {
		const char *list, *conf, *says, *verdict;
	} cases[] = {
		{"reject", "reject_code = 450\n", "", "450 4.7.1"},
		{"defer", "defer_code = 451\n", "", "451 4.7.1"},
		{"hash:/s", "access_map_reject_code = 550\n", "REJECT", "550 5.7.1"},
		{"hash:/s", "access_map_reject_code = 450\n", "REJECT 5.7.9 no", "450 4.7.9"},
		{"hash:/s", "access_map_defer_code = 421\n", "DEFER", "421 4.7.1"},
		{"reject_unauth_destination", "relay_domains_reject_code = 550\n", "", "550 5.7.1"},
		{"reject_unauth_destination", "relay_domains_reject_code = 450\n", "", "450 4.7.1"},
		{"reject_plaintext_session", "plaintext_reject_code = 550\n", "", "550 5.7.1"},
		{"reject_non_fqdn_helo_hostname", "non_fqdn_reject_code = 450\n", "", "450 4.5.2"},
		{"reject_unlisted_recipient", "unknown_virtual_mailbox_reject_code = 450\n", "", "450 4.1.1"},
		{"reject_unlisted_recipient", "unknown_local_recipient_reject_code = 450\n", "", "550 5.1.1"},
		{"reject_unlisted_recipient", "unknown_relay_recipient_reject_code = 450\nrelay_domains = y.example\n",
		 "", "450 4.1.1"},
		{"reject_unlisted_recipient", "unknown_relay_recipient_reject_code = 450\nrelay_domains = example\n",
		 "", "450 4.1.1"},
		{"reject_unlisted_recipient",
		 "unknown_virtual_alias_reject_code = 450\nvirtual_alias_domains = y.example\n", "", "450 4.1.1"},
		{"reject_unlisted_recipient",
		 "unknown_local_recipient_reject_code = 450\nmydestination = a.test, Y.example\n", "", "450 4.1.1"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *verdict =
			eval(cases[i].list,
			     (struct ask){.conf = cases[i].conf,
					  .says = cases[i].says,
					  .stage = STAGE_RECIPIENT,
					  .class = strstr(cases[i].list, "unlisted") ? RCPT_UNKNOWN : RCPT_REMOTE});

		if (strncmp(verdict, cases[i].verdict, 9) != 0)
			fail_msg("case %zu: %s", i, verdict);
	}
}

static void classes_are_lists_of_their_own(void **state)
{
	static const char conf[] = "smtpd_restriction_classes = strict, circle\nstrict = reject_non_fqdn_sender, "
				   "check_sender_access hash:/s, reject\ncircle = circle\n";

	(void)state;
	assert_string_equal(eval("strict", (struct ask){.conf = conf, .says = "OK"}), "permit");
	assert_string_equal(eval("strict, permit", (struct ask){.conf = conf, .says = "DUNNO"}),
			    "554 5.7.1 <x@y.example>: Recipient address rejected: Access denied");
	assert_string_equal(eval("circle", (struct ask){.conf = conf, .says = "OK"}),
			    "451 4.3.5 Server configuration error");
}

static void mynetworks_with_tables_are_directorys(void **state)
{
	static const char conf[] = "mynetworks = !192.0.2.1, hash:/n, 192.0.2.0/24\n";

	(void)state;
	assert_string_equal(eval("permit_mynetworks", (struct ask){.conf = conf, .says = ""}), "permit");
	assert_string_equal(asked.ptr, "!192.0.2.1, hash:/n, 192.0.2.0/24 networks 198.51.100.1;");
	assert_string_equal(eval("permit_mynetworks", (struct ask){.conf = conf}), "dunno");
	assert_string_equal(eval("permit_mynetworks, reject", (struct ask){.conf = conf, .says = "!"}),
			    "451 4.3.0 <x@y.example>: Temporary lookup failure");
}

static int release(void **state)
{
	(void)state;
	buf_release(&asked);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strangers_do_not_relay),
		cmocka_unit_test(the_first_that_decides_ends_the_list),
		cmocka_unit_test(senders_belong_to_their_users),
		cmocka_unit_test(only_the_null_sender_is_let_alone),
		cmocka_unit_test(unknown_recipients_and_names),
		cmocka_unit_test(a_configuration_is_checked),
		cmocka_unit_test(what_decides_nothing_yet_is_named),
		cmocka_unit_test(what_decides_nothing_yet_lets_the_next_decide),
		cmocka_unit_test(actions_of_access_tables),
		cmocka_unit_test(each_check_asks_for_what_it_is_about),
		cmocka_unit_test(clients_are_asked_for_by_name_and_by_address),
		cmocka_unit_test(log_in_names_have_their_own_check),
		cmocka_unit_test(servers_of_a_domain_may_refuse_and_never_permit),
		cmocka_unit_test(only_what_is_an_entry_of_a_list_counts),
		cmocka_unit_test(what_is_put_off_waits_for_the_end),
		cmocka_unit_test(reply_codes_are_the_configuration_s),
		cmocka_unit_test(classes_are_lists_of_their_own),
		cmocka_unit_test(mynetworks_with_tables_are_directorys),
	};

	buf_init(&asked, 10000);
	return cmocka_run_group_tests(tests, NULL, release);
}
