#include "msg/charset.h"
#include "msg/header.h"
#include "msg/mutf7.h"
#include "msg/xtext.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_mailbox_names_go_both_ways(void **state)
{
	static const char *const pairs[][2] = {
		{"INBOX", "INBOX"},
		{"a&b", "a&-b"},
		{"&", "&-"},
		{"&&", "&-&-"},
		{"~peter/mail/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e",
		 "~peter/mail/&U,BTFw-/&ZeVnLIqe-"},
		{"Entw\xc3\xbcrfe", "Entw&APw-rfe"},
		{"\xf0\x9f\x98\x80", "&2D3eAA-"},
		{"\xc3\xa4\xc3\xb6", "&AOQA9g-"},
		{"\xc3\xa4&\xc3\xb6", "&AOQ-&-&APY-"},
		{"a\tb", "a&AAk-b"},
		{"", ""},
	};
	struct buf out;

	(void)state;
	buf_init(&out, 1000);
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		buf_clear(&out);
		assert_true(mutf7_encode(&out, str_from(pairs[i][0])));
		assert_string_equal(out.ptr, pairs[i][1]);
		buf_clear(&out);
		assert_true(mutf7_decode(&out, str_from(pairs[i][1])));
		assert_string_equal(out.ptr, pairs[i][0]);
	}
	buf_release(&out);
}

static void test_names_written_wrongly_match_nothing(void **state)
{
	static const char *const bad[] = {"&",	  "&AOQ",   "\xc3\xa4", "&AGE-", "&AOR-",    "&AO-",
					  "&A-",  "&!!!-",  "&2D0-",	"&3gA-", "&2D0A5A-", "&AOQ-&APY-",
					  "a\tb", "&AOQ=-", "&AAA-",	"\x7f"};
	struct buf out;

	(void)state;
	buf_init(&out, 1000);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (mutf7_decode(&out, str_from(bad[i])))
			fail_msg("accepted: %s", bad[i]);
	assert_false(mutf7_encode(&out, STR("\xff")));
	buf_release(&out);
}

static void test_xtext_goes_both_ways(void **state)
{
	struct buf out, back;

	(void)state;
	buf_init(&out, 1000);
	buf_init(&back, 1000);
	xtext_encode(&out, STR("a+b=c d\n\xff"));
	assert_string_equal(out.ptr, "a+2Bb+3Dc+20d+0A+FF");
	assert_true(xtext_decode(&back, buf_str(&out)));
	assert_string_equal(back.ptr, "a+b=c d\n\xff");
	assert_false(xtext_decode(&back, STR("a+")));
	assert_false(xtext_decode(&back, STR("a+2")));
	assert_false(xtext_decode(&back, STR("a+zz")));
	assert_false(xtext_decode(&back, STR("a=b")));
	assert_false(xtext_decode(&back, STR("a b")));
	buf_clear(&out);
	buf_clear(&back);
	xtext_utf8_encode(&out, STR("j\xc3\xb6+\\x@y"));
	assert_string_equal(out.ptr, "j\\x{F6}\\x{2B}\\x{5C}x@y");
	buf_clear(&out);
	xtext_unitext_encode(&out, STR("j\xc3\xb6+\\x@y"));
	assert_string_equal(out.ptr, "j\xc3\xb6\\x{2B}\\x{5C}x@y");
	assert_true(xtext_utf8_decode(&back, buf_str(&out)));
	assert_string_equal(back.ptr, "j\xc3\xb6+\\x@y");
	assert_false(xtext_utf8_decode(&back, STR("\\x{}")));
	assert_false(xtext_utf8_decode(&back, STR("\\x{D800}")));
	assert_false(xtext_utf8_decode(&back, STR("\\x{1234567}")));
	assert_false(xtext_utf8_decode(&back, STR("\\y")));
	buf_release(&out);
	buf_release(&back);
}

static void test_charsets_become_utf8(void **state)
{
	static const struct {
		const char *charset, *in, *want;
		bool known;
	} cases[] = {
		{"utf-8", "\xc3\xa4", "\xc3\xa4", true},
		{"UTF8", "\xff", "\xef\xbf\xbd", true},
		{"iso-8859-1", "\xe4\x80", "\xc3\xa4\xe2\x82\xac", true},
		{"ISO_8859-15", "\xa4", "\xe2\x82\xac", true},
		{"iso8859-2", "\xb1", "\xc4\x85", true},
		{"cp1251", "\xcf", "\xd0\x9f", true},
		{"koi8-r", "\xf0", "\xd0\x9f", true},
		{"windows-1252", "\x81", "\xef\xbf\xbd", true},
		{"x-unknown", "\xe4", "\xef\xbf\xbd", false},
		{"gb2312", "plain", "plain", false},
		{"", "a", "a", false},
		{"cp1", "a", "a", false},
		{"a-very-long-name-of-no-character-set-at-all", "a", "a", false},
	};
	struct buf out;

	(void)state;
	buf_init(&out, 1000);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		buf_clear(&out);
		assert_int_equal(charset_decode(&out, str_from(cases[i].charset), str_from(cases[i].in)),
				 cases[i].known);
		assert_string_equal(out.ptr, cases[i].want);
		assert_int_equal(charset_known(str_from(cases[i].charset)), cases[i].known);
	}
	buf_clear(&out);
	assert_true(charset_decode(&out, STR("utf-16"),
				   str_of("\xff\xfe"
					  "a\0"
					  "\x3d\xd8\x00\xde"
					  "x",
					  9)));
	assert_string_equal(out.ptr, "a\xf0\x9f\x98\x80\xef\xbf\xbd");
	buf_release(&out);
}

