#include "base/buf.h"
#include "base/encode.h"
#include "journal/kvlog.h"
#include "journal/overlay.h"
#include "os/fd.h"
#include "os/io.h"
#include "testdir.h"
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <sysexits.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct fixture {
	char path[64];
	int dir;
	struct testloop loop;
	struct kvlog *k;
	struct buf extras; /* what replay gave */
	atomic_uint settled;
};

static int replay(void *ctx, uint64_t lsn, struct str extra, struct err *err)
{
	struct fixture *f = ctx;

	(void)lsn, (void)err;
	buf_add_str(&f->extras, extra);
	return 0;
}

static int settle(void *ctx, uint64_t lsn, struct err *err)
{
	struct fixture *f = ctx;

	(void)lsn, (void)err;
	atomic_fetch_add(&f->settled, 1);
	return 0;
}

static void open_log(struct fixture *f)
{
	struct kvlog_options o = {.dirfd = f->dir,
				  .loop = testloop_hook(&f->loop),
				  .hooks = {.replay = replay, .settle = settle, .ctx = f},
				  .segment_size = 256 << 10,
				  .journal_size_limit = 4 << 20,
				  .overlay_limit = 64 << 10};
	struct err err = ERR_NONE;

	buf_clear(&f->extras);
	if (kvlog_open(&o, &f->k, &err) < 0)
		fail_msg("%s", err.text);
	assert_false(kvlog_read_only(f->k));
}

