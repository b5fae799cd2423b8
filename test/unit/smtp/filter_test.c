/* The data filter: where a message ends, and what of it is kept. Every case is fed whole, byte by byte, and
 * cut at every single point. */
#include "smtp/filter.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct smtp_filter_limits plain = {.line_max = 1000, .header_max = 4000, .field_max = 20};

struct run {
	struct smtp_filter f;
	struct arena arena;
	struct buf out;
	size_t taken;
	bool done;
};

static void run_begin(struct run *r, const struct smtp_filter_limits *limits)
{
	memset(r, 0, sizeof(*r));
	arena_init(&r->arena);
	buf_init(&r->out, 1 << 24);
	smtp_filter_init(&r->f, limits, &r->arena);
}

static void run_feed(struct run *r, struct str in, size_t piece)
{
	size_t at = 0;

	while (at < in.len && !r->done) {
		struct str part = str_sub(in, at, piece);

		while (part.len > 0 && !r->done) {
			size_t n = smtp_filter_take(&r->f, part, &r->out, &r->done);

			assert_true(n > 0 || r->done);
			assert_true(n <= part.len);
			r->taken += n;
			part = str_skip(part, n);
		}
		at += piece;
	}
}

static void run_end(struct run *r)
{
	smtp_filter_release(&r->f);
	buf_release(&r->out);
	arena_release(&r->arena);
}

/* wire: what the client sends behind 354. stored: what must be kept, NULL when the end must not be found.
 * rest: bytes that must stay input. */
static void check_one(struct run *r, const char *wire, const char *stored, size_t rest)
{
	if (stored == NULL) {
		assert_false(r->done);
		return;
	}
	assert_true(r->done);
	assert_int_equal(r->taken, strlen(wire) - rest);
	smtp_filter_finish(&r->f, &r->out);
	assert_string_equal(r->out.ptr, stored);
}

static void check(const char *wire, const char *stored, size_t rest)
{
	struct str in = str_from(wire);
	struct run r;

	for (size_t piece = 1; piece <= in.len; piece++) {
		run_begin(&r, &plain);
		run_feed(&r, in, piece);
		check_one(&r, wire, stored, rest);
		run_end(&r);
	}
	for (size_t cut = 1; cut < in.len; cut++) {
		run_begin(&r, &plain);
		run_feed(&r, str_sub(in, 0, cut), cut);
		if (!r.done)
			run_feed(&r, str_skip(in, cut), in.len);
		check_one(&r, wire, stored, rest);
		run_end(&r);
	}
}

static void data_ends_with_crlf_dot_crlf(void **state)
{
	(void)state;
	check("A: b\r\n\r\nhello\r\n.\r\n", "A: b\n\nhello\n", 0);
	check("A: b\r\n\r\nhello\r\n.\r\nQUIT\r\n", "A: b\n\nhello\n", 6);
	check(".\r\n", "", 0);
	check("A: b\r\n.\r\n", "A: b\n", 0);
	check("\r\n.\r\n", "\n", 0);
}

static void nothing_else_ends_it(void **state)
{
	static const char *const ends[] = {"\n.\n",	"\n.\r\n",   "\r\n.\n",	    "\r.\r",
					   "\r.\r\n",	"\r\n.\r",   "\r\n.\r\r\n", "\r\n. \r\n",
					   "\n\n.\r\n", "\r\r.\r\r", "\n.\r\r\n",   "\r\n\r.\r\n"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		char wire[100];

		snprintf(wire, sizeof(wire), "A: b\r\n\r\nx%sMAIL FROM:<evil@x>\r\n", ends[i]);
		check(wire, NULL, 0);
	}
}

static void stuffing_is_undone_once_and_only_behind_crlf(void **state)
{
	(void)state;
	check("A: b\r\n\r\n..x\r\n...\r\n.y\r\n.\r\n", "A: b\n\n.x\n..\ny\n", 0);
	check("A: b\r\n\r\nx\n..y\r\n.\r\n", "A: b\n\nx\n..y\n", 0);
	check("A: b\r\n\r\nx\n.\ny\r\n.\r\n", "A: b\n\nx\n.\ny\n", 0);
}

