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
		.conf = conf, .client = &client, .client_name = STR("unknown[198.51.100.1]"), .helo = STR("client"),
		.sender = &sender, .sender_text = STR("a@b.example"), .recipient = &rcpt, .recipient_text = STR("x@y.example"),
		.recipient_class = ask.class ? ask.class : RCPT_LOCAL, .sasl_user = str_from(ask.user), .sender_owned = owned,
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
	static const char both[] = "reject_sender_login_mismatch", auth[] = "reject_authenticated_sender_login_mismatch";

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strangers_do_not_relay),        cmocka_unit_test(the_first_that_decides_ends_the_list),
		cmocka_unit_test(senders_belong_to_their_users), cmocka_unit_test(unknown_recipients_and_names),
		cmocka_unit_test(a_configuration_is_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
