#include "config/master_cf.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void parse_ok(const char *text, struct arena *arena, struct master_cf *cf)
{
	struct err err = ERR_NONE;

	if (master_cf_parse(str_from(text), "master.cf", arena, cf, &err) < 0)
		fail_msg("%s: %s", text, err.text);
}

static void fails(const char *text, const char *part)
{
	struct arena arena;
	struct master_cf cf;
	struct err err = ERR_NONE;

	arena_init(&arena);
	if (master_cf_parse(str_from(text), "master.cf", &arena, &cf, &err) == 0)
		fail_msg("accepted: %s", text);
	if (strstr(err.text, part) == NULL)
		fail_msg("%s: \"%s\" does not say \"%s\"", text, err.text, part);
	arena_release(&arena);
}

static void test_services_with_all_their_fields(void **state)
{
	struct arena arena;
	struct master_cf cf;

	(void)state;
	arena_init(&arena);
	parse_ok("# comment\n"
		 "smtp      inet  n       -       y       -       -       smtpd -v\n"
		 "submission inet n - n - 7 smtpd\n"
		 "  -o syslog_name=postrider/submission\n"
		 "# comment in between\n"
		 "  -o { smtpd_relay_restrictions = permit_sasl_authenticated, reject }\n"
		 "  -osmtpd_tls_wrappermode=no\n"
		 "qmgr unix n - n 300? 1 qmgr\n"
		 "maildrop  unix  -       n       n       -       -       pipe\n"
		 "  flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient}\n",
		 &arena, &cf);
	assert_int_equal(cf.count, 4);
	assert_true(str_eq(cf.services[0].name, STR("smtp")));
	assert_int_equal(cf.services[0].type, SERVICE_INET);
	assert_int_equal(cf.services[0].port, 25);
	assert_int_equal(cf.services[0].host.len, 0);
	assert_int_equal(cf.services[0].private_, 'n');
	assert_int_equal(cf.services[0].unpriv, '-');
	assert_int_equal(cf.services[0].chroot, 'y');
	assert_int_equal(cf.services[0].wakeup, -1);
	assert_int_equal(cf.services[0].arg_count, 1);
	assert_int_equal(cf.services[0].line, 2);
	assert_int_equal(cf.services[1].port, 587);
	assert_int_equal(cf.services[1].max_processes, 7);
	assert_int_equal(cf.services[1].override_count, 3);
	assert_true(
		str_eq(cf.services[1].overrides[1], STR("smtpd_relay_restrictions=permit_sasl_authenticated, reject")));
	assert_true(str_eq(cf.services[1].overrides[2], STR("smtpd_tls_wrappermode=no")));
	assert_int_equal(cf.services[2].wakeup, 300);
	assert_true(cf.services[2].wakeup_only_used);
	assert_true(str_eq(cf.services[3].command, STR("pipe")));
	assert_int_equal(cf.services[3].arg_count, 5);
	assert_true(str_eq(cf.services[3].args[4], STR("${recipient}")));
	arena_release(&arena);
}

/* As getopt() has it: what stands behind the first word that is no option is the command's own. */
static void test_options_end_where_the_command_begins(void **state)
{
	struct arena arena;
	struct master_cf cf;

	(void)state;
	arena_init(&arena);
	parse_ok("spam unix - n n - - pipe\n  -o soft_bounce=yes user=spamd argv=/usr/bin/spamc -e /usr/sbin/sendmail "
		 "-oi -f "
		 "${sender}\n"
		 "smtp inet n - n - - smtpd -v { -o smtpd_helo_required = yes }\n"
		 "x unix - n n - - spawn user=nobody argv=/x -- -o a\n",
		 &arena, &cf);
	assert_int_equal(cf.services[0].override_count, 1);
	assert_int_equal(cf.services[0].arg_count, 7);
	assert_true(str_eq(cf.services[0].args[4], STR("-oi")));
	assert_int_equal(cf.services[1].arg_count, 1);
	assert_int_equal(cf.services[1].override_count, 1);
	assert_true(str_eq(cf.services[1].overrides[0], STR("smtpd_helo_required=yes")));
	assert_int_equal(cf.services[2].override_count, 0);
	arena_release(&arena);
	fails("smtp inet n - n - - smtpd\n  -o smtpd_recipient_restrictions=permit_mynetworks, reject\n",
	      "unexpected argument (a value with blanks is written -o { name = value }): \"reject\"");
	fails("mail.example.org:smtp inet n - n - - smtpd\n", "the host is no IP address");
}

static void test_listeners_are_hosts_and_ports(void **state)
{
	static const struct {
		const char *name, *host;
		uint16_t port;
	} cases[] = {
		{"25", "", 25},
		{"127.0.0.1:10025", "127.0.0.1", 10025},
		{"[::1]:25", "::1", 25},
		{"imaps", "", 993},
		{"localhost:smtp", "127.0.0.1", 25},
		{"[127.0.0.1]:0", "127.0.0.1", 0},
		{"submissions", "", 465},
		{"smtps", "", 465},
		{"imap", "", 143},
		{"pop3", "", 110},
		{"pop3s", "", 995},
		{"lmtp", "", 24},
		{"sieve", "", 4190},
		{"*:25", "*", 25},
	};
	char text[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct arena arena;
		struct master_cf cf;

		arena_init(&arena);
		snprintf(text, sizeof(text), "%s inet n - n - - smtpd\n", cases[i].name);
		parse_ok(text, &arena, &cf);
		assert_true(str_eq(cf.services[0].host, str_from(cases[i].host)));
		assert_int_equal(cf.services[0].port, cases[i].port);
		arena_release(&arena);
	}
}

static void test_mistakes_are_told_with_file_and_line(void **state)
{
	(void)state;
	fails("\nsmtp inet n - n - -\n", "master.cf, line 2: eight fields");
	fails("smtp tcp n - n - - smtpd\n", "line 1: type is none of");
	fails("smtp inet x - n - - smtpd\n", "y, n or -");
	fails("smtp inet n - n x - smtpd\n", "number or -");
	fails("smtp inet n - n - -5 smtpd\n", "number or -");
	fails("smtpp inet n - n - - smtpd\n", "no port number");
	fails("70000 inet n - n - - smtpd\n", "no port number");
	fails("::1:25 inet n - n - - smtpd\n", "[address]:port");
	fails("smtp inet n - n - - smtpd -o\n", "-o needs");
	fails("smtp inet n - n - - smtpd -o x\n", "-o needs");
	fails("smtp inet n - n - - smtpd -o { x = y\n", "-o needs");
	fails("smtp inet n - n - - smtpd {\n", "{ without }");
	fails("smtp inet n - n - - smtpd\nsmtp inet n - n - - smtpd\n", "line 2: service is there twice");
	fails(" smtp inet n - n - - smtpd\n", "must not begin with a blank");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_services_with_all_their_fields),
		cmocka_unit_test(test_options_end_where_the_command_begins),
		cmocka_unit_test(test_listeners_are_hosts_and_ports),
		cmocka_unit_test(test_mistakes_are_told_with_file_and_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
