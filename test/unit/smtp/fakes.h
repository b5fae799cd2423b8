/* Stand-ins for directory, store and queue on socketpairs, for tests of those who call them.
 *
 * The names they know, in the domain example.test:
 *	alice (1), bob (2)       users; bob+anything is bob; postmaster is alice
 *	both                     alias: alice and bob
 *	mixed, elsewhere         aliases with members on other systems, some or all
 *	full (3)                 the store refuses at RCPT: over quota
 *	late (4)                 the store refuses at delivery, for now: over quota
 *	gone (5)                 the store refuses at delivery, for ever
 *	disabled, temp           taking no mail; a directory that cannot say
 * Passwords are "secret". */
#ifndef TEST_SMTP_FAKES_H
#define TEST_SMTP_FAKES_H

#include "base/encode.h"
#include "base/mem.h"
#include "base/vec.h"
#include "directory/schema.h"
#include "os/fd.h"
#include "os/io.h"
#include "queue/client.h"
#include "store/view.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

struct fake_delivered {
	uint64_t account;
	char *file; /* prefix and body */
	size_t len;
	struct store_deliver head; /* numbers only */
};

struct fakes {
	pthread_mutex_t lock;
	struct rpc_server *servers[3];
	pthread_t threads[3];
	struct rpc_channel *directory, *queue;
	struct queue_client *queue_client;
	struct store_client *store;
	atomic_bool store_down, queue_down;
	VEC(struct fake_delivered) delivered;
	VEC(char *) queued; /* "sender|rcpt,rcpt|body" */
	unsigned confirmed, ended, dropped, claims;
	int blob_fd;
	uint64_t blob_size;
	/* relay: what a claim hands out, once, and what was reported */
	struct queue_message *claimable;
	atomic_bool keep_claim; /* the next one is not answered: the tester does that */
	struct rpc_request *kept_claim;
	atomic_uint given_back;
	unsigned refuse_results; /* so many, for now */
	uint8_t warned;		 /* of it */
	VEC(char *) outcomes;	 /* "index outcome code text" */
	VEC(char *) bounces;	 /* "sender|rcpt|body" */
};

/* ---- directory ------------------------------------------------------------------------------------------- */

static inline uint64_t fake_account(struct str local)
{
	static const char *const names[] = {"", "alice", "bob", "full", "late", "gone"};

	if (str_ieq(local, STR("postmaster")))
		return 1;
	if (str_istarts(local, STR("bob+")))
		return 2;
	for (uint64_t i = 1; i < ARRAY_SIZE(names); i++)
		if (str_ieq(local, str_from(names[i])))
			return i;
	return 0;
}

static inline struct dir_target fake_target(uint64_t account)
{
	static const char *const addresses[] = {"far@remote.test",   "alice@example.test", "bob@example.test",
						"full@example.test", "late@example.test",  "gone@example.test"};

	return (struct dir_target){.account = account, .address = str_from(addresses[account]), .extension = STR("")};
}

/* The full mailbox. */
#define FAKE_FULL 3

static inline void fake_resolve(struct fakes *f, struct rpc_request *req)
{
	const struct dir_resolve *ask = req->msg;
	ptrdiff_t at = str_rchr(ask->address, '@');
	struct str local = str_sub(ask->address, 0, at < 0 ? ask->address.len : (size_t)at);
	struct str domain = at < 0 ? STR("example.test") : str_skip(ask->address, (size_t)at + 1);
	struct dir_target two[2];
	struct dir_resolved found = {.class = RCPT_UNKNOWN};
	struct err err = ERR_NONE;

	found.targets.v = two;
	if (str_eq(local, STR("temp"))) {
		err_set(&err, ERR_TEMP, "4.3.0", "database is away");
		rpc_refuse(req, &err);
		return;
	}
	if (str_ieq(domain, STR("everybody.test"))) {
		found.class = RCPT_REMOTE;
		found.everybody = 1;
		two[found.targets.n++] = (struct dir_target){.address = ask->address, .extension = STR("")};
	} else if (!str_ieq(domain, STR("example.test"))) {
		found.class = RCPT_REMOTE;
		two[found.targets.n++] = fake_target(0);
	} else if (fake_account(local) > 0) {
		found.class = RCPT_LOCAL;
		two[found.targets.n++] = fake_target(fake_account(local));
	} else if (str_eq(local, STR("both")) || str_eq(local, STR("mixed"))) {
		found.class = str_eq(local, STR("both")) ? RCPT_LOCAL : RCPT_MIXED;
		two[found.targets.n++] = fake_target(1);
		two[found.targets.n++] = fake_target(str_eq(local, STR("both")) ? 2 : 0);
	} else if (str_eq(local, STR("elsewhere"))) {
		found.class = RCPT_MIXED;
		two[found.targets.n++] = fake_target(0);
	} else if (str_eq(local, STR("disabled"))) {
		found.class = RCPT_DISABLED;
	}
	if (ask->maps != 0 && str_eq(local, STR("was"))) {
		found.class = RCPT_LOCAL;
		two[found.targets.n++] = fake_target(2);
		found.rewritten = STR("bob@example.test");
	}
	found.full_code = found.full_text = STR("");
	for (size_t i = 0; ask->admit && !f->store_down && i < found.targets.n; i++) {
		if (two[i].account != FAKE_FULL)
			continue;
		found.full = ERR_FULL;
		found.full_code = STR("4.2.2");
		found.full_text = STR("the mailbox is full");
	}
	rpc_answer(req, &found);
}

