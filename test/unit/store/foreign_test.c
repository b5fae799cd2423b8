/* Other tools at work in the Maildir, and an index that is lost. */
#include "harness.h"
#include "os/io.h"
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>

static struct store_box box;
static uint32_t inbox;

static int teardown(void **state)
{
	(void)state;
	box_close(&box);
	return 0;
}

/* Waits until the condition holds: the event, not the clock, ends the wait. */
#define EVENTUALLY(cond)                                                                                               \
	do {                                                                                                           \
		int64_t end_ = clock_ms() + 20000;                                                                     \
		while (!(cond)) {                                                                                      \
			if (clock_ms() > end_)                                                                         \
				fail_msg("never: %s", #cond);                                                          \
			usleep(2000);                                                                                  \
		}                                                                                                      \
	} while (0)

static char *mail_path(const char *rest)
{
	return mem_printf("%s/mail/example.test/u7/%s", box.dir, rest);
}

static int setup(void **state)
{
	char *path;

	(void)state;
	box_open(&box, false);
	box_grant(&box, 1, 7, RIGHTS_FULL);
	inbox = box_mailbox(&box, 1, 7, "INBOX");
	path = mail_path("tmp");
	EVENTUALLY(access(path, F_OK) == 0);
	free(path);
	return 0;
}

static void put(const char *rest, const char *text)
{
	char *tmp = mail_path("tmp/test"), *path = mail_path(rest);
	FILE *f = fopen(tmp, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(rename(tmp, path), 0);
	free(tmp);
	free(path);
}

/* Finds the file in a directory whose name ends so; "" if there is none. */
static char *find_file(const char *dir, const char *end)
{
	char *path = mail_path(dir), *found = mem_strdup("");
	DIR *d = opendir(path);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && str_ends(str_from(e->d_name), str_from(end))) {
			free(found);
			found = mem_printf("%s/%s", dir, e->d_name);
		}
	if (d)
		closedir(d);
	free(path);
	return found;
}

static bool has_file(const char *dir, const char *end)
{
	char *f = find_file(dir, end);
	bool is = f[0] != '\0';

	free(f);
	return is;
}

static struct view *open_view(uint32_t mailbox)
{
	struct mailbox_info info;
	struct view *v;
	struct err err = ERR_NONE;

	if (view_open(box.client, 1, 7, mailbox, false, (struct session_ref){0}, &v, &info, &err) < 0)
		fail_msg("view_open: %s", err.text);
	return v;
}

static bool synced_count(struct view *v, size_t n)
{
	view_sync(v, true, NULL);
	return view_count(v) == n;
}

static bool synced_flags(struct view *v, size_t seq, uint32_t flags)
{
	view_sync(v, true, NULL);
	return view_count(v) >= seq && view_at(v, seq).flags == flags;
}

static void set_flags(uint32_t uid, enum flags_mode mode, uint32_t flags, const char *keyword)
{
	struct uid_range range = {uid, uid};
	struct store_name name = {str_from(keyword)};
	struct store_op op = {.kind = OP_FLAGS,
			      .mailbox = inbox,
			      .uids = {&range, 1},
			      .mode = (uint8_t)mode,
			      .flags = flags,
			      .unchangedsince = UINT64_MAX,
			      .keywords = {&name, keyword ? 1 : 0}};
	struct rpc_reply hold;

	box_op(&box, 1, 7, op, &hold);
	rpc_reply_release(&hold);
}

static void flags_show_in_the_names(void **state)
{
	(void)state;
	box_append(&box, 1, 7, inbox, "a\n", 0, NULL);
	EVENTUALLY(has_file("new", ",S=2,W=3"));
	set_flags(1, FLAGS_ADD, FLAG_SEEN | FLAG_FLAGGED, NULL);
	EVENTUALLY(has_file("cur", ",S=2,W=3:2,FS"));
	set_flags(1, FLAGS_SET, 0, "$Forwarded");
	EVENTUALLY(has_file("cur", ":2,P"));
	assert_false(has_file("new", ""));
}

static void a_new_file_becomes_a_message_at_once(void **state)
{
	struct view *v = open_view(inbox);
	char *text;

	(void)state;
	put("new/1700000001.1_1.other", "Subject: foreign\n\nbody\n");
	EVENTUALLY(synced_count(v, 1));
	assert_int_equal(view_at(v, 1).uid, 1);
	text = box_body(&box, 1, 7, inbox, 1);
	assert_string_equal(text, "Subject: foreign\n\nbody\n");
	free(text);
	assert_int_equal(box_info(&box, 1, 7, "INBOX").size, 23 + 3);
	put("cur/1700000002.1_2.other:2,FS", "second\n");
	EVENTUALLY(synced_count(v, 2));
	assert_int_equal(view_at(v, 2).flags, FLAG_FLAGGED | FLAG_SEEN);
	view_close(&v);
}

static void many_small_bodies_come_in_one_answer_and_the_rest_is_asked_for_singly(void **state)
{
	static char large[STORE_INLINE_MAX + 10];
	struct uid_range ranges[] = {{1, 3}, {4, UINT32_MAX}};
	struct store_bodies_get get = {.session = 1, .account = 7, .mailbox = inbox, .uids = {ranges, 2}};
	struct store_bodies got;
	struct rpc_reply hold;
	struct view *v;
	char *path;

	(void)state;
	memset(large, 'l', sizeof(large) - 1);
	put("cur/1700000001.1_1.other:2,S", "first\n");
	put("new/1700000002.1_2.other", "second\n");
	put("cur/1700000003.1_3.other:2,", large);
	put("cur/1700000004.1_4.other:2,", "moved\n");
	put("cur/1700000005.1_5.other:2,", "last\n");
	v = open_view(inbox);
	assert_int_equal(view_count(v), 5);
	view_close(&v);
	path = mail_path("cur/1700000004.1_4.other:2,");
	assert_int_equal(unlink(path), 0);
	free(path);
	CALL(&box, STORE_BODIES, &get, &got, &hold);
	assert_int_equal(got.bodies.n, 5);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(got.bodies.v[i].meta.uid, i + 1);
	assert_true(str_eq(got.bodies.v[0].bytes, STR("first\n")));
	assert_true(str_eq(got.bodies.v[1].bytes, STR("second\n")));
	assert_int_equal(got.bodies.v[2].bytes.len, 0);
	assert_int_equal(got.bodies.v[3].bytes.len, 0);
	assert_true(str_eq(got.bodies.v[4].bytes, STR("last\n")));
	rpc_reply_release(&hold);
	get.session = 2;
	box_refused(&box, &STORE_BODIES, &get, ERR_DENIED);
}

static void a_long_answer_of_bodies_ends_where_the_next_call_goes_on(void **state)
{
	static char text[50000];
	struct uid_range range = {1, UINT32_MAX};
	struct store_bodies_get get = {.session = 1, .account = 7, .mailbox = inbox, .uids = {&range, 1}};
	struct store_bodies got;
	struct rpc_reply hold;
	struct view *v;
	unsigned calls = 0;

	(void)state;
	memset(text, 't', sizeof(text) - 1);
	for (int i = 1; i <= 12; i++) {
		char *name = mem_printf("cur/17000000%02d.1_1.other:2,", i);

		put(name, text);
		free(name);
	}
	v = open_view(inbox);
	view_close(&v);
	for (uint32_t uid = 1; uid <= 12; calls++) {
		range.first = uid;
		CALL(&box, STORE_BODIES, &get, &got, &hold);
		assert_true(got.bodies.n > 0 && got.bodies.n * sizeof(text) <= STORE_BODIES_BYTES + sizeof(text));
		for (size_t i = 0; i < got.bodies.n; i++, uid++) {
			assert_int_equal(got.bodies.v[i].meta.uid, uid);
			assert_int_equal(got.bodies.v[i].bytes.len, sizeof(text) - 1);
		}
		rpc_reply_release(&hold);
	}
	assert_int_equal(calls, 3);
}

static void a_file_put_while_nobody_looked_is_there_at_select(void **state)
{
	struct view *v;

	(void)state;
	put("cur/1700000001.1_1.other:2,S", "x\n");
	v = open_view(inbox);
	assert_int_equal(view_count(v), 1);
	view_close(&v);
}

/* Gives the folder's directories an older time, always the same. */
static void age_folder(time_t when)
{
	const struct timespec times[2] = {{when, 0}, {when, 0}};

	for (int i = 0; i < 2; i++) {
		char *path = mail_path(i ? "cur" : "new");

		assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
		free(path);
	}
}

static size_t count_at_select(void)
{
	struct view *v = open_view(inbox);
	size_t n = view_count(v);

	view_close(&v);
	return n;
}

static void a_folder_that_did_not_change_is_not_read_again_after_a_restart(void **state)
{
	(void)state;
	put("cur/1700000001.1_1.other:2,S", "x\n");
	age_folder(1700000000);
	assert_int_equal(count_at_select(), 1);
	box_stop(&box);
	/* Nobody can see this one by the times, and that shows that nothing was read. */
	put("cur/1700000002.1_2.other:2,S", "y\n");
	age_folder(1700000000);
	box_start(&box);
	box_grant(&box, 1, 7, RIGHTS_FULL);
	assert_int_equal(count_at_select(), 1);
	put("cur/1700000003.1_3.other:2,S", "z\n");
	assert_int_equal(count_at_select(), 3);
}

static void a_folder_that_changed_while_the_store_was_away_is_read(void **state)
{
	(void)state;
	put("cur/1700000001.1_1.other:2,S", "x\n");
	age_folder(1700000000);
	assert_int_equal(count_at_select(), 1);
	box_stop(&box);
	put("cur/1700000002.1_2.other:2,S", "y\n");
	box_start(&box);
	box_grant(&box, 1, 7, RIGHTS_FULL);
	assert_int_equal(count_at_select(), 2);
}

/* How often directories are read. */
static atomic_uint reads;

static void see_read(void *ctx, const struct io_event *event)
{
	(void)ctx;
	if (event->op == IO_READDIR)
		atomic_fetch_add(&reads, 1);
}

static const struct io_hook watch_reads = {.after = see_read};

/* A delivery while nobody looks, and the next SELECT. */
static bool is_opened_unread_after_a_delivery(size_t count)
{
	size_t found;

	box_append(&box, 1, 7, inbox, "ours\n", 0, NULL);
	atomic_store(&reads, 0);
	found = count_at_select();
	assert_int_equal(found, count);
	return atomic_load(&reads) == 0;
}

static void a_folder_that_only_we_changed_is_not_read(void **state)
{
	struct view *v;
	size_t n = 0;
	char *name, *path, *to;

	(void)state;
	io_set_hook(&watch_reads);
	EVENTUALLY(is_opened_unread_after_a_delivery(++n)); /* once it was read since it is watched */
	for (int i = 0; i < 10; i++)
		assert_true(is_opened_unread_after_a_delivery(++n));
	/* What another tool does is seen at once, whatever it is. */
	put("cur/1700000001.1_1.other:2,S", "theirs\n");
	assert_int_equal(count_at_select(), ++n);
	EVENTUALLY(is_opened_unread_after_a_delivery(++n));
	name = find_file("new", "");
	path = mail_path(name);
	to = mem_printf("%s/mail/example.test/u7/cur/%s:2,F", box.dir, strrchr(path, '/') + 1);
	assert_int_equal(rename(path, to), 0);
	free(path);
	free(name);
	v = open_view(inbox);
	assert_int_equal(view_count(v), n);
	n = 0;
	for (size_t i = 1; i <= view_count(v); i++)
		n += view_at(v, i).flags == FLAG_FLAGGED;
	assert_int_equal(n, 1);
	view_close(&v);
	free(to);
	io_set_hook(NULL);
}

/* After a start not even behind the answer, though it was read before anybody watched. */
static void a_folder_that_stands_when_it_is_watched_is_not_read(void **state)
{
	(void)state;
	put("cur/1700000001.1_1.other:2,S", "x\n");
	age_folder(1700000000);
	assert_int_equal(count_at_select(), 1);
	box_stop(&box);
	box_start(&box);
	box_grant(&box, 1, 7, RIGHTS_FULL);
	io_set_hook(&watch_reads);
	atomic_store(&reads, 0);
	assert_int_equal(count_at_select(), 1);
	assert_true(is_opened_unread_after_a_delivery(2));
	put("cur/1700000002.1_2.other:2,S", "theirs\n");
	assert_int_equal(count_at_select(), 3);
	io_set_hook(NULL);
}

static void make_dirs(const char *const *paths, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *path = mem_printf("%s/mail/%s", box.dir, paths[i]);

		assert_int_equal(mkdir(path, 0700), 0);
		free(path);
	}
}

