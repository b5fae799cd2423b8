/* The queue recovers from what any power loss leaves: every message that was accepted, with its bytes and what is left
 * of its recipients; none that had ended. The history has everything that the queue does to a disk: commits inline and
 * as blobs, deferrals, bounces, checkpoints that move contents to files, segments that turn over, removals, a rebuild
 * of the index. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "../journal/recorder.h"
#include "../journal/testdir.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/map.h"
#include "config/roles.h"
#include "os/fd.h"
#include "queue/service.h"
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#define SEGMENT (256u << 10)
#define STATES	400

struct queue_box {
	int dir;
	struct queue_service *q;
	pthread_t thread;
	struct rpc_channel *relay, *admin;
	struct rpc_reply hold;
};

static void *run(void *arg)
{
	queue_service_run(arg);
	return NULL;
}

static struct rpc_channel *connect_as(struct queue_box *b, enum process_role role)
{
	struct rpc_channel *c = rpc_channel_new("queue", QUEUE_CALLS);
	int pair[2];

	assert_int_equal(fd_socketpair(pair), 0);
	queue_service_add_peer(b->q, pair[0], process_tag(1, role));
	rpc_channel_attach(c, pair[1]);
	return c;
}

static void box_start(struct queue_box *b, int dir, const char *what)
{
	struct queue_options o = {.dirfd = dir,
				  .segment_size = SEGMENT,
				  .journal_size_limit = 16 * SEGMENT,
				  .parameters = {.minimal_backoff_time = 1000,
						 .maximal_backoff_time = 4000000,
						 .maximal_queue_lifetime = 432000000,
						 .bounce_queue_lifetime = 432000000,
						 .message_size_limit = 1 << 20,
						 .stays_free = 1 << 20}};
	struct err err = ERR_NONE;

	b->dir = dir;
	b->q = queue_service_new(&o, &err);
	if (!b->q)
		fail_msg("%s: %s", what, err.text);
	rpc_reply_init(&b->hold);
	assert_int_equal(pthread_create(&b->thread, NULL, run, b->q), 0);
	b->relay = connect_as(b, PROCESS_RELAY);
	b->admin = connect_as(b, PROCESS_MASTER);
}

static void box_stop(struct queue_box *b)
{
	queue_service_stop(b->q);
	pthread_join(b->thread, NULL);
	queue_service_free(&b->q);
	rpc_channel_free(&b->relay);
	rpc_channel_free(&b->admin);
	rpc_reply_release(&b->hold);
}

static void call(struct queue_box *b, struct rpc_channel *c, const struct rpc_call *what, const void *request,
		 void *reply_r)
{
	struct err err = ERR_NONE;

	rpc_reply_release(&b->hold);
	rpc_reply_init(&b->hold);
	if (rpc_call(c, what, request, reply_r, &b->hold, false, 60000, &err) < 0)
		fail_msg("%s", err.text);
}

/* ---- what the queue holds, as text ---- */

static uint32_t body_crc(const struct queue_message *m)
{
	char *bytes;
	ssize_t n;
	uint32_t crc;

	if (m->body_fd < 0)
		return crc32c(0, m->body.ptr, m->body.len);
	bytes = mem_alloc(m->size + 1);
	n = pread(m->body_fd, bytes, m->size + 1, 0);
	crc = n >= (ssize_t)m->size ? crc32c(0, bytes, m->size) : 0;
	free(bytes);
	return crc;
}

static struct map *seen;    /* id to what was read of its contents */
static struct map *reports; /* id to what its report would tell; of those that are due */

static void clear(struct map **m)
{
	struct str key;
	void *value;

	for (size_t at = 0; *m && map_next(*m, &at, &key, &value);)
		free(value);
	if (*m)
		map_free(m);
	*m = map_new();
}

/* What a report that is due would tell, in the order of the addresses: records have random numbers. */
static int told_cmp(const void *a, const void *b)
{
	return str_cmp(((const struct queue_told *)a)->address, ((const struct queue_told *)b)->address);
}

