/* Whose turn it is, when somebody has very much: one who writes to one waits for one part of a mailing, not for all. */
#include "base/mem.h"
#include "stand.h"
#include <malloc.h>
#ifdef __SANITIZE_ADDRESS__
size_t __sanitizer_get_current_allocated_bytes(void); /* gcc brings no header for it */
#endif

#define MANY 50000

/* A mailing to MANY at far.test. */
static void mailing(struct fixture *f, char id_r[64])
{
	struct queue_message m = message("to all\n");
	struct arena a;

	arena_init(&a);
	m.rcpts.v = ARENA_ARRAY(&a, struct queue_rcpt, MANY);
	m.rcpts.n = MANY;
	for (uint32_t i = 0; i < MANY; i++) {
		m.rcpts.v[i].index = i;
		m.rcpts.v[i].address = arena_printf(&a, "r%u@far.test", i);
	}
	commit(f, &m, id_r);
	arena_release(&a);
}

static void single(struct fixture *f, const char *to, char id_r[64])
{
	struct queue_rcpt one = {.address = str_from(to), .original = str_from(to)};
	struct queue_message m = message("to one\n");

	m.rcpts.v = &one;
	m.rcpts.n = 1;
	commit(f, &m, id_r);
}

/* Claims `count` parts; the place of the message among them, from 1, or 0. */
static size_t place_of(struct fixture *f, uint32_t count, uint32_t window, const char *id)
{
	size_t place = 0;

	for (uint32_t i = 1; i <= count; i++) {
		struct queue_claim ask = {.max = 1, .wait_ms = i == 1 ? 20000 : 0, .window = window};
		struct queue_claimed got;

		assert_int_equal(call(f->c, f, &QUEUE_CLAIM, &ask, &got), 0);
		if (got.messages.n == 0)
			break;
		if (str_eq(got.messages.v[0].id, str_from(id)))
			place = i;
	}
	return place;
}

static void one_recipient_does_not_wait_for_fifty_thousand(void **state)
{
	struct fixture *f = *state;
	char many[64], one[64];
	size_t place;

	mailing(f, many);
	single(f, "x@far.test", one);
	place = place_of(f, 10, 0, one);
	/* Parts of 50 go in turn with it: there are 1,000 of them. */
	assert_in_range(place, 1, 3);
}

static void one_recipient_is_in_turn_while_the_mailing_is_under_way(void **state)
{
	struct fixture *f = *state;
	char many[64], one[64];

	mailing(f, many);
	assert_int_equal(place_of(f, 100, 0, "none"), 0);
	single(f, "x@far.test", one);
	assert_in_range(place_of(f, 10, 0, one), 1, 3);
}

static void another_destination_does_not_wait_at_all(void **state)
{
	struct fixture *f = *state;
	char many[64], one[64], late[64];

	mailing(f, many);
	/* far.test has as many as it may. */
	assert_int_equal(place_of(f, 30, 20, "none"), 0);
	single(f, "x@far.test", late);
	single(f, "x@near.test", one);
	assert_int_equal(place_of(f, 10, 20, one), 1);
}

static size_t allocated(void)
{
#ifdef __SANITIZE_ADDRESS__
	return __sanitizer_get_current_allocated_bytes();
#else
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
#endif
}

struct answer {
	pthread_mutex_t lock;
	pthread_cond_t came;
	bool done;
	size_t messages;
};

static void answered(void *ctx, const void *reply, const struct err *err)
{
	const struct queue_claimed *got = reply;
	struct answer *a = ctx;

	(void)err;
	pthread_mutex_lock(&a->lock);
	a->done = true;
	a->messages = got ? got->messages.n : 0;
	pthread_cond_signal(&a->came);
	pthread_mutex_unlock(&a->lock);
}

/* Whatever comes meanwhile for a destination that has as many as it may is looked at, and is not for who waits. */
static void a_poll_that_waits_takes_no_memory_whatever_it_finds(void **state)
{
	struct fixture *f = *state;
	struct queue_claim ask = {.max = 100, .wait_ms = 600000, .window = 1};
	struct answer a = {.lock = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER};
	char id[64];
	size_t before;

	single(f, "x@far.test", id);
	assert_int_equal(place_of(f, 1, 1, id), 1);
	assert_int_equal(rpc_call_async(f->c, &QUEUE_CLAIM, &ask, 700000, answered, &a), 0);
	single(f, "x@far.test", id);
	before = allocated();
	for (unsigned i = 0; i < 1000; i++)
		single(f, "x@far.test", id);
	assert_true(allocated() < before + (20 << 20));
	single(f, "x@near.test", id);
	pthread_mutex_lock(&a.lock);
	while (!a.done)
		pthread_cond_wait(&a.came, &a.lock);
	pthread_mutex_unlock(&a.lock);
	assert_int_equal(a.messages, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_recipient_does_not_wait_for_fifty_thousand, setup, teardown),
		cmocka_unit_test_setup_teardown(one_recipient_is_in_turn_while_the_mailing_is_under_way, setup,
						teardown),
		cmocka_unit_test_setup_teardown(another_destination_does_not_wait_at_all, setup, teardown),
		cmocka_unit_test_setup_teardown(a_poll_that_waits_takes_no_memory_whatever_it_finds, setup, teardown),
	};

	stand_segment = 8 << 20;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
