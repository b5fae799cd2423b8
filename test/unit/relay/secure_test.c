/* TLS levels and log-in of the SMTP client, and the way from a nexthop to hosts. */
#include "relay/mx.h"
#include "secure_stand.h"

/* ---- TLS ---- */

static void tls_is_used_where_it_is_offered(void **state)
{
	(void)state;
	zone_clear();
	begin(STARTTLS AGAIN MAIL, "", "b@r.test");
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	assert_true(str_starts(job.tls, STR("TLSv1.3 with cipher ")));
	end();
}

static void a_hand_shake_that_fails_means_plaintext_only_at_may(void **state)
{
	static const char garbage[] =
		HELLO "S: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nS: no TLS here\nNEXT\n" HELLO "S: 250 STARTTLS\n" MAIL;

	(void)state;
	zone_clear();
	begin(garbage, "", "b@r.test");
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	assert_int_equal(job.tls.len, 0);
	end();
	begin(HELLO "S: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nS: no TLS here\nHANG\n",
	      "smtp_tls_security_level = encrypt\n", "b@r.test");
	deliver();
	is(0, OUTCOME_DEFERRED, "4.7.5", "Cannot start TLS");
	end();
}

/* smtp_tls_protocols are >=TLSv1: better old than none. Where TLS is required it has to be new, unless that is said. */
static void an_old_server_gets_the_tls_it_has(void **state)
{
	static const struct {
		const char *more;
		bool taken;
	} cases[] = {
		{"smtp_tls_security_level = may\n", true},
		{"smtp_tls_security_level = encrypt\n", false},
		{"smtp_tls_security_level = encrypt\nsmtp_tls_mandatory_protocols = >=TLSv1\n", true},
		{"smtp_tls_security_level = verify\nsmtp_tls_mandatory_protocols = >=TLSv1\n" TRUST, true},
	};
	int before;

	(void)state;
	before = SSL_CTX_get_security_level(server.tls);
	SSL_CTX_set_security_level(server.tls, 0);
	SSL_CTX_set_max_proto_version(server.tls, TLS1_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		zone_clear();
		zone[0].name = "mx.remote.test", zone[0].type = DNS_A, zone[0].values = "127.0.0.1";
		begin(cases[i].taken ? STARTTLS AGAIN MAIL : STARTTLS "HANG\n", cases[i].more, "b@r.test");
		to_host("[mx.remote.test]");
		deliver();
		if (cases[i].taken)
			is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
		else
			is(0, OUTCOME_DEFERRED, rcpts[0].code.ptr, "TLS");
		end();
	}
	SSL_CTX_set_max_proto_version(server.tls, 0);
	SSL_CTX_set_security_level(server.tls, before);
}