static inline void fake_auth(struct rpc_request *req, bool good, const char *why)
{
	struct dir_auth answer = {.status = good ? AUTH_OK : AUTH_FAILED,
				  .account = 1,
				  .user = STR("alice@example.test"),
				  .challenge = STR(""),
				  .text = str_from(why)};

	rpc_answer(req, &answer);
}

static inline void fake_challenge(struct rpc_request *req, const char *challenge)
{
	struct dir_auth answer = {
		.status = AUTH_CONTINUE, .challenge = str_from(challenge), .user = STR(""), .text = STR("")};

	rpc_answer(req, &answer);
}

static inline void fake_auth_start(struct rpc_request *req)
{
	const struct dir_auth_start *ask = req->msg;
	struct dir_auth proof = {.status = AUTH_OK,
				 .account = 1,
				 .user = STR("alice@example.test"),
				 .challenge = STR("v=proof"),
				 .text = STR("")};
	struct dir_auth invalid = {
		.status = AUTH_INVALID, .challenge = STR(""), .user = STR(""), .text = STR("no such mechanism")};

	if (str_eq(ask->mechanism, STR("PLAIN")) && ask->has_initial)
		fake_auth(req, str_ends(ask->initial, str_of("\0alice@example.test\0secret", 26)), "wrong password");
	else if (str_eq(ask->mechanism, STR("PLAIN")))
		fake_challenge(req, "");
	else if (str_eq(ask->mechanism, STR("LOGIN")))
		fake_challenge(req, ask->has_initial ? "Password:" : "Username:");
	else if (str_eq(ask->mechanism, STR("SCRAM-SHA-256")))
		rpc_answer(req, &proof);
	else
		rpc_answer(req, &invalid);
}

static inline void fake_auth_step(struct rpc_request *req)
{
	const struct dir_auth_step *ask = req->msg;

	if (str_eq(ask->response, STR("alice@example.test")))
		fake_challenge(req, "Password:");
	else
		fake_auth(req, str_ends(ask->response, STR("secret")), "wrong password");
}

static inline struct dir_routed fake_route(struct str recipient)
{
	bool ours = str_iends(recipient, STR("@example.test"));

	return (struct dir_routed){.class = ours ? ROUTE_VIRTUAL : ROUTE_DEFAULT,
				   .transport = ours ? STR("virtual") : STR("error"),
				   .nexthop = STR("5.4.4 far away"),
				   .recipient = recipient};
}

static inline void fake_route_all(struct rpc_request *req)
{
	const struct dir_route_all *ask = req->msg;
	struct dir_routed_all answer = {0};

	answer.recipients.v = ARENA_ARRAY(&req->arena, struct dir_routed_one, ask->recipients.n + 1);
	answer.recipients.n = ask->recipients.n;
	for (size_t i = 0; i < ask->recipients.n; i++)
		answer.recipients.v[i].routed = fake_route(ask->recipients.v[i].recipient);
	rpc_answer(req, &answer);
}

/* old.test has become new.test, but for senders with a table of their own; away@old.test nobody can tell. */
static inline void fake_rewrite(struct rpc_request *req)
{
	const struct dir_rewrite *ask = req->msg;
	struct dir_rewritten answer = {0};
	struct err err = ERR_NONE;

	answer.addresses.v = ARENA_ARRAY(&req->arena, struct dir_rewritten_one, ask->addresses.n + 1);
	answer.addresses.n = ask->addresses.n;
	for (size_t i = 0; i < ask->addresses.n; i++) {
		struct str address = ask->addresses.v[i].address, local, domain;
		bool own = ask->addresses.v[i].maps & REWRITE_BY_SENDER_CANONICAL;

		if (str_eq(address, STR("away@old.test"))) {
			err_set(&err, ERR_TEMP, "4.3.0", "the table is away");
			rpc_refuse(req, &err);
			return;
		}
		if (str_split(address, '@', &local, &domain) && str_ieq(domain, STR("old.test")))
			answer.addresses.v[i].address =
				arena_printf(&req->arena, "%.*s@%s.test", STR_ARG(local), own ? "sender" : "new");
	}
	rpc_answer(req, &answer);
}

