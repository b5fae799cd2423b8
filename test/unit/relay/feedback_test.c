/* How many at a time: up with each good delivery, down with each bad one, dead after a row of them (qmgr(8),
 * SCHEDULER_README). */
#include "base/clock.h"
#include "relay/site.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct conf *conf;

static int setup(void **state)
{
	struct err err = ERR_NONE;

	(void)state;
	conf = conf_parse(STR("initial_destination_concurrency = 5\nminimal_backoff_time = 300s\n"
			      "smtp_destination_concurrency_limit = 12\n"
			      "smtp_destination_concurrency_negative_feedback = 1/concurrency\n"
			      "patient_destination_concurrency_failed_cohort_limit = 4\n"
			      "lazy_destination_rate_delay = 5s\n"
			      "paced_transport_rate_delay = 1m\n"
			      "lazy_destination_concurrency_limit = 12\n"),
			  "main.cf", NULL, &err);
	return conf ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	conf_unref(&conf);
	return 0;
}

static struct site site(const char *transport)
{
	static struct lane lane;
	struct site s = {.key = (char *)(uintptr_t)transport, .lane = &lane};

	site_configure(&s, conf);
	s.window = s.initial;
	return s;
}

/* `count` deliveries, with as many under way as may be. */
static void good(struct site *s, unsigned count)
{
	while (count-- > 0) {
		s->busy = (unsigned)s->window;
		site_good(s);
	}
}

static void good_deliveries_open_the_window_up_to_the_limit(void **state)
{
	struct site s = site("smtp");

	(void)state;
	assert_int_equal(s.window, 5);
	good(&s, 1);
	assert_true(s.window >= 5 && s.window <= 6);
	good(&s, 20);
	assert_true(s.window > 5);
	good(&s, 1000);
	assert_int_equal(s.window, 12);
}

/* What is not used says nothing of what could be. */
static void an_idle_window_does_not_open(void **state)
{
	struct site s = site("smtp");

	(void)state;
	for (int i = 0; i < 1000; i++) {
		s.busy = 0;
		site_good(&s);
	}
	assert_true(s.window <= s.initial);
}

static void bad_deliveries_close_it_but_one_is_always_tried(void **state)
{
	struct site s = site("smtp");

	(void)state;
	good(&s, 1000);
	site_bad(&s, conf, STR("421"), false);
	assert_true(s.window < 12);
	for (int i = 0; i < 1000; i++)
		site_bad(&s, conf, STR("421"), false);
	assert_int_equal(s.window, 1);
	/* It hung up, but it was there. */
	assert_false(site_is_dead(&s));
}

static void a_row_of_failures_is_death_and_a_delivery_in_between_is_life(void **state)
{
	struct site s = site("smtp"), patient = site("patient");
	unsigned rounds = 0, patient_rounds = 0;

	(void)state;
	for (int i = 0; i < 100; i++) {
		site_bad(&s, conf, STR("no route"), true);
		assert_false(site_is_dead(&s));
		good(&s, 5);
	}
	while (!site_is_dead(&s) && rounds < 1000) {
		site_bad(&s, conf, STR("no route"), true);
		rounds++;
	}
	while (!site_is_dead(&patient) && patient_rounds < 1000) {
		site_bad(&patient, conf, STR("no route"), true);
		patient_rounds++;
	}
	assert_in_range(rounds, 2, 12);
	assert_in_range(patient_rounds, 4, 20);
	assert_string_equal(s.dead_why, "no route");
	/* When its time is over it begins as at the first day. */
	s.dead_until = 1;
	assert_false(site_is_dead(&s));
	assert_int_equal(s.window, 5);
	free(s.dead_why);
	free(patient.dead_why);
}

static void a_rate_delay_means_one_at_a_time(void **state)
{
	struct site s = site("lazy");

	(void)state;
	assert_int_equal(s.rate_delay, 5000);
	good(&s, 1000);
	assert_int_equal(s.window, 1);
}

static void all_sites_of_a_transport_wait_for_each_other(void **state)
{
	struct site first = site("paced"), second = site("paced");
	int64_t now = clock_ms();

	(void)state;
	assert_int_equal(first.lane->rate_delay, 60000);
	assert_true(site_next_ms(&second) <= now);
	site_pace(&first);
	assert_true(site_next_ms(&second) >= now + 60000);
	assert_int_equal(second.next_ms, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_deliveries_open_the_window_up_to_the_limit),
		cmocka_unit_test(an_idle_window_does_not_open),
		cmocka_unit_test(bad_deliveries_close_it_but_one_is_always_tried),
		cmocka_unit_test(a_row_of_failures_is_death_and_a_delivery_in_between_is_life),
		cmocka_unit_test(a_rate_delay_means_one_at_a_time),
		cmocka_unit_test(all_sites_of_a_transport_wait_for_each_other),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
