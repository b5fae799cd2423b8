/* The queue as its peers see it, over real channels; restarts and kills are real too. */
#include "os/io.h"
#include "stand.h"
#include <dlfcn.h>
#include <errno.h>
#include <lmdb.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

/* ---- what stands before the index's own functions ---- */

static atomic_bool unsynced; /* a file of contents was written since the last sync */
static atomic_uint index_commits, index_ahead, cursors_refused;

int mdb_txn_commit(MDB_txn *txn)
{
	static int (*real)(MDB_txn * txn);

	if (!real)
		real = (int (*)(MDB_txn *))dlsym(RTLD_NEXT, "mdb_txn_commit");
	atomic_fetch_add(&index_ahead, atomic_load(&unsynced));
	atomic_fetch_add(&index_commits, 1);
	return real(txn);
}

int mdb_cursor_open(MDB_txn *txn, MDB_dbi dbi, MDB_cursor **cursor)
{
	static int (*real)(MDB_txn * txn, MDB_dbi dbi, MDB_cursor * *cursor);
	unsigned left = atomic_load(&cursors_refused);

	if (!real)
		real = (int (*)(MDB_txn *, MDB_dbi, MDB_cursor **))dlsym(RTLD_NEXT, "mdb_cursor_open");
	while (left > 0)
		if (atomic_compare_exchange_weak(&cursors_refused, &left, left - 1))
			return ENOMEM;
	return real(txn, dbi, cursor);
}

static void a_message_is_claimed_deferred_and_due_again(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("body\n");
	struct queue_rcpt_outcome o[2] = {{0, OUTCOME_DELIVERED, STR("2.0.0"), STR("ok")},
					  {1, OUTCOME_DEFERRED, STR("4.3.0"), STR("later")}};
	struct queue_claimed got;
	int64_t before;
	char id[64];

	commit(f, &m, id);
	assert_int_equal(claim(f->c, f, 5000, &got), 1);
	assert_true(str_eq(got.messages.v[0].id, str_from(id)));
	assert_true(str_eq(got.messages.v[0].body, STR("body\n")));
	assert_true(str_eq(got.messages.v[0].prefix, STR("Received: x\n")));
	assert_int_equal(got.messages.v[0].rcpts.n, 2);
	assert_int_equal(got.messages.v[0].rcpts.v[0].account, 7);
	assert_int_equal(claim(f->c, f, 0, &got), 0);
	before = clock_wall();
	assert_int_equal(result(f, id, o, 2, NULL, 0), 0);
	assert_int_equal(claim(f->c, f, 60000, &got), 1);
	assert_true(clock_wall() > before);
	assert_int_equal(got.messages.v[0].rcpts.n, 1);
	assert_int_equal(got.messages.v[0].rcpts.v[0].index, 1);
	assert_int_equal(got.messages.v[0].rcpts.v[0].attempts, 1);
	assert_true(str_eq(got.messages.v[0].rcpts.v[0].last_text, STR("later")));
	o[1].outcome = OUTCOME_DELIVERED;
	assert_int_equal(result(f, id, o, 2, NULL, 0), 0);
	assert_int_equal(result(f, id, o, 2, NULL, 0), -ERR_NOT_FOUND);
}

static void a_claim_comes_back_when_its_peer_goes(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("body\n");
	struct rpc_channel *other = connect_as(f, PROCESS_RELAY);
	struct queue_claimed got;
	char id[64];

	commit(f, &m, id);
	assert_int_equal(claim(other, f, 5000, &got), 1);
	assert_int_equal(claim(f->c, f, 0, &got), 0);
	rpc_channel_free(&other);
	assert_int_equal(claim(f->c, f, 10000, &got), 1);
}

/* Its answer was lost with the queue that took it. */
static void a_result_that_comes_again_counts_once(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("body\n");
	struct queue_rcpt_outcome o[2] = {{0, OUTCOME_FAILED, STR("5.0.0"), STR("never")},
					  {1, OUTCOME_DEFERRED, STR("4.3.0"), STR("later")}};
	struct queue_told told = {.address = STR("bob@example.test"), .outcome = OUTCOME_FAILED};
	struct queue_result r = {.outcomes = {.v = o, .n = 2}, .told = {.v = &told, .n = 1}};
	struct queue_claimed got;
	struct queue_ended ended;
	struct queue_listed l;
	char id[64];

	commit(f, &m, id);
	assert_int_equal(claim(f->c, f, 5000, &got), 1);
	r.id = str_from(id);
	r.attempt = got.infos.v[0].attempts + 1;
	assert_int_equal(call(f->c, f, &QUEUE_RESULT, &r, &ended), 0);
	assert_int_equal(call(f->c, f, &QUEUE_RESULT, &r, &ended), 0);
	assert_int_equal(listed(f, "", &l), 1);
	assert_int_equal(l.messages.v[0].rcpts.n, 1);
	assert_int_equal(l.messages.v[0].rcpts.v[0].attempts, 1);
	/* The rest is done with; what is left is the report of one failure, of a message that had one part. */
	r.told.n = 0;
	o[1].outcome = OUTCOME_DELIVERED;
	r.attempt = 2;
	assert_int_equal(call(f->c, f, &QUEUE_RESULT, &r, &ended), 0);
	assert_false(ended.ended);
	stop(f);
	start(f);
	assert_int_equal(claim(f->c, f, 60000, &got), 1);
	assert_int_equal(got.infos.v[0].part, QUEUE_PART_REPORT);
	assert_int_equal(got.infos.v[0].told.n, 1);
	assert_int_equal(got.infos.v[0].nrcpt, 2);
}