static inline void fake_directory(void *ctx, struct rpc_request *req)
{
	struct fakes *f = ctx;
	struct dir_mechanism_list list = {.names = STR("PLAIN LOGIN SCRAM-SHA-256")};
	struct dir_allowed allowed = {0};

	if (req->number == DIR_RESOLVE.number) {
		fake_resolve(f, req);
	} else if (req->number == DIR_ROUTE.number) {
		struct dir_routed routed = fake_route(((const struct dir_route *)req->msg)->recipient);

		rpc_answer(req, &routed);
	} else if (req->number == DIR_ROUTE_ALL.number) {
		fake_route_all(req);
	} else if (req->number == DIR_REWRITE.number) {
		fake_rewrite(req);
	} else if (req->number == DIR_MECHANISMS.number) {
		rpc_answer(req, &list);
	} else if (req->number == DIR_AUTH_START.number) {
		fake_auth_start(req);
	} else if (req->number == DIR_AUTH_STEP.number) {
		fake_auth_step(req);
	} else if (req->number == DIR_SENDER.number) {
		const struct dir_sender *ask = req->msg;

		allowed.known = str_iends(ask->address, STR("@example.test"));
		allowed.allowed = ask->account == 1 && str_istarts(ask->address, STR("alice@"));
		rpc_answer(req, &allowed);
	} else if (req->number == DIR_LOOKUP.number) {
		const struct dir_lookup *ask = req->msg;
		struct dir_found found = {.found = str_ieq(ask->list, ask->key)};

		rpc_answer(req, &found);
	} else {
		pthread_mutex_lock(&f->lock);
		f->ended++;
		pthread_mutex_unlock(&f->lock);
		rpc_answer(req, NULL);
	}
}

/* ---- store ----------------------------------------------------------------------------------------------- */

static inline char *fake_body(struct fakes *f, struct str body, uint64_t blob, size_t *len_r)
{
	char *bytes;

	if (blob == 0) {
		*len_r = body.len;
		return str_dup(body);
	}
	*len_r = (size_t)f->blob_size;
	bytes = mem_alloc(*len_r + 1);
	if (io_pread(f->blob_fd, bytes, *len_r, 0) != (ssize_t)*len_r)
		abort();
	return bytes;
}

static inline void fake_deliver(struct fakes *f, struct rpc_request *req)
{
	const struct store_deliver *ask = req->msg;
	struct deliver_refusal refusals[100];
	struct store_delivered done = {0};

	done.refusals.v = refusals;
	for (size_t i = 0; i < ask->targets.n && i < 100; i++) {
		uint64_t account = ask->targets.v[i].account;

		if (account == 4)
			refusals[done.refusals.n++] = (struct deliver_refusal){(uint32_t)i, ERR_FULL, STR("4.2.2"),
									       STR("the mailbox is full")};
		if (account == 5)
			refusals[done.refusals.n++] =
				(struct deliver_refusal){(uint32_t)i, ERR_PERM, STR("5.2.1"), STR("no mail here")};
	}
	for (size_t i = 0; done.refusals.n == 0 && i < ask->targets.n; i++) {
		struct fake_delivered d = {.account = ask->targets.v[i].account, .head = *ask};
		size_t len;
		char *body = fake_body(f, ask->body, ask->blob, &len);

		d.len = ask->targets.v[i].prefix.len + len;
		d.file = mem_alloc(d.len + 1);
		memcpy(d.file, ask->targets.v[i].prefix.ptr, ask->targets.v[i].prefix.len);
		memcpy(d.file + ask->targets.v[i].prefix.len, body, len);
		free(body);
		pthread_mutex_lock(&f->lock);
		vec_push(&f->delivered, d);
		pthread_mutex_unlock(&f->lock);
	}
	rpc_answer(req, &done);
}

static inline int fake_blob(struct fakes *f)
{
	fd_close(&f->blob_fd);
	f->blob_fd = memfd_create("blob", MFD_CLOEXEC);
	return f->blob_fd;
}