static int setup(void **state)
{
	struct fixture *f = NEW(struct fixture);

	f->dir = testdir_make(f->path);
	testloop_init(&f->loop);
	buf_init(&f->extras, 1 << 20);
	open_log(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	kvlog_close(&f->k);
	testloop_drain(&f->loop);
	buf_release(&f->extras);
	close(f->dir);
	testdir_remove(f->path);
	free(f);
	return 0;
}

/* The model: value of key i is a number, 0 for none. */
#define KEYS 300
static uint32_t model[KEYS];

static struct str key_of(unsigned i, char out[16])
{
	snprintf(out, 16, "key%04u", i);
	return str_from(out);
}

static void put(struct fixture *f, unsigned i, uint32_t value, unsigned *done)
{
	char key[16], text[64];
	struct kvlog_op op = {.key = key_of(i, key), .del = value == 0};
	struct str extra = str_from("e");

	snprintf(text, sizeof(text), "%u", value);
	op.value = str_from(text);
	assert_true(kvlog_commit(f->k, &op, 1, &extra, 1, testloop_count, done, NULL) > 0);
	model[i] = value;
}

struct check {
	unsigned next;
	bool reverse;
	int wrong;
};

static int check_one(void *ctx, struct str key, struct str value)
{
	struct check *c = ctx;
	char want[16], text[64];

	while (c->next < KEYS && model[c->next] == 0)
		c->next += c->reverse ? -1u : 1;
	if (c->next >= KEYS)
		return 1;
	snprintf(text, sizeof(text), "%u", model[c->next]);
	c->wrong += !str_eq(key, key_of(c->next, want)) || !str_eq(value, str_from(text));
	c->next += c->reverse ? -1u : 1;
	return 0;
}

static void check_all(struct fixture *f)
{
	struct check up = {0}, down = {.next = KEYS - 1, .reverse = true};
	struct arena a;

	assert_int_equal(kvlog_range(f->k, STR("key"), STR("kez"), false, check_one, &up, NULL), 0);
	assert_int_equal(up.wrong, 0);
	while (up.next < KEYS)
		assert_int_equal(model[up.next++], 0);
	assert_int_equal(kvlog_range(f->k, STR("key"), STR_NULL, true, check_one, &down, NULL), 0);
	assert_int_equal(down.wrong, 0);
	arena_init(&a);
	for (unsigned i = 0; i < KEYS; i++) {
		char key[16];
		struct str value;
		int rc = kvlog_get(f->k, key_of(i, key), &a, &value, NULL);
		assert_int_equal(rc, model[i] != 0);
		if (rc)
			assert_int_equal(strtoul(value.ptr, NULL, 10), model[i]);
	}
	arena_release(&a);
}

/* Every page behind the two of its beginning is of no kind that there is. */
static void garble_index(int dir)
{
	int fd = openat(dir, "index.mdb", O_RDWR);
	const uint8_t none[2] = {0};
	struct stat st;

	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	for (off_t page = 2; page * 4096 < st.st_size; page++)
		assert_int_equal(pwrite(fd, none, sizeof(none), page * 4096 + 10), sizeof(none));
	close(fd);
}

static void look(struct fixture *f)
{
	struct arena a;
	struct str value;
	char key[16];

	arena_init(&a);
	(void)!kvlog_get(f->k, key_of(7, key), &a, &value, NULL);
	arena_release(&a);
}

/* Written to or only read. */
static void use_a_garbled_index(int dir, bool write)
{
	struct fixture f = {.dir = dir};
	unsigned done = 0, points = 0;

	testloop_init(&f.loop);
	buf_init(&f.extras, 1 << 20);
	open_log(&f);
	put(&f, 1, 1, &done);
	kvlog_checkpoint(f.k, testloop_count, &points);
	testloop_until(&f.loop, &points, 1);
	garble_index(f.dir);
	while (!write) {
		look(&f);
		usleep(1000);
	}
	put(&f, 2, 2, &done);
	kvlog_checkpoint(f.k, testloop_count, &points);
	testloop_until(&f.loop, &points, 2);
}

/* The next start sets it aside; this process could try for ever, and let who needs a checkpoint wait as long. */
static void ends_with_a_garbled_index(bool write)
{
	char path[64];
	int dir = testdir_make(path), status;
	pid_t pid;

	pid = fork();
	if (pid == 0) {
		alarm(120);
		use_a_garbled_index(dir, write);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(dir);
	testdir_remove(path);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EX_IOERR);
}

static void an_index_damaged_while_in_use_ends_the_process(void **state)
{
	(void)state;
	ends_with_a_garbled_index(true);
}

/* Nothing is written, so no checkpoint fails: what is asked for fails, however often. */
static void an_index_damaged_while_only_read_ends_the_process(void **state)
{
	(void)state;
	ends_with_a_garbled_index(false);
}

/* The write that would make the index's transaction count: LMDB's own, to one of its first two pages. */
static atomic_bool refuse_meta;

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
	static ssize_t (*real)(int fd, const void *data, size_t len, off_t at);

	if (!real)
		real = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
	if (len < 4096 && at < 8192 && atomic_exchange(&refuse_meta, false)) {
		errno = EIO;
		return -1;
	}
	return real(fd, data, len, at);
}

static void an_index_that_takes_nothing_more_ends_the_process(void **state)
{
	char path[64];
	int dir = testdir_make(path), status;
	unsigned done = 0, points = 0;
	struct fixture f = {.dir = dir};
	pid_t pid;

	(void)state;
	testloop_init(&f.loop);
	buf_init(&f.extras, 1 << 20);
	pid = fork();
	if (pid == 0) {
		alarm(60);
		open_log(&f);
		put(&f, 1, 1, &done);
		kvlog_checkpoint(f.k, testloop_count, &points);
		testloop_until(&f.loop, &points, 1);
		put(&f, 1, 2, &done);
		testloop_until(&f.loop, &done, 2);
		atomic_store(&refuse_meta, true);
		kvlog_checkpoint(f.k, testloop_count, &points);
		testloop_until(&f.loop, &points, 2);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EX_IOERR);
	open_log(&f);
	memset(model, 0, sizeof(model));
	model[1] = 2;
	check_all(&f);
	kvlog_close(&f.k);
	testloop_drain(&f.loop);
	buf_release(&f.extras);
	close(dir);
	testdir_remove(path);
}

