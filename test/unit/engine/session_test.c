/* Sessions over the toy protocol: framing, pipelines, bulk, producers, events, time-outs, the end. */
#include "toy.h"

static void test_a_line_is_answered(void **state)
{
	struct toy *t = toy_new();
	struct client *c;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "ECHO hi\n");
	expect_line(c, "hi");
	client_send(c, "QUIT\n");
	expect_line(c, "bye");
	expect_end(c);
	client_free(c);
	toy_end(t);
}

static void test_a_sender_of_single_bytes_is_understood(void **state)
{
	struct toy *t = toy_new();
	struct client *c;
	static const char text[] = "ECHO one\nBULK 10\n0123456789ECHO two\nDOT\na\n..b\n.\nQUIT\n";

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	for (size_t i = 0; i + 1 < sizeof(text); i++)
		client_send_len(c, text + i, 1);
	expect_line(c, "one");
	expect_line(c, "bulk 10 280c069e memory mem 10");
	expect_line(c, "two");
	{
		char want[64];
		snprintf(want, sizeof(want), "bulk 5 %08x memory mem 5", crc32c(0, "a\n.b\n", 5));
		expect_line(c, want);
	}
	expect_line(c, "bye");
	client_free(c);
	toy_end(t);
}

static void *send_pipeline(void *arg)
{
	struct client *c = arg;
	struct buf b;

	buf_init(&b, 1 << 24);
	for (int i = 0; i < 10000; i++)
		buf_addf(&b, "ECHO %d\n", i);
	client_send_len(c, b.ptr, b.len);
	buf_release(&b);
	return NULL;
}

static void test_ten_thousand_pipelined_units_are_answered_in_order(void **state)
{
	struct toy *t = toy_new();
	struct client *c;
	pthread_t sender;
	char want[20];

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	pthread_create(&sender, NULL, send_pipeline, c);
	expect_line(c, "hello 127.0.0.1");
	for (int i = 0; i < 10000; i++) {
		snprintf(want, sizeof(want), "%d", i);
		expect_line(c, want);
	}
	pthread_join(sender, NULL);
	client_free(c);
	toy_end(t);
}

static void test_a_line_too_long_is_refused_and_skipped(void **state)
{
	struct toy *t = toy_new();
	struct client *c;
	char *line = malloc(100001);

	(void)state;
	memset(line, 'x', 100000);
	line[100000] = '\n';
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send_len(c, line, 100001);
	client_send(c, "ECHO after\n");
	expect_line(c, "too long");
	expect_line(c, "after");
	free(line);
	client_free(c);
	toy_end(t);
}

static void test_bulk_outgrows_memory_into_the_file(void **state)
{
	struct toy *t = toy_new();
	struct client *c;
	char *data = malloc(300000), *back = malloc(300000), want[80];

	(void)state;
	for (size_t i = 0; i < 300000; i++)
		data[i] = (char)(i * 7 + i / 300);
	t->sv.spill_fd = memfd_create("spill", MFD_CLOEXEC);
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "BULK 300000\n");
	client_send_len(c, data, 300000);
	client_send(c, "ECHO next\n");
	snprintf(want, sizeof(want), "bulk 300000 %08x spilled mem 0", crc32c(0, data, 300000));
	expect_line(c, want);
	expect_line(c, "next");
	assert_int_equal(pread(t->sv.spill_fd, back, 300000, 0), 300000);
	assert_memory_equal(data, back, 300000);
	free(data);
	free(back);
	client_free(c);
	toy_end(t);
}

static void test_bulk_appends_piece_by_piece(void **state)
{
	struct toy *t = toy_new();
	struct client *c;
	char want[80];

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "BULK 3\nabcMORE 0\nMORE 4\ndefgBULK 1\nz");
	snprintf(want, sizeof(want), "bulk 3 %08x memory mem 3", crc32c(0, "abc", 3));
	expect_line(c, want);
	expect_line(c, want);
	snprintf(want, sizeof(want), "bulk 7 %08x memory mem 7", crc32c(0, "abcdefg", 7));
	expect_line(c, want);
	snprintf(want, sizeof(want), "bulk 1 %08x memory mem 1", crc32c(0, "z", 1));
	expect_line(c, want);
	client_free(c);
	toy_end(t);
}

