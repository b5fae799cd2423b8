/* TLS sessions: implicit, STARTTLS, SNI, channel binding, memory. */
#include "toy.h"

static struct tls_context *context_make(bool both, const char *oldest)
{
	struct tls_cert certs[3] = {cert_make("one.example", true)};
	struct tls_options o = {.certs = certs, .cert_count = both ? 3 : 1, .min_protocol = oldest};
	struct err err = ERR_NONE;
	struct tls_context *t;

	if (both) { /* to find an RSA key takes long */
		certs[1] = cert_make("two.example", true);
		certs[2] = cert_make("one.example", false);
	}
	t = tls_context_new(&o, &err);
	assert_string_equal(err.text, "");
	assert_non_null(t);
	for (size_t i = 0; i < ARRAY_SIZE(certs); i++)
		cert_drop(&certs[i]);
	return t;
}

static struct toy *tls_toy(bool wrapper, bool both)
{
	struct engine_listener like = {.tls_wrapper = wrapper};
	struct toy *t = toy_new_limited((struct engine_limits){.threads = 8}, &like);

	t->sv.tls = context_make(both, "TLSv1.2");
	return t;
}

static void test_implicit_tls_carries_units_bulk_and_long_answers(void **state)
{
	struct toy *t = tls_toy(true, false);
	struct client *c;
	char *data = calloc(1, 200000), want[100];
	size_t got = 0;

	(void)state;
	t->sv.spill_fd = memfd_create("spill", MFD_CLOEXEC);
	toy_start(t);
	c = client_tcp(t);
	client_tls(c, NULL, 0);
	expect_line(c, "hello 127.0.0.1 tls");
	client_send(c, "ECHO a\nECHO b\n");
	expect_line(c, "a");
	expect_line(c, "b");
	client_send(c, "BULK 200000\n");
	client_send_len(c, data, 200000);
	snprintf(want, sizeof(want), "bulk 200000 %08x spilled mem 0", crc32c(0, data, 200000));
	expect_line(c, want);
	client_send(c, "PRODUCE 5000000\n");
	while (got < 5000001) {
		if (c->at == c->len)
			assert_true(client_fill(c));
		c->at++;
		got++;
	}
	expect_line(c, "produced");
	client_send(c, "QUIT\n");
	expect_line(c, "bye");
	expect_end(c);
	assert_int_equal(SSL_get_error(c->ssl, 0), SSL_ERROR_ZERO_RETURN);
	free(data);
	client_free(c);
	toy_end(t);
}

static void test_starttls_turns_a_connection_over(void **state)
{
	struct toy *t = tls_toy(false, false);
	struct client *c;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "STARTTLS\n");
	expect_line(c, "go");
	client_tls(c, NULL, 0);
	client_send(c, "ECHO inside\n");
	expect_line(c, "inside");
	assert_int_equal(t->sv.secured, 1);
	client_free(c);
	toy_end(t);
}

/* The toy refuses only without an argument: with one it goes on, as a careless protocol would. */
static void test_what_came_before_the_handshake_is_never_interpreted_after_it(void **state)
{
	struct toy *t = tls_toy(false, false);
	struct client *c;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "STARTTLS\nECHO injected\n");
	expect_line(c, "pipelined");
	expect_line(c, "injected");
	client_send(c, "STARTTLS 1\nECHO injected\n");
	expect_line(c, "go");
	client_tls(c, NULL, 0);
	client_send(c, "ECHO honest\n");
	expect_line(c, "honest");
	client_free(c);
	toy_end(t);
}

static void test_garbage_instead_of_a_handshake_closes(void **state)
{
	struct toy *t = tls_toy(true, false);
	struct client *c;
	char line[100];

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	client_send(c, "EHLO not.tls\r\nEHLO not.tls\r\nEHLO not.tls\r\n");
	while (client_line(c, line, sizeof(line)))
		;
	client_free(c);
	toy_end(t);
}

static void test_without_a_certificate_there_is_no_tls(void **state)
{
	struct toy *t = toy_new();
	struct client *c;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "STARTTLS\n");
	expect_line(c, "go");
	client_send_len(c, "\x16\x03\x01\0\1\1", 6); /* a hello begins: until then nothing is decided */
	expect_end(c);
	client_free(c);
	toy_end(t);
}

