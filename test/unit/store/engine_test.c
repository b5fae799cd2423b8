/* What every engine must hold, run against both: local (with restarts where mem has a "power loss"). */
#include "../journal/testdir.h"
#include "base/clock.h"
#include "base/encode.h"
#include "os/io.h"
#include "store/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct fixture {
	bool mem;
	char path[64], mail[64];
	int dir, maildir;
	struct testloop loop;
	struct store_engine *e;
	struct arena arena;
	unsigned done;
};

static void open_engine(struct fixture *f)
{
	struct step_loop loop = testloop_hook(&f->loop);
	struct store_local_options o = {.dirfd = f->dir,
					.rootfd = f->maildir,
					.loop = loop,
					.segment_size = 1 << 20,
					.overlay_limit = 256 << 10,
					.journal_size_limit = 8 << 20};
	struct err err = ERR_NONE;

	if ((f->mem ? store_engine_mem_open(&loop, &f->e, &err) : store_engine_local_open(&o, &f->e, &err)) < 0)
		fail_msg("%s", err.text);
	assert_false(store_engine_read_only(f->e));
}

static int setup(void **state, bool mem)
{
	struct fixture *f = NEW(struct fixture);

	f->mem = mem;
	f->dir = testdir_make(f->path);
	f->maildir = testdir_make(f->mail);
	testloop_init(&f->loop);
	arena_init(&f->arena);
	open_engine(f);
	*state = f;
	return 0;
}

static int setup_local(void **state)
{
	return setup(state, false);
}

static int setup_mem(void **state)
{
	return setup(state, true);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	store_engine_close(&f->e);
	testloop_drain(&f->loop);
	arena_release(&f->arena);
	close(f->dir);
	close(f->maildir);
	testdir_remove(f->path);
	testdir_remove(f->mail);
	free(f);
	return 0;
}

/* Everything durable survives: a clean restart of local, a power loss of mem. */
static void restart(struct fixture *f)
{
	struct step_loop loop = testloop_hook(&f->loop);

	if (f->mem) {
		struct store_engine *e = store_engine_mem_crash(f->e, &loop);
		store_engine_close(&f->e);
		f->e = e;
	} else {
		store_engine_close(&f->e);
		testloop_drain(&f->loop);
		open_engine(f);
	}
}

static struct str key(struct fixture *f, uint64_t account, const char *rest)
{
	char head[8];
	struct str s;

	for (int i = 0; i < 8; i++)
		head[i] = (char)(account >> (56 - 8 * i));
	s = arena_printf(&f->arena, "12345678%s", rest);
	memcpy((char *)s.ptr, head, 8);
	return s;
}

static void commit(struct fixture *f, const struct store_batch *b)
{
	struct store_batch with = *b;
	struct err err = ERR_NONE;

	with.done = testloop_count;
	with.ctx = &f->done;
	if (store_engine_commit(f->e, &with, &err) < 0)
		fail_msg("%s", err.text);
}

static void wait_files(struct fixture *f, uint64_t account)
{
	unsigned n = 0;

	store_engine_files_wait(f->e, account, testloop_count, &n);
	testloop_until(&f->loop, &n, 1);
	assert_int_equal(store_engine_files_pending(f->e, account), 0);
}

static void file_op(struct fixture *f, struct store_file_op op, const struct str *bodies, size_t n)
{
	op.account = 7;
	op.path = STR("u/alice");
	commit(f, &(struct store_batch){.files = &op, .file_count = 1, .bodies = bodies, .body_count = n});
}

static void put(struct fixture *f, struct str folder, struct str base, const char *text)
{
	struct str body = str_from(text);

	file_op(f,
		(struct store_file_op){
			.kind = FILE_PUT, .folder = folder, .base = base, .prefix = STR("P: x\n"), .body = 0},
		&body, 1);
}

static bool body_is(struct fixture *f, struct str folder, struct str base, bool cur, struct str flags, const char *want)
{
	struct store_file b;
	char bytes[4096];
	struct str have;
	int rc = store_engine_body(f->e, 7, STR("u/alice"), folder, base, cur, flags, &f->arena, &b, NULL);

	if (rc <= 0)
		return want == NULL;
	have = b.bytes;
	if (b.fd >= 0) {
		have = str_of(bytes, (size_t)pread(b.fd, bytes, sizeof(bytes), 0));
		close(b.fd);
	}
	assert_int_equal(have.len, b.size);
	return want && str_eq(have, str_from(want));
}

struct listing {
	char text[4096];
};

