/* Failed log-ins wait longer and longer, a client and a user, and memory stays bounded. */
#include "directory/penalty.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define FAIL(p, client, user, now) penalty_failed((p), STR(client), STR(user), (now), 1000, 15000)

static void delays_double_up_to_the_limit(void **state)
{
	struct penalty *p = penalty_new(100);
	static const uint32_t want[] = {1000, 2000, 4000, 8000, 15000, 15000, 15000};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		assert_int_equal(FAIL(p, "192.0.2.1", "alice@example.test", 0), want[i]);
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(FAIL(p, "192.0.2.1", "alice@example.test", 0), 15000);
	penalty_free(&p);
}

static void a_client_pays_for_all_users_and_a_user_for_all_clients(void **state)
{
	struct penalty *p = penalty_new(100);

	(void)state;
	assert_int_equal(FAIL(p, "192.0.2.1", "a@example.test", 0), 1000);
	assert_int_equal(FAIL(p, "192.0.2.1", "b@example.test", 0), 2000);
	assert_int_equal(FAIL(p, "192.0.2.2", "B@example.test", 0), 2000);
	assert_int_equal(FAIL(p, "192.0.2.3", "c@example.test", 0), 1000);
	assert_int_equal(FAIL(p, "192.0.2.4", "", 0), 1000);
	penalty_free(&p);
}

static void ipv6_clients_are_networks(void **state)
{
	struct penalty *p = penalty_new(100);

	(void)state;
	assert_int_equal(FAIL(p, "2001:db8::1", "a", 0), 1000);
	assert_int_equal(FAIL(p, "2001:db8::ffff", "b", 0), 2000);
	assert_int_equal(FAIL(p, "2001:db8:0:1::1", "c", 0), 1000);
	penalty_free(&p);
}

static void peace_and_success_forgive(void **state)
{
	struct penalty *p = penalty_new(100);

	(void)state;
	for (int i = 0; i < 4; i++)
		FAIL(p, "192.0.2.1", "a", 0);
	assert_int_equal(FAIL(p, "192.0.2.1", "a", 10 * 60 * 1000), 4000);
	assert_int_equal(FAIL(p, "192.0.2.1", "a", 1000 * 60 * 1000), 1000);
	FAIL(p, "192.0.2.2", "a", 1000 * 60 * 1000);
	penalty_passed(p, STR("A"));
	assert_int_equal(FAIL(p, "192.0.2.3", "a", 1000 * 60 * 1000), 1000);
	penalty_free(&p);
}

static void memory_is_bounded(void **state)
{
	struct penalty *p = penalty_new(50);
	char client[32];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(client, sizeof(client), "10.0.%d.%d", i / 256, i % 256);
		penalty_failed(p, str_from(client), str_from(client), i, 1000, 15000);
	}
	assert_true(penalty_count(p) <= 50);
	penalty_free(&p);
}

static void failures_of_all_are_counted_for_an_hour(void **state)
{
	struct penalty *p = penalty_new(100);
	const int64_t minute = 60000;

	(void)state;
	assert_int_equal(penalty_recent(p, 0), 0);
	for (int i = 0; i < 50; i++)
		FAIL(p, "192.0.2.1", "alice@example.test", i * minute);
	assert_int_equal(penalty_recent(p, 54 * minute), 50);
	assert_int_equal(penalty_recent(p, 70 * minute), 35);
	assert_int_equal(penalty_recent(p, 109 * minute), 0);
	FAIL(p, "192.0.2.1", "alice@example.test", 1000 * minute);
	assert_int_equal(penalty_recent(p, 1000 * minute), 1);
	penalty_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(delays_double_up_to_the_limit),
		cmocka_unit_test(a_client_pays_for_all_users_and_a_user_for_all_clients),
		cmocka_unit_test(ipv6_clients_are_networks),
		cmocka_unit_test(peace_and_success_forgive),
		cmocka_unit_test(memory_is_bounded),
		cmocka_unit_test(failures_of_all_are_counted_for_an_hour),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