static void test_what_cannot_be_kept_is_swallowed_in_step(void **state)
{
	struct toy *t = toy_new();
	struct client *c;
	char *data = calloc(1, 1200000);
	char line[200];

	(void)state;
	t->sv.spill_fd = memfd_create("spill", MFD_CLOEXEC);
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "BULK 1200000\n");
	client_send_len(c, data, 1200000);
	assert_true(client_line(c, line, sizeof(line)));
	assert_non_null(strstr(line, "bulk 1200000"));
	assert_non_null(strstr(line, "toolarge"));
	t->sv.spill_fails = true;
	client_send(c, "BULK 20000\n");
	client_send_len(c, data, 20000);
	assert_true(client_line(c, line, sizeof(line)));
	assert_non_null(strstr(line, "error mem 0"));
	client_send(c, "ECHO alive\n");
	expect_line(c, "alive");
	free(data);
	client_free(c);
	toy_end(t);
}

static void test_a_peer_that_vanishes_anywhere_leaves_nothing_behind(void **state)
{
	struct toy *t = toy_new();
	static const char text[] = "ECHO one\nBULK 20\n01234567890123456789DOT\nline\n.\nPRODUCE 500000\nQUIT\n";

	(void)state;
	toy_start(t);
	for (size_t len = 0; len < sizeof(text); len++) {
		int fd = toy_connect_fd(t);
		assert_true(len == 0 || send(fd, text, len, MSG_NOSIGNAL) == (ssize_t)len);
		close(fd);
	}
	pthread_mutex_lock(&t->sv.lock);
	while (t->sv.closed < sizeof(text))
		pthread_cond_wait(&t->sv.cond, &t->sv.lock);
	pthread_mutex_unlock(&t->sv.lock);
	toy_end(t);
}

static void test_a_slow_reader_of_a_long_answer_costs_no_memory(void **state)
{
	struct toy *t = toy_new();
	struct client *c, *other;
	uint64_t got = 0, want = 100u << 20;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "PRODUCE 104857600\nECHO behind\n");
	other = client_tcp(t);
	expect_line(other, "hello 127.0.0.1");
	client_free(other);
	while (got < want) {
		if (c->at == c->len)
			assert_true(client_fill(c));
		got += c->len - c->at < want - got ? c->len - c->at : want - got;
		c->at = got < want ? c->len : c->len;
		if (got == want)
			break;
	}
	/* The last block read may hold the end of the answer: only its tail matters. */
	{
		char line[200] = "";
		struct str tail = str_of(c->buf, c->len);
		if (str_find(tail, STR("behind\n")) < 0)
			while (strcmp(line, "behind") != 0)
				assert_true(client_line(c, line, sizeof(line)));
	}
	assert_true(t->sv.unsent_max < 100000);
	client_free(c);
	toy_end(t);
}

static void test_a_file_slice_is_sent_with_crlf(void **state)
{
	struct toy *t = toy_new();
	struct client *c;
	static const char head[] = "<a\r\n\r\nb\r\nc\r\n";
	char *want = malloc(400000), *raw = malloc(400000);
	size_t n = 0, raw_len = 0, got = 0;

	(void)state;
	raw_len = (size_t)snprintf(raw, 400000, "a\n\nb\r\nc\n");
	n = (size_t)snprintf(want, 400000, "%s", head);
	while (raw_len < 120000)
		raw_len += (size_t)snprintf(raw + raw_len, 100, "line %zu\n", raw_len);
	t->sv.file = memfd_create("file", MFD_CLOEXEC);
	assert_int_equal(write(t->sv.file, raw, raw_len), raw_len);
	n = 1;
	for (size_t i = 0; i < raw_len; i++) {
		if (raw[i] == '\n' && (i == 0 || raw[i - 1] != '\r'))
			want[n++] = '\r';
		want[n++] = raw[i];
	}
	want[n++] = '>';
	want[n++] = '\n';
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	{
		char command[40];
		snprintf(command, sizeof(command), "FILE %zu\n", raw_len);
		client_send(c, command);
	}
	while (got < n) {
		if (c->at == c->len)
			assert_true(client_fill(c));
		assert_true(c->buf[c->at] == want[got]);
		c->at++;
		got++;
	}
	free(want);
	free(raw);
	client_free(c);
	toy_end(t);
}

