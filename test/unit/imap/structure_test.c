#include "test.h"

#include "imap/reply.h"
#include "imap/structure.h"

static struct arena arena;

static int setup(void **state)
{
	(void)state;
	arena_init(&arena);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_release(&arena);
	return 0;
}

static void check_envelope(const char *message, const char *want)
{
	struct buf out;

	buf_init(&out, 100000);
	imap_add_envelope(&out, mime_parse(str_from(message), &arena)->envelope);
	assert_str(buf_str(&out), want);
	buf_release(&out);
}

static void check_structure(const char *message, bool extended, const char *want)
{
	struct buf out;

	buf_init(&out, 100000);
	imap_add_structure(&out, mime_parse(str_from(message), &arena), extended);
	assert_str(buf_str(&out), want);
	buf_release(&out);
}

static void the_envelope_of_rfc_3501_section_8(void **state)
{
	(void)state;
	check_envelope("Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n"
		       "From: Terry Gray <gray@cac.washington.edu>\r\n"
		       "Subject: IMAP4rev1 WG mtg summary and minutes\r\n"
		       "To: imap@cac.washington.edu\r\n"
		       "cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n"
		       "Message-Id: <B27397-0100000@cac.washington.edu>\r\n"
		       "MIME-Version: 1.0\r\n"
		       "Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n"
		       "\r\n",
		       "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \"IMAP4rev1 WG mtg summary and minutes\" "
		       "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
		       "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
		       "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
		       "((NIL NIL \"imap\" \"cac.washington.edu\")) "
		       "((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")(\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) "
		       "NIL NIL \"<B27397-0100000@cac.washington.edu>\")");
}