static void read_report(const struct queue_message *m, struct queue_claim_info *info)
{
	struct buf text;

	qsort(info->told.v, info->told.n, sizeof(*info->told.v), told_cmp);
	buf_init(&text, 10000);
	for (size_t i = 0; i < info->told.n; i++)
		buf_addf(&text, " told=%.*s/%.*s", STR_ARG(info->told.v[i].address), STR_ARG(info->told.v[i].text));
	map_set(reports, m->id, str_dup(buf_str(&text)));
	buf_release(&text);
}

/* Contents of every message that is due. */
static void read_contents(struct queue_box *b)
{
	struct rpc_channel *reader = connect_as(b, PROCESS_RELAY);
	struct queue_claim claim = {.max = 100};
	struct queue_claimed claimed;

	clear(&reports);
	do {
		call(b, reader, &QUEUE_CLAIM, &claim, &claimed);
		for (size_t i = 0; i < claimed.messages.n; i++) {
			struct queue_message *m = &claimed.messages.v[i];
			if (claimed.infos.v[i].part == QUEUE_PART_REPORT)
				read_report(m, &claimed.infos.v[i]);
			free(map_remove(seen, m->id));
			map_set(seen, m->id,
				mem_printf("crc=%08x prefix=%08x summary=%08x", body_crc(m),
					   crc32c(0, m->prefix.ptr, m->prefix.len),
					   crc32c(0, m->summary.ptr, m->summary.len)));
			fd_close(&m->body_fd);
		}
	} while (claimed.messages.n > 0);
	rpc_channel_free(&reader);
}

static void make_due(struct queue_box *b)
{
	struct queue_act act = {.action = QUEUE_FLUSH, .id = STR("")};
	struct queue_acted acted;

	call(b, b->admin, &QUEUE_ACT, &act, &acted);
}

/* Every message in the order of their ids, and of those that are due now or were before also what they hold. */
static char *dump(struct queue_box *b)
{
	struct queue_list list = {.max = 1000};
	struct queue_listed listed;
	struct buf out;
	char *text;

	read_contents(b);
	buf_init(&out, 1 << 20);
	call(b, b->admin, &QUEUE_LIST, &list, &listed);
	for (size_t k = 0; k < listed.messages.n; k++) {
		const struct queue_message *m = &listed.messages.v[k];
		const char *contents = map_get(seen, m->id);
		buf_addf(&out, "%.*s from=<%.*s> size=%llu %s:", STR_ARG(m->id), STR_ARG(m->sender),
			 (unsigned long long)m->size, contents ? contents : "never due");
		for (size_t i = 0; i < m->rcpts.n; i++)
			buf_addf(&out, " %u/%.*s/%u/%.*s", m->rcpts.v[i].index, STR_ARG(m->rcpts.v[i].address),
				 m->rcpts.v[i].attempts, STR_ARG(m->rcpts.v[i].last_text));
		buf_addf(&out, "%s\n", map_get(reports, m->id) ? (const char *)map_get(reports, m->id) : "");
	}
	text = str_dup(buf_str(&out));
	buf_release(&out);
	return text;
}

/* The same after a recovery: nothing is taken from memory, everything is made due and read. */
static char *dump_all(struct queue_box *b)
{
	clear(&seen);
	make_due(b);
	return dump(b);
}

/* ---- the story ---- */

struct story {
	struct queue_box box;
	char *states[STATES]; /* after so many acknowledged changes */
	unsigned count;
	char ids[STATES][32];
	unsigned id_count;
	unsigned lost_at; /* changes acknowledged when the index was taken away */
};
static struct story story;

static void acknowledged(void)
{
	assert_true(story.count + 1 < STATES);
	io_record_mark(record, ++story.count);
	story.states[story.count] = dump(&story.box);
}

static struct queue_message message(unsigned n, struct queue_rcpt *rcpts, unsigned count, char *body, size_t len)
{
	static char ids[STATES][16];
	struct queue_message m = {.sender = STR("alice@example.test"),
				  .client = STR("localhost[127.0.0.1]"),
				  .prefix = STR("Received: x\n"),
				  .summary = STR("summary"),
				  .body_fd = -1};