/* Nobody tells of what happens above the account's directory. */
static void another_directory_in_its_place_is_read(void **state)
{
	static const char *const dirs[] = {"example.test", "example.test/u7", "example.test/u7/cur",
					   "example.test/u7/new", "example.test/u7/tmp"};
	char *from = mem_printf("%s/mail/example.test", box.dir), *to = mem_printf("%s/mail/elsewhere", box.dir);
	size_t n = 0;

	(void)state;
	io_set_hook(&watch_reads);
	EVENTUALLY(is_opened_unread_after_a_delivery(++n));
	io_set_hook(NULL);
	assert_int_equal(rename(from, to), 0);
	make_dirs(dirs, ARRAY_SIZE(dirs));
	put("cur/1700000001.1_1.other:2,S", "another\n");
	assert_int_equal(count_at_select(), n + 1);
	free(to);
	free(from);
}

static void what_another_tool_removes_as_soon_as_we_put_it_is_missed(void **state)
{
	char *name, *path;

	(void)state;
	EVENTUALLY(count_at_select() == 0);
	box_append(&box, 1, 7, inbox, "ours\n", 0, NULL);
	assert_int_equal(count_at_select(), 1);
	name = find_file("new", "");
	path = mail_path(name);
	assert_int_equal(unlink(path), 0);
	free(path);
	free(name);
	EVENTUALLY(count_at_select() == 0);
}

