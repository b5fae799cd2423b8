/* Opening, serving, ending. What is done: change.c, claim.c, admin.c; where bytes are: contents.c. */
#include "queue/service_private.h"

#include "base/log.h"
#include "config/roles.h"
#include "os/fd.h"
#include "os/io.h"
#include <errno.h>

#define SPOOL_LIMIT  ((uint64_t)1 << 30)
#define READ_THREADS 2u
#define BLOB_THREADS 2
#define RECOVER_MS   3000

/* ---- blobs -------------------------------------------------------------------------------------------- */

static void *owner(const struct rpc_peer *peer)
{
	return (void *)(uintptr_t)(rpc_peer_id(peer) + 1);
}

bool blob_is_of(const struct queue_service *q, uint64_t blob, const struct rpc_peer *peer)
{
	return map_get_u64(q->blobs, blob) == owner(peer);
}

/* What a process leaves behind that was killed would fill the spool. */
void blobs_drop_of(struct queue_service *q, const struct rpc_peer *peer)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(q->blobs, &at, &key, &value);) {
		if (value != owner(peer))
			continue;
		spool_drop(q->spool, map_key_u64(key));
		map_remove(q->blobs, key);
	}
}

static void handle_blob_begin(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_blob_begin *r = req->msg;
	struct queue_blob reply = {.fd = -1};
	struct err err = ERR_NONE;
	uint64_t limit = (uint64_t)q->o.parameters.message_size_limit;

	if (limit && r->size_hint > limit) {
		err_set(&err, ERR_LIMIT, "5.3.4", "message size exceeds the limit");
		rpc_refuse(req, &err);
	} else if (spool_begin(q->spool, r->size_hint, &reply.blob, &reply.fd, &err) < 0) {
		rpc_refuse(req, &err);
	} else {
		map_set_u64(q->blobs, reply.blob, owner(req->peer));
		if (!rpc_answer(req, &reply)) {
			spool_drop(q->spool, reply.blob);
			map_remove_u64(q->blobs, reply.blob);
		}
		fd_close(&reply.fd);
	}
}

struct finish_task {
	struct queue_service *q;
	struct rpc_request *req;
};

/* A thread of the pool; answers may come from any. */
static void finish_blob(void *ctx)
{
	struct finish_task *t = ctx;
	const struct queue_blob_finish *r = t->req->msg;
	struct queue_ok ok = {0};
	struct err err = ERR_NONE;

	if (spool_finish(t->q->spool, r->blob, r->size, r->crc, &err) < 0)
		rpc_refuse(t->req, &err);
	else
		rpc_answer(t->req, &ok);
	free(t);
}

static void handle_blob_finish(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_blob_finish *r = req->msg;
	struct finish_task *t;
	struct err err = ERR_NONE;

	if (!blob_is_of(q, r->blob, req->peer)) {
		err_set(&err, ERR_NOT_FOUND, "4.3.0", "no such blob");
		rpc_refuse(req, &err);
		return;
	}
	t = NEW(struct finish_task);
	*t = (struct finish_task){q, req};
	pool_run(q->pool, 0, finish_blob, t);
}

static void handle_blob_drop(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_blob *r = req->msg;

	if (blob_is_of(q, r->blob, req->peer)) {
		spool_drop(q->spool, r->blob);
		map_remove_u64(q->blobs, r->blob);
	}
	rpc_answer(req, NULL);
}

/* ---- requests ----------------------------------------------------------------------------------------- */

static void close_body(struct queue_message *m)
{
	fd_close(&m->body_fd);
}

/* Descriptors that nobody asked for. */
static void close_unwanted(struct rpc_request *req)
{
	struct queue_commit *commit = req->msg;
	struct queue_result *r = req->msg;
	struct queue_blob *blob = req->msg;

	if (req->number == QUEUE_COMMIT.number)
		close_body(&commit->message);
	if (req->number == QUEUE_BLOB_DROP.number)
		fd_close(&blob->fd);
	if (req->number == QUEUE_RESULT.number || req->number == QUEUE_PROGRESS.number)
		for (size_t i = 0; i < r->bounces.n; i++)
			close_body(&r->bounces.v[i]);
}