/* LMTP: one of two was answered, and then everybody dies. */
static void progress_outlives_who_made_it(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("body\n");
	struct queue_rcpt_outcome o[2] = {{0, OUTCOME_DELIVERED, STR("2.0.0"), STR("ok")},
					  {1, OUTCOME_DELIVERED, STR("2.0.0"), STR("ok")}};
	struct queue_told told = {.address = STR("bob@example.test"), .outcome = OUTCOME_DELIVERED};
	struct queue_result r = {.outcomes = {.v = o, .n = 1}, .told = {.v = &told, .n = 1}};
	struct rpc_channel *other = connect_as(f, PROCESS_RELAY);
	struct queue_claimed got;
	struct queue_ended ended;
	char id[64];

	commit(f, &m, id);
	assert_int_equal(claim(other, f, 5000, &got), 1);
	r.id = str_from(id);
	r.attempt = got.infos.v[0].attempts + 1;
	assert_int_equal(call(f->c, f, &QUEUE_PROGRESS, &r, &ended), -ERR_DENIED);
	assert_int_equal(call(other, f, &QUEUE_PROGRESS, &r, &ended), 0);
	assert_false(ended.ended);
	assert_int_equal(call(other, f, &QUEUE_PROGRESS, &r, &ended), 0);
	/* It stays claimed; the last of them is a result. */
	assert_int_equal(claim(f->c, f, 0, &got), 0);
	r.outcomes.n = 2;
	assert_int_equal(call(other, f, &QUEUE_PROGRESS, &r, &ended), -ERR_SYNTAX);
	rpc_channel_free(&other);
	stop(f);
	start(f);
	assert_int_equal(claim(f->c, f, 10000, &got), 1);
	assert_int_equal(got.messages.v[0].rcpts.n, 1);
	assert_int_equal(got.messages.v[0].rcpts.v[0].index, 1);
	assert_int_equal(got.messages.v[0].rcpts.v[0].attempts, 0);
	assert_false(got.infos.v[0].alone);
	assert_int_equal(result(f, id, o, 2, NULL, 0), 0);
	/* What was to be told of the first is a report, once. */
	assert_int_equal(claim(f->c, f, 60000, &got), 1);
	assert_int_equal(got.infos.v[0].part, QUEUE_PART_REPORT);
	assert_int_equal(got.infos.v[0].told.n, 1);
	assert_true(str_eq(got.infos.v[0].told.v[0].address, STR("bob@example.test")));
}

/* As nearly always: nothing is to be told, and the message ends with its result. */
static void after_progress_a_result_ends_the_message(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("body\n");
	struct queue_rcpt_outcome o[2] = {{0, OUTCOME_DELIVERED, STR("2.0.0"), STR("ok")},
					  {1, OUTCOME_DELIVERED, STR("2.0.0"), STR("ok")}};
	struct queue_result r = {.outcomes = {.v = o, .n = 1}};
	struct queue_claimed got;
	struct queue_ended ended;
	struct queue_listed l;
	char id[64];

	commit(f, &m, id);
	assert_int_equal(claim(f->c, f, 5000, &got), 1);
	r.id = str_from(id);
	assert_int_equal(call(f->c, f, &QUEUE_PROGRESS, &r, &ended), 0);
	assert_int_equal(listed(f, "", &l), 1);
	assert_int_equal(l.messages.v[0].rcpts.n, 1);
	r.outcomes.n = 2;
	assert_int_equal(call(f->c, f, &QUEUE_RESULT, &r, &ended), 0);
	assert_true(ended.ended);
	assert_int_equal(call(f->c, f, &QUEUE_PROGRESS, &r, &ended), -ERR_NOT_FOUND);
}

static void a_refused_result_leaves_the_part_with_who_claimed_it(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("body\n"), bounce = message("report\n");
	struct queue_rcpt_outcome o[2] = {{0, OUTCOME_DELIVERED, STR("2.0.0"), STR("ok")},
					  {1, OUTCOME_FAILED, STR("5.0.0"), STR("never")}};
	struct rpc_channel *other = connect_as(f, PROCESS_RELAY);
	struct queue_give_back back = {0};
	struct queue_claimed got;
	char id[64];

	commit(f, &m, id);
	assert_int_equal(claim(f->c, f, 5000, &got), 1);
	bounce.delivery_id = STR("");
	assert_int_equal(result(f, id, o, 2, &bounce, 1), -ERR_PERM);
	assert_int_equal(claim(other, f, 0, &got), 0);
	assert_int_equal(result(f, id, o, 1, NULL, 0), 0);
	assert_int_equal(claim(other, f, 5000, &got), 1);
	assert_int_equal(got.messages.v[0].rcpts.n, 1);
	/* Or it is given back. */
	o[0] = o[1];
	back.id = str_from(id);
	bounce.sender = STR_NULL;
	struct queue_result r = {.id = str_from(id), .outcomes = {.v = o, .n = 1}, .bounces = {.v = &bounce, .n = 1}};
	struct queue_ended ended;

	assert_int_equal(call(other, f, &QUEUE_RESULT, &r, &ended), -ERR_PERM);
	assert_int_equal(claim(f->c, f, 0, &got), 0);
	assert_int_equal(rpc_send(other, &QUEUE_GIVE_BACK, &back), 0);
	assert_int_equal(claim(f->c, f, 10000, &got), 1);
	rpc_channel_free(&other);
}

