/* Channel and server over a real socketpair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/rpc.h"
#include "engine/rpc_wire.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define ASK_FIELDS(F, S) F(S, u32, number) F(S, bytes, text) F(S, fd, file)
RPC_DECLARE(ask, ASK_FIELDS)
RPC_DEFINE(ask, ASK_FIELDS)

static const struct rpc_call ECHO_CALL = {1, &ask_type, &ask_type};
static const struct rpc_call FAIL_CALL = {2, &ask_type, &ask_type};
static const struct rpc_call KEEP_CALL = {3, &ask_type, &ask_type}; /* answered when told to */
static const struct rpc_call NOTE_CALL = {4, &ask_type, NULL};
static const struct rpc_call TELL_CALL = {5, &ask_type, &ask_type}; /* sends an event before the answer */
static const struct rpc_call EVENT_CALL = {6, &ask_type, NULL};
static const struct rpc_call OPEN_CALL = {7, &ask_type, &ask_type};	 /* answers with a descriptor */
static const struct rpc_call NOTE_KEPT_CALL = {8, &ask_type, &ask_type}; /* never answered while it runs */
static const struct rpc_call TABLE[] = {{1, &ask_type, &ask_type}, {2, &ask_type, &ask_type}, {3, &ask_type, &ask_type},
					{4, &ask_type, NULL},	   {5, &ask_type, &ask_type}, {6, &ask_type, NULL},
					{7, &ask_type, &ask_type}, {8, &ask_type, &ask_type}, {0}};

struct fixture {
	struct rpc_server *server;
	struct rpc_channel *channel;
	struct rpc_peer *peer;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned keeps, notes, closed, events, downs, lates;
	struct rpc_request *kept[8];
	struct rpc_request *unanswered[RPC_ASYNC_MAX];
	unsigned unanswered_count;
	int client_end;
};

static void handle(void *ctx, struct rpc_request *req)
{
	struct fixture *f = ctx;
	struct ask *m = req->msg;
	struct ask reply = {.number = m->number + 1, .text = m->text, .file = -1};
	struct err err;
	char byte;

	switch (req->number) {
	case 2:
		err_set(&err, ERR_FULL, "4.2.2", "mailbox %u is full", m->number);
		err.sys = 28;
		rpc_refuse(req, &err);
		return;
	case 3:
		pthread_mutex_lock(&f->lock);
		f->kept[f->keeps++ % 8] = req;
		pthread_cond_broadcast(&f->cond);
		pthread_mutex_unlock(&f->lock);
		return;
	case 8:
		f->unanswered[f->unanswered_count++] = req;
		return;
	case 4:
		pthread_mutex_lock(&f->lock);
		f->notes++;
		pthread_cond_broadcast(&f->cond);
		pthread_mutex_unlock(&f->lock);
		break;
	case 5:
		assert_int_equal(rpc_event(req->peer, &EVENT_CALL, &reply), 0);
		break;
	case 7:
		reply.file = m->file;
		rpc_answer(req, &reply);
		fd_close(&reply.file);
		return;
	default:
		if (m->file >= 0 && read(m->file, &byte, 1) == 1)
			reply.number = (uint8_t)byte;
		fd_close(&m->file);
		break;
	}
	rpc_answer(req, &reply);
}

