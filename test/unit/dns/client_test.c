/* What the process `dns` says is checked by whoever asked; main.cf's servers, keys and domains are read or refused. */
#include "dns/client.h"
#include "dns/settings.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- answers ---- */

static int answer_of(struct dns_reply reply, enum dns_type type, struct dns_answer *answer)
{
	static struct arena arena;
	struct err err = ERR_NONE;
	int rc;

	arena_release(&arena);
	arena_init(&arena);
	rc = dns_answer_of(&reply, type, &arena, answer, &err);
	assert_true(rc == 0 || err.kind == ERR_TEMP);
	return rc;
}

static void answers_that_are_none_are_refused(void **state)
{
	struct dns_rdata four = {.address = STR("\300\0\2\1")}, three = {.address = STR("abc")};
	static struct dns_rdata many[DNS_RECORDS_MAX + 1];
	struct dns_answer a;

	(void)state;
	assert_int_equal(answer_of((struct dns_reply){.status = DNS_OK}, DNS_A, &a), -1);
	assert_int_equal(answer_of((struct dns_reply){.status = DNS_BOGUS + 1}, DNS_A, &a), -1);
	assert_int_equal(answer_of((struct dns_reply){.status = DNS_NXDOMAIN, .records = {&four, 1}}, DNS_A, &a), -1);
	assert_int_equal(answer_of((struct dns_reply){.status = DNS_OK, .records = {&three, 1}}, DNS_A, &a), -1);
	assert_int_equal(answer_of((struct dns_reply){.status = DNS_OK, .records = {&four, 1}}, DNS_AAAA, &a), -1);
	assert_int_equal(
		answer_of((struct dns_reply){.status = DNS_OK, .records = {many, ARRAY_SIZE(many)}}, DNS_MX, &a), -1);
	assert_int_equal(answer_of((struct dns_reply){.status = DNS_NODATA, .secure = 1}, DNS_A, &a), 0);
	assert_true(a.status == DNS_NODATA && a.secure && a.n == 0);
	assert_int_equal(answer_of((struct dns_reply){.status = DNS_OK, .ttl = 7, .records = {&four, 1}}, DNS_A, &a),
			 0);
	assert_true(a.n == 1 && a.ttl == 7 && a.v[0].address.any.sa_family == AF_INET);
}

static void names_of_addresses(void **state)
{
	static const struct {
		const char *address, *name;
	} cases[] = {
		{"192.0.2.1", "1.2.0.192.in-addr.arpa"},
		{"::ffff:192.0.2.1", "1.2.0.192.in-addr.arpa"},
		{"2001:db8::1", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"},
	};
	struct net_addr a = {0};
	struct arena arena;
	struct str name;

	(void)state;
	arena_init(&arena);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_true(net_addr_parse(str_from(cases[i].address), 0, &a));
		assert_true(dns_reverse_name(&a, STR(".in-addr.arpa"), STR(".ip6.arpa"), &arena, &name));
		assert_true(str_eq(name, str_from(cases[i].name)));
	}
	assert_false(dns_reverse_name(&(struct net_addr){0}, STR(""), STR(""), &arena, &name));
	arena_release(&arena);
}

static void types_have_names(void **state)
{
	enum dns_type type;

	(void)state;
	assert_true(dns_type_parse(STR("tlsa"), &type) && type == DNS_TLSA);
	assert_false(dns_type_parse(STR("ANY"), &type));
	assert_false(dns_type_parse(STR(""), &type));
	assert_string_equal(dns_type_text(DNS_AAAA), "AAAA");
	assert_string_equal(dns_type_text((enum dns_type)255), "?");
	assert_string_equal(dns_status_text((enum dns_status)77), "?");
}

/* ---- settings ---- */

static int settings(const char *main_cf, const char *resolv_conf, const char *anchors, struct dns_settings *s,
		    struct err *err)
{
	struct conf *conf;
	int rc;

	*err = ERR_NONE;
	conf = conf_parse(str_from(main_cf), "main.cf", NULL, err);
	if (conf == NULL)
		fail_msg("%s", err->text);
	rc = dns_settings_parse(conf, str_from(resolv_conf), str_from(anchors), s, err);
	conf_unref(&conf);
	return rc;
}