static void absent_fields_are_nil_and_empty_ones_are_empty(void **state)
{
	(void)state;
	check_envelope("\n", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
	check_envelope("Subject:\nTo:\n\n", "(NIL \"\" NIL NIL NIL NIL NIL NIL NIL NIL)");
}

static void recipients_in_several_fields_are_all_there(void **state)
{
	(void)state;
	/* RFC 5322 4.5.3; of a second From nothing is said, and the first is the one. */
	check_envelope("To: a@b\nFrom: c@d\nTo: e@f, g@h\nFrom: x@y\nSubject: one\nSubject: two\n\n",
		       "(NIL \"one\" ((NIL NIL \"c\" \"d\")) ((NIL NIL \"c\" \"d\")) ((NIL NIL \"c\" \"d\")) "
		       "((NIL NIL \"a\" \"b\")(NIL NIL \"e\" \"f\")(NIL NIL \"g\" \"h\")) NIL NIL NIL NIL)");
}

static void quotes_backslashes_and_8_bit_are_made_safe(void **state)
{
	(void)state;
	check_envelope("Subject: a \"b\" \\c\nMessage-ID: <\"x\"@y>\n\n",
		       "(NIL \"a \\\"b\\\" \\\\c\" NIL NIL NIL NIL NIL NIL NIL \"<\\\"x\\\"@y>\")");
	check_envelope("Subject: caf\xc3\xa9\n\n", "(NIL \"=?utf-8?B?Y2Fmw6k=?=\" NIL NIL NIL NIL NIL NIL NIL NIL)");
	check_envelope("Subject: caf\xe9\n\n", "(NIL \"=?utf-8?B?Y2Fmw6k=?=\" NIL NIL NIL NIL NIL NIL NIL NIL)");
}

static void groups_have_no_host(void **state)
{
	(void)state;
	check_envelope("To: A Group: a@b.c, d@e.f;, g@h.i\n\n",
		       "(NIL NIL NIL NIL NIL ((NIL NIL \"A Group\" NIL)(NIL NIL \"a\" \"b.c\")(NIL NIL \"d\" \"e.f\")"
		       "(NIL NIL NIL NIL)(NIL NIL \"g\" \"h.i\")) NIL NIL NIL NIL)");
	check_envelope(
		"To: undisclosed-recipients:;\n\n",
		"(NIL NIL NIL NIL NIL ((NIL NIL \"undisclosed-recipients\" NIL)(NIL NIL NIL NIL)) NIL NIL NIL NIL)");
}

static void a_text_message_counts_lines_and_wire_bytes(void **state)
{
	(void)state;
	/* RFC 3501 7.4.2: ("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" size lines) */
	check_structure("Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\nContent-Transfer-Encoding: 7BIT\n\none\ntwo\n",
			false, "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 10 2)");
	check_structure(
		"Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\nContent-Transfer-Encoding: 7BIT\r\n\r\none\r\ntwo\r\n",
		true, "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 10 2 NIL NIL NIL NIL)");
}

/* Values of parameters, sizes and lines are never NIL, however little the header says. */
static void what_is_left_out_is_filled_in(void **state)
{
	(void)state;
	check_structure(
		"Content-Type: text/plain; charset; name=; x=\"\"\nContent-Transfer-Encoding:\n\n", false,
		"(\"text\" \"plain\" (\"name\" \"\" \"x\" \"\" \"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0)");
	check_structure("Content-Type: text/html; charset*=utf-8''utf-8\n\n", false,
			"(\"text\" \"html\" (\"charset*\" \"utf-8''utf-8\") NIL NIL \"7bit\" 0 0)");
	check_structure("Content-Type: image/png\n\nx", false, "(\"image\" \"png\" NIL NIL NIL \"7bit\" 1)");
	check_structure("Content-Type: text\n\nx\n", false,
			"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 3 1)");
	check_structure("Content-Type:\nContent-Disposition:\n\nx", true,
			"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 1 0 NIL NIL NIL NIL)");
	check_structure("Content-Type: multipart/mixed; boundary=b\n\nno parts\n", false,
			"((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 10 1) \"mixed\")");
	check_envelope("Subject: a\nTo: (nobody)\nCc: ,\nFrom: x\n\n",
		       "(NIL \"a\" ((NIL NIL \"x\" \"\")) ((NIL NIL \"x\" \"\")) ((NIL NIL \"x\" \"\")) NIL NIL NIL "
		       "NIL NIL)");
}

static void two_parts_as_in_rfc_3501(void **state)
{
	(void)state;
	check_structure(
		"MIME-Version: 1.0\nContent-Type: MULTIPART/MIXED; BOUNDARY=\"b\"\n\n"
		"--b\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII\nContent-Transfer-Encoding: 7BIT\n\none\n\n"
		"--b\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII; NAME=\"cc.diff\"\n"
		"Content-ID: <960723163407.20117h@cac.washington.edu>\nContent-Description: Compiler diff\n"
		"Content-Transfer-Encoding: BASE64\nContent-Disposition: attachment; filename=\"cc.diff\"\n\nYQ==\n"
		"--b--\n",
		true,
		"((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 5 1 NIL NIL NIL NIL)"
		"(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\" \"NAME\" \"cc.diff\") "
		"\"<960723163407.20117h@cac.washington.edu>\" \"Compiler diff\" \"BASE64\" 4 0 NIL "
		"(\"attachment\" (\"filename\" \"cc.diff\")) NIL NIL) "
		"\"MIXED\" (\"BOUNDARY\" \"b\") NIL NIL NIL)");
}

static void a_message_inside_has_envelope_structure_and_lines(void **state)
{
	(void)state;
	check_structure("Content-Type: message/rfc822\n\nSubject: in\n\nbody\n", false,
			"(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 21 "
			"(NIL \"in\" NIL NIL NIL NIL NIL NIL NIL NIL) "
			"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 6 1) 3)");
}

static void a_multipart_without_parts_has_an_empty_one(void **state)
{
	struct mime_part part = {.type = STR("multipart"), .subtype = STR("mixed"), .multipart = true};
	struct buf out;

	(void)state;
	buf_init(&out, 1000);
	imap_add_structure(&out, &part, false);
	assert_str(buf_str(&out), "((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0) \"mixed\")");
	buf_release(&out);
}

static void strings_that_cannot_be_quoted_are_literals(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 1000);
	imap_add_string(&out, STR("a\r\nb"));
	assert_str(buf_str(&out), "{4}\r\na\r\nb");
	buf_clear(&out);
	imap_add_astring(&out, STR("nil"));
	imap_add_astring(&out, STR(""));
	imap_add_astring(&out, STR("a b"));
	imap_add_astring(&out, STR("atom"));
	assert_str(buf_str(&out), "\"nil\"\"\"\"a b\"atom");
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_envelope_of_rfc_3501_section_8, setup, teardown),
		cmocka_unit_test_setup_teardown(absent_fields_are_nil_and_empty_ones_are_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(recipients_in_several_fields_are_all_there, setup, teardown),
		cmocka_unit_test_setup_teardown(quotes_backslashes_and_8_bit_are_made_safe, setup, teardown),
		cmocka_unit_test_setup_teardown(groups_have_no_host, setup, teardown),
		cmocka_unit_test_setup_teardown(a_text_message_counts_lines_and_wire_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_left_out_is_filled_in, setup, teardown),
		cmocka_unit_test_setup_teardown(two_parts_as_in_rfc_3501, setup, teardown),
		cmocka_unit_test_setup_teardown(a_message_inside_has_envelope_structure_and_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(a_multipart_without_parts_has_an_empty_one, setup, teardown),
		cmocka_unit_test(strings_that_cannot_be_quoted_are_literals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