static void everything_survives_a_restart_and_moves_to_files(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("kept\n");
	struct queue_claimed got;
	struct queue_listed l;
	char first[64], second[64];

	commit(f, &m, first);
	m = message("kept\n");
	commit(f, &m, second);
	assert_true(strcmp(first, second) < 0);
	stop(f);
	assert_int_equal(files(f), 2);
	start(f);
	assert_int_equal(listed(f, "", &l), 2);
	assert_true(str_eq(l.messages.v[0].id, str_from(first)));
	assert_int_equal(listed(f, first, &l), 1);
	assert_int_equal(claim(f->c, f, 5000, &got), 2);
	assert_true(str_eq(got.messages.v[0].body, STR("kept\n")));
}

/* ---- a checkpoint that fails half way ---- */

static char refused_file[64];
static atomic_uint refusals;

static int refuse_file(void *ctx, const struct io_event *event)
{
	(void)ctx;
	if (event->op != IO_OPEN || strcmp(event->path, refused_file) != 0 || !(event->flags & O_CREAT))
		return 0;
	atomic_fetch_add(&refusals, 1);
	return ENOSPC;
}

static void see_file(void *ctx, const struct io_event *event)
{
	(void)ctx;
	if (event->op == IO_OPEN && (event->flags & O_CREAT) && strchr(event->path, 'z'))
		atomic_store(&unsynced, true);
	if (event->op == IO_SYNCFS)
		atomic_store(&unsynced, false);
}

static void what_a_failed_checkpoint_has_written_the_next_one_syncs(void **state)
{
	static const struct io_hook hook = {.before = refuse_file, .after = see_file};
	struct fixture *f = *state;
	struct queue_message written = message("this is written\n"), refused = message("this is not, and ends\n");
	struct queue_act act = {.action = QUEUE_DELETE};
	struct queue_acted acted;
	unsigned before;
	char id[64];

	commit(f, &written, id);
	commit(f, &refused, refused_file);
	io_set_hook(&hook);
	while (atomic_load(&refusals) == 0) /* the checkpoint comes when it is quiet */
		usleep(1000);
	assert_true(atomic_load(&unsynced));
	before = atomic_load(&index_commits);
	act.id = str_from(refused_file);
	assert_int_equal(call(f->admin, f, &QUEUE_ACT, &act, &acted), 0);
	assert_int_equal(acted.count, 1);
	while (atomic_load(&index_commits) == before)
		usleep(1000);
	assert_int_equal(atomic_load(&index_ahead), 0);
	io_set_hook(NULL);
}

static void a_schedule_that_cannot_be_read_once_is_read_again(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("body\n");
	struct queue_claimed got;
	char id[64];

	commit(f, &m, id);
	atomic_store(&cursors_refused, 1);
	assert_int_equal(claim(f->c, f, 60000, &got), 1);
	assert_int_equal(atomic_load(&cursors_refused), 0);
	assert_true(str_eq(got.messages.v[0].id, str_from(id)));
}

static void a_message_whose_file_cannot_be_read_keeps_no_other(void **state)
{
	struct fixture *f = *state;
	struct queue_message first = message("the first\n"), second = message("the second\n");
	struct queue_claimed got;
	struct queue_listed l;
	char ids[2][64], path[96];

	commit(f, &first, ids[0]);
	commit(f, &second, ids[1]);
	stop(f); /* its last checkpoint makes files of them */
	start(f);
	snprintf(path, sizeof(path), "msgs/%s", ids[0]);
	assert_int_equal(renameat(f->dir, path, f->dir, "elsewhere"), 0);
	assert_int_equal(claim(f->c, f, 20000, &got), 1);
	assert_true(str_eq(got.messages.v[0].id, str_from(ids[1])));
	assert_true(str_eq(got.messages.v[0].body, STR("the second\n")));
	assert_int_equal(got.infos.n, 1);
	assert_int_equal(got.fingerprints.n, 1);
	assert_int_equal(listed(f, "", &l), 2);
	assert_int_equal(renameat(f->dir, "elsewhere", f->dir, path), 0);
	assert_int_equal(claim(f->c, f, 60000, &got), 1); /* it is looked for again */
	assert_true(str_eq(got.messages.v[0].id, str_from(ids[0])));
	assert_true(str_eq(got.messages.v[0].body, STR("the first\n")));
}

static void a_lost_index_is_rebuilt_from_the_files(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("kept\n");
	struct queue_claimed got;
	struct queue_listed l;
	char id[64];

	commit(f, &m, id);
	stop(f);
	assert_int_equal(unlinkat(f->dir, "index.mdb", 0), 0);
	start(f);
	assert_int_equal(listed(f, "", &l), 1);
	assert_int_equal(claim(f->c, f, 5000, &got), 1);
	assert_true(str_eq(got.messages.v[0].id, str_from(id)));
	assert_true(str_eq(got.messages.v[0].body, STR("kept\n")));
}