struct waker {
	struct toy *t;
	pthread_t thread;
	_Atomic bool *end;
};

static void *wake_often(void *arg)
{
	struct waker *w = arg;

	for (int i = 0; !*w->end; i++) {
		session_wake(w->t->e, w->t->sv.ref);
		session_wake(w->t->e, (struct session_ref){.index = (uint32_t)i % 5000, .generation = 1});
	}
	return NULL;
}

static void test_wakes_under_load_lose_no_answer_and_no_change(void **state)
{
	struct toy *t = toy_new();
	struct client *c;
	_Atomic bool end = false;
	struct waker w[3];
	char line[100];
	unsigned echoes = 0, changes = 0, number;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "WATCH\n");
	expect_line(c, "watching");
	pthread_mutex_lock(&t->sv.lock);
	pthread_mutex_unlock(&t->sv.lock);
	for (unsigned i = 0; i < 3; i++) {
		w[i] = (struct waker){.t = t, .end = &end};
		pthread_create(&w[i].thread, NULL, wake_often, &w[i]);
	}
	for (unsigned i = 0; i < 2000; i++) {
		client_send(c, "ECHO x\n");
		do {
			assert_true(client_line(c, line, sizeof(line)));
			if (sscanf(line, "change %u", &number) == 1)
				assert_int_equal(number, ++changes);
		} while (strcmp(line, "x") != 0);
		echoes++;
	}
	end = true;
	for (unsigned i = 0; i < 3; i++)
		pthread_join(w[i].thread, NULL);
	assert_int_equal(echoes, 2000);
	assert_true(changes > 0);
	client_free(c);
	toy_end(t);
}

static void test_a_wake_reaches_an_idle_session_and_a_stale_one_nobody(void **state)
{
	struct toy *t = toy_new();
	struct client *c;
	struct session_ref old;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	client_send(c, "WATCH\n");
	expect_line(c, "hello 127.0.0.1");
	expect_line(c, "watching");
	old = t->sv.ref;
	session_wake(t->e, old);
	expect_line(c, "change 1");
	client_send(c, "QUIT\n");
	expect_line(c, "bye");
	expect_end(c);
	client_free(c);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	session_wake(t->e, old);
	session_wake(t->e, (struct session_ref){.index = 1u << 30, .generation = 1});
	client_send(c, "ECHO y\n");
	expect_line(c, "y");
	client_free(c);
	toy_end(t);
}

static void test_silence_times_out(void **state)
{
	struct toy *t = toy_new();
	struct client *c;

	(void)state;
	t->sv.idle_ms = 50;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	expect_line(c, "timeout");
	expect_end(c);
	client_free(c);
	toy_end(t);
}

/* A listening socket is the same one in the next process. */
static void test_what_a_captured_process_set_on_a_listening_socket_is_set_back(void **state)
{
	struct toy *t = toy_new();
	struct engine_listener again = t->listener;
	struct linger linger = {.l_onoff = 1};
	socklen_t linger_len = sizeof(linger), low_len = sizeof(int);
	int low = 1 << 20;
	struct client *c;

	(void)state;
	assert_int_equal(setsockopt(again.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	assert_int_equal(setsockopt(again.fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low)), 0);
	again.fd = fcntl(again.fd, F_DUPFD_CLOEXEC, 0);
	engine_listen(t->e, &again);
	assert_int_equal(getsockopt(again.fd, SOL_SOCKET, SO_LINGER, &linger, &linger_len), 0);
	assert_int_equal(getsockopt(again.fd, SOL_SOCKET, SO_RCVLOWAT, &low, &low_len), 0);
	assert_int_equal(linger.l_onoff, 0);
	assert_int_equal(low, 1);
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "ECHO hi\n");
	expect_line(c, "hi");
	client_free(c);
	toy_end(t);
}

