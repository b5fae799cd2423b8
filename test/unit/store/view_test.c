/* Views: stable until synced, in the order that IMAP wants, through gaps and a new store process. */
#include "harness.h"
#include "store/shared.h"
#include "store/snapshot.h"

static struct store_box box;
static uint32_t inbox;

static int setup(void **state)
{
	(void)state;
	box_open(&box, false);
	box_grant(&box, 1, 7, RIGHTS_FULL);
	box_grant(&box, 2, 7, RIGHTS_FULL);
	inbox = box_mailbox(&box, 1, 7, "INBOX");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	box_close(&box);
	return 0;
}

static struct view *open_view(uint64_t session, bool claim)
{
	struct mailbox_info info;
	struct view *v;
	struct err err = ERR_NONE;

	if (view_open(box.client, session, 7, inbox, claim, (struct session_ref){0}, &v, &info, &err) < 0)
		fail_msg("view_open: %s", err.text);
	return v;
}

/* What a sync told, as text: "x2 f1:4 n3 k". */
static void told_expunged(void *ctx, size_t seq, uint32_t uid, uint64_t modseq)
{
	assert_true(modseq > 0 && uid > 0);
	buf_addf(ctx, "x%zu ", seq);
}

static void told_flags(void *ctx, size_t seq, struct view_entry e, struct view_entry before)
{
	assert_true(before.uid == e.uid && before.modseq < e.modseq);
	buf_addf(ctx, "f%zu:%u ", seq, e.flags);
}

static void told_keywords(void *ctx)
{
	buf_addz(ctx, "k ");
}

static void told_exists(void *ctx, size_t count, uint32_t recent)
{
	(void)recent;
	buf_addf(ctx, "n%zu ", count);
}

static void expect_sync(struct view *v, bool allow_expunge, const char *want)
{
	struct buf out;
	struct view_events ev = {told_expunged, told_flags, told_keywords, told_exists, &out};

	buf_init(&out, 4096);
	view_sync(v, allow_expunge, &ev);
	assert_string_equal(out.ptr, want);
	buf_release(&out);
}