/* What came to be held says so in its file; that it was released must be known without an index, too. */
static void append_zero(struct fixture *f, const char *id)
{
	char name[128];
	int fd;

	snprintf(name, sizeof(name), "msgs/%s", id);
	fd = openat(f->dir, name, O_WRONLY | O_APPEND);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "", 1), 1);
	close(fd);
}

static void what_was_released_stays_so_when_the_index_is_lost(void **state)
{
	struct fixture *f = *state;
	struct queue_act release = {.action = QUEUE_RELEASE};
	struct queue_claimed got;
	struct queue_acted acted;
	char ids[3][64];

	for (size_t i = 0; i < 3; i++) {
		struct queue_message m = message("held\n");

		m.marks = MARK_HOLD;
		commit(f, &m, ids[i]);
	}
	/* One before it is in a file, one after. */
	for (size_t i = 0; i < 2; i++) {
		release.id = str_from(ids[i]);
		assert_int_equal(call(f->admin, f, &QUEUE_ACT, &release, &acted), 0);
		assert_int_equal(acted.count, 1);
		stop(f);
		start(f);
	}
	stop(f);
	/* Of a mark that the power took before it was safe only the length may have come. */
	append_zero(f, ids[2]);
	assert_int_equal(unlinkat(f->dir, "index.mdb", 0), 0);
	start(f);
	assert_int_equal(claim(f->c, f, 5000, &got), 2);
	for (size_t i = 0; i < 2; i++) {
		assert_true(str_eq(got.messages.v[i].id, str_from(ids[i])));
		assert_true(str_eq(got.messages.v[i].body, STR("held\n")));
	}
	assert_int_equal(claim(f->c, f, 0, &got), 0);
	assert_int_equal(files(f), 3);
	release.id = str_from(ids[2]);
	assert_int_equal(call(f->admin, f, &QUEUE_ACT, &release, &acted), 0);
	assert_int_equal(acted.count, 1);
	assert_int_equal(claim(f->c, f, 5000, &got), 1);
	assert_true(str_eq(got.messages.v[0].body, STR("held\n")));
}

/* The journal tells of what was done by hand, and is all that does: not of a half of the message. */
static void what_was_expired_is_whole_when_the_index_is_lost(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("kept\n");
	struct queue_rcpt rcpts[2] = {{.index = 0, .address = STR("x@far.test"), .original = STR("x@far.test")},
				      {.index = 1, .address = STR("y@near.test"), .original = STR("y@near.test")}};
	struct queue_act expire = {.action = QUEUE_EXPIRE};
	struct queue_claimed got;
	struct queue_acted acted;
	char id[64];

	m.rcpts.v = rcpts;
	commit(f, &m, id);
	stop(f);
	start(f);
	expire.id = str_from(id);
	assert_int_equal(call(f->admin, f, &QUEUE_ACT, &expire, &acted), 0);
	assert_int_equal(acted.count, 1);
	stop(f);
	assert_int_equal(unlinkat(f->dir, "index.mdb", 0), 0);
	start(f);
	assert_int_equal(claim(f->c, f, 5000, &got), 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(got.messages.v[i].rcpts.n, 1);
		assert_true(got.messages.v[i].marks & MARK_EXPIRED);
	}
}

static void a_failure_and_its_bounce_are_one_commit(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("body\n"), bounce = message("bounce\n"), bad = message("bad\n");
	struct queue_rcpt_outcome o[2] = {{0, OUTCOME_FAILED, STR("5.1.1"), STR("no")},
					  {1, OUTCOME_FAILED, STR("5.1.1"), STR("no")}};
	struct queue_claimed got;
	struct queue_listed l;
	char id[64];

	commit(f, &m, id);
	assert_int_equal(claim(f->c, f, 5000, &got), 1);
	bad.delivery_id = STR("short");
	assert_true(result(f, id, o, 2, &bad, 1) < 0);
	assert_int_equal(listed(f, "", &l), 1);
	assert_true(str_eq(l.messages.v[0].id, str_from(id)));
	bounce.sender = STR("");
	bounce.rcpts.n = 1;
	assert_int_equal(result(f, id, o, 2, &bounce, 1), 0);
	stop(f);
	start(f);
	assert_int_equal(listed(f, "", &l), 1);
	assert_true(str_eq(l.messages.v[0].sender, STR("")));
	assert_int_equal(claim(f->c, f, 5000, &got), 1);
	assert_true(str_eq(got.messages.v[0].body, STR("bounce\n")));
	assert_int_equal(files(f), 1);
}

/* The answer was lost with the process: the caller asks the next one the same. */
static void a_request_that_comes_again_is_done_once(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("body\n"), bounce = message("bounce\n");
	struct queue_rcpt_outcome o[2] = {{0, OUTCOME_FAILED, STR("5.1.1"), STR("no")},
					  {1, OUTCOME_DEFERRED, STR("4.2.2"), STR("full")}};
	struct queue_rcpt_outcome rest = {1, OUTCOME_DELIVERED, STR("2.0.0"), STR("ok")};
	struct queue_claimed got;
	struct queue_listed l;
	char id[64], again[64];

	bounce.sender = STR("");
	bounce.rcpts.n = 1;
	commit(f, &m, id);
	stop(f);
	start(f);
	commit(f, &m, again);
	assert_string_equal(id, again);
	assert_int_equal(listed(f, "", &l), 1);
	assert_int_equal(claim(f->c, f, 5000, &got), 1);
	assert_int_equal(result(f, id, o, 2, &bounce, 1), 0);
	stop(f);
	start(f);
	assert_int_equal(result(f, id, o, 2, &bounce, 1), 0);
	assert_int_equal(listed(f, "", &l), 2);
	/* Even when the message has come and gone meanwhile. */
	assert_int_equal(result(f, id, &rest, 1, NULL, 0), 0);
	commit(f, &m, again);
	assert_string_equal(id, again);
	stop(f);
	start(f);
	commit(f, &m, again);
	assert_string_equal(id, again);
	assert_int_equal(listed(f, "", &l), 1);
}