static void test_a_delay_holds_the_answer_back(void **state)
{
	struct toy *t = toy_new();
	struct client *c;
	int64_t start;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	start = clock_ms();
	client_send(c, "DELAY 60\nECHO z\n");
	expect_line(c, "delayed");
	assert_true(clock_ms() - start >= 55);
	expect_line(c, "z");
	client_free(c);
	toy_end(t);
}

static void test_a_unit_runs_again_until_it_can(void **state)
{
	struct toy *t = toy_new();
	struct client *c;
	int64_t start;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	start = clock_ms();
	client_send(c, "ECHO a\nAGAIN 2\nECHO b\nAGAIN 1\nEC");
	expect_line(c, "a");
	expect_line(c, "again 2");
	assert_true(clock_ms() - start >= 75);
	expect_line(c, "b");
	client_send(c, "HO c\nAGAIN 1\nAG");
	expect_line(c, "again 1");
	expect_line(c, "c");
	expect_line(c, "again 1");
	client_send(c, "AIN 1\n");
	shutdown(c->fd, SHUT_WR); /* who has said all he wanted hears the answer */
	expect_line(c, "again 1");
	client_free(c);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "AGAIN 1000\nECHO never\n");
	engine_stop(t->e, 10000); /* who waits is told, as all others are */
	t->stopped = true;
	expect_line(c, "stopping");
	client_free(c);
	toy_end(t);
}

static void test_blocked_threads_make_room_for_others(void **state)
{
	struct toy *t = toy_new();
	struct client *blocked[6], *c;
	int p[2];

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	t->sv.spill_fd = p[0];
	toy_start(t);
	for (int i = 0; i < 6; i++) {
		blocked[i] = client_tcp(t);
		expect_line(blocked[i], "hello 127.0.0.1");
		client_send(blocked[i], "BLOCK\n");
	}
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "ECHO free\n");
	expect_line(c, "free");
	close(p[1]);
	for (int i = 0; i < 6; i++) {
		expect_line(blocked[i], "unblocked");
		client_free(blocked[i]);
	}
	client_free(c);
	toy_end(t);
}

/* Eight threads: four calls to a service at a time, two may wait for ever. */
static struct toy *trying_toy(int try_ms, int pipe_r[2])
{
	struct toy *t = toy_new_limited((struct engine_limits){.threads = 8}, NULL);

	assert_int_equal(pipe2(pipe_r, O_CLOEXEC), 0);
	t->sv.spill_fd = pipe_r[0];
	t->sv.try_ms = try_ms;
	toy_start(t);
	return t;
}

#define CROWD 100

static void come_at_once(const char *thrice)
{
	struct client *crowd[CROWD];
	int p[2];
	struct toy *t = trying_toy(2, p);

	for (int i = 0; i < CROWD; i++) {
		crowd[i] = client_tcp(t);
		expect_line(crowd[i], "hello 127.0.0.1");
	}
	for (int i = 0; i < CROWD; i++)
		client_send(crowd[i], thrice);
	for (int i = 0; i < CROWD; i++) {
		for (int k = 0; k < 3; k++)
			expect_line(crowd[i], "tried");
		client_free(crowd[i]);
	}
	close(p[1]);
	toy_end(t);
}

static void test_many_at_once_are_no_reason_to_refuse(void **state)
{
	(void)state;
	come_at_once("TRY 0\nTRY 0\nTRY 0\n");
}

static void test_log_ins_wait_without_a_thread(void **state)
{
	(void)state;
	come_at_once("TRY 2\nTRY 2\nTRY 2\n");
}

