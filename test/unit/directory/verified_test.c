/* What was right is known; what was wrong, is over, or has another hash, is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "directory/password.h"
#include "directory/verified.h"
#include <stdio.h>

static void what_was_right_is_known_for_a_while(void **state)
{
	struct verified *v = verified_new();
	struct str hash = STR("{PLAIN}secret"), other = STR("{PLAIN}secret2");

	(void)state;
	assert_false(verified_has(v, hash, STR("secret"), 1000));
	assert_true(verified_password(v, hash, STR("secret"), 500, 1000));
	assert_true(verified_has(v, hash, STR("secret"), 1000));
	assert_true(verified_password(v, hash, STR("secret"), 500, 1400)); /* which is no new beginning */
	assert_true(verified_has(v, hash, STR("secret"), 1499));
	assert_false(verified_has(v, hash, STR("secret"), 1500));
	assert_true(verified_password(v, hash, STR("secret"), 500, 1600));
	assert_true(verified_has(v, hash, STR("secret"), 2000));
	/* Neither another password, nor the same for another hash, nor bytes that moved from one to the other. */
	assert_false(verified_has(v, hash, STR("secret2"), 2000));
	assert_false(verified_has(v, other, STR("secret"), 2000));
	assert_false(verified_has(v, STR("{PLAIN}secre"), STR("tsecret"), 2000));
	assert_false(verified_password(v, other, STR("secret"), 500, 2000));
	verified_clear(v);
	assert_false(verified_has(v, hash, STR("secret"), 2000));
	verified_free(&v);
	assert_null(v);
}

static void what_was_wrong_is_not_remembered(void **state)
{
	struct verified *v = verified_new();
	char zeros[200] = {0};

	(void)state;
	assert_false(verified_password(v, STR("{PLAIN}secret"), STR("guess"), 500, 1000));
	assert_false(verified_has(v, STR("{PLAIN}secret"), STR("guess"), 1000));
	assert_false(verified_password(v, STR(""), STR(""), 500, 1000));
	assert_false(verified_has(v, STR(""), STR(""), 1000));
	assert_false(verified_password(v, STR("{PLAIN}secret"), str_of("secret\0x", 8), 500, 1000));
	assert_false(verified_password(v, STR("{PLAIN}secret"), str_of(zeros, sizeof(zeros)), 500, 1000));
	verified_free(&v);
}

static void nothing_is_remembered_where_it_is_off(void **state)
{
	struct verified *v = verified_new();

	(void)state;
	assert_true(verified_password(v, STR("{PLAIN}secret"), STR("secret"), 0, 1000));
	assert_false(verified_has(v, STR("{PLAIN}secret"), STR("secret"), 1000));
	assert_true(verified_password(v, STR("{PLAIN}secret"), STR("secret"), 500, 1000));
	verified_free(&v);
}

/* More than there is room for: the newest are known, and what is told is right for all. */
static void its_size_is_bounded(void **state)
{
	struct verified *v = verified_new();
	unsigned known = 0;

	(void)state;
	for (int i = 0; i < 40000; i++) {
		char hash[40];
		struct str password;

		snprintf(hash, sizeof(hash), "{PLAIN}%d", i);
		password = str_from(hash + 7);
		assert_true(verified_password(v, str_from(hash), password, 1000000, 1000 + i));
		assert_true(verified_has(v, str_from(hash), password, 1000 + i));
	}
	for (int i = 0; i < 40000; i++) {
		char hash[40];

		snprintf(hash, sizeof(hash), "{PLAIN}%d", i);
		known += verified_has(v, str_from(hash), str_from(hash + 7), 50000);
	}
	assert_in_range(known, 12000, 16384);
	verified_free(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_right_is_known_for_a_while),
		cmocka_unit_test(what_was_wrong_is_not_remembered),
		cmocka_unit_test(nothing_is_remembered_where_it_is_off),
		cmocka_unit_test(its_size_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