static void list_one(void *ctx, const struct store_entry *e)
{
	struct listing *l = ctx;
	size_t at = strlen(l->text);

	snprintf(l->text + at, sizeof(l->text) - at, "%s/%.*s ", e->cur ? "cur" : "new", STR_ARG(e->name));
}

static const char *list(struct fixture *f, struct str folder)
{
	struct listing *l = ARENA_NEW(&f->arena, struct listing);

	assert_true(store_engine_scan(f->e, STR("u/alice"), folder, list_one, l, NULL, NULL) >= 0);
	return l->text;
}

static void keys_can_be_read_at_once_and_survive(void **state)
{
	struct fixture *f = *state;
	struct store_kv_op ops[3] = {{key(f, 1, "A"), STR("one"), false},
				     {key(f, 1, "B"), STR("two"), false},
				     {key(f, 2, "A"), STR(""), false}};
	struct str v;

	commit(f, &(struct store_batch){.kv = ops, .kv_count = 3});
	assert_int_equal(store_engine_get(f->e, ops[0].key, &f->arena, &v, NULL), 1);
	assert_true(str_eq(v, STR("one")));
	assert_int_equal(f->done, 0);
	testloop_until(&f->loop, &f->done, 1);
	ops[1].del = true;
	commit(f, &(struct store_batch){.kv = ops + 1, .kv_count = 1});
	testloop_until(&f->loop, &f->done, 2);
	restart(f);
	assert_int_equal(store_engine_get(f->e, ops[0].key, &f->arena, &v, NULL), 1);
	assert_true(str_eq(v, STR("one")));
	assert_int_equal(store_engine_get(f->e, ops[1].key, &f->arena, &v, NULL), 0);
	assert_int_equal(store_engine_get(f->e, ops[2].key, &f->arena, &v, NULL), 1);
	assert_int_equal(v.len, 0);
}

static int gather(void *ctx, struct str k, struct str v)
{
	struct listing *l = ctx;
	size_t at = strlen(l->text);

	(void)v;
	snprintf(l->text + at, sizeof(l->text) - at, "%.*s ", STR_ARG(str_skip(k, 8)));
	return at > 10 ? 5 : 0;
}

static void ranges_are_ordered_in_both_directions_and_stop_when_told(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = {"c", "a", "e", "b", "d"};
	struct listing up = {""}, down = {""}, stop = {""};
	unsigned n = 0;

	for (size_t i = 0; i < 5; i++) {
		struct store_kv_op op = {key(f, 3, names[i]), STR("v"), false};
		commit(f, &(struct store_batch){.kv = &op, .kv_count = 1});
		if (i == 2)
			store_engine_checkpoint(f->e, testloop_count, &n);
	}
	testloop_until(&f->loop, &n, 1);
	assert_int_equal(store_engine_range(f->e, key(f, 3, "b"), key(f, 3, "e"), false, gather, &up, NULL), 0);
	assert_string_equal(up.text, "b c d ");
	assert_int_equal(store_engine_range(f->e, key(f, 3, "b"), key(f, 3, "e"), true, gather, &down, NULL), 0);
	assert_string_equal(down.text, "d c b ");
	for (int i = 0; i < 5; i++) {
		struct store_kv_op op = {key(f, 4, names[i]), STR("v"), false};
		commit(f, &(struct store_batch){.kv = &op, .kv_count = 1});
	}
	assert_int_equal(store_engine_range(f->e, key(f, 3, ""), STR_NULL, false, gather, &stop, NULL), 5);
}

static void a_message_is_readable_before_and_after_it_is_in_place(void **state)
{
	struct fixture *f = *state;

	put(f, STR(""), STR("1.Ma.h"), "body\n");
	assert_int_equal(store_engine_files_pending(f->e, 7), 1);
	assert_true(body_is(f, STR(""), STR("1.Ma.h"), false, STR(""), "P: x\nbody\n"));
	wait_files(f, 7);
	assert_true(body_is(f, STR(""), STR("1.Ma.h"), false, STR(""), "P: x\nbody\n"));
	assert_string_equal(list(f, STR("")), "new/1.Ma.h ");
	assert_true(body_is(f, STR(""), STR("2.Ma.h"), false, STR(""), NULL));
	restart(f);
	assert_true(body_is(f, STR(""), STR("1.Ma.h"), true, STR("S"), "P: x\nbody\n"));
}

/* What an I/O hook sees of a delivery: how often the journal was synced, and what touched the file before and behind.
 */
struct seen {
	atomic_uint syncs, early, opened, written, renamed;
};

