/* The relay against stand-ins: each claimed message ends in the store, stays, or comes back as a bounce. */
#include "../smtp/fakes.h"
#include "base/clock.h"
#include "base/log.h"
#include "relay/relay.h"
#include "relay/remote.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <cmocka.h>

#define BODY "Subject: original\n\nthe text\n"

static struct fakes fakes;
static struct relay *relay;
static struct remote *remote;
static struct conf *conf;

static struct queue_rcpt rcpts[100];

static int setup(void **state)
{
	struct err err = ERR_NONE;
	struct remote_env none = {0};

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LEVEL_ERROR);
	fakes_start(&fakes);
	conf = conf_parse(STR("myhostname = mx.example.test\nmydomain = example.test\n"), "main.cf", NULL, &err);
	assert_non_null(conf);
	remote = remote_new(&none);
	relay = relay_new(&(struct relay_peers){fakes.store, fakes.queue, fakes.directory, remote}, conf);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	relay_free(&relay);
	remote_free(&remote);
	conf_unref(&conf);
	fakes_stop(&fakes);
	return 0;
}

static struct queue_message message(const char *sender, const char *to)
{
	struct queue_message m = {
		.id = STR("Q1"),
		.delivery_id = STR("0123456789abcdef"),
		.sender = str_from(sender),
		.prefix = STR("Received: by mx\n"),
		.body = STR(BODY),
		.body_fd = -1,
		.size = sizeof(BODY) - 1,
		.arrival = (uint64_t)clock_wall(),
	};
	rcpts[0] = (struct queue_rcpt){.index = 3, .address = str_from(to), .original = str_from(to), .account = 2};
	m.rcpts.v = rcpts;
	m.rcpts.n = 1;
	return m;
}

/* Runs one message through; the outcome of its first recipient. */
static const char *run(struct queue_message *m)
{
	struct err err = ERR_NONE;

	fakes_clear(&fakes);
	fakes.claimable = m;
	assert_int_equal(relay_step(relay, 0, &err), 1);
	assert_true(fakes.outcomes.n >= 1);
	return fakes.outcomes.v[0];
}

static void a_message_for_an_account_is_delivered(void **state)
{
	struct queue_message m = message("a@remote.test", "bob@example.test");

	(void)state;
	assert_string_equal(run(&m), "3 1 2.0.0 delivered to mailbox");
	assert_int_equal(fakes.delivered.n, 1);
	assert_string_equal(fakes.delivered.v[0].file,
			    "Return-Path: <a@remote.test>\nDelivered-To: bob@example.test\nReceived: by mx\n" BODY);
	assert_int_equal(fakes.delivered.v[0].head.size, sizeof(BODY) - 1 + 3);
	assert_int_equal(fakes.bounces.n, 0);
}

static void a_body_in_a_file_is_delivered(void **state)
{
	struct queue_message m = message("a@remote.test", "both@example.test");
	int fd = memfd_create("body", MFD_CLOEXEC);

	(void)state;
	m.body = STR("");
	m.size = 0;
	for (int i = 0; i < 20000; i++) {
		assert_int_equal(write(fd, BODY, sizeof(BODY) - 1), sizeof(BODY) - 1);
		m.size += sizeof(BODY) - 1;
	}
	m.body_fd = fd;
	assert_string_equal(run(&m), "3 1 2.0.0 delivered to mailbox");
	assert_int_equal(fakes.delivered.n, 2);
	assert_int_equal(fakes.delivered.v[1].head.size, m.size + 3 * 20000);
	close(fd);
}

/* A queue that waited for its disk for longer than the relay did: what it then hands out nobody would ever try. */
static void what_is_handed_out_too_late_is_given_back(void **state)
{
	struct queue_message m = message("a@remote.test", "bob@example.test");
	struct queue_claim_info info = {.alone = 1, .first = 1};
	struct queue_claimed got = {0};
	struct err err = ERR_NONE;

	(void)state;
	fakes_clear(&fakes);
	atomic_store(&fakes.keep_claim, true);
	assert_int_equal(relay_step(relay, 0, &err), -1);
	assert_false(atomic_load(&fakes.keep_claim));
	got.messages.v = &m;
	got.infos.v = &info;
	got.messages.n = got.infos.n = 1;
	rpc_answer(fakes.kept_claim, &got);
	while (atomic_load(&fakes.given_back) == 0)
		usleep(1000);
	assert_int_equal(fakes.delivered.n, 0);
	assert_string_equal(run(&m), "3 1 2.0.0 delivered to mailbox");
	assert_int_equal(atomic_load(&fakes.given_back), 1);
}

static void what_cannot_be_now_stays(void **state)
{
	struct queue_message m = message("alice@example.test", "late@example.test");

	(void)state;
	assert_string_equal(run(&m), "3 2 4.2.2 the mailbox is full");
	assert_int_equal(fakes.bounces.n, 0);
	m = message("alice@example.test", "temp@example.test");
	assert_string_equal(run(&m), "3 2 4.3.0 database is away");
}