static void peer_closed(void *ctx, struct rpc_peer *peer)
{
	struct fixture *f = ctx;

	(void)peer;
	pthread_mutex_lock(&f->lock);
	f->closed++;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static void *serve(void *arg)
{
	rpc_server_run(arg);
	return NULL;
}

static void on_event(void *ctx, uint16_t number, const void *msg)
{
	struct fixture *f = ctx;

	(void)msg;
	assert_int_equal(number, 6);
	pthread_mutex_lock(&f->lock);
	f->events++;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static void on_link(void *ctx, bool up)
{
	struct fixture *f = ctx;

	pthread_mutex_lock(&f->lock);
	f->downs += !up;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static void wait_until(struct fixture *f, const unsigned *what, unsigned at_least)
{
	pthread_mutex_lock(&f->lock);
	while (*what < at_least)
		pthread_cond_wait(&f->cond, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

static void connect_pair(struct fixture *f)
{
	int pair[2];

	assert_int_equal(fd_socketpair(pair), 0);
	f->peer = rpc_server_add_peer(f->server, pair[0], 42);
	f->client_end = pair[1];
	rpc_channel_attach(f->channel, pair[1]);
}

static struct fixture *set_up(unsigned threads, bool connect)
{
	struct fixture *f = NEW(struct fixture);
	struct rpc_service service = {
		.name = "test", .table = TABLE, .handle = handle, .peer_closed = peer_closed, .ctx = f};

	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->cond, NULL);
	f->server = rpc_server_new(&service);
	if (threads)
		rpc_server_use_threads(f->server, threads);
	pthread_create(&f->thread, NULL, serve, f->server);
	f->channel = rpc_channel_new("test", TABLE);
	rpc_channel_on_event(f->channel, on_event, f);
	rpc_channel_on_link(f->channel, on_link, f);
	if (connect)
		connect_pair(f);
	return f;
}

static void tear_down(struct fixture *f)
{
	rpc_channel_free(&f->channel);
	rpc_server_stop(f->server);
	pthread_join(f->thread, NULL);
	for (unsigned i = 0; i < f->unanswered_count; i++)
		rpc_refuse(f->unanswered[i], &(struct err){.kind = ERR_TEMP});
	rpc_server_free(&f->server);
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->cond);
	free(f);
}

static int call(struct fixture *f, const struct rpc_call *what, uint32_t number, struct str text, struct ask *reply,
		int64_t timeout, struct err *err)
{
	struct ask m = {.number = number, .text = text, .file = -1};
	struct rpc_reply hold;
	int r;

	rpc_reply_init(&hold);
	r = rpc_call(f->channel, what, &m, reply, &hold, false, timeout, err);
	if (r == 0)
		assert_true(str_eq(reply->text, text));
	rpc_reply_release(&hold);
	return r;
}

static void test_a_call_is_answered(void **state)
{
	struct fixture *f = set_up(0, true);
	struct ask reply;
	struct err err = ERR_NONE;

	(void)state;
	for (uint32_t i = 0; i < 1000; i++) {
		assert_int_equal(call(f, &ECHO_CALL, i, STR("hello"), &reply, 10000, &err), 0);
		assert_int_equal(reply.number, i + 1);
	}
	tear_down(f);
}

static void test_large_messages_pass_whole(void **state)
{
	struct fixture *f = set_up(0, true);
	size_t sizes[] = {0, 1, 32700, 32752, 32753, 65535, 65536, 300000, RPC_BYTES_MAX};
	char *big = malloc(RPC_BYTES_MAX);
	struct ask reply;

	(void)state;
	for (size_t i = 0; i < RPC_BYTES_MAX; i++)
		big[i] = (char)(i * 31 + i / 977);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_int_equal(call(f, &ECHO_CALL, 1, str_of(big, sizes[i]), &reply, 10000, NULL), 0);
	free(big);
	tear_down(f);
}

static void test_a_refusal_carries_the_error(void **state)
{
	struct fixture *f = set_up(0, true);
	struct ask reply;
	struct err err = ERR_NONE;

	(void)state;
	assert_int_equal(call(f, &FAIL_CALL, 7, STR(""), &reply, 10000, &err), -1);
	assert_int_equal(err.kind, ERR_FULL);
	assert_int_equal(err.sys, 28);
	assert_string_equal(err.code, "4.2.2");
	assert_string_equal(err.text, "mailbox 7 is full");
	tear_down(f);
}

static void test_descriptors_pass_both_ways(void **state)
{
	struct fixture *f = set_up(0, true);
	struct rpc_reply hold;
	struct ask reply, m = {.number = 0, .text = STR(""), .file = -1};
	int p[2];
	char byte = 77;

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(p[1], &byte, 1), 1);
	m.file = p[0];
	rpc_reply_init(&hold);
	assert_int_equal(rpc_call(f->channel, &ECHO_CALL, &m, &reply, &hold, false, 10000, NULL), 0);
	assert_int_equal(reply.number, 77);
	rpc_reply_release(&hold);
	for (int i = 0; i < 50; i++) {
		m.file = p[1];
		rpc_reply_init(&hold);
		assert_int_equal(rpc_call(f->channel, &OPEN_CALL, &m, &reply, &hold, false, 10000, NULL), 0);
		assert_true(reply.file >= 0 && reply.file != p[1]);
		assert_int_equal(write(reply.file, &byte, 1), 1);
		assert_int_equal(read(p[0], &byte, 1), 1);
		fd_close(&reply.file);
		rpc_reply_release(&hold);
	}
	close(p[0]);
	close(p[1]);
	tear_down(f);
}

static struct rlimit no_more_descriptors(void)
{
	struct rlimit before, none;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){.rlim_cur = 3, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	return before;
}

static void test_a_request_whose_descriptor_finds_no_room_is_refused_and_the_channel_goes_on(void **state)
{
	struct fixture *f = set_up(0, true);
	struct rpc_reply hold;
	struct ask reply, m = {.number = 0, .text = STR("")};
	struct err err = ERR_NONE;
	struct rlimit before;
	int p[2];

	if (getenv("UNDER_VALGRIND")) { /* it keeps the limit to itself */
		tear_down(f);
		skip();
	}
	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(p[1], "M", 1), 1);
	m.file = p[0];
	before = no_more_descriptors();
	for (int i = 0; i < 3; i++) {
		rpc_reply_init(&hold);
		assert_int_equal(rpc_call(f->channel, &ECHO_CALL, &m, &reply, &hold, false, 10000, &err), -1);
		assert_int_equal(err.kind, ERR_TEMP);
		assert_int_equal(err.sys, EMFILE);
		rpc_reply_release(&hold);
		assert_int_equal(call(f, &ECHO_CALL, 1, STR("x"), &reply, 10000, &err), 0);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	rpc_reply_init(&hold);
	assert_int_equal(rpc_call(f->channel, &ECHO_CALL, &m, &reply, &hold, false, 10000, NULL), 0);
	assert_int_equal(reply.number, 'M');
	rpc_reply_release(&hold);
	pthread_mutex_lock(&f->lock);
	assert_int_equal(f->closed, 0);
	pthread_mutex_unlock(&f->lock);
	close(p[0]);
	close(p[1]);
	tear_down(f);
}

/* Answers three calls of a channel by hand: the first two with a descriptor for which there is no room. */
static void *answer_by_hand(void *arg)
{
	const int *fds = arg;
	struct ask reply = {.number = 5, .text = STR("opened"), .file = fds[1]};

	for (int i = 0; i < 3; i++) {
		struct rpc_reader in = {0};
		struct rpc_frame frame;
		struct rlimit before = {0};
		int passed[FD_PASS_MAX], n;
		size_t count = 0, at;
		struct buf out;

		do
			assert_int_equal(rpc_reader_fill(&in, fds[0]), 1);
		while ((n = rpc_reader_next(&in, &frame)) == 0);
		assert_int_equal(n, 1);
		if (i < 2)
			before = no_more_descriptors();
		buf_init(&out, 1000);
		at = rpc_header_begin(&out);
		buf_add(&out, "", 1); /* ERR_OK */
		assert_int_equal(rpc_encode(&ask_type, &reply, &out, passed, &count, NULL), 0);
		rpc_header_put(&out, at, frame.type, frame.id, count);
		assert_int_equal(fd_send(fds[0], out.ptr, out.len, passed, count), (ssize_t)out.len);
		buf_release(&out);
		rpc_frame_drop(&frame);
		rpc_reader_release(&in);
		if (i < 2) {
			char byte;

			assert_int_equal(read(fds[2], &byte, 1), 1); /* it was taken */
			assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		}
	}
	return NULL;
}

static void test_a_reply_whose_descriptor_finds_no_room_fails_one_call_and_says_what_it_named(void **state)
{
	struct fixture *f = set_up(0, false);
	struct ask reply, m = {.number = 0, .text = STR(""), .file = -1};
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	int pair[2], p[2], step[2], fds[3];
	pthread_t server;

	if (getenv("UNDER_VALGRIND")) { /* it keeps the limit to itself */
		tear_down(f);
		skip();
	}
	(void)state;
	assert_int_equal(fd_socketpair(pair), 0);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(pipe(step), 0);
	memcpy(fds, (int[]){pair[0], p[0], step[0]}, sizeof(fds));
	rpc_channel_attach(f->channel, pair[1]);
	pthread_create(&server, NULL, answer_by_hand, fds);
	for (int i = 0; i < 3; i++) {
		rpc_reply_init(&hold);
		assert_int_equal(rpc_call(f->channel, &OPEN_CALL, &m, &reply, &hold, false, 10000, &err),
				 i < 2 ? -1 : 0);
		assert_int_equal(reply.number, 5);
		assert_true(str_eq(reply.text, STR("opened")));
		if (i < 2) {
			assert_int_equal(err.sys, EMFILE);
			assert_int_equal(reply.file, -1);
			assert_int_equal(write(step[1], "x", 1), 1);
		} else {
			assert_true(reply.file >= 0);
			fd_close(&reply.file);
		}
		rpc_reply_release(&hold);
	}
	pthread_join(server, NULL);
	assert_int_equal(f->downs, 0);
	tear_down(f);
	for (int i = 0; i < 2; i++) {
		close(p[i]);
		close(step[i]);
	}
	close(pair[0]);
}

static void test_a_new_connection_of_a_peer_replaces_the_one_before(void **state)
{
	struct fixture *f = set_up(0, true);
	struct err err = ERR_NONE;
	struct ask reply;
	int other[2];
	char byte;

	(void)state;
	assert_int_equal(fd_socketpair(other), 0);
	rpc_server_add_peer(f->server, other[0], 43);
	assert_int_equal(call(f, &ECHO_CALL, 1, STR("x"), &reply, 10000, &err), 0);
	rpc_server_replace(f->server, 43);
	assert_int_equal(read(other[1], &byte, 1), 0);
	wait_until(f, &f->closed, 1);
	assert_int_equal(call(f, &ECHO_CALL, 1, STR("x"), &reply, 10000, &err), 0);
	close(other[1]);
	tear_down(f);
}

static void test_a_deadline_ends_the_wait_and_a_late_answer_is_dropped(void **state)
{
	struct fixture *f = set_up(0, true);
	struct ask reply, late = {.file = -1};
	struct err err = ERR_NONE;

	(void)state;
	assert_int_equal(call(f, &KEEP_CALL, 1, STR(""), &reply, 20, &err), -1);
	assert_int_equal(err.kind, ERR_TEMP);
	wait_until(f, &f->keeps, 1);
	rpc_answer(f->kept[0], &late);
	assert_int_equal(call(f, &ECHO_CALL, 1, STR("x"), &reply, 10000, &err), 0);
	assert_int_equal(reply.number, 2);
	tear_down(f);
}

static void on_late(void *ctx, uint16_t number, const void *reply)
{
	const struct ask *m = reply;
	struct fixture *f = ctx;

	pthread_mutex_lock(&f->lock);
	f->lates += number == KEEP_CALL.number && m->number == 42 && m->file == -1 && str_eq(m->text, STR("yours"));
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static void test_an_answer_that_comes_too_late_is_told_to_who_wants_to_know(void **state)
{
	struct fixture *f = set_up(0, true);
	struct ask reply, late = {.number = 42, .text = STR("yours"), .file = memfd_create("late", MFD_CLOEXEC)};
	struct err err = ERR_NONE;

	(void)state;
	rpc_channel_on_late(f->channel, on_late, f);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(call(f, &KEEP_CALL, 1, STR(""), &reply, 20, &err), -1);
		wait_until(f, &f->keeps, i + 1);
		rpc_answer(f->kept[i], &late);
		/* Whoever reads the channel: another call, or nobody. */
		if (i < 2)
			assert_int_equal(call(f, &ECHO_CALL, 1, STR("x"), &reply, 10000, &err), 0);
		wait_until(f, &f->lates, i + 1);
	}
	close(late.file);
	tear_down(f);
}

struct caller {
	struct fixture *f;
	pthread_t thread;
	const struct rpc_call *call;
	bool repeatable;
	uint32_t rounds;
	int result;
	struct err err;
};

static void *caller_main(void *arg)
{
	struct caller *c = arg;
	struct rpc_reply hold;
	struct ask reply;

	for (uint32_t i = 0; i < c->rounds; i++) {
		struct ask m = {.number = i, .text = STR("payload"), .file = -1};
		rpc_reply_init(&hold);
		c->result = rpc_call(c->f->channel, c->call, &m, &reply, &hold, c->repeatable, 20000, &c->err);
		if (c->result == 0 && reply.number != i + 1)
			c->result = -2;
		rpc_reply_release(&hold);
		if (c->result < 0)
			break;
	}
	return NULL;
}

static void run_many(struct fixture *f, unsigned threads, const struct rpc_call *what, uint32_t rounds)
{
	struct caller c[16];

	for (unsigned i = 0; i < threads; i++) {
		c[i] = (struct caller){.f = f, .call = what, .rounds = rounds};
		pthread_create(&c[i].thread, NULL, caller_main, &c[i]);
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(c[i].thread, NULL);
		assert_int_equal(c[i].result, 0);
	}
}

static void test_many_threads_share_a_channel(void **state)
{
	struct fixture *f = set_up(0, true);

	(void)state;
	run_many(f, 16, &ECHO_CALL, 500);
	tear_down(f);
}

static void test_threads_mode_answers_from_a_pool(void **state)
{
	struct fixture *f = set_up(4, true);

	(void)state;
	run_many(f, 16, &ECHO_CALL, 300);
	tear_down(f);
}

static void test_events_come_before_the_answer_behind_them(void **state)
{
	struct fixture *f = set_up(0, true);
	struct ask reply;

	(void)state;
	for (unsigned i = 1; i <= 200; i++) {
		assert_int_equal(call(f, &TELL_CALL, 1, STR(""), &reply, 10000, NULL), 0);
		pthread_mutex_lock(&f->lock);
		assert_int_equal(f->events, i);
		pthread_mutex_unlock(&f->lock);
	}
	tear_down(f);
}

static void test_events_come_while_nobody_calls(void **state)
{
	struct fixture *f = set_up(0, true);
	struct ask m = {.file = -1}, reply;

	(void)state;
	assert_int_equal(rpc_event(f->peer, &EVENT_CALL, &m), 0);
	wait_until(f, &f->events, 1);
	assert_int_equal(call(f, &ECHO_CALL, 1, STR(""), &reply, 10000, NULL), 0);
	assert_int_equal(rpc_event(f->peer, &EVENT_CALL, &m), 0);
	wait_until(f, &f->events, 2);
	tear_down(f);
}

static void test_a_send_needs_no_answer(void **state)
{
	struct fixture *f = set_up(0, true);
	struct ask m = {.file = -1};

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(rpc_send(f->channel, &NOTE_CALL, &m), 0);
	wait_until(f, &f->notes, 100);
	tear_down(f);
}

static void test_what_may_wait_goes_before_the_next_call_or_by_itself(void **state)
{
	struct fixture *f = set_up(0, true);
	struct ask m = {.file = -1}, reply;

	(void)state;
	for (unsigned i = 1; i <= 50; i++) {
		assert_int_equal(rpc_send_later(f->channel, &NOTE_CALL, &m), 0);
		assert_int_equal(call(f, &ECHO_CALL, i, STR("behind it"), &reply, 10000, NULL), 0);
		pthread_mutex_lock(&f->lock);
		assert_int_equal(f->notes, i);
		pthread_mutex_unlock(&f->lock);
	}
	assert_int_equal(rpc_send_later(f->channel, &NOTE_CALL, &m), 0);
	wait_until(f, &f->notes, 51);
	for (unsigned i = 0; i < 2000; i++)
		assert_int_equal(rpc_send_later(f->channel, &NOTE_CALL, &m), 0);
	wait_until(f, &f->notes, 2051);
	tear_down(f);
}

static void test_what_may_wait_is_refused_without_a_connection(void **state)
{
	struct fixture *f = set_up(0, false);
	struct ask m = {.file = -1}, reply;

	(void)state;
	assert_int_equal(rpc_send_later(f->channel, &NOTE_CALL, &m), -1);
	connect_pair(f);
	assert_int_equal(call(f, &ECHO_CALL, 1, STR(""), &reply, 10000, NULL), 0);
	assert_int_equal(f->notes, 0);
	tear_down(f);
}

static void test_a_call_waits_for_a_connection(void **state)
{
	struct fixture *f = set_up(0, false);
	struct caller c = {.f = f, .call = &ECHO_CALL, .rounds = 1};
	struct err err = ERR_NONE;
	struct ask reply;

	(void)state;
	assert_int_equal(call(f, &ECHO_CALL, 1, STR(""), &reply, 10, &err), -1);
	assert_int_equal(err.kind, ERR_TEMP);
	pthread_create(&c.thread, NULL, caller_main, &c);
	connect_pair(f);
	pthread_join(c.thread, NULL);
	assert_int_equal(c.result, 0);
	tear_down(f);
}

static void test_the_death_of_the_peer_fails_calls_and_resends_repeatable_ones(void **state)
{
	struct fixture *f = set_up(0, true);
	struct caller once = {.f = f, .call = &KEEP_CALL, .rounds = 1};
	struct caller again = {.f = f, .call = &KEEP_CALL, .rounds = 1, .repeatable = true};
	struct ask reply = {.number = 1, .text = STR("payload"), .file = -1};
	uint64_t generation = rpc_channel_generation(f->channel);

	(void)state;
	pthread_create(&once.thread, NULL, caller_main, &once);
	pthread_create(&again.thread, NULL, caller_main, &again);
	wait_until(f, &f->keeps, 2);
	shutdown(f->client_end, SHUT_RDWR);
	pthread_join(once.thread, NULL);
	assert_int_equal(once.result, -1);
	assert_int_equal(once.err.kind, ERR_LOST);
	wait_until(f, &f->downs, 1);
	wait_until(f, &f->closed, 1);
	assert_false(rpc_channel_connected(f->channel));
	/* Answers to a peer that is gone go nowhere, and nowhere wrong. */
	rpc_answer(f->kept[0], &reply);
	rpc_answer(f->kept[1], &reply);
	connect_pair(f);
	assert_int_equal(rpc_channel_generation(f->channel), generation + 1);
	wait_until(f, &f->keeps, 3);
	rpc_answer(f->kept[2], &reply);
	pthread_join(again.thread, NULL);
	assert_int_equal(again.result, 0);
	tear_down(f);
}

static void make_new_connection(void *ctx, uint64_t gone)
{
	assert_int_equal(gone, 1);
	connect_pair(ctx);
}

/* Whoever led has gone, and who is next has no connection to lead: the channel's thread, which left them alone because
 * they waited for something rare, must ask for one. */
static void test_a_connection_lost_while_calls_wait_long_is_asked_for(void **state)
{
	struct fixture *f = set_up(0, true);
	struct caller once = {.f = f, .call = &KEEP_CALL, .rounds = 1};
	struct caller again = {.f = f, .call = &KEEP_CALL, .rounds = 1, .repeatable = true};
	struct ask reply = {.number = 1, .text = STR("payload"), .file = -1};
	const struct timespec graces = {.tv_nsec = 100000000};
	int first_end = f->client_end; /* the channel's thread will write there */

	(void)state;
	rpc_channel_on_missing(f->channel, make_new_connection, f);
	pthread_create(&once.thread, NULL, caller_main, &once);
	wait_until(f, &f->keeps, 1);
	pthread_create(&again.thread, NULL, caller_main, &again);
	wait_until(f, &f->keeps, 2);
	nanosleep(&graces, NULL); /* until the thread sleeps; when it does not yet, nothing is shown */
	shutdown(first_end, SHUT_RDWR);
	pthread_join(once.thread, NULL);
	assert_int_equal(once.err.kind, ERR_LOST);
	wait_until(f, &f->keeps, 3);
	rpc_answer(f->kept[0], &reply);
	rpc_answer(f->kept[1], &reply);
	rpc_answer(f->kept[2], &reply);
	pthread_join(again.thread, NULL);
	assert_int_equal(again.result, 0);
	tear_down(f);
}

static void test_a_malformed_frame_closes_the_peer(void **state)
{
	struct fixture *f = set_up(0, false);
	static const char frames[][20] = {
		"\xff\xff\xff\xff\1\0\0\0\1\0\0\0\0\0\0\0", /* too long */
		"\1\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0x",	    /* does not decode */
		"\0\0\0\0\x63\0\0\0\1\0\0\0\0\0\0\0",	    /* unknown number */
		"\0\0\0\0\1\0\5\0\1\0\0\0\0\0\0\0",	    /* descriptors that did not come */
	};
	char byte;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(frames); i++) {
		int pair[2];
		assert_int_equal(fd_socketpair(pair), 0);
		rpc_server_add_peer(f->server, pair[0], 1);
		assert_true(write(pair[1], frames[i], i == 1 ? 17 : 16) > 0);
		assert_true(read(pair[1], &byte, 1) <= 0);
		close(pair[1]);
		wait_until(f, &f->closed, i + 1);
	}
	tear_down(f);
}

static void test_a_peer_that_does_not_read_gets_no_more_events_and_holds_up_nobody(void **state)
{
	struct fixture *f = set_up(0, true);
	char filler[10000] = {0};
	struct ask m = {.text = {filler, sizeof(filler)}, .file = -1}, reply;
	struct rpc_peer *deaf;
	int pair[2], sent = 0;

	(void)state;
	assert_int_equal(fd_socketpair(pair), 0);
	deaf = rpc_server_add_peer(f->server, pair[0], 2);
	while (rpc_event(deaf, &EVENT_CALL, &m) == 0)
		assert_true(++sent < 10000);
	assert_true(sent > 100);
	assert_int_equal(call(f, &ECHO_CALL, 1, STR("x"), &reply, 10000, NULL), 0);
	close(pair[1]);
	wait_until(f, &f->closed, 1);
	tear_down(f);
}

static _Atomic int ticks;
static void tick(void *ctx)
{
	struct fixture *f = ctx;

	ticks++;
	pthread_mutex_lock(&f->lock);
	f->notes++;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static void test_timers_and_hand_overs_run_on_the_loop(void **state)
{
	struct fixture *f = set_up(0, true);

	(void)state;
	rpc_server_after(f->server, 30, tick, f);
	rpc_server_after(f->server, 0, tick, f);
	rpc_server_after(f->server, 1, tick, f);
	wait_until(f, &f->notes, 3);
	assert_int_equal(ticks, 3);
	tear_down(f);
}

/* ---- calls that nobody waits for ---- */

struct asked {
	struct fixture *f;
	unsigned answered, failed, kinds[ERR_LOST + 1];
	uint32_t sum;
};

static void on_done(void *ctx, const void *reply, const struct err *err)
{
	struct asked *a = ctx;
	const struct ask *m = reply;

	pthread_mutex_lock(&a->f->lock);
	if (m) {
		a->answered++;
		a->sum += m->number;
	} else {
		a->failed++;
		a->kinds[err->kind]++;
	}
	pthread_cond_broadcast(&a->f->cond);
	pthread_mutex_unlock(&a->f->lock);
}

static int ask_on(struct asked *a, const struct rpc_call *what, uint32_t number, int64_t timeout_ms)
{
	struct ask m = {.number = number, .text = STR("later"), .file = -1};

	return rpc_call_async(a->f->channel, what, &m, timeout_ms, on_done, a);
}

static void test_calls_that_nobody_waits_for_are_answered_beside_those_that_somebody_does(void **state)
{
	struct fixture *f = set_up(0, true);
	struct asked a = {.f = f};
	uint32_t want = 0;
	struct caller c[4];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		c[i] = (struct caller){.f = f, .call = &ECHO_CALL, .rounds = 2000};
		pthread_create(&c[i].thread, NULL, caller_main, &c[i]);
	}
	for (uint32_t i = 0; i < 3000; i++) {
		want += i + 1;
		while (ask_on(&a, &ECHO_CALL, i, 60000) < 0)
			wait_until(f, &a.answered, i > 20 ? i - 20 : 0);
	}
	wait_until(f, &a.answered, 3000);
	assert_int_equal(a.sum, want);
	assert_int_equal(a.failed, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		pthread_join(c[i].thread, NULL);
		assert_int_equal(c[i].result, 0);
	}
	assert_int_equal(ask_on(&a, &FAIL_CALL, 1, 60000), 0);
	wait_until(f, &a.failed, 1);
	assert_int_equal(a.kinds[ERR_FULL], 1);
	tear_down(f);
}

static void test_a_call_that_nobody_waits_for_ends_with_its_time_or_its_connection(void **state)
{
	struct fixture *f = set_up(0, false);
	struct asked a = {.f = f};
	struct ask late = {.file = -1, .text = STR("")}, reply;

	(void)state;
	assert_int_equal(ask_on(&a, &KEEP_CALL, 1, 60000), -1);
	connect_pair(f);
	assert_int_equal(ask_on(&a, &KEEP_CALL, 1, 1), 0);
	wait_until(f, &f->keeps, 1);
	while (rpc_channel_tend(f->channel))
		;
	assert_int_equal(a.failed, 1);
	assert_int_equal(a.kinds[ERR_TEMP], 1);
	rpc_answer(f->kept[0], &late);
	assert_int_equal(call(f, &ECHO_CALL, 1, STR("x"), &reply, 10000, NULL), 0);

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(ask_on(&a, &KEEP_CALL, 1, 60000), 0);
	wait_until(f, &f->keeps, 3);
	shutdown(f->client_end, SHUT_RDWR);
	wait_until(f, &a.failed, 3);
	assert_int_equal(a.kinds[ERR_LOST], 2);
	connect_pair(f);
	assert_int_equal(ask_on(&a, &KEEP_CALL, 1, 60000), 0);
	wait_until(f, &f->keeps, 4);
	rpc_channel_end(f->channel);
	assert_int_equal(a.kinds[ERR_LOST], 3);
	assert_int_equal(ask_on(&a, &ECHO_CALL, 1, 60000), -1);
	assert_int_equal(call(f, &ECHO_CALL, 1, STR("x"), &reply, 60000, NULL), -1);
	assert_int_equal(a.answered, 0);
	for (unsigned i = 1; i < 4; i++)
		rpc_answer(f->kept[i], &late);
	tear_down(f);
}

static void test_no_more_than_so_many_go_unawaited(void **state)
{
	struct fixture *f = set_up(0, true);
	struct asked a = {.f = f};

	(void)state;
	for (unsigned i = 0; i < RPC_ASYNC_MAX; i++)
		assert_int_equal(ask_on(&a, &NOTE_KEPT_CALL, i, 60000), 0);
	assert_int_equal(ask_on(&a, &NOTE_KEPT_CALL, 1, 60000), -1);
	tear_down(f);
	assert_int_equal(a.failed, RPC_ASYNC_MAX);
}

static void test_what_is_gathered_leaves_with_a_flush_or_before_the_next_call(void **state)
{
	struct fixture *f = set_up(0, true);
	struct ask m = {.number = 1, .text = STR(""), .file = -1}, reply;

	(void)state;
	assert_int_equal(rpc_send_gather(f->channel, &NOTE_CALL, &m), 0);
	assert_int_equal(rpc_send_gather(f->channel, &NOTE_CALL, &m), 0);
	assert_int_equal(call(f, &ECHO_CALL, 1, STR("x"), &reply, 10000, NULL), 0);
	assert_int_equal(f->notes, 2);
	assert_int_equal(rpc_send_gather(f->channel, &NOTE_CALL, &m), 0);
	assert_false(rpc_channel_tend(f->channel));
	wait_until(f, &f->notes, 3);
	tear_down(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_call_is_answered),
		cmocka_unit_test(test_large_messages_pass_whole),
		cmocka_unit_test(test_a_refusal_carries_the_error),
		cmocka_unit_test(test_descriptors_pass_both_ways),
		cmocka_unit_test(test_a_request_whose_descriptor_finds_no_room_is_refused_and_the_channel_goes_on),
		cmocka_unit_test(test_a_reply_whose_descriptor_finds_no_room_fails_one_call_and_says_what_it_named),
		cmocka_unit_test(test_a_new_connection_of_a_peer_replaces_the_one_before),
		cmocka_unit_test(test_a_deadline_ends_the_wait_and_a_late_answer_is_dropped),
		cmocka_unit_test(test_an_answer_that_comes_too_late_is_told_to_who_wants_to_know),
		cmocka_unit_test(test_many_threads_share_a_channel),
		cmocka_unit_test(test_threads_mode_answers_from_a_pool),
		cmocka_unit_test(test_events_come_before_the_answer_behind_them),
		cmocka_unit_test(test_events_come_while_nobody_calls),
		cmocka_unit_test(test_a_send_needs_no_answer),
		cmocka_unit_test(test_what_may_wait_goes_before_the_next_call_or_by_itself),
		cmocka_unit_test(test_what_may_wait_is_refused_without_a_connection),
		cmocka_unit_test(test_a_call_waits_for_a_connection),
		cmocka_unit_test(test_the_death_of_the_peer_fails_calls_and_resends_repeatable_ones),
		cmocka_unit_test(test_calls_that_nobody_waits_for_are_answered_beside_those_that_somebody_does),
		cmocka_unit_test(test_a_call_that_nobody_waits_for_ends_with_its_time_or_its_connection),
		cmocka_unit_test(test_no_more_than_so_many_go_unawaited),
		cmocka_unit_test(test_what_is_gathered_leaves_with_a_flush_or_before_the_next_call),
		cmocka_unit_test(test_a_connection_lost_while_calls_wait_long_is_asked_for),
		cmocka_unit_test(test_a_malformed_frame_closes_the_peer),
		cmocka_unit_test(test_a_peer_that_does_not_read_gets_no_more_events_and_holds_up_nobody),
		cmocka_unit_test(test_timers_and_hand_overs_run_on_the_loop),
	};
	alarm(getenv("UNDER_VALGRIND") ? 2400 : 120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
