/* A great queue: what thousands of waiting messages cost, and whether they are in anybody's way. All tests share one,
 * and leave it as it was. */
#include "base/mem.h"
#include "stand.h"
#include <malloc.h>

#define FEW  1000u  /* a page of a listing */
#define MANY 21000u /* more than the queue looks up of one destination at a time */

static size_t few_bytes; /* of the heap, with FEW of them */

/* ---- the heap: of the sanitizers, which have their own, or libc's --------------------------------------- */

size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static size_t heap_bytes(void)
{
	struct mallinfo2 info = mallinfo2();

	if (__sanitizer_get_current_allocated_bytes)
		return __sanitizer_get_current_allocated_bytes();
	return info.uordblks + info.hblkhd;
}

/* ---- filling -------------------------------------------------------------------------------------------- */

struct filling {
	pthread_mutex_t lock;
	pthread_cond_t some;
	size_t done, failed;
};

static void filled_one(void *ctx, const void *reply, const struct err *err)
{
	struct filling *p = ctx;

	(void)err;
	pthread_mutex_lock(&p->lock);
	p->done++;
	p->failed += reply == NULL;
	pthread_cond_signal(&p->some);
	pthread_mutex_unlock(&p->lock);
}

/* Commits of which many share a flush. */
static void fill(struct fixture *f, size_t count)
{
	struct filling p = {.lock = PTHREAD_MUTEX_INITIALIZER, .some = PTHREAD_COND_INITIALIZER};
	struct queue_rcpt one = {.address = STR("x@far.test"), .original = STR("x@far.test")};

	for (size_t i = 0; i < count; i++) {
		struct queue_commit c = {.message = message("a few bytes\n")};

		c.message.rcpts.v = &one;
		c.message.rcpts.n = 1;
		pthread_mutex_lock(&p.lock);
		while (i - p.done >= RPC_ASYNC_MAX)
			pthread_cond_wait(&p.some, &p.lock);
		pthread_mutex_unlock(&p.lock);
		assert_int_equal(rpc_call_async(f->c, &QUEUE_COMMIT, &c, 600000, filled_one, &p), 0);
	}
	pthread_mutex_lock(&p.lock);
	while (p.done < count)
		pthread_cond_wait(&p.some, &p.lock);
	pthread_mutex_unlock(&p.lock);
	assert_int_equal(p.failed, 0);
}

/* ---- looking -------------------------------------------------------------------------------------------- */

struct seen {
	size_t messages, rcpts, held, due;
	bool ascending;
};

static struct seen look(struct fixture *f)
{
	struct seen s = {.ascending = true};
	struct queue_listed l;
	char after[64] = "";

	for (;;) {
		struct queue_list r = {.after = str_from(after), .max = 1000};

		assert_int_equal(call(f->admin, f, &QUEUE_LIST, &r, &l), 0);
		if (l.messages.n == 0)
			return s;
		for (size_t i = 0; i < l.messages.n; i++) {
			s.ascending = s.ascending && str_cmp(l.messages.v[i].id, str_from(after)) > 0;
			snprintf(after, sizeof(after), "%.*s", STR_ARG(l.messages.v[i].id));
			s.rcpts += l.messages.v[i].rcpts.n;
			s.held += l.states.v[i].due >= QUEUE_HELD;
			s.due += l.states.v[i].due <= (uint64_t)clock_wall();
		}
		s.messages += l.messages.n;
	}
}

static void act(struct fixture *f, enum queue_action action, const char *destination)
{
	struct queue_act ask = {
		.action = (uint8_t)action, .destination = str_from(destination), .counts = !destination[0]};
	struct queue_acted acted;
	char after[64];
	uint64_t count = 0;

	do {
		assert_int_equal(call(f->admin, f, &QUEUE_ACT, &ask, &acted), 0);
		snprintf(after, sizeof(after), "%.*s", STR_ARG(acted.next));
		assert_int_equal(acted.total, ask.counts ? MANY : 0); /* the first time, who waits for all is told */
		ask.counts = 0;
		ask.after = str_from(after);
		count += acted.count;
	} while (after[0]);
	assert_int_equal(count, MANY);
}

