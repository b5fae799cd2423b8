#include "config/conf.h"
#include "config/names.h"
#include "config/params.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct conf *parse_ok(const char *text)
{
	struct err err = ERR_NONE;
	struct conf *c = conf_parse(str_from(text), "main.cf", NULL, &err);

	if (c == NULL)
		fail_msg("%s: %s", text, err.text);
	return c;
}

static void text_is(const char *main_cf, const char *name, const char *want)
{
	struct conf *c = parse_ok(main_cf);
	struct buf out;

	buf_init(&out, 100000);
	assert_true(conf_text(c, str_from(name), &out));
	if (strcmp(out.ptr, want) != 0)
		fail_msg("%s: got \"%s\", want \"%s\"", main_cf, out.ptr, want);
	buf_release(&out);
	conf_unref(&c);
}

static void fails(const char *main_cf, const char *part)
{
	struct err err = ERR_NONE;
	struct conf *c = conf_parse(str_from(main_cf), "main.cf", NULL, &err);

	if (c != NULL)
		fail_msg("accepted: %s", main_cf);
	if (strstr(err.text, part) == NULL)
		fail_msg("%s: \"%s\" does not say \"%s\"", main_cf, err.text, part);
}

static void test_lines_are_read_as_postfix_reads_them(void **state)
{
	(void)state;
	text_is("x = a\n", "x", "a");
	text_is("x=a", "x", "a");
	text_is("  # comment\n\nx = a\n", "x", "a");
	text_is("x = a,\n  b\n# comment\n\n\tc\ny = d\n", "x", "a,  b\tc");
	text_is("x = a,\n  # comment\n  b\n", "x", "a,  b");
	text_is("x = a\nx = b\n", "x", "b");
	text_is("x = a\nx =\n", "x", "");
	text_is("x =\n  a\n", "x", "a");
	text_is("x = a # b\n", "x", "a # b");
	text_is("x = a = b\r\ny = c\r\n", "x", "a = b");
	text_is("x\t=\ta  \n", "x", "a");
	fails("  x = a\n", "line 1");
	fails("a = b\nnonsense\n", "main.cf, line 2");
	fails("a = b\n= b\n", "line 2");
	fails("a b = c\n", "line 1");
}

static void test_names_are_expanded_in_every_writing(void **state)
{
	static const char *const cases[][2] = {
		{"$a", "1"},
		{"${a}", "1"},
		{"$(a)", "1"},
		{"$a$b", "1"},
		{"$nobody", ""},
		{"$$a", "$a"},
		{"$a.x", "1.x"},
		{"${a?yes}", "yes"},
		{"${b?yes}", ""},
		{"${a:no}", ""},
		{"${b:no}", "no"},
		{"${nobody:no}", "no"},
		{"${a?{yes}:{no}}", "yes"},
		{"${b?{yes}:{no}}", "no"},
		{"${a?{ yes }:{ no }}", "yes"},
		{"${a?$c}", "2 1"},
		{"${a?${b:deep}}", "deep"},
		{"$(a?yes)", "yes"},
		{"${ a ? {yes} : {no} }", "yes"},
		{"${{$a} == {1} ? {x} : {y}}", "x"},
		{"${{$a} != {1} ? {x} : {y}}", "y"},
		{"${{10} > {9}?{x}:{y}}", "x"},
		{"${{b10} > {b9}?{x}:{y}}", "y"},
		{"${{9} <= {10}?x}", "x"},
		{"${{1} >= {2}:y}", "y"},
		{"${{a} < {b}?{x}}", "x"},
		{"${{$b} == {}?{x}:{y}}", "x"},
		{"${a?}", ""},
	};
	char text[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(text, sizeof(text), "x = %s\na = 1\nb =\nc = 2 $a\n", cases[i][0]);
		text_is(text, "x", cases[i][1]);
	}
}

static void test_bad_expansions_say_where(void **state)
{
	(void)state;
	fails("a = b\nx = $x\n", "line 2: x: parameter refers to itself: $x -> $x");
	fails("a = $b\nb = ${c:$d}\nd = $a\n", "refers to itself");
	fails("smtpd_banner = $smtpd_banner\n", "line 1: smtpd_banner: parameter refers to itself");
	fails("myhostname = mail.$mydomain\n", "refers to itself");
	fails("x = ${a\n", "${ without }");
	fails("x = $(a\n", "$( without )");
	fails("x = 5$\n", "a dollar sign is written $$");
	fails("x = ${a!b}\n", "\"?\" or \":\" expected");
	fails("x = ${}\n", "name expected");
	fails("x = ${{a} ~ {b}?c}\n", "expected");
	fails("x = ${{a} == {b}}\n", "expected");
	text_is("mydomain = x.example\nmyhostname = mail.$mydomain\n", "myhostname", "mail.x.example");
}