static void decoded_length_is(struct str charset, struct str in, size_t want)
{
	struct buf out;

	buf_init(&out, 10000);
	assert_true(charset_decode(&out, charset, in));
	assert_int_equal(out.len, want);
	buf_release(&out);
}

/* A word in each, and what no reader may stumble over: a character cut off, bytes that mean nothing, shifts. */
static void test_east_asian_charsets_become_utf8(void **state)
{
	static const struct {
		const char *charset, *in, *want;
	} cases[] = {
		{"GB2312", "\xd6\xd0\xce\xc4 ok", "中文 ok"},
		{"gbk", "\x81\x40", "丂"},
		{"GB18030", "\x95\x32\x82\x36", "𠀀"},
		{"Big5", "\xa4\xa4\xa4\xe5", "中文"},
		{"big5", "\x88\x62", "Ê̄"},
		{"Shift_JIS", "\x93\xfa\x96\x7b\x87\x40", "日本①"},
		{"EUC-JP", "\xc6\xfc\xcb\xdc", "日本"},
		{"ISO-2022-JP", "\x1b$BF|K\\\x1b(B.", "日本."},
		{"iso-2022-jp", "\x1b$BF|", "日"}, /* never shifted back: the next text begins in ASCII all the same */
		{"iso-2022-jp", "a", "a"},
		{"KS_C_5601-1987", "\xc7\xd1\xb1\xdb", "한글"},
		{"gbk", "\xd6", "�"},
		{"gbk",
		 "a\xff"
		 "b",
		 "a�b"},
	};
	struct buf out;

	(void)state;
	assert_false(charset_known(STR("gb2312")));
	charset_load();
	buf_init(&out, 10000);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		buf_clear(&out);
		assert_true(charset_decode(&out, str_from(cases[i].charset), str_from(cases[i].in)));
		assert_string_equal(out.ptr, cases[i].want);
	}
	buf_clear(&out);
	for (int i = 0; i < 300; i++) /* more than one piece of what iconv() writes */
		buf_add(&out, "\xd6\xd0", 2);
	decoded_length_is(STR("gb2312"), buf_str(&out), 900);
	buf_release(&out);
}

static void decode_is(const char *in, const char *want)
{
	struct arena arena;
	struct str got;

	arena_init(&arena);
	got = header_decode(str_from(in), &arena);
	if (!str_eq(got, str_from(want)))
		fail_msg("%s: got \"%.*s\", want \"%s\"", in, STR_ARG(got), want);
	arena_release(&arena);
}

static void test_encoded_words_are_decoded(void **state)
{
	(void)state;
	decode_is("plain", "plain");
	decode_is("=?utf-8?Q?K=C3=B6ln_am?= Rhein", "K\xc3\xb6ln am Rhein");
	decode_is("=?UTF-8?b?w6Q=?= =?utf-8?b?w7Y=?=", "\xc3\xa4\xc3\xb6");
	decode_is("=?utf-8?q?a?=\r\n  =?utf-8?q?b?= c", "ab c");
	decode_is("=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b");
	decode_is("=?utf-8?q?=C3?= =?utf-8?q?=A4?=", "\xc3\xa4"); /* split in mid-character */
	decode_is("=?iso-8859-1?q?=E4?= =?utf-8?q?=C3=A4?=", "\xc3\xa4\xc3\xa4");
	decode_is("=?utf-8*de?q?a?=", "a");
	decode_is("=?utf-8?q?a b?=", "a b");
	decode_is("x=?utf-8?q?a?=y", "xay");
	decode_is("=?utf-8?x?a?=", "=?utf-8?x?a?=");
	decode_is("=?utf-8?q?a", "=?utf-8?q?a");
	decode_is("=?", "=?");
	decode_is("=??q?a?=", "=??q?a?=");
	decode_is("=?utf-8?q?a=0D=0ABcc:_x?=", "a  Bcc: x"); /* no new line by decoding */
	decode_is("\xe4", "\xc3\xa4");
	decode_is("=?utf-8?b?!!!?=", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mailbox_names_go_both_ways),
		cmocka_unit_test(test_names_written_wrongly_match_nothing),
		cmocka_unit_test(test_xtext_goes_both_ways),
		cmocka_unit_test(test_charsets_become_utf8),
		cmocka_unit_test(test_east_asian_charsets_become_utf8),
		cmocka_unit_test(test_encoded_words_are_decoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