/* Nobody of the directory answers, or log-ins take their time: `refused_min` of the crowd hear so, others are served.
 */
static void hanging(const char *call, unsigned share, int refused_min)
{
	struct client *crowd[12], *other;
	int p[2], refused = 0;
	struct toy *t = trying_toy(60000, p);
	char line[100];

	for (int i = 0; i < 12; i++) {
		crowd[i] = client_tcp(t);
		expect_line(crowd[i], "hello 127.0.0.1");
	}
	other = client_tcp(t);
	expect_line(other, "hello 127.0.0.1");
	for (int i = 0; i < 12; i++)
		client_send(crowd[i], call);
	client_send(other, "ECHO free\n");
	expect_line(other, "free");
	for (int i = 0; i < 12 && refused < refused_min; i++)
		if (fd_wait(crowd[i]->fd, POLLIN, 100) > 0) {
			expect_line(crowd[i], "too many");
			refused++;
			client_send(crowd[i], call);
			i = -1;
		}
	assert_int_equal(refused, refused_min);
	assert_int_equal(t->sv.tries, share);
	close(p[1]); /* from now on each call ends at once */
	for (int i = 0; i < 12; i++) {
		assert_true(client_line(crowd[i], line, sizeof(line)));
		client_free(crowd[i]);
	}
	client_free(other);
	toy_end(t);
}

static void test_a_service_that_hangs_does_not_take_the_last_thread(void **state)
{
	(void)state;
	hanging("TRY 0\n", 4, 8);
	hanging("TRY 1\n", 2, 8);
}

static void test_stop_tells_every_session_and_ends(void **state)
{
	struct toy *t = toy_new();
	struct client *c[20];

	(void)state;
	toy_start(t);
	for (int i = 0; i < 20; i++) {
		c[i] = client_tcp(t);
		expect_line(c[i], "hello 127.0.0.1");
	}
	engine_stop(t->e, 10000);
	t->stopped = true;
	for (int i = 0; i < 20; i++) {
		expect_line(c[i], "stopping");
		expect_end(c[i]);
		client_free(c[i]);
	}
	toy_end(t);
}

static void test_what_will_not_end_is_closed_after_the_grace(void **state)
{
	struct toy *t = toy_new();
	struct client *c;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_send(c, "BULK 1000\nunfinished");
	client_send(c, "x");
	engine_stop(t->e, 50);
	t->stopped = true;
	toy_end(t);
	client_free(c);
}

static void test_one_client_has_a_limit(void **state)
{
	struct toy *t = toy_new();
	struct client *c[4];

	(void)state;
	t->sv.client_limit = 3;
	toy_start(t);
	for (int i = 0; i < 3; i++) {
		c[i] = client_tcp(t);
		expect_line(c[i], "hello 127.0.0.1");
	}
	c[3] = client_tcp(t);
	expect_line(c[3], "too many from 127.0.0.1");
	expect_end(c[3]);
	client_free(c[3]);
	client_send(c[0], "QUIT\n");
	expect_line(c[0], "bye");
	expect_end(c[0]);
	client_free(c[0]);
	pthread_mutex_lock(&t->sv.lock);
	while (t->sv.closed < 1)
		pthread_cond_wait(&t->sv.cond, &t->sv.lock);
	pthread_mutex_unlock(&t->sv.lock);
	/* The place is given back a moment after close() ran; the greeting of a new one tells. */
	for (;;) {
		char line[100];
		c[0] = client_tcp(t);
		if (client_line(c[0], line, sizeof(line)) && strcmp(line, "hello 127.0.0.1") == 0)
			break;
		client_free(c[0]);
	}
	for (int i = 0; i < 3; i++)
		client_free(c[i]);
	toy_end(t);
}

