#include "base/encode.h"
#include "base/mem.h"
#include "journal/journal.h"
#include "os/io.h"
#include "testdir.h"
#include <errno.h>
#include <sys/wait.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SEG (64u << 10)

struct seen {
	uint64_t first, last;
	size_t count;
	bool wrong;
};

static struct str payload(uint64_t lsn, char *out, size_t *len)
{
	*len = (size_t)(lsn * 37 % 6000);
	for (size_t i = 0; i < *len; i++)
		out[i] = (char)(lsn + i);
	return str_of(out, *len);
}

static int see(void *ctx, const struct journal_record *r, struct err *err)
{
	struct seen *s = ctx;
	char want[8192];
	size_t len;

	(void)err;
	if (!s->first)
		s->first = r->lsn;
	s->wrong = s->wrong || (s->last && r->lsn != s->last + 1) || !str_eq(r->payload, payload(r->lsn, want, &len)) ||
		   r->type != 7;
	s->last = r->lsn;
	s->count++;
	return 0;
}

static struct journal *open_journal(int dir, uint64_t limit)
{
	struct journal_options o = {.dirfd = dir, .size_limit = limit, .segment_size = SEG};
	struct journal *j;
	struct err err = ERR_NONE;

	if (journal_open(&o, &j, &err) < 0)
		fail_msg("%s", err.text);
	return j;
}

static uint64_t append(struct journal *j, uint64_t lsn)
{
	char bytes[8192];
	size_t len;
	struct str p = payload(lsn, bytes, &len), parts[2] = {str_sub(p, 0, len / 3), str_skip(p, len / 3)};

	return journal_append(j, 7, parts, 2, NULL);
}

static void records_come_back_in_order_and_a_released_segment_is_reused(void **state)
{
	char path[64];
	int dir = testdir_make(path);
	struct journal *j = open_journal(dir, 1 << 20);
	struct journal_stats stats;
	struct seen seen = {0};
	uint64_t last;

	(void)state;
	assert_int_equal(journal_start(j, 1, NULL), 0);
	for (uint64_t i = 1; i <= 2000; i++) {
		assert_int_equal(append(j, i), i);
		if (i % 20 == 0) {
			journal_wait(j, i);
			if (i < 1900)
				journal_release(j, i - 5);
		}
	}
	journal_stats(j, &stats);
	assert_true(stats.segments <= 16);
	assert_true(stats.flushes >= 100 && stats.flushes <= 2000);
	journal_close(&j);
	j = open_journal(dir, 1 << 20);
	assert_int_equal(journal_recover(j, 1890, see, &seen, &last, NULL), 0);
	assert_int_equal(last, 2000);
	assert_int_equal(seen.first, 1891);
	assert_int_equal(seen.count, 110);
	assert_false(seen.wrong);
	/* A fresh life: nothing of the old one is seen again. */
	assert_int_equal(journal_start(j, last + 1, NULL), 0);
	assert_int_equal(append(j, 2001), 2001);
	journal_close(&j);
	j = open_journal(dir, 1 << 20);
	seen = (struct seen){0};
	assert_int_equal(journal_recover(j, 2000, see, &seen, &last, NULL), 0);
	assert_int_equal(seen.count, 1);
	assert_int_equal(last, 2001);
	assert_false(seen.wrong);
	journal_close(&j);
	close(dir);
	testdir_remove(path);
}

static void a_full_journal_refuses_and_takes_again_after_a_release(void **state)
{
	char path[64];
	int dir = testdir_make(path);
	struct journal *j = open_journal(dir, 3 * SEG);
	struct err err = ERR_NONE;
	uint64_t lsn, n = 0, last;
	struct seen seen = {0};

	(void)state;
	assert_int_equal(journal_start(j, 1, NULL), 0);
	/* One by one: waiting records are counted as a block each, so a burst may be refused a little early. */
	while (append(j, n + 1))
		journal_wait(j, ++n);
	assert_true(n > 20);
	while ((lsn = journal_append(j, 7, NULL, 0, &err)))
		journal_wait(j, n = lsn);
	assert_int_equal(err.kind, ERR_FULL);
	journal_wait(j, n);
	assert_true(journal_wants_checkpoint(j));
	journal_release(j, n);
	assert_true(append(j, n + 1) == n + 1);
	journal_close(&j);
	j = open_journal(dir, 3 * SEG);
	assert_int_equal(journal_recover(j, n, see, &seen, &last, NULL), 0);
	assert_int_equal(last, n + 1);
	assert_false(seen.wrong);
	journal_close(&j);
	close(dir);
	testdir_remove(path);
}