static void what_can_never_be_comes_back(void **state)
{
	struct queue_message m = message("alice@example.test", "gone@example.test");

	(void)state;
	assert_string_equal(run(&m), "3 3 5.2.1 no mail here");
	assert_int_equal(fakes.bounces.n, 1);
	assert_true(str_starts(str_from(fakes.bounces.v[0]), STR("|alice@example.test|Received: by mx.example.test")));
	assert_non_null(strstr(fakes.bounces.v[0], "multipart/report"));
	assert_non_null(strstr(fakes.bounces.v[0], "Status: 5.2.1"));
	assert_non_null(strstr(fakes.bounces.v[0], "gone@example.test"));
	assert_non_null(strstr(fakes.bounces.v[0], "the text"));
	m = message("alice@example.test", "nobody@example.test");
	assert_string_equal(run(&m), "3 3 5.1.1 user unknown");
}

static void headers_only_where_asked_or_large(void **state)
{
	struct queue_message m = message("alice@example.test", "gone@example.test");
	char *large = mem_alloc(70001);

	(void)state;
	m.ret = RET_HDRS;
	run(&m);
	assert_null(strstr(fakes.bounces.v[0], "the text"));
	assert_non_null(strstr(fakes.bounces.v[0], "Subject: original"));
	memset(large, 'x', 70000);
	memcpy(large, BODY, sizeof(BODY) - 1);
	m = message("alice@example.test", "gone@example.test");
	m.body = str_of(large, 60000);
	m.size = 60000;
	run(&m);
	assert_null(strstr(fakes.bounces.v[0], "the text"));
	free(large);
}

static void no_bounce_for_a_bounce(void **state)
{
	struct queue_message m = message("", "gone@example.test");

	(void)state;
	run(&m);
	assert_int_equal(fakes.bounces.n, 0);
	m = message("double-bounce@mx.example.test", "gone@example.test");
	run(&m);
	assert_int_equal(fakes.bounces.n, 0);
}

static void a_far_sender_is_told_too(void **state)
{
	struct queue_message m = message("far@remote.test", "gone@example.test");

	(void)state;
	run(&m);
	assert_int_equal(fakes.bounces.n, 1);
	assert_true(str_starts(str_from(fakes.bounces.v[0]), STR("|far@remote.test|")));
	m = message("nobody@example.test", "gone@example.test");
	run(&m);
	assert_int_equal(fakes.bounces.n, 1);
	assert_true(str_starts(str_from(fakes.bounces.v[0]), STR("double-bounce@mx.example.test|postmaster|")));
}

static void notify_is_obeyed(void **state)
{
	struct queue_message m = message("alice@example.test", "gone@example.test");

	(void)state;
	rcpts[0].notify = NOTIFY_NEVER;
	run(&m);
	assert_int_equal(fakes.bounces.n, 0);
	m = message("alice@example.test", "gone@example.test");
	rcpts[0].notify = NOTIFY_SUCCESS;
	run(&m);
	assert_int_equal(fakes.bounces.n, 0);
	m = message("alice@example.test", "bob@example.test");
	rcpts[0].notify = NOTIFY_SUCCESS;
	run(&m);
	assert_int_equal(fakes.delivered.n, 1);
	assert_int_equal(fakes.bounces.n, 1);
	assert_non_null(strstr(fakes.bounces.v[0], "Action: delivered"));
}

static void waiting_too_long_is_failing(void **state)
{
	struct queue_message m = message("alice@example.test", "late@example.test");

	(void)state;
	m.arrival -= 6 * 86400;
	assert_string_equal(run(&m), "3 3 4.4.7 delivery time expired; the last attempt said: the mailbox is full");
	assert_int_equal(fakes.bounces.n, 1);
}

/* RFC 2852 4.1.3 */
static void what_was_to_be_delivered_by_then_is_returned(void **state)
{
	struct queue_message m = message("alice@example.test", "bob@example.test");

	(void)state;
	m.arrival -= 100;
	m.by_mode = BY_RETURN;
	m.by_time = m.arrival + 60;
	assert_string_equal(run(&m), "3 3 5.4.7 delivery time expired");
	assert_int_equal(fakes.delivered.n, 0);
	assert_int_equal(fakes.bounces.n, 1);
	assert_non_null(strstr(fakes.bounces.v[0], "Action: failed\nStatus: 5.4.7\n"));
	assert_non_null(strstr(fakes.bounces.v[0], "\nDeliver-By-Date: "));
	assert_non_null(strstr(fakes.bounces.v[0], "\nArrival-Date: "));
	m.by_time += 86400;
	assert_string_equal(run(&m), "3 1 2.0.0 delivered to mailbox");
	assert_int_equal(fakes.bounces.n, 0);
}