	memset(rcpts, 0, count * sizeof(*rcpts));
	for (unsigned i = 0; i < count; i++) {
		rcpts[i].index = i;
		rcpts[i].address = rcpts[i].original = i % 3 == 0   ? STR("bob@one.test")
						       : i % 3 == 1 ? STR("carol@two.test")
								    : STR("dan@example.test");
	}
	for (size_t i = 0; i < len; i++)
		body[i] = (char)('a' + (n * 31 + i * i) % 26);
	random_bytes(ids[n], 16);
	m.delivery_id = str_of(ids[n], 16);
	m.rcpts.v = rcpts;
	m.rcpts.n = count;
	m.body = str_of(body, len);
	return m;
}

static void accept_message(unsigned n, unsigned rcpt_count, size_t len)
{
	static char body[400 << 10];
	struct queue_rcpt rcpts[8];
	struct queue_message m = message(n, rcpts, rcpt_count, body, len);
	struct queue_blob_begin begin = {len};
	struct queue_blob blob;
	struct queue_ok ok;
	struct queue_id id;

	if (len > 64u << 10) {
		call(&story.box, story.box.relay, &QUEUE_BLOB_BEGIN, &begin, &blob);
		assert_int_equal(pwrite(blob.fd, body, len, 0), (ssize_t)len);
		close(blob.fd);
		struct queue_blob_finish finish = {blob.blob, len, crc32c(0, body, len)};
		call(&story.box, story.box.relay, &QUEUE_BLOB_FINISH, &finish, &ok);
		m.blob = finish.blob;
		m.body = STR_NULL;
	}
	struct queue_commit commit = {.message = m};

	call(&story.box, story.box.relay, &QUEUE_COMMIT, &commit, &id);
	snprintf(story.ids[story.id_count++], 32, "%.*s", STR_ARG(id.id));
	acknowledged();
}

/* One recipient of message k: delivered, deferred, or failed with a bounce. */
static void report(unsigned k, uint32_t index, enum queue_outcome outcome)
{
	struct queue_rcpt_outcome o = {index, (uint8_t)outcome, STR("4.3.0"), STR("not now")};
	struct queue_result r = {.id = str_from(story.ids[k]), .part = index % 3, .outcomes = {.v = &o, .n = 1}};
	static char body[2000];
	struct queue_rcpt rcpt[1];
	struct queue_message bounce = message(STATES - 1 - k, rcpt, 1, body, sizeof(body));
	struct queue_ok ok;

	bounce.sender = STR_NULL;
	if (outcome == OUTCOME_FAILED) {
		r.bounces.v = &bounce;
		r.bounces.n = 1;
	}
	call(&story.box, story.box.relay, &QUEUE_RESULT, &r, &ok);
	acknowledged();
}

/* The same of a recipient at its destination, told to nobody yet: a record of what to tell. */
static void report_told(unsigned k, uint32_t index, enum queue_outcome outcome)
{
	struct queue_rcpt_outcome o = {index, (uint8_t)outcome, STR("5.1.1"), STR("gone")};
	struct queue_told told = {.address = index % 3 == 0 ? STR("bob@one.test") : STR("carol@two.test"),
				  .outcome = (uint8_t)outcome,
				  .code = STR("5.1.1"),
				  .text = index % 3 == 0 ? STR("first") : STR("second")};
	struct queue_result r = {.id = str_from(story.ids[k]), .part = index % 3, .outcomes = {.v = &o, .n = 1}};
	struct queue_ok ok;

	r.told.v = &told;
	r.told.n = 1;
	call(&story.box, story.box.relay, &QUEUE_RESULT, &r, &ok);
	acknowledged();
}

/* The report of message k is due: made, as a new message in the commit that ends this one. */
static void tell_sender(unsigned k)
{
	struct rpc_channel *c = connect_as(&story.box, PROCESS_RELAY);
	struct queue_claim claim = {.max = 1, .wait_ms = 30000};
	struct queue_number records[4];
	struct queue_result r = {.part = QUEUE_PART_REPORT};
	struct queue_claimed claimed;
	static char body[1000];
	struct queue_rcpt rcpt[1];
	struct queue_message bounce = message(STATES - 1 - k, rcpt, 1, body, sizeof(body));
	struct queue_ok ok;

	for (;;) {
		call(&story.box, c, &QUEUE_CLAIM, &claim, &claimed);
		assert_true(claimed.messages.n > 0);
		if (claimed.infos.v[0].part == QUEUE_PART_REPORT &&
		    str_eq(claimed.messages.v[0].id, str_from(story.ids[k])))
			break;
		fd_close(&claimed.messages.v[0].body_fd);
	}
	assert_true(claimed.infos.v[0].records.n <= 4);
	memcpy(records, claimed.infos.v[0].records.v, claimed.infos.v[0].records.n * sizeof(*records));
	r.records.v = records;
	r.records.n = claimed.infos.v[0].records.n;
	r.id = str_from(story.ids[k]);
	bounce.sender = STR_NULL;
	r.bounces.v = &bounce;
	r.bounces.n = 1;
	call(&story.box, c, &QUEUE_RESULT, &r, &ok);
	rpc_channel_free(&c);
	acknowledged();
}

