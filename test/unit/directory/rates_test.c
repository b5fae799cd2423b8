/* Counts last for their period and not longer, case does not count, and memory stays bounded. */
#include "directory/rates.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define ADD(r, who, n, now) rates_add((r), 'm', STR(who), (n), 1000, (now))

static void counts_last_for_their_period(void **state)
{
	struct rates *r = rates_new(10);

	(void)state;
	assert_int_equal(ADD(r, "a@example.test", 1, 0), 1);
	assert_int_equal(ADD(r, "A@Example.test", 2, 999), 3);
	assert_int_equal(ADD(r, "b@example.test", 5, 999), 5);
	assert_int_equal(rates_add(r, 'r', STR("a@example.test"), 1, 1000, 999), 1);
	assert_int_equal(ADD(r, "a@example.test", 1, 1000), 1);
	rates_free(&r);
	assert_null(r);
}

static void the_one_longest_silent_is_forgotten(void **state)
{
	struct rates *r = rates_new(2);

	(void)state;
	ADD(r, "a", 1, 0);
	ADD(r, "b", 1, 0);
	ADD(r, "a", 1, 0);
	ADD(r, "c", 1, 0);
	assert_int_equal(ADD(r, "a", 1, 0), 3);
	assert_int_equal(ADD(r, "b", 1, 0), 1);
	rates_free(&r);
}

static void ipv6_clients_are_networks(void **state)
{
	char one[64], two[64];

	(void)state;
	assert_true(str_eq(rates_client(STR("2001:db8:1:2::1"), one), rates_client(STR("2001:db8:1:2:ffff::9"), two)));
	assert_false(str_eq(rates_client(STR("2001:db8:1:3::1"), one), rates_client(STR("2001:db8:1:2::1"), two)));
	assert_true(str_eq(rates_client(STR("192.0.2.1"), one), STR("192.0.2.1")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_last_for_their_period),
		cmocka_unit_test(the_one_longest_silent_is_forgotten),
		cmocka_unit_test(ipv6_clients_are_networks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
