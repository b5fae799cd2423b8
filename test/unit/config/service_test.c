#include "config/service.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct conf *make(const char *text)
{
	struct err err = ERR_NONE;
	struct conf *c = conf_parse(str_from(text), "main.cf", NULL, &err);

	assert_non_null(c);
	return c;
}

static void test_a_session_keeps_the_conf_it_took(void **state)
{
	struct service *s = service_new("smtpd", NULL, make("smtpd_timeout = 1s\n"), NULL);
	struct conf *old = service_conf(s), *now;

	(void)state;
	assert_string_equal(s->name, "smtpd");
	assert_null(service_tls(s));
	service_update(s, make("smtpd_timeout = 2s\n"), NULL);
	now = service_conf(s);
	assert_int_equal(old->smtpd_timeout, 1000);
	assert_int_equal(now->smtpd_timeout, 2000);
	service_free(&s);
	assert_null(s);
	assert_int_equal(old->smtpd_timeout, 1000);
	conf_unref(&old);
	conf_unref(&now);
}

static void *take_and_give(void *arg)
{
	for (int i = 0; i < 2000; i++) {
		struct conf *c = service_conf(arg);

		if (c->smtpd_timeout != 1000 && c->smtpd_timeout != 2000)
			abort();
		conf_unref(&c);
	}
	return NULL;
}

static void test_reload_and_sessions_do_not_disturb_each_other(void **state)
{
	struct service *s = service_new("smtpd", NULL, make("smtpd_timeout = 1s\n"), NULL);
	pthread_t threads[4];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, s), 0);
	for (int i = 0; i < 50; i++)
		service_update(s, make(i % 2 ? "smtpd_timeout = 1s\n" : "smtpd_timeout = 2s\n"), NULL);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	service_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_session_keeps_the_conf_it_took),
		cmocka_unit_test(test_reload_and_sessions_do_not_disturb_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
