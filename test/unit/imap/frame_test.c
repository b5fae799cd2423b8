#include "test.h"

#include "imap/session.h"

static struct imap_frame frame;
static unsigned continuations;

/* Feeds a unit whole, or byte by byte as a slow client would. */
static ssize_t scan(enum imap_mode mode, bool logged_in, struct str in, bool bytewise)
{
	size_t scanned = 0;
	ssize_t len = FRAME_MORE;
	unsigned go_on;

	continuations = 0;
	for (size_t n = bytewise ? 1 : in.len; n <= in.len; n++) {
		len = imap_frame_scan(&frame, mode, logged_in, str_sub(in, 0, n), &scanned, &go_on);
		continuations += go_on;
		if (len != FRAME_MORE)
			break;
	}
	return len;
}

static void check(enum imap_mode mode, bool logged_in, struct str in, ssize_t want, unsigned want_continuations)
{
	for (int bytewise = 0; bytewise < 2; bytewise++) {
		assert_int_equal(scan(mode, logged_in, in, bytewise), want);
		assert_int_equal(continuations, want_continuations);
	}
}

static void a_line_is_a_unit(void **state)
{
	(void)state;
	check(IMAP_MODE_COMMAND, true, STR("a NOOP\r\nb NOOP\r\n"), 8, 0);
	check(IMAP_MODE_COMMAND, true, STR("a NOOP\n"), 7, 0);
	check(IMAP_MODE_COMMAND, true, STR("a NOOP"), FRAME_MORE, 0);
	check(IMAP_MODE_AUTH, false, STR("eDF7}{5}\r\n"), 10, 0);
}

static void literals_belong_to_the_command(void **state)
{
	(void)state;
	check(IMAP_MODE_COMMAND, false, STR("a LOGIN {3}\r\na\nb {2+}\r\nxy\r\n"), 27, 1);
	check(IMAP_MODE_COMMAND, false, STR("a LOGIN {3}\r\na\nb {2}\r\nxy\r\n"), 26, 2);
	check(IMAP_MODE_COMMAND, false, STR("a LOGIN {0}\r\n x\r\n"), 17, 1);
	check(IMAP_MODE_COMMAND, false, STR("a LOGIN {9}\r\nabc\r\n"), FRAME_MORE, 1);
	assert_false(frame.literal);
}

static void the_message_of_append_is_not_collected(void **state)
{
	(void)state;
	check(IMAP_MODE_COMMAND, true, STR("a APPEND INBOX {300000}\r\n"), 25, 0);
	assert_true(frame.literal && frame.literal_sync && frame.literal_size == 300000);
	check(IMAP_MODE_COMMAND, true, STR("a append {5+}\r\nINBOX (\\Seen) {3+}\r\nabc"), 35, 0);
	assert_true(frame.literal && !frame.literal_sync && frame.literal_size == 3);
	check(IMAP_MODE_COMMAND, true, STR("a APPEND {5}\r\nINBOX {3}\r\n"), 25, 1);
}

static void an_oversize_literal_ends_the_unit_before_it(void **state)
{
	(void)state;
	check(IMAP_MODE_COMMAND, true, STR("a CREATE {70000+}\r\n"), 19, 0);
	assert_true(frame.literal && frame.literal_size == 70000);
	check(IMAP_MODE_COMMAND, false, STR("a LOGIN {8192}\r\n"), 16, 0);
	assert_true(frame.literal && frame.literal_sync);
	check(IMAP_MODE_COMMAND, true, STR("a CREATE {99999999999}\r\n"), 24, 0);
	check(IMAP_MODE_SKIP, true, STR(" {5+}\r\n"), 7, 0);
	assert_true(frame.literal && !frame.literal_sync);
}

static void a_line_without_end_is_too_long(void **state)
{
	char *line = malloc(IMAP_LINE_MAX + 10);

	(void)state;
	memset(line, 'x', IMAP_LINE_MAX + 10);
	assert_int_equal(scan(IMAP_MODE_COMMAND, true, str_of(line, IMAP_LINE_MAX + 10), false), FRAME_TOO_LONG);
	assert_int_equal(scan(IMAP_MODE_COMMAND, true, str_of(line, IMAP_LINE_MAX), false), FRAME_MORE);
	assert_int_equal(scan(IMAP_MODE_COMMAND, false, str_of(line, IMAP_PRELOGIN_MAX + 1), false), FRAME_TOO_LONG);
	free(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_is_a_unit),
		cmocka_unit_test(literals_belong_to_the_command),
		cmocka_unit_test(the_message_of_append_is_not_collected),
		cmocka_unit_test(an_oversize_literal_ends_the_unit_before_it),
		cmocka_unit_test(a_line_without_end_is_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