static void reads_merge_overlays_and_index_through_checkpoints_and_restarts(void **state)
{
	struct fixture *f = *state;
	unsigned done = 0, given = 0, points = 0;

	memset(model, 0, sizeof(model));
	for (unsigned round = 0; round < 3000; round++) {
		put(f, (unsigned)random_below(KEYS), (uint32_t)random_below(5), &done);
		given++;
		if (round % 400 == 0)
			kvlog_checkpoint(f->k, testloop_count, &points);
		if (round % 97 == 0)
			check_all(f);
		while (testloop_one(&f->loop, false))
			;
		if (round % 1000 == 999) {
			testloop_until(&f->loop, &done, given);
			kvlog_close(&f->k);
			testloop_drain(&f->loop);
			open_log(f);
			check_all(f);
			assert_int_equal(f->extras.len, 0); /* the last checkpoint held everything */
		}
	}
	testloop_until(&f->loop, &done, given);
	assert_int_equal(points, 8);
}

static void done_comes_in_order_and_a_barrier_behind_it(void **state)
{
	struct fixture *f = *state;
	unsigned done = 0, barrier = 0;

	put(f, 1, 1, &done);
	put(f, 2, 2, &done);
	assert_int_equal(done, 0);
	kvlog_barrier(f->k, testloop_count, &barrier);
	assert_int_equal(barrier, 0);
	testloop_until(&f->loop, &barrier, 1);
	assert_int_equal(done, 2);
	kvlog_barrier(f->k, testloop_count, &barrier);
	assert_int_equal(barrier, 2);
}

static void quiet_leads_to_a_checkpoint_by_itself(void **state)
{
	struct fixture *f = *state;
	struct kvlog_stats stats;
	unsigned done = 0;

	put(f, 1, 1, &done);
	do {
		testloop_one(&f->loop, true);
		kvlog_stats(f->k, &stats);
	} while (stats.checkpoints == 0);
	assert_int_equal(done, 1);
}

/* The owner notes its work for a record after the commit returned: a checkpoint in between would miss it. */
static void no_checkpoint_begins_within_a_commit(void **state)
{
	struct fixture *f = *state;
	char *bytes = mem_alloc(100 << 10);
	struct kvlog_op op = {.key = STR("big"), .value = str_of(bytes, 100 << 10)};
	struct kvlog_stats stats;
	unsigned done = 0;

	for (unsigned i = 0; i < 8; i++)
		assert_true(kvlog_commit(f->k, &op, 1, NULL, 0, testloop_count, &done, NULL) > 0);
	/* Durable, and more than enough for a checkpoint; but the loop has not come round. */
	do
		kvlog_stats(f->k, &stats);
	while (stats.flushes == 0);
	assert_int_equal(f->settled, 0);
	testloop_until(&f->loop, &done, 8);
	/* It may have come to its end already while the last commits did. */
	for (kvlog_stats(f->k, &stats); stats.checkpoints == 0; kvlog_stats(f->k, &stats))
		testloop_one(&f->loop, true);
	assert_true(f->settled > 0);
	free(bytes);
}

static int count_one(void *ctx, struct str key, struct str value)
{
	(void)key, (void)value;
	++*(unsigned *)ctx;
	return 0;
}

static void flip_in_index(struct fixture *f, const char *needle)
{
	int fd = openat(f->dir, "index.mdb", O_RDWR | O_CLOEXEC);
	char *data, *at;
	ssize_t size = fd_read_all(fd, 1 << 26, &data, NULL);

	assert_true(size > 0);
	at = memmem(data, (size_t)size, needle, strlen(needle));
	assert_non_null(at);
	*at ^= 1;
	assert_int_equal(pwrite(fd, at, 1, at - data), 1);
	free(data);
	close(fd);
}

