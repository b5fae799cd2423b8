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
	const char *client, *user, *owns;
	enum rcpt_class class;
};

/* "permit", "dunno", or the reply. */
static const char *eval(const char *list, struct ask ask)
{
	static char text[400];
	struct conf *conf = conf_of("mynetworks = 127.0.0.0/8, 192.0.2.0/24\n");
	struct address sender = {STR("a"), STR("b.example")}, rcpt = {STR("x"), STR("y.example")};
	struct net_addr client;
	struct policy_request r = {
		.conf = conf,
		.client = &client,
		.client_name = STR("unknown[198.51.100.1]"),
		.helo = STR("client"),
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

	assert_true(net_addr_parse(str_from(ask.client ? ask.client : "198.51.100.1"), 1, &client));
	verdict = policy_eval(str_from(list), &r, &code, &err);
	conf_unref(&conf);
	if (verdict == POLICY_REFUSE)
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
		{"smtpd_restriction_classes = greylist\nsmtpd_client_restrictions = greylist\n", true},
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
	assert_string_equal(out.ptr, "smtpd_client_restrictions:reject_rbl_client "
				     "smtpd_client_restrictions:hash:/etc/postfix/access "
				     "smtpd_recipient_restrictions:check_policy_service ");
	buf_release(&out);
	conf_unref(&conf);
}

static void what_decides_nothing_yet_lets_the_next_decide(void **state)
{
	(void)state;
	assert_string_equal(eval("reject_rbl_client permit, check_client_access hash:/x reject", (struct ask){0}),
			    "554 5.7.1");
	assert_string_equal(eval("warn_if_reject reject_unknown_client_hostname, reject", (struct ask){0}),
			    "554 5.7.1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strangers_do_not_relay),
		cmocka_unit_test(the_first_that_decides_ends_the_list),
		cmocka_unit_test(senders_belong_to_their_users),
		cmocka_unit_test(unknown_recipients_and_names),
		cmocka_unit_test(a_configuration_is_checked),
		cmocka_unit_test(what_decides_nothing_yet_is_named),
		cmocka_unit_test(what_decides_nothing_yet_lets_the_next_decide),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
