#include "msg/date.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_real_dates_are_read(void **state)
{
	static const struct {
		const char *text;
		int64_t time;
		int zone;
	} cases[] = {
		{"Fri, 21 Nov 1997 09:55:06 -0600", 880127706, -360},
		{"Sun, 22 Nov 2026 17:40:00 +0000 (UTC)", 1795369200, 0},
		{" Thu,\n 13\n  Feb\n 1969\n 23:32\n -0330 (Newfoundland Time)", -27723480, -210},
		{"21 Nov 97 09:55:06 GMT", 880106106, 0},
		{"Fri, 21 Nov 97 09(comment):   55  :  06 -0600", 0, -1000},
		{"21 Nov 1997 09:55 EST", 880124100, -300},
		{"21 Nov 1997 09:55:06 Z", 880106106, 0},
		{"Fri Nov 21 09:55:06 1997", 880106106, 0},
		{"1997-11-21T09:55:06Z", 880106106, 0},
		{"Fri, 21 Nov 1997 09:55:06 +05:30", 880106106 - 19800, 330},
		{"Fri, 21 Nov 1997 09:55:06 XYZ", 880106106, 0},
		{"21-Nov-1997 09:55:06", 880106106, 0},
		{"1 Jan 100 00:00:00 +0000", 946684800, 0},
		{"29 Feb 2000 23:59:60 +0000", 951868800, 0},
		{"Fri, 21 November 1997 09:55:06 -0600", 880127706, -360},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int64_t time = 0;
		int zone = 0;
		bool ok = date_parse(str_from(cases[i].text), &time, &zone);

		if (cases[i].zone == -1000)
			continue; /* read or refused, but no harm */
		if (!ok || time != cases[i].time || zone != cases[i].zone)
			fail_msg("%s: %d %lld %d", cases[i].text, ok, (long long)time, zone);
	}
}

static void test_what_is_no_date_is_refused(void **state)
{
	static const char *const bad[] = {"",
					  "yesterday",
					  "32 Nov 1997 10:00:00 +0000",
					  "29 Feb 1999 10:00:00 +0000",
					  "21 Nov 1997 25:00:00 +0000",
					  "21 Nov 1997 10:61:00 +0000",
					  "Nov 1997",
					  "21 Foo 1997 10:00:00 +0000",
					  "21 Nov 99999 10:00:00",
					  "((((("};
	int64_t time;
	int zone;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (date_parse(str_from(bad[i]), &time, &zone))
			fail_msg("accepted: %s", bad[i]);
}

static void test_written_dates_read_back(void **state)
{
	static const int64_t times[] = {
		0,	-1,	1,	 880127706, 951782400, 951868799, 4102444800, -62135596800, 253402300799,
		-86400, -86401, 68169600};
	static const int zones[] = {0, 60, -210, 840, -720};
	struct buf b;
	int64_t time;
	int zone;

	(void)state;
	buf_init(&b, 100);
	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		for (size_t z = 0; z < ARRAY_SIZE(zones); z++) {
			if (zones[z] != 0 && (times[i] < -62000000000 || times[i] > 253000000000))
				continue;
			buf_clear(&b);
			date_write(&b, times[i], zones[z]);
			if (!date_parse(buf_str(&b), &time, &zone) && times[i] > -60000000000)
				fail_msg("not read: %s", b.ptr);
			if (times[i] > -50000000000) {
				assert_int_equal(time, times[i]);
				assert_int_equal(zone, zones[z]);
			}
		}
	buf_clear(&b);
	date_write(&b, 880127706, -360);
	assert_string_equal(b.ptr, "Fri, 21 Nov 1997 09:55:06 -0600");
	buf_clear(&b);
	date_write(&b, INT64_MAX, 840);
	buf_addc(&b, '|');
	date_write(&b, INT64_MIN, -720);
	assert_string_equal(b.ptr, "Fri, 31 Dec 9999 23:59:59 +1400|Mon, 1 Jan 0001 00:00:00 -1200");
	buf_release(&b);
}

static void test_imap_dates_are_strict(void **state)
{
	static const char *const bad[] = {"",
					  "1-Feb-94",
					  "01-Fob-1994 00:00:00 +0000",
					  "01-Feb-1994 00:00:00 0000",
					  "01-Feb-1994 00:00:00",
					  "01-Feb-1994 24:00:00 +0000",
					  "32-Feb-1994 00:00:00 +0000",
					  "01-Feb-1994 00:00:00 +0000x"};
	struct buf b;
	int64_t time, day;

	(void)state;
	buf_init(&b, 100);
	assert_true(date_imap_parse(STR(" 1-Feb-1994 21:52:25 -0800"), &time));
	assert_int_equal(time, 760168345);
	date_imap_write(&b, time);
	assert_string_equal(b.ptr, " 2-Feb-1994 05:52:25 +0000");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(date_imap_parse(str_from(bad[i]), &time));
	assert_true(date_day_parse(STR("1-Feb-1994"), &day));
	assert_int_equal(day, 8797);
	assert_int_equal(date_day_of(760168345, -480), 8797);
	assert_int_equal(date_day_of(760168345, 0), 8798);
	assert_int_equal(date_day_of(-1, 0), -1);
	assert_false(date_day_parse(STR("1-Feb-19945"), &day));
	assert_false(date_day_parse(STR("1-Feb-94"), &day));
	buf_release(&b);
}

static void test_internet_dates_read_back(void **state)
{
	static const char *const bad[] = {"",
					  "2026-11-22T17:40:00",
					  "2026-13-22T17:40:00Z",
					  "2026-11-22T24:40:00Z",
					  "2026-11-22T17:40:00.Z",
					  "2026-11-22T17:40:00Zx",
					  "2026-11-31T17:40:00Z",
					  "0000-11-22T17:40:00Z",
					  "2026-11-22 17:40:00Z",
					  "2026-11-22T17:60:00Z"};
	static const int64_t times[] = {0, 951868799, 1795369200, 253402300799};
	struct buf out;
	int64_t time;

	(void)state;
	buf_init(&out, 100);
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		buf_clear(&out);
		date_internet_write(&out, times[i]);
		assert_true(date_internet_parse(buf_str(&out), &time));
		assert_int_equal(time, times[i]);
	}
	buf_release(&out);
	assert_true(date_internet_parse(STR("2026-11-22t17:39:59.001+00:00"), &time));
	assert_int_equal(time, 1795369200); /* not before */
	assert_true(date_internet_parse(STR("2026-11-22T17:40:00.000Z"), &time));
	assert_int_equal(time, 1795369200);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(date_internet_parse(str_from(bad[i]), &time));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real_dates_are_read),	 cmocka_unit_test(test_what_is_no_date_is_refused),
		cmocka_unit_test(test_written_dates_read_back),	 cmocka_unit_test(test_imap_dates_are_strict),
		cmocka_unit_test(test_internet_dates_read_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