static void a_rename_by_another_tool_is_merged_three_ways(void **state)
{
	struct view *v = open_view(inbox);
	char *file, *from, *to;

	(void)state;
	box_append(&box, 1, 7, inbox, "a\n", FLAG_SEEN, NULL);
	EVENTUALLY(has_file("cur", ":2,S"));
	file = find_file("cur", ":2,S");
	from = mail_path(file);
	to = mem_printf("%.*s:2,FR", (int)(strlen(from) - 4), from);
	assert_int_equal(rename(from, to), 0);
	EVENTUALLY(synced_flags(v, 1, FLAG_FLAGGED | FLAG_ANSWERED));
	/* And our next change goes on from there. */
	set_flags(1, FLAGS_ADD, FLAG_DELETED, NULL);
	EVENTUALLY(has_file("cur", ":2,FRT"));
	free(file);
	free(from);
	free(to);
	view_close(&v);
}

static void a_removed_file_is_an_expunge(void **state)
{
	struct view *v = open_view(inbox);
	char *file, *path;

	(void)state;
	box_append(&box, 1, 7, inbox, "a\n", FLAG_SEEN, NULL);
	box_append(&box, 1, 7, inbox, "b\n", FLAG_FLAGGED, NULL);
	EVENTUALLY(has_file("cur", ":2,S") && has_file("cur", ":2,F"));
	file = find_file("cur", ":2,S");
	path = mail_path(file);
	assert_int_equal(unlink(path), 0);
	EVENTUALLY(synced_count(v, 1));
	assert_int_equal(view_at(v, 1).uid, 2);
	assert_int_equal(box_info(&box, 1, 7, "INBOX").messages, 1);
	free(file);
	free(path);
	view_close(&v);
}