static void test_no_file_keeps_us_busy(void **state)
{
	struct buf b;
	struct err err = ERR_NONE;
	struct conf *c;

	(void)state;
	buf_init(&b, 1 << 22);
	/* 2^40 expansions of nothing, then of something */
	for (int i = 0; i < 40; i++)
		buf_addf(&b, "a%d = $a%d$a%d\n", i, i + 1, i + 1);
	assert_null(conf_parse(buf_str(&b), "main.cf", NULL, &err));
	buf_addz(&b, "a40 = xxxxxxxxxxxxxxxx\n");
	assert_null(conf_parse(buf_str(&b), "main.cf", NULL, &err));
	buf_clear(&b);
	for (int i = 0; i < 1000; i++)
		buf_addf(&b, "a%d = $a%d\n", i, i + 1);
	assert_null(conf_parse(buf_str(&b), "main.cf", NULL, &err));
	buf_clear(&b);
	buf_addz(&b, "x = ");
	for (int i = 0; i < 100000; i++)
		buf_addz(&b, "${a?{");
	assert_null(conf_parse(buf_str(&b), "main.cf", NULL, &err));
	buf_clear(&b);
	for (int i = 0; i < 200000; i++)
		buf_addz(&b, "x = yyyy\n");
	c = conf_parse(buf_str(&b), "main.cf", NULL, &err);
	assert_null(c);
	assert_non_null(strstr(err.text, "larger than"));
	buf_release(&b);
}

static void test_values_have_types_and_bounds(void **state)
{
	struct conf *c =
		parse_ok("smtpd_timeout = 2m\nsmtpd_recipient_limit = 7\nsmtpd_helo_required = YES\n"
			 "smtpd_tls_security_level = encrypt\nmessage_size_limit = 0\nmaximal_queue_lifetime = 1w\n"
			 "recipient_delimiter = +-\n");

	(void)state;
	assert_int_equal(c->smtpd_timeout, 120000);
	assert_int_equal(c->smtpd_recipient_limit, 7);
	assert_true(c->smtpd_helo_required);
	assert_int_equal(c->smtpd_tls_security_level, 2);
	assert_int_equal(c->message_size_limit, 0);
	assert_int_equal(c->maximal_queue_lifetime, 604800000);
	assert_true(str_eq(c->recipient_delimiter, STR("+-")));
	assert_true(str_eq(c->mydomain, STR("localdomain")));
	assert_true(str_eq(c->mydestination, STR("localhost.localdomain, localhost.localdomain, localhost")));
	assert_string_equal(c->recipient_delimiter.ptr, "+-");
	conf_unref(&c);
	assert_null(c);
	fails("a=b\n\nsmtpd_timeout = soon\n", "main.cf, line 3: smtpd_timeout: \"soon\" is no time");
	fails("smtpd_timeout = 5y\n", "no time");
	fails("smtpd_timeout = -5s\n", "no time");
	fails("smtpd_timeout =\n", "no time");
	fails("smtpd_timeout = 99999999999999999999\n", "no time");
	fails("smtpd_timeout = 9999999999999999w\n", "is not between");
	fails("smtpd_timeout = 0\n", "0s is not between 1s and");
	fails("smtpd_recipient_limit = 0\n", "is not between 1 and");
	fails("smtpd_recipient_limit = 10x\n", "is no number");
	fails("smtpd_helo_required = maybe\n", "neither yes nor no");
	fails("smtpd_tls_security_level = much\n", "none of: none, may, encrypt");
}

static void test_mydomain_comes_from_myhostname(void **state)
{
	(void)state;
	text_is("myhostname = mail.example.test\n", "mydomain", "example.test");
	text_is("myhostname = mail.example.test\n", "mydestination",
		"mail.example.test, localhost.example.test, localhost");
	text_is("myhostname = mail.example.test\nmydomain = other.test\n", "auth_default_domain", "other.test");
	text_is("myhostname = host\n", "mydomain", "localdomain");
}

