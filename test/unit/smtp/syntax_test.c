/* Command lines: what must be read, and what must be refused. */
#include "smtp/syntax.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

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

static void assert_str(struct str got, const char *want)
{
	assert_int_equal(got.len, strlen(want));
	assert_memory_equal(got.ptr, want, got.len);
}

static struct mail_args mail(const char *args)
{
	struct mail_args m;
	struct err err = ERR_NONE;

	if (smtp_mail_parse(str_from(args), false, &arena, &m, &err) < 0)
		fail_msg("%s: %s", args, err.text);
	return m;
}

static const char *mail_error(const char *args)
{
	static struct err err;
	struct mail_args m;

	err = ERR_NONE;
	assert_int_equal(smtp_mail_parse(str_from(args), false, &arena, &m, &err), -1);
	return err.code;
}

static void verb_and_arguments_are_split(void **state)
{
	struct str verb, args;

	(void)state;
	smtp_line_split(STR("  mail   FROM:<a@b>  "), &verb, &args);
	assert_str(verb, "mail");
	assert_str(args, "FROM:<a@b>");
	smtp_line_split(STR("QUIT"), &verb, &args);
	assert_str(verb, "QUIT");
	assert_str(args, "");
	smtp_line_split(STR(""), &verb, &args);
	assert_str(verb, "");
}

static void line_ends_are_told_apart(void **state)
{
	bool bare;

	(void)state;
	assert_str(smtp_line_strip(STR("NOOP\r\n"), &bare), "NOOP");
	assert_false(bare);
	assert_str(smtp_line_strip(STR("NOOP\n"), &bare), "NOOP");
	assert_true(bare);
	assert_str(smtp_line_strip(STR("\n"), &bare), "");
	assert_true(bare);
	assert_true(smtp_line_is_clean(STR("a\tb \xc3\xa9")));
	assert_false(smtp_line_is_clean(str_of("a\0b", 3)));
	assert_false(smtp_line_is_clean(STR("a\rb")));
}

static void senders_as_clients_write_them(void **state)
{
	static const struct {
		const char *args, *local, *domain;
	} cases[] = {
		{"FROM:<a@b.example>", "a", "b.example"},
		{"from:<a@b.example>", "a", "b.example"},
		{"FROM: <a@b.example>", "a", "b.example"},
		{"FROM :<a@b.example>", "a", "b.example"},
		{"FROM:a@b.example", "a", "b.example"},
		{"FROM:<>", "", ""},
		{"FROM:<@x.example,@y.example:a@b.example>", "a", "b.example"},
		{"FROM:<\"a b\"@b.example>", "a b", "b.example"},
		{"FROM:<a@[192.0.2.1]>", "a", "[192.0.2.1]"},
		{"FROM:<a@[IPv6:2001:db8::1]>", "a", "[IPv6:2001:db8::1]"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct mail_args m = mail(cases[i].args);

		assert_str(m.sender.local, cases[i].local);
		assert_str(m.sender.domain, cases[i].domain);
	}
}

static void mail_parameters_are_read(void **state)
{
	struct mail_args m =
		mail("FROM:<a@b.example> SIZE=1000 BODY=8BITMIME RET=HDRS ENVID=QQ+2B314 AUTH=<> SMTPUTF8");

	(void)state;
	assert_int_equal(m.size, 1000);
	assert_true(m.body_8bit);
	assert_true(m.smtputf8);
	assert_int_equal(m.ret, RET_HDRS);
	assert_str(m.envid, "QQ+314");
	assert_int_equal(mail("FROM:<a@b.example> size=0").size, 0);
	assert_true(mail("FROM:<a@b.example> SIZE=99999999999999999999").size == UINT64_MAX);
	/* iOS says SMTPUTF8 without BODY and means both. */
	assert_str(mail("FROM:<\xc3\xa9@b.example> SMTPUTF8").sender.local, "\xc3\xa9");
}

static void bad_mail_parameters_are_refused(void **state)
{
	(void)state;
	assert_string_equal(mail_error(""), "5.5.4");
	assert_string_equal(mail_error("<a@b.example>"), "5.5.4");
	assert_string_equal(mail_error("FROM:<a@b.example> SIZE=-1"), "5.5.4");
	assert_string_equal(mail_error("FROM:<a@b.example> SIZE=1 SIZE=2"), "5.5.4");
	assert_string_equal(mail_error("FROM:<a@b.example> BODY=BINARYMIME"), "5.5.4");
	assert_string_equal(mail_error("FROM:<a@b.example> RET=SOME"), "5.5.4");
	assert_string_equal(mail_error("FROM:<a@b.example> ENVID=+0D+0A"), "5.5.4");
	assert_string_equal(mail_error("FROM:<a@b.example> X-UNKNOWN=1"), "5.5.4");
	assert_string_equal(mail_error("FROM:<a@b..example>"), "5.1.3");
	assert_string_equal(mail_error("FROM:<\xc3\xa9@b.example>"), "5.6.7");
}

/* RFC 4865 3, RFC 2852 4. */
static void times_are_read(void **state)
{
	static const char *const bad[] = {"HOLDFOR=0",
					  "HOLDFOR=1234567890",
					  "HOLDFOR=-1",
					  "HOLDFOR=",
					  "HOLDUNTIL=2026-11-22",
					  "HOLDUNTIL=2026-11-22T17:40:00+01:00",
					  "HOLDUNTIL=2026-02-30T17:40:00Z",
					  "HOLDFOR=1 HOLDUNTIL=2026-11-22T17:40:00Z",
					  "BY",
					  "BY=1",
					  "BY=1;",
					  "BY=1;RTT",
					  "BY=1;RX",
					  "BY=+-1;N",
					  "BY=-1;R",
					  "BY=0;R",
					  "BY=;N"};
	struct mail_args m = mail("FROM:<a@b.example> HOLDFOR=600 BY=+999999999;nt");

	(void)state;
	assert_int_equal(m.hold_for, 600);
	assert_str(m.hold_request, "for;600");
	assert_int_equal(m.by_seconds, 999999999);
	assert_int_equal(m.by_mode, BY_NOTIFY | BY_TRACE);
	m = mail("FROM:<a@b.example> holduntil=2026-11-22t17:40:00z BY=-7;N");
	assert_int_equal(m.hold_until, 1795369200);
	assert_str(m.hold_request, "until;2026-11-22t17:40:00z");
	assert_int_equal(m.by_seconds, -7);
	assert_int_equal(mail("FROM:<a@b.example> BY=1;R").by_mode, BY_RETURN);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char args[200];

		snprintf(args, sizeof(args), "FROM:<a@b.example> %s", bad[i]);
		assert_string_equal(mail_error(args), "5.5.4");
	}
}