static void see(void *ctx, const struct io_event *ev)
{
	struct seen *s = ctx;
	bool tmp = ev->path && strstr(ev->path, "tmp/postrider.");

	if (ev->op == IO_FDATASYNC)
		atomic_fetch_add(&s->syncs, 1);
	if (ev->op == IO_OPEN && tmp) {
		atomic_fetch_add(&s->opened, 1);
		if (atomic_load(&s->syncs) == 0)
			atomic_fetch_add(&s->early, 1);
	}
	if (ev->op == IO_WRITE && ev->len == strlen("P: x\nwhole\n"))
		atomic_fetch_add(&s->written, 1);
	if (ev->op == IO_RENAME && tmp)
		atomic_fetch_add(&s->renamed, 1);
}

static void a_file_is_written_once_and_not_before_its_record_is_durable(void **state)
{
	struct fixture *f = *state;
	struct seen seen = {0};
	struct io_hook hook = {.after = see, .ctx = &seen};

	if (f->mem)
		return;
	put(f, STR(""), STR("1.Ma.h"), "first\n");
	wait_files(f, 7);
	for (int i = 0; i < 20; i++) {
		struct str base = arena_printf(&f->arena, "%d.Mb.h", i);

		memset(&seen, 0, sizeof(seen));
		io_set_hook(&hook);
		put(f, STR(""), base, "whole\n");
		wait_files(f, 7);
		io_set_hook(NULL);
		assert_int_equal(seen.early, 0);
		assert_int_equal(seen.opened, 1);
		assert_int_equal(seen.written, 1);
		assert_int_equal(seen.renamed, 1);
	}
}

static void moves_copies_and_removals_happen_in_order(void **state)
{
	struct fixture *f = *state;
	struct store_file_op move = {
		.kind = FILE_MOVE, .base = STR("1.M1.h"), .to_base = STR("1.M1.h"), .cur = true, .flags = STR("FS")};

	put(f, STR(""), STR("1.M1.h"), "one");
	file_op(f, move, NULL, 0);
	assert_true(body_is(f, STR(""), STR("1.M1.h"), true, STR("FS"), "P: x\none"));
	file_op(f, (struct store_file_op){.kind = FILE_FOLDER_MAKE, .folder = STR(".Work")}, NULL, 0);
	file_op(f,
		(struct store_file_op){.kind = FILE_COPY,
				       .base = STR("1.M1.h"),
				       .was_cur = true,
				       .was_flags = STR("FS"),
				       .to_folder = STR(".Work"),
				       .to_base = STR("2.M1.h"),
				       .cur = true},
		NULL, 0);
	file_op(f,
		(struct store_file_op){.kind = FILE_FOLDER_RENAME, .folder = STR(".Work"), .to_folder = STR(".Play")},
		NULL, 0);
	assert_true(body_is(f, STR(".Play"), STR("2.M1.h"), true, STR(""), "P: x\none"));
	file_op(f, (struct store_file_op){.kind = FILE_REMOVE, .base = STR("1.M1.h")}, NULL, 0);
	wait_files(f, 7);
	assert_string_equal(list(f, STR("")), "");
	assert_string_equal(list(f, STR(".Play")), "cur/2.M1.h:2, ");
	assert_true(body_is(f, STR(""), STR("1.M1.h"), true, STR("FS"), "P: x\none"));
	restart(f);
	assert_true(body_is(f, STR(""), STR("1.M1.h"), true, STR("FS"), "P: x\none"));
	file_op(f, (struct store_file_op){.kind = FILE_PURGE, .time = (uint64_t)time(NULL) + 10}, NULL, 0);
	file_op(f, (struct store_file_op){.kind = FILE_FOLDER_REMOVE, .folder = STR(".Play")}, NULL, 0);
	wait_files(f, 7);
	assert_true(body_is(f, STR(""), STR("1.M1.h"), true, STR("FS"), NULL));
	assert_true(body_is(f, STR(".Play"), STR("2.M1.h"), true, STR(""), "P: x\none"));
	assert_int_equal(store_engine_folder_stamp(f->e, STR("u/alice"), STR(".Play"), NULL), 0);
}

