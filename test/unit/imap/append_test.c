#include "test.h"

#include "imap/append.h"

static void filter(const char *in, size_t piece, const char *want, unsigned lines)
{
	struct imap_append_filter f = {.left = strlen(in)};
	struct buf out;
	bool done = false;

	buf_init(&out, 1000);
	for (size_t at = 0; !done;)
		at += imap_append_filter(&f, str_sub(str_from(in), at, piece), &out, &done);
	assert_str(buf_str(&out), want);
	assert_int_equal(f.lines, lines);
	buf_release(&out);
}

static void crlf_becomes_lf_in_whatever_pieces_it_comes(void **state)
{
	static const struct {
		const char *in, *want;
		unsigned lines;
	} cases[] = {
		{"a\r\nb\r\n", "a\nb\n", 2}, {"a\nb", "a\nb", 1},   {"a\rb", "a\rb", 0}, {"a\r\r\nb", "a\nb", 1},
		{"\r\n\r\n", "\n\n", 2},     {"end\r", "end\r", 0}, {"\r\r", "\r\r", 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (size_t piece = 1; piece < 8; piece++)
			filter(cases[i].in, piece, cases[i].want, cases[i].lines);
	}
}

static void what_follows_the_literal_is_left_alone(void **state)
{
	struct imap_append_filter f = {.left = 3};
	struct buf out;
	bool done;

	(void)state;
	buf_init(&out, 100);
	assert_int_equal(imap_append_filter(&f, STR("abcdef"), &out, &done), 3);
	assert_true(done);
	assert_str(buf_str(&out), "abc");
	buf_release(&out);
}

static void only_a_message_that_lf_gives_back_is_clean(void **state)
{
	(void)state;
	assert_true(imap_append_is_clean(STR("a\r\nb\rc\r\n")));
	assert_true(imap_append_is_clean(STR("")));
	assert_false(imap_append_is_clean(STR("a\n")));
	assert_false(imap_append_is_clean(STR("\n")));
	assert_false(imap_append_is_clean(STR("a\r\r\n")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crlf_becomes_lf_in_whatever_pieces_it_comes),
		cmocka_unit_test(what_follows_the_literal_is_left_alone),
		cmocka_unit_test(only_a_message_that_lf_gives_back_is_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
