#include "test.h"

#include "imap/parse.h"

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

static struct imap_parser parser(const char *text)
{
	struct imap_parser p;

	imap_parser_init(&p, str_from(text), &arena);
	return p;
}

static void astrings_are_atoms_quoted_or_literals(void **state)
{
	struct imap_parser p = parser("a]b \"q \\\"x\\\\\" {5}\r\nab \r\n {3+}\r\nxyz \"\" \xc3\xa9");
	static const char *const want[] = {"a]b", "q \"x\\", "ab \r\n", "xyz", "", "\xc3\xa9"};
	struct str s;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		assert_true(i == 0 || imap_parse_space(&p));
		assert_true(imap_parse_astring(&p, &s));
		assert_str(s, want[i]);
	}
	assert_true(imap_parse_end(&p));
}

static void broken_strings_are_refused(void **state)
{
	static const char *const bad[] = {
		"\"open", "\"a\r\"", "{5}\r\nabcd", "{x}\r\n", "{3", "{99999999999999999999}\r\n", "(", ""};
	struct str s;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct imap_parser p = parser(bad[i]);

		assert_false(imap_parse_astring(&p, &s));
		assert_non_null(p.error);
	}
}

static void a_literal_may_not_hold_nul(void **state)
{
	struct imap_parser p;
	struct str s;

	(void)state;
	imap_parser_init(&p, STR("{3}\r\na\0b"), &arena);
	assert_false(imap_parse_astring(&p, &s));
}

static void sets_keep_what_was_written(void **state)
{
	struct imap_parser p = parser("2,4:7,9,12:*,*:4");
	struct imap_set set;

	(void)state;
	assert_true(imap_parse_set(&p, &set));
	assert_int_equal(set.n, 5);
	assert_int_equal(set.v[1].first, 4);
	assert_int_equal(set.v[1].last, 7);
	assert_int_equal(set.v[3].last, 0);
	assert_int_equal(set.v[4].first, 0);
	p = parser("0");
	assert_false(imap_parse_set(&p, &set));
	p = parser("1:");
	assert_false(imap_parse_set(&p, &set));
	p = parser("4294967296");
	assert_false(imap_parse_set(&p, &set));
	p = parser("$");
	assert_false(imap_parse_set(&p, &set));
}

static void flags_are_read_in_any_case(void **state)
{
	struct imap_parser p = parser("(\\seen \\DELETED $Forwarded $forwarded NonJunk \\Recent)");
	struct imap_flags flags;

	(void)state;
	assert_true(imap_parse_flag_list(&p, &flags));
	assert_int_equal(flags.system, FLAG_SEEN | FLAG_DELETED);
	assert_int_equal(flags.n, 2);
	assert_str(flags.v[0].name, "$Forwarded");
	p = parser("()");
	assert_true(imap_parse_flag_list(&p, &flags));
	p = parser("(\\Seen");
	assert_false(imap_parse_flag_list(&p, &flags));
	p = parser("(\\Bogus)");
	assert_false(imap_parse_flag_list(&p, &flags));
}

static void mailbox_names_are_decoded_and_inbox_is_spelled_one_way(void **state)
{
	static const struct {
		const char *in, *want;
	} names[] = {
		{"inbox", "INBOX"},
		{"iNbOx/sub", "INBOX/sub"},
		{"inboxes", "inboxes"},
		{"folder/", "folder"},
		{"Entw&APw-rfe", "Entw\xc3\xbcrfe"},
		{"\"A & B\"", NULL},
		{"A&-B", "A&B"},
		{"&2D3eAA-", "\xf0\x9f\x98\x80"},
		{"Entw\xc3\xbcrfe", "Entw\xc3\xbcrfe"},
		{"\"\"", NULL},
		{"&AP", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct imap_parser p = parser(names[i].in);
		struct str name;

		if (names[i].want == NULL) {
			assert_false(imap_parse_mailbox(&p, &name));
			continue;
		}
		assert_true(imap_parse_mailbox(&p, &name));
		assert_str(name, names[i].want);
	}
}

static void a_pattern_in_broken_utf7_is_not_an_error(void **state)
{
	struct imap_parser p = parser("&AP%");
	struct str pattern;
	bool valid;

	(void)state;
	assert_true(imap_parse_pattern(&p, &pattern, &valid));
	assert_false(valid);
}

static void literal_specs_are_seen_at_the_end_of_a_line_only(void **state)
{
	uint64_t size;
	size_t at;
	bool sync;

	(void)state;
	assert_true(imap_literal_spec(STR("a LOGIN {11}"), &size, &sync, &at));
	assert_true(size == 11 && sync && at == 8);
	assert_true(imap_literal_spec(STR("a LOGIN {11+}"), &size, &sync, &at));
	assert_false(sync);
	assert_false(imap_literal_spec(STR("a LOGIN {11} "), &size, &sync, &at));
	assert_false(imap_literal_spec(STR("a LOGIN {+}"), &size, &sync, &at));
	assert_false(imap_literal_spec(STR("a LOGIN {-1}"), &size, &sync, &at));
	assert_false(imap_literal_spec(STR("}"), &size, &sync, &at));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(astrings_are_atoms_quoted_or_literals, setup, teardown),
		cmocka_unit_test_setup_teardown(broken_strings_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_literal_may_not_hold_nul, setup, teardown),
		cmocka_unit_test_setup_teardown(sets_keep_what_was_written, setup, teardown),
		cmocka_unit_test_setup_teardown(flags_are_read_in_any_case, setup, teardown),
		cmocka_unit_test_setup_teardown(mailbox_names_are_decoded_and_inbox_is_spelled_one_way, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_pattern_in_broken_utf7_is_not_an_error, setup, teardown),
		cmocka_unit_test(literal_specs_are_seen_at_the_end_of_a_line_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