static void one_commit_serves_several_accounts_with_one_body(void **state)
{
	struct fixture *f = *state;
	struct str body = STR("shared\n");
	struct store_file_op ops[2] = {
		{.kind = FILE_PUT,
		 .account = 7,
		 .path = STR("u/alice"),
		 .base = STR("1.Mx.h"),
		 .prefix = STR("To: a\n")},
		{.kind = FILE_PUT,
		 .account = 8,
		 .path = STR("u/bob"),
		 .base = STR("1.Mx.h"),
		 .prefix = STR("To: b\n"),
		 .cur = true,
		 .flags = STR("S")},
	};
	struct store_kv_op kv[2] = {{key(f, 7, "M"), STR("a"), false}, {key(f, 8, "M"), STR("b"), false}};
	struct listing l = {""};

	commit(f, &(struct store_batch){
			  .kv = kv, .kv_count = 2, .files = ops, .file_count = 2, .bodies = &body, .body_count = 1});
	wait_files(f, 7);
	wait_files(f, 8);
	assert_true(body_is(f, STR(""), STR("1.Mx.h"), false, STR(""), "To: a\nshared\n"));
	assert_int_equal(store_engine_scan(f->e, STR("u/bob"), STR(""), list_one, &l, NULL, NULL), 1);
	assert_string_equal(l.text, "cur/1.Mx.h:2,S ");
}

struct finished {
	unsigned n;
	enum err_kind kind;
};

static void blob_done(void *ctx, const struct err *err)
{
	struct finished *fin = ctx;

	fin->n++;
	fin->kind = err ? err->kind : ERR_OK;
}

static uint64_t make_blob(struct fixture *f, const char *bytes, size_t len, uint32_t crc, struct finished *fin)
{
	uint64_t blob;
	int fd;

	assert_int_equal(store_engine_blob_begin(f->e, len, &blob, &fd, NULL), 0);
	assert_int_equal(write(fd, bytes, len), len);
	close(fd);
	fin->n = 0;
	store_engine_blob_finish(f->e, blob, len, crc, blob_done, fin);
	testloop_until(&f->loop, &fin->n, 1);
	return blob;
}

static void a_blob_is_checked_used_once_and_placed(void **state)
{
	struct fixture *f = *state;
	size_t len = 200000;
	char *bytes = arena_alloc(&f->arena, len);
	struct store_file_op ops[2] = {
		{.kind = FILE_PUT,
		 .account = 7,
		 .path = STR("u/alice"),
		 .base = STR("1.Mb.h"),
		 .prefix = STR("To: a\n"),
		 .body = -1},
		{.kind = FILE_PUT,
		 .account = 7,
		 .path = STR("u/alice"),
		 .base = STR("2.Mb.h"),
		 .body = -1,
		 .time = 1000000000},
	};
	struct store_file b;
	struct finished fin;
	uint64_t blob, size, mtime;
	int fd;

	memset(bytes, 'x', len);
	blob = make_blob(f, bytes, len, crc32c(0, bytes, len) + 1, &fin);
	assert_int_equal(fin.kind, ERR_PERM);
	blob = make_blob(f, bytes, len, crc32c(0, bytes, len), &fin);
	assert_int_equal(fin.kind, ERR_OK);
	fd = store_engine_blob_open(f->e, blob, NULL);
	assert_true(fd >= 0);
	close(fd);
	ops[0].blob = ops[1].blob = blob;
	commit(f, &(struct store_batch){.files = ops, .file_count = 2});
	assert_int_equal(store_engine_commit(f->e, &(struct store_batch){.files = ops, .file_count = 1}, NULL), -1);
	assert_int_equal(
		store_engine_body(f->e, 7, STR("u/alice"), STR(""), STR("1.Mb.h"), false, STR(""), &f->arena, &b, NULL),
		1);
	assert_int_equal(b.size, len + 6);
	if (b.fd >= 0)
		close(b.fd);
	store_engine_blob_drop(f->e, blob);
	wait_files(f, 7);
	restart(f);
	assert_int_equal(store_engine_stat(f->e, STR("u/alice"), STR(""), false, STR("1.Mb.h"), &size, &mtime, NULL),
			 1);
	assert_int_equal(size, len + 6);
	assert_int_equal(store_engine_stat(f->e, STR("u/alice"), STR(""), false, STR("2.Mb.h"), &size, &mtime, NULL),
			 1);
	assert_int_equal(size, len);
	assert_int_equal(mtime, 1000000000);
}