static void a_garbled_or_torn_tail_ends_the_journal_cleanly(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 60; round++) {
		char path[64];
		int dir = testdir_make(path), fd;
		struct journal *j = open_journal(dir, 1 << 20);
		struct seen seen = {0};
		uint64_t last;
		uint8_t junk[512];
		off_t at;

		assert_int_equal(journal_start(j, 1, NULL), 0);
		for (uint64_t i = 1; i <= 30; i++) {
			assert_int_equal(append(j, i), i);
			journal_wait(j, i);
		}
		journal_close(&j);
		random_bytes(junk, sizeof(junk));
		if (round & 1)
			memset(junk, 0, sizeof(junk));
		fd = openat(dir, round % 3 ? "journal.0" : "journal.1", O_RDWR);
		at = (off_t)random_below(SEG / 512) * 512;
		assert_int_equal(pwrite(fd, junk, sizeof(junk), at), sizeof(junk));
		close(fd);
		j = open_journal(dir, 1 << 20);
		assert_int_equal(journal_recover(j, 0, see, &seen, &last, NULL), 0);
		assert_true(last <= 30);
		assert_int_equal(seen.count ? last - seen.first + 1 : 0, seen.count);
		assert_false(seen.wrong);
		assert_int_equal(journal_start(j, last + 1, NULL), 0);
		assert_int_equal(append(j, last + 1), last + 1);
		journal_close(&j);
		close(dir);
		testdir_remove(path);
	}
}

static enum io_op fail_op;
static int fail_after;

static int fail_nth(void *ctx, const struct io_event *e)
{
	(void)ctx;
	return e->op == fail_op && --fail_after < 0 ? EIO : 0;
}

/* What the child managed to be told is durable comes through the pipe; its end must be storage_failed's. */
static void after_a_failed_sync_or_write_nothing_more_is_acknowledged(void **state)
{
	static const enum io_op ops[] = {IO_FDATASYNC, IO_WRITE};

	(void)state;
	for (unsigned round = 0; round < 10; round++) {
		char path[64];
		int dir = testdir_make(path), status, p[2];
		uint64_t acked = 0, v, last;
		struct seen seen = {0};
		struct journal *j;
		pid_t pid;

		assert_int_equal(pipe(p), 0);
		pid = fork();
		if (pid == 0) {
			struct io_hook hook = {.before = fail_nth};
			int null = open("/dev/null", O_WRONLY);
			dup2(null, 2);
			j = open_journal(dir, 1 << 20);
			if (journal_start(j, 1, NULL) < 0)
				_exit(99);
			fail_op = ops[round % 2];
			fail_after = (int)round + 2;
			io_set_hook(&hook);
			for (uint64_t i = 1; i < 100; i++) {
				append(j, i);
				journal_wait(j, i);
				if (write(p[1], &i, sizeof(i)) != sizeof(i))
					_exit(98);
			}
			_exit(0);
		}
		close(p[1]);
		while (read(p[0], &v, sizeof(v)) == sizeof(v))
			acked = v;
		close(p[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 0 && WEXITSTATUS(status) < 98);
		assert_true(acked < 99);
		j = open_journal(dir, 1 << 20);
		assert_int_equal(journal_recover(j, 0, see, &seen, &last, NULL), 0);
		assert_true(last >= acked);
		assert_false(seen.wrong);
		journal_close(&j);
		close(dir);
		testdir_remove(path);
	}
}

static void only_one_process_may_hold_a_directory(void **state)
{
	char path[64];
	int dir = testdir_make(path), a, b;
	struct err err = ERR_NONE;

	(void)state;
	a = journal_lock_dir(dir, NULL);
	assert_true(a >= 0);
	assert_int_equal(journal_lock_dir(dir, &err), -1);
	assert_int_equal(err.kind, ERR_TEMP);
	close(a);
	b = journal_lock_dir(dir, NULL);
	assert_true(b >= 0);
	close(b);
	close(dir);
	testdir_remove(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_come_back_in_order_and_a_released_segment_is_reused),
		cmocka_unit_test(a_full_journal_refuses_and_takes_again_after_a_release),
		cmocka_unit_test(a_garbled_or_torn_tail_ends_the_journal_cleanly),
		cmocka_unit_test(after_a_failed_sync_or_write_nothing_more_is_acknowledged),
		cmocka_unit_test(only_one_process_may_hold_a_directory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
