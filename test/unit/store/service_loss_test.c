/* The whole store service recovers from what any power loss leaves. Two accounts are used as users use them; after
 * every acknowledged change what a client could see of them is noted. An image must show the state of the last
 * acknowledged change, or that of the one that was under way; check.h must find nothing; and to start once more
 * changes neither a key nor a file. The same for a power loss during a recovery. */
#include "harness.h"

#include "../journal/recorder.h"
#include "../journal/testdir.h"
#include "check.h"
#include <errno.h>

#define SEGMENT	 (256u << 10)
#define STATES	 200
#define ACCOUNTS 2
static const uint64_t accounts[ACCOUNTS] = {7, 8};

/* ---- a service on any directory ---- */

static int open_small(void *ctx, const struct store_loop *loop, struct store_engine **e_r, struct err *err)
{
	struct store_box *b = ctx;
	struct store_local_options o = {.dirfd = b->state_fd,
					.rootfd = b->mail_fd,
					.loop = *loop,
					.segment_size = SEGMENT,
					.journal_size_limit = 16 * SEGMENT,
					.ballast = 128 << 10};
	int rc = store_engine_local_open(&o, e_r, err);

	b->engine = rc < 0 ? NULL : *e_r;
	b->loop = *loop;
	return rc;
}

static int subdir(int root, const char *name)
{
	int fd;

	if (mkdirat(root, name, 0700) < 0 && errno != EEXIST)
		fail_msg("mkdir %s: %s", name, strerror(errno));
	fd = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void service_start(struct store_box *b, const char *what)
{
	struct store_options o = {.state_dirfd = b->state_fd,
				  .mail_dirfd = b->mail_fd,
				  .conf = b->conf,
				  .open_engine = open_small,
				  .open_ctx = b};
	struct err err = ERR_NONE;

	b->svc = store_service_new(&o, &err);
	if (!b->svc)
		fail_msg("%s: %s", what, err.text);
	if (store_engine_read_only(b->engine))
		fail_msg("%s: recovery could not finish", what);
	assert_int_equal(pthread_create(&b->thread, NULL, box_thread, b->svc), 0);
	box_attach(b);
	for (int i = 0; i < ACCOUNTS; i++)
		box_grant(b, 1, accounts[i], RIGHTS_FULL | RIGHT_DELIVER);
}

static void service_open(struct store_box *b, int root, const char *what)
{
	struct err err = ERR_NONE;

	memset(b, 0, sizeof(*b));
	b->state_fd = subdir(root, "state");
	b->mail_fd = subdir(root, "mail");
	b->conf = conf_parse(STR("myhostname = mx.example.test\n"), "main.cf", NULL, &err);
	assert_non_null(b->conf);
	b->client = store_client_new(NULL);
	b->directory = rpc_channel_new("store", STORE_CALLS);
	service_start(b, what);
}

static void service_close(struct store_box *b)
{
	box_stop(b);
	store_client_free(&b->client);
	rpc_channel_free(&b->directory);
	conf_unref(&b->conf);
	close(b->state_fd);
	close(b->mail_fd);
}

/* ---- what a client can see, as text ---- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void dump_messages(struct store_box *b, uint64_t account, uint32_t mailbox, struct buf *out)
{
	struct err err = ERR_NONE;
	struct mailbox_info info;
	struct view *v;

	if (view_open(b->client, 1, account, mailbox, false, (struct session_ref){0}, &v, &info, &err) < 0)
		fail_msg("view_open: %s", err.text);
	for (size_t i = 1; i <= view_count(v); i++) {
		struct view_entry e = view_at(v, i);
		char *body = box_body(b, 1, account, mailbox, e.uid);

		buf_addf(out, "  %u flags=%x modseq=%llu body=%zu/%08x", e.uid, e.flags, (unsigned long long)e.modseq,
			 strlen(body), crc32c(0, body, strlen(body)));
		for (unsigned k = 0; k < view_keyword_count(v); k++)
			if (e.keywords >> k & 1)
				buf_addf(out, " %.*s", STR_ARG(view_keyword(v, k)));
		buf_addf(out, "\n");
		free(body);
	}
	view_close(&v);
}

static void dump_account(struct store_box *b, uint64_t account, struct buf *out)
{
	struct store_account who = {1, account};
	struct store_mailbox_list list;
	struct store_quota quota;
	struct rpc_reply hold;
	VEC(char *) boxes = {0};

	CALL(b, STORE_QUOTA, &who, &quota, &hold);
	buf_addf(out, "account %llu: %llu bytes, %llu messages\n", (unsigned long long)account,
		 (unsigned long long)quota.used_bytes, (unsigned long long)quota.used_messages);
	rpc_reply_release(&hold);
	CALL(b, STORE_MAILBOXES, &who, &list, &hold);
	for (size_t i = 0; i < list.mailboxes.n; i++) {
		const struct mailbox_info *m = &list.mailboxes.v[i];
		struct buf one;

		buf_init(&one, 1 << 20);
		buf_addf(&one,
			 " %.*s: id=%u role=%u subscribed=%u uidvalidity=%u uidnext=%u modseq=%llu messages=%u "
			 "unseen=%u deleted=%u size=%llu\n",
			 STR_ARG(m->name), m->id, m->role, m->subscribed, m->uidvalidity, m->uidnext,
			 (unsigned long long)m->highestmodseq, m->messages, m->unseen, m->deleted,
			 (unsigned long long)m->size);
		if (m->id)
			dump_messages(b, account, m->id, &one);
		vec_push(&boxes, str_dup(buf_str(&one)));
		buf_release(&one);
	}
	rpc_reply_release(&hold);
	qsort(boxes.v, boxes.n, sizeof(*boxes.v), by_text);
	for (size_t i = 0; i < boxes.n; i++) {
		buf_addf(out, "%s", boxes.v[i]);
		free(boxes.v[i]);
	}
	vec_release(&boxes);
}

/* Account 8 comes into being with its first message. */
static char *dump(struct store_box *b)
{
	struct buf out;
	char *text;

	buf_init(&out, 4 << 20);
	dump_account(b, 7, &out);
	dump_account(b, 8, &out);
	text = str_dup(buf_str(&out));
	buf_release(&out);
	return text;
}

/* ---- the story ---- */

struct story {
	struct store_box box;
	char *states[STATES];
	unsigned count, delivery;
};
static struct story story;

static void acknowledged(void)
{
	assert_true(story.count + 1 < STATES);
	io_record_mark(record, ++story.count);
	story.states[story.count] = dump(&story.box);
}

static char *body_of(unsigned n, size_t len)
{
	char *body = mem_alloc(len + 1);

	for (size_t i = 0; i < len; i++)
		body[i] = i % 70 == 69 ? '\n' : (char)('a' + (n * 7 + i * i) % 26);
	return body;
}

static uint64_t blob_of(const char *body, size_t len)
{
	struct blob_begin begin = {1, len};
	struct blob blob;
	struct store_ok ok;
	struct rpc_reply hold;
	uint64_t id;

	CALL(&story.box, STORE_BLOB_BEGIN, &begin, &blob, &hold);
	id = blob.blob;
	assert_int_equal(pwrite(blob.fd, body, len, 0), (ssize_t)len);
	close(blob.fd);
	rpc_reply_release(&hold);
	struct blob_finish finish = {id, len, crc32c(0, body, len)};
	CALL(&story.box, STORE_BLOB_FINISH, &finish, &ok, &hold);
	rpc_reply_release(&hold);
	return id;
}

static void deliver(size_t len, unsigned targets)
{
	struct deliver_target t[ACCOUNTS] = {
		{.account = 7, .recipient = STR("a@example.test"), .prefix = STR("Delivered-To: a\n")},
		{.account = 8, .recipient = STR("b@example.test"), .prefix = STR("Delivered-To: b@example.test\n")}};
	unsigned n = ++story.delivery;
	char *body = body_of(n, len), id[17], print[32];
	struct store_deliver req = {.session = 1, .date = 1700000000 + n, .summary = STR("a summary")};
	struct store_delivered out;
	struct rpc_reply hold;

	snprintf(id, sizeof(id), "%016u", n);
	snprintf(print, sizeof(print), "print %u", n);
	req.delivery_id = str_of(id, 16);
	req.fingerprint = str_from(print);
	req.targets.v = t + (targets == 1 ? n % 2 : 0);
	req.targets.n = targets;
	req.size = len + lf_count(str_of(body, len));
	if (len > STORE_INLINE_MAX)
		req.blob = blob_of(body, len);
	else
		req.body = str_of(body, len);
	CALL(&story.box, STORE_DELIVER, &req, &out, &hold);
	assert_int_equal(out.refusals.n, 0);
	rpc_reply_release(&hold);
	free(body);
	acknowledged();
}

static uint32_t mailbox(const char *name)
{
	return box_mailbox(&story.box, 1, 7, name);
}

static void append(const char *name, size_t len, uint32_t flags, const char *keyword)
{
	struct store_name word = {str_from(keyword)};
	char *body = body_of(++story.delivery, len);
	struct store_op op = {.kind = OP_APPEND,
			      .mailbox = mailbox(name),
			      .flags = flags,
			      .date = 1700000000,
			      .size = len + lf_count(str_of(body, len)),
			      .keywords = {.v = &word, .n = keyword ? 1 : 0}};
	struct rpc_reply hold;

	if (len > STORE_INLINE_MAX)
		op.blob = blob_of(body, len);
	else
		op.body = str_of(body, len);
	box_op(&story.box, 1, 7, op, &hold);
	rpc_reply_release(&hold);
	free(body);
	acknowledged();
}

static void change(enum store_op_kind kind, const char *name, const char *target, uint32_t first, uint32_t last,
		   uint32_t flags, const char *keyword)
{
	struct uid_range range = {first, last};
	struct store_name word = {str_from(keyword)};
	struct store_op op = {.kind = (uint8_t)kind,
			      .mailbox = mailbox(name),
			      .target = target ? mailbox(target) : 0,
			      .uids = {&range, 1},
			      .mode = FLAGS_ADD,
			      .flags = flags,
			      .unchangedsince = UINT64_MAX,
			      .keywords = {.v = &word, .n = keyword ? 1 : 0}};
	struct rpc_reply hold;

	box_op(&story.box, 1, 7, op, &hold);
	rpc_reply_release(&hold);
	acknowledged();
}

static void mailbox_do(enum mailbox_change what, const char *name, const char *to)
{
	box_change(&story.box, 1, 7, what, name, to);
	acknowledged();
}

static void on_loop(void *arg)
{
	store_engine_checkpoint(arg, NULL, NULL);
}

/* Begins one; what follows runs beside it. */
static void checkpoint(void)
{
	story.box.loop.post(story.box.loop.ctx, on_loop, story.box.engine);
}

static void tell_first(void)
{
	deliver(3000, 2);
	deliver(1000, 1);
	deliver(100000, 2);
	append("INBOX", 500, FLAG_SEEN, "Red");
	append("INBOX", 80000, 0, NULL);
	checkpoint();
	change(OP_FLAGS, "INBOX", NULL, 1, 2, FLAG_FLAGGED | FLAG_SEEN, "Blue");
	change(OP_COPY, "INBOX", "Archive", 1, 3, 0, NULL);
	change(OP_MOVE, "INBOX", "Trash", 2, 2, 0, NULL);
	mailbox_do(MAILBOX_CREATE, "Work/2024", "");
	append("Work/2024", 700, FLAG_DRAFT, NULL);
	append("Work/2024", 900, 0, "Red");
	checkpoint();
	mailbox_do(MAILBOX_RENAME, "Work", "Jobs");
	change(OP_EXPUNGE, "INBOX", NULL, 1, 1, 0, NULL);
	mailbox_do(MAILBOX_SUBSCRIBE, "Jobs/2024", "");
}

static void tell_second(void)
{
	for (unsigned i = 0; i < 9; i++)
		deliver(30000 + i * 1777, 1 + i % 2);
	change(OP_FLAGS, "INBOX", NULL, 4, 9, FLAG_DELETED, NULL);
	change(OP_EXPUNGE, "INBOX", NULL, 6, 7, 0, NULL);
	checkpoint();
	change(OP_MOVE, "Jobs/2024", "Archive", 1, 1, 0, NULL);
	change(OP_FLAGS, "Archive", NULL, 1, 9, FLAG_ANSWERED, "Green");
	mailbox_do(MAILBOX_DELETE, "Jobs/2024", "");
	mailbox_do(MAILBOX_CREATE, "Jobs/2024", "");
	append("Jobs/2024", 1200, 0, NULL);
	change(OP_EXPUNGE, "Archive", NULL, 1, 2, 0, NULL);
	mailbox_do(MAILBOX_RENAME, "INBOX", "Old");
	deliver(2000, 2);
}

static struct io_record *tell(void)
{
	char path[64];
	int root = testdir_make(path);
	struct io_record *r = record = io_record_new(root);

	memset(&story, 0, sizeof(story));
	/* The two directories are the administrator's and safe. */
	assert_int_equal(io_mkdir(root, "state", 0700), 0);
	assert_int_equal(io_mkdir(root, "mail", 0700), 0);
	assert_int_equal(io_syncfs(root), 0);
	service_open(&story.box, root, "the story");
	mailbox("INBOX");
	box_mailbox(&story.box, 1, 8, "INBOX");
	acknowledged();
	tell_first();
	box_stop(&story.box);
	service_start(&story.box, "the story");
	tell_second();
	service_close(&story.box);
	record = NULL;
	io_record_stop(r);
	close(root);
	testdir_remove(path);
	return r;
}

/* ---- what must hold ---- */

/* Everything that the index and the Maildirs hold, as one number. */
static int add_key(void *ctx, struct str key, struct str value)
{
	uint32_t *sum = ctx;

	*sum = crc32c(crc32c(*sum, key.ptr, key.len), value.ptr, value.len);
	return 0;
}

static uint64_t tree_sum;
static int add_file(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	uint32_t sum = crc32c(0, path, strlen(path));

	(void)ftw;
	if (flag == FTW_F) {
		char *bytes = mem_alloc((size_t)st->st_size + 1);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		sum = crc32c(sum, bytes, (size_t)(fd < 0 ? 0 : pread(fd, bytes, (size_t)st->st_size, 0)));
		close(fd);
		free(bytes);
	}
	tree_sum += sum; /* in any order */
	return 0;
}

static struct testloop loop;

/* Recovers with the engine alone, checks, and gives the sum. */
static void recover(int root, const char *path, bool checked, uint32_t *keys_r, uint64_t *files_r, const char *what)
{
	struct store_box b = {.state_fd = subdir(root, "state"), .mail_fd = subdir(root, "mail")};
	struct store_loop l = testloop_hook(&loop);
	struct store_engine *e;
	struct err err = ERR_NONE;
	char mail[100];

	if (open_small(&b, &l, &e, &err) < 0)
		fail_msg("%s: %s", what, err.text);
	if (store_engine_read_only(e))
		fail_msg("%s: recovery could not finish", what);
	for (int i = 0; i < ACCOUNTS && checked; i++)
		check_account(e, b.mail_fd, accounts[i], what);
	*keys_r = 0;
	assert_int_equal(store_engine_range(e, STR_NULL, STR_NULL, false, add_key, keys_r, NULL), 0);
	store_engine_close(&e);
	testloop_drain(&loop);
	tree_sum = 0;
	snprintf(mail, sizeof(mail), "%s/mail", path);
	nftw(mail, add_file, 16, FTW_PHYS);
	*files_r = tree_sum;
	close(b.state_fd);
	close(b.mail_fd);
}

static void show(const char *wanted, const char *have)
{
	struct str a = str_from(wanted), b = str_from(have), x = STR_NULL, y = STR_NULL;
	bool more, other;

	for (;;) {
		more = str_token(&a, "\n", &x);
		other = str_token(&b, "\n", &y);
		if (!more && !other)
			return;
		if (more != other || !str_eq(x, y))
			break;
	}
	print_error("wanted: %.*s\nhave:   %.*s\n", STR_ARG(more ? x : STR("-")), STR_ARG(other ? y : STR("-")));
}

static void compare(int root, unsigned acked, const char *what)
{
	struct store_box b;
	bool same = acked == 0;
	char *have;

	service_open(&b, root, what);
	have = acked ? dump(&b) : NULL;
	service_close(&b);
	for (unsigned k = acked; k <= acked + 1 && k <= story.count && !same; k++)
		same = strcmp(have, story.states[k]) == 0;
	if (!same) {
		show(story.states[acked], have);
		if (acked < story.count)
			show(story.states[acked + 1], have);
		fail_msg("%s: %u changes were acknowledged", what, acked);
	}
	free(have);
}

struct again {
	unsigned acked;
	const char *what;
};

static void check_image(void *ctx, struct io_record *r, size_t n, enum io_loss loss, uint64_t seed, const char *what)
{
	const struct again *again = ctx;
	struct err err = ERR_NONE;
	char path[64], both[300];
	int root = testdir_make(path);
	uint32_t keys[2];
	uint64_t files[2];

	snprintf(both, sizeof(both), "%s%s%s", again ? again->what : "", again ? ", then in its recovery " : "", what);
	if (io_record_image(r, n, loss, seed, root, &err) < 0)
		fail_msg("%s: %s", both, err.text);
	recover(root, path, true, &keys[0], &files[0], both);
	recover(root, path, false, &keys[1], &files[1], both);
	if (keys[0] != keys[1] || files[0] != files[1])
		fail_msg("%s: another start changed %s", both, keys[0] != keys[1] ? "keys" : "files");
	compare(root, again ? again->acked : (unsigned)io_record_marked(r, n), both);
	close(root);
	testdir_remove(path);
}

static void check_twice(void *ctx, struct io_record *r, size_t n, enum io_loss loss, uint64_t seed, const char *what)
{
	struct again again = {(unsigned)io_record_marked(r, n), what};
	struct err err = ERR_NONE;
	struct io_record *second;
	uint32_t keys;
	uint64_t files;
	char path[64];
	int root = testdir_make(path);

	(void)ctx;
	assert_int_equal(io_record_image(r, n, loss, seed, root, &err), 0);
	second = record = io_record_new(root);
	recover(root, path, false, &keys, &files, what);
	record = NULL;
	io_record_stop(second);
	powerloss_nested = true;
	powerloss_each(second, io_record_base(second), 5, check_image, &again);
	powerloss_nested = false;
	io_record_free(&second);
	close(root);
	testdir_remove(path);
}

static struct io_record *history;

static void a_power_loss_at_any_operation_shows_the_last_acknowledged_state(void **state)
{
	(void)state;
	powerloss_each(history, 0, 60, check_image, NULL);
}

static void a_power_loss_during_the_recovery_does_no_more_harm(void **state)
{
	(void)state;
	powerloss_each(history, 0, 6, check_twice, NULL);
}

static int begin(void **state)
{
	(void)state;
	testloop_init(&loop);
	history = tell();
	return 0;
}

static int end(void **state)
{
	(void)state;
	for (unsigned i = 0; i < STATES; i++)
		free(story.states[i]);
	io_record_free(&history);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_power_loss_at_any_operation_shows_the_last_acknowledged_state),
		cmocka_unit_test(a_power_loss_during_the_recovery_does_no_more_harm),
	};
	return cmocka_run_group_tests(tests, begin, end);
}
