#include "msg/address.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct accepted {
	const char *in;
	unsigned flags;
	const char *local, *domain, *rest;
};

static void parse_ok(const struct accepted *c)
{
	struct arena arena;
	struct address a;
	struct str rest;
	struct err err = ERR_NONE;

	arena_init(&arena);
	if (address_parse_path(str_from(c->in), c->flags, &arena, &a, &rest, &err) < 0)
		fail_msg("%s: %s", c->in, err.text);
	if (!str_eq(a.local, str_from(c->local)) || !str_eq(a.domain, str_from(c->domain)))
		fail_msg("%s: got %.*s at %.*s", c->in, STR_ARG(a.local), STR_ARG(a.domain));
	assert_true(str_eq(rest, str_from(c->rest)));
	arena_release(&arena);
}

static void parse_fails(const char *in, unsigned flags)
{
	struct arena arena;
	struct address a;
	struct str rest;
	struct err err = ERR_NONE;

	arena_init(&arena);
	if (address_parse_path(str_from(in), flags, &arena, &a, &rest, &err) == 0)
		fail_msg("accepted: %s", in);
	assert_int_equal(err.kind, ERR_SYNTAX);
	assert_true(err.text[0] != '\0');
	arena_release(&arena);
}

static void test_strict_paths_are_the_grammar(void **state)
{
	static const struct accepted ok[] = {
		{"<a@b.example>", ADDRESS_STRICT, "a", "b.example", ""},
		{"<a@b.example> SIZE=1", ADDRESS_STRICT, "a", "b.example", " SIZE=1"},
		{"<A.B+c@Example.ORG>", ADDRESS_STRICT, "A.B+c", "Example.ORG", ""},
		{"<@x.example,@y.example:a@b.example>", ADDRESS_STRICT, "a", "b.example", ""},
		{"<\"a b\"@b.example>", ADDRESS_STRICT, "a b", "b.example", ""},
		{"<\"a\\\"\\\\b>\"@b.example>", ADDRESS_STRICT, "a\"\\b>", "b.example", ""},
		{"<a@[127.0.0.1]>", ADDRESS_STRICT, "a", "[127.0.0.1]", ""},
		{"<a@[IPv6:2001:db8::1]>", ADDRESS_STRICT, "a", "[IPv6:2001:db8::1]", ""},
		{"<Postmaster>", ADDRESS_STRICT, "Postmaster", "", ""},
		{"<> BODY=8BITMIME", ADDRESS_STRICT | ADDRESS_EMPTY, "", "", " BODY=8BITMIME"},
		{"<j\xc3\xb6rg@b\xc3\xbc"
		 "cher.example>",
		 ADDRESS_STRICT | ADDRESS_UTF8, "j\xc3\xb6rg",
		 "b\xc3\xbc"
		 "cher.example",
		 ""},
	};
	static const char *const bad[] = {
		"a@b.example",
		" <a@b.example>",
		"<a@b.example",
		"<a@b.example>x",
		"<.a@b.example>",
		"<a.@b.example>",
		"<a..b@b.example>",
		"<@b.example>",
		"<a@>",
		"<a>",
		"<>",
		"<a@b.example.>",
		"<a@-b.example>",
		"<a@b..example>",
		"<a@1.2.3.4>",
		"<a@[1.2.3]>",
		"<a@[IPv6:1.2.3.4]>",
		"<a@[::1]>",
		"<a b@b.example>",
		"<\"a@b.example>",
		"<\"a\x01\"@b.example>",
		"<a(c)@b.example>",
		"<j\xc3\xb6rg@b.example>",
		"<@x.example a@b.example>",
		"",
		"<",
		"<a@b@c>",
		"<\"a\"b@c.example>",
		"<12345678901234567890123456789012345678901234567890123456789012345@b.example>",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ok); i++)
		parse_ok(&ok[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		parse_fails(bad[i], ADDRESS_STRICT);
}

static void test_lenient_paths_take_what_clients_send(void **state)
{
	static const struct accepted ok[] = {
		{" <a@b.example>", 0, "a", "b.example", ""},
		{"a@b.example NOTIFY=NEVER", 0, "a", "b.example", " NOTIFY=NEVER"},
		{"< a@b.example >", 0, "a", "b.example", ""},
		{"<a(home)@(x(y))b.example>", 0, "a", "b.example", ""},
		{"<.a..b.@b.example>", 0, ".a..b.", "b.example", ""},
		{"<a@b.example.>", 0, "a", "b.example", ""},
		{"<\"a\".b@b.example>", 0, "a.b", "b.example", ""},
		{"bob", 0, "bob", "", ""},
		{"< >", ADDRESS_EMPTY, "", "", ""},
		{"<a_b@mx_1.example>", 0, "a_b", "mx_1.example", ""},
	};
	static const char *const bad[] = {"",
					  " ",
					  "<",
					  "@",
					  "<a@b.example",
					  "a@b.example>",
					  "<a@b c>",
					  "<\xff@b.example>",
					  "<a@@b.example>",
					  "(((((",
					  "<((("};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ok); i++)
		parse_ok(&ok[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		parse_fails(bad[i], 0);
	parse_fails("<\xc3@b.example>", ADDRESS_UTF8);
	parse_fails("", ADDRESS_EMPTY);
}

static void test_writing_quotes_what_needs_it_and_reads_back(void **state)
{
	static const struct {
		const char *local, *domain, *text;
	} cases[] = {
		{"a.b", "x.example", "a.b@x.example"},
		{"a b", "x.example", "\"a b\"@x.example"},
		{"", "x.example", "\"\"@x.example"},
		{".a", "x.example", "\".a\"@x.example"},
		{"a\"b", "x.example", "\"a\\\"b\"@x.example"},
		{"postmaster", "", "postmaster"},
		{"", "", ""},
		{"a@b", "x.example", "\"a@b\"@x.example"},
	};
	struct arena arena;

	(void)state;
	arena_init(&arena);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct address a = {str_from(cases[i].local), str_from(cases[i].domain)};
		struct str text = address_str(&arena, &a);

		assert_string_equal(text.ptr, cases[i].text);
		if (strchr(cases[i].local, '"') == NULL) {
			struct address back = address_split(text);

			assert_true(str_eq(back.local, a.local));
			assert_true(str_eq(back.domain, a.domain));
		}
	}
	arena_release(&arena);
}