static void a_vanished_root_expunges_nothing(void **state)
{
	char *from = mem_printf("%s/mail/example.test", box.dir), *to = mem_printf("%s/mail/away", box.dir);
	struct view *v;

	(void)state;
	box_append(&box, 1, 7, inbox, "a\n", FLAG_SEEN, NULL);
	EVENTUALLY(has_file("cur", ":2,S"));
	assert_int_equal(rename(from, to), 0);
	for (int i = 0; i < 3; i++) {
		v = open_view(inbox);
		assert_int_equal(view_count(v), 1);
		view_close(&v);
	}
	assert_int_equal(rename(to, from), 0);
	v = open_view(inbox);
	assert_int_equal(view_count(v), 1);
	view_close(&v);
	free(from);
	free(to);
}

static void a_folder_of_another_tool_becomes_a_mailbox(void **state)
{
	static const char *const dirs[] = {".Fr&AOk-re", ".Fr&AOk-re/cur", ".Fr&AOk-re/new", ".Fr&AOk-re/tmp"};
	struct store_account who = {1, 7};
	struct store_mailbox_list list;
	struct rpc_reply hold;
	bool found = false;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		char *path = mail_path(dirs[i]);

		assert_int_equal(mkdir(path, 0700), 0);
		free(path);
	}
	put(".Fr&AOk-re/cur/1.2.3:2,S", "x\n");
	while (!found) {
		CALL(&box, STORE_MAILBOXES, &who, &list, &hold);
		for (size_t i = 0; i < list.mailboxes.n; i++)
			found |= str_eq(list.mailboxes.v[i].name, STR("Fr\xc3\xa9re"));
		rpc_reply_release(&hold);
		usleep(20000);
	}
	EVENTUALLY(box_info(&box, 1, 7, "Fr\xc3\xa9re").messages == 1);
}