static void set_flags(uint32_t first, uint32_t last, enum flags_mode mode, uint32_t flags, const char *keyword)
{
	struct uid_range range = {first, last};
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

static void expunge(uint32_t first, uint32_t last)
{
	struct uid_range range = {first, last};
	struct store_op op = {.kind = OP_EXPUNGE, .mailbox = inbox, .uids = {&range, 1}};
	struct rpc_reply hold;

	box_op(&box, 1, 7, op, &hold);
	rpc_reply_release(&hold);
}

static void append(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		box_append(&box, 1, 7, inbox, "x\n", 0, NULL);
}

static void a_view_changes_only_when_synced(void **state)
{
	struct view *a, *b;

	(void)state;
	append(3);
	a = open_view(1, true);
	b = open_view(2, false);
	append(1);
	set_flags(2, 2, FLAGS_ADD, FLAG_SEEN, NULL);
	expunge(1, 1);
	/* Events come before the commit's reply: they are there now. */
	assert_true(view_pending(a));
	assert_true(view_pending(b));
	assert_int_equal(view_count(a), 3);
	assert_int_equal(view_at(a, 2).flags, 0);
	expect_sync(a, true, "x1 f1:1 n3 ");
	assert_false(view_pending(a));
	assert_int_equal(view_at(a, 1).uid, 2);
	assert_int_equal(view_at(a, 3).uid, 4);
	assert_int_equal(view_count(b), 3);
	expect_sync(b, true, "x1 f1:1 n3 ");
	view_close(&a);
	view_close(&b);
}

static void expunged_messages_stay_until_they_may_be_told(void **state)
{
	struct view *v;

	(void)state;
	append(5);
	v = open_view(1, true);
	expunge(2, 3);
	append(1);
	expect_sync(v, false, "n6 ");
	assert_int_equal(view_count(v), 6);
	assert_int_equal(view_seq(v, 2, false), 2);
	assert_true(view_pending(v));
	set_flags(4, 4, FLAGS_SET, FLAG_DRAFT, NULL);
	expect_sync(v, false, "f4:16 ");
	expect_sync(v, true, "x3 x2 ");
	assert_int_equal(view_count(v), 4);
	assert_int_equal(view_seq(v, 2, false), 0);
	assert_int_equal(view_seq(v, 2, true), 2);
	assert_int_equal(view_seq(v, 4, false), 2);
	assert_int_equal(view_seq(v, 99, true), 0);
	view_close(&v);
}

static void keywords_are_told_before_they_are_used(void **state)
{
	struct view *v;

	(void)state;
	append(1);
	v = open_view(1, true);
	assert_int_equal(view_keyword_count(v), 0);
	set_flags(1, 1, FLAGS_ADD, 0, "$Forwarded");
	expect_sync(v, true, "k f1:0 ");
	assert_true(str_eq(view_keyword(v, 0), STR("$Forwarded")));
	assert_int_equal(view_at(v, 1).keywords, 1);
	view_close(&v);
}

static void recent_belongs_to_the_first_who_selects(void **state)
{
	struct view *a, *b, *look;

	(void)state;
	append(2);
	look = open_view(2, false);
	assert_int_equal(view_recent_count(look), 2);
	a = open_view(1, true);
	assert_int_equal(view_recent_count(a), 2);
	b = open_view(2, true);
	assert_int_equal(view_recent_count(b), 0);
	append(1);
	view_sync(a, true, NULL);
	assert_int_equal(view_recent_count(a), 3);
	view_close(&a);
	view_close(&b);
	b = open_view(2, true);
	assert_int_equal(view_recent_count(b), 0);
	view_close(&b);
	view_close(&look);
}

/* RFC 3501 2.3.2: one session only. */
static void recent_is_told_once_also_over_a_restart(void **state)
{
	struct view *v;

	(void)state;
	append(3);
	v = open_view(2, false); /* EXAMINE claims nothing */
	assert_int_equal(view_recent_count(v), 3);
	view_close(&v);
	for (int i = 0; i < 2; i++) {
		v = open_view(1, true);
		assert_int_equal(view_recent_count(v), i == 0 ? 3 : 0);
		view_close(&v);
		box_stop(&box);
		box_start(&box);
		box_grant(&box, 1, 7, RIGHTS_FULL);
	}
	append(1);
	v = open_view(1, true);
	assert_int_equal(view_recent_count(v), 1);
	assert_int_equal(view_first_recent(v), 4);
	view_close(&v);
}

static void many_changes_fold_into_new_bases(void **state)
{
	struct view *a, *b;

	(void)state;
	append(400);
	a = open_view(1, true);
	for (uint32_t uid = 1; uid <= 400; uid += 2)
		expunge(uid, uid);
	append(300);
	view_sync(a, true, NULL);
	assert_int_equal(view_count(a), 500);
	b = open_view(2, false);
	assert_int_equal(view_count(b), 500);
	for (size_t seq = 1; seq <= 500; seq++) {
		assert_int_equal(view_at(a, seq).uid, view_at(b, seq).uid);
		assert_int_equal(view_seq(a, view_at(b, seq).uid, false), seq);
	}
	assert_int_equal(view_highestmodseq(a), view_highestmodseq(b));
	view_close(&a);
	view_close(&b);
}

static void a_large_snapshot_travels_as_a_file(void **state)
{
	struct view *v;

	(void)state;
	append(2300);
	v = open_view(1, true);
	assert_int_equal(view_count(v), 2300);
	assert_int_equal(view_at(v, 2300).uid, 2300);
	set_flags(1, 2300, FLAGS_ADD, FLAG_SEEN, NULL);
	view_sync(v, true, NULL);
	assert_int_equal(view_at(v, 1999).flags, FLAG_SEEN);
	view_close(&v);
	/* What a new store reads from its index, with holes: one message, whole chunks, and behind the first piece. */
	expunge(1, 1);
	expunge(64, 200);
	expunge(2111, 2112);
	set_flags(5, 5, FLAGS_REMOVE, FLAG_SEEN, NULL);
	box_stop(&box);
	box_start(&box);
	box_grant(&box, 1, 7, RIGHTS_FULL);
	v = open_view(1, true);
	assert_int_equal(view_count(v), 2160);
	assert_int_equal(view_first_unseen(v), 4);
	for (size_t seq = 1, uid = 2; seq <= 2160; seq++, uid++) {
		uid = uid == 64 ? 201 : uid == 2111 ? 2113 : uid;
		assert_int_equal(view_at(v, seq).uid, uid);
		assert_int_equal(view_at(v, seq).flags, uid == 5 ? 0 : FLAG_SEEN);
		assert_true(view_at(v, seq).modseq > 0);
	}
	view_close(&v);
}

static void the_first_unseen_is_that_of_what_is_shown(void **state)
{
	struct view *v;

	(void)state;
	append(4);
	set_flags(1, 2, FLAGS_ADD, FLAG_SEEN, NULL);
	v = open_view(1, true);
	assert_int_equal(view_first_unseen(v), 3);
	set_flags(3, 3, FLAGS_ADD, FLAG_SEEN, NULL);
	assert_int_equal(view_first_unseen(v), 3);
	view_sync(v, true, NULL);
	assert_int_equal(view_first_unseen(v), 4);
	expunge(1, 1);
	view_sync(v, true, NULL);
	assert_int_equal(view_first_unseen(v), 3);
	set_flags(4, 4, FLAGS_ADD, FLAG_SEEN, NULL);
	view_sync(v, true, NULL);
	assert_int_equal(view_first_unseen(v), 0);
	append(1);
	view_sync(v, true, NULL);
	assert_int_equal(view_first_unseen(v), 4);
	view_close(&v);
	v = open_view(1, true);
	assert_int_equal(view_first_unseen(v), 4);
	set_flags(2, 2, FLAGS_REMOVE, FLAG_SEEN, NULL);
	view_sync(v, true, NULL);
	assert_int_equal(view_first_unseen(v), 1);
	view_close(&v);
}

static void a_deleted_mailbox_ends_its_views(void **state)
{
	struct mailbox_info info;
	struct view *v;
	struct err err = ERR_NONE;

	(void)state;
	box_change(&box, 1, 7, MAILBOX_CREATE, "Gone", NULL);
	assert_int_equal(view_open(box.client, 1, 7, box_mailbox(&box, 1, 7, "Gone"), true, (struct session_ref){0}, &v,
				   &info, &err),
			 0);
	assert_true(str_eq(info.name, STR("Gone")));
	box_change(&box, 1, 7, MAILBOX_DELETE, "Gone", NULL);
	assert_true(view_gone(v));
	view_close(&v);
}

static void views_survive_a_new_store_process(void **state)
{
	struct view *a, *b;

	(void)state;
	append(4);
	a = open_view(1, true);
	b = open_view(2, false);
	expunge(2, 2);
	box_stop(&box);
	box_start(&box);
	box_grant(&box, 1, 7, RIGHTS_FULL);
	box_grant(&box, 2, 7, RIGHTS_FULL);
	set_flags(3, 3, FLAGS_ADD, FLAG_FLAGGED, NULL);
	append(1);
	expect_sync(a, true, "x2 f2:4 n4 ");
	expect_sync(b, false, "f3:4 n5 ");
	expect_sync(b, true, "x2 ");
	append(1);
	expect_sync(a, true, "n5 ");
	expect_sync(b, true, "n5 ");
	view_close(&a);
	view_close(&b);
}

/* Of a new store process only the second view's opening and closing is heard: then nobody follows, and what happens is
 * not told. The next event must not hide that. */
static void an_event_does_not_hide_what_was_not_told(void **state)
{
	struct store_view_open ask = {.session = 3, .account = 7, .mailbox = inbox};
	struct store_view opened;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	struct view *a, *b;

	(void)state;
	append(4);
	a = open_view(1, true);
	box_stop(&box);
	box_start(&box);
	box_grant(&box, 1, 7, RIGHTS_FULL);
	box_grant(&box, 2, 7, RIGHTS_FULL);
	box_grant(&box, 3, 7, RIGHTS_FULL);
	b = open_view(2, false);
	view_close(&b);
	box_mailbox(&box, 1, 7, "INBOX"); /* the store has heard of the closing */
	expunge(2, 2);
	/* Another session opens it; before it has looked, a message comes. */
	rpc_reply_init(&hold);
	assert_int_equal(store_call(box.client, &STORE_VIEW_OPEN, &ask, &opened, &hold, &err), 0);
	rpc_reply_release(&hold);
	append(1);
	b = open_view(2, false);
	assert_int_equal(view_count(b), 4);
	assert_int_equal(view_at(b, 2).uid, 3);
	expect_sync(a, true, "x2 n4 ");
	view_close(&a);
	view_close(&b);
}

/* One chunk of a snapshot; all of its messages have these flags. */
static void add_chunk(struct buf *out, uint32_t number, uint64_t present, uint32_t flags, uint64_t modseq)
{
	struct hot_entry entries[CHUNK_UIDS];
	struct buf value;

	for (size_t i = 0; i < CHUNK_UIDS; i++)
		entries[i] = (struct hot_entry){.flags = (uint8_t)flags, .modseq = modseq};
	buf_init(&value, 4096);
	hot_chunk_encode(present, entries, &value);
	snapshot_add(out, number, buf_str(&value));
	buf_release(&value);
}

static void install(struct shared *s, uint32_t flags, uint64_t modseq, unsigned lost)
{
	struct store_view reply = {.snapshot_fd = -1, .count = 1};
	struct err err = ERR_NONE;
	struct buf bytes;

	buf_init(&bytes, 4096);
	add_chunk(&bytes, 0, 2, flags, modseq);
	reply.snapshot = buf_str(&bytes);
	reply.info.highestmodseq = modseq;
	assert_int_equal(shared_install(s, &reply, lost, &err), 0);
	buf_release(&bytes);
}

/* ---- a base by itself ---- */

/* As the store would hand it over: inline, or as a file. */
static struct view_base *base_of(const struct buf *bytes, uint32_t count, bool file)
{
	struct store_view reply = {.snapshot_fd = -1, .count = count, .info = {.unseen = 1}};
	struct err err = ERR_NONE;
	struct view_base *b;

	if (file)
		reply.snapshot_fd = fd_sealed("snapshot", buf_str(bytes));
	else
		reply.snapshot = buf_str(bytes);
	b = view_base_from_reply(&reply, &err);
	fd_close(&reply.snapshot_fd);
	return b;
}

/* Three chunks with holes, and seen ones before the first that is not. */
static void holes(struct buf *bytes, uint32_t chunks)
{
	buf_init(bytes, 1u << 20);
	add_chunk(bytes, 0, 0x12, FLAG_SEEN, 5);
	for (uint32_t n = 0; n < chunks; n++)
		add_chunk(bytes, 10 + n, ~0ULL, FLAG_SEEN, 6);
	add_chunk(bytes, 5000, 1ULL << 63 | 1, 0, 7);
}

static void a_base_answers_the_same_from_chunks_and_entries(void **state)
{
	const uint32_t sizes[] = {1, 300};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint32_t chunks = sizes[i], count = 4 + 64 * chunks;
		struct view_base *file, *inl;
		struct buf bytes;

		holes(&bytes, chunks);
		file = base_of(&bytes, count, true);
		inl = base_of(&bytes, count, false);
		assert_true(file && inl);
		assert_null(atomic_load(&file->entries));
		assert_non_null(atomic_load(&inl->entries));
		assert_int_equal(file->last_uid, 5000 * 64 + 63);
		assert_int_equal(inl->last_uid, 5000 * 64 + 63);
		for (uint32_t uid = 0; uid < 5001 * 64; uid += uid < 100 ? 1 : 61)
			assert_int_equal(view_base_find(file, uid), view_base_find(inl, uid));
		assert_int_equal(view_base_find(file, UINT32_MAX), count);
		assert_null(atomic_load(&file->entries));
		assert_int_equal(view_base_first_unseen(file), count - 2);
		assert_int_equal(view_base_first_unseen(inl), count - 2);
		assert_memory_equal(view_base_entries(file), view_base_entries(inl), count * sizeof(struct view_entry));
		assert_int_equal(view_base_first_unseen(file), count - 2);
		assert_int_equal(view_base_entries(file)[0].uid, 1);
		assert_int_equal(view_base_entries(file)[1].uid, 4);
		assert_int_equal(view_base_entries(file)[1].modseq, 5);
		assert_int_equal(view_base_entries(file)[2].uid, 640);
		assert_int_equal(view_base_entries(file)[count - 1].uid, 5000 * 64 + 63);
		view_base_unref(&file);
		view_base_unref(&inl);
		buf_release(&bytes);
	}
}

