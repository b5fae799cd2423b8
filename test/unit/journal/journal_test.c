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

/* Scan and replay, where nothing may be lost. */
static int recover(struct journal *j, uint64_t after, journal_record_fn *fn, void *ctx, uint64_t *last_r,
		   struct err *err)
{
	struct journal_found f;

	if (journal_scan(j, after, &f, err) < 0)
		return -1;
	if (f.lost || f.header_lost)
		fail_msg("%llu records lost from %llu on", (unsigned long long)f.lost,
			 (unsigned long long)f.lost_first);
	*last_r = f.last > after ? f.last : after;
	return journal_replay(j, fn, ctx, err);
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
	assert_int_equal(recover(j, 1890, see, &seen, &last, NULL), 0);
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
	assert_int_equal(recover(j, 2000, see, &seen, &last, NULL), 0);
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
	assert_int_equal(recover(j, n, see, &seen, &last, NULL), 0);
	assert_int_equal(last, n + 1);
	assert_false(seen.wrong);
	journal_close(&j);
	close(dir);
	testdir_remove(path);
}

/* ---- damage ---- */

#define RECORDS 30u

struct damage {
	char path[64];
	int dir;
	bool seen[RECORDS + 1], wrong;
};

static int see_damaged(void *ctx, const struct journal_record *r, struct err *err)
{
	struct damage *d = ctx;
	char want[8192];
	size_t len;

	(void)err;
	d->wrong = d->wrong || r->lsn > RECORDS || d->seen[r->lsn] || !str_eq(r->payload, payload(r->lsn, want, &len));
	if (!d->wrong)
		d->seen[r->lsn] = true;
	return 0;
}

/* What is not there was the last that was written, or it is said to be lost. Returns whether it was. */
static bool look_at_damage(struct damage *d, uint64_t after, const char *what)
{
	struct journal *j = open_journal(d->dir, 1 << 20);
	struct journal_found f;
	uint64_t missing = 0;
	struct err err = ERR_NONE;

	memset(d->seen, 0, sizeof(d->seen));
	d->wrong = false;
	assert_int_equal(journal_scan(j, after, &f, &err), 0);
	assert_int_equal(journal_replay(j, see_damaged, d, &err), 0);
	for (uint64_t i = after + 1; i < RECORDS; i++)
		missing += !d->seen[i];
	if (d->wrong ||
	    (missing && !f.header_lost && f.lost != missing && !(f.lost + 1 == missing && !d->seen[RECORDS])))
		fail_msg("%s: %llu missing, %llu said to be lost, wrong %d", what, (unsigned long long)missing,
			 (unsigned long long)f.lost, d->wrong);
	if (!missing && d->seen[RECORDS] && f.lost)
		fail_msg("%s: nothing is missing, %llu said to be lost", what, (unsigned long long)f.lost);
	/* It goes on, and what was damaged is kept. */
	assert_int_equal(journal_start(j, RECORDS + 1, &err), 0);
	assert_int_equal(append(j, RECORDS + 1), RECORDS + 1);
	journal_wait(j, RECORDS + 1);
	journal_close(&j);
	if (f.lost || f.header_lost)
		assert_true(faccessat(d->dir, "journal.0.damaged", F_OK, 0) == 0 ||
			    faccessat(d->dir, "journal.1.damaged", F_OK, 0) == 0);
	return f.lost || f.header_lost;
}

static char *whole_segments[2];

static void damage_begin(struct damage *d)
{
	struct journal *j;

	d->dir = testdir_make(d->path);
	j = open_journal(d->dir, 1 << 20);
	assert_int_equal(journal_start(j, 1, NULL), 0);
	for (uint64_t i = 1; i <= RECORDS; i++) {
		assert_int_equal(append(j, i), i);
		journal_wait(j, i);
	}
	journal_close(&j);
	for (int i = 0; i < 2; i++) {
		int fd = openat(d->dir, i ? "journal.1" : "journal.0", O_RDONLY);
		whole_segments[i] = mem_alloc(SEG);
		assert_int_equal(pread(fd, whole_segments[i], SEG, 0), SEG);
		close(fd);
	}
}