static void expunged_files_are_hidden_and_kept(void **state)
{
	struct uid_range range = {1, 1};
	struct store_op op = {.kind = OP_EXPUNGE, .mailbox = inbox, .uids = {&range, 1}};
	struct rpc_reply hold;

	(void)state;
	box_append(&box, 1, 7, inbox, "a\n", FLAG_SEEN, NULL);
	box_op(&box, 1, 7, op, &hold);
	rpc_reply_release(&hold);
	EVENTUALLY(has_file(STORE_EXPUNGED_DIR, ""));
	assert_false(has_file("cur", ""));
}

/* ---- a lost index ---- */

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag;
	return ftw->level > 0 ? remove(path) : 0;
}

static void a_lost_index_is_rebuilt_with_the_same_uids(void **state)
{
	struct uid_range range = {2, 2};
	struct store_op op = {.kind = OP_EXPUNGE, .mailbox = inbox, .uids = {&range, 1}};
	struct rpc_reply hold;
	struct mailbox_info before, work, empty, after;
	struct view *v;
	char *path = mem_printf("%s/state", box.dir), *text;

	(void)state;
	box_append(&box, 1, 7, inbox, "one\n", FLAG_SEEN, "Red");
	box_append(&box, 1, 7, inbox, "two\n", 0, NULL);
	box_append(&box, 1, 7, inbox, "three\n", FLAG_FLAGGED, NULL);
	set_flags(3, FLAGS_ADD, 0, "Blue");
	box_op(&box, 1, 7, op, &hold);
	rpc_reply_release(&hold);
	box_change(&box, 1, 7, MAILBOX_CREATE, "Work/x.y", NULL);
	box_append(&box, 1, 7, box_mailbox(&box, 1, 7, "Work/x.y"), "four\n", 0, NULL);
	before = box_info(&box, 1, 7, "INBOX");
	work = box_info(&box, 1, 7, "Work/x.y");
	box_change(&box, 1, 7, MAILBOX_CREATE, "Empty", NULL);
	empty = box_info(&box, 1, 7, "Empty");
	assert_int_equal(before.id, inbox);
	box_stop(&box);
	assert_int_equal(nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
	put("cur/1.unknown:2,S", "stranger\n");
	box_start(&box);
	box_grant(&box, 1, 7, RIGHTS_FULL);
	after = box_info(&box, 1, 7, "INBOX");
	assert_int_equal(after.uidvalidity, before.uidvalidity);
	assert_int_equal(after.messages, 3);
	assert_true(after.uidnext > before.uidnext);
	assert_true(after.highestmodseq > before.highestmodseq);
	v = open_view(box_mailbox(&box, 1, 7, "INBOX"));
	assert_int_equal(view_count(v), 3);
	assert_int_equal(view_at(v, 1).uid, 1);
	assert_int_equal(view_at(v, 1).flags, FLAG_SEEN);
	assert_true(str_eq(view_keyword(v, (unsigned)__builtin_ctzll(view_at(v, 1).keywords)), STR("Red")));
	assert_int_equal(view_at(v, 2).uid, 3);
	assert_true(str_eq(view_keyword(v, (unsigned)__builtin_ctzll(view_at(v, 2).keywords)), STR("Blue")));
	assert_true(view_at(v, 3).uid >= 1000);
	view_close(&v);
	text = box_body(&box, 1, 7, box_mailbox(&box, 1, 7, "INBOX"), 3);
	assert_string_equal(text, "three\n");
	free(text);
	after = box_info(&box, 1, 7, "Work/x.y");
	assert_int_equal(after.id, work.id);
	assert_int_equal(after.uidvalidity, work.uidvalidity);
	assert_int_equal(after.messages, 1);
	assert_true(after.highestmodseq > work.highestmodseq);
	after = box_info(&box, 1, 7, "Empty");
	assert_int_equal(after.uidvalidity, empty.uidvalidity);
	assert_true(after.highestmodseq > empty.highestmodseq);
	assert_int_equal(box_info(&box, 1, 7, "Trash").role, ROLE_TRASH);
	free(path);
}

/* ---- a rebuild that is hindered ---- */

static const char *refused_path;
static atomic_int refused_times;

static int refuse_open(void *ctx, const struct io_event *event)
{
	(void)ctx;
	return event->op == IO_OPEN && str_ends(str_from(event->path), str_from(refused_path)) &&
			       atomic_fetch_sub(&refused_times, 1) > 0
		       ? EIO
		       : 0;
}

static void rebuild_by_hand(void)
{
	struct store_fsck req = {.account = 7, .path = STR("example.test/u7")};
	struct store_report report;
	struct rpc_reply hold;

	CALL(&box, STORE_FSCK, &req, &report, &hold);
	rpc_reply_release(&hold);
}

/* The index is gone, and `path` cannot be opened for some times. */
static struct mailbox_info begin_hindered(const char *path, int times)
{
	static const struct io_hook hook = {.before = refuse_open};
	struct uid_range range = {1, 1};
	struct store_op op = {.kind = OP_EXPUNGE, .mailbox = inbox, .uids = {&range, 1}};
	char *state_dir = mem_printf("%s/state", box.dir);
	struct mailbox_info before;
	struct rpc_reply hold;

	box_append(&box, 1, 7, inbox, "one\n", 0, NULL);
	box_append(&box, 1, 7, inbox, "two\n", 0, NULL);
	box_append(&box, 1, 7, inbox, "three\n", 0, NULL);
	box_op(&box, 1, 7, op, &hold);
	rpc_reply_release(&hold);
	before = box_info(&box, 1, 7, "INBOX");
	box_stop(&box);
	assert_int_equal(nftw(state_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
	free(state_dir);
	refused_path = path;
	atomic_store(&refused_times, times);
	io_set_hook(&hook);
	box_start(&box);
	box_grant(&box, 1, 7, RIGHTS_FULL);
	return before;
}

static void is_whole_again(const struct mailbox_info *before)
{
	struct mailbox_info after = box_info(&box, 1, 7, "INBOX");
	struct view *v;

	assert_int_equal(after.uidvalidity, before->uidvalidity);
	assert_int_equal(after.messages, 2);
	assert_true(after.uidnext >= before->uidnext);
	v = open_view(after.id);
	assert_int_equal(view_at(v, 1).uid, 2);
	assert_int_equal(view_at(v, 2).uid, 3);
	view_close(&v);
}

static void a_rebuild_that_cannot_read_once_begins_again(const char *path)
{
	struct store_mailbox_get get = {.session = 1, .account = 7, .name = STR("INBOX")};
	struct mailbox_info before = begin_hindered(path, 1);

	box_refused(&box, &STORE_MAILBOX, &get, ERR_TEMP);
	rebuild_by_hand();
	is_whole_again(&before);
	io_set_hook(NULL);
}

static void a_rebuild_that_cannot_read_a_folder_begins_again(void **state)
{
	(void)state;
	a_rebuild_that_cannot_read_once_begins_again("u7/cur");
}

static void a_rebuild_that_cannot_read_a_uidlist_begins_again(void **state)
{
	(void)state;
	a_rebuild_that_cannot_read_once_begins_again("u7/postrider-uidlist");
}

static void what_a_rebuild_can_never_read_gets_no_uid_twice(void **state)
{
	struct mailbox_info before = begin_hindered("u7/new", 1000000), after;
	struct view *v;

	(void)state;
	for (int i = 0; i < 3; i++)
		rebuild_by_hand();
	after = box_info(&box, 1, 7, "INBOX"); /* the others are served */
	assert_int_equal(after.uidvalidity, before.uidvalidity);
	assert_int_equal(after.messages, 0);
	assert_true(after.uidnext >= before.uidnext);
	atomic_store(&refused_times, 0);
	EVENTUALLY(box_info(&box, 1, 7, "INBOX").messages == 2);
	v = open_view(after.id);
	assert_true(view_at(v, 1).uid >= before.uidnext);
	view_close(&v);
	io_set_hook(NULL);
}

static void make_dir(const char *rest)
{
	char *path = mail_path(rest);

	assert_int_equal(mkdir(path, 0700), 0);
	free(path);
}

static void is_as_dovecot_left_it(void)
{
	struct mailbox_info info = box_info(&box, 1, 7, "INBOX");
	struct view *v = open_view(info.id);

	assert_int_equal(info.uidvalidity, 1500000000);
	assert_int_equal(info.messages, 3);
	assert_true(info.uidnext >= 51);
	assert_int_equal(view_at(v, 1).uid, 40);
	assert_int_equal(view_at(v, 1).flags, FLAG_SEEN);
	assert_int_equal(view_at(v, 2).uid, 42);
	assert_true(view_at(v, 3).uid >= 50);
	view_close(&v);
}

/* The folder cannot be read at first, then the system is started anew: what it had begun to write is not taken for a
 * list of ours. When all is read it is, and the other one is stale. */
static void a_takeover_that_is_hindered_begins_again(void **state)
{
	static const struct io_hook hook = {.before = refuse_open};
	struct store_mailbox_get get = {.session = 1, .account = 7, .name = STR("INBOX")};
	char *state_dir = mem_printf("%s/state", box.dir), *list = mail_path("postrider-uidlist");
	char *maildir = mail_path("");

	(void)state;
	box_stop(&box);
	assert_int_equal(nftw(state_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
	assert_int_equal(nftw(maildir, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
	make_dir("cur");
	make_dir("new");
	make_dir("tmp");
	put("cur/b.host:2,", "two\n");
	put("cur/a.host:2,S", "one\n");
	put("new/c.host", "three\n");
	put("dovecot-uidlist", "3 V1500000000 N50\n40 :a.host\n42 :b.host:2,S\n44 :gone.host\n");
	refused_path = "u7/cur";
	atomic_store(&refused_times, 1);
	io_set_hook(&hook);
	box_start(&box);
	box_grant(&box, 1, 7, RIGHTS_FULL);
	box_refused(&box, &STORE_MAILBOX, &get, ERR_TEMP);
	box_stop(&box);
	assert_int_equal(access(list, F_OK), 0);
	box_start(&box);
	box_grant(&box, 1, 7, RIGHTS_FULL);
	rebuild_by_hand();
	is_as_dovecot_left_it();
	put("dovecot-uidlist", "3 V1500000000 N90\n60 :a.host\n80 :b.host:2,S\n");
	rebuild_by_hand();
	is_as_dovecot_left_it();
	io_set_hook(NULL);
	free(maildir);
	free(list);
	free(state_dir);
}

static void a_long_uidlist_is_begun_anew(void **state)
{
	char *list = mail_path("postrider-uidlist"), *path = mem_printf("%s/state", box.dir);
	struct stat st;
	struct view *v;

	(void)state;
	box_append(&box, 1, 7, inbox, "one\n", 0, "Red");
	box_append(&box, 1, 7, inbox, "two\n", 0, NULL);
	for (int i = 0; i < 8000; i++)
		set_flags(2, i % 2 ? FLAGS_REMOVE : FLAGS_ADD, 0, "Red");
	set_flags(2, FLAGS_ADD, 0, "Blue");
	box_stop(&box);
	assert_int_equal(stat(list, &st), 0);
	assert_true(st.st_size < 60000);
	assert_int_equal(nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
	box_start(&box);
	box_grant(&box, 1, 7, RIGHTS_FULL);
	assert_int_equal(box_mailbox(&box, 1, 7, "INBOX"), inbox);
	v = open_view(inbox);
	assert_int_equal(view_count(v), 2);
	assert_int_equal(view_at(v, 1).keywords, 1);
	assert_int_equal(view_at(v, 2).keywords, 2);
	view_close(&v);
	free(list);
	free(path);
}

static void fsck_changes_nothing_that_is_right(void **state)
{
	struct store_fsck req = {.account = 7};
	struct store_report report;
	struct rpc_reply hold;
	struct mailbox_info before, after;

	(void)state;
	box_append(&box, 1, 7, inbox, "one\n", FLAG_SEEN, "Red");
	box_append(&box, 1, 7, inbox, "two\n", 0, NULL);
	before = box_info(&box, 1, 7, "INBOX");
	CALL(&box, STORE_FSCK, &req, &report, &hold);
	assert_true(str_find(report.text, STR("2 messages in 6 mailboxes")) >= 0);
	rpc_reply_release(&hold);
	after = box_info(&box, 1, 7, "INBOX");
	assert_int_equal(after.messages, 2);
	assert_int_equal(after.unseen, 1);
	assert_int_equal(after.uidvalidity, before.uidvalidity);
	assert_int_equal(after.size, before.size);
	req.account = 0;
	CALL(&box, STORE_FSCK, &req, &report, &hold);
	assert_true(str_find(report.text, STR("account 7")) >= 0);
	rpc_reply_release(&hold);
	assert_int_equal(box_append(&box, 1, 7, box_mailbox(&box, 1, 7, "INBOX"), "x\n", 0, NULL) > 2, 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(flags_show_in_the_names),
		T(a_new_file_becomes_a_message_at_once),
		T(many_small_bodies_come_in_one_answer_and_the_rest_is_asked_for_singly),
		T(a_long_answer_of_bodies_ends_where_the_next_call_goes_on),
		T(a_file_put_while_nobody_looked_is_there_at_select),
		T(a_folder_that_did_not_change_is_not_read_again_after_a_restart),
		T(a_folder_that_changed_while_the_store_was_away_is_read),
		T(a_folder_that_only_we_changed_is_not_read),
		T(a_folder_that_stands_when_it_is_watched_is_not_read),
		T(another_directory_in_its_place_is_read),
		T(what_another_tool_removes_as_soon_as_we_put_it_is_missed),
		T(a_rename_by_another_tool_is_merged_three_ways),
		T(a_removed_file_is_an_expunge),
		T(a_vanished_root_expunges_nothing),
		T(a_folder_of_another_tool_becomes_a_mailbox),
		T(expunged_files_are_hidden_and_kept),
		T(a_lost_index_is_rebuilt_with_the_same_uids),
		T(a_rebuild_that_cannot_read_a_folder_begins_again),
		T(a_rebuild_that_cannot_read_a_uidlist_begins_again),
		T(what_a_rebuild_can_never_read_gets_no_uid_twice),
		T(a_takeover_that_is_hindered_begins_again),
		T(a_long_uidlist_is_begun_anew),
		T(fsck_changes_nothing_that_is_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
