/* smtp_tls_policy_maps and the parameters behind it, and TLS sessions. */
#include "relay/tls_policy.h"
#include "relay/tls_sessions.h"
#include "secure_stand.h"

#define TABLE "smtp_tls_policy_maps = hash:x\n"

static void policy_for_all(const char *policy)
{
	policy_table = arena_printf(&arena, "remote.test:%u=%s", server.port, policy).ptr;
	zone[0].name = "remote.test", zone[0].type = DNS_MX, zone[0].values = "10 mx.remote.test";
	zone[1].name = "mx.remote.test", zone[1].type = DNS_A, zone[1].values = "127.0.0.1";
	to_host("remote.test");
}

static void a_faulty_entry_makes_mail_wait_and_says_why(void **state)
{
	static const struct {
		const char *policy, *why;
		bool speaks; /* it is noticed when TLS begins */
	} cases[] = {
		{"", "there is no security level in it"},
		{"often", "\"often\" is no security level"},
		{"encrypt fast", "\"fast\" is no attribute=value"},
		{"encrypt fast=yes", "fast=yes: there is no attribute of that name"},
		{"encrypt match=x", "match=x: only fingerprint, verify and secure compare"},
		{"dane match=x", "match=x: only fingerprint, verify and secure compare"},
		{"secure match=", "match=: there is no value"},
		{"fingerprint", "there is no fingerprint to compare with"},
		{"may protocols=TLSv9", "\"TLSv9\" is no protocol"},
		{"may protocols=>=TLSv1.3:<=TLSv1.2", "it leaves no protocol"},
		{"may protocols=!SSLv2 protocols=!SSLv3", "this stands there twice"},
		{"may ciphers=strong", "a grade is one of export, low, medium, high, null"},
		{"encrypt exclude=ALL", "client TLS configuration problem: ciphers", true},
		{"encrypt exclude=a/b", "\"a/b\" is no kind of ciphers"},
		{"encrypt tafile=/ca.pem", "only verify and secure trust anybody"},
		{"secure tafile=ca.pem", "this is no absolute path"},
		{"secure tafile=/gone.pem", "/gone.pem was not read; \"postrider reload\" does", true},
		{"secure tafile=/empty.pem", "/empty.pem holds no certificate and no public key", true},
		{"encrypt connection_reuse=often", "this is neither yes nor no"},
		{"encrypt servername=a/b", "this is no host name"},
		{"encrypt enable_rpk=yes", "raw public keys are not known"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		zone_clear();
		begin(cases[i].speaks ? HELLO "S: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nHANG\n" : "CLOSE\n", TABLE,
		      "b@r.test");
		policy_for_all(cases[i].policy);
		deliver();
		is(0, OUTCOME_DEFERRED, "4.7.5", cases[i].why);
		assert_int_equal(server.body.len, 0);
		end();
	}
}

static void entries_say_what_counts_at_their_destination(void **state)
{
	static const char taken[] = STARTTLS AGAIN MAIL, refused[] = STARTTLS "HANG\n";
	static const struct {
		const char *policy, *more, *script, *text, *tls;
	} cases[] = {
		{"secure", TRUST, taken, NULL, "TLSv1.3"},
		{"secure match=mx.remote.test", TRUST, taken, NULL, "TLSv1.3"},
		{"secure match=a.test:b.test", TRUST, refused, "not verified", NULL},
		{"secure match=a.test match=remote.test", TRUST, taken, NULL, "TLSv1.3"},
		{"verify match=.test,enable_rpk=no", TRUST, taken, NULL, "TLSv1.3"},
		{"secure tafile=/ca.pem", "", taken, NULL, "TLSv1.3"},
		{"secure tafile=/other.pem tafile=/key.pem", "", taken, NULL, "TLSv1.3"},
		{"secure tafile=/ca.pem match=a.test", "", refused, "not verified", NULL},
		{"secure tafile=/other.pem", TRUST, refused, "not trusted", NULL},
		{"secure tafile=/leaf.pem", "", taken, NULL, "TLSv1.3"},
		{"secure tafile=/leaf.pem match=a.test", "", refused, "not verified", NULL},
		{"secure", TRUST "smtp_tls_trust_anchor_file = /other.pem\n", refused, "not trusted", NULL},
		{"secure tafile=/key.pem", "smtp_tls_trust_anchor_file = /other.pem\n", taken, NULL, "TLSv1.3"},
		{"encrypt protocols=!TLSv1.3", "", taken, NULL, "TLSv1.2"},
		{"encrypt protocols=TLSv1.2", "", taken, NULL, "TLSv1.2"},
		{"encrypt protocols=<=0303:>=0x0303", "", taken, NULL, "TLSv1.2"},
		{"may protocols=>=TLSv1.2:<=0305", "", taken, NULL, "TLSv1.3"},
		{"may", "smtp_tls_protocols = <=TLSv1.2\n", taken, NULL, "TLSv1.2"},
		{"encrypt", "smtp_tls_mandatory_protocols = !SSLv2 !SSLv3, !TLSv1, !TLSv1.1, !TLSv1.3\n", taken, NULL,
		 "TLSv1.2"},
		{"encrypt protocols=TLSv1.2 exclude=AES256:CHACHA20:AESCCM:CAMELLIA:ARIA", "", taken, NULL,
		 "TLSv1.2 with cipher ECDHE-ECDSA-AES128-GCM-SHA256"},
		{"encrypt protocols=TLSv1.2 ciphers=high", "tls_high_cipherlist = ECDHE-ECDSA-CHACHA20-POLY1305\n",
		 taken, NULL, "TLSv1.2 with cipher ECDHE-ECDSA-CHACHA20-POLY1305"},
		{"encrypt protocols=TLSv1.2", "smtp_tls_mandatory_ciphers = low\ntls_low_cipherlist = AES128+ECDHE\n",
		 taken, NULL, "TLSv1.2 with cipher ECDHE-ECDSA-AES128-GCM-SHA256"},
		{"may protocols=TLSv1.2",
		 "smtp_tls_ciphers = high\ntls_high_cipherlist = ALL\n"
		 "smtp_tls_exclude_ciphers = AES256, CHACHA20, AESCCM, ARIA\n",
		 taken, NULL, "TLSv1.2 with cipher ECDHE-ECDSA-AES128-GCM-SHA256"},
		{"encrypt protocols=TLSv1.2 ciphers=high",
		 "smtp_tls_cipherlist = ECDHE-ECDSA-AES128-GCM-SHA256\ntls_high_cipherlist = CHACHA20\n", taken, NULL,
		 "TLSv1.2 with cipher ECDHE-ECDSA-AES128-GCM-SHA256"},
		{"encrypt protocols=TLSv1.2", "tls_medium_cipherlist = ECDHE-ECDSA-CHACHA20-POLY1305\n", taken, NULL,
		 "TLSv1.2 with cipher ECDHE-ECDSA-CHACHA20-POLY1305"},
		{"encrypt protocols=TLSv1.2 ciphers=export", "tls_export_cipherlist = ECDHE+AES128\n", taken, NULL,
		 "TLSv1.2 with cipher ECDHE-ECDSA-AES128-GCM-SHA256"},
		{"encrypt protocols=TLSv1.2 ciphers=null", "tls_null_cipherlist = ECDHE+CHACHA20\n", taken, NULL,
		 "TLSv1.2 with cipher ECDHE-ECDSA-CHACHA20-POLY1305"},
		/* An entry's own list stands in place of both parameters. */
		{"encrypt protocols=TLSv1.2 exclude=MD5",
		 "smtp_tls_mandatory_exclude_ciphers = AES256\n"
		 "smtp_tls_exclude_ciphers = AES128\n",
		 taken, NULL, "TLSv1.2 with cipher ECDHE-ECDSA-AES256-GCM-SHA384"},
		{"encrypt protocols=TLSv1.2",
		 "smtp_tls_mandatory_exclude_ciphers = AES256\n"
		 "smtp_tls_exclude_ciphers = AES128\n",
		 taken, NULL, "TLSv1.2 with cipher ECDHE-ECDSA-CHACHA20-POLY1305"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char more[500];

		zone_clear();
		snprintf(more, sizeof(more), TABLE "%s", cases[i].more);
		begin(cases[i].script, more, "b@r.test");
		policy_for_all(cases[i].policy);
		remote_deliver(remote, &job);
		scripted_stop(&server);
		if (server.wrong[0] != '\0')
			fail_msg("%s: %s; %.*s", cases[i].policy, server.wrong, STR_ARG(rcpts[0].text));
		if (cases[i].text == NULL)
			is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
		else
			is(0, OUTCOME_DEFERRED, "4.7.5", cases[i].text);
		if (cases[i].tls != NULL && !str_starts(job.tls, str_from(cases[i].tls)))
			fail_msg("%s: %.*s", cases[i].policy, STR_ARG(job.tls));
		end();
	}
}

/* The name in SNI, and our own certificate, as the server saw them. */
static void we_ask_for_a_name_and_show_who_we_are(void **state)
{
	static const struct {
		const char *policy, *more, *seen;
	} cases[] = {
		{"encrypt servername=hostname", "", "(name mx.remote.test)"},
		{"encrypt servername=nexthop", "smtp_tls_servername = hostname\n", "(name remote.test)"},
		{"encrypt servername=x.test", "", "(name x.test)"},
		{"encrypt", "smtp_tls_servername = hostname\n", "(name mx.remote.test)"},
		{"encrypt", "smtp_tls_chain_files = /own.pem\n", "(certificate)"},
		{"encrypt", "smtp_tls_cert_file = /own.pem\n", "(certificate)"},
		{"encrypt", "", "(TLS)\nEHLO"},
	};

	(void)state;
	SSL_CTX_set_verify(server.tls, SSL_VERIFY_PEER, scripted_take_any);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char more[300];

		zone_clear();
		snprintf(more, sizeof(more), TABLE "%s", cases[i].more);
		begin(STARTTLS AGAIN MAIL, more, "b@r.test");
		policy_for_all(cases[i].policy);
		deliver();
		is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
		if (strstr(server.seen.ptr, cases[i].seen) == NULL)
			fail_msg("%s: %s", cases[i].policy, server.seen.ptr);
		end();
	}
	SSL_CTX_set_verify(server.tls, SSL_VERIFY_NONE, NULL);
}

static void a_connection_with_tls_is_kept_where_the_policy_lets_it(void **state)
{
	static const char message[] = "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 250 Ok\n";
	static const struct {
		const char *first, *second, *more;
		bool reused;
	} cases[] = {
		{"encrypt", "encrypt", "", true},
		{"encrypt", "encrypt protocols=>=TLSv1.2", "", true}, /* the same, said twice */
		{"encrypt", "encrypt connection_reuse=no", "", false},
		{"encrypt connection_reuse=no", "encrypt connection_reuse=no", "", false},
		{"encrypt", "encrypt", "smtp_tls_connection_reuse = no\n", false},
		{"encrypt connection_reuse=yes", "encrypt connection_reuse=yes", "smtp_tls_connection_reuse = no\n",
		 true},
		{"encrypt", "encrypt ciphers=high", "", false},
		{"encrypt", "encrypt exclude=MD5", "", false},
		{"encrypt", "may", "", false},
		{"encrypt", "secure", "", false},
		{"secure", "secure tafile=/ca.pem", "", false},
		{"encrypt", "encrypt servername=hostname", "", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char script[2000], more[400];

		zone_clear();
		snprintf(more, sizeof(more),
			 TABLE TRUST "smtp_connection_cache_on_demand = yes\n"
				     "smtp_connection_cache_time_limit = 60s\n%s",
			 cases[i].more);
		snprintf(script, sizeof(script), "%s%s%s%s", STARTTLS AGAIN, message,
			 cases[i].reused ? "" : "KEEP\n" STARTTLS AGAIN, cases[i].reused ? message : MAIL);
		begin(script, more, "b@r.test");
		policy_for_all(cases[i].first);
		remote_deliver(remote, &job);
		is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
		policy_for_all(cases[i].second);
		conf_unref(&conf);
		configure(TABLE TRUST); /* what is left over is not kept */
		job.conf = conf;
		deliver();
		is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
		assert_int_equal(job.reused, cases[i].reused);
		assert_int_equal(server.connections, cases[i].reused ? 1 : 2);
		end();
	}
}

/* ---- sessions ---- */

#define CACHE TABLE "smtp_tls_session_cache_database = btree:/x\n"

static bool is_resumed(const char *first, const char *second, const char *more)
{
	char text[500];
	bool resumed;

	/* Nothing is left of the case before, whose server may have had the same port. */
	remote_free(&remote);
	remote = remote_new(&remote_env);
	give_files();
	snprintf(text, sizeof(text), CACHE "%s", more);
	begin(STARTTLS AGAIN MAIL "NEXT\n" STARTTLS AGAIN MAIL, text, "b@r.test");
	policy_for_all(first);
	remote_deliver(remote, &job);
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	if (second == NULL)
		give_files(); /* a reload */
	policy_for_all(second ? second : first);
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	assert_int_equal(server.connections, 2);
	resumed = strstr(server.seen.ptr, "(resumed)") != NULL;
	end();
	return resumed;
}

static void a_session_is_resumed_under_the_same_policy_alone(void **state)
{
	static const struct {
		const char *first, *second, *more;
		bool resumed;
	} cases[] = {
		{"may", "may", "", true},
		{"encrypt", "encrypt", "", true},
		{"encrypt protocols=<=TLSv1.2", "encrypt protocols=<=TLSv1.2", "", true},
		{"secure", "secure", TRUST, true},
		{"secure tafile=/key.pem", "secure tafile=/key.pem", "", true},
		{"may", "may", "smtp_tls_session_cache_database =\n", false},
		{"may", "may", "smtp_tls_session_cache_timeout = 0\n", false},
		{"may", "encrypt", "", false},
		{"may", "secure", TRUST, false},
		{"encrypt", "encrypt protocols=<=TLSv1.2", "", false},
		{"encrypt", "encrypt servername=x.test", "", false},
		{"secure", "secure match=mx.remote.test", TRUST, false},
		{"secure tafile=/ca.pem", "secure tafile=/key.pem", "", false},
		{"secure", NULL, TRUST, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		zone_clear();
		if (is_resumed(cases[i].first, cases[i].second, cases[i].more) != cases[i].resumed)
			fail_msg("\"%s\", then \"%s\"", cases[i].first, cases[i].second ? cases[i].second : "a reload");
	}
}

/* What was proven by records that are no more is not proven. */
static void a_session_ends_with_the_records_that_proved_it(void **state)
{
	char name[100];

	(void)state;
	zone_clear();
	begin(STARTTLS AGAIN MAIL "NEXT\n" STARTTLS AGAIN MAIL "NEXT\n" STARTTLS "HANG\n", CACHE, "b@r.test");
	policy_for_all("dane");
	zone[0].secure = zone[1].secure = true;
	snprintf(name, sizeof(name), "_%u._tcp.mx.remote.test", server.port);
	zone[2].name = name, zone[2].type = DNS_TLSA, zone[2].values = "right", zone[2].secure = true;
	for (int i = 0; i < 2; i++) {
		remote_deliver(remote, &job);
		is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	}
	assert_non_null(strstr(server.seen.ptr, "(resumed)"));
	zone[2].values = "wrong";
	deliver();
	is(0, OUTCOME_DEFERRED, "4.7.5", "does not match its TLSA records");
	assert_null(strstr(strstr(server.seen.ptr, "(resumed)") + 1, "(resumed)"));
	end();
}

/* `count` new sessions under a key. */
static void put_sessions(struct tls_sessions *s, SSL_CTX *ctx, const char *under, int count)
{
	SSL *ssl = SSL_new(ctx);

	tls_sessions_use(s, ssl, str_from(under), 60000);
	while (count-- > 0) {
		SSL_SESSION *session = SSL_SESSION_new();

		SSL_SESSION_set1_id(session, (const unsigned char *)"x", 1);
		if (SSL_CTX_sess_get_new_cb(ctx)(ssl, session) == 0)
			SSL_SESSION_free(session);
	}
	SSL_free(ssl);
}

static void few_sessions_are_kept(void **state)
{
	struct tls_sessions *s = tls_sessions_new();
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	char name[40];

	(void)state;
	tls_sessions_enable(ctx);
	put_sessions(s, ctx, "a", 10);
	assert_int_equal(tls_sessions_count(s), SESSIONS_A_KEY);
	for (int i = 0; i < SESSIONS_MAX + 20; i++) {
		snprintf(name, sizeof(name), "host %d", i);
		put_sessions(s, ctx, name, 1);
	}
	assert_int_equal(tls_sessions_count(s), SESSIONS_MAX);
	SSL_CTX_free(ctx);
	tls_sessions_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_faulty_entry_makes_mail_wait_and_says_why),
		cmocka_unit_test(entries_say_what_counts_at_their_destination),
		cmocka_unit_test(we_ask_for_a_name_and_show_who_we_are),
		cmocka_unit_test(a_connection_with_tls_is_kept_where_the_policy_lets_it),
		cmocka_unit_test(a_session_is_resumed_under_the_same_policy_alone),
		cmocka_unit_test(a_session_ends_with_the_records_that_proved_it),
		cmocka_unit_test(few_sessions_are_kept),
	};

	remote_env = (struct remote_env){.dns_lookup = fake_dns, .lookup = fake_lookup};
	return cmocka_run_group_tests(tests, make_certificate, drop_certificate);
}