/* Both segments as they were, and then `len` bytes of one replaced. */
static void damage_write(struct damage *d, int segment, off_t at, const void *bytes, size_t len)
{
	for (int i = 0; i < 2; i++) {
		int fd = openat(d->dir, i ? "journal.1" : "journal.0", O_RDWR | O_CREAT | O_TRUNC, 0600);
		assert_int_equal(pwrite(fd, whole_segments[i], SEG, 0), SEG);
		if (i == segment)
			assert_int_equal(pwrite(fd, bytes, len, at), (ssize_t)len);
		close(fd);
		unlinkat(d->dir, i ? "journal.1.damaged" : "journal.0.damaged", 0);
	}
}

static void damage_end(struct damage *d)
{
	free(whole_segments[0]);
	free(whole_segments[1]);
	close(d->dir);
	testdir_remove(d->path);
}

static void damaged_records_are_told_from_a_torn_tail_and_the_rest_is_recovered(void **state)
{
	struct damage d;
	unsigned reported = 0;
	uint8_t bytes[512];
	char what[64];

	(void)state;
	damage_begin(&d);
	for (int segment = 0; segment < 2; segment++) {
		for (off_t at = 0; at < (off_t)SEG; at += 512) {
			for (int kind = 0; kind < 3; kind++) {
				memcpy(bytes, whole_segments[segment] + at, sizeof(bytes));
				if (kind == 0)
					memset(bytes, 0, sizeof(bytes));
				else if (kind == 1)
					random_bytes(bytes, sizeof(bytes));
				else
					bytes[random_below(at % 4096 ? 512 : 60)] ^= (uint8_t)(1 << random_below(8));
				snprintf(what, sizeof(what), "segment %d at %lld, kind %d", segment, (long long)at,
					 kind);
				damage_write(&d, segment, at, bytes, sizeof(bytes));
				reported += look_at_damage(&d, (unsigned)at % 3 ? 0 : 7, what);
			}
		}
	}
	assert_true(reported > 100);
	damage_end(&d);
}

static void a_segment_that_is_missing_or_anothers_is_told(void **state)
{
	struct damage d, other;
	struct err err = ERR_NONE;
	struct journal_options o;
	struct journal *j;
	char *ours;

	(void)state;
	damage_begin(&d);
	/* Missing: what stood in it is lost, what follows is not. */
	damage_write(&d, 0, 0, "", 0);
	assert_int_equal(unlinkat(d.dir, "journal.0", 0), 0);
	assert_true(look_at_damage(&d, 3, "journal.0 is missing"));
	assert_true(d.seen[RECORDS]);
	/* Another journal's: known by its id, or refused. */
	ours = whole_segments[0];
	free(whole_segments[1]);
	damage_begin(&other);
	free(whole_segments[0]);
	whole_segments[0] = ours;
	damage_write(&d, 0, 0, "", 0);
	o = (struct journal_options){.dirfd = d.dir, .size_limit = 1 << 20, .segment_size = SEG};
	assert_int_equal(journal_open(&o, &j, &err), -1);
	assert_non_null(strstr(err.text, "different journals"));
	struct segment_header h;
	assert_int_equal(segment_header_decode(str_of(ours, SEG), &h), SEGMENT_HEADER_VALID);
	o.id = h.journal;
	assert_int_equal(journal_open(&o, &j, &err), 0);
	assert_int_equal(faccessat(d.dir, "journal.1.foreign", F_OK, 0), 0);
	journal_close(&j);
	damage_end(&other);
	whole_segments[0] = whole_segments[1] = NULL;
	damage_end(&d);
}

static void a_newer_format_is_refused_in_plain_words(void **state)
{
	struct journal_options o;
	struct err err = ERR_NONE;
	struct journal *j;
	struct damage d;

	(void)state;
	damage_begin(&d);
	damage_write(&d, 0, 4, "\x09\0\0\0and what it has there", 20);
	o = (struct journal_options){.dirfd = d.dir, .size_limit = 1 << 20, .segment_size = SEG};
	assert_int_equal(journal_open(&o, &j, &err), -1);
	assert_non_null(strstr(err.text, "format 9"));
	damage_end(&d);
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
		assert_int_equal(recover(j, 0, see, &seen, &last, NULL), 0);
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
		cmocka_unit_test(damaged_records_are_told_from_a_torn_tail_and_the_rest_is_recovered),
		cmocka_unit_test(a_segment_that_is_missing_or_anothers_is_told),
		cmocka_unit_test(a_newer_format_is_refused_in_plain_words),
		cmocka_unit_test(after_a_failed_sync_or_write_nothing_more_is_acknowledged),
		cmocka_unit_test(only_one_process_may_hold_a_directory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