static void a_malformed_snapshot_is_refused(void **state)
{
	struct buf bytes, twice;

	(void)state;
	holes(&bytes, 1);
	for (int file = 0; file < 2; file++) {
		struct buf cut = bytes;

		for (cut.len = 0; cut.len < bytes.len; cut.len++)
			assert_null(base_of(&cut, 68, file));
		assert_null(base_of(&bytes, 67, file));
		assert_null(base_of(&bytes, 69, file));
		buf_init(&twice, 1u << 20);
		add_chunk(&twice, 7, 1, 0, 1);
		add_chunk(&twice, 7, 2, 0, 1);
		assert_null(base_of(&twice, 2, file));
		buf_clear(&twice);
		add_chunk(&twice, UINT32_MAX / 64 + 1, 1, 0, 1);
		assert_null(base_of(&twice, 1, file));
		buf_release(&twice);
	}
	buf_release(&bytes);
}

struct asker {
	struct view_base *base;
	size_t sum;
};

static void *ask_base(void *ctx)
{
	struct asker *a = ctx;

	a->sum = view_base_find(a->base, 640) + view_base_first_unseen(a->base);
	for (size_t i = 0; i < a->base->count; i++)
		a->sum += view_base_entries(a->base)[i].uid;
	return NULL;
}

static void threads_may_ask_one_base_at_once(void **state)
{
	struct buf bytes;
	pthread_t threads[4];
	struct asker askers[4];
	struct view_base *b;

	(void)state;
	holes(&bytes, 300);
	b = base_of(&bytes, 4 + 64 * 300, true);
	for (size_t i = 0; i < 4; i++) {
		askers[i] = (struct asker){view_base_ref(b), 0};
		assert_int_equal(pthread_create(&threads[i], NULL, ask_base, &askers[i]), 0);
	}
	for (size_t i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(askers[i].sum, askers[0].sum);
		view_base_unref(&askers[i].base);
	}
	view_base_unref(&b);
	buf_release(&bytes);
}

