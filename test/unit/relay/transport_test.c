/* Transports of master.cf, with settings of their own. */
#include "relay/transport.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const char MASTER_CF[] = "smtp inet n - n - - smtpd\n"
				"smtp unix - - n - - smtp\n"
				"slow unix - - n - - smtp\n"
				"  -o smtp_destination_concurrency_limit=1 -o smtp_helo_name=slow.test\n"
				"  -o slow_destination_rate_delay=2s -o smtp_destination_rate_delay=9s\n"
				"dead unix - - n - - error\n";

static struct transports *make(const char *text, struct conf **conf_r, struct err *err)
{
	struct transports *t = NULL;
	struct master_cf cf;
	struct arena a;

	arena_init(&a);
	*conf_r = conf_parse(STR("smtp_helo_name = mx.test\nslow_destination_recipient_limit = 7\n"), "main.cf", NULL,
			     err);
	assert_non_null(*conf_r);
	if (master_cf_parse(str_from(text), "master.cf", &a, &cf, err) == 0)
		t = transports_new(&cf, *conf_r, err);
	arena_release(&a);
	return t;
}

static void is_set_to(const struct transport *t, const char *name, const char *value)
{
	struct buf text;

	assert_non_null(t);
	buf_init(&text, 1000);
	assert_true(conf_text(t->conf, str_from(name), &text));
	assert_string_equal(text.ptr, value);
	buf_release(&text);
}

static void a_transport_has_its_own_settings(void **state)
{
	struct err err = ERR_NONE;
	struct conf *conf;
	struct transports *t = make(MASTER_CF, &conf, &err), *other = transports_ref(t);
	const struct transport *slow = transports_find(t, STR("slow"));

	(void)state;
	transports_unref(&other);
	is_set_to(slow, "smtp_helo_name", "slow.test");
	is_set_to(slow, "slow_destination_concurrency_limit", "1");
	is_set_to(slow, "slow_destination_rate_delay", "2s");
	is_set_to(slow, "slow_destination_recipient_limit", "7");
	assert_int_equal(str_cmp(slow->command, STR("smtp")), 0);
	is_set_to(transports_find(t, STR("smtp")), "smtp_helo_name", "mx.test");
	assert_int_equal(str_cmp(transports_find(t, STR("dead"))->command, STR("error")), 0);
	assert_null(transports_find(t, STR("none")));
	assert_null(transports_find(NULL, STR("smtp")));
	conf_unref(&conf);
	transports_unref(&t);
}

static void what_cannot_be_set_is_told_with_its_line(void **state)
{
	struct err err = ERR_NONE;
	struct conf *conf;

	(void)state;
	assert_null(make("smtp inet n - n - - smtpd\nslow unix - - n - - smtp\n  -o smtp_connect_timeout=soon\n", &conf,
			 &err));
	assert_non_null(strstr(err.text, "master.cf line 2 (slow)"));
	assert_non_null(strstr(err.text, "smtp_connect_timeout"));
	conf_unref(&conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_transport_has_its_own_settings),
		cmocka_unit_test(what_cannot_be_set_is_told_with_its_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
