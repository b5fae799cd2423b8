/* The journal recovers from what any power loss leaves: everything durable, in order, nothing half. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "journal/journal.h"
#include "recorder.h"
#include "testdir.h"

#define SEG (32u << 10)

static void durable(void *ctx, uint64_t lsn)
{
	(void)ctx;
	if (record)
		io_record_mark(record, lsn);
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

static struct journal *open_journal(int dir)
{
	struct journal_options o = {.dirfd = dir, .size_limit = 8 * SEG, .segment_size = SEG, .durable = durable};
	struct journal *j;
	struct err err = ERR_NONE;

	if (journal_open(&o, &j, &err) < 0)
		fail_msg("%s", err.text);
	return j;
}

static struct str payload(uint64_t lsn, char *out)
{
	size_t len = (size_t)(lsn * 131 % 3000);

	for (size_t i = 0; i < len; i++)
		out[i] = (char)(lsn * 7 + i);
	return str_of(out, len);
}

static uint64_t append(struct journal *j, uint64_t lsn)
{
	char bytes[4096];
	struct str p = payload(lsn, bytes);

	return journal_append(j, 1, &p, 1, NULL);
}

struct seen {
	uint64_t last;
	bool wrong;
};

static int see(void *ctx, const struct journal_record *r, struct err *err)
{
	struct seen *s = ctx;
	char want[4096];

	(void)err;
	s->wrong = s->wrong || r->lsn != s->last + 1 || !str_eq(r->payload, payload(r->lsn, want));
	s->last = r->lsn;
	return 0;
}

/* released: what the owner had made safe elsewhere when the power went; never more than was durable. */
static void check_image(void *ctx, struct io_record *r, size_t n, enum io_loss loss, uint64_t seed, const char *what)
{
	const uint64_t *released = ctx;
	char path[64];
	int dir = testdir_make(path);
	struct err err = ERR_NONE;
	struct seen seen = {.last = released[n]};
	struct journal *j;
	uint64_t last = 0, acked = io_record_marked(r, n);

	assert_int_equal(io_record_image(r, n, loss, seed, dir, &err), 0);
	j = open_journal(dir);
	if (recover(j, released[n], see, &seen, &last, &err) < 0)
		fail_msg("%s: %s", what, err.text);
	if (last < acked || seen.wrong)
		fail_msg("%s: %llu acknowledged, %llu recovered, wrong %d", what, (unsigned long long)acked,
			 (unsigned long long)last, seen.wrong);
	/* And it can go on. */
	assert_int_equal(journal_start(j, last + 1, &err), 0);
	assert_int_equal(append(j, last + 1), last + 1);
	journal_close(&j);
	close(dir);
	testdir_remove(path);
}

static void every_prefix_of_the_history_recovers_what_was_acknowledged(void **state)
{
	char path[64];
	int dir = testdir_make(path);
	uint64_t *released, mark = 0, at_length[400] = {0}, value[400] = {0};
	size_t length, marks = 0;
	struct journal *j;

	(void)state;
	record = io_record_new(dir);
	j = open_journal(dir);
	assert_int_equal(journal_start(j, 1, NULL), 0);
	for (uint64_t i = 1; i <= 150; i++) {
		assert_int_equal(append(j, i), i);
		if (i % 3 == 0)
			journal_wait(j, i);
		if (i % 20 == 0) {
			/* The owner's index: durable before the release, recorded as such. */
			journal_wait(j, i);
			mark = i - 3;
			at_length[marks] = io_record_length(record);
			value[marks++] = mark;
			journal_release(j, mark);
		}
	}
	journal_close(&j);
	io_record_stop(record);
	length = io_record_length(record);
	released = mem_alloc((length + 1) * sizeof(*released));
	for (size_t n = 0, k = 0; n <= length; n++) {
		while (k < marks && at_length[k] <= n)
			k++;
		released[n] = k ? value[k - 1] : 0;
	}
	struct io_record *r = record;

	record = NULL;
	powerloss_each(r, 0, 600, check_image, released);
	io_record_free(&r);
	free(released);
	close(dir);
	testdir_remove(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_prefix_of_the_history_recovers_what_was_acknowledged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