static void test_without_descriptors_one_client_is_shed_and_the_next_served(void **state)
{
	struct toy *t = toy_new();
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(t->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct rlimit before, low;
	int filler[256], n = 0, fd;
	struct client *c;
	char byte;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	low = before;
	low.rlim_cur = 200;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	if (getenv("UNDER_VALGRIND")) { /* which itself closes the connection that a kernel keeps waiting */
		setrlimit(RLIMIT_NOFILE, &before);
		close(fd);
		client_free(c);
		toy_end(t);
		skip();
	}
	while (n < 256 && (filler[n] = fcntl(fd, F_DUPFD_CLOEXEC, 0)) >= 0)
		n++;
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_true(recv(fd, &byte, 1, 0) <= 0);
	client_send(c, "ECHO here\n");
	expect_line(c, "here");
	while (n > 0)
		close(filler[--n]);
	close(fd);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	client_free(c);
	c = client_tcp(t);
	expect_line(c, "hello 127.0.0.1");
	client_free(c);
	toy_end(t);
}

static void test_the_proxy_header_tells_the_client(void **state)
{
	struct engine_listener like = {.proxy_protocol = true};
	struct toy *t = toy_new_limited((struct engine_limits){.threads = 8}, &like);
	static const char v2[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\5\x7f\0\0\1\x30\x39\0\x19"
				 "ECHO v2\n";
	struct client *c;

	(void)state;
	toy_start(t);
	c = client_tcp(t);
	client_send(c, "PROXY TCP4 192.0.2.7 198.51.100.1 4000 25\r\nECHO v1\n");
	expect_line(c, "hello 192.0.2.7");
	expect_line(c, "v1");
	client_free(c);
	c = client_tcp(t);
	for (size_t i = 0; i + 1 < sizeof(v2); i++)
		client_send_len(c, v2 + i, 1);
	expect_line(c, "hello 192.0.2.5");
	expect_line(c, "v2");
	client_free(c);
	c = client_tcp(t);
	client_send(c, "ECHO no header\n");
	expect_end(c);
	client_free(c);
	toy_end(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_line_is_answered),
		cmocka_unit_test(test_a_sender_of_single_bytes_is_understood),
		cmocka_unit_test(test_ten_thousand_pipelined_units_are_answered_in_order),
		cmocka_unit_test(test_a_line_too_long_is_refused_and_skipped),
		cmocka_unit_test(test_bulk_outgrows_memory_into_the_file),
		cmocka_unit_test(test_bulk_appends_piece_by_piece),
		cmocka_unit_test(test_what_cannot_be_kept_is_swallowed_in_step),
		cmocka_unit_test(test_a_peer_that_vanishes_anywhere_leaves_nothing_behind),
		cmocka_unit_test(test_a_slow_reader_of_a_long_answer_costs_no_memory),
		cmocka_unit_test(test_a_file_slice_is_sent_with_crlf),
		cmocka_unit_test(test_wakes_under_load_lose_no_answer_and_no_change),
		cmocka_unit_test(test_a_wake_reaches_an_idle_session_and_a_stale_one_nobody),
		cmocka_unit_test(test_silence_times_out),
		cmocka_unit_test(test_what_a_captured_process_set_on_a_listening_socket_is_set_back),
		cmocka_unit_test(test_a_delay_holds_the_answer_back),
		cmocka_unit_test(test_a_unit_runs_again_until_it_can),
		cmocka_unit_test(test_blocked_threads_make_room_for_others),
		cmocka_unit_test(test_many_at_once_are_no_reason_to_refuse),
		cmocka_unit_test(test_log_ins_wait_without_a_thread),
		cmocka_unit_test(test_a_service_that_hangs_does_not_take_the_last_thread),
		cmocka_unit_test(test_stop_tells_every_session_and_ends),
		cmocka_unit_test(test_what_will_not_end_is_closed_after_the_grace),
		cmocka_unit_test(test_one_client_has_a_limit),
		cmocka_unit_test(test_without_descriptors_one_client_is_shed_and_the_next_served),
		cmocka_unit_test(test_the_proxy_header_tells_the_client),
	};
	end_within(180);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
