#include "msg/verp.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void the_recipient_stands_in_the_sender(void **state)
{
	static const struct {
		const char *delimiters, *sender, *recipient, *expect;
	} cases[] = {
		{"+=", "owner-list@a.test", "user@b.test", "owner-list+user=b.test@a.test"},
		{"-=", "owner-list@a.test", "user@b.test", "owner-list-user=b.test@a.test"},
		{"+=", "owner-list@a.test", "user+ext@b.test", "owner-list+user+ext=b.test@a.test"},
		{"+=", "owner-list@a.test", "user", "owner-list+user@a.test"},
		{"+=", "owner-list@a.test", "\"a b\"@b.test", "\"owner-list+a b=b.test\"@a.test"},
		{"+=", "\"my list\"@a.test", "user@b.test", "\"my list+user=b.test\"@a.test"},
		{"+=", "list@a.test", "\"x@y\"@b.test", "\"list+x@y=b.test\"@a.test"},
		{"+=", "list@a.test", "u@[192.0.2.1]", "\"list+u=[192.0.2.1]\"@a.test"},
		{"", "list@a.test", "user@b.test", "list@a.test"},
		{"+=", "", "user@b.test", ""},
	};
	struct arena a;

	(void)state;
	arena_init(&a);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct str got = verp_sender(&a, str_from(cases[i].delimiters), str_from(cases[i].sender),
					     str_from(cases[i].recipient));

		if (!str_eq(got, str_from(cases[i].expect)))
			fail_msg("%s: got %.*s", cases[i].expect, STR_ARG(got));
	}
	arena_release(&a);
}

static void delimiters_are_two_of_those_allowed(void **state)
{
	(void)state;
	assert_true(verp_delimiters_ok(STR("+="), STR("-=+")));
	assert_true(verp_delimiters_ok(STR("--"), STR("-=+")));
	assert_false(verp_delimiters_ok(STR("+"), STR("-=+")));
	assert_false(verp_delimiters_ok(STR("+=-"), STR("-=+")));
	assert_false(verp_delimiters_ok(STR("@="), STR("-=+")));
	assert_false(verp_delimiters_ok(STR("+\0"), STR("-=+")));
	assert_false(verp_delimiters_ok(STR(""), STR("")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_recipient_stands_in_the_sender),
		cmocka_unit_test(delimiters_are_two_of_those_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