/* Length and sum of a finished blob are those of its bytes. */
static inline void fake_blob_finish(struct fakes *f, struct rpc_request *req, uint64_t size, uint32_t crc)
{
	char *bytes = mem_alloc(size + 1);
	struct err err = ERR_NONE;
	uint8_t ok = 0;

	if (lseek(f->blob_fd, 0, SEEK_END) != (off_t)size || io_pread(f->blob_fd, bytes, size, 0) != (ssize_t)size ||
	    crc32c(0, bytes, size) != crc) {
		err_set(&err, ERR_PERM, "5.0.0", "blob differs");
		rpc_refuse(req, &err);
	} else {
		f->blob_size = size;
		rpc_answer(req, &ok);
	}
	free(bytes);
}

static inline void fake_store(void *ctx, struct rpc_request *req)
{
	struct fakes *f = ctx;
	struct err err = ERR_NONE;

	if (req->number == STORE_CONFIRM.number) {
		const struct store_confirm *confirm = req->msg;

		pthread_mutex_lock(&f->lock);
		f->confirmed += !confirm->unheard;
		pthread_mutex_unlock(&f->lock);
		rpc_answer(req, NULL);
	} else if (req->number == STORE_BLOB_DROP.number) {
		f->dropped++;
		rpc_answer(req, NULL);
	} else if (f->store_down) {
		err_set(&err, ERR_TEMP, "4.3.0", "store is down");
		rpc_refuse(req, &err);
	} else if (req->number == STORE_DELIVER.number) {
		fake_deliver(f, req);
	} else if (req->number == STORE_BLOB_BEGIN.number) {
		struct blob blob = {.blob = 7, .fd = fake_blob(f)};

		rpc_answer(req, &blob);
	} else if (req->number == STORE_BLOB_FINISH.number) {
		const struct blob_finish *ask = req->msg;

		fake_blob_finish(f, req, ask->size, ask->crc);
	} else {
		err_set(&err, ERR_PERM, "5.5.1", "the fake store has no call %u", req->number);
		rpc_refuse(req, &err);
	}
}

/* ---- queue ----------------------------------------------------------------------------------------------- */

static inline char *fake_message_text(struct fakes *f, const struct queue_message *m)
{
	struct buf text;
	size_t len;
	char *body = fake_body(f, m->body, m->blob, &len);

	buf_init(&text, 64 << 20);
	buf_addf(&text, "%.*s|", STR_ARG(m->sender));
	for (size_t i = 0; i < m->rcpts.n; i++)
		buf_addf(&text, "%s%.*s", i > 0 ? "," : "", STR_ARG(m->rcpts.v[i].address));
	buf_addz(&text, "|");
	buf_add_str(&text, m->prefix);
	buf_add(&text, body, len);
	free(body);
	return buf_detach(&text, NULL);
}

static inline void fake_result(struct fakes *f, const struct queue_result *r)
{
	for (size_t i = 0; i < r->outcomes.n; i++)
		vec_push(&f->outcomes, mem_printf("%u %u %.*s %.*s", r->outcomes.v[i].index, r->outcomes.v[i].outcome,
						  STR_ARG(r->outcomes.v[i].code), STR_ARG(r->outcomes.v[i].text)));
	for (size_t i = 0; i < r->bounces.n; i++)
		vec_push(&f->bounces, fake_message_text(f, &r->bounces.v[i]));
}

