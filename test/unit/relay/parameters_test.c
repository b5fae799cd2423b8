/* Parameters of the SMTP client, each with what it changes on the wire. */
#include "secure_stand.h"

#define TWICE "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 250 Ok\n"

static void all_is_delivered(const char *script, const char *more)
{
	begin(script, more, "b@r.test");
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
}

static void it_waits(const char *script, const char *more, const char *code, const char *why)
{
	begin(script, more, "b@r.test");
	deliver();
	is(0, OUTCOME_DEFERRED, code, why);
	end();
}

static void ehlo_is_sent_as_the_parameters_say(void **state)
{
	(void)state;
	zone_clear();
	all_is_delivered("S: 220 mx\nC: HELO client.example.test\nS: 250 mx\n" MAIL, "smtp_always_send_ehlo = no\n");
	end();
	all_is_delivered("S: 220 mx ESMTP\nC: EHLO\nS: 250 mx\n" MAIL, "smtp_always_send_ehlo = no\n");
	end();
	all_is_delivered("S: 220 mx\nC: EHLO\nS: 250 mx\n" MAIL, "");
	end();
	all_is_delivered("S: 220 mx ESMTP\nC: HELO\nS: 250 mx\n" MAIL, "smtp_never_send_ehlo = yes\n");
	end();
}

static void mail_leaves_from_the_address_that_is_set(void **state)
{
	(void)state;
	zone_clear();
	all_is_delivered(PLAIN MAIL, "smtp_bind_address = 127.0.0.9\n");
	assert_string_equal(server.peer, "127.0.0.9");
	end();
	all_is_delivered(PLAIN MAIL, "smtp_bind_address6 = ::1\nsmtp_bind_address_enforce = yes\n");
	assert_string_equal(server.peer, "127.0.0.1");
	end();
	/* One that is not ours. */
	all_is_delivered(PLAIN MAIL, "smtp_bind_address = 192.0.2.1\n");
	assert_string_equal(server.peer, "127.0.0.1");
	end();
	it_waits("CLOSE\n", "smtp_bind_address = 192.0.2.1\nsmtp_bind_address_enforce = yes\n", "4.4.1",
		 "cannot send from 192.0.2.1");
	/* One that is none. */
	all_is_delivered(PLAIN MAIL, "smtp_bind_address = ::1\n");
	end();
	it_waits("CLOSE\n", "smtp_bind_address = ::1\nsmtp_bind_address_enforce = yes\n", "4.4.1",
		 "smtp_bind_address = ::1 is no such address");
}

static void mail_leaves_from_the_address_of_its_protocol(void **state)
{
	struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool there = fd >= 0 && bind(fd, (struct sockaddr *)&loopback, sizeof(loopback)) == 0;

	(void)state;
	if (fd >= 0)
		close(fd);
	if (!there)
		skip();
	server.v6 = true;
	begin(PLAIN MAIL, "smtp_bind_address = 127.0.0.9\nsmtp_bind_address6 = ::1\nsmtp_bind_address_enforce = yes\n",
	      "b@r.test");
	job.nexthop = arena_printf(&arena, "[::1]:%u", server.port);
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	assert_string_equal(server.peer, "::1");
	end();
	server.v6 = false;
}

static void extensions_are_not_used_where_they_are_not_believed(void **state)
{
	static const char one_by_one[] = PIPED MAIL,
			  at_once[] =
				  PIPED "C: MAIL\nC: RCPT\nC: DATA\nS: 250 Ok\nS: 250 Ok\nS: 354 go\nDATA\nS: 250 Ok\n"
					"C: QUIT\n";
	static const char maps[] = "smtp_discard_ehlo_keyword_address_maps = hash:x\n";

	(void)state;
	zone_clear();
	all_is_delivered(at_once, "");
	end();
	all_is_delivered(one_by_one, "smtp_discard_ehlo_keywords = PIPELINING, silent-discard\n");
	assert_null(strstr(server.seen.ptr, "RSET"));
	end();
	discard_table = "127.0.0.1=pipelining size";
	all_is_delivered(one_by_one, maps);
	assert_null(strstr(server.seen.ptr, "SIZE="));
	end();
	/* In place of what is said for all others. */
	discard_table = "127.0.0.1=silent-discard;127.0.0.2=pipelining";
	all_is_delivered(at_once, "smtp_discard_ehlo_keywords = pipelining\n"
				  "smtp_discard_ehlo_keyword_address_maps = hash:x\n");
	end();
	discard_table = "down";
	it_waits("CLOSE\n", maps, "4.3.0", "smtp_discard_ehlo_keyword_address_maps: table is away");
}

static void connections_are_kept_where_they_may(void **state)
{
	static const struct {
		const char *more;
		bool kept;
	} cases[] = {
		{"", false},
		{"smtp_connection_cache_destinations = other.test, 127.0.0.1\n", true},
		{"smtp_connection_cache_destinations = other.test\n", false},
		{"smtp_connection_cache_on_demand = yes\n", true},
		{"smtp_connection_cache_on_demand = yes\nsmtp_connection_reuse_time_limit = 0\n", false},
		{"smtp_connection_cache_on_demand = yes\nsmtp_connection_reuse_count_limit = 1\n", false},
		{"smtp_connection_cache_on_demand = yes\nsmtp_connection_cache_time_limit = 0\n", false},
	};

	(void)state;
	zone_clear();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char more[300];

		snprintf(more, sizeof(more), "smtp_connection_cache_time_limit = 60s\n%s", cases[i].more);
		begin(cases[i].kept ? PLAIN TWICE MAIL : PLAIN MAIL "NEXT\n" PLAIN MAIL, more, "b@r.test");
		remote_deliver(remote, &job);
		conf_unref(&conf);
		configure("");
		job.conf = conf;
		deliver();
		is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
		assert_int_equal(job.reused, cases[i].kept);
		end();
	}
}