/* Two threads ask after the same loss; before the second installs what it got, events are lost again. */
static void a_snapshot_that_comes_late_hides_no_later_loss(void **state)
{
	struct shared *s = shared_join(box.client, 7, inbox);
	struct store_changes gap = {.account = 7, .mailbox = inbox, .gap = 1};
	unsigned asked;

	(void)state;
	install(s, 0, 5, s->lost);
	assert_true(shared_whole(s));
	shared_all_stale(box.client);
	asked = s->lost;
	install(s, FLAG_SEEN, 6, asked);
	assert_true(shared_whole(s));
	shared_changes(box.client, &gap);
	install(s, 0, 5, asked);
	assert_false(shared_whole(s));
	assert_int_equal(s->base->entries[0].flags, FLAG_SEEN);
	install(s, FLAG_FLAGGED, 7, s->lost);
	assert_true(shared_whole(s));
	assert_int_equal(s->base->entries[0].flags, FLAG_FLAGGED);
	shared_leave(&s);
}

static void *answer_flag(void *asker)
{
	struct uid_range range = {1, 1};
	struct store_op op = {.kind = OP_FLAGS,
			      .mailbox = inbox,
			      .uids = {&range, 1},
			      .mode = FLAGS_SET,
			      .flags = FLAG_FLAGGED,
			      .unchangedsince = UINT64_MAX};
	struct rpc_reply hold;

	box_op(asker, 2, 7, op, &hold);
	rpc_reply_release(&hold);
	return NULL;
}