/* Who may ask what. A front end that was taken over can add messages, and neither read nor end those of others. */
enum { SMTPD = 1 << PROCESS_SMTPD, RELAY = 1 << PROCESS_RELAY, MASTER = 1 << PROCESS_MASTER };

static const struct {
	const struct rpc_call *call;
	void (*fn)(struct queue_service *q, struct rpc_request *req);
	unsigned callers;
} handlers[] = {
	{&QUEUE_COMMIT, queue_handle_commit, SMTPD | RELAY | MASTER},
	{&QUEUE_BLOB_BEGIN, handle_blob_begin, SMTPD | RELAY},
	{&QUEUE_BLOB_FINISH, handle_blob_finish, SMTPD | RELAY},
	{&QUEUE_BLOB_DROP, handle_blob_drop, SMTPD | RELAY},
	{&QUEUE_CLAIM, queue_handle_claim, RELAY},
	{&QUEUE_RESULT, queue_handle_result, RELAY},
	{&QUEUE_PROGRESS, queue_handle_progress, RELAY},
	{&QUEUE_HEARD, queue_handle_heard, SMTPD},
	{&QUEUE_ORPHANS, queue_handle_orphans, SMTPD},
	{&QUEUE_KNOWN, queue_handle_known, SMTPD},
	{&QUEUE_GIVE_BACK, queue_handle_give_back, RELAY},
	{&QUEUE_ADMIT, queue_handle_admit, SMTPD},
	{&QUEUE_LIST, queue_handle_list, MASTER},
	{&QUEUE_ACT, queue_handle_act, MASTER},
	{&QUEUE_READ, queue_handle_read, MASTER},
	{&QUEUE_SUMMARY, queue_handle_summary, MASTER},
	{&QUEUE_ETRN, queue_handle_etrn, SMTPD},
};

static void handle(void *ctx, struct rpc_request *req)
{
	enum process_role role = process_tag_role(rpc_peer_tag(req->peer));
	struct err err = ERR_NONE;

	close_unwanted(req);
	for (size_t i = 0; i < ARRAY_SIZE(handlers); i++) {
		if (handlers[i].call->number != req->number)
			continue;
		if (role < PROCESS_ROLES && (handlers[i].callers & 1u << role)) {
			handlers[i].fn(ctx, req);
			return;
		}
		err_set(&err, ERR_DENIED, "", "that is not for this process to ask");
		rpc_refuse(req, &err);
		return;
	}
	err_set(&err, ERR_SYNTAX, "5.5.1", "no such call");
	rpc_refuse(req, &err);
}

/* ---- life --------------------------------------------------------------------------------------------- */

static int on_replay(void *ctx, uint64_t lsn, struct str extra, struct err *err)
{
	return contents_replay(ctx, lsn, extra, err);
}

static void post(void *ctx, void (*fn)(void *arg), void *arg)
{
	struct queue_service *q = ctx;

	rpc_server_after(q->server, 0, fn, arg);
}

static int open_storage(struct queue_service *q, struct err *err)
{
	struct kvlog_options k = {.dirfd = q->o.dirfd,
				  .loop = {post, q},
				  .journal_size_limit = q->o.journal_size_limit,
				  .segment_size = q->o.segment_size,
				  .keys_alone = true,
				  .hooks = {.replay = on_replay,
					    .recovered = contents_recovered,
					    .settle = contents_settle,
					    .settled = contents_settled,
					    .ctx = q}};

	if (io_mkdir(q->o.dirfd, "msgs", 0700) < 0 && errno != EEXIST)
		return err_errno(err, "cannot make the queue's directory");
	q->msgs = io_open(q->o.dirfd, "msgs", O_RDONLY | O_DIRECTORY, 0);
	if (q->msgs < 0)
		return err_errno(err, "cannot open the queue's directory");
	if (spool_open(q->o.dirfd, SPOOL_LIMIT, &q->spool, err) < 0 || gone_open(q->gone, err) < 0 ||
	    kvlog_open(&k, &q->k, err) < 0)
		return -1;
	if (taken_load(q, err) < 0)
		return -1;
	if (!kvlog_read_only(q->k) && (queue_upgrade(q, err) < 0 || contents_rebuild(q, err) < 0))
		return -1;
	return schedule_load(q, err);
}