static void recipients_and_dsn_parameters(void **state)
{
	struct rcpt_args r;
	struct err err = ERR_NONE;

	(void)state;
	assert_int_equal(smtp_rcpt_parse(STR("TO:<Bob+tag@B.example> NOTIFY=SUCCESS,failure ORCPT=rfc822;b+2Bx@y"),
					 false, false, &arena, &r, &err),
			 0);
	assert_str(r.recipient.local, "Bob+tag");
	assert_int_equal(r.notify, NOTIFY_SUCCESS | NOTIFY_FAILURE);
	assert_str(r.orcpt, "rfc822;b+x@y");
	/* RFC 6533 3: in either form it is the address; plain xtext is taken, too. */
	static const char *const same[] = {"utf-8;j\\x{FC}rgen\\x{2B}x@y", "UTF-8;j\xc3\xbcrgen\\x{2b}x@y",
					   "utf-8;j\xc3\xbcrgen+2Bx@y"};
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		struct str args = arena_printf(&arena, "TO:<a@b.example> ORCPT=%s", same[i]);

		assert_int_equal(smtp_rcpt_parse(args, true, true, &arena, &r, &err), 0);
		assert_str(str_skip(r.orcpt, 6), "j\xc3\xbcrgen+x@y");
	}
	assert_int_equal(smtp_rcpt_parse(STR("TO:<a@b.example> ORCPT=utf-8;a\\x{0A}b"), true, true, &arena, &r, &err),
			 -1);
	assert_int_equal(smtp_rcpt_parse(STR("TO:<a@b.example> ORCPT=utf-8;a\\y"), true, true, &arena, &r, &err), -1);
	assert_int_equal(smtp_rcpt_parse(STR("TO:<a@b.example> ORCPT=utf-8;a\xff"), true, true, &arena, &r, &err), -1);
	assert_int_equal(smtp_rcpt_parse(STR("to: <postmaster>"), false, false, &arena, &r, &err), 0);
	assert_str(r.recipient.domain, "");
	assert_int_equal(smtp_rcpt_parse(STR("TO:<>"), false, false, &arena, &r, &err), -1);
	assert_int_equal(smtp_rcpt_parse(STR("TO:<a@b.example> NOTIFY=NEVER,DELAY"), false, false, &arena, &r, &err),
			 -1);
	assert_int_equal(smtp_rcpt_parse(STR("TO:<a@b.example> NOTIFY="), false, false, &arena, &r, &err), -1);
	assert_int_equal(smtp_rcpt_parse(STR("TO:<a@b.example> ORCPT=novalue"), false, false, &arena, &r, &err), -1);
	assert_int_equal(smtp_rcpt_parse(STR("TO:<a@b.example> SIZE=1"), false, false, &arena, &r, &err), -1);
	assert_int_equal(err.kind, ERR_PERM);
}

static void bdat_counts(void **state)
{
	struct bdat_args b;

	(void)state;
	assert_int_equal(smtp_bdat_parse(STR("1000"), &b, NULL), 0);
	assert_true(b.count == 1000 && !b.last);
	assert_int_equal(smtp_bdat_parse(STR("0 last"), &b, NULL), 0);
	assert_true(b.count == 0 && b.last);
	assert_int_equal(smtp_bdat_parse(STR(""), &b, NULL), -1);
	assert_int_equal(smtp_bdat_parse(STR("-1"), &b, NULL), -1);
	assert_int_equal(smtp_bdat_parse(STR("99999999999999999999999"), &b, NULL), -1);
	assert_int_equal(smtp_bdat_parse(STR("10 FIRST"), &b, NULL), -1);
	assert_int_equal(smtp_bdat_parse(STR("10 LAST x"), &b, NULL), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verb_and_arguments_are_split),	   cmocka_unit_test(line_ends_are_told_apart),
		cmocka_unit_test(senders_as_clients_write_them),   cmocka_unit_test(mail_parameters_are_read),
		cmocka_unit_test(bad_mail_parameters_are_refused), cmocka_unit_test(times_are_read),
		cmocka_unit_test(recipients_and_dsn_parameters),   cmocka_unit_test(bdat_counts),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