static void test_domains_compare_by_one_key(void **state)
{
	static const char *const same[][2] = {
		{"Example.ORG", "example.org"},
		{"example.org.", "example.org"},
		{"B\xc3\x9c"
		 "CHER.example",
		 "xn--bcher-kva.example"},
		{"b\xc3\xbc"
		 "cher.example",
		 "xn--bcher-kva.example"},
		{"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{"bu\xcc\x88"
		 "cher.example",
		 "xn--bcher-kva.example"},
		{"fa\xc3\x9f.example", "xn--fa-hia.example"},
	};
	static const char *const none[] = {
		"",	   ".",		  "a..b",	  "-a.example",	   "a-.example", "[127.0.0.1]",
		"1.2.3.4", "a b.example", "\xff.example", "a\x01.example", "a@b"};
	struct arena arena;
	struct str key;

	(void)state;
	arena_init(&arena);
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		assert_true(domain_normalize(str_from(same[i][0]), &arena, &key));
		assert_true(str_eq(key, str_from(same[i][1])));
	}
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		assert_false(domain_normalize(str_from(none[i]), &arena, &key));
	assert_true(str_eq(domain_unicode(STR("xn--bcher-kva.example"), &arena), STR("b\xc3\xbc"
										     "cher.example")));
	/* No name makes this label; shown as what it seems to say, it would be another domain. */
	assert_true(str_eq(domain_unicode(STR("xn--xample-hy68a.test"), &arena), STR("xn--xample-hy68a.test")));
	assert_true(str_eq(domain_unicode(STR("xn----bchR-vekexample"), &arena), STR("xn----bchR-vekexample")));
	assert_true(str_eq(domain_unicode(STR("plain.example"), &arena), STR("plain.example")));
	arena_release(&arena);
}

static void test_endless_parentheses_take_linear_time(void **state)
{
	size_t n = 1000000;
	char *bytes = malloc(n);

	(void)state;
	memset(bytes, '(', n);
	bytes[0] = '<';
	struct arena arena;
	struct address a;
	struct str rest;

	arena_init(&arena);
	assert_int_equal(address_parse_path(str_of(bytes, n), 0, &arena, &a, &rest, NULL), -1);
	memset(bytes + 1, 'a', n - 1);
	assert_int_equal(address_parse_path(str_of(bytes, n), 0, &arena, &a, &rest, NULL), -1);
	arena_release(&arena);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strict_paths_are_the_grammar),
		cmocka_unit_test(test_lenient_paths_take_what_clients_send),
		cmocka_unit_test(test_writing_quotes_what_needs_it_and_reads_back),
		cmocka_unit_test(test_domains_compare_by_one_key),
		cmocka_unit_test(test_endless_parentheses_take_linear_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
