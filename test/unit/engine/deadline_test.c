/* Clients that are slow on purpose, those that keep a thread busy in TLS, and what they may not keep: deadlines of
 * units, bulks, answers and hand-shakes; how many a user has; secrets in buffers. */
#include "toy.h"

/* A request has 300 ms; 100,000 bytes a second buy more. */
static struct toy *deadline_toy(const struct engine_listener *like)
{
	struct toy *t = toy_new_limited((struct engine_limits){.threads = 8}, like);

	t->sv.request_ms = 300;
	t->sv.min_rate = 100000;
	t->sv.idle_ms = 60000;
	return t;
}

/* Sends a byte each 20 ms until something comes back (or the end); returns false when nothing did in 60 s. */
static bool trickle(struct client *c, const char *byte)
{
	for (int i = 0; i < 3000; i++) {
		if (fd_wait(c->fd, POLLIN, 20) > 0)
			return true;
		if (send(c->fd, byte, 1, MSG_NOSIGNAL) < 0)
			return true;
	}
	return false;
}

static void test_a_line_of_single_bytes_has_a_deadline(void **state)
{
	struct toy *t = deadline_toy(NULL);
	struct client *c;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	assert_true(trickle(c, "x"));
	expect_line(c, "timeout");
	client_free(c);
	/* So has one that was refused as too long and is being skipped. */
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	for (int i = 0; i < 500; i++)
		client_send(c, "0123456789");
	expect_line(c, "too long");
	assert_true(trickle(c, "x"));
	expect_line(c, "timeout");
	client_free(c);
	toy_end(t);
}

static void test_silence_between_units_is_not_a_request(void **state)
{
	struct toy *t = deadline_toy(NULL);
	struct client *c;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	assert_int_equal(fd_wait(c->fd, POLLIN, 1000), 0);
	client_send(c, "ECHO here\n");
	expect_line(c, "here");
	client_free(c);
	toy_end(t);
}

static void test_a_bulk_of_single_bytes_has_a_deadline(void **state)
{
	struct toy *t = deadline_toy(NULL);
	struct client *c;

	(void)state;
	toy_start(t);
	for (int dot = 0; dot < 2; dot++) {
		c = client_tcp(t);
		expect_line(c, "hello 127.0.0.1");
		client_send(c, dot ? "DOT\n" : "BULK 1000000\n");
		assert_true(trickle(c, "x"));
		expect_line(c, "timeout");
		client_free(c);
	}
	toy_end(t);
}

static void test_bytes_at_the_rate_buy_time(void **state)
{
	struct toy *t = deadline_toy(NULL);
	struct client *c;
	static char block[10000];
	int64_t begin = clock_ms();

	(void)state;
	t->sv.spill_fd = memfd_create("spill", MFD_CLOEXEC);
	t->sv.request_ms = 3000; /* of which a busy machine may take some */
	t->sv.min_rate = 1000;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "BULK 500000\n");
	for (int i = 0; i < 50; i++) {
		client_send_len(c, block, sizeof(block));
		if (i < 49)
			assert_int_equal(fd_wait(c->fd, POLLIN, 80), 0);
	}
	assert_true(clock_ms() - begin > 3000);
	{
		char line[200];
		assert_true(client_line(c, line, sizeof(line)));
		assert_memory_equal(line, "bulk 500000 ", 12);
	}
	client_free(c);
	toy_end(t);
}

static void test_an_answer_that_nobody_takes_has_a_deadline(void **state)
{
	struct toy *t = deadline_toy(NULL);
	struct client *c;
	char byte;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "PRODUCE 1000000000\n");
	/* A byte now and then is not enough: the kernel's buffers alone are worth more at the rate. */
	pthread_mutex_lock(&t->sv.lock);
	while (t->sv.closed == 0) {
		pthread_mutex_unlock(&t->sv.lock);
		(void)!recv(c->fd, &byte, 1, MSG_DONTWAIT);
		usleep(10000);
		pthread_mutex_lock(&t->sv.lock);
	}
	pthread_mutex_unlock(&t->sv.lock);
	client_free(c);
	toy_end(t);
}