static void servers_come_from_main_cf_or_resolv_conf(void **state)
{
	static const struct {
		const char *main_cf, *resolv_conf;
		size_t servers, ports;
		const char *first;
	} cases[] = {
		{"dns_servers = 192.0.2.1, 192.0.2.2@5353, 192.0.2.3:5353, [2001:db8::1]:54, 2001:db8::2\n",
		 "nameserver 10.0.0.1", 5, 3, "192.0.2.1@53"},
		{"dns_servers = root\n", "nameserver 10.0.0.1", 0, 1, NULL},
		{"",
		 "# c\nsearch a.test\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\n nameserver\t10.0.0.2 "
		 "\r\nnameserver name.test\noptions x\n",
		 2, 1, "10.0.0.1@53"},
		{"", "", 0, 1, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct dns_settings s;
		struct err err;

		assert_int_equal(settings(cases[i].main_cf, cases[i].resolv_conf, "", &s, &err), 0);
		assert_int_equal(s.server_count, cases[i].servers);
		assert_int_equal(s.port_count, cases[i].ports);
		if (cases[i].first)
			assert_string_equal(s.servers[0], cases[i].first);
		assert_true(dns_settings_equal(&s, &s));
		dns_settings_release(&s);
	}
}

static void faulty_settings_are_refused(void **state)
{
	static const struct {
		const char *main_cf, *anchors, *says;
	} cases[] = {
		{"dns_servers = ns.example.test\n", "", "say an address"},
		{"dns_servers = 192.0.2.1@0\n", "", "say an address"},
		{"dns_servers = 192.0.2.1@65536\n", "", "say an address"},
		{"dns_servers = 192.0.2.1, root\n", "", "say an address"},
		{"dns_servers = root, 192.0.2.1\n", "", "say an address"},
		{"dns_servers = 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.7 10.0.0.8 10.0.0.9 "
		 "10.0.0.10 "
		 "10.0.0.11 10.0.0.12 10.0.0.13 10.0.0.14 10.0.0.15 10.0.0.16 10.0.0.17\n",
		 "", "more than 16"},
		{"dns_insecure_domains = a..b\n", "", "no domain"},
		{"dns_insecure_domains = .\n", "", "no domain"},
		{"", "; comment\n. IN DS 1 8 2 AB\nroot:x:0:0\n", "no DS or DNSKEY"},
		{"dns_dnssec_validation = yes\n", "; nothing\n", "needs a dns_trust_anchor_file"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct dns_settings s;
		struct err err;

		assert_int_equal(settings(cases[i].main_cf, "", cases[i].anchors, &s, &err), -1);
		if (!strstr(err.text, cases[i].says))
			fail_msg("case %zu: %s", i, err.text);
		dns_settings_release(&s);
	}
}

static void other_settings_are_not_equal(void **state)
{
	static const struct {
		const char *main_cf, *anchors;
	} others[] = {{"dns_servers = 192.0.2.2\n", ""},
		      {"dns_servers = 192.0.2.1\ndns_timeout = 9s\n", ""},
		      {"dns_servers = 192.0.2.1\ndns_insecure_domains = lan\n", ""},
		      {"dns_servers = 192.0.2.1\ndns_dnssec_validation = no\n", ""},
		      {"dns_servers = 192.0.2.1\n", ". DS 1 8 2 AB\n"}};
	struct dns_settings one, other;
	struct err err;

	(void)state;
	assert_int_equal(settings("dns_servers = 192.0.2.1\n", "", "", &one, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		assert_int_equal(settings(others[i].main_cf, "", others[i].anchors, &other, &err), 0);
		assert_false(dns_settings_equal(&one, &other));
		dns_settings_release(&other);
	}
	dns_settings_release(&one);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_that_are_none_are_refused),
		cmocka_unit_test(names_of_addresses),
		cmocka_unit_test(types_have_names),
		cmocka_unit_test(servers_come_from_main_cf_or_resolv_conf),
		cmocka_unit_test(faulty_settings_are_refused),
		cmocka_unit_test(other_settings_are_not_equal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