static void levels_decide_what_is_sent_to_whom(void **state)
{
	static const char refused[] = STARTTLS "HANG\n", taken[] = STARTTLS AGAIN MAIL,
			  not_offered[] = HELLO "S: 250 SIZE\nC: QUIT\n",
			  no[] = HELLO "S: 250 STARTTLS\nC: STARTTLS\nS: 454 no\nC: QUIT\n";
	const struct {
		const char *level, *script;
		bool trusted;
		const char *text; /* NULL: delivered */
	} cases[] = {
		{"encrypt", taken, false, NULL},
		{"encrypt", not_offered, false, "TLS is required, but was not offered"},
		{"encrypt", no, false, "refused to start TLS: 454 no"},
		{"verify", refused, false, "Server certificate not trusted"},
		{"verify", taken, true, NULL},
		{"secure", taken, true, NULL},
		{"verify\nsmtp_tls_verify_cert_match = other.test", refused, true, "Server certificate not verified"},
		{"secure\nsmtp_tls_secure_cert_match = dot-nexthop", taken, true, NULL},
		{"secure\nsmtp_tls_secure_cert_match = .other.test", refused, true, "Server certificate not verified"},
		{"fingerprint", refused, false, "fingerprint not verified"},
		{"none", HELLO "S: 250 STARTTLS\n" MAIL, false, NULL},
		{"dane-only", NULL, true, "no usable DANE records"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char more[300];

		zone_clear();
		zone[0].name = "remote.test", zone[0].type = DNS_MX, zone[0].values = "10 mx.remote.test";
		zone[1].name = "mx.remote.test", zone[1].type = DNS_A, zone[1].values = "127.0.0.1";
		snprintf(more, sizeof(more), "smtp_tls_security_level = %s\n%s", cases[i].level,
			 cases[i].trusted ? TRUST : "");
		begin(cases[i].script ? cases[i].script : "CLOSE\n", more, "b@r.test");
		to_host("remote.test");
		deliver();
		if (cases[i].text == NULL)
			is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
		else
			is(0, OUTCOME_DEFERRED, rcpts[0].code.ptr, cases[i].text);
		assert_int_equal(server.body.len > 0, cases[i].text == NULL);
		end();
	}
}

static void a_named_fingerprint_is_taken(void **state)
{
	char more[300];

	(void)state;
	zone_clear();
	snprintf(more, sizeof(more),
		 "smtp_tls_security_level = fingerprint\nsmtp_tls_fingerprint_cert_match = 00:11 %s\n", fingerprint);
	begin(STARTTLS AGAIN MAIL, more, "b@r.test");
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	end();
}

static void dane_needs_proven_records_and_holds_to_them(void **state)
{
	static const char refused[] = STARTTLS "HANG\n", taken[] = STARTTLS AGAIN MAIL,
			  plain[] = HELLO "S: 250 SIZE\n" MAIL, stopped[] = HELLO "S: 250 SIZE\nC: QUIT\n";
	const struct {
		bool mx_secure, a_secure, tlsa_secure;
		enum dns_status status;
		const char *tlsa, *script, *text;
		const char *insecure_mx; /* its policy; NULL: the default */
	} cases[] = {
		{true, true, true, DNS_OK, "right", taken, NULL},
		{true, true, true, DNS_OK, "wrong", refused, "does not match its TLSA records"},
		{true, true, true, DNS_OK, "wrong,right", taken, NULL},
		{true, true, true, DNS_OK, "right", stopped, "TLS is required, but was not offered"},
		{true, true, true, DNS_OK, "pkix", taken, NULL}, /* of no use: TLS, and no more */
		{true, true, true, DNS_OK, "short", taken, NULL},
		{true, true, true, DNS_OK, "short", stopped, "TLS is required, but was not offered"},
		{true, true, false, DNS_OK, "wrong", plain, NULL},
		{false, true, true, DNS_OK, "wrong", plain, NULL, "may"},
		{false, true, true, DNS_OK, "wrong", refused, "does not match its TLSA records"},
		{false, true, true, DNS_OK, "right", taken, NULL, "dane"},
		{false, true, true, DNS_OK, "wrong", taken, NULL, "encrypt"},
		{false, true, true, DNS_OK, "right", stopped, "TLS is required, but was not offered", "encrypt"},
		{false, true, false, DNS_OK, "wrong", plain, NULL, "dane"},
		{false, true, true, DNS_TEMP, "", NULL, "TLSA lookup error", "encrypt"},
		{true, false, true, DNS_OK, "wrong", plain, NULL},
		{true, true, true, DNS_NODATA, "", plain, NULL},
		{true, true, true, DNS_TEMP, "", NULL, "TLSA lookup error"},
		{true, true, true, DNS_BOGUS, "", NULL, "TLSA lookup error"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char name[100], more[200] = "smtp_tls_security_level = dane\n";

		zone_clear();
		if (cases[i].insecure_mx)
			snprintf(more + strlen(more), sizeof(more) - strlen(more),
				 "smtp_tls_dane_insecure_mx_policy = %s\n", cases[i].insecure_mx);
		begin(cases[i].script ? cases[i].script : "CLOSE\n", more, "b@r.test");
		snprintf(name, sizeof(name), "_%u._tcp.mx.remote.test", server.port);
		zone[0].name = "remote.test", zone[0].type = DNS_MX, zone[0].values = "10 mx.remote.test";
		zone[0].secure = cases[i].mx_secure;
		zone[1].name = "mx.remote.test", zone[1].type = DNS_A, zone[1].values = "127.0.0.1";
		zone[1].secure = cases[i].a_secure;
		zone[2].name = name, zone[2].type = DNS_TLSA, zone[2].values = cases[i].tlsa;
		zone[2].secure = cases[i].tlsa_secure, zone[2].status = cases[i].status;
		to_host("remote.test");
		deliver();
		if (cases[i].text == NULL)
			is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
		else
			is(0, OUTCOME_DEFERRED, rcpts[0].code.ptr, cases[i].text);
		end();
	}
}

/* RFC 7672 2.2.2, 2.2.3. The host of the MX is an alias of real.hoster.test, which has the address. */
static void the_host_of_an_alias_is_proven_by_either_name(void **state)
{
	static const char refused[] = STARTTLS "HANG\n", taken[] = STARTTLS AGAIN MAIL,
			  plain[] = HELLO "S: 250 SIZE\n" MAIL;
	static const struct {
		bool address_secure;
		enum dns_status alias; /* what is said of the alias alone, and */
		bool alias_secure;
		const char *at_real, *at_alias, *script, *text;
	} cases[] = {
		{true, DNS_OK, true, "right", "wrong", taken, NULL},
		{true, DNS_OK, true, "wrong", "right", refused, "does not match its TLSA records"},
		{true, DNS_OK, true, "", "right", taken, NULL},
		{true, DNS_OK, true, "", "wrong", refused, "does not match its TLSA records"},
		{true, DNS_OK, true, "", "", plain, NULL},
		{false, DNS_OK, true, "right", "wrong", refused, "does not match its TLSA records"},
		{false, DNS_OK, true, "wrong", "right", taken, NULL},
		{false, DNS_OK, true, "wrong", "", plain, NULL},
		{false, DNS_OK, false, "wrong", "wrong", plain, NULL},
		{false, DNS_TEMP, true, "wrong", "right", NULL, "TLSA lookup error for mx.remote.test"},
		{false, DNS_BOGUS, true, "wrong", "right", NULL, "TLSA lookup error for mx.remote.test"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char real[100], alias[100];

		zone_clear();
		begin(cases[i].script ? cases[i].script : "CLOSE\n", "smtp_tls_security_level = dane\n", "b@r.test");
		snprintf(real, sizeof(real), "_%u._tcp.real.hoster.test", server.port);
		snprintf(alias, sizeof(alias), "_%u._tcp.mx.remote.test", server.port);
		zone[0].name = "remote.test", zone[0].type = DNS_MX, zone[0].values = "10 mx.remote.test";
		zone[1].name = "mx.remote.test", zone[1].type = DNS_A, zone[1].values = "127.0.0.1";
		zone[1].canonical = "real.hoster.test";
		zone[2].name = "mx.remote.test", zone[2].type = DNS_CNAME, zone[2].values = "real.hoster.test";
		zone[2].status = cases[i].alias, zone[2].secure = cases[i].alias_secure;
		zone[3].name = real, zone[3].type = DNS_TLSA, zone[3].values = cases[i].at_real;
		zone[4].name = alias, zone[4].type = DNS_TLSA, zone[4].values = cases[i].at_alias;
		for (size_t z = 3; z < 5; z++)
			zone[z].status = zone[z].values[0] ? DNS_OK : DNS_NODATA;
		zone[0].secure = zone[3].secure = zone[4].secure = true;
		zone[1].secure = cases[i].address_secure;
		to_host("remote.test");
		deliver();
		if (cases[i].text == NULL)
			is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
		else
			is(0, OUTCOME_DEFERRED, rcpts[0].code.ptr, cases[i].text);
		end();
	}
}

/* RFC 7672 3.1.1, 3.2.2: a record of the server's own certificate asks for no name and no date; one of an authority
 * asks for the host's name, or the destination's, in whatever form it is written. */
static void names_count_where_an_authority_is_named(void **state)
{
	static const char refused[] = STARTTLS "HANG\n", taken[] = STARTTLS AGAIN MAIL;
	static const struct {
		const char *nexthop, *canonical, *host, *tlsa, *script;
	} cases[] = {
		{"remote.test", NULL, "mx.remote.test", "authority", taken},
		{"r.test", NULL, "mx.remote.test", "authority", taken},
		{"remote.test", NULL, "mx.elsewhere.test", "authority", taken},
		{"r.test", "remote.test", "mx.elsewhere.test", "authority", taken},
		{"r.test", NULL, "mx.elsewhere.test", "authority", refused},
		{"r.test", NULL, "mx.elsewhere.test", "right", taken},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char name[100], mx[100];

		zone_clear();
		begin(cases[i].script, "smtp_tls_security_level = dane\n", "b@r.test");
		snprintf(name, sizeof(name), "_%u._tcp.%s", server.port, cases[i].host);
		snprintf(mx, sizeof(mx), "10 %s", cases[i].host);
		zone[0].name = cases[i].nexthop, zone[0].type = DNS_MX, zone[0].values = mx;
		zone[0].canonical = cases[i].canonical;
		zone[1].name = cases[i].host, zone[1].type = DNS_A, zone[1].values = "127.0.0.1";
		zone[2].name = name, zone[2].type = DNS_TLSA, zone[2].values = cases[i].tlsa;
		zone[0].secure = zone[1].secure = zone[2].secure = true;
		to_host(cases[i].nexthop);
		deliver();
		if (cases[i].script == taken)
			is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
		else
			is(0, OUTCOME_DEFERRED, rcpts[0].code.ptr, "does not match its TLSA records");
		end();
	}
}

static void a_policy_of_the_table_stands_before_the_parameter(void **state)
{
	(void)state;
	zone_clear();
	zone[0].name = "a.remote.test", zone[0].type = DNS_A, zone[0].values = "127.0.0.1";
	begin(HELLO "S: 250 SIZE\nC: QUIT\n", "smtp_tls_policy_maps = hash:x\n", "b@r.test");
	to_host("[a.remote.test]");
	policy_table = arena_printf(&arena, "[a.remote.test]:%u=encrypt", server.port).ptr;
	deliver();
	is(0, OUTCOME_DEFERRED, "4.7.4", "TLS is required, but was not offered");
	end();
	begin("CLOSE\n", "smtp_tls_policy_maps = hash:x\n", "b@r.test");
	policy_table = "down";
	deliver();
	is(0, OUTCOME_DEFERRED, "4.7.5", "table is away");
	end();
	begin("CLOSE\n", "smtp_tls_policy_maps = hash:x\n", "b@r.test");
	policy_table = arena_printf(&arena, "%.*s=sometimes", STR_ARG(job.nexthop)).ptr;
	deliver();
	is(0, OUTCOME_DEFERRED, "4.7.5", "\"sometimes\" is no security level");
	end();
}

/* ---- log-in ---- */

#define LOGIN "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:x\n"

static void we_log_in_where_there_is_a_password(void **state)
{
	static const struct {
		const char *offer, *dialogue, *more;
	} cases[] = {
		{"PLAIN LOGIN", "C: AUTH PLAIN AG1lAHNlOmNyZXQ=\nS: 235 Ok\n", "smtp_sasl_security_options =\n"},
		{"LOGIN",
		 "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: bWU=\nS: 334 UGFzc3dvcmQ6\nC: c2U6Y3JldA==\nS: 235 Ok\n",
		 "smtp_sasl_security_options =\n"},
		{"CRAM-MD5 PLAIN",
		 "C: AUTH CRAM-MD5\nS: 334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\n"
		 "C: bWUg\nS: 235 Ok\n",
		 ""},
		{"PLAIN LOGIN CRAM-MD5", "C: AUTH PLAIN\nS: 235 Ok\n",
		 "smtp_sasl_security_options = noanonymous\nsmtp_sasl_mechanism_filter = plain\n"},
		{"PLAIN LOGIN CRAM-MD5", "C: AUTH PLAIN\nS: 235 Ok\n",
		 "smtp_sasl_security_options = noanonymous\nsmtp_sasl_mechanism_filter = !cram-md5, static:all\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char script[1000], more[500];

		zone_clear();
		password_table = "127.0.0.1=me:se:cret";
		snprintf(script, sizeof(script), HELLO "S: 250 AUTH %s\n%s" MAIL, cases[i].offer, cases[i].dialogue);
		snprintf(more, sizeof(more), LOGIN "%s", cases[i].more);
		begin(script, more, "b@r.test");
		deliver();
		is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
		end();
	}
}

static void no_password_goes_where_tls_came_to_nothing(void **state)
{
	(void)state;
	zone_clear();
	password_table = "127.0.0.1=me:secret";
	begin(HELLO "S: 250-AUTH PLAIN\nS: 250 STARTTLS\nC: STARTTLS\nCLOSE\n", LOGIN "smtp_sasl_security_options =\n",
	      "b@r.test");
	deliver();
	is(0, OUTCOME_DEFERRED, "4.4.2", "while sending STARTTLS");
	assert_int_equal(server.connections, 1);
	end();
	zone_clear();
	begin(HELLO "S: 250-AUTH PLAIN\nS: 250 STARTTLS\nC: STARTTLS\nNEXT\n" HELLO "S: 250 STARTTLS\n" MAIL, "",
	      "b@r.test");
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	end();
}

static void a_refused_log_in_waits_or_fails_as_configured(void **state)
{
	(void)state;
	zone_clear();
	password_table = "127.0.0.1=me:secret";
	begin(HELLO "S: 250 AUTH PLAIN\nC: AUTH PLAIN\nS: 535 5.7.8 no\nC: QUIT\n",
	      LOGIN "smtp_sasl_security_options =\n", "b@r.test");
	deliver();
	is(0, OUTCOME_DEFERRED, "4.7.8", "SASL authentication failed; server 127.0.0.1[127.0.0.1] said: 535 5.7.8 no");
	end();
	begin(HELLO "S: 250 AUTH PLAIN\nC: AUTH PLAIN\nS: 535 5.7.8 no\nC: QUIT\n",
	      LOGIN "smtp_sasl_security_options =\nsmtp_sasl_auth_soft_bounce = no\n", "b@r.test");
	deliver();
	is(0, OUTCOME_FAILED, "5.7.8", "535 5.7.8 no");
	end();
	/* No clear text without TLS by default. */
	begin(HELLO "S: 250 AUTH PLAIN LOGIN\nC: QUIT\n", LOGIN, "b@r.test");
	deliver();
	is(0, OUTCOME_DEFERRED, "4.7.8", "no mechanism available");
	end();
}

static void a_refused_log_in_is_not_tried_again_with_the_same_password(void **state)
{
	static const struct {
		const char *passwords, *dialogue, *more, *code, *text;
	} cases[] = {
		{"127.0.0.1=me:old", "C: AUTH PLAIN AG1lAG9sZA==\nS: 454 later\n", "", "4.7.8", "454 later"},
		{"127.0.0.1=me:old", "C: AUTH PLAIN AG1lAG9sZA==\nS: 535 no\n", "", "4.7.8",
		 "failed; server 127.0.0.1[127.0.0.1] said: 535 no"},
		{"127.0.0.1=me:old", "", "", "4.7.8",
		 "SASL [CACHED] authentication failed; server 127.0.0.1[127.0.0.1] said: 535 no"},
		{"127.0.0.1=me:old", "", "smtp_sasl_auth_soft_bounce = no\n", "5.7.8",
		 "SASL [CACHED] authentication failed"},
		{"127.0.0.1=me:new", "C: AUTH PLAIN AG1lAG5ldw==\nS: 535 never\n", "", "4.7.8", "said: 535 never"},
		{"127.0.0.1=you:old", "C: AUTH PLAIN AHlvdQBvbGQ=\nS: 454 later\n", "", "4.7.8", "454 later"},
		{"127.0.0.1=me:old", "C: AUTH PLAIN AG1lAG9sZA==\nS: 454 later\n", "smtp_sasl_auth_cache_name =\n",
		 "4.7.8", "454 later"},
	};

	(void)state;
	zone_clear();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char script[300], more[300];

		password_table = cases[i].passwords;
		snprintf(script, sizeof(script), HELLO "S: 250 AUTH PLAIN\n%sC: QUIT\n", cases[i].dialogue);
		snprintf(more, sizeof(more),
			 LOGIN "smtp_sasl_security_options =\nsmtp_sasl_auth_cache_name = btree:x\n%s", cases[i].more);
		begin(script, more, "b@r.test");
		deliver();
		is(0, cases[i].code[0] == '5' ? OUTCOME_FAILED : OUTCOME_DEFERRED, cases[i].code, cases[i].text);
		end();
	}
}

static void a_verified_server_may_be_shown_more(void **state)
{
	static const char hello[] = STARTTLS "C: EHLO\nS: 250-mx\nS: 250 AUTH PLAIN\n";

	(void)state;
	for (int verified = 0; verified < 2; verified++) {
		char script[600], more[600];

		zone_clear();
		zone[0].name = "remote.test", zone[0].type = DNS_MX, zone[0].values = "10 mx.remote.test";
		zone[1].name = "mx.remote.test", zone[1].type = DNS_A, zone[1].values = "127.0.0.1";
		password_table = "mx.remote.test=me:secret";
		snprintf(script, sizeof(script), "%s%s", hello,
			 verified ? "C: AUTH PLAIN\nS: 235 Ok\n" MAIL : "C: QUIT\n");
		snprintf(more, sizeof(more),
			 LOGIN "smtp_tls_security_level = %s\n%s"
			       "smtp_sasl_tls_verified_security_options = noanonymous\n",
			 verified ? "verify" : "encrypt", TRUST);
		begin(script, more, "b@r.test");
		to_host("remote.test");
		deliver();
		is(0, verified ? OUTCOME_DELIVERED : OUTCOME_DEFERRED, verified ? "2.0.0" : "4.7.8",
		   verified ? "250 Ok" : "no mechanism available");
		end();
	}
}

static void senders_have_passwords_of_their_own(void **state)
{
	(void)state;
	zone_clear();
	password_table = "127.0.0.1=me:x;a@example.test=you:y";
	begin(HELLO "S: 250 AUTH PLAIN\nC: AUTH PLAIN AHlvdQB5\nS: 235 Ok\n" MAIL,
	      LOGIN "smtp_sasl_security_options =\nsmtp_sender_dependent_authentication = yes\n", "b@r.test");
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	end();
}

/* ---- where a nexthop is ---- */

static struct mx_list list;

static int find(const char *nexthop, const char *more, struct err *err)
{
	static const struct mx_dns dns = {
		.lookup = fake_dns,
		.hosts = STR("# who is near\n127.0.0.1 localhost\n 192.0.2.7\tMailHub.test mailhub # old\n2001:db8::7 "
			     "mailhub\n"
			     "nonsense mailhub\n192.0.2.8 both.test\n192.0.2.9 x#mailhub\n10.0.0.1 mailhub")};
	struct mx_self *self = mx_self_new();
	struct nexthop n;
	int rc;

	configure(more);
	*err = ERR_NONE;
	rc = nexthop_parse(str_from(nexthop), 25, false, &n, err);
	if (rc == 0)
		rc = mx_find(&dns, self, conf, &n, n.port == 25, &arena, &list, err);
	mx_self_free(&self);
	conf_unref(&conf);
	return rc;
}

static bool host_is(size_t i, const char *name, const char *address)
{
	char text[NET_ADDR_TEXT];

	return i < list.n && str_eq(list.v[i].name, str_from(name)) &&
	       strcmp(net_addr_text(&list.v[i].addr, text), address) == 0 && net_addr_port(&list.v[i].addr) == 25;
}

static void hosts_come_in_the_order_of_their_preference(void **state)
{
	unsigned first[2] = {0};
	struct err err;

	(void)state;
	zone_clear();
	zone[0].name = "r.test", zone[0].type = DNS_MX, zone[0].values = "20 c.test,10 a.test,10 b.test,5 192.0.2.9";
	zone[1].name = "a.test", zone[1].type = DNS_A, zone[1].values = "192.0.2.1";
	zone[2].name = "b.test", zone[2].type = DNS_A, zone[2].values = "192.0.2.2";
	zone[3].name = "c.test", zone[3].type = DNS_A, zone[3].values = "192.0.2.3";
	zone[4].name = "c.test", zone[4].type = DNS_AAAA, zone[4].values = "2001:db8::3";
	for (int i = 0; i < 50; i++) {
		arena_init(&arena);
		assert_int_equal(find("r.test", "smtp_address_preference = ipv6\n", &err), 0);
		assert_int_equal(list.n, 4);
		first[host_is(0, "b.test", "192.0.2.2")]++;
		assert_true(host_is(2, "c.test", "2001:db8::3") && host_is(3, "c.test", "192.0.2.3"));
		arena_release(&arena);
	}
	assert_true(first[0] > 5 && first[1] > 5);
	arena_init(&arena);
	assert_int_equal(find("r.test", "inet_protocols = ipv6\n", &err), 0);
	assert_int_equal(list.n, 1);
	assert_int_equal(find("r.test", "smtp_mx_address_limit = 3\nsmtp_randomize_addresses = no\n", &err), 0);
	assert_true(list.n == 3 && host_is(0, "a.test", "192.0.2.1") && host_is(2, "c.test", "2001:db8::3"));
	arena_release(&arena);
}

static void what_dns_cannot_tell_waits_and_what_it_denies_fails(void **state)
{
	static const struct {
		enum dns_status mx, a;
		const char *mx_values, *more;
		enum err_kind kind;
		const char *code, *text;
	} cases[] = {
		{DNS_NXDOMAIN, DNS_NXDOMAIN, "", "", ERR_PERM, "5.4.4", "type=MX: Host not found"},
		{DNS_TEMP, DNS_OK, "", "", ERR_TEMP, "4.4.3", "Host not found, try again"},
		{DNS_BOGUS, DNS_OK, "", "", ERR_TEMP, "4.4.3", "type=MX"},
		{DNS_TEMP, DNS_OK, "", "ignore_mx_lookup_error = yes\n", ERR_OK, "", ""},
		{DNS_NODATA, DNS_OK, "", "", ERR_OK, "", ""},
		{DNS_NODATA, DNS_NODATA, "", "", ERR_PERM, "5.4.4", "type=A: Host not found"},
		{DNS_NODATA, DNS_TEMP, "", "", ERR_TEMP, "4.4.3", "type=A"},
		{DNS_OK, DNS_OK, "0 ", "", ERR_PERM, "5.1.10", "nullMX"},
		{DNS_OK, DNS_NODATA, "10 r.test", "", ERR_PERM, "5.4.4", "no MX host for r.test"},
		{DNS_OK, DNS_NODATA, "10 r.test", "smtp_defer_if_no_mx_address_found = yes\n", ERR_TEMP, "4.4.4",
		 "no MX host"},
		{DNS_OK, DNS_TEMP, "10 r.test", "", ERR_TEMP, "4.4.3", "type=A"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err;

		zone_clear();
		zone[0].name = "r.test", zone[0].type = DNS_MX, zone[0].values = cases[i].mx_values;
		zone[0].status = cases[i].mx;
		zone[1].name = "r.test", zone[1].type = DNS_A, zone[1].values = "192.0.2.1";
		zone[1].status = cases[i].a;
		arena_init(&arena);
		assert_int_equal(find("r.test", cases[i].more, &err), cases[i].kind == ERR_OK ? 0 : -1);
		assert_int_equal(err.kind, cases[i].kind);
		assert_string_equal(err.code, cases[i].code);
		if (strstr(err.text, cases[i].text) == NULL)
			fail_msg("case %zu: %s", i, err.text);
		arena_release(&arena);
	}
}

static void mail_does_not_come_back_to_ourselves(void **state)
{
	struct err err;

	(void)state;
	zone_clear();
	zone[0].name = "r.test", zone[0].type = DNS_MX, zone[0].values = "10 a.test,20 us.test,20 b.test,30 c.test";
	zone[1].name = "a.test", zone[1].type = DNS_A, zone[1].values = "192.0.2.1";
	zone[2].name = "us.test", zone[2].type = DNS_A, zone[2].values = "198.51.100.7";
	zone[3].name = "b.test", zone[3].type = DNS_A, zone[3].values = "192.0.2.2";
	zone[4].name = "c.test", zone[4].type = DNS_A, zone[4].values = "192.0.2.3";
	arena_init(&arena);
	assert_int_equal(find("r.test", "proxy_interfaces = 198.51.100.7\n", &err), 0);
	assert_true(list.n == 1 && host_is(0, "a.test", "192.0.2.1"));
	zone[1].values = "127.0.0.1";
	assert_int_equal(find("r.test", "", &err), -1);
	assert_string_equal(err.code, "5.4.6");
	assert_string_equal(err.text, "mail for r.test loops back to myself");
	/* Written as IPv6 it is the same host. */
	zone[1].type = DNS_AAAA;
	for (size_t i = 0; i < 3; i++) {
		static const char *const mapped[] = {"::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:198.51.100.7"};

		zone[1].values = mapped[i];
		assert_int_equal(find("r.test", "proxy_interfaces = 198.51.100.7\n", &err), -1);
		assert_string_equal(err.code, "5.4.6");
	}
	zone[1].values = "::ffff:192.0.2.1";
	assert_int_equal(find("r.test", "proxy_interfaces = 198.51.100.7\n", &err), 0);
	assert_int_equal(find("[127.0.0.1]", "", &err), -1);
	assert_int_equal(find("[0.0.0.0]", "", &err), -1);
	assert_int_equal(find("[127.0.0.1]:2525", "", &err), 0);
	arena_release(&arena);
}

/* Names behind which nobody answers, each for as long as he may. */

static int64_t slow_now;
static unsigned slow_asked;

static int64_t slow_clock(void)
{
	return slow_now;
}

static int slow_dns(void *ctx, struct str name, enum dns_type type, struct arena *a, struct dns_answer *answer,
		    struct err *err)
{
	(void)ctx, (void)err;
	slow_asked++;
	*answer = (struct dns_answer){.status = DNS_TEMP, .canonical = name, .why = STR("no answer in time")};
	if (type != DNS_MX && str_starts(name, STR("good"))) {
		answer->status = type == DNS_A ? DNS_OK : DNS_NODATA;
		answer->v = ARENA_NEW(a, struct dns_record);
		answer->n = type == DNS_A;
		(void)!net_addr_parse(STR("192.0.2.1"), 0, &answer->v->address);
	} else if (type == DNS_MX) {
		answer->status = DNS_OK;
		answer->v = ARENA_ARRAY(a, struct dns_record, 200);
		for (; answer->n < 200; answer->n++)
			answer->v[answer->n] = (struct dns_record){
				.type = DNS_MX, .name = STR("dead.test"), .preference = (uint16_t)(10 + answer->n)};
		if (str_starts(name, STR("half")))
			answer->v[77].name = STR("good.test"), answer->v[77].preference = 1;
	} else {
		slow_now += 20000;
	}
	return 0;
}

static void names_that_nobody_answers_for_do_not_hold_a_thread_for_an_hour(void **state)
{
	static const struct mx_dns dns = {.lookup = slow_dns, .now_ms = slow_clock};
	struct mx_self *self = mx_self_new();
	struct nexthop n;
	struct err err = ERR_NONE;

	(void)state;
	arena_init(&arena);
	configure("dns_timeout = 20s\n");
	assert_int_equal(nexthop_parse(STR("r.test"), 25, false, &n, &err), 0);
	assert_int_equal(mx_find(&dns, self, conf, &n, true, &arena, &list, &err), -1);
	assert_string_equal(err.code, "4.4.3");
	assert_non_null(strstr(err.text, "take too long"));
	assert_true(slow_now <= 120000 && slow_asked < 10);
	/* What was found meanwhile is used. */
	assert_int_equal(nexthop_parse(STR("half.test"), 25, false, &n, &err), 0);
	assert_int_equal(mx_find(&dns, self, conf, &n, true, &arena, &list, &err), 0);
	assert_true(list.n == 1 && host_is(0, "good.test", "192.0.2.1"));
	conf_unref(&conf);
	mx_self_free(&self);
	arena_release(&arena);
}

static void nexthops_are_read_as_postfix_writes_them(void **state)
{
	static const struct {
		const char *text, *host;
		unsigned port;
		bool no_mx, literal;
	} good[] = {
		{"a.test", "a.test", 25, false, false},
		{"a.test:26", "a.test", 26, false, false},
		{"[a.test]", "a.test", 25, true, false},
		{"[a.test]:submission", "a.test", 587, true, false},
		{"[192.0.2.1]:26", "192.0.2.1", 26, true, true},
		{"[2001:db8::1]", "2001:db8::1", 25, true, true},
		{"[IPv6:2001:db8::1]:26", "2001:db8::1", 26, true, true},
		{"inet:a.test:26", "a.test", 26, false, false},
		{"a.test.", "a.test", 25, false, false},
	};
	static const char *const bad[] = {"",
					  "[",
					  "[]",
					  "[a.test",
					  "[a.test]x",
					  "[a.test]:",
					  "a.test:",
					  "a.test:0",
					  "a.test:99999",
					  "a.test:x",
					  ":25",
					  "smtp:[a.test]:25",
					  "/etc/hosts",
					  "2001:db8::1:x",
					  "a.test]"};
	struct err err = ERR_NONE;
	struct nexthop n;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(nexthop_parse(str_from(good[i].text), 25, false, &n, &err), 0);
		assert_true(str_eq(n.host, str_from(good[i].host)));
		assert_int_equal(n.port, good[i].port);
		assert_int_equal(n.no_mx, good[i].no_mx);
		assert_int_equal(n.literal, good[i].literal);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (nexthop_parse(str_from(bad[i]), 25, false, &n, &err) == 0)
			fail_msg("%s is taken", bad[i]);
	assert_int_equal(nexthop_parse(STR("unix:/a/b"), 24, true, &n, &err), 0);
	assert_true(n.path);
}

/* The next host gets what the first one could not take, and no more. */
static void the_next_host_is_tried_for_who_is_left(void **state)
{
	struct scripted second = {.tls = server.tls};
	char more[200];

	(void)state;
	zone_clear();
	scripted_start(&second, HELLO
		       "S: 250 PIPELINING\nC: MAIL\nC: RCPT TO:<c@r.test>\nC: DATA\nS: 250 Ok\nS: 250 Ok\nS: 354 go\n"
		       "DATA\nS: 250 second\nC: QUIT\n");
	snprintf(more, sizeof(more), "smtp_fallback_relay = [127.0.0.1]:%u\n", second.port);
	begin(PIPED "C: MAIL\nC: RCPT\nC: RCPT\nC: DATA\nS: 250 Ok\nS: 250 Ok\nS: 451 4.2.0 later\nS: 354 go\nDATA\nS: "
		    "250 first\nC: QUIT\n",
	      more, "b@r.test c@r.test");
	deliver();
	scripted_stop(&second);
	assert_string_equal(second.wrong, "");
	is(0, OUTCOME_DELIVERED, "2.0.0", "first");
	is(1, OUTCOME_DELIVERED, "2.0.0", "second");
	scripted_release(&second);
	end();
}

/* Where mail goes when it is not for the nexthop first named; nobody answers for gone.test. */
static void other_destinations_take_what_the_first_cannot(void **state)
{
	/* %u: the port of the server. */
	static const struct {
		const char *nexthop, *more;
	} cases[] = {
		{"gone.test, [127.0.0.1]:%u", ""},
		{"[gone.test]\t[127.0.0.1]:%u", ""},
		{"[gone.test]:0,[127.0.0.1]:%u", ""},
		{"gone.test", "smtp_fallback_relay = [127.0.0.1]:%u\n"},
		{"null.test", "smtp_fallback_relay = gone.test, [127.0.0.1]:%u\n"},
		{"gone.test", "relayhost = gone.test\nsmtp_fallback_relay = [127.0.0.1]:%u\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char nexthop[100], more[200];

		zone_clear();
		zone[0].name = "null.test", zone[0].type = DNS_MX, zone[0].values = "0 ";
		scripted_start(&server, PLAIN MAIL);
		snprintf(nexthop, sizeof(nexthop), cases[i].nexthop, server.port);
		snprintf(more, sizeof(more), cases[i].more, server.port);
		configure(more);
		job_make("b@r.test");
		job.nexthop = str_from(nexthop);
		deliver();
		is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
		end();
	}
}

static void without_lookups_no_mx_is_asked_for(void **state)
{
	static const char *const ways[] = {"disable_dns_lookups = yes\n", "smtp_dns_support_level = disabled\n"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		zone_clear();
		zone[0].name = "r.test", zone[0].type = DNS_MX, zone[0].values = "0 "; /* takes no mail */
		zone[1].name = "r.test", zone[1].type = DNS_A, zone[1].values = "127.0.0.1";
		begin(PLAIN MAIL, ways[i], "b@r.test");
		job.nexthop = arena_printf(&arena, "r.test:%u", server.port);
		deliver();
		is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
		assert_null(strstr(asked, "r.test/15"));
		end();
	}
}

static void hosts_of_the_file_are_found_where_they_are_asked_for(void **state)
{
	struct err err;

	(void)state;
	arena_init(&arena);
	zone_clear();
	zone[0].name = "both.test", zone[0].type = DNS_A, zone[0].values = "192.0.2.1";
	assert_int_equal(find("[mailhub]", "", &err), -1);
	assert_int_equal(find("[mailhub]", "smtp_randomize_addresses = no\nsmtp_host_lookup = dns, native\n", &err), 0);
	assert_true(list.n == 3 && host_is(0, "mailhub", "192.0.2.7") && host_is(1, "mailhub", "2001:db8::7") &&
		    host_is(2, "mailhub", "10.0.0.1"));
	assert_int_equal(find("mailhub.TEST.", "smtp_host_lookup = native\n", &err), 0);
	assert_true(list.n == 1 && host_is(0, "mailhub.TEST", "192.0.2.7"));
	assert_int_equal(find("[mailhub]", "smtp_host_lookup = native\ninet_protocols = ipv6\n", &err), 0);
	assert_true(list.n == 1 && host_is(0, "mailhub", "2001:db8::7"));
	/* Who knows of it first. */
	assert_int_equal(find("[both.test]", "smtp_host_lookup = dns, native\n", &err), 0);
	assert_true(list.n == 1 && host_is(0, "both.test", "192.0.2.1"));
	assert_int_equal(find("[both.test]", "smtp_host_lookup = native\n", &err), 0);
	assert_true(list.n == 1 && host_is(0, "both.test", "192.0.2.8"));
	assert_int_equal(find("[both.test]", "disable_dns_lookups = yes\n", &err), 0);
	assert_true(list.n == 1 && host_is(0, "both.test", "192.0.2.8"));
	/* Ourselves we are there, too. */
	assert_int_equal(find("[localhost]", "smtp_host_lookup = native\n", &err), -1);
	assert_string_equal(err.code, "5.4.6");
	arena_release(&arena);
}

static void a_wrong_relayhost_costs_no_mail(void **state)
{
	static const struct {
		const char *nexthop, *more;
		enum queue_outcome outcome;
		const char *code;
	} cases[] = {
		{"gone.test", "", OUTCOME_FAILED, "5.4.4"},
		{"gone.test", "relayhost = gone.test\n", OUTCOME_DEFERRED, "4.3.5"},
		{"gone.test, [gone.test]", "relayhost = gone.test, [gone.test]\n", OUTCOME_DEFERRED, "4.3.5"},
		{"null.test", "relayhost = null.test\n", OUTCOME_DEFERRED, "4.3.5"},
		{"self.test", "relayhost = self.test\n", OUTCOME_DEFERRED, "4.3.5"},
		{"gone.test", "relayhost = other.test\n", OUTCOME_FAILED, "5.4.4"},
		{"gone.test", "smtp_fallback_relay = also.gone.test\n", OUTCOME_DEFERRED, "4.3.5"},
		/* We are its MX: who gets it next would send it here again. */
		{"self.test", "smtp_fallback_relay = also.gone.test\n", OUTCOME_FAILED, "5.4.6"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		zone_clear();
		zone[0].name = "null.test", zone[0].type = DNS_MX, zone[0].values = "0 ";
		zone[1].name = "self.test", zone[1].type = DNS_A, zone[1].values = "127.0.0.1";
		begin("CLOSE\n", cases[i].more, "b@r.test");
		job.nexthop = str_from(cases[i].nexthop);
		remote_deliver(remote, &job);
		scripted_stop(&server);
		is(0, cases[i].outcome, cases[i].code, "");
		end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tls_is_used_where_it_is_offered),
		cmocka_unit_test(a_hand_shake_that_fails_means_plaintext_only_at_may),
		cmocka_unit_test(an_old_server_gets_the_tls_it_has),
		cmocka_unit_test(levels_decide_what_is_sent_to_whom),
		cmocka_unit_test(a_named_fingerprint_is_taken),
		cmocka_unit_test(dane_needs_proven_records_and_holds_to_them),
		cmocka_unit_test(the_host_of_an_alias_is_proven_by_either_name),
		cmocka_unit_test(names_count_where_an_authority_is_named),
		cmocka_unit_test(a_policy_of_the_table_stands_before_the_parameter),
		cmocka_unit_test(we_log_in_where_there_is_a_password),
		cmocka_unit_test(no_password_goes_where_tls_came_to_nothing),
		cmocka_unit_test(a_refused_log_in_waits_or_fails_as_configured),
		cmocka_unit_test(a_refused_log_in_is_not_tried_again_with_the_same_password),
		cmocka_unit_test(a_verified_server_may_be_shown_more),
		cmocka_unit_test(senders_have_passwords_of_their_own),
		cmocka_unit_test(hosts_come_in_the_order_of_their_preference),
		cmocka_unit_test(what_dns_cannot_tell_waits_and_what_it_denies_fails),
		cmocka_unit_test(mail_does_not_come_back_to_ourselves),
		cmocka_unit_test(names_that_nobody_answers_for_do_not_hold_a_thread_for_an_hour),
		cmocka_unit_test(nexthops_are_read_as_postfix_writes_them),
		cmocka_unit_test(the_next_host_is_tried_for_who_is_left),
		cmocka_unit_test(other_destinations_take_what_the_first_cannot),
		cmocka_unit_test(without_lookups_no_mx_is_asked_for),
		cmocka_unit_test(hosts_of_the_file_are_found_where_they_are_asked_for),
		cmocka_unit_test(a_wrong_relayhost_costs_no_mail),
	};

	remote_env = (struct remote_env){.dns_lookup = fake_dns, .lookup = fake_lookup};
	return cmocka_run_group_tests(tests, make_certificate, drop_certificate);
}