static void who_wants_to_know_is_told_once_that_time_is_over(void **state)
{
	struct queue_message m = message("alice@example.test", "late@example.test");

	(void)state;
	m.arrival -= 100;
	m.by_mode = BY_NOTIFY;
	m.by_time = m.arrival + 60;
	assert_string_equal(run(&m), "3 2 4.2.2 the mailbox is full");
	assert_int_equal(fakes.bounces.n, 1);
	assert_non_null(strstr(fakes.bounces.v[0], "Action: delayed\nStatus: 4.4.7\n"));
	fakes.warned = WARNED_BY;
	run(&m);
	assert_int_equal(fakes.bounces.n, 0);
	fakes.warned = 0;
	/* Delivered, but late. */
	rcpts[0].address = rcpts[0].original = STR("bob@example.test");
	assert_string_equal(run(&m), "3 1 2.0.0 delivered to mailbox");
	assert_int_equal(fakes.bounces.n, 1);
	assert_non_null(strstr(fakes.bounces.v[0], "Action: delayed\nStatus: 4.4.7\n"));
	rcpts[0].notify = NOTIFY_NEVER;
	run(&m);
	assert_int_equal(fakes.bounces.n, 0);
	rcpts[0].notify = 0;
	/* It came like that: who had it then has told. */
	m.by_time = m.arrival - 5;
	run(&m);
	assert_int_equal(fakes.bounces.n, 0);
}

/* RFC 4865: its life begins when it is sent. */
static void what_was_held_is_not_old(void **state)
{
	struct queue_message m = message("alice@example.test", "late@example.test");

	(void)state;
	m.hold_until = m.arrival;
	m.arrival -= 20 * 86400;
	m.hold_request = STR("for;1728000");
	assert_string_equal(run(&m), "3 2 4.2.2 the mailbox is full");
	m = message("alice@example.test", "gone@example.test");
	m.hold_request = STR("for;60");
	run(&m);
	assert_non_null(strstr(fakes.bounces.v[0], "\nFuture-Release-Request: for;60\n"));
}

static void a_loop_ends(void **state)
{
	struct queue_message m = message("", "bob@example.test");

	(void)state;
	m.body = STR("Delivered-To: bob@example.test\n\nx\n");
	m.size = m.body.len;
	assert_string_equal(run(&m), "3 3 5.4.6 mail forwarding loop for bob@example.test");
}

static void recipients_are_decided_one_by_one(void **state)
{
	struct queue_message m = message("alice@example.test", "bob@example.test");

	(void)state;
	rcpts[1] = (struct queue_rcpt){.index = 4, .address = STR("late@example.test")};
	rcpts[2] = (struct queue_rcpt){.index = 5, .address = STR("gone@example.test")};
	rcpts[3] = (struct queue_rcpt){.index = 6, .address = STR("bob+x@example.test")};
	m.rcpts.n = 4;
	assert_string_equal(run(&m), "3 1 2.0.0 delivered to mailbox");
	assert_string_equal(fakes.outcomes.v[1], "4 2 4.2.2 the mailbox is full");
	assert_string_equal(fakes.outcomes.v[2], "5 3 5.2.1 no mail here");
	assert_string_equal(fakes.outcomes.v[3], "6 1 2.0.0 delivered to mailbox");
	assert_int_equal(fakes.delivered.n, 1);
	assert_int_equal(fakes.bounces.n, 1);
}

/* Whether anybody waits for the queue's word or not. */
static void a_result_that_is_refused_is_told_again_once(void **state)
{
	static const char *const to[] = {"late@example.test", "x@far.test", "gone@example.test"};
	static const char *const outcomes[] = {"3 2 4.2.2 the mailbox is full", "3 3 5.4.4 far away",
					       "3 3 5.2.1 no mail here"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(to); i++) {
		struct queue_message m = message("alice@example.test", to[i]);

		rcpts[0].account = i != 1;
		rcpts[0].notify = i == 1 ? NOTIFY_NEVER : NOTIFY_FAILURE;
		fakes.refuse_results = 1 + (unsigned)i % 2;
		assert_string_equal(run(&m), outcomes[i]);
		assert_int_equal(fakes.outcomes.n, 1);
		assert_int_equal(fakes.bounces.n, i == 2);
		assert_int_equal(fakes.refuse_results, 0);
	}
}

static void *runner(void *r)
{
	relay_run(r);
	return NULL;
}

static void run_ends_when_told(void **state)
{
	pthread_t thread;

	(void)state;
	pthread_create(&thread, NULL, runner, relay);
	relay_stop(relay);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_for_an_account_is_delivered),
		cmocka_unit_test(a_body_in_a_file_is_delivered),
		cmocka_unit_test(what_is_handed_out_too_late_is_given_back),
		cmocka_unit_test(what_cannot_be_now_stays),
		cmocka_unit_test(what_can_never_be_comes_back),
		cmocka_unit_test(headers_only_where_asked_or_large),
		cmocka_unit_test(no_bounce_for_a_bounce),
		cmocka_unit_test(a_far_sender_is_told_too),
		cmocka_unit_test(notify_is_obeyed),
		cmocka_unit_test(waiting_too_long_is_failing),
		cmocka_unit_test(what_was_to_be_delivered_by_then_is_returned),
		cmocka_unit_test(who_wants_to_know_is_told_once_that_time_is_over),
		cmocka_unit_test(what_was_held_is_not_old),
		cmocka_unit_test(a_loop_ends),
		cmocka_unit_test(recipients_are_decided_one_by_one),
		cmocka_unit_test(a_result_that_is_refused_is_told_again_once),
		cmocka_unit_test(run_ends_when_told),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
