#include "base/clock.h"
#include "smtp/foreign.h"
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct foreign *known;

static int setup(void **state)
{
	(void)state;
	known = foreign_new();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	foreign_free(&known);
	return 0;
}

/* Noted under one name, known under another. A machine may stop for longer than it is believed: not a thousand times.
 */
static bool known_as(struct str noted, struct str asked)
{
	for (int i = 0; i < 1000; i++) {
		foreign_note(known, noted);
		if (foreign_is(known, asked))
			return true;
	}
	return false;
}

static void a_domain_is_known_in_any_case_and_no_other_is(void **state)
{
	char longest[300];

	(void)state;
	assert_false(foreign_is(known, STR("far.test")));
	assert_true(known_as(STR("Far.TEST"), STR("far.test")));
	assert_true(known_as(STR("Far.TEST"), STR("FAR.test")));
	assert_false(foreign_is(known, STR("a.far.test")));
	assert_false(foreign_is(known, STR("far.tes")));
	foreign_note(known, STR(""));
	assert_false(foreign_is(known, STR("")));
	memset(longest, 'a', sizeof(longest));
	foreign_note(known, str_of(longest, 256));
	assert_false(foreign_is(known, str_of(longest, 256)));
	assert_false(foreign_is(known, str_of(longest, 255)));
	assert_true(known_as(str_of(longest, 255), str_of(longest, 255)));
}

/* Never longer than it may, however slow the machine is; and not for nothing. */
static void it_is_believed_for_a_moment(void **state)
{
	int64_t before, after;

	(void)state;
	before = clock_ms();
	foreign_note(known, STR("far.test"));
	after = clock_ms();
	while (foreign_is(known, STR("far.test")))
		sched_yield();
	assert_true(clock_ms() >= before + FOREIGN_MS);
	while (clock_ms() < after + FOREIGN_MS)
		sched_yield();
	assert_false(foreign_is(known, STR("far.test")));
}

static void thousands_of_names_take_no_more_room(void **state)
{
	char name[32];

	(void)state;
	for (int i = 0; i < 5000; i++) {
		int len = snprintf(name, sizeof(name), "d%d.test", i);

		foreign_note(known, str_of(name, (size_t)len));
	}
	assert_true(known_as(STR("last.test"), STR("last.test")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_domain_is_known_in_any_case_and_no_other_is, setup, teardown),
		cmocka_unit_test_setup_teardown(it_is_believed_for_a_moment, setup, teardown),
		cmocka_unit_test_setup_teardown(thousands_of_names_take_no_more_room, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