static void remove_message(unsigned k)
{
	struct queue_act act = {.action = QUEUE_DELETE, .id = str_from(story.ids[k])};
	struct queue_acted acted;

	call(&story.box, story.box.admin, &QUEUE_ACT, &act, &acted);
	assert_int_equal(acted.count, 1);
	acknowledged();
}

static void restart(bool lose_index)
{
	box_stop(&story.box);
	if (lose_index) {
		story.lost_at = story.count;
		assert_int_equal(io_unlink(story.box.dir, "index.mdb"), 0);
		assert_int_equal(io_fsync(story.box.dir), 0);
	}
	box_start(&story.box, story.box.dir, "the story");
	acknowledged();
}

static void tell_part(unsigned from)
{
	unsigned first = story.id_count;

	for (unsigned n = 0; n < 12; n++)
		accept_message(from + n, 1 + n % 4, n == 5 ? 300 << 10 : n == 9 ? 70 << 10 : 200 + n * 4999 % 60000);
	report(first + 0, 0, OUTCOME_DELIVERED);
	report(first + 1, 0, OUTCOME_DEFERRED);
	report(first + 1, 1, OUTCOME_DELIVERED);
	report(first + 2, 0, OUTCOME_FAILED);
	report(first + 5, 0, OUTCOME_DEFERRED);
	report(first + 9, 0, OUTCOME_DELIVERED);
	remove_message(first + 3);
	/* Two destinations: told when both have ended. One: its notification found no room. */
	report_told(first + 6, 0, OUTCOME_FAILED);
	report(first + 6, 2, OUTCOME_DEFERRED);
	report_told(first + 6, 1, OUTCOME_FAILED);
	report_told(first + 8, 0, OUTCOME_FAILED);
	tell_sender(first + 8);
	report_told(first + 4, 0, OUTCOME_FAILED);
	/* Segments turn over, checkpoints run into what is still to come. */
	for (unsigned n = 12; n < 22; n++)
		accept_message(from + n, 2, 40000 + n);
	for (unsigned n = 12; n < 18; n++) {
		report(first + n, 0, OUTCOME_DELIVERED);
		report(first + n, 1, OUTCOME_DELIVERED);
	}
	report(first + 5, 1, OUTCOME_DELIVERED);
}

static struct io_record *tell(void)
{
	char path[64];
	int dir = testdir_make(path);
	struct io_record *r = record = io_record_new(dir);

	memset(&story, 0, sizeof(story));
	clear(&seen);
	box_start(&story.box, dir, "the story");
	tell_part(0);
	restart(false);
	tell_part(40);
	restart(true);
	accept_message(90, 3, 1000);
	report(story.id_count - 1, 1, OUTCOME_DEFERRED);
	report(7, 0, OUTCOME_DELIVERED);
	report(1, 0, OUTCOME_DEFERRED);
	report_told(1, 1, OUTCOME_FAILED);
	box_stop(&story.box);
	record = NULL;
	io_record_stop(r);
	close(dir);
	testdir_remove(path);
	return r;
}

/* ---- what must hold ---- */