static void check_name(struct toy *t, const char *sni, const char *want)
{
	struct client *c = client_tcp(t);
	X509 *x;

	client_tls(c, sni, 0);
	x = SSL_get1_peer_certificate(c->ssl);
	assert_int_equal(X509_check_host(x, want, 0, 0, NULL), 1);
	X509_free(x);
	expect_line(c, "hello 127.0.0.1 tls");
	client_free(c);
}

static void test_the_certificate_is_chosen_by_name(void **state)
{
	struct toy *t = tls_toy(true, true);

	(void)state;
	toy_start(t);
	check_name(t, "two.example", "two.example");
	check_name(t, "two.example.", "two.example");
	check_name(t, "one.example", "one.example");
	check_name(t, "other.example", "one.example");
	check_name(t, NULL, "one.example");
	toy_end(t);
}

/* Of two certificates of one name each client is shown the one whose signatures it knows, with all of its chain: old
 * ones know RSA alone, and do not look for what is missing between the certificate and an authority. */
static void check_key(struct toy *t, const char *signatures, int type, int chain)
{
	struct client *c = client_tcp(t);

	c->ctx = SSL_CTX_new(TLS_client_method());
	assert_int_equal(SSL_CTX_set1_sigalgs_list(c->ctx, signatures), 1);
	c->ssl = SSL_new(c->ctx);
	SSL_set_fd(c->ssl, c->fd);
	assert_int_equal(SSL_connect(c->ssl), 1);
	assert_int_equal(EVP_PKEY_get_base_id(X509_get0_pubkey(SSL_get0_peer_certificate(c->ssl))), type);
	assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(c->ssl)), chain);
	client_free(c);
}

static void test_each_client_sees_the_key_it_knows_and_the_whole_chain(void **state)
{
	struct toy *t =
		toy_new_limited((struct engine_limits){.threads = 8}, &(struct engine_listener){.tls_wrapper = true});
	struct tls_cert certs[3] = {cert_make("one.example", true), cert_make("one.example", false),
				    cert_make("authority.example", true)};
	struct tls_options o = {.certs = certs, .cert_count = 2};
	struct str leaf = certs[1].chain_pem;
	struct err err = ERR_NONE;
	struct buf chain;

	(void)state;
	buf_init(&chain, 100000);
	buf_add_str(&chain, leaf);
	buf_add_str(&chain, certs[2].chain_pem);
	certs[1].chain_pem = buf_str(&chain);
	t->sv.tls = tls_context_new(&o, &err);
	assert_string_equal(err.text, "");
	certs[1].chain_pem = leaf;
	for (size_t i = 0; i < ARRAY_SIZE(certs); i++)
		cert_drop(&certs[i]);
	buf_release(&chain);
	toy_start(t);
	check_key(t, "ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256", EVP_PKEY_EC, 1);
	check_key(t, "RSA-PSS+SHA256:RSA+SHA256", EVP_PKEY_RSA, 2);
	toy_end(t);
}

static bool serves_old_client(const char *oldest, int version)
{
	struct toy *t =
		toy_new_limited((struct engine_limits){.threads = 8}, &(struct engine_listener){.tls_wrapper = true});
	struct client *c;
	bool served;

	t->sv.tls = context_make(false, oldest);
	toy_start(t);
	c = client_tcp(t);
	c->ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_security_level(c->ctx, 0);
	SSL_CTX_set_min_proto_version(c->ctx, version);
	SSL_CTX_set_max_proto_version(c->ctx, version);
	c->ssl = SSL_new(c->ctx);
	SSL_set_fd(c->ssl, c->fd);
	served = SSL_connect(c->ssl) > 0;
	client_free(c);
	toy_end(t);
	return served;
}

/* Printers of old speak no other; who lets them has to mean it. */
static void test_old_protocols_are_refused_unless_they_are_allowed(void **state)
{
	(void)state;
	assert_false(serves_old_client("TLSv1.2", TLS1_VERSION));
	assert_false(serves_old_client("TLSv1.2", TLS1_1_VERSION));
	assert_false(serves_old_client("TLSv1.1", TLS1_VERSION));
	assert_true(serves_old_client("TLSv1.1", TLS1_1_VERSION));
	assert_true(serves_old_client("TLSv1", TLS1_VERSION));
}