static void a_large_body_goes_through_a_blob_and_comes_back_as_a_descriptor(void **state)
{
	struct fixture *f = *state;
	size_t len = 300000;
	char *bytes = mem_alloc(len), *back = mem_alloc(len);
	struct queue_blob_begin b = {.size_hint = len};
	struct queue_message m = message("");
	struct queue_blob blob;
	struct queue_blob_finish fin;
	struct queue_claimed got;
	struct queue_ok ok;
	char id[64];

	random_bytes(bytes, len);
	assert_int_equal(call(f->c, f, &QUEUE_BLOB_BEGIN, &b, &blob), 0);
	assert_int_equal(write(blob.fd, bytes, len), len);
	close(blob.fd);
	m.blob = blob.blob;
	fin = (struct queue_blob_finish){blob.blob, len, crc32c(0, bytes, len)};
	assert_int_equal(call(f->c, f, &QUEUE_BLOB_FINISH, &fin, &ok), 0);
	commit(f, &m, id);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(claim(f->c, f, 5000, &got), 1);
		assert_int_equal(got.messages.v[0].size, len);
		assert_int_equal(got.messages.v[0].body.len, 0);
		assert_int_equal(pread(got.messages.v[0].body_fd, back, len, 0), len);
		assert_memory_equal(bytes, back, len);
		close(got.messages.v[0].body_fd);
		stop(f);
		start(f);
	}
	free(bytes);
	free(back);
}

static void an_administrator_flushes_and_deletes(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("body\n");
	struct queue_rcpt_outcome o = {0, OUTCOME_DEFERRED, STR("4.3.0"), STR("later")};
	struct queue_act act = {.action = QUEUE_FLUSH};
	struct queue_acted acted;
	struct queue_claimed got;
	struct queue_listed l;
	char id[64];

	f->p.minimal_backoff_time = 100000;
	stop(f);
	start(f);
	commit(f, &m, id);
	assert_int_equal(claim(f->c, f, 5000, &got), 1);
	assert_int_equal(result(f, id, &o, 1, NULL, 0), 0);
	assert_int_equal(claim(f->c, f, 0, &got), 0);
	assert_int_equal(call(f->admin, f, &QUEUE_ACT, &act, &acted), 0);
	assert_int_equal(acted.count, 1);
	assert_int_equal(claim(f->c, f, 5000, &got), 1);
	act = (struct queue_act){QUEUE_DELETE, str_from(id)};
	assert_int_equal(call(f->admin, f, &QUEUE_ACT, &act, &acted), 0);
	assert_int_equal(listed(f, "", &l), 0);
	assert_int_equal(call(f->admin, f, &QUEUE_ACT, &act, &acted), -ERR_NOT_FOUND);
}

/* More than the queue does in one step. */
static void all_are_deleted_in_one_pass(void **state)
{
	enum { MANY = 520 };
	struct fixture *f = *state;
	struct queue_message m = message("body\n");
	struct queue_act act = {.action = QUEUE_DELETE, .until = 1};
	struct queue_acted acted;
	struct queue_listed l;
	char first[64], id[64];
	uint64_t count = 0;

	commit(f, &m, first);
	for (unsigned i = 1; i < MANY; i++) {
		m = message("body\n");
		commit(f, &m, id);
	}
	/* What came later was not meant, and neither is what stands before. */
	assert_int_equal(call(f->admin, f, &QUEUE_ACT, &act, &acted), 0);
	assert_int_equal(acted.count, 0);
	act = (struct queue_act){.action = QUEUE_DELETE, .after = str_from(first)};
	do { /* one request, unless that takes so long that somebody wants to see how far it is */
		assert_int_equal(call(f->admin, f, &QUEUE_ACT, &act, &acted), 0);
		count += acted.count;
		snprintf(id, sizeof(id), "%.*s", STR_ARG(acted.next));
		act.after = str_from(id);
	} while (acted.next.len);
	assert_int_equal(count, MANY - 1);
	assert_int_equal(listed(f, "", &l), 1);
	assert_true(str_eq(l.messages.v[0].id, str_from(first)));
	/* They are gone for good. */
	stop(f);
	start(f);
	assert_int_equal(listed(f, "", &l), 1);
}

static void nonsense_is_refused(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("x");
	struct queue_id id;

	m.rcpts.n = 0;
	assert_true(call(f->c, f, &QUEUE_COMMIT, &(struct queue_commit){.message = m}, &id) < 0);
	m = message("x");
	m.body = STR_NULL;
	m.blob = 99;
	assert_int_equal(call(f->c, f, &QUEUE_COMMIT, &(struct queue_commit){.message = m}, &id), -ERR_TEMP);
	assert_true(result(f, "../etc", NULL, 0, NULL, 0) < 0);
}

