/* What must hold of base/str. */
#include "base/str.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void equality_is_bytewise_and_knows_nul(void **state)
{
	(void)state;
	assert_true(str_eq(STR("a\0b"), STR("a\0b")));
	assert_false(str_eq(STR("a\0b"), STR("a\0c")));
	assert_true(str_eq(STR_NULL, STR("")));
	assert_true(str_ieq(STR("MaIl"), STR("mAiL")));
	assert_false(str_ieq(str_of("\xc4", 1), str_of("\xe4", 1))); /* ASCII only */
}

static void order_puts_the_shorter_first(void **state)
{
	(void)state;
	assert_true(str_cmp(STR("ab"), STR("abc")) < 0);
	assert_true(str_cmp(STR("b"), STR("abc")) > 0);
	assert_int_equal(str_cmp(STR_NULL, STR("")), 0);
}

static void prefixes_and_suffixes_never_read_past_the_end(void **state)
{
	(void)state;
	assert_true(str_starts(STR("MAIL FROM"), STR("MAIL")));
	assert_false(str_starts(STR("MA"), STR("MAIL")));
	assert_true(str_istarts(STR("mail from"), STR("MAIL")));
	assert_true(str_ends(STR("a.b"), STR(".b")));
	assert_false(str_ends(STR("b"), STR(".b")));
	assert_true(str_iends(STR("X.EXAMPLE"), STR(".example")));
}

static void searching_tells_the_offset_or_minus_one(void **state)
{
	(void)state;
	assert_int_equal(str_chr(STR("abcabc"), 'c'), 2);
	assert_int_equal(str_rchr(STR("abcabc"), 'c'), 5);
	assert_int_equal(str_chr(STR_NULL, 'c'), -1);
	assert_int_equal(str_find(STR("hello"), STR("ll")), 2);
	assert_int_equal(str_find(STR("he"), STR("hello")), -1);
	assert_int_equal(str_find(STR("he"), STR("")), 0);
	assert_int_equal(str_ifind(STR("xHELLO"), STR("hello")), 1);
	assert_int_equal(str_ifind(STR("xHELL"), STR("hello")), -1);
}

static void a_byte_is_one_of_a_text_but_nul_never(void **state)
{
	(void)state;
	assert_true(char_is_one_of('-', "-_."));
	assert_true(char_is_one_of('.', "-_."));
	assert_false(char_is_one_of('x', "-_."));
	assert_false(char_is_one_of('\0', "-_."));
	assert_false(char_is_one_of('\0', ""));
}

static void pieces_are_clipped(void **state)
{
	(void)state;
	assert_true(str_eq(str_sub(STR("hello"), 1, 3), STR("ell")));
	assert_true(str_eq(str_sub(STR("hello"), 4, 99), STR("o")));
	assert_int_equal(str_sub(STR("hello"), 99, 1).len, 0);
	assert_int_equal(str_skip(STR_NULL, 3).len, 0);
	assert_true(str_eq(str_trim(STR(" \t a b\r\n")), STR("a b")));
	assert_int_equal(str_trim(STR(" \r\n")).len, 0);
}

static void tokens_are_never_empty(void **state)
{
	struct str rest = STR(",, a b,,c "), token;

	(void)state;
	assert_true(str_token(&rest, ", ", &token));
	assert_true(str_eq(token, STR("a")));
	assert_true(str_token(&rest, ", ", &token));
	assert_true(str_eq(token, STR("b")));
	assert_true(str_token(&rest, ", ", &token));
	assert_true(str_eq(token, STR("c")));
	assert_false(str_token(&rest, ", ", &token));
}

static void split_gives_the_whole_without_a_separator(void **state)
{
	struct str a, b;

	(void)state;
	assert_true(str_split(STR("k=v=w"), '=', &a, &b));
	assert_true(str_eq(a, STR("k")) && str_eq(b, STR("v=w")));
	assert_false(str_split(STR("kv"), '=', &a, &b));
	assert_true(str_eq(a, STR("kv")) && b.len == 0);
}

static void numbers_are_whole_and_do_not_overflow(void **state)
{
	uint64_t n;
	uint32_t m;

	(void)state;
	assert_true(str_to_u64(STR("18446744073709551615"), &n));
	assert_true(n == UINT64_MAX);
	assert_false(str_to_u64(STR("18446744073709551616"), &n));
	assert_false(str_to_u64(STR(""), &n));
	assert_false(str_to_u64(STR("+1"), &n));
	assert_false(str_to_u64(STR("1 "), &n));
	assert_true(str_to_u32(STR("4294967295"), &m));
	assert_false(str_to_u32(STR("4294967296"), &m));
}

static void classes_and_secrets(void **state)
{
	(void)state;
	assert_true(str_is_ascii(STR("abc\x7f")));
	assert_false(str_is_ascii(str_of("\x80", 1)));
	assert_true(str_has_control(STR("a\nb")));
	assert_false(str_has_control(STR("a b")));
	assert_true(str_eq_secret(STR("secret"), STR("secret")));
	assert_false(str_eq_secret(STR("secret"), STR("secreT")));
	assert_false(str_eq_secret(STR("secret"), STR("secrets")));
	assert_true(str_hash(STR("a"), 1) != str_hash(STR("a"), 2));
	assert_true(str_hash(STR("a"), 1) != str_hash(STR("a\0"), 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equality_is_bytewise_and_knows_nul),
		cmocka_unit_test(order_puts_the_shorter_first),
		cmocka_unit_test(prefixes_and_suffixes_never_read_past_the_end),
		cmocka_unit_test(searching_tells_the_offset_or_minus_one),
		cmocka_unit_test(a_byte_is_one_of_a_text_but_nul_never),
		cmocka_unit_test(pieces_are_clipped),
		cmocka_unit_test(tokens_are_never_empty),
		cmocka_unit_test(split_gives_the_whole_without_a_separator),
		cmocka_unit_test(numbers_are_whole_and_do_not_overflow),
		cmocka_unit_test(classes_and_secrets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