/* A front end that does not read for a while gets a gap for the events it has no room for, before the answer. */
static void after_the_answer_a_view_knows_the_change_even_behind_a_gap(void **state)
{
	struct store_box second = box, *asker = &second;
	struct mailbox_info info;
	struct err err = ERR_NONE;
	struct view *v;
	pthread_t thread;
	int front[2];

	(void)state;
	append(2000);
	second.client = store_client_new(NULL);
	assert_int_equal(fd_socketpair(front), 0);
	store_service_add_peer(box.svc, front[0], FRONT_TAG, false, true);
	rpc_channel_attach(store_client_channel(second.client), front[1]);
	assert_int_equal(view_open(second.client, 2, 7, inbox, false, (struct session_ref){0}, &v, &info, &err), 0);
	pthread_mutex_lock(&second.client->lock); /* its reader stops at the next event */
	for (unsigned i = 0; i < 80; i++)
		set_flags(1, 2000, FLAGS_SET, i % 2 ? 0 : FLAG_SEEN, NULL);
	assert_int_equal(pthread_create(&thread, NULL, answer_flag, asker), 0);
	box_mailbox(&box, 1, 7, "INBOX"); /* answered when what was committed before is durable */
	set_flags(2, 2, FLAGS_SET, FLAG_ANSWERED, NULL);
	pthread_mutex_unlock(&second.client->lock);
	pthread_join(thread, NULL);
	view_sync(v, true, NULL);
	assert_int_equal(view_at(v, 1).flags, FLAG_FLAGGED);
	/* And events come again. */
	set_flags(3, 3, FLAGS_SET, FLAG_DELETED, NULL);
	answer_flag(asker);
	view_sync(v, true, NULL);
	assert_int_equal(view_at(v, 3).flags, FLAG_DELETED);
	view_close(&v);
	store_client_free(&second.client);
}