/* What a rebuild needs: the keys around a damaged value can be listed, and what hides or drops it is believed. */
static void a_damaged_value_hides_no_other_key(void **state)
{
	struct fixture *f = *state;
	struct str end = STR("kez"), value;
	struct err err = ERR_NONE;
	struct arena arena;
	unsigned done = 0, seen = 0;

	for (unsigned i = 1; i <= 5; i++)
		put(f, i, i == 3 ? 31415926 : i, &done);
	kvlog_close(&f->k);
	testloop_drain(&f->loop);
	flip_in_index(f, "31415926");
	open_log(f);
	arena_init(&arena);
	assert_int_equal(kvlog_get(f->k, STR("key0003"), &arena, &value, &err), -1);
	assert_int_equal(kvlog_range(f->k, STR("key"), end, false, count_one, &seen, &err), -1);
	assert_int_equal(seen, 2);
	seen = 0;
	assert_int_equal(kvlog_keys(f->k, STR("key"), end, count_one, &seen, &err), 0);
	assert_int_equal(seen, 5);
	put(f, 3, 0, &done);
	seen = 0;
	assert_int_equal(kvlog_range(f->k, STR("key"), end, false, count_one, &seen, &err), 0);
	assert_int_equal(seen, 4);
	arena_release(&arena);
	testloop_until(&f->loop, &done, 6);
}

static void a_damaged_index_is_set_aside_and_the_log_still_opens(void **state)
{
	struct fixture *f = *state;
	unsigned done = 0;
	struct stat st;
	int fd;

	put(f, 1, 1, &done);
	kvlog_close(&f->k);
	testloop_drain(&f->loop);
	fd = openat(f->dir, "index.mdb", O_RDWR);
	assert_int_equal(pwrite(fd, "garbage garbage garbage garbage", 31, 0), 31);
	assert_int_equal(pwrite(fd, "garbage garbage garbage garbage", 31, 4096), 31);
	close(fd);
	open_log(f);
	assert_int_equal(fstatat(f->dir, "index.damaged", &st, 0), 0);
}

static void the_overlay_keeps_order_and_counts_its_bytes(void **state)
{
	struct overlay *o = overlay_new();
	const struct overlay_node *n;
	struct str v;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		char key[16];
		struct str name = key_of((i * 7919) % 1000, key);

		overlay_put(o, name, name);
	}
	assert_int_equal(overlay_count(o), 1000);
	overlay_del(o, STR("key0500"));
	assert_false(overlay_value(overlay_find(o, STR("key0500")), &v));
	n = overlay_seek(o, STR("key0999x"));
	assert_null(n);
	n = overlay_before(o, STR("key0001"));
	assert_true(str_eq(overlay_key(n), STR("key0000")));
	assert_null(overlay_prev(n));
	assert_null(overlay_before(o, STR("key0000")));
	unsigned count = 0;
	for (n = overlay_first(o); n; n = overlay_next(n)) {
		char key[16];
		assert_true(str_eq(overlay_key(n), key_of(count++, key)));
	}
	for (n = overlay_last(o); n; n = overlay_prev(n))
		count--;
	assert_int_equal(count, 0);
	overlay_free(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_overlay_keeps_order_and_counts_its_bytes),
		cmocka_unit_test_setup_teardown(reads_merge_overlays_and_index_through_checkpoints_and_restarts, setup,
						teardown),
		cmocka_unit_test(an_index_that_takes_nothing_more_ends_the_process),
		cmocka_unit_test(an_index_damaged_while_in_use_ends_the_process),
		cmocka_unit_test(an_index_damaged_while_only_read_ends_the_process),
		cmocka_unit_test_setup_teardown(done_comes_in_order_and_a_barrier_behind_it, setup, teardown),
		cmocka_unit_test_setup_teardown(quiet_leads_to_a_checkpoint_by_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(no_checkpoint_begins_within_a_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(a_damaged_value_hides_no_other_key, setup, teardown),
		cmocka_unit_test_setup_teardown(a_damaged_index_is_set_aside_and_the_log_still_opens, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