static bool in_networks(const char *main_cf, const char *address)
{
	struct conf *c = parse_ok(main_cf);
	struct net_addr a;
	bool in;

	assert_true(net_addr_parse(str_from(address), 25, &a));
	in = conf_in_mynetworks(c, &a);
	conf_unref(&c);
	return in;
}

static void test_mynetworks_match_in_order(void **state)
{
	(void)state;
	assert_true(in_networks("", "127.0.0.1"));
	assert_true(in_networks("", "::1"));
	assert_true(in_networks("", "::ffff:127.0.0.1"));
	assert_false(in_networks("", "10.0.0.1"));
	assert_true(in_networks("mynetworks = !10.0.0.1, 10.0.0.0/8", "10.0.0.2"));
	assert_false(in_networks("mynetworks = !10.0.0.1 10.0.0.0/8", "10.0.0.1"));
	assert_true(in_networks("mynetworks = [2001:db8::]/32", "2001:db8::5"));
	assert_false(in_networks("mynetworks =", "127.0.0.1"));
	fails("mynetworks = 10.0.0.1/8\n", "line 1: mynetworks");
	fails("mynetworks = example.com\n", "line 1: mynetworks");
}

static void test_overrides_change_what_mentions_them(void **state)
{
	struct conf *base = parse_ok("a = 1\nsmtpd_banner = $myhostname $a\n"), *c;
	struct str settings[] = {STR("a=2"), STR("smtpd_timeout = 1h"), STR("a = 3")};
	struct str bad[] = {STR("smtpd_timeout=x")}, worse[] = {STR("x")};
	struct err err = ERR_NONE;
	struct buf out;

	(void)state;
	buf_init(&out, 1000);
	c = conf_override(base, settings, 3, &err);
	assert_non_null(c);
	assert_true(str_eq(c->smtpd_banner, STR("localhost.localdomain 3")));
	assert_int_equal(c->smtpd_timeout, 3600000);
	assert_true(str_eq(base->smtpd_banner, STR("localhost.localdomain 1")));
	assert_null(conf_override(base, bad, 1, &err));
	assert_non_null(strstr(err.text, "-o smtpd_timeout"));
	assert_null(conf_override(base, worse, 1, &err));
	conf_unref(&base);
	assert_true(conf_text(c, STR("a"), &out));
	assert_string_equal(out.ptr, "3");
	assert_false(conf_text(c, STR("b"), &out));
	buf_release(&out);
	conf_unref(&c);
}

static void test_lists_keep_braces_together(void **state)
{
	struct str rest = STR(" a, b\tc,,{ d e, f } inline:{x=1, y=2} {g"), item;
	static const char *const want[] = {"a", "b", "c", "{ d e, f }", "inline:{x=1, y=2}", "{g"};
	size_t n = 0;

	(void)state;
	while (conf_list_next(&rest, &item))
		assert_true(str_eq(item, str_from(want[n++])));
	assert_int_equal(n, ARRAY_SIZE(want));
}

static void test_a_word_is_in_a_list_or_not(void **state)
{
	struct str list = STR("one, Two\t{three four}");

	(void)state;
	assert_true(conf_list_has(list, STR("one")) && conf_list_has(list, STR("Two")));
	assert_false(conf_list_has(list, STR("two")) || conf_list_has(list, STR("three")) ||
		     conf_list_has(list, STR("")));
	assert_true(conf_list_ihas(list, STR("tWO")) && conf_list_ihas(list, STR("{THREE four}")));
	assert_false(conf_list_ihas(list, STR("on")) || conf_list_ihas(STR(""), STR("one")));
}

static void test_unknown_names_are_warned_of_unless_used(void **state)
{
	struct err err = ERR_NONE;
	struct buf warnings;
	struct conf *c;

	(void)state;
	buf_init(&warnings, 10000);
	c = conf_parse(STR("mine = 1\nx = $mine\nsmtp_tls_loglevel = 1\nlmtp_tls_loglevel = 1\nsmtpd_timeot = 1\n"
			   "smtpd_restriction_classes = klass\nklass = permit\nslow_destination_rate_delay = 1s\n"
			   "slow_transport_rate_delay = 1s\n"),
		       "main.cf", &warnings, &err);
	assert_non_null(c);
	assert_string_equal(warnings.ptr, "main.cf, line 5: unused parameter: smtpd_timeot\n"
					  "main.cf, line 2: unused parameter: x\n");
	conf_unref(&c);
	buf_release(&warnings);
}

