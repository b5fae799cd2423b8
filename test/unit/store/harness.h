/* harness - a whole store in this process: the service on a thread of its own, a front end and a directory. */
#ifndef TEST_STORE_HARNESS_H
#define TEST_STORE_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"
#include "base/vec.h"
#include "os/fd.h"
#include "store/service.h"
#include "store/view.h"
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FRONT_TAG = 0x101, DIRECTORY_TAG = 0x202 };

struct store_box {
	char dir[64];
	int state_fd, mail_fd;
	bool mem;
	struct conf *conf;
	struct store_service *svc;
	struct store_engine *engine; /* mem only */
	struct store_loop loop;
	pthread_t thread;
	struct store_client *client;
	struct rpc_channel *directory;
};

static inline void *box_thread(void *ctx)
{
	store_service_run(ctx);
	return NULL;
}

static inline int box_open_mem(void *ctx, const struct store_loop *loop, struct store_engine **e_r, struct err *err)
{
	struct store_box *b = ctx;
	int rc = store_engine_mem_open(loop, e_r, err);

	b->engine = *e_r;
	b->loop = *loop;
	return rc;
}

static inline void box_attach(struct store_box *b)
{
	int front[2], dir[2];

	assert_int_equal(fd_socketpair(front), 0);
	assert_int_equal(fd_socketpair(dir), 0);
	store_service_add_peer(b->svc, front[0], FRONT_TAG, false, true);
	store_service_add_peer(b->svc, dir[0], DIRECTORY_TAG, true, false);
	rpc_channel_attach(b->directory, dir[1]);
	rpc_channel_attach(store_client_channel(b->client), front[1]);
}

static inline void box_start(struct store_box *b)
{
	struct store_options o = {.state_dirfd = b->state_fd, .mail_dirfd = b->mail_fd, .conf = b->conf};
	struct err err = ERR_NONE;

	if (b->mem) {
		o.open_engine = box_open_mem;
		o.open_ctx = b;
	}
	b->svc = store_service_new(&o, &err);
	if (!b->svc)
		fail_msg("store_service_new: %s", err.text);
	assert_int_equal(pthread_create(&b->thread, NULL, box_thread, b->svc), 0);
	box_attach(b);
}

static inline void box_stop(struct store_box *b)
{
	store_service_stop(b->svc);
	pthread_join(b->thread, NULL);
	store_service_free(&b->svc);
}

