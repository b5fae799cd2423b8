/* The local engine recovers from what a power loss or a kill leaves: every acknowledged commit, a prefix of
 * all, nothing half, no message twice. Several commits are under way at a time; service_loss_test.c has the whole
 * service instead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "../journal/recorder.h"
#include "../journal/testdir.h"
#include "base/encode.h"
#include "store/engine.h"
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#define ACCOUNTS 3u
#define COMMITS	 60u

static struct testloop loop;

/* ---- the story: commit i is always the same --------------------------------------------------------------
 * i % 4 == 0, 1: message i arrives in INBOX of account i % 3;
 * i % 4 == 2: message i - 1 (arrived) gets flags and goes to .Work;
 * i % 4 == 3: message i - 3 (arrived) is expunged.
 * Two keys say that commit i happened. */

static uint64_t account_of(unsigned message)
{
	return 1 + message % ACCOUNTS;
}

static struct str message_body(unsigned message, char out[8192])
{
	size_t len = 100 + message * 977 % 7000;

	for (size_t i = 0; i < len; i++)
		out[i] = (char)('a' + (message + i * i) % 26);
	return str_of(out, len);
}

struct names {
	char path[16], base[32];
};

static void names_of(unsigned message, struct names *n)
{
	snprintf(n->path, sizeof(n->path), "u%llu", (unsigned long long)account_of(message));
	snprintf(n->base, sizeof(n->base), "1.M%u.h", message);
}

static struct str key_of(unsigned i, char kind, char out[32])
{
	memset(out, 0, 8);
	out[7] = (char)account_of(i);
	snprintf(out + 8, 24, "%c%u", kind, i);
	return str_of(out, 8 + strlen(out + 8));
}

static unsigned message_of(unsigned i)
{
	return i % 4 == 2 ? i - 1 : i % 4 == 3 ? i - 3 : i;
}

struct note {
	unsigned i;
	int fd; /* of the pipe of the kill test, or -1 */
	unsigned *count;
};

static void acknowledged(void *ctx)
{
	struct note *n = ctx;

	if (record)
		io_record_mark(record, n->i + 1);
	if (n->fd >= 0 && write(n->fd, &n->i, sizeof(n->i)) != sizeof(n->i))
		_exit(3);
	if (n->count)
		++*n->count;
	free(n);
}

static int commit(struct store_engine *e, unsigned i, int fd, unsigned *count, struct err *err)
{
	unsigned message = message_of(i);
	char first[32], second[32], bytes[8192];
	struct str body = message_body(message, bytes);
	struct store_file_op op = {.account = account_of(message), .folder = STR(""), .body = -1}, ops[2];
	struct store_kv_op kv[2] = {{key_of(i, 'A', first), STR("x"), false},
				    {key_of(i, 'B', second), STR("y"), false}};
	struct store_batch b = {.kv = kv, .kv_count = 2, .files = ops, .file_count = 1, .done = acknowledged};
	struct note *note = NEW(struct note);
	struct names names;

	*note = (struct note){i, fd, count};
	names_of(message, &names);
	op.path = str_from(names.path);
	op.base = op.to_base = str_from(names.base);
	if (i % 4 < 2) {
		op.kind = FILE_PUT;
		op.prefix = STR("Return-Path: <>\n");
		op.body = 0;
		b.bodies = &body;
		b.body_count = 1;
	} else if (i % 4 == 2) {
		op.kind = FILE_MOVE;
		op.to_folder = STR(".Work");
		op.cur = true;
		op.flags = STR("RS");
	} else {
		op.kind = FILE_REMOVE;
	}
	ops[0] = op;
	ops[1] = (struct store_file_op){
		.kind = FILE_NOTE, .account = op.account, .path = op.path, .folder = STR(""), .prefix = STR("note\n")};
	b.file_count = i % 4 < 2 ? 2 : 1;
	b.ctx = note;
	if (store_engine_commit(e, &b, err) == 0)
		return 0;
	free(note);
	return -1;
}

static struct store_engine *open_engine(int root, struct err *err)
{
	struct store_engine *e = NULL;
	int state, mail;