static void notes_are_appended_in_order_by_the_checkpoint(void **state)
{
	struct fixture *f = *state;
	struct str text;
	unsigned n = 0;

	file_op(f, (struct store_file_op){.kind = FILE_FOLDER_MAKE, .folder = STR(".A")}, NULL, 0);
	file_op(f, (struct store_file_op){.kind = FILE_NOTE, .folder = STR(".A"), .prefix = STR("one\n")}, NULL, 0);
	file_op(f, (struct store_file_op){.kind = FILE_FOLDER_RENAME, .folder = STR(".A"), .to_folder = STR(".B")},
		NULL, 0);
	file_op(f, (struct store_file_op){.kind = FILE_NOTE, .folder = STR(".B"), .prefix = STR("two\n")}, NULL, 0);
	store_engine_checkpoint(f->e, testloop_count, &n);
	testloop_until(&f->loop, &n, 1);
	assert_int_equal(store_engine_read_file(f->e, STR("u/alice"), STR(".B"), STORE_UIDLIST_NAME, 4096, &f->arena,
						&text, NULL),
			 1);
	assert_true(str_eq(text, STR("one\ntwo\n")));
	file_op(f, (struct store_file_op){.kind = FILE_NOTE_REPLACE, .folder = STR(".B"), .prefix = STR("new\n")}, NULL,
		0);
	file_op(f, (struct store_file_op){.kind = FILE_NOTE, .folder = STR(".B"), .prefix = STR("three\n")}, NULL, 0);
	store_engine_checkpoint(f->e, testloop_count, &n);
	testloop_until(&f->loop, &n, 2);
	assert_int_equal(store_engine_read_file(f->e, STR("u/alice"), STR(".B"), STORE_UIDLIST_NAME, 4096, &f->arena,
						&text, NULL),
			 1);
	assert_true(str_eq(text, STR("new\nthree\n")));
	assert_int_equal(store_engine_read_file(f->e, STR("u/alice"), STR(".B"), "dovecot-uidlist", 4096, &f->arena,
						&text, NULL),
			 0);
}

static void folder_one(void *ctx, struct str folder)
{
	struct listing *l = ctx;
	size_t at = strlen(l->text);

	snprintf(l->text + at, sizeof(l->text) - at, "[%.*s]", STR_ARG(folder));
}

static void folders_are_listed_and_their_stamp_changes(void **state)
{
	struct fixture *f = *state;
	struct listing l = {""};
	uint64_t stamp;
	bool missing;

	assert_int_equal(store_engine_folders(f->e, STR("u/alice"), folder_one, &l, NULL), 0);
	assert_int_equal(store_engine_scan(f->e, STR("u/alice"), STR(""), list_one, &l, &missing, NULL), 0);
	assert_true(missing);
	file_op(f, (struct store_file_op){.kind = FILE_FOLDER_MAKE}, NULL, 0);
	file_op(f, (struct store_file_op){.kind = FILE_FOLDER_MAKE, .folder = STR(".X.Y")}, NULL, 0);
	wait_files(f, 7);
	assert_int_equal(store_engine_folders(f->e, STR("u/alice"), folder_one, &l, NULL), 2);
	assert_string_equal(l.text, "[][.X.Y]");
	stamp = store_engine_folder_stamp(f->e, STR("u/alice"), STR(""), NULL);
	assert_true(stamp != 0);
	put(f, STR(""), STR("1.Ms.h"), "x");
	wait_files(f, 7);
	assert_true(store_engine_folder_stamp(f->e, STR("u/alice"), STR(""), NULL) != stamp);
}

static void bad_names_and_sizes_are_refused_whole(void **state)
{
	struct fixture *f = *state;
	static const struct store_file_op bad[] = {
		{.kind = FILE_PUT, .path = STR("../x"), .base = STR("1"), .body = -1},
		{.kind = FILE_PUT, .path = STR("/etc"), .base = STR("1"), .body = -1},
		{.kind = FILE_PUT, .path = STR("u"), .base = STR("a/b"), .body = -1},
		{.kind = FILE_PUT, .path = STR("u"), .base = STR("a:b"), .body = -1},
		{.kind = FILE_PUT, .path = STR("u"), .base = STR("a"), .folder = STR("cur"), .body = -1},
		{.kind = FILE_PUT, .path = STR("u"), .base = STR("a"), .body = 0},
		{.kind = FILE_PUT, .path = STR("u"), .base = STR("a"), .body = -1, .blob = 12345},
		{.kind = FILE_PUT, .path = STR("u"), .base = STR("a"), .body = -1, .cur = true, .flags = STR("S,")},
		{.kind = FILE_MOVE, .path = STR("u"), .base = STR("a"), .to_folder = STR(".."), .to_base = STR("a")},
		{.kind = FILE_FOLDER_REMOVE, .path = STR("u")},
	};
	struct store_kv_op kv = {key(f, 9, "K"), STR("v"), false};
	struct str v;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(
			store_engine_commit(
				f->e,
				&(struct store_batch){.kv = &kv, .kv_count = 1, .files = &bad[i], .file_count = 1},
				NULL),
			-1);
	assert_int_equal(store_engine_get(f->e, kv.key, &f->arena, &v, NULL), 0);
	kv.key.len = 501;
	assert_int_equal(store_engine_commit(f->e, &(struct store_batch){.kv = &kv, .kv_count = 1}, NULL), -1);
}