static void test_a_hand_shake_of_single_bytes_has_a_deadline(void **state)
{
	struct toy *t = deadline_toy(&(struct engine_listener){.tls_wrapper = true});
	struct tls_cert cert = cert_make("one.example", true);
	struct tls_options o = {.certs = &cert, .cert_count = 1};
	struct client *c;
	char byte;

	(void)state;
	t->sv.tls = tls_context_new(&o, NULL);
	assert_non_null(t->sv.tls);
	toy_start(t);
	c = client_tcp(t);
	client_send_len(c, "\x16\x03\x01\x02", 4);
	assert_true(trickle(c, "\x01"));
	assert_true(recv(c->fd, &byte, 1, 0) <= 0);
	client_free(c);
	cert_drop(&cert);
	toy_end(t);
}

static void test_endless_key_updates_end_the_connection(void **state)
{
	struct toy *t = deadline_toy(&(struct engine_listener){.tls_wrapper = true});
	struct tls_cert cert = cert_make("one.example", true);
	struct tls_options o = {.certs = &cert, .cert_count = 1};
	struct client *c;
	bool ended = false;

	(void)state;
	t->sv.request_ms = 60000; /* a hand-shake may take what it needs */
	t->sv.tls = tls_context_new(&o, NULL);
	assert_non_null(t->sv.tls);
	toy_start(t);
	c = client_tcp(t);
	client_tls(c, NULL, 0);
	expect_line(c, "hello 127.0.0.1 tls");
	/* As many as an honest client makes, with something said between them, and the connection stands. */
	for (int i = 0; i < 40; i++) {
		assert_int_equal(SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
		client_send(c, "ECHO more\n");
		expect_line(c, "more");
	}
	for (int i = 0; i < 100000 && !ended; i++)
		ended = SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1 || SSL_do_handshake(c->ssl) != 1;
	if (!ended)
		client_send(c, "ECHO never\n");
	expect_end(c);
	client_free(c);
	cert_drop(&cert);
	toy_end(t);
}

static void test_the_connections_of_a_user_are_counted(void **state)
{
	struct toy *t = toy_new();
	struct client *a, *b, *other;

	(void)state;
	toy_start(t);
	a = client_tcp(t);
	b = client_tcp(t);
	other = client_tcp(t);
	expect_line(a, "hello 127.0.0.1");
	expect_line(b, "hello 127.0.0.1");
	expect_line(other, "hello 127.0.0.1");
	client_send(a, "USER 7\n");
	expect_line(a, "1 of them");
	client_send(b, "USER 7\n");
	expect_line(b, "2 of them");
	client_send(other, "USER 8\n");
	expect_line(other, "1 of them");
	client_send(b, "USER 7\n"); /* once, however often it is said */
	expect_line(b, "2 of them");
	client_send(b, "USER 8\n");
	expect_line(b, "2 of them");
	client_send(a, "USER 8\n");
	expect_line(a, "3 of them");
	client_free(a);
	client_free(b);
	client_free(other);
	toy_end(t);
}

static void test_a_secret_does_not_stay_in_the_buffer(void **state)
{
	struct toy *t = toy_new();
	struct client *c;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "SECRET open sesame\nECHO behind\n");
	expect_line(c, "taken");
	expect_line(c, "behind");
	/* The buffer is the thread's, idle, and still allocated: nobody else runs here. */
	assert_memory_not_equal(t->sv.secret, "SECRET open sesame", 18);
	assert_memory_not_equal(t->sv.secret + 7, "open sesame", 11);
	client_free(c);
	toy_end(t);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_line_of_single_bytes_has_a_deadline),
		cmocka_unit_test(test_silence_between_units_is_not_a_request),
		cmocka_unit_test(test_a_bulk_of_single_bytes_has_a_deadline),
		cmocka_unit_test(test_bytes_at_the_rate_buy_time),
		cmocka_unit_test(test_an_answer_that_nobody_takes_has_a_deadline),
		cmocka_unit_test(test_a_hand_shake_of_single_bytes_has_a_deadline),
		cmocka_unit_test(test_endless_key_updates_end_the_connection),
		cmocka_unit_test(test_the_connections_of_a_user_are_counted),
		cmocka_unit_test(test_a_secret_does_not_stay_in_the_buffer),
	};

	tls_init();
	end_within(180);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