/* ---- channel binding: a protocol that answers with it ---- */

static enum next binding_unit(struct session *s, struct str unit)
{
	char bytes[64];
	size_t len;
	struct buf hex;

	buf_init(&hex, 200);
	if (session_channel_binding(s, str_trim(unit), bytes, &len))
		hex_encode(&hex, str_of(bytes, len));
	else
		buf_addz(&hex, "none");
	session_printf(s, "%.*s\n", STR_ARG(buf_str(&hex)));
	buf_release(&hex);
	return NEXT_UNIT;
}

static void check_binding(int version, bool exporter)
{
	struct toy *t = tls_toy(true, false);
	struct protocol p = toy_protocol;
	struct client *c;
	unsigned char bytes[64];
	char want[200], line[300];
	size_t len = 32;
	int pair[2];
	struct engine_listener l;

	p.unit = binding_unit;
	l = t->listener;
	l.protocol = &p;
	toy_start(t);
	assert_int_equal(fd_socketpair(pair), 0);
	assert_int_equal(engine_adopt(t->e, pair[0], &l), 0);
	c = client_new(pair[1]);
	client_tls(c, NULL, version);
	if (exporter)
		assert_int_equal(
			SSL_export_keying_material(c->ssl, bytes, 32, "EXPORTER-Channel-Binding", 24, NULL, 0, 0), 1);
	else
		len = SSL_get_finished(c->ssl, bytes, sizeof(bytes));
	for (size_t i = 0; i < len; i++)
		snprintf(want + 2 * i, 3, "%02x", bytes[i]);
	expect_line(c, "hello unix tls");
	client_send(c, "tls-exporter\n");
	assert_true(client_line(c, line, sizeof(line)));
	assert_string_equal(line, exporter ? want : "none");
	client_send(c, "tls-unique\n");
	assert_true(client_line(c, line, sizeof(line)));
	assert_string_equal(line, exporter ? "none" : want);
	client_free(c);
	toy_end(t);
}

static void test_channel_bindings_are_those_the_client_sees(void **state)
{
	(void)state;
	check_binding(TLS1_3_VERSION, true);
	check_binding(TLS1_2_VERSION, false);
}

static void test_bad_options_are_errors(void **state)
{
	struct tls_cert a = cert_make("a.example", true), b = cert_make("b.example", true);
	struct tls_cert mixed = {a.chain_pem, b.key_pem}, junk = {STR("junk"), STR("junk")};
	struct tls_options o = {.certs = &mixed, .cert_count = 1};
	struct err err = ERR_NONE;

	(void)state;
	assert_null(tls_context_new(&o, &err));
	assert_int_equal(err.kind, ERR_PERM);
	o.certs = &junk;
	assert_null(tls_context_new(&o, &err));
	o.certs = &a;
	o.min_protocol = "SSLv9";
	assert_null(tls_context_new(&o, &err));
	o.min_protocol = NULL;
	o.ciphers = "NO-SUCH-CIPHER";
	assert_null(tls_context_new(&o, &err));
	o.cert_count = 0;
	assert_null(tls_context_new(&o, &err));
	cert_drop(&a);
	cert_drop(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_implicit_tls_carries_units_bulk_and_long_answers),
		cmocka_unit_test(test_starttls_turns_a_connection_over),
		cmocka_unit_test(test_what_came_before_the_handshake_is_never_interpreted_after_it),
		cmocka_unit_test(test_garbage_instead_of_a_handshake_closes),
		cmocka_unit_test(test_without_a_certificate_there_is_no_tls),
		cmocka_unit_test(test_the_certificate_is_chosen_by_name),
		cmocka_unit_test(test_each_client_sees_the_key_it_knows_and_the_whole_chain),
		cmocka_unit_test(test_old_protocols_are_refused_unless_they_are_allowed),
		cmocka_unit_test(test_channel_bindings_are_those_the_client_sees),
		cmocka_unit_test(test_bad_options_are_errors),
	};
	tls_init();
	end_within(180);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
