#include "test.h"

#include "imap/search.h"
#include "msg/header.h"

static const char message[] = "Return-Path: <x@y>\n"
			      "From: =?utf-8?Q?J=C3=BCrgen?= <jurgen@example.test>\n"
			      "To: alice@example.test\n"
			      "Subject: =?iso-8859-1?Q?Gr=FC=DFe?= and more\n"
			      "Date: Tue, 1 Feb 1994 23:30:00 -0800\n"
			      "X-Empty:\n"
			      "Content-Type: multipart/mixed; boundary=b\n"
			      "\n"
			      "preamble\n"
			      "--b\n"
			      "Content-Type: text/plain; charset=utf-8\n"
			      "Content-Transfer-Encoding: base64\n"
			      "\n"
			      "w4RwZmVsIHVuZCBCaXJuZW4K\n"
			      "--b\n"
			      "Content-Type: application/octet-stream; name=\"report.bin\"\n"
			      "\n"
			      "hidden\n"
			      "--b\n"
			      "Content-Type: message/rfc822\n"
			      "\n"
			      "Subject: inner subject\n"
			      "\n"
			      "inner text\n"
			      "--b--\n";
#define PREFIX_LEN 19 /* Return-Path */

static struct arena arena;
static struct summary summary;
static struct message_meta meta;
static struct str raw;

static const struct message_meta *get_meta(struct imap_candidate *c)
{
	(void)c;
	return &meta;
}

static const struct summary *get_summary(struct imap_candidate *c)
{
	(void)c;
	return &summary;
}

static const struct str *get_message(struct imap_candidate *c)
{
	c->prefix_len = PREFIX_LEN;
	return &raw;
}

static int setup(void **state)
{
	(void)state;
	arena_init(&arena);
	raw = str_from(message);
	summary_parse(str_skip(raw, PREFIX_LEN), &arena, &summary);
	meta = (struct message_meta){.uid = 7, .size = 1000, .date = 760000000 /* 31-Jan-1994 */, .found = 1};
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_release(&arena);
	return 0;
}

static bool parse(const char *text, struct imap_search *search)
{
	struct imap_parser p;

	imap_parser_init(&p, str_from(text), &arena);
	return imap_search_parse(&p, NULL, search);
}

static bool matches(const char *text)
{
	struct imap_search search;
	struct imap_candidate c = {
		.seq = 3,
		.entry = {.uid = 7, .flags = FLAG_SEEN | FLAG_FLAGGED, .modseq = 12},
		.recent = true,
		.meta = get_meta,
		.summary = get_summary,
		.message = get_message,
	};
	bool found;

	if (!parse(text, &search))
		fail_msg("cannot parse%s", text);
	found = imap_search_match(search.root, &c);
	imap_candidate_release(&c);
	return found;
}

static void many_texts_are_too_complex(void **state)
{
	struct imap_search search;
	struct buf command;

	(void)state;
	buf_init(&command, 1 << 16);
	for (int i = 0; i < IMAP_SEARCH_TEXTS_MAX; i++)
		buf_addz(&command, " NOT BODY x");
	assert_true(parse(command.ptr, &search));
	buf_addz(&command, " BODY y BODY z");
	assert_false(parse(command.ptr, &search));
	buf_release(&command);
}

static void keys_that_match_and_keys_that_do_not(void **state)
{
	static const char *const yes[] = {
		" ALL",
		" SEEN FLAGGED",
		" UNDELETED",
		" NOT DELETED",
		" RECENT",
		" OR DELETED SEEN",
		" (SEEN (FLAGGED))",
		" LARGER 999",
		" SMALLER 1001",
		" MODSEQ 12",
		" MODSEQ \"/flags/\\\\draft\" all 12",
		" BEFORE 2-Feb-1994",
		" SINCE 31-Jan-1994",
		" ON 31-Jan-1994",
		" SENTON 1-Feb-1994",
		" SENTBEFORE 2-Feb-1994",
		" SENTSINCE 1-Feb-1994",
		" FROM \"J\xc3\x9cRGEN\"",
		" FROM jurgen@EXAMPLE",
		" TO alice",
		(" SUBJECT \"gr\xc3\xbc\xc3\x9f"
		 "e AND\""),
		" HEADER X-Empty \"\"",
		" HEADER Return-Path x@y",
		" HEADER subject MORE",
		" BODY \"\xc3\x84pfel UND\"",
		" BODY \"\xc3\xa4PFEL\"",
		" BODY \"inner text\"",
		" BODY \"inner subject\"",
		" TEXT return-path",
		" TEXT alice",
		" TEXT birnen",
		" BODY report.bin",
		" CHARSET ISO-8859-1 BODY \xc4pfel",
		" BODY \"\"",
		" UNKEYWORD $x",
	};
	static const char *const no[] = {
		" DELETED",
		" UNSEEN",
		" OLD",
		" NEW",
		" LARGER 1000",
		" SMALLER 1000",
		" MODSEQ 13",
		" BEFORE 31-Jan-1994",
		" SENTBEFORE 1-Feb-1994",
		" FROM bob",
		" CC alice",
		" HEADER X-None \"\"",
		" BODY hidden",
		" BODY alice@example",
		" KEYWORD $x",
		" NOT ALL",
		" TEXT nowhere",
		" SUBJECT inner",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (!matches(yes[i]))
			fail_msg("does not match:%s", yes[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(no); i++) {
		if (matches(no[i]))
			fail_msg("matches:%s", no[i]);
	}
}

static void broken_searches_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		" ",
		" FOO",
		" (SEEN",
		" NOT",
		" OR SEEN",
		" SUBJECT",
		" LARGER x",
		" BEFORE 1-Foo-1994",
		" ()",
		" SEEN)",
		" RETURN (FOO) ALL",
		" RETURN (MIN ALL",
		" CHARSET UTF-8",
	};
	struct imap_search search;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (parse(bad[i], &search))
			fail_msg("accepted:%s", bad[i]);
		assert_false(search.bad_charset);
	}
}

static void an_unknown_charset_is_named_as_such(void **state)
{
	struct imap_search search;

	(void)state;
	assert_false(parse(" CHARSET x-klingon BODY a", &search));
	assert_true(search.bad_charset);
}

static void nesting_and_keys_are_limited(void **state)
{
	struct imap_search search;
	struct buf text;

	(void)state;
	buf_init(&text, 100000);
	for (int i = 0; i < 1000; i++)
		buf_addz(&text, i ? "(" : " (");
	assert_false(parse(text.ptr, &search));
	buf_clear(&text);
	for (int i = 0; i < 2000; i++)
		buf_addz(&text, " SEEN");
	assert_false(parse(text.ptr, &search));
	buf_release(&text);
}

static void return_options_ask_for_esearch(void **state)
{
	struct imap_search search;

	(void)state;
	assert_true(parse(" RETURN () ALL", &search));
	assert_true(search.esearch && search.returns == RETURN_ALL);
	assert_true(parse(" RETURN (MIN COUNT) CHARSET UTF-8 ALL", &search));
	assert_int_equal(search.returns, RETURN_MIN | RETURN_COUNT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(keys_that_match_and_keys_that_do_not, setup, teardown),
		cmocka_unit_test_setup_teardown(many_texts_are_too_complex, setup, teardown),
		cmocka_unit_test_setup_teardown(broken_searches_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(an_unknown_charset_is_named_as_such, setup, teardown),
		cmocka_unit_test_setup_teardown(nesting_and_keys_are_limited, setup, teardown),
		cmocka_unit_test_setup_teardown(return_options_ask_for_esearch, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