static uint64_t act(struct fixture *f, enum queue_action action, const char *id)
{
	struct queue_act ask = {.action = (uint8_t)action, .id = str_from(id)};
	struct queue_acted acted;

	assert_int_equal(call(f->admin, f, &QUEUE_ACT, &ask, &acted), 0);
	return acted.count;
}

static uint64_t due_of(struct fixture *f)
{
	struct queue_listed l;

	assert_int_equal(listed(f, "", &l), 1);
	return l.states.v[0].due;
}

/* RFC 4865: far beyond any pause, which is what a clock that was set back looks like. */
static void what_is_to_be_sent_later_waits(void **state)
{
	struct fixture *f = *state;
	uint64_t until = (uint64_t)clock_wall() + 30 * 86400;
	struct queue_message m = message("body\n");
	struct queue_claimed got;
	struct queue_listed l;
	char id[64];

	m.hold_until = until;
	m.hold_request = STR("for;2592000");
	commit(f, &m, id);
	assert_int_equal(claim(f->c, f, 0, &got), 0);
	assert_int_equal(due_of(f), until);
	act(f, QUEUE_FLUSH, id);
	act(f, QUEUE_REQUEUE, id);
	assert_int_equal(due_of(f), until);
	/* The administrator's hold is another; without it the sender's is as it was. */
	act(f, QUEUE_HOLD, id);
	assert_true(due_of(f) >= QUEUE_HELD);
	act(f, QUEUE_RELEASE, id);
	assert_int_equal(due_of(f), until);
	for (int lost = 0; lost < 2; lost++) {
		stop(f);
		if (lost)
			assert_int_equal(unlinkat(f->dir, "index.mdb", 0), 0);
		start(f);
		assert_int_equal(claim(f->c, f, 0, &got), 0);
		assert_int_equal(due_of(f), until);
		assert_int_equal(listed(f, "", &l), 1);
		assert_int_equal(l.messages.v[0].hold_until, until);
		assert_true(str_eq(l.messages.v[0].hold_request, STR("for;2592000")));
	}
	act(f, QUEUE_RELEASE, id);
	assert_int_equal(claim(f->c, f, 10000, &got), 1);
	assert_true(got.messages.v[0].hold_until <= (uint64_t)clock_wall());
	assert_true(str_eq(got.messages.v[0].body, STR("body\n")));
}

static void what_is_to_be_sent_later_goes_when_it_is_time(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("later\n");
	struct queue_rcpt_outcome o[2] = {{0, OUTCOME_DEFERRED, STR("4.3.0"), STR("later")},
					  {1, OUTCOME_DEFERRED, STR("4.3.0"), STR("later")}};
	struct queue_claimed got;
	char id[64];

	m.hold_until = (uint64_t)clock_wall() + 2;
	commit(f, &m, id);
	assert_int_equal(claim(f->c, f, 20000, &got), 1);
	assert_true(str_eq(got.messages.v[0].body, STR("later\n")));
	assert_true((uint64_t)clock_wall() >= m.hold_until);
	/* From then on it is as any other: it comes back after the shortest pause. */
	assert_int_equal(result(f, id, o, 2, NULL, 0), 0);
	assert_int_equal(claim(f->c, f, 20000, &got), 1);
	assert_true(str_eq(got.messages.v[0].id, str_from(id)));
}

/* RFC 2852 4.1.3: when the time is over somebody must look. */
static void a_message_is_due_when_its_time_is_over(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("body\n");
	struct queue_rcpt_outcome o[2] = {{0, OUTCOME_DEFERRED, STR("4.3.0"), STR("later")},
					  {1, OUTCOME_DEFERRED, STR("4.3.0"), STR("later")}};
	struct queue_claimed got;
	char id[64];

	f->p.minimal_backoff_time = 100000;
	stop(f);
	start(f);
	m.by_mode = BY_RETURN | BY_TRACE;
	m.by_time = (uint64_t)clock_wall() + 50;
	commit(f, &m, id);
	assert_int_equal(claim(f->c, f, 5000, &got), 1);
	assert_int_equal(got.messages.v[0].by_time, m.by_time);
	assert_int_equal(got.messages.v[0].by_mode, BY_RETURN | BY_TRACE);
	assert_int_equal(result(f, id, o, 2, NULL, 0), 0);
	assert_int_equal(due_of(f), m.by_time);
}