/* More than all buffers on the way take. */
static void a_body_that_does_not_leave_in_time_waits(void **state)
{
	static const struct {
		const char *reads, *more;
	} cases[] = {
		{"STALL\n", "smtp_data_xfer_timeout = 1s\n"},
		{"SIP\n", "smtp_data_xfer_timeout = 1s\nsmtp_min_data_rate = 1000000000\n"},
	};
	size_t size = (size_t)32 << 20;
	char *body = mem_alloc(size);

	(void)state;
	zone_clear();
	memset(body, 'x', size);
	for (size_t i = 100; i < size; i += 100)
		body[i] = '\n';
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char script[1000];

		snprintf(script, sizeof(script),
			 HELLO "S: 250 8BITMIME\nC: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\n%s",
			 cases[i].reads);
		begin(script, cases[i].more, "b@r.test");
		content = (struct content){.place = CONTENT_MEMORY, .bytes = str_of(body, size), .fd = -1};
		deliver();
		is(0, OUTCOME_DEFERRED, "4.4.2", "timed out while sending message body");
		end();
	}
	free(body);
}

static void the_answer_to_quit_is_waited_for_where_it_is_wanted(void **state)
{
	(void)state;
	zone_clear();
	all_is_delivered(PLAIN MAIL "S: 221 bye\n", "smtp_skip_quit_response = no\n");
	end();
	all_is_delivered(PLAIN MAIL "HANG\n", "smtp_skip_quit_response = no\nsmtp_quit_timeout = 1s\n");
	end();
	all_is_delivered(PLAIN MAIL "HANG\n", "");
	end();
}

static void tls_begins_as_the_parameters_say(void **state)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned size = 0;
	char more[300];
	struct buf hex;

	(void)state;
	zone_clear();
	it_waits(HELLO "S: 250 STARTTLS\nC: STARTTLS\nHANG\n",
		 "smtp_tls_security_level = encrypt\nsmtp_starttls_timeout = 1s\n", "4.4.2",
		 "timed out while sending STARTTLS");
	all_is_delivered("TLS\n" PLAIN MAIL, "smtp_tls_wrappermode = yes\nsmtp_tls_security_level = encrypt\n");
	assert_true(str_starts(job.tls, STR("TLSv1.3")));
	end();
	buf_init(&hex, 200);
	X509_digest(cert, EVP_sha1(), digest, &size);
	hex_encode(&hex, str_of(digest, size));
	snprintf(more, sizeof(more),
		 "smtp_tls_security_level = fingerprint\nsmtp_tls_fingerprint_digest = sha1\n"
		 "smtp_tls_fingerprint_cert_match = %s\n",
		 hex.ptr);
	buf_release(&hex);
	all_is_delivered(STARTTLS AGAIN MAIL, more);
	end();
	/* 0: no authority in between. The server shows ours, and its own stands above it. */
	all_is_delivered(STARTTLS AGAIN MAIL,
			 TRUST "smtp_tls_security_level = verify\nsmtp_tls_verify_cert_match = mx.remote.test\n"
			       "smtp_tls_scert_verifydepth = 0\n");
	end();
}

static void names_and_ports_are_those_of_the_parameters(void **state)
{
	char more[200];

	(void)state;
	zone_clear();
	begin("S: 220 x\nC: LHLO l.test\nS: 250 x\n" MAIL, "lmtp_lhlo_name = l.test\n", "b@r.test");
	conf_unref(&conf);
	snprintf(more, sizeof(more), "lmtp_lhlo_name = l.test\nlmtp_tcp_port = %u\n", server.port);
	configure(more);
	job.conf = conf;
	job.lmtp = true;
	job.nexthop = STR("127.0.0.1");
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	end();
	begin("S: 220 x\nC: EHLO h.test\nS: 250 x\n" MAIL, "", "b@r.test");
	conf_unref(&conf);
	snprintf(more, sizeof(more), "smtp_helo_name = h.test\nsmtp_tcp_port = %u\n", server.port);
	configure(more);
	job.conf = conf;
	job.nexthop = STR("[127.0.0.1]");
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	end();
}

static void a_dummy_identity_is_sent_where_it_is_wanted(void **state)
{
	static const char more[] = "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:x\n"
				   "smtp_sasl_security_options =\nsmtp_send_dummy_mail_auth = yes\n";

	(void)state;
	zone_clear();
	password_table = "127.0.0.1=me:secret";
	all_is_delivered(HELLO "S: 250 AUTH PLAIN\nC: AUTH PLAIN\nS: 235 Ok\nC: MAIL FROM:<a@example.test> AUTH=<>\n"
			       "S: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 250 Ok\nC: QUIT\n",
			 more);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ehlo_is_sent_as_the_parameters_say),
		cmocka_unit_test(mail_leaves_from_the_address_that_is_set),
		cmocka_unit_test(mail_leaves_from_the_address_of_its_protocol),
		cmocka_unit_test(extensions_are_not_used_where_they_are_not_believed),
		cmocka_unit_test(connections_are_kept_where_they_may),
		cmocka_unit_test(a_body_that_does_not_leave_in_time_waits),
		cmocka_unit_test(the_answer_to_quit_is_waited_for_where_it_is_wanted),
		cmocka_unit_test(tls_begins_as_the_parameters_say),
		cmocka_unit_test(names_and_ports_are_those_of_the_parameters),
		cmocka_unit_test(a_dummy_identity_is_sent_where_it_is_wanted),
	};

	remote_env = (struct remote_env){.dns_lookup = fake_dns, .lookup = fake_lookup};
	return cmocka_run_group_tests(tests, make_certificate, drop_certificate);
}