static void note_why(void *ctx, const struct conf_name *name)
{
	if (name->status == CONF_NAME_NO_USE)
		buf_addf(ctx, "%.*s%s\n", STR_ARG(name->name), name->warn ? " !" : "");
	assert_true(name->status == CONF_NAME_NO_USE ? name->why != NULL : name->why == NULL || name->warn);
}

static void test_what_makes_no_sense_here_is_told_apart(void **state)
{
	struct err err = ERR_NONE;
	struct buf told;
	struct conf *c;

	(void)state;
	buf_init(&told, 10000);
	c = conf_parse(
		STR("queue_run_delay = 1s\nhash_queue_depth = 1\nlmtp_per_request_deadline = yes\n"
		    "slow_delivery_slot_cost = 3\nsmtp_tls_per_site = hash:/x\nappend_dot_mydomain = no\n"
		    "slow_destination_recipient_limit = 2\nslow_recipient_limit = 3\nrelayhost = x\nnobodys = 1\n"),
		"main.cf", NULL, &err);
	assert_non_null(c);
	conf_each_name(c, NULL, 0, note_why, &told);
	assert_string_equal(told.ptr, "hash_queue_depth\nlmtp_per_request_deadline\nqueue_run_delay\n"
				      "slow_delivery_slot_cost\nslow_recipient_limit\nsmtp_tls_per_site !\n");
	conf_unref(&c);
	buf_release(&told);
}

static void note_missed(void *ctx, const struct conf_name *name)
{
	if (name->status == CONF_NAME_NOT_YET && name->warn)
		buf_addf(ctx, "%.*s ", STR_ARG(name->name));
	if (name->earlier != 0)
		buf_addf(ctx, "%.*s:%u>%u ", STR_ARG(name->name), name->line, name->earlier);
}

static void note_undefined(void *ctx, struct str in, unsigned line, struct str name)
{
	buf_addf(ctx, "%.*s:%u:%.*s ", STR_ARG(in), line, STR_ARG(name));
}

