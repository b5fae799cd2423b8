/* A queue in a directory of its own, and the processes that speak with it: what the tests of src/queue/ share. */
#ifndef TEST_QUEUE_STAND_H
#define TEST_QUEUE_STAND_H

#include "../journal/testdir.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/vec.h"
#include "config/roles.h"
#include "os/fd.h"
#include "queue/service.h"
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* Of the journal; a commit must fit into one. */
static uint32_t stand_segment = 1 << 20;

struct fixture {
	char path[64];
	int dir;
	struct queue_parameters p;
	struct queue_service *q;
	pthread_t thread;
	struct rpc_channel *c;	   /* relay's */
	struct rpc_channel *admin; /* master's */
	struct rpc_reply hold;
};

static inline void *run(void *arg)
{
	queue_service_run(arg);
	return NULL;
}

static inline struct rpc_channel *connect_as(struct fixture *f, enum process_role role)
{
	struct rpc_channel *c = rpc_channel_new("queue", QUEUE_CALLS);
	int pair[2];

	assert_int_equal(fd_socketpair(pair), 0);
	queue_service_add_peer(f->q, pair[0], process_tag(1, role));
	rpc_channel_attach(c, pair[1]);
	return c;
}

static inline void start(struct fixture *f)
{
	struct queue_options o = {.dirfd = f->dir,
				  .segment_size = stand_segment,
				  .journal_size_limit = 16 * (uint64_t)stand_segment,
				  .parameters = f->p};
	struct err err = ERR_NONE;

	f->q = queue_service_new(&o, &err);
	if (!f->q)
		fail_msg("%s", err.text);
	assert_int_equal(pthread_create(&f->thread, NULL, run, f->q), 0);
	f->c = connect_as(f, PROCESS_RELAY);
	f->admin = connect_as(f, PROCESS_MASTER);
}

static inline void stop(struct fixture *f)
{
	queue_service_stop(f->q);
	pthread_join(f->thread, NULL);
	queue_service_free(&f->q);
	rpc_channel_free(&f->c);
	rpc_channel_free(&f->admin);
}

static inline int setup(void **state)
{
	struct fixture *f = NEW(struct fixture);

	f->dir = testdir_make(f->path);
	f->p = (struct queue_parameters){.minimal_backoff_time = 1000,
					 .maximal_backoff_time = 4000000,
					 .maximal_queue_lifetime = 432000000,
					 .bounce_queue_lifetime = 432000000,
					 .message_size_limit = 1 << 20,
					 .stays_free = 1 << 20};
	rpc_reply_init(&f->hold);
	start(f);
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	stop(f);
	rpc_reply_release(&f->hold);
	close(f->dir);
	testdir_remove(f->path);
	free(f);
	return 0;
}

static inline int call(struct rpc_channel *c, struct fixture *f, const struct rpc_call *what, const void *request,
		       void *reply_r)
{
	struct err err = ERR_NONE;

	rpc_reply_release(&f->hold);
	rpc_reply_init(&f->hold);
	return rpc_call(c, what, request, reply_r, &f->hold, false, 90000, &err) < 0 ? -(int)err.kind : 0;
}

static struct queue_rcpt two_rcpts[2] = {
	{.index = 0, .address = {"bob@example.test", 16}, .original = {"Bob@example.test", 16}, .account = 7},
	{.index = 1, .address = {"carol@example.test", 18}, .original = {"carol@example.test", 18}, .account = 8},
};

static inline struct queue_message message(const char *body)
{
	static char delivery_id[16 * 64];
	static unsigned given;
	char *id = delivery_id + given++ % 64 * 16;
	struct queue_message m = {.delivery_id = str_of(id, 16),
				  .sender = STR("alice@example.test"),
				  .client = STR("localhost[127.0.0.1]"),
				  .prefix = STR("Received: x\n"),
				  .body = str_from(body),
				  .body_fd = -1};

	random_bytes(id, 16);
	random_bytes(id, 16);
	m.rcpts.v = two_rcpts;
	m.rcpts.n = 2;
	return m;
}

static inline void commit(struct fixture *f, const struct queue_message *m, char id_r[64])
{
	struct queue_id id;

	assert_int_equal(call(f->c, f, &QUEUE_COMMIT, &(struct queue_commit){.message = *m}, &id), 0);
	snprintf(id_r, 64, "%.*s", STR_ARG(id.id));
	assert_true(strlen(id_r) >= 12 && strchr(id_r, 'z'));
}

static inline size_t claim(struct rpc_channel *c, struct fixture *f, uint32_t wait_ms, struct queue_claimed *claimed_r)
{
	struct queue_claim r = {.max = 10, .wait_ms = wait_ms};

	assert_int_equal(call(c, f, &QUEUE_CLAIM, &r, claimed_r), 0);
	return claimed_r->messages.n;
}

static inline int result(struct fixture *f, const char *id, struct queue_rcpt_outcome *o, size_t n,
			 struct queue_message *bounces, size_t b)
{
	struct queue_result r = {.id = str_from(id)};
	struct queue_ok ok;

	r.outcomes.v = o;
	r.outcomes.n = n;
	r.bounces.v = bounces;
	r.bounces.n = b;
	return call(f->c, f, &QUEUE_RESULT, &r, &ok);
}

static inline size_t listed(struct fixture *f, const char *after, struct queue_listed *l)
{
	struct queue_list r = {.after = str_from(after), .max = 100};

	assert_int_equal(call(f->admin, f, &QUEUE_LIST, &r, l), 0);
	return l->messages.n;
}

static inline size_t files(struct fixture *f)
{
	int fd = openat(f->dir, "msgs", O_RDONLY | O_DIRECTORY);
	DIR *dir = fdopendir(fd);
	struct dirent *d;
	size_t n = 0;

	while ((d = readdir(dir)))
		n += d->d_name[0] != '.';
	closedir(dir);
	return n;
}

#endif