static void bare_line_feeds_become_line_ends(void **state)
{
	struct run r;

	(void)state;
	check("A: b\n\nx\ny\r\n.\r\n", "A: b\n\nx\ny\n", 0);
	run_begin(&r, &plain);
	run_feed(&r, STR("A: b\n\nx\ny\r\n.\r\n"), 100);
	assert_true(r.f.bare_lf);
	assert_false(r.f.as_is);
	assert_int_equal(r.f.wire_size, strlen("A: b\r\n\r\nx\r\ny\r\n"));
	run_end(&r);
}

static void a_bare_cr_is_kept(void **state)
{
	(void)state;
	check("A: b\r\n\r\nx\ry\r\r\rz\r\n.\r\n", "A: b\n\nx\ry\r\r\rz\n", 0);
}

static void cr_cr_lf_is_marked_as_is(void **state)
{
	static const char wire[] = "A: b\r\n\r\nx\r\r\ny\r\n.\r\n";
	struct run r;

	(void)state;
	check(wire, "A: b\n\nx\r\ny\n", 0);
	for (size_t piece = 1; piece < sizeof(wire); piece++) {
		run_begin(&r, &plain);
		run_feed(&r, str_from(wire), piece);
		assert_true(r.f.as_is);
		assert_int_equal(r.f.wire_size, strlen(wire) - 3);
		run_end(&r);
	}
}

static void header_is_seen(void **state)
{
	struct run r;

	(void)state;
	run_begin(&r, &plain);
	run_feed(&r,
		 STR("Received: a\r\n\tb\r\nreceived : c\r\nDate: x\r\nMessage-ID:\r\n <1@x>\r\nDelivered-To: "
		     "bob@x\r\n\r\n"
		     "Received: not\r\n.\r\n"),
		 1000);
	assert_int_equal(r.f.hops, 2);
	assert_true(r.f.has_date && r.f.has_message_id && !r.f.has_from);
	assert_int_equal(r.f.message_id.len, 5);
	assert_int_equal(r.f.delivered_to_count, 1);
	assert_memory_equal(r.f.delivered_to[0].ptr, "bob@x", 5);
	run_end(&r);
}

static void submission_drops_bcc(void **state)
{
	struct smtp_filter_limits limits = plain;
	static const char wire[] = "To: a\r\nBcc: b,\r\n c\r\nSubject: x\r\n\r\nBcc: stays\r\n.\r\n";

	(void)state;
	limits.submission = true;
	for (size_t piece = 1; piece < sizeof(wire); piece++) {
		struct run r;

		run_begin(&r, &limits);
		run_feed(&r, str_from(wire), piece);
		assert_string_equal(r.out.ptr, "To: a\nSubject: x\n\nBcc: stays\n");
		assert_int_equal(r.f.wire_size, strlen("To: a\r\nSubject: x\r\n\r\nBcc: stays\r\n"));
		run_end(&r);
	}
}

static void a_removed_field_at_the_end_of_the_header_is_not_counted(void **state)
{
	struct smtp_filter_limits limits = plain;
	struct run r;

	(void)state;
	limits.submission = true;
	run_begin(&r, &limits);
	run_feed(&r, STR("To: a\r\nBcc: b\r\n\r\nx\r\n.\r\n"), 100);
	assert_string_equal(r.out.ptr, "To: a\n\nx\n");
	assert_int_equal(r.f.wire_size, strlen("To: a\r\n\r\nx\r\n"));
	run_end(&r);
}

static void a_body_without_header_gets_its_empty_line(void **state)
{
	(void)state;
	check("hello\r\n.\r\n", "\nhello\n", 0);
	check("A: b\r\nhello world\r\n.\r\n", "A: b\n\nhello world\n", 0);
	check("From x@y Mon\r\nA: b\r\n\r\nc\r\n.\r\n", "X-Mailbox-Line: From x@y Mon\nA: b\n\nc\n", 0);
}

static enum smtp_filter_refusal refusal(const struct smtp_filter_limits *limits, const char *head, const char *unit,
					int times)
{
	enum smtp_filter_refusal why;
	struct run r;

	run_begin(&r, limits);
	run_feed(&r, str_from(head), 100);
	for (int i = 0; i < times; i++)
		run_feed(&r, str_from(unit), 100);
	run_feed(&r, STR("\r\n\r\n.\r\nNOOP\r\n"), 100);
	assert_true(r.done);
	assert_int_equal(r.taken, strlen(head) + strlen(unit) * (size_t)times + 7);
	why = r.f.refused;
	run_end(&r);
	return why;
}