/* RFC 1985: what waits there, and nothing else; not again and again. */
static void etrn_flushes_one_destination_once(void **state)
{
	static struct queue_rcpt far[2] = {
		{.index = 0, .address = {"x@far.test", 10}, .original = {"x@far.test", 10}},
		{.index = 1, .address = {"y@other.test", 12}, .original = {"y@other.test", 12}},
	};
	struct fixture *f = *state;
	struct rpc_channel *smtpd;
	struct queue_message m = message("body\n"), later = message("later\n");
	struct queue_etrn ask = {.destination = STR("Far.Test")};
	struct queue_rcpt_outcome o[2] = {{0, OUTCOME_DEFERRED, STR("4.3.0"), STR("later")},
					  {1, OUTCOME_DEFERRED, STR("4.3.0"), STR("later")}};
	struct queue_claimed got;
	struct queue_acted acted;
	char id[64];

	f->p.minimal_backoff_time = 300000;
	stop(f);
	start(f);
	smtpd = connect_as(f, PROCESS_SMTPD);
	m.rcpts.v = later.rcpts.v = far;
	later.hold_until = (uint64_t)clock_wall() + 86400;
	commit(f, &m, id);
	commit(f, &later, id);
	for (int tries = 0; tries < 2; tries++) {
		size_t want = tries == 0 ? 2 : 1;

		for (size_t done = 0; done < want; done++) {
			struct queue_result r = {.outcomes = {o, 2}};
			struct queue_claim one = {.max = 1, .wait_ms = 10000};
			struct queue_ended ended;
			char which[64];

			assert_int_equal(call(f->c, f, &QUEUE_CLAIM, &one, &got), 0);
			assert_int_equal(got.messages.n, 1);
			assert_true(tries == 0 || str_eq(got.messages.v[0].rcpts.v[0].address, STR("x@far.test")));
			snprintf(which, sizeof(which), "%.*s", STR_ARG(got.messages.v[0].id));
			r.id = str_from(which);
			r.part = got.infos.v[0].part;
			r.attempt = got.infos.v[0].attempts + 1;
			assert_int_equal(call(f->c, f, &QUEUE_RESULT, &r, &ended), 0);
		}
		assert_int_equal(claim(f->c, f, 0, &got), 0);
		assert_int_equal(call(smtpd, f, &QUEUE_ETRN, &ask, &acted), 0);
		assert_int_equal(acted.count, 2); /* it tells of those that wait, whatever it does */
	}
	assert_int_equal(claim(f->c, f, 0, &got), 0);
	ask.destination = STR("nowhere.test");
	assert_int_equal(call(smtpd, f, &QUEUE_ETRN, &ask, &acted), 0);
	assert_int_equal(acted.count, 0);
	rpc_channel_free(&smtpd);
}

/* A front end that was taken over must not read, report or delete what others queued. */
static void each_process_may_ask_only_what_its_work_takes(void **state)
{
	struct fixture *f = *state;
	struct rpc_channel *smtpd = connect_as(f, PROCESS_SMTPD), *access = connect_as(f, PROCESS_ACCESS);
	struct queue_message m = message("x\n");
	struct queue_claim claim_all = {.max = 10};
	struct queue_list list = {.max = 10};
	struct queue_act act = {.action = QUEUE_DELETE};
	struct queue_blob_begin begin = {.size_hint = 1};
	struct queue_result report = {.id = STR("x")};
	struct queue_claimed claimed;
	struct queue_listed l;
	struct queue_acted acted;
	struct queue_blob blob;
	struct queue_id id;
	struct queue_ok ok;

	assert_int_equal(call(smtpd, f, &QUEUE_COMMIT, &(struct queue_commit){.message = m}, &id), 0);
	assert_int_equal(call(smtpd, f, &QUEUE_CLAIM, &claim_all, &claimed), -ERR_DENIED);
	assert_int_equal(call(smtpd, f, &QUEUE_RESULT, &report, &ok), -ERR_DENIED);
	assert_int_equal(call(smtpd, f, &QUEUE_PROGRESS, &report, &ok), -ERR_DENIED);
	assert_int_equal(call(smtpd, f, &QUEUE_LIST, &list, &l), -ERR_DENIED);
	assert_int_equal(call(smtpd, f, &QUEUE_ACT, &act, &acted), -ERR_DENIED);
	assert_int_equal(call(f->c, f, &QUEUE_ACT, &act, &acted), -ERR_DENIED);
	assert_int_equal(call(f->c, f, &QUEUE_LIST, &list, &l), -ERR_DENIED);
	assert_int_equal(call(f->admin, f, &QUEUE_CLAIM, &claim_all, &claimed), -ERR_DENIED);
	assert_int_equal(call(access, f, &QUEUE_COMMIT, &(struct queue_commit){.message = m}, &id), -ERR_DENIED);
	assert_int_equal(call(access, f, &QUEUE_BLOB_BEGIN, &begin, &blob), -ERR_DENIED);
	assert_int_equal(listed(f, "", &l), 1);
	rpc_channel_free(&smtpd);
	rpc_channel_free(&access);
}

static uint64_t finished_blob(struct fixture *f, struct rpc_channel *c, const char *text)
{
	struct queue_blob_begin begin = {.size_hint = strlen(text)};
	struct queue_blob blob;
	struct queue_blob_finish finish;
	struct queue_ok ok;

	assert_int_equal(call(c, f, &QUEUE_BLOB_BEGIN, &begin, &blob), 0);
	assert_int_equal(write(blob.fd, text, strlen(text)), strlen(text));
	finish = (struct queue_blob_finish){blob.blob, strlen(text), crc32c(0, text, strlen(text))};
	close(blob.fd);
	assert_int_equal(call(c, f, &QUEUE_BLOB_FINISH, &finish, &ok), 0);
	return finish.blob;
}