static void a_barrier_waits_for_what_was_committed_before_it(void **state)
{
	struct fixture *f = *state;
	unsigned barrier = 0;

	store_engine_barrier(f->e, testloop_count, &barrier);
	assert_int_equal(barrier, 1);
	put(f, STR(""), STR("1.M.h"), "x");
	store_engine_barrier(f->e, testloop_count, &barrier);
	assert_int_equal(barrier, 1);
	testloop_until(&f->loop, &barrier, 2);
	assert_int_equal(f->done, 1);
}

static void thousands_of_commits_under_checkpoints_keep_everything(void **state)
{
	struct fixture *f = *state;
	unsigned count = 1500, points = 0;
	struct listing none;

	(void)none;
	for (unsigned i = 0; i < count; i++) {
		char base[32], text[1200], k[16];
		struct str body;
		struct store_kv_op kv;
		struct store_file_op op = {.kind = FILE_PUT, .account = i % 5, .prefix = STR("P\n")};
		char path[16];

		snprintf(base, sizeof(base), "1.M%u.h", i);
		snprintf(path, sizeof(path), "u/%u", i % 5);
		snprintf(k, sizeof(k), "m%u", i);
		memset(text, 'a' + i % 26, sizeof(text));
		body = str_of(text, sizeof(text));
		op.path = str_from(path);
		op.base = str_from(base);
		kv = (struct store_kv_op){key(f, i % 5, k), str_from(base), false};
		commit(f, &(struct store_batch){.kv = &kv,
						.kv_count = 1,
						.files = &op,
						.file_count = 1,
						.bodies = &body,
						.body_count = 1});
		if (i % 200 == 0)
			store_engine_checkpoint(f->e, testloop_count, &points);
		if (i % 50 == 0)
			testloop_until(&f->loop, &f->done, i);
	}
	testloop_until(&f->loop, &f->done, count);
	restart(f);
	for (unsigned i = 0; i < count; i++) {
		char base[32], k[16], path[16];
		struct str v;
		uint64_t size, mtime;

		snprintf(base, sizeof(base), "1.M%u.h", i);
		snprintf(path, sizeof(path), "u/%u", i % 5);
		snprintf(k, sizeof(k), "m%u", i);
		assert_int_equal(store_engine_get(f->e, key(f, i % 5, k), &f->arena, &v, NULL), 1);
		assert_int_equal(
			store_engine_stat(f->e, str_from(path), STR(""), false, str_from(base), &size, &mtime, NULL),
			1);
		assert_int_equal(size, 1202);
	}
}

static void mem_fails_on_order_and_loses_what_was_held(void **state)
{
	struct fixture *f = *state;
	struct step_loop loop = testloop_hook(&f->loop);
	struct store_kv_op kv = {key(f, 1, "A"), STR("v"), false}, second = {key(f, 1, "B"), STR("v"), false};
	struct err full = {.kind = ERR_FULL}, err = ERR_NONE;
	struct store_engine *after;
	struct str v;

	store_engine_mem_fail(f->e, 1, &full);
	assert_int_equal(store_engine_commit(f->e, &(struct store_batch){.kv = &kv, .kv_count = 1}, &err), -1);
	assert_int_equal(err.kind, ERR_FULL);
	commit(f, &(struct store_batch){.kv = &kv, .kv_count = 1});
	testloop_until(&f->loop, &f->done, 1);
	store_engine_mem_hold(f->e, true);
	commit(f, &(struct store_batch){.kv = &second, .kv_count = 1});
	testloop_drain(&f->loop);
	assert_int_equal(f->done, 1);
	after = store_engine_mem_crash(f->e, &loop);
	assert_int_equal(store_engine_get(after, kv.key, &f->arena, &v, NULL), 1);
	assert_int_equal(store_engine_get(after, second.key, &f->arena, &v, NULL), 0);
	store_engine_close(&after);
}

/* ---- what waits, and its bytes ---- */

static void count_reads(void *ctx, const struct io_event *ev)
{
	if (ev->op == IO_READDIR)
		atomic_fetch_add((atomic_uint *)ctx, 1);
}