struct queue_service *queue_service_new(const struct queue_options *options, struct err *err)
{
	struct queue_service *q = NEW(struct queue_service);

	q->o = *options;
	q->msgs = -1;
	pthread_mutex_init(&q->lock, NULL);
	q->claims = map_new();
	q->spreads = map_new();
	q->etrn = map_new();
	q->schedule = schedule_new();
	q->contents_by_id = map_new();
	q->unread = map_new();
	q->blobs = map_new();
	q->gone = gone_new(q);
	q->taken = map_new();
	q->pool = pool_new(BLOB_THREADS);
	q->readers = pool_new(READ_THREADS);
	q->service = (struct rpc_service){.name = "queue",
					  .table = QUEUE_CALLS,
					  .handle = handle,
					  .peer_closed = queue_peer_closed,
					  .peer_name = process_tag_name,
					  .ctx = q};
	q->server = rpc_server_new(&q->service);
	if (open_storage(q, err) < 0)
		queue_service_free(&q);
	return q;
}

void queue_service_configure(struct queue_service *q, const struct queue_parameters *parameters)
{
	q->o.parameters = *parameters;
}

void queue_service_add_peer(struct queue_service *q, int fd, uint64_t tag)
{
	rpc_server_add_peer(q->server, fd, tag);
}

/* Recovery could not finish, on a full disk perhaps: a new process tries again when files can be written. */
static void recover_look(void *ctx)
{
	struct queue_service *q = ctx;

	if (kvlog_may_recover(q->k)) {
		log_info("files can be written again: starting anew");
		q->start_anew = true;
		rpc_server_stop(q->server);
		return;
	}
	rpc_server_after(q->server, RECOVER_MS, recover_look, q);
}

bool queue_service_starts_anew(const struct queue_service *q)
{
	return q->start_anew;
}

void queue_service_run(struct queue_service *q)
{
	if (kvlog_read_only(q->k))
		rpc_server_after(q->server, RECOVER_MS, recover_look, q);
	else
		tidy_begin(q);
	rpc_server_run(q->server);
}

void queue_service_stop(struct queue_service *q)
{
	rpc_server_stop(q->server);
}

bool queue_service_read_only(const struct queue_service *q)
{
	return kvlog_read_only(q->k);
}

struct rpc_server *queue_service_server(struct queue_service *q)
{
	return q->server;
}

void queue_service_free(struct queue_service **qp)
{
	struct queue_service *q = *qp;
	struct err err = {.kind = ERR_TEMP, .text = "the queue is stopping"};

	*qp = NULL;
	if (!q)
		return;
	pool_free(&q->pool);
	pool_free(&q->readers);
	claims_refuse(q, &err);
	while (q->polls.n)
		rpc_refuse(q->polls.v[--q->polls.n].req, &err);
	queue_acts_refuse(q, &err);
	kvlog_close(&q->k); /* answers what becomes durable meanwhile */
	rpc_server_free(&q->server);
	tidy_free(q);
	contents_free(q);
	spool_close(&q->spool);
	if (q->msgs >= 0)
		io_close(q->msgs);
	claims_free_all(q);
	spread_free_all(q);
	map_free(&q->etrn);
	schedule_free(&q->schedule);
	map_free(&q->unread);
	map_free(&q->blobs);
	taken_free_all(q);
	vec_release(&q->polls);
	for (size_t i = 0; i < q->put_offs.n; i++)
		free(q->put_offs.v[i].key);
	vec_release(&q->put_offs);
	vec_release(&q->ended);
	pthread_mutex_destroy(&q->lock);
	free(q);
}