/* Only where the value would have changed something. */
static void test_what_somebody_may_rely_on_is_told_apart(void **state)
{
	static const struct {
		const char *main_cf, *missed, *undefined;
	} cases[] = {
		{"header_checks = regexp:/x\nbody_checks =\nappend_dot_mydomain = no\nlmtp_header_checks = regexp:/x\n",
		 "header_checks lmtp_header_checks ", ""},
		{"append_dot_mydomain = yes\nsmtpd_sasl_security_options = noanonymous\n"
		 "smtpd_sasl_tls_security_options = $smtpd_sasl_security_options\n",
		 "append_dot_mydomain ", ""},
		{"mynetworks_style = subnet\n", "mynetworks_style ", ""},
		{"mynetworks_style = subnet\nmynetworks = 127.0.0.0/8\n", "", ""},
		{"mime_header_checks = $header_checks\n", "", ""},
		{"relayhost = a\n\nrelayhost = b\nrelayhost = c\n", "relayhost:4>3 ", ""},
		{"smtpd_client_restrictions = $mine ${other?{x}:{y}} $smtpd_milters $slow_destination_rate_delay\nown "
		 "= $relayhost\n",
		 "", "smtpd_client_restrictions:1:mine smtpd_client_restrictions:1:other "},
		{"mailbox_command = /x -a \"$EXTENSION\" \"$@\"\ndebugger_command = ddd "
		 "$daemon_directory/$process_name\n",
		 "mailbox_command ", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = ERR_NONE;
		struct conf *c = conf_parse(str_from(cases[i].main_cf), "main.cf", NULL, &err);
		struct buf told;

		if (c == NULL)
			fail_msg("%s: %s", cases[i].main_cf, err.text);
		buf_init(&told, 10000);
		conf_each_name(c, NULL, 0, note_missed, &told);
		assert_string_equal(told.ptr, cases[i].missed);
		buf_clear(&told);
		conf_each_undefined(c, note_undefined, &told);
		assert_string_equal(told.ptr, cases[i].undefined);
		buf_release(&told);
		conf_unref(&c);
	}
}

/* Postfix's own names for where it lies stand in many values. */
static void test_values_mention_the_directory(void **state)
{
	struct err err = ERR_NONE;
	struct conf *c = conf_parse(STR("transport_maps = $default_database_type:${config_directory}/transport\n"),
				    "/etc/x/main.cf", NULL, &err);
	struct str raw;

	(void)state;
	assert_non_null(c);
	assert_true(str_eq(c->transport_maps, STR("hash:/etc/x/transport")));
	assert_true(conf_raw(c, STR("config_directory"), &raw) && str_eq(raw, STR("/etc/x")));
	conf_unref(&c);
	c = conf_parse(STR("config_directory = /etc/postfix\ndefault_database_type = lmdb\n"
			   "transport_maps = $default_database_type:$config_directory/transport\n"),
		       "/etc/x/main.cf", NULL, &err);
	assert_non_null(c);
	assert_true(str_eq(c->transport_maps, STR("lmdb:/etc/postfix/transport")));
	conf_unref(&c);
}

/* What was there before smtp_tls_security_level must not leave mail open that was to be encrypted. */
static void test_old_tls_parameters_give_the_level(void **state)
{
	static const struct {
		const char *main_cf, *client, *server;
	} cases[] = {
		{"", "may", "may"},
		{"smtp_use_tls = yes\nsmtpd_use_tls = yes\n", "may", "may"},
		{"smtp_use_tls = no\nsmtpd_use_tls = no\n", "none", "none"},
		{"smtp_enforce_tls = yes\nsmtpd_enforce_tls = yes\n", "verify", "encrypt"},
		{"smtp_enforce_tls = yes\nsmtp_tls_enforce_peername = no\n", "encrypt", "may"},
		{"smtp_enforce_tls = yes\nsmtp_tls_security_level = may\n", "may", "may"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = ERR_NONE;
		struct conf *c = conf_parse(str_from(cases[i].main_cf), "main.cf", NULL, &err);
		struct buf text;

		assert_non_null(c);
		buf_init(&text, 100);
		assert_true(conf_text(c, STR("smtp_tls_security_level"), &text));
		assert_string_equal(text.ptr, cases[i].client);
		buf_clear(&text);
		assert_true(conf_text(c, STR("smtpd_tls_security_level"), &text));
		assert_string_equal(text.ptr, cases[i].server);
		buf_release(&text);
		conf_unref(&c);
	}
}

static void test_the_table_is_sound(void **state)
{
	(void)state;
	for (size_t i = 0; i < PARAM_COUNT; i++) {
		const struct param *p = &PARAMS[i];
		struct buf why;
		int64_t value;

		buf_init(&why, 1000);
		assert_ptr_equal(param_find(str_from(p->name)), p); /* not twice */
		assert_false(param_is_postfix(str_from(p->name)));
		if (strchr(param_default(p).ptr, '$') == NULL && !param_value(p, param_default(p), &value, &why))
			fail_msg("%s: %s", p->name, why.ptr);
		if (strlen(p->text) < 20 || p->text[strlen(p->text) - 1] != '.')
			fail_msg("%s is not explained in a sentence", p->name);
		if (p->min > p->max)
			fail_msg("%s: bounds", p->name);
		buf_release(&why);
	}
}

static void test_the_host_name_is_added_once(void **state)
{
	struct buf text;
	struct conf *c;

	(void)state;
	buf_init(&text, 10000);
	buf_addz(&text, "x = y\n  z");
	conf_add_hostname(&text);
	c = parse_ok(text.ptr);
	assert_true(conf_is_set(c, STR("myhostname")));
	assert_true(str_chr(c->myhostname, '.') > 0);
	conf_unref(&c);
	size_t len = text.len;
	conf_add_hostname(&text);
	assert_int_equal(text.len, len);
	buf_release(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines_are_read_as_postfix_reads_them),
		cmocka_unit_test(test_names_are_expanded_in_every_writing),
		cmocka_unit_test(test_bad_expansions_say_where),
		cmocka_unit_test(test_no_file_keeps_us_busy),
		cmocka_unit_test(test_values_have_types_and_bounds),
		cmocka_unit_test(test_mydomain_comes_from_myhostname),
		cmocka_unit_test(test_mynetworks_match_in_order),
		cmocka_unit_test(test_overrides_change_what_mentions_them),
		cmocka_unit_test(test_lists_keep_braces_together),
		cmocka_unit_test(test_a_word_is_in_a_list_or_not),
		cmocka_unit_test(test_unknown_names_are_warned_of_unless_used),
		cmocka_unit_test(test_what_makes_no_sense_here_is_told_apart),
		cmocka_unit_test(test_what_somebody_may_rely_on_is_told_apart),
		cmocka_unit_test(test_values_mention_the_directory),
		cmocka_unit_test(test_old_tls_parameters_give_the_level),
		cmocka_unit_test(test_the_table_is_sound),
		cmocka_unit_test(test_the_host_name_is_added_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
