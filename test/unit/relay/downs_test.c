/* What is down, since when, and whether mail waits for it. */
#include "relay/downs.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define HOUR   (3600 * 1000)
#define LONG   (4 * HOUR)
#define FORGET (2 * HOUR)

static struct downs_report look(struct downs *d, size_t messages, int64_t now)
{
	struct downs_report r;

	downs_look(d, LONG, messages, FORGET, now, &r);
	return r;
}

static void fail_every_hour(struct downs *d, const char *nexthop, const char *message, int64_t from, int64_t to)
{
	for (int64_t at = from; at <= to; at += HOUR)
		downs_failed(d, str_from(nexthop), STR("Connection refused"), str_from(message), at);
}

static void down_lasts_from_the_first_failure_until_somebody_speaks(void **state)
{
	struct downs *d = downs_new();
	struct downs_report r;

	(void)state;
	assert_int_equal(look(d, 1, 0).count, 0);
	fail_every_hour(d, "a.test", "M1", 1, 3 * HOUR + 1);
	r = look(d, 1, 3 * HOUR + 1);
	assert_int_equal(r.count, 0);
	assert_int_equal(r.oldest_ms, 3 * HOUR);
	assert_string_equal(r.where, "a.test (Connection refused)");
	fail_every_hour(d, "a.test", "M1", 4 * HOUR + 1, 4 * HOUR + 1);
	assert_int_equal(look(d, 1, 4 * HOUR + 1).count, 1);
	downs_good(d, STR("b.test"));
	assert_int_equal(look(d, 1, 4 * HOUR + 1).count, 1);
	downs_good(d, STR("a.test"));
	assert_int_equal(look(d, 1, 4 * HOUR + 1).oldest_ms, 0);
	downs_free(&d);
	assert_null(d);
}

static void it_counts_while_enough_messages_wait(void **state)
{
	struct downs *d = downs_new();

	(void)state;
	fail_every_hour(d, "a.test", "M1", 0, 5 * HOUR);
	fail_every_hour(d, "a.test", "M2", 4 * HOUR, 5 * HOUR);
	assert_int_equal(look(d, 2, 5 * HOUR).count, 1);
	assert_int_equal(look(d, 3, 5 * HOUR).count, 0);
	/* One of the two is delivered elsewhere, or deleted. */
	fail_every_hour(d, "a.test", "M1", 6 * HOUR, 7 * HOUR);
	assert_int_equal(look(d, 2, 7 * HOUR).count, 0);
	assert_int_equal(look(d, 1, 7 * HOUR).count, 1);
	/* None is tried any more: what was known goes. */
	assert_int_equal(look(d, 1, 9 * HOUR).count, 0);
	fail_every_hour(d, "a.test", "M3", 10 * HOUR, 10 * HOUR);
	assert_int_equal(look(d, 1, 10 * HOUR).oldest_ms, 0);
	downs_free(&d);
}

static void alarm_mail_does_not_count(void **state)
{
	struct downs *d = downs_new();

	(void)state;
	fail_every_hour(d, "a.test", "", 0, 9 * HOUR);
	assert_string_equal(look(d, 0, 9 * HOUR).where, "");
	downs_free(&d);
}

static void many_messages_and_many_destinations_stay_bounded(void **state)
{
	struct downs *d = downs_new();
	struct downs_report r;
	char name[40];

	(void)state;
	for (int i = 0; i < 3 * DOWNS_MAX; i++) {
		snprintf(name, sizeof(name), "d%d.test", i);
		fail_every_hour(d, name, "M", 0, 0);
	}
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "M%d", i);
		fail_every_hour(d, "d0.test", name, HOUR, HOUR);
	}
	downs_look(d, 0, 1, FORGET, HOUR, &r);
	assert_int_equal(r.count, DOWNS_MAX);
	downs_look(d, 0, 1000, FORGET, HOUR, &r);
	assert_int_equal(r.count, 1);
	downs_look(d, 0, 1, FORGET, 2 * HOUR, &r);
	assert_int_equal(r.count, 1); /* the others were not heard of since */
	downs_free(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(down_lasts_from_the_first_failure_until_somebody_speaks),
		cmocka_unit_test(it_counts_while_enough_messages_wait),
		cmocka_unit_test(alarm_mail_does_not_count),
		cmocka_unit_test(many_messages_and_many_destinations_stay_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