	if (mkdirat(root, "state", 0700) < 0 && errno != EEXIST)
		return NULL;
	if (mkdirat(root, "mail", 0700) < 0 && errno != EEXIST)
		return NULL;
	state = openat(root, "state", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	mail = openat(root, "mail", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct store_local_options o = {.dirfd = state,
					.rootfd = mail,
					.loop = testloop_hook(&loop),
					.segment_size = 64 << 10,
					.journal_size_limit = 2 << 20,
					.overlay_limit = 64 << 10};
	if (store_engine_local_open(&o, &e, err) < 0)
		e = NULL;
	return e;
}

static void close_engine(struct store_engine **e)
{
	store_engine_close(e);
	testloop_drain(&loop);
}

/* ---- what must hold ----------------------------------------------------------------------------------- */

struct places {
	struct str base;
	unsigned count;
	struct store_entry entry;
	char name[300];
};

static void look(void *ctx, const struct store_entry *e)
{
	struct places *p = ctx;

	if (!str_eq(e->base, p->base))
		return;
	p->count++;
	snprintf(p->name, sizeof(p->name), "%s/%.*s", e->cur ? "cur" : "new", STR_ARG(e->name));
}

static unsigned find(struct store_engine *e, const struct names *n, const char *folder, char name[300])
{
	struct places p = {.base = str_from(n->base)};

	assert_true(store_engine_scan(e, str_from(n->path), str_from(folder), look, &p, NULL, NULL) >= 0);
	snprintf(name, 300, "%s", p.name);
	return p.count;
}

static bool whole(struct store_engine *e, unsigned message, const struct names *n, const char *folder, struct arena *a)
{
	char bytes[8192], have[9000];
	struct str body = message_body(message, bytes);
	struct store_file f;
	ssize_t len;

	if (store_engine_body(e, account_of(message), str_from(n->path), str_from(folder), str_from(n->base), false,
			      STR(""), a, &f, NULL) <= 0)
		return false;
	assert_true(f.fd >= 0);
	len = pread(f.fd, have, sizeof(have), 0);
	close(f.fd);
	return len == (ssize_t)(16 + body.len) && memcmp(have, "Return-Path: <>\n", 16) == 0 &&
	       memcmp(have + 16, body.ptr, body.len) == 0;
}

/* State of a message after the first `count` commits. */
static void check_message(struct store_engine *e, unsigned message, unsigned count, const char *what, struct arena *a)
{
	bool moved = message % 4 == 1 && message + 1 < count, removed = message % 4 == 0 && message + 3 < count;
	char inbox[300], work[300];
	struct names n;
	unsigned in, at;

	names_of(message, &n);
	in = find(e, &n, "", inbox);
	at = find(e, &n, ".Work", work);
	if (in != (moved || removed ? 0u : 1u) || at != (moved ? 1u : 0u))
		fail_msg("%s: message %u after %u commits: %u in INBOX (%s), %u in Work (%s)", what, message, count, in,
			 inbox, at, work);
	if (moved)
		assert_non_null(strstr(work, ":2,RS"));
	if (!whole(e, message, &n, moved ? ".Work" : "", a))
		fail_msg("%s: message %u after %u commits is not whole", what, message, count);
}

static unsigned commits_there(struct store_engine *e, const char *what, struct arena *a)
{
	unsigned count = 0;
	bool ended = false;

	for (unsigned i = 0; i < 100000; i++) {
		char key[32];
		struct str v;
		int first = store_engine_get(e, key_of(i, 'A', key), a, &v, NULL),
		    second = store_engine_get(e, key_of(i, 'B', key), a, &v, NULL);

		if (first != second || first < 0)
			fail_msg("%s: half of commit %u", what, i);
		if (first && ended)
			fail_msg("%s: commit %u is there, an earlier one is not", what, i);
		ended = ended || !first;
		count += first == 1;
		if (i > count + 200)
			break;
	}
	return count;
}

static void check(int root, unsigned acked, const char *what)
{
	struct err err = ERR_NONE;
	struct store_engine *e = open_engine(root, &err);
	struct arena a;
	unsigned count;

	if (!e)
		fail_msg("%s: %s", what, err.text);
	if (store_engine_read_only(e))
		fail_msg("%s: recovery failed", what);
	arena_init(&a);
	count = commits_there(e, what, &a);
	if (count < acked)
		fail_msg("%s: %u commits were acknowledged, %u are there", what, acked, count);
	for (unsigned m = 0; m < count; m++)
		if (m % 4 < 2)
			check_message(e, m, count, what, &a);
	arena_release(&a);
	close_engine(&e);
}

/* ---- power loss --------------------------------------------------------------------------------------- */

static void tell(struct io_record **r)
{
	struct err err = ERR_NONE;
	char path[64];
	int root = testdir_make(path);
	struct store_engine *e;
	unsigned done = 0, points = 0;

	*r = record = io_record_new(root);
	/* The two directories are the administrator's and safe. */
	assert_int_equal(io_mkdir(root, "state", 0700), 0);
	assert_int_equal(io_mkdir(root, "mail", 0700), 0);
	assert_int_equal(io_syncfs(root), 0);
	e = open_engine(root, &err);
	assert_non_null(e);
	for (unsigned i = 0; i < COMMITS; i++) {
		assert_int_equal(commit(e, i, -1, &done, &err), 0);
		if (i % 5 == 0)
			testloop_until(&loop, &done, i + 1);
		if (i % 16 == 9)
			store_engine_checkpoint(e, testloop_count, &points);
		if (i % 16 == 13)
			testloop_until(&loop, &points, i / 16 + 1);
	}
	testloop_until(&loop, &done, COMMITS);
	close_engine(&e);
	record = NULL;
	io_record_stop(*r);
	close(root);
	testdir_remove(path);
}

static void check_image(void *ctx, struct io_record *r, size_t n, enum io_loss loss, uint64_t seed, const char *what)
{
	struct err err = ERR_NONE;
	char path[64];
	int root = testdir_make(path);

	(void)ctx;
	if (io_record_image(r, n, loss, seed, root, &err) < 0)
		fail_msg("%s: %s", what, err.text);
	check(root, (unsigned)io_record_marked(r, n), what);
	close(root);
	testdir_remove(path);
}

static void a_power_loss_at_any_operation_loses_nothing_that_was_acknowledged(void **state)
{
	struct io_record *r;

	(void)state;
	tell(&r);
	powerloss_each(r, 0, 100, check_image, NULL);
	io_record_free(&r);
}

/* ---- kill --------------------------------------------------------------------------------------------- */

static void write_until_killed(int root, unsigned from, int fd)
{
	struct err err = ERR_NONE;
	struct store_engine *e = open_engine(root, &err);
	unsigned done = 0;

	if (!e)
		_exit(9);
	for (unsigned i = from;; i++) {
		if (commit(e, i, fd, &done, &err) < 0)
			_exit(8);
		while (testloop_one(&loop, i - from > done + 20))
			;
	}
}

static unsigned count_now(int root)
{
	struct err err = ERR_NONE;
	struct store_engine *e = open_engine(root, &err);
	struct arena a;
	unsigned n;

	arena_init(&a);
	n = commits_there(e, "between kills", &a);
	arena_release(&a);
	close_engine(&e);
	return n;
}

static void a_kill_at_any_moment_loses_nothing_that_was_acknowledged(void **state)
{
	char path[64], what[64];
	int root = testdir_make(path);

	(void)state;
	for (unsigned round = 0; round < 12; round++) {
		unsigned from = count_now(root), i, last = from, want = 5 + (unsigned)random_below(120);
		int p[2], status;
		pid_t pid;

		assert_int_equal(pipe(p), 0);
		fflush(NULL);
		pid = fork();
		if (pid == 0) {
			close(p[0]);
			write_until_killed(root, from, p[1]);
		}
		close(p[1]);
		while (last - from < want && read(p[0], &i, sizeof(i)) == sizeof(i))
			last = i + 1;
		kill(pid, SIGKILL);
		while (read(p[0], &i, sizeof(i)) == sizeof(i))
			last = i + 1;
		close(p[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		snprintf(what, sizeof(what), "kill %u", round);
		check(root, last, what);
	}
	close(root);
	testdir_remove(path);
}

/* ---- a disk that fails -------------------------------------------------------------------------------- */

static int fail_error;
static unsigned fail_nth, fail_count;
static _Atomic unsigned fail_seen; /* file threads count */
static bool fail_mail_only;

static int refuse(void *ctx, const struct io_event *e)
{
	char link[64], where[300];
	unsigned seen;
	ssize_t n;

	(void)ctx;
	if (e->op != IO_OPEN && e->op != IO_WRITE && e->op != IO_RENAME && e->op != IO_MKDIR && e->op != IO_LINK &&
	    e->op != IO_FALLOCATE)
		return 0;
	/* Names, at least of what is there, can be opened on any disk. */
	if (e->op == IO_OPEN && (!(e->flags & O_CREAT) || !fail_mail_only))
		return 0;
	if (e->op == IO_MKDIR && !fail_mail_only)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", e->fd);
	n = readlink(link, where, sizeof(where) - 1);
	where[n > 0 ? n : 0] = 0;
	if (fail_mail_only && !strstr(where, "/mail"))
		return 0;
	seen = ++fail_seen;
	return seen >= fail_nth && seen < fail_nth + fail_count ? fail_error : 0;
}

static void fail_from(int error, unsigned nth, unsigned count)
{
	static const struct io_hook hook = {.before = refuse};

	fail_error = error;
	fail_nth = nth;
	fail_count = count;
	fail_seen = 0;
	fail_mail_only = true;
	io_set_hook(&hook);
}

/* Files cannot be written for a while: what was taken stays readable and gets to its place in the end. */
static void what_the_disk_refuses_for_a_while_is_served_from_the_journal(void **state)
{
	static const int errors[] = {ENOSPC, EIO};

	(void)state;
	for (unsigned round = 0; round < 6; round++) {
		char path[64];
		int root = testdir_make(path);
		struct err err = ERR_NONE;
		struct store_engine *e = open_engine(root, &err);
		unsigned done = 0, taken = 0, files = 0;
		struct arena a;

		assert_non_null(e);
		arena_init(&a);
		fail_from(errors[round % 2], round * 3 + 1, 1000000);
		while (taken < 24 && commit(e, taken, -1, &done, &err) == 0)
			taken++;
		assert_true(taken > 0);
		/* A full disk concerns all, everything else the account. */
		assert_true(taken == 24 || err.kind == ERR_TEMP || (err.kind == ERR_FULL && round % 2 == 0));
		testloop_until(&loop, &done, taken);
		for (unsigned m = 0; m < taken; m++) {
			bool moved = m % 4 == 1 && m + 1 < taken;
			struct names n;
			struct store_file f;

			if (m % 4 > 1)
				continue;
			names_of(m, &n);
			assert_int_equal(store_engine_body(e, account_of(m), str_from(n.path),
							   str_from(moved ? ".Work" : ""), str_from(n.base), false,
							   STR(""), &a, &f, NULL),
					 1);
			assert_true(f.size > 100);
			if (f.fd >= 0)
				close(f.fd);
		}
		io_set_hook(NULL);
		for (unsigned account = 1; account <= ACCOUNTS; account++) {
			unsigned before = files;
			store_engine_files_wait(e, account, testloop_count, &files);
			testloop_until(&loop, &files, before + 1);
		}
		for (unsigned m = 0; m < taken; m++)
			if (m % 4 < 2)
				check_message(e, m, taken, "after the trouble", &a);
		arena_release(&a);
		close_engine(&e);
		check(root, taken, "after a restart");
		close(root);
		testdir_remove(path);
	}
}

/* As far as a process got that never could place a file, before it was killed. */
static unsigned killed_before_files(int root)
{
	struct err err = ERR_NONE;
	struct store_engine *e;
	unsigned i, last = 0;
	int p[2], status;
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		fail_from(ENOSPC, 1, 1000000);
		e = open_engine(root, &err);
		for (i = 0; e && i < 8; i++)
			if (commit(e, i, p[1], NULL, &err) < 0)
				break;
		for (;;)
			testloop_one(&loop, true);
	}
	close(p[1]);
	while (last < 1 && read(p[0], &i, sizeof(i)) == sizeof(i))
		last = i + 1;
	kill(pid, SIGKILL);
	while (read(p[0], &i, sizeof(i)) == sizeof(i))
		last = i + 1;
	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(last > 0);
	return last;
}

/* Recovery meets files that cannot be written: they wait, through more such starts, and get to their place. */
static void a_recovery_that_cannot_place_files_lets_them_wait(void **state)
{
	char path[64];
	int root = testdir_make(path);
	struct err err = ERR_NONE;
	struct store_engine *e;
	struct arena a;
	unsigned last = killed_before_files(root);

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		struct store_file f;
		struct names n;

		fail_from(round == 1 ? EIO : ENOSPC, 1, 1000000);
		e = open_engine(root, &err);
		assert_non_null(e);
		assert_false(store_engine_read_only(e));
		arena_init(&a);
		names_of(0, &n);
		if (last < 4) {
			assert_int_equal(store_engine_body(e, account_of(0), str_from(n.path), STR(""),
							   str_from(n.base), false, STR(""), &a, &f, NULL),
					 1);
			assert_true(f.size > 100);
			if (f.fd >= 0)
				close(f.fd);
		}
		assert_true(commits_there(e, "while files wait", &a) >= last);
		arena_release(&a);
		close_engine(&e);
		io_set_hook(NULL);
	}
	check(root, last, "the last recovery");
	check(root, last, "and once more");
	close(root);
	testdir_remove(path);
}

/* Not even the journal can be written: reads only, nothing lost; the next start finishes it. */
static void a_recovery_that_cannot_write_serves_reads_and_is_finished_later(void **state)
{
	char path[64];
	int root = testdir_make(path);
	struct err err = ERR_NONE;
	struct store_engine *e;
	unsigned last = killed_before_files(root);

	(void)state;
	fail_from(ENOSPC, 1, 1000000);
	fail_mail_only = false;
	e = open_engine(root, &err);
	assert_non_null(e);
	assert_true(store_engine_read_only(e));
	assert_int_equal(commit(e, 8, -1, NULL, &err), -1);
	assert_int_equal(err.kind, ERR_TEMP);
	assert_false(store_engine_may_recover(e));
	io_set_hook(NULL);
	assert_true(store_engine_may_recover(e));
	close_engine(&e);
	check(root, last, "the second recovery");
	close(root);
	testdir_remove(path);
}

/* One Maildir is a file by now: nobody else waits for it, neither now nor at a start, and the journal is not held. */
static void one_account_in_trouble_holds_nobody_up(void **state)
{
	char path[64];
	int root = testdir_make(path);
	struct err err = ERR_NONE;
	struct store_engine *e = open_engine(root, &err);
	struct store_engine_stats stats;
	unsigned done = 0, taken = 0, points = 0, files = 0;
	struct names n;
	char *there;

	(void)state;
	assert_non_null(e);
	names_of(0, &n);
	there = mem_printf("mail/%s", n.path);
	close(openat(root, there, O_WRONLY | O_CREAT, 0600));
	for (unsigned m = 0; m < 4 * ACCOUNTS * 4; m += 4) {
		if (commit(e, m, -1, &done, &err) == 0)
			taken++;
		else
			assert_int_equal(err.kind, ERR_TEMP); /* of that account */
	}
	testloop_until(&loop, &done, taken);
	assert_true(taken >= (ACCOUNTS - 1) * 4u);
	store_engine_checkpoint(e, testloop_count, &points);
	testloop_until(&loop, &points, 1);
	store_engine_stats(e, &stats);
	assert_true(stats.failed_files > 0);
	close_engine(&e);

	e = open_engine(root, &err);
	assert_non_null(e);
	assert_false(store_engine_read_only(e));
	assert_int_equal(unlinkat(root, there, 0), 0);
	free(there);
	for (unsigned account = 1; account <= ACCOUNTS; account++) {
		store_engine_files_wait(e, account, testloop_count, &files);
		testloop_until(&loop, &files, account);
	}
	{
		struct arena a;
		char inbox[300];

		arena_init(&a);
		assert_int_equal(find(e, &n, "", inbox), 1);
		assert_true(whole(e, 0, &n, "", &a));
		arena_release(&a);
	}
	close_engine(&e);
	close(root);
	testdir_remove(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_power_loss_at_any_operation_loses_nothing_that_was_acknowledged),
		cmocka_unit_test(a_kill_at_any_moment_loses_nothing_that_was_acknowledged),
		cmocka_unit_test(what_the_disk_refuses_for_a_while_is_served_from_the_journal),
		cmocka_unit_test(a_recovery_that_cannot_place_files_lets_them_wait),
		cmocka_unit_test(a_recovery_that_cannot_write_serves_reads_and_is_finished_later),
		cmocka_unit_test(one_account_in_trouble_holds_nobody_up),
	};
	testloop_init(&loop);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
