/* MTA-STS: the TXT record, the policy, and the hosts it names (RFC 8461 3.1, 3.2, 4.1). */
#include "base/buf.h"
#include "base/fatal.h"
#include "relay/sts_policy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static int record(const char *text, char *id, size_t size)
{
	/* Of exactly its length: what reads past it is seen. */
	struct str s = str_of(str_dup(str_from(text)), strlen(text)), found;
	int rc = sts_record_parse(s, &found);

	snprintf(id, size, "%.*s", STR_ARG(found));
	free((char *)s.ptr);
	return rc;
}

static void a_record_has_a_version_and_one_id(void **state)
{
	static const struct {
		const char *text;
		int result;
		const char *id;
	} cases[] = {
		{"v=STSv1; id=20160831085700Z;", 1, "20160831085700Z"},
		{"v=STSv1;id=1", 1, "1"},
		{"v=STSv1 ;\tid=a ; x-y.z_1=some/thing:else;", 1, "a"},
		{"v=STSv1; other=b; id=a", 1, "a"},
		{"v=STSv1; id=12345678901234567890123456789012", 1, "12345678901234567890123456789012"},
		{"v=STSv1; id=123456789012345678901234567890123", -1, ""},
		{"v=STSv1", -1, ""},
		{"v=STSv1;", -1, ""},
		{"v=STSv1; ;", -1, ""},
		{"v=STSv1;; id=1", -1, ""},
		{"v=STSv1; id=", -1, ""},
		{"v=STSv1; id", -1, ""},
		{"v=STSv1; id=a-b", -1, ""},
		{"v=STSv1; ID=1", -1, ""},
		{"v=STSv1; id=1; _x=1", -1, ""},
		{"v=STSv1; id=1; x=a b", -1, ""},
		{"v=STSv2; id=1", 0, ""},
		{"V=STSv1; id=1", 0, ""},
		{" v=STSv1; id=1", 0, ""},
		{"v=STSv11; id=1", 0, ""},
		{"v=spf1 -all", 0, ""},
		{"", 0, ""},
	};
	char id[100];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int rc = record(cases[i].text, id, sizeof(id));

		if (rc != cases[i].result || (rc == 1 && strcmp(id, cases[i].id) != 0))
			fail_msg("\"%s\": %d \"%s\"", cases[i].text, rc, id);
	}
	assert_int_equal(sts_record_parse(str_of("v=STSv1; id=1; id=2", 19), &(struct str){0}), -1);
}

#define HEAD "version: STSv1\nmode: enforce\nmax_age: 86400\n"

static void a_policy_is_read_as_it_is_written(void **state)
{
	struct str text = STR("version: STSv1\r\nmode: enforce\r\nmx: Mail.Example.com\r\nmx:\t*.example.net \r\n"
			      "mx: b\xc3\xbc"
			      "cher.example\r\nmax_age: 604800\r\nunknown: x: y\r\nmode: none\r\n\r\n");
	struct sts_policy p;
	struct arena arena;
	struct err err = ERR_NONE;

	(void)state;
	arena_init(&arena);
	assert_int_equal(sts_policy_parse(text, &arena, &p, &err), 0);
	assert_int_equal(p.mode, STS_ENFORCE);
	assert_int_equal(p.max_age, 604800);
	assert_int_equal(p.mx_count, 3);
	assert_true(str_eq(p.mx[0], STR("mail.example.com")));
	assert_true(str_eq(p.mx[1], STR("*.example.net")));
	assert_true(str_eq(p.mx[2], STR("xn--bcher-kva.example")));
	assert_int_equal(sts_policy_parse(STR("version:STSv1\nmode:none\nmax_age:0"), &arena, &p, &err), 0);
	assert_int_equal(p.mode, STS_NONE);
	assert_string_equal(sts_mode_text(STS_TESTING), "testing");
	arena_release(&arena);
}

static void what_is_no_policy_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"<html><body>404</body></html>",
		HEAD,
		HEAD "mx: \n",
		HEAD "mx: *\n",
		HEAD "mx: *.\n",
		HEAD "mx: mail.*.example\n",
		HEAD "mx: *.*.example\n",
		HEAD "mx: a b\n",
		HEAD "mx: a.example\nnonsense\n",
		HEAD "mx: a.example\nx: \x01\n",
		"version: STSv2\nmode: enforce\nmax_age: 1\nmx: a.example\n",
		"mode: enforce\nmax_age: 1\nmx: a.example\n",
		"version: STSv1\nmax_age: 1\nmx: a.example\n",
		"version: STSv1\nmode: enforce\nmx: a.example\n",
		"version: STSv1\nmode: Enforce\nmax_age: 1\nmx: a.example\n",
		"version: STSv1\nmode: enforce\nmax_age: 31557601\nmx: a.example\n",
		"version: STSv1\nmode: enforce\nmax_age: -1\nmx: a.example\n",
		"version: STSv1\nmode: enforce\nmax_age: 99999999999999999999\nmx: a.example\n",
	};
	struct sts_policy p;
	struct arena arena;

	(void)state;
	arena_init(&arena);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err err = ERR_NONE;

		if (sts_policy_parse(str_from(bad[i]), &arena, &p, &err) == 0)
			fail_msg("taken: %s", bad[i]);
		assert_int_not_equal(err.text[0], '\0');
	}
	arena_release(&arena);
}

static void too_many_hosts_and_too_many_bytes_are_no_policy(void **state)
{
	struct sts_policy p;
	struct arena arena;
	struct buf text;

	(void)state;
	arena_init(&arena);
	buf_init(&text, 1 << 20);
	buf_addz(&text, HEAD);
	for (int i = 0; i < STS_MX_MAX; i++)
		buf_addf(&text, "mx: mx%d.example\n", i);
	assert_int_equal(sts_policy_parse(buf_str(&text), &arena, &p, NULL), 0);
	assert_int_equal(p.mx_count, STS_MX_MAX);
	buf_addz(&text, "mx: one.more.example\n");
	assert_int_equal(sts_policy_parse(buf_str(&text), &arena, &p, NULL), -1);
	buf_clear(&text);
	buf_addz(&text, HEAD "mx: a.example\n");
	while (text.len <= STS_POLICY_SIZE_MAX)
		buf_addz(&text, "filler: 1234567890\n");
	assert_int_equal(sts_policy_parse(buf_str(&text), &arena, &p, NULL), -1);
	buf_release(&text);
	arena_release(&arena);
}

static void a_pattern_stands_for_one_label_more(void **state)
{
	static const struct {
		const char *host;
		bool named;
	} cases[] = {
		{"mail.example.com", true}, {"MAIL.example.com.", true},
		{"example.com", false},	    {"a.mail.example.com", false},
		{"mx1.example.net", true},  {"mx_1.example.net", true},
		{"example.net", false},	    {"a.mx1.example.net", false},
		{"evilexample.net", false}, {"", false},
		{"*.example.net", false},   {"net", false},
	};
	struct sts_policy p;
	struct arena arena;

	(void)state;
	arena_init(&arena);
	assert_int_equal(sts_policy_parse(STR(HEAD "mx: mail.example.com\nmx: *.example.net\n"), &arena, &p, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (sts_policy_names(&p, str_from(cases[i].host), &arena) != cases[i].named)
			fail_msg("%s", cases[i].host);
	arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record_has_a_version_and_one_id),
		cmocka_unit_test(a_policy_is_read_as_it_is_written),
		cmocka_unit_test(what_is_no_policy_is_refused),
		cmocka_unit_test(too_many_hosts_and_too_many_bytes_are_no_policy),
		cmocka_unit_test(a_pattern_stands_for_one_label_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