static size_t files_in_spool(struct fixture *f)
{
	int fd = openat(f->dir, "spool", O_RDONLY | O_DIRECTORY);
	DIR *d = fdopendir(fd);
	size_t n = 0;

	for (struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void a_blob_is_its_peers_and_goes_with_it(void **state)
{
	struct fixture *f = *state;
	struct rpc_channel *smtpd = connect_as(f, PROCESS_SMTPD), *other = connect_as(f, PROCESS_SMTPD);
	uint64_t blob = finished_blob(f, smtpd, "secret\n");
	struct queue_message m = message(""), twice[2];
	struct queue_rcpt_outcome o = {.index = 0, .outcome = OUTCOME_FAILED};
	struct queue_id id;
	char first[64];

	m.body = STR_NULL;
	m.blob = blob;
	assert_int_equal(call(other, f, &QUEUE_COMMIT, &(struct queue_commit){.message = m}, &id), -ERR_TEMP);
	rpc_channel_free(&smtpd);
	while (files_in_spool(f) > 0)
		assert_true(call(other, f, &QUEUE_COMMIT, &(struct queue_commit){.message = m}, &id) < 0);
	/* One blob for two messages: the queue refuses, and goes on. */
	m = message("x\n");
	commit(f, &m, first);
	twice[0] = twice[1] = message("");
	twice[0].body = twice[1].body = STR_NULL;
	twice[1].delivery_id = STR("0123456789abcdef");
	twice[0].blob = twice[1].blob = finished_blob(f, f->c, "bounce\n");
	assert_int_equal(result(f, first, &o, 1, twice, 2), -ERR_TEMP);
	assert_int_equal(result(f, first, &o, 1, twice, 1), 0);
	rpc_channel_free(&other);
}

/* A child commits as fast as it can and tells each id through a pipe; it is killed in the middle. */
static void what_was_acknowledged_is_there_after_a_kill(void **state)
{
	struct fixture *f = *state;

	for (unsigned round = 0; round < 4; round++) {
		struct queue_listed l;
		VEC(struct { char id[64]; }) acked = {0};
		int p[2], status;
		char id[64];
		pid_t pid;

		stop(f);
		assert_int_equal(pipe(p), 0);
		pid = fork();
		if (pid == 0) {
			start(f);
			for (;;) {
				struct queue_message m = message("killed\n");
				memset(id, 0, sizeof(id));
				commit(f, &m, id);
				if (write(p[1], id, sizeof(id)) != sizeof(id))
					_exit(1);
			}
		}
		close(p[1]);
		while (acked.n < 30 + round * 17 && read(p[0], id, sizeof(id)) == sizeof(id)) {
			vec_reserve(&acked, acked.n + 1);
			memcpy(acked.v[acked.n++].id, id, sizeof(id));
		}
		kill(pid, SIGKILL);
		while (read(p[0], id, sizeof(id)) == sizeof(id)) {
			vec_reserve(&acked, acked.n + 1);
			memcpy(acked.v[acked.n++].id, id, sizeof(id));
		}
		close(p[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		start(f);
		for (size_t i = 0; i < acked.n; i++) {
			char before[64];
			memcpy(before, acked.v[i].id, sizeof(before));
			before[strlen(before) - 1] = 0;
			assert_true(listed(f, before, &l) >= 1);
			assert_true(str_eq(l.messages.v[0].id, str_from(acked.v[i].id)));
		}
		vec_release(&acked);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_message_is_claimed_deferred_and_due_again, setup, teardown),
		cmocka_unit_test_setup_teardown(a_claim_comes_back_when_its_peer_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(a_result_that_comes_again_counts_once, setup, teardown),
		cmocka_unit_test_setup_teardown(progress_outlives_who_made_it, setup, teardown),
		cmocka_unit_test_setup_teardown(after_progress_a_result_ends_the_message, setup, teardown),
		cmocka_unit_test_setup_teardown(a_refused_result_leaves_the_part_with_who_claimed_it, setup, teardown),
		cmocka_unit_test_setup_teardown(everything_survives_a_restart_and_moves_to_files, setup, teardown),
		cmocka_unit_test_setup_teardown(what_a_failed_checkpoint_has_written_the_next_one_syncs, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_schedule_that_cannot_be_read_once_is_read_again, setup, teardown),
		cmocka_unit_test_setup_teardown(a_message_whose_file_cannot_be_read_keeps_no_other, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lost_index_is_rebuilt_from_the_files, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_released_stays_so_when_the_index_is_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_expired_is_whole_when_the_index_is_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(a_failure_and_its_bounce_are_one_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(a_request_that_comes_again_is_done_once, setup, teardown),
		cmocka_unit_test_setup_teardown(a_large_body_goes_through_a_blob_and_comes_back_as_a_descriptor, setup,
						teardown),
		cmocka_unit_test_setup_teardown(an_administrator_flushes_and_deletes, setup, teardown),
		cmocka_unit_test_setup_teardown(all_are_deleted_in_one_pass, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_to_be_sent_later_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_to_be_sent_later_goes_when_it_is_time, setup, teardown),
		cmocka_unit_test_setup_teardown(a_message_is_due_when_its_time_is_over, setup, teardown),
		cmocka_unit_test_setup_teardown(etrn_flushes_one_destination_once, setup, teardown),
		cmocka_unit_test_setup_teardown(nonsense_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_blob_is_its_peers_and_goes_with_it, setup, teardown),
		cmocka_unit_test_setup_teardown(each_process_may_ask_only_what_its_work_takes, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_acknowledged_is_there_after_a_kill, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