static inline void fake_queue(void *ctx, struct rpc_request *req)
{
	struct fakes *f = ctx;
	struct err err = ERR_NONE;
	struct queue_admitted admitted = {0};

	if (f->queue_down) {
		err_set(&err, ERR_TEMP, "4.3.0", "queue is down");
		rpc_refuse(req, &err);
	} else if (req->number == QUEUE_COMMIT.number) {
		const struct queue_message *m = &((const struct queue_commit *)req->msg)->message;
		struct queue_id id = {.id = m->id};

		pthread_mutex_lock(&f->lock);
		vec_push(&f->queued, fake_message_text(f, m));
		pthread_mutex_unlock(&f->lock);
		rpc_answer(req, &id);
	} else if (req->number == QUEUE_ORPHANS.number) {
		struct queue_orphans none = {0};

		rpc_answer(req, &none);
	} else if (req->number == QUEUE_HEARD.number) {
		rpc_answer(req, NULL);
	} else if (req->number == QUEUE_CLAIM.number) {
		struct queue_claim_info info = {.alone = 1, .first = 1, .warned = f->warned};
		struct queue_claimed got = {0};

		f->claims++;
		if (atomic_load(&f->keep_claim)) {
			f->kept_claim = req;
			atomic_store(&f->keep_claim, false);
			return;
		}
		got.messages.v = f->claimable;
		got.messages.n = f->claimable != NULL;
		got.infos.v = &info;
		got.infos.n = got.messages.n;
		rpc_answer(req, &got);
		f->claimable = NULL;
	} else if (req->number == QUEUE_GIVE_BACK.number) {
		atomic_fetch_add(&f->given_back, 1);
		rpc_answer(req, NULL);
	} else if (req->number == QUEUE_RESULT.number && f->refuse_results > 0) {
		f->refuse_results--;
		err_set(&err, ERR_TEMP, "4.3.0", "not now");
		rpc_refuse(req, &err);
	} else if (req->number == QUEUE_RESULT.number) {
		struct queue_ended ended = {.ended = 1};

		fake_result(f, req->msg);
		rpc_answer(req, &ended);
	} else if (req->number == QUEUE_ETRN.number) {
		struct queue_acted acted = {.count = f->queued.n};

		rpc_answer(req, &acted);
	} else if (req->number == QUEUE_ADMIT.number) {
		rpc_answer(req, &admitted);
	} else if (req->number == QUEUE_BLOB_BEGIN.number) {
		struct queue_blob blob = {.blob = 8, .fd = fake_blob(f)};

		rpc_answer(req, &blob);
	} else if (req->number == QUEUE_BLOB_FINISH.number) {
		const struct queue_blob_finish *ask = req->msg;

		fake_blob_finish(f, req, ask->size, ask->crc);
	} else {
		rpc_answer(req, NULL);
	}
}

/* ---- all together ---------------------------------------------------------------------------------------- */

static inline void *fake_run(void *server)
{
	rpc_server_run(server);
	return NULL;
}

static inline void fakes_start(struct fakes *f)
{
	const struct rpc_service services[] = {
		{.name = "directory", .table = DIR_CALLS, .handle = fake_directory, .ctx = f},
		{.name = "store", .table = STORE_CALLS, .handle = fake_store, .ctx = f},
		{.name = "queue", .table = QUEUE_CALLS, .handle = fake_queue, .ctx = f},
	};
	struct rpc_channel *channels[3];

	memset(f, 0, sizeof(*f));
	f->blob_fd = -1;
	pthread_mutex_init(&f->lock, NULL);
	f->directory = rpc_channel_new("directory", DIR_CALLS);
	f->queue_client = queue_client_new();
	f->queue = queue_client_channel(f->queue_client);
	f->store = store_client_new(NULL);
	channels[0] = f->directory;
	channels[1] = store_client_channel(f->store);
	channels[2] = f->queue;
	for (int i = 0; i < 3; i++) {
		int pair[2];

		if (fd_socketpair(pair) < 0)
			abort();
		f->servers[i] = rpc_server_new(&services[i]);
		rpc_server_add_peer(f->servers[i], pair[0], 1);
		pthread_create(&f->threads[i], NULL, fake_run, f->servers[i]);
		rpc_channel_attach(channels[i], pair[1]);
	}
}

static inline void fakes_clear(struct fakes *f)
{
	pthread_mutex_lock(&f->lock);
	for (size_t i = 0; i < f->delivered.n; i++)
		free(f->delivered.v[i].file);
	vec_clear(&f->delivered);
	for (size_t i = 0; i < f->queued.n; i++)
		free(f->queued.v[i]);
	vec_clear(&f->queued);
	for (size_t i = 0; i < f->outcomes.n; i++)
		free(f->outcomes.v[i]);
	vec_clear(&f->outcomes);
	for (size_t i = 0; i < f->bounces.n; i++)
		free(f->bounces.v[i]);
	vec_clear(&f->bounces);
	f->confirmed = f->ended = f->dropped = 0;
	pthread_mutex_unlock(&f->lock);
}

static inline void fakes_stop(struct fakes *f)
{
	for (int i = 0; i < 3; i++) {
		rpc_server_stop(f->servers[i]);
		pthread_join(f->threads[i], NULL);
		rpc_server_free(&f->servers[i]);
	}
	rpc_channel_free(&f->directory);
	queue_client_free(&f->queue_client);
	store_client_free(&f->store);
	fakes_clear(f);
	vec_release(&f->delivered);
	vec_release(&f->queued);
	vec_release(&f->outcomes);
	vec_release(&f->bounces);
	fd_close(&f->blob_fd);
	pthread_mutex_destroy(&f->lock);
}

#endif