/* For ThreadSanitizer above all: sessions on threads of their own, all changing, all looking. */
static void *session_thread(void *arg)
{
	uint64_t session = (uint64_t)(uintptr_t)arg;

	for (unsigned i = 0; i < 30; i++) {
		struct view *v = open_view(session, true);

		for (unsigned j = 0; j < 10; j++) {
			box_append(&box, session, 7, inbox, "x\n", 0, NULL);
			if (view_count(v) > 0 && j % 3 == 0) {
				struct uid_range range = {view_at(v, 1).uid, view_at(v, 1).uid};
				struct store_op op = {.kind = OP_EXPUNGE, .mailbox = inbox, .uids = {&range, 1}};
				struct rpc_reply hold;

				box_op(&box, session, 7, op, &hold);
				rpc_reply_release(&hold);
			}
			view_sync(v, j % 2 == 0, NULL);
			for (size_t seq = 2; seq <= view_count(v); seq++)
				assert_true(view_at(v, seq).uid > view_at(v, seq - 1).uid);
		}
		view_close(&v);
	}
	return NULL;
}

static void sessions_on_many_threads_agree(void **state)
{
	pthread_t threads[4];
	struct view *a, *b;

	(void)state;
	a = open_view(1, false);
	for (unsigned i = 0; i < 4; i++) {
		box_grant(&box, 10 + i, 7, RIGHTS_FULL);
		assert_int_equal(pthread_create(&threads[i], NULL, session_thread, (void *)(uintptr_t)(10 + i)), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	view_sync(a, true, NULL);
	b = open_view(2, false);
	assert_int_equal(view_count(a), view_count(b));
	for (size_t seq = 1; seq <= view_count(a); seq++)
		assert_int_equal(view_at(a, seq).uid, view_at(b, seq).uid);
	view_close(&a);
	view_close(&b);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_view_changes_only_when_synced),
		T(expunged_messages_stay_until_they_may_be_told),
		T(keywords_are_told_before_they_are_used),
		T(recent_belongs_to_the_first_who_selects),
		T(recent_is_told_once_also_over_a_restart),
		T(many_changes_fold_into_new_bases),
		T(a_large_snapshot_travels_as_a_file),
		T(the_first_unseen_is_that_of_what_is_shown),
		T(a_deleted_mailbox_ends_its_views),
		T(views_survive_a_new_store_process),
		T(sessions_on_many_threads_agree),
		T(an_event_does_not_hide_what_was_not_told),
		T(a_snapshot_that_comes_late_hides_no_later_loss),
		cmocka_unit_test(a_base_answers_the_same_from_chunks_and_entries),
		cmocka_unit_test(a_malformed_snapshot_is_refused),
		cmocka_unit_test(threads_may_ask_one_base_at_once),
		T(after_the_answer_a_view_knows_the_change_even_behind_a_gap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
