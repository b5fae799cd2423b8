/* An index of before messages were divided into parts (src/queue/upgrade.c): all is there, with its times. */
#include "base/mem.h"
#include "queue/service_private.h"
#include "stand.h"

#define MESSAGES 1200 /* more than are taken over in one go */

struct old_key {
	char bytes[QUEUE_KEY_MAX];
	size_t len;
};

/* D due(8) destination NUL id */
static void old_schedule_key(struct str id, uint64_t due, struct old_key *k)
{
	size_t n = 0;

	k->bytes[n++] = 'D';
	for (int i = 0; i < 8; i++)
		k->bytes[n++] = (char)(due >> (56 - 8 * i));
	n += (size_t)snprintf(k->bytes + n, sizeof(k->bytes) - n, "example.test") + 1;
	memcpy(k->bytes + n, id.ptr, id.len);
	k->len = n + id.len;
}

static void put(struct kvlog *k, struct str key, struct str value, bool del)
{
	struct kvlog_op op = {key, value, del};

	assert_true(kvlog_commit(k, &op, 1, NULL, 0, NULL, NULL, NULL) > 0);
}

static void put_old(struct kvlog *k, struct str id, uint64_t due)
{
	struct queue_message m = message("");
	char key[QUEUE_KEY_MAX];
	struct old_key schedule;
	struct buf value;

	m.id = id;
	m.arrival = 1700000000;
	m.size = strlen("kept\n");
	m.rcpts.v[1].attempts = 3;
	m.rcpts.v[1].last_text = STR("no answer");
	buf_init(&value, 100000);
	assert_true(message_encode(due, &m, &value));
	put(k, message_key(id, key), buf_str(&value), false);
	old_schedule_key(id, due, &schedule);
	put(k, str_of(schedule.bytes, schedule.len), STR_NULL, false);
	buf_release(&value);
	m.rcpts.v[1].attempts = 0;
	m.rcpts.v[1].last_text = STR_NULL;
}

/* The index alone, as another version might have left it. */
static struct kvlog *open_index(struct fixture *f, struct testloop *loop)
{
	struct kvlog_options o = {.dirfd = f->dir,
				  .loop = testloop_hook(loop),
				  .keys_alone = true,
				  .segment_size = 1 << 20,
				  .journal_size_limit = 16 << 20};
	struct err err = ERR_NONE;
	struct kvlog *k;

	testloop_init(loop);
	if (kvlog_open(&o, &k, &err) < 0)
		fail_msg("%s", err.text);
	return k;
}

static int collect(void *ctx, struct str key, struct str value)
{
	VEC(struct old_key) *keys = ctx;
	struct old_key k = {.len = key.len};

	(void)value;
	memcpy(k.bytes, key.ptr, key.len);
	vec_push(keys, k);
	return 0;
}

/* What a version of today made of the message goes; what the old one knew of it comes. */
static void make_old(struct fixture *f, const char *id, uint64_t due)
{
	static const char *const ranges[][2] = {{"M", "N"}, {"R", "S"}, {"S", "T"}};
	VEC(struct old_key) keys = {0};
	struct testloop loop;
	struct kvlog *k = open_index(f, &loop);

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
		assert_true(kvlog_range(k, str_from(ranges[i][0]), str_from(ranges[i][1]), false, collect, &keys,
					NULL) >= 0);
	for (size_t i = 0; i < keys.n; i++)
		put(k, str_of(keys.v[i].bytes, keys.v[i].len), STR_NULL, true);
	put_old(k, str_from(id), due);
	kvlog_close(&k);
	testloop_drain(&loop);
	vec_release(&keys);
}

static void a_message_of_an_older_version_is_delivered(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("kept\n");
	struct queue_claimed got;
	struct queue_listed l;
	char id[64];

	commit(f, &m, id);
	stop(f);
	make_old(f, id, 1700000300);
	start(f);
	assert_int_equal(listed(f, "", &l), 1);
	assert_int_equal(l.messages.v[0].arrival, 1700000000);
	assert_int_equal(l.messages.v[0].rcpts.n, 2);
	assert_int_equal(l.states.v[0].due, 1700000300);
	assert_int_equal(claim(f->c, f, 20000, &got), 1);
	assert_true(str_eq(got.messages.v[0].id, str_from(id)));
	assert_true(str_eq(got.messages.v[0].body, STR("kept\n")));
	assert_int_equal(got.messages.v[0].rcpts.v[1].attempts, 3);
	assert_true(str_eq(got.messages.v[0].rcpts.v[1].last_text, STR("no answer")));
	/* It is of today now: a second start finds nothing to do, and all of it. */
	stop(f);
	start(f);
	assert_int_equal(listed(f, "", &l), 1);
	assert_int_equal(claim(f->c, f, 20000, &got), 1);
}

static void many_are_taken_over_and_what_is_damaged_is_dropped(void **state)
{
	struct fixture *f = *state;
	uint64_t due = (uint64_t)clock_wall() + 1800;
	struct testloop loop;
	struct queue_listed l;
	struct old_key lost;
	struct kvlog *k;
	char last[64] = "";
	size_t seen = 0;

	stop(f);
	k = open_index(f, &loop);
	for (unsigned i = 0; i < MESSAGES; i++) {
		char id[32];

		snprintf(id, sizeof(id), "0000000000z%04u", i);
		put_old(k, str_from(id), due);
	}
	/* A time without its message, and a key that is none. */
	old_schedule_key(STR("0000000000z9999"), due, &lost);
	put(k, str_of(lost.bytes, lost.len), STR_NULL, false);
	put(k, STR("Dx"), STR_NULL, false);
	kvlog_close(&k);
	testloop_drain(&loop);
	start(f);
	for (;;) {
		size_t n = listed(f, last, &l);

		if (n == 0)
			break;
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(l.states.v[i].due, due);
			assert_int_equal(l.messages.v[i].rcpts.n, 2);
		}
		seen += n;
		snprintf(last, sizeof(last), "%.*s", STR_ARG(l.messages.v[n - 1].id));
	}
	assert_int_equal(seen, MESSAGES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_message_of_an_older_version_is_delivered, setup, teardown),
		cmocka_unit_test_setup_teardown(many_are_taken_over_and_what_is_damaged_is_dropped, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