static size_t bytes_after_start(struct fixture *f, size_t messages)
{
	/* Twice: of what the first one writes down, libc keeps some for later. */
	for (unsigned i = 0; i < 2; i++) {
		stop(f);
		start(f);
	}
	assert_int_equal(look(f).messages, messages);
	rpc_reply_release(&f->hold);
	rpc_reply_init(&f->hold);
	return heap_bytes();
}

static int setup_great(void **state)
{
	struct fixture *f;

	setup(state);
	f = *state;
	fill(f, FEW);
	few_bytes = bytes_after_start(f, FEW);
	fill(f, MANY - FEW);
	return 0;
}

/* ---- tests ---------------------------------------------------------------------------------------------- */

static void all_are_listed_page_by_page(void **state)
{
	struct seen s = look(*state);

	assert_int_equal(s.messages, MANY);
	assert_int_equal(s.rcpts, MANY);
	assert_int_equal(s.due, MANY);
	assert_true(s.ascending);
}

static void memory_does_not_grow_with_the_messages(void **state)
{
	size_t now = bytes_after_start(*state, MANY);

	assert_in_range(now > few_bytes ? now - few_bytes : 0, 0, 5 * MANY);
}

/* Of none that waits: they are empty. */
static void a_start_reads_no_message(void **state)
{
	struct fixture *f = *state;
	struct dirent *d;
	DIR *dir;
	int fd, n = 0;

	stop(f);
	fd = openat(f->dir, "msgs", O_RDONLY | O_DIRECTORY);
	dir = fdopendir(fd);
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.') {
			int file = openat(fd, d->d_name, O_WRONLY | O_TRUNC);

			assert_true(file >= 0);
			close(file);
			n++;
		}
	closedir(dir);
	assert_int_equal(n, MANY);
	start(f);
	assert_int_equal(look(f).messages, MANY);
}

static void what_waits_for_one_destination_is_found_many_at_a_time(void **state)
{
	struct fixture *f = *state;

	act(f, QUEUE_HOLD, "");
	assert_int_equal(look(f).held, MANY);
	act(f, QUEUE_RELEASE, "Far.Test");
	assert_int_equal(look(f).held, 0);
	assert_int_equal(look(f).due, MANY);
}

static void a_fresh_message_overtakes_all_that_wait_elsewhere(void **state)
{
	struct queue_rcpt one = {.address = STR("x@near.test"), .original = STR("x@near.test")};
	struct fixture *f = *state;
	struct queue_message m = message("fresh\n");
	struct queue_claimed got;
	struct queue_claim ask = {.max = 2, .wait_ms = 20000};
	struct queue_ended ended;
	struct queue_result r = {.id = STR("")};
	struct queue_rcpt_outcome o = {0, OUTCOME_DELIVERED, STR("2.0.0"), STR("ok")};
	bool found = false;
	char id[64];

	m.rcpts.v = &one;
	m.rcpts.n = 1;
	commit(f, &m, id);
	assert_int_equal(call(f->c, f, &QUEUE_CLAIM, &ask, &got), 0);
	assert_int_equal(got.messages.n, 2);
	for (size_t i = 0; i < 2; i++)
		found = found || str_eq(got.messages.v[i].id, str_from(id));
	assert_true(found);
	r.id = str_from(id);
	r.outcomes.v = &o;
	r.outcomes.n = 1;
	assert_int_equal(call(f->c, f, &QUEUE_RESULT, &r, &ended), 0);
	assert_true(ended.ended);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_are_listed_page_by_page),
		cmocka_unit_test(a_fresh_message_overtakes_all_that_wait_elsewhere),
		cmocka_unit_test(memory_does_not_grow_with_the_messages),
		cmocka_unit_test(what_waits_for_one_destination_is_found_many_at_a_time),
		cmocka_unit_test(a_start_reads_no_message),
	};

	stand_segment = 8 << 20;
	return cmocka_run_group_tests(tests, setup_great, teardown);
}
