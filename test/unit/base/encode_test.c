/* What must hold of base/encode and base/utf8. */
#include "base/encode.h"
#include "base/utf8.h"
#include <setjmp.h>
#include <stdarg.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* RFC 4648 10. */
static const struct {
	struct str plain, coded;
} vectors[] = {
	{{"", 0}, {"", 0}},
	{{"f", 1}, {"Zg==", 4}},
	{{"fo", 2}, {"Zm8=", 4}},
	{{"foo", 3}, {"Zm9v", 4}},
	{{"foob", 4}, {"Zm9vYg==", 8}},
	{{"fooba", 5}, {"Zm9vYmE=", 8}},
	{{"foobar", 6}, {"Zm9vYmFy", 8}},
};

static void base64_matches_the_rfc(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		buf_clear(&b);
		base64_encode(&b, vectors[i].plain);
		assert_true(str_eq(buf_str(&b), vectors[i].coded));
		buf_clear(&b);
		assert_true(base64_decode(&b, vectors[i].coded));
		assert_true(str_eq(buf_str(&b), vectors[i].plain));
	}
	buf_release(&b);
}

static void base64_refuses_everything_that_is_not_strict(void **state)
{
	static const char *const bad[] = {
		"Z", "Zg", "Zg=", "Zg==Zg==", "Zh==", "Zm9=", "=g==", "Zm 9v", "Zm9v\n", "Z===", "Zg=a"};
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(base64_decode(&b, str_from(bad[i])));
	buf_release(&b);
}

static void hex_goes_both_ways(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 100);
	hex_encode(&b, STR("\x00\xff\x1a"));
	assert_true(str_eq(buf_str(&b), STR("00ff1a")));
	buf_clear(&b);
	assert_true(hex_decode(&b, STR("00FF1a")));
	assert_true(str_eq(buf_str(&b), STR("\x00\xff\x1a")));
	assert_false(hex_decode(&b, STR("0")));
	assert_false(hex_decode(&b, STR("0g")));
	buf_release(&b);
}

static void crc32c_is_castagnoli_in_any_pieces(void **state)
{
	char zeros[32] = {0}, data[301];

	(void)state;
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa); /* RFC 3720 B.4 */
	random_bytes(data, sizeof(data));
	for (size_t cut = 0; cut <= sizeof(data); cut++)
		assert_int_equal(crc32c(crc32c(0, data, cut), data + cut, sizeof(data) - cut),
				 crc32c(0, data, sizeof(data)));
}

static void a_forked_child_does_not_repeat_its_parents_numbers(void **state)
{
	uint64_t mine[3], other[3];
	int pair[2], status;
	pid_t pid;

	(void)state;
	(void)random_u64();
	assert_int_equal(pipe(pair), 0);
	pid = fork();
	assert_true(pid >= 0);
	for (int i = 0; i < 3; i++)
		mine[i] = random_u64();
	if (pid == 0)
		_exit(write(pair[1], mine, sizeof(mine)) == sizeof(mine) ? 0 : 1);
	assert_int_equal(read(pair[0], other, sizeof(other)), sizeof(other));
	for (int i = 0; i < 3; i++)
		for (int k = 0; k < 3; k++)
			assert_true(mine[i] != other[k] && (i == k || mine[i] != mine[k]));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(pair[0]);
	close(pair[1]);
}

static void random_below_reaches_every_value_and_no_other(void **state)
{
	unsigned seen = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		uint64_t n = random_below(5);

		assert_true(n < 5);
		seen |= 1u << n;
	}
	assert_int_equal(seen, 31);
}

static void utf8_refuses_surrogates_overlong_forms_and_halves(void **state)
{
	static const char *const bad[] = {"\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
					  "\xf5",     "\x80",	      "\xe2\x82",     "\xff"};

	(void)state;
	assert_true(utf8_valid(STR("")));
	assert_true(utf8_valid(STR("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80")));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(utf8_valid(str_from(bad[i])));
}

/* Wherever it stands between the words of ASCII that are looked at at once. */
static void utf8_is_checked_at_every_place(void **state)
{
	char text[40];

	(void)state;
	for (size_t len = 0; len <= sizeof(text); len++)
		for (size_t at = 0; at < len; at++) {
			memset(text, 'x', sizeof(text));
			assert_true(utf8_valid(str_of(text, len)));
			text[at] = '\xc3';
			assert_false(utf8_valid(str_of(text, len)));
			if (at + 1 == len)
				continue;
			text[at + 1] = '\xa4';
			assert_true(utf8_valid(str_of(text, len)));
			text[at] = 'x';
			assert_false(utf8_valid(str_of(text, len)));
		}
}

static void utf8_round_trip_of_every_code_point(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 10);
	for (uint32_t c = 0; c <= 0x10ffff; c++) {
		struct str s;

		if (c >= 0xd800 && c <= 0xdfff)
			continue;
		buf_clear(&b);
		utf8_add(&b, c);
		s = buf_str(&b);
		assert_int_equal(utf8_next(&s), c);
		assert_int_equal(utf8_next(&s), -2);
	}
	buf_release(&b);
}

static void utf8_sanitize_replaces_only_what_is_broken(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 100);
	utf8_sanitize(&b, STR("a\xff\xc3\xa4\xc3"));
	assert_true(str_eq(buf_str(&b), STR("a\xef\xbf\xbd\xc3\xa4\xef\xbf\xbd")));
	buf_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(base64_matches_the_rfc),
		cmocka_unit_test(base64_refuses_everything_that_is_not_strict),
		cmocka_unit_test(hex_goes_both_ways),
		cmocka_unit_test(crc32c_is_castagnoli_in_any_pieces),
		cmocka_unit_test(a_forked_child_does_not_repeat_its_parents_numbers),
		cmocka_unit_test(random_below_reaches_every_value_and_no_other),
		cmocka_unit_test(utf8_refuses_surrogates_overlong_forms_and_halves),
		cmocka_unit_test(utf8_is_checked_at_every_place),
		cmocka_unit_test(utf8_round_trip_of_every_code_point),
		cmocka_unit_test(utf8_sanitize_replaces_only_what_is_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