#define ODD 200

/* Dovecot's keywords are letters, too. */
static void names_that_cannot_be_guessed_are_looked_for_once(void **state)
{
	struct fixture *f = *state;
	atomic_uint reads = 0;
	struct io_hook hook = {.after = count_reads, .ctx = &reads};
	struct store_file_op move = {
		.kind = FILE_MOVE, .was_cur = true, .was_flags = STR("S"), .cur = true, .flags = STR("FS")};
	int cur;

	if (f->mem)
		return;
	put(f, STR(""), STR("1.Ma.h"), "first\n");
	wait_files(f, 7);
	cur = openat(f->maildir, "u/alice/cur", O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < ODD; i++) {
		char name[40];
		int fd;

		snprintf(name, sizeof(name), "%d.other:2,Sab", i);
		fd = openat(cur, name, O_WRONLY | O_CREAT, 0600);
		assert_int_equal(dprintf(fd, "text\n"), 5);
		close(fd);
	}
	io_set_hook(&hook);
	for (int i = 0; i < ODD; i++)
		assert_true(body_is(f, STR(""), arena_printf(&f->arena, "%d.other", i), true, STR("S"), "text\n"));
	io_set_hook(NULL);
	assert_in_range(atomic_load(&reads), ODD, 2 * ODD);
	/* What another tool and we do to them is seen. */
	assert_int_equal(renameat(cur, "7.other:2,Sab", cur, "7.other:2,FSab"), 0);
	assert_true(body_is(f, STR(""), STR("7.other"), true, STR("S"), "text\n"));
	assert_int_equal(unlinkat(cur, "8.other:2,Sab", 0), 0);
	assert_true(body_is(f, STR(""), STR("8.other"), true, STR("S"), NULL));
	move.base = move.to_base = STR("9.other");
	file_op(f, move, NULL, 0);
	wait_files(f, 7);
	assert_int_equal(faccessat(cur, "9.other:2,FS", F_OK, 0), 0);
	assert_true(body_is(f, STR(""), STR("9.other"), true, STR("FS"), "text\n"));
	close(cur);
}

enum { FAILING, MENDED, DONE };
struct waiting_hook {
	struct fixture *f;
	atomic_int phase;
	atomic_uint failed;
};

/* The message cannot be placed at first; and what was done is not forgotten by the list of what waits. */
static int waiting_before(void *ctx, const struct io_event *ev)
{
	struct waiting_hook *h = ctx;
	int phase = atomic_load(&h->phase);

	if (phase == FAILING && ev->op == IO_RENAME && strstr(ev->path, "tmp/postrider.")) {
		atomic_fetch_add(&h->failed, 1);
		return EIO;
	}
	return phase != FAILING && ev->op == IO_UNLINK && strcmp(ev->path, "waiting") == 0 ? EIO : 0;
}

/* The list is there, the index is not written yet: now what waits is done. */
static void waiting_after(void *ctx, const struct io_event *ev)
{
	struct waiting_hook *h = ctx;
	int listed = FAILING;

	if (ev->op != IO_RENAME || strcmp(ev->path2, "waiting") != 0 ||
	    !atomic_compare_exchange_strong(&h->phase, &listed, MENDED))
		return;
	while (store_engine_files_pending(h->f->e, 7) > 0)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	atomic_store(&h->phase, DONE);
}

static void the_bytes_of_what_waits_stay_while_its_list_names_it(void **state)
{
	struct fixture *f = *state;
	struct waiting_hook h = {.f = f};
	struct io_hook hook = {.before = waiting_before, .after = waiting_after, .ctx = &h};
	struct store_file_op op = {.kind = FILE_PUT, .base = STR("1.Mb.h"), .body = -1};
	struct finished fin;
	unsigned points = 0;

	if (f->mem)
		return;
	op.blob = make_blob(f, "bytes\n", 6, crc32c(0, "bytes\n", 6), &fin);
	io_set_hook(&hook);
	file_op(f, op, NULL, 0);
	testloop_until(&f->loop, &f->done, 1);
	while (atomic_load(&h.failed) == 0)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	store_engine_checkpoint(f->e, testloop_count, &points);
	testloop_until(&f->loop, &points, 1);
	assert_int_equal(atomic_load(&h.phase), DONE);
	store_engine_close(&f->e);
	testloop_drain(&f->loop);
	io_set_hook(NULL);
	assert_int_equal(faccessat(f->dir, "waiting", F_OK, 0), 0);
	open_engine(f);
	assert_int_equal(store_engine_files_pending(f->e, 7), 0);
	assert_true(body_is(f, STR(""), STR("1.Mb.h"), false, STR(""), "bytes\n"));
}