static inline void box_open(struct store_box *b, bool mem)
{
	struct err err = ERR_NONE;
	char *state, *mail;

	memset(b, 0, sizeof(*b));
	b->mem = mem;
	snprintf(b->dir, sizeof(b->dir), "/tmp/store-test-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	state = mem_printf("%s/state", b->dir);
	mail = mem_printf("%s/mail", b->dir);
	assert_int_equal(mkdir(state, 0700), 0);
	assert_int_equal(mkdir(mail, 0700), 0);
	b->state_fd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	b->mail_fd = open(mail, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(state);
	free(mail);
	b->conf = conf_parse(STR("myhostname = mx.example.test\n"), "main.cf", NULL, &err);
	if (!b->conf)
		fail_msg("conf_parse: %s", err.text);
	b->client = store_client_new(NULL);
	b->directory = rpc_channel_new("store", STORE_CALLS);
	box_start(b);
}

static inline int box_remove(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static inline void box_close(struct store_box *b)
{
	box_stop(b);
	store_client_free(&b->client);
	rpc_channel_free(&b->directory);
	conf_unref(&b->conf);
	close(b->state_fd);
	close(b->mail_fd);
	nftw(b->dir, box_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void box_grant_quota(struct store_box *b, uint64_t session, uint64_t account, uint8_t rights,
				   uint64_t bytes)
{
	char path[32];
	struct store_grant g = {
		.peer_tag = FRONT_TAG, .session = session, .account = account, .rights = rights, .quota_bytes = bytes};
	struct store_ok ok;
	struct rpc_reply hold;
	struct err err = ERR_NONE;

	snprintf(path, sizeof(path), "example.test/u%llu", (unsigned long long)account);
	g.path = str_from(path);
	rpc_reply_init(&hold);
	if (rpc_call(b->directory, &STORE_GRANT, &g, &ok, &hold, true, 10000, &err) < 0)
		fail_msg("grant: %s", err.text);
	rpc_reply_release(&hold);
}

static inline void box_grant(struct store_box *b, uint64_t session, uint64_t account, uint8_t rights)
{
	box_grant_quota(b, session, account, rights, 0);
}

/* A call that must succeed. */
#define CALL(b, call, req, reply, hold)                                                                                \
	do {                                                                                                           \
		struct err err_ = ERR_NONE;                                                                            \
		rpc_reply_init(hold);                                                                                  \
		if (store_call((b)->client, &(call), (req), (reply), (hold), &err_) < 0)                               \
			fail_msg("%s: %s", #call, err_.text);                                                          \
	} while (0)

/* A call that must fail so. */
static inline void box_refused(struct store_box *b, const struct rpc_call *call, const void *req, enum err_kind kind)
{
	union {
		struct store_committed c;
		struct store_delivered d;
		struct store_mailbox_list l;
		struct mailbox_info i;
		struct store_view v;
		struct store_body y;
		struct store_ok o;
	} reply;
	struct rpc_reply hold;
	struct err err = ERR_NONE;

	rpc_reply_init(&hold);
	assert_int_equal(store_call(b->client, call, req, &reply, &hold, &err), -1);
	if (err.kind != kind)
		fail_msg("refused with kind %d (%s), not %d", err.kind, err.text, kind);
	rpc_reply_release(&hold);
}

static inline struct str commit_id(void)
{
	static _Thread_local char ids[64][16];
	static _Thread_local unsigned next;
	char *id = ids[next++ % 64];

	random_bytes(id, 16);
	return str_of(id, 16);
}

static inline uint32_t box_mailbox(struct store_box *b, uint64_t session, uint64_t account, const char *name)
{
	struct store_mailbox_get get = {.session = session, .account = account, .name = str_from(name)};
	struct mailbox_info info;
	struct rpc_reply hold;

	CALL(b, STORE_MAILBOX, &get, &info, &hold);
	rpc_reply_release(&hold);
	return info.id;
}

static inline struct mailbox_info box_info(struct store_box *b, uint64_t session, uint64_t account, const char *name)
{
	struct store_mailbox_get get = {.session = session, .account = account, .name = str_from(name)};
	struct mailbox_info info;
	struct rpc_reply hold;

	CALL(b, STORE_MAILBOX, &get, &info, &hold);
	info.name = STR_NULL;
	rpc_reply_release(&hold);
	return info;
}

static inline void box_change(struct store_box *b, uint64_t session, uint64_t account, enum mailbox_change change,
			      const char *name, const char *to)
{
	struct store_mailbox_change req = {.session = session,
					   .account = account,
					   .commit_id = commit_id(),
					   .change = (uint8_t)change,
					   .name = str_from(name),
					   .new_name = str_from(to)};
	struct mailbox_info info;
	struct rpc_reply hold;

	CALL(b, STORE_MAILBOX_CHANGE, &req, &info, &hold);
	rpc_reply_release(&hold);
}

/* One op that must succeed; *hold is the caller's to release. */
static inline struct store_op_result box_op(struct store_box *b, uint64_t session, uint64_t account, struct store_op op,
					    struct rpc_reply *hold)
{
	struct store_commit req = {
		.session = session, .account = account, .commit_id = commit_id(), .ops = {.v = &op, .n = 1}};
	struct store_committed reply;

	CALL(b, STORE_COMMIT, &req, &reply, hold);
	assert_int_equal(reply.results.n, 1);
	return reply.results.v[0];
}

static inline uint64_t lf_count(struct str s)
{
	uint64_t n = 0;

	for (size_t i = 0; i < s.len; i++)
		n += s.ptr[i] == '\n';
	return n;
}

static inline uint32_t box_append(struct store_box *b, uint64_t session, uint64_t account, uint32_t mailbox,
				  const char *text, uint32_t flags, const char *keyword)
{
	struct store_name name = {str_from(keyword)};
	struct store_op op = {.kind = OP_APPEND,
			      .mailbox = mailbox,
			      .flags = flags,
			      .date = 1700000000,
			      .body = str_from(text),
			      .keywords = {.v = &name, .n = keyword ? 1 : 0}};
	struct rpc_reply hold;
	struct store_op_result r;
	uint32_t uid;

	op.size = op.body.len + lf_count(op.body);
	r = box_op(b, session, account, op, &hold);
	assert_int_equal(r.new_uids.n, 1);
	uid = r.new_uids.v[0].first;
	rpc_reply_release(&hold);
	return uid;
}

/* The bytes of a message, malloc'ed. */
static inline char *box_body(struct store_box *b, uint64_t session, uint64_t account, uint32_t mailbox, uint32_t uid)
{
	struct store_body_get get = {session, account, mailbox, uid};
	struct store_body body;
	struct rpc_reply hold;
	char *text;

	CALL(b, STORE_BODY, &get, &body, &hold);
	if (body.fd >= 0) {
		assert_true(fd_read_all(body.fd, 1 << 26, &text, NULL) >= 0);
		close(body.fd);
	} else {
		text = str_dup(body.bytes);
	}
	rpc_reply_release(&hold);
	return text;
}

#endif