/* Names in msgs/ and spool/: contents without a message would stay for ever. */
static unsigned stray_files(int root, const char *where, const char *text)
{
	int fd = openat(root, where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(fd);
	struct dirent *d;
	unsigned n = 0;

	while ((d = readdir(dir)))
		n += d->d_name[0] != '.' && !strstr(text, d->d_name);
	closedir(dir);
	return n;
}

/* The first line that differs. */
static void show(const char *wanted, const char *have)
{
	struct str a = str_from(wanted), b = str_from(have), x = STR_NULL, y = STR_NULL;

	while (str_token(&a, "\n", &x) | str_token(&b, "\n", &y)) {
		if (!str_eq(x, y)) {
			print_error("wanted: %.*s\nhave:   %.*s\n", STR_ARG(x), STR_ARG(y));
			return;
		}
		x = y = STR_NULL;
	}
}

static void compare(const char *have, unsigned acked, const char *what)
{
	bool same = acked == 0;

	for (unsigned k = acked; k <= acked + 1 && k <= story.count && !same; k++)
		same = strcmp(have, story.states[k]) == 0;
	if (same)
		return;
	show(story.states[acked], have);
	if (acked < story.count)
		show(story.states[acked + 1], have);
	fail_msg("%s: %u changes were acknowledged", what, acked);
}

static void check(int root, unsigned acked, const char *what)
{
	struct queue_box b;
	char *first, *second;

	box_start(&b, root, what);
	first = dump_all(&b);
	compare(first, acked, what);
	box_stop(&b);
	/* A second start changes nothing. */
	box_start(&b, root, what);
	second = dump_all(&b);
	if (strcmp(first, second) != 0) {
		show(first, second);
		fail_msg("%s: another start changed something", what);
	}
	/* Looked for while it serves. */
	for (int64_t until = clock_ms() + 60000; stray_files(root, "msgs", first) && clock_ms() < until;)
		usleep(1000);
	box_stop(&b);
	if (stray_files(root, "msgs", first) || stray_files(root, "spool", ""))
		fail_msg("%s: files that belong to no message", what);
	free(first);
	free(second);
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

	snprintf(both, sizeof(both), "%s%s%s", again ? again->what : "", again ? ", then in its recovery " : "", what);
	if (io_record_image(r, n, loss, seed, root, &err) < 0)
		fail_msg("%s: %s", both, err.text);
	check(root, again ? again->acked : (unsigned)io_record_marked(r, n), both);
	close(root);
	testdir_remove(path);
}

/* The power goes, and goes again while the queue recovers. */
static void check_twice(void *ctx, struct io_record *r, size_t n, enum io_loss loss, uint64_t seed, const char *what)
{
	struct again again = {(unsigned)io_record_marked(r, n), what};
	struct err err = ERR_NONE;
	struct io_record *second;
	struct queue_box b;
	char path[64];
	int root = testdir_make(path);

	(void)ctx;
	assert_int_equal(io_record_image(r, n, loss, seed, root, &err), 0);
	second = record = io_record_new(root);
	box_start(&b, root, what);
	box_stop(&b);
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

static void a_power_loss_at_any_operation_loses_no_message(void **state)
{
	(void)state;
	powerloss_each(history, 0, 120, check_image, NULL);
}

static void a_second_power_loss_during_the_recovery_loses_no_message(void **state)
{
	(void)state;
	powerloss_each(history, 0, 10, check_twice, NULL);
}

/* What was reported since is not forgotten, though the rebuilt index was not written yet. */
static void a_power_loss_while_a_lost_index_is_rebuilt_forgets_no_attempt(void **state)
{
	size_t n = io_record_length(history);

	(void)state;
	while (n > 0 && io_record_marked(history, n) >= story.lost_at)
		n--;
	powerloss_each(history, n, 60, check_image, NULL);
	powerloss_each(history, n, 6, check_twice, NULL);
}

static int begin(void **state)
{
	(void)state;
	history = tell();
	return 0;
}

static int end(void **state)
{
	(void)state;
	for (unsigned i = 0; i < STATES; i++)
		free(story.states[i]);
	io_record_free(&history);
	clear(&seen);
	map_free(&seen);
	clear(&reports);
	map_free(&reports);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_power_loss_at_any_operation_loses_no_message),
		cmocka_unit_test(a_second_power_loss_during_the_recovery_loses_no_message),
		cmocka_unit_test(a_power_loss_while_a_lost_index_is_rebuilt_forgets_no_attempt),
	};
	return cmocka_run_group_tests(tests, begin, end);
}