/* What one account still had to do is done, so the list is to be written anew: while that waits for its turn, a
 * checkpoint puts another account's into it. */
enum { BOTH_FAIL, ONE_IS_MENDED, CHECKPOINT };
struct refresh_hook {
	struct fixture *f;
	atomic_int phase;
	atomic_uint failed[2], lists, removed;
	int64_t mended_ms;
};

static int refresh_before(void *ctx, const struct io_event *ev)
{
	struct refresh_hook *h = ctx;
	bool first;

	if (ev->op == IO_UNLINK && strcmp(ev->path, "waiting") == 0)
		atomic_fetch_add(&h->removed, 1);
	if (ev->op != IO_RENAME)
		return 0;
	if (strcmp(ev->path, "waiting.new") == 0 && atomic_fetch_add(&h->lists, 1) == 1)
		/* The checkpoint's: the other one is due a second after what it was for. */
		while (clock_ms() - h->mended_ms < 1500)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	first = strstr(ev->path, "1.Mone.h") != NULL;
	if (!strstr(ev->path, "tmp/postrider.") || (first && atomic_load(&h->phase) != BOTH_FAIL))
		return 0;
	atomic_fetch_add(&h->failed[first ? 0 : 1], 1);
	return EIO;
}

static void put_for(struct fixture *f, uint64_t account, const char *base)
{
	struct str body = STR("bytes\n");
	struct store_file_op op = {
		.kind = FILE_PUT, .account = account, .path = STR("u/alice"), .base = str_from(base), .body = 0};

	commit(f, &(struct store_batch){.files = &op, .file_count = 1, .bodies = &body, .body_count = 1});
}

static void checkpoint(struct fixture *f)
{
	unsigned points = 0;

	store_engine_checkpoint(f->e, testloop_count, &points);
	testloop_until(&f->loop, &points, 1);
}

static void wait_refused(struct refresh_hook *h, int which)
{
	while (atomic_load(&h->failed[which]) == 0)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void a_list_that_is_written_anew_keeps_what_came_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct refresh_hook h = {.f = f};
	struct io_hook hook = {.before = refresh_before, .ctx = &h};

	if (f->mem)
		return;
	io_set_hook(&hook);
	put_for(f, 7, "1.Mone.h");
	wait_refused(&h, 0);
	checkpoint(f);
	assert_int_equal(atomic_load(&h.lists), 1);
	put_for(f, 8, "1.Mtwo.h");
	wait_refused(&h, 1);
	atomic_store(&h.phase, ONE_IS_MENDED);
	while (store_engine_files_pending(f->e, 7) > 0)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	h.mended_ms = clock_ms();
	checkpoint(f);
	while (atomic_load(&h.lists) < 3 && atomic_load(&h.removed) == 0)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	assert_int_equal(atomic_load(&h.removed), 0);
	io_set_hook(NULL);
	wait_files(f, 8);
}

#define BOTH(test)                                                                                                     \
	{"local: " #test, test, setup_local, teardown, NULL},                                                          \
	{                                                                                                              \
		"mem: " #test, test, setup_mem, teardown, NULL                                                         \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(keys_can_be_read_at_once_and_survive),
		BOTH(ranges_are_ordered_in_both_directions_and_stop_when_told),
		BOTH(a_message_is_readable_before_and_after_it_is_in_place),
		BOTH(a_file_is_written_once_and_not_before_its_record_is_durable),
		BOTH(moves_copies_and_removals_happen_in_order),
		BOTH(one_commit_serves_several_accounts_with_one_body),
		BOTH(a_blob_is_checked_used_once_and_placed),
		BOTH(names_that_cannot_be_guessed_are_looked_for_once),
		BOTH(the_bytes_of_what_waits_stay_while_its_list_names_it),
		BOTH(a_list_that_is_written_anew_keeps_what_came_meanwhile),
		BOTH(notes_are_appended_in_order_by_the_checkpoint),
		BOTH(folders_are_listed_and_their_stamp_changes),
		BOTH(bad_names_and_sizes_are_refused_whole),
		BOTH(a_barrier_waits_for_what_was_committed_before_it),
		BOTH(thousands_of_commits_under_checkpoints_keep_everything),
		{"mem_fails_on_order_and_loses_what_was_held", mem_fails_on_order_and_loses_what_was_held, setup_mem,
		 teardown, NULL},
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
