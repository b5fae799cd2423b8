#include "msg/header.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void expect(struct str got, const char *want)
{
	if (!str_eq(got, str_from(want)))
		fail_msg("got \"%.*s\", want \"%s\"", STR_ARG(got), want);
}

static void test_fields_are_split_at_lf_and_crlf_alike(void **state)
{
	struct str rest = STR("From: a\r\nSubject : one\r\n\ttwo\nno field here\nX:\n\nbody\n");
	struct header h;

	(void)state;
	assert_true(header_next(&rest, &h));
	expect(h.name, "From");
	expect(h.value, " a");
	expect(h.raw, "From: a\r\n");
	assert_true(header_next(&rest, &h));
	expect(h.name, "Subject");
	expect(h.value, " one\r\n\ttwo");
	assert_true(header_next(&rest, &h));
	assert_int_equal(h.name.len, 0);
	expect(h.raw, "no field here\n");
	assert_true(header_next(&rest, &h));
	expect(h.name, "X");
	expect(h.value, "");
	assert_false(header_next(&rest, &h));
	expect(rest, "body\n");
	assert_true(header_next(&rest, &h));
	assert_false(header_next(&rest, &h));
	assert_false(header_next(&rest, &h));
}

static void test_header_size_ends_behind_the_empty_line(void **state)
{
	(void)state;
	assert_int_equal(header_size(STR("A: b\r\n\r\nbody")), 8);
	assert_int_equal(header_size(STR("A: b\n\nbody")), 6);
	assert_int_equal(header_size(STR("\nbody")), 1);
	assert_int_equal(header_size(STR("A: b\n")), 5);
	assert_int_equal(header_size(STR("A: b")), 4);
	assert_int_equal(header_size(STR("")), 0);
	assert_int_equal(header_size(STR("A: b\n\r")), 6);
}

static void test_find_ignores_case_and_unfold_joins(void **state)
{
	struct arena arena;
	struct header h;

	(void)state;
	arena_init(&arena);
	assert_true(header_find(STR("A: b\nsUBJECT: x\r\n\ty \n\nSubject: no\n"), "Subject", &h));
	expect(header_unfold(h.value, &arena), "x\ty");
	assert_false(header_find(STR("A: b\n\nSubject: no\n"), "Subject", &h));
	expect(header_unfold(str_of(" a\0b\rc\n d", 9), &arena), "a b c d");
	arena_release(&arena);
}

static void write_is(const char *name, const char *value, bool encode, const char *want)
{
	struct buf b;

	buf_init(&b, 1000000);
	header_write(&b, name, str_from(value), encode);
	if (strcmp(b.ptr, want) != 0)
		fail_msg("got \"%s\", want \"%s\"", b.ptr, want);
	buf_release(&b);
}

static void test_written_fields_fold_between_words_only(void **state)
{
	(void)state;
	write_is("A", "b", false, "A: b\n");
	write_is("A", "", false, "A:\n");
	write_is("A", "b\r\nInjected: c", false, "A: b Injected: c\n");
	write_is("Subject",
		 "aaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb cccccccccccccccccccccccccc ddddd", false,
		 "Subject: aaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n cccccccccccccccccccccccccc "
		 "ddddd\n");
	write_is("Subject",
		 "Gr\xc3\xbc\xc3\x9f"
		 "e aus K\xc3\xb6ln",
		 true, "Subject: =?UTF-8?Q?Gr=C3=BC=C3=9Fe?= aus =?UTF-8?Q?K=C3=B6ln?=\n");
	write_is("Subject", "\xe4\xbd\xa0\xe5\xa5\xbd", true, "Subject: =?UTF-8?B?5L2g5aW9?=\n");
	write_is("Subject", "\xff", true, "Subject: =?UTF-8?B?77+9?=\n");
	write_is("Subject",
		 "Gr\xc3\xbc\xc3\x9f"
		 "e",
		 false,
		 "Subject: Gr\xc3\xbc\xc3\x9f"
		 "e\n");
}

static void test_encoded_lines_stay_short_and_characters_whole(void **state)
{
	struct buf value, out;
	struct str rest, line;

	(void)state;
	buf_init(&value, 100000);
	buf_init(&out, 1000000);
	for (int i = 0; i < 3000; i++)
		buf_addz(&value, i % 7 ? "\xf0\x9f\x98\x80" : "\xc3\xa4 a");
	header_write(&out, "Subject", buf_str(&value), true);
	rest = buf_str(&out);
	while (str_token(&rest, "\n", &line))
		assert_true(line.len <= 76);
	buf_release(&value);
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields_are_split_at_lf_and_crlf_alike),
		cmocka_unit_test(test_header_size_ends_behind_the_empty_line),
		cmocka_unit_test(test_find_ignores_case_and_unfold_joins),
		cmocka_unit_test(test_written_fields_fold_between_words_only),
		cmocka_unit_test(test_encoded_lines_stay_short_and_characters_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