static void limits_refuse_and_swallow(void **state)
{
	struct smtp_filter_limits limits = plain;

	(void)state;
	assert_int_equal(refusal(&limits, "A: ", "yyyyyyyyyyyyyyyyyyyy", 20), FILTER_OK);
	assert_int_equal(refusal(&limits, "A: ", "yyyyyyyyyyyyyyyyyyyy", 100), FILTER_HEADER_LINE);
	assert_int_equal(refusal(&limits, "A: ", "yyyyyyyyyyyyyyyyyy\r\n ", 100), FILTER_HEADER_LINE);
	assert_int_equal(refusal(&limits, "", "A: b\r\n", 21), FILTER_HEADER_COUNT);
	limits.field_max = 100000;
	assert_int_equal(refusal(&limits, "", "A: b\r\n", 1000), FILTER_HEADER_SIZE);
	limits.message_max = 1000;
	assert_int_equal(refusal(&limits, "\r\n", "body line\r\n", 1000), FILTER_TOO_LARGE);
}

static void chunks(struct run *r, const char *const *parts)
{
	run_begin(r, &plain);
	for (; *parts; parts++) {
		r->done = false;
		smtp_filter_chunk(&r->f, strlen(*parts));
		/* What follows the chunk must not be touched. */
		char wire[200];
		size_t before = r->taken;

		snprintf(wire, sizeof(wire), "%sBDAT 1\r\n", *parts);
		run_feed(r, str_from(wire), 1 + strlen(*parts) / 2);
		assert_true(r->done);
		assert_int_equal(r->taken - before, strlen(*parts));
	}
	smtp_filter_finish(&r->f, &r->out);
}

static void bdat_counts_and_joins_chunks(void **state)
{
	struct run r;

	(void)state;
	chunks(&r, (const char *const[]){"A: b\r\n\r\n.\r\n..x\r", "\nend", NULL});
	assert_string_equal(r.out.ptr, "A: b\n\n.\n..x\nend");
	assert_int_equal(r.f.wire_size, strlen("A: b\r\n\r\n.\r\n..x\r\nend"));
	assert_false(r.f.as_is);
	run_end(&r);
	chunks(&r, (const char *const[]){"A: b\r\n\r\nx\r", NULL});
	assert_string_equal(r.out.ptr, "A: b\n\nx\r");
	run_end(&r);
	chunks(&r, (const char *const[]){"A: b", "c", NULL});
	assert_string_equal(r.out.ptr, "A: bc");
	run_end(&r);
}

static void large_bodies_stream(void **state)
{
	struct buf wire;
	struct run r;

	(void)state;
	buf_init(&wire, 1 << 24);
	buf_addz(&wire, "A: b\r\n\r\n");
	for (int i = 0; i < 20000; i++)
		buf_addz(&wire, "0123456789012345678901234567890123456789\r\n");
	buf_addz(&wire, ".\r\n");
	run_begin(&r, &plain);
	run_feed(&r, buf_str(&wire), 65536);
	assert_true(r.done);
	assert_int_equal(r.out.len, 6 + 20000 * 41);
	assert_int_equal(r.f.wire_size, wire.len - 3);
	run_end(&r);
	buf_release(&wire);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_ends_with_crlf_dot_crlf),
		cmocka_unit_test(nothing_else_ends_it),
		cmocka_unit_test(stuffing_is_undone_once_and_only_behind_crlf),
		cmocka_unit_test(bare_line_feeds_become_line_ends),
		cmocka_unit_test(a_bare_cr_is_kept),
		cmocka_unit_test(cr_cr_lf_is_marked_as_is),
		cmocka_unit_test(header_is_seen),
		cmocka_unit_test(submission_drops_bcc),
		cmocka_unit_test(a_removed_field_at_the_end_of_the_header_is_not_counted),
		cmocka_unit_test(a_body_without_header_gets_its_empty_line),
		cmocka_unit_test(limits_refuse_and_swallow),
		cmocka_unit_test(bdat_counts_and_joins_chunks),
		cmocka_unit_test(large_bodies_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
