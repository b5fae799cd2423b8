/* Files of messages that have ended, from the end until they are removed.
 *
 *	end is durable --> in memory --checkpoint, a few--> removed, and synced with what the checkpoint wrote
 *	                            \--checkpoint, many--> file `gone`, synced --at idle pace--> removed
 *
 * Removing a file may wait for the disk: nobody who answers does it. Until the checkpoint the journal tells of the end;
 * after it a file without a message only wastes room, but without an index the files are what is known of messages,
 * and one that was deleted must not come back. So a checkpoint goes on when the files are gone, or when their names
 * stand in `gone`: a thousand names are written in the time of one removal, and who deletes a great queue waits for
 * neither.
 *
 *	gone = records { name padded with zeros, CRC32C of it }
 *
 * Threads: the loop adds and reads; the index thread writes; the pool removes. */
#include "queue/service_private.h"

#include "base/clock.h"
#include "base/encode.h"
#include "base/fatal.h"
#include "base/log.h"
#include "journal/record.h"
#include "os/io.h"
#include <errno.h>

#define LIST_NAME  "gone"
#define RECORD	   (QUEUE_ID_MAX + 4u)
#define NOW_MANY   200u /* are removed by the checkpoint itself */
#define WRITE_MANY 1000u
#define SWEEP_MANY 100u
#define WAIT_MS	   1000
#define REST_MS	   20 /* and as long as the removals took */

struct gone_file {
	char name[QUEUE_ID_MAX];
};

struct gone {
	struct queue_service *q;
	pthread_mutex_t lock; /* of what the index thread shares with the loop */
	VEC(struct gone_file) ended;
	int fd;	      /* the list, or -1 */
	uint64_t len; /* of it, whole records */
	bool writing; /* more is coming to it */

	/* The loop's, and the pool's while a task of it runs. */
	bool sweeping; /* a step is under way, or due */
	uint64_t at;
	struct gone_file batch[SWEEP_MANY];
	size_t n;
	int64_t took_ms;
};

static void sweep_step(void *ctx);

struct gone *gone_new(struct queue_service *q)
{
	struct gone *g = NEW(struct gone);

	g->q = q;
	g->fd = -1;
	pthread_mutex_init(&g->lock, NULL);
	return g;
}

void gone_free(struct gone **gp)
{
	struct gone *g = *gp;

	*gp = NULL;
	if (!g)
		return;
	if (g->fd >= 0)
		io_close(g->fd);
	vec_release(&g->ended);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

int gone_open(struct gone *g, struct err *err)
{
	struct stat st;

	g->fd = io_open(g->q->o.dirfd, LIST_NAME, O_RDWR, 0);
	if (g->fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, "cannot open the queue's list of removed files");
	if (io_fstat(g->fd, &st) < 0)
		return err_errno(err, "cannot read the queue's list of removed files");
	g->len = (uint64_t)st.st_size / RECORD * RECORD;
	return 0;
}

void gone_add(struct gone *g, struct str id)
{
	struct gone_file file = {0};

	snprintf(file.name, sizeof(file.name), "%.*s", STR_ARG(id));
	pthread_mutex_lock(&g->lock);
	vec_push(&g->ended, file);
	pthread_mutex_unlock(&g->lock);
}

/* ---- the list (index thread) ---------------------------------------------------------------------------- */

static int list_open(struct gone *g)
{
	int fd = io_open(g->q->o.dirfd, LIST_NAME, O_RDWR | O_CREAT, 0600);

	/* A sync that fails leaves open what is on the disk. */
	if (fd >= 0 && io_fsync(g->q->o.dirfd) < 0)
		storage_failed("cannot sync the queue's directory: %s", strerror(errno));
	return fd;
}

/* From `at` on; to *end_r. */
static int list_write(int fd, const struct gone_file *v, size_t n, uint64_t at, uint64_t *end_r)
{
	uint8_t *records = mem_alloc(WRITE_MANY * RECORD);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n;) {
		size_t fill = 0;

		for (; i < n && fill < WRITE_MANY; i++, fill++) {
			uint8_t *r = records + fill * RECORD;

			memcpy(r, v[i].name, QUEUE_ID_MAX);
			le32_put(r + QUEUE_ID_MAX, crc32c(0, r, QUEUE_ID_MAX));
		}
		rc = io_pwrite(fd, records, fill * RECORD, (off_t)at) < 0 ? -1 : 0;
		at += fill * RECORD;
	}
	free(records);
	if (rc == 0 && io_fdatasync(fd) < 0)
		storage_failed("cannot sync the queue's list of removed files: %s", strerror(errno));
	*end_r = at;
	return rc;
}

/* 0 when all of them stand in it. The loop never waits for the disk meanwhile, and does not end the list. */
static int list_add(struct gone *g, const struct gone_file *v, size_t n)
{
	uint64_t at, end;
	int fd, rc;

	pthread_mutex_lock(&g->lock);
	g->writing = true;
	fd = g->fd;
	at = g->len;
	pthread_mutex_unlock(&g->lock);
	fd = fd < 0 ? list_open(g) : fd;
	rc = fd < 0 ? -1 : list_write(fd, v, n, at, &end);
	pthread_mutex_lock(&g->lock);
	g->writing = false;
	g->fd = fd;
	if (rc == 0)
		g->len = end;
	pthread_mutex_unlock(&g->lock);
	return rc;
}

void gone_settle(struct gone *g)
{
	struct gone_file *v;
	size_t n;

	pthread_mutex_lock(&g->lock);
	v = g->ended.v;
	n = g->ended.n;
	memset(&g->ended, 0, sizeof(g->ended));
	pthread_mutex_unlock(&g->lock);
	/* On a full disk there may be no room for the list: removing makes some. */
	if (n > NOW_MANY && list_add(g, v, n) == 0)
		rpc_server_after(g->q->server, WAIT_MS, gone_sweep, g);
	else
		for (size_t i = 0; i < n; i++)
			contents_unlink(g->q, str_from(v[i].name));
	free(v);
}

/* ---- removing ------------------------------------------------------------------------------------------- */

static void remove_file(struct gone *g, const struct gone_file *file)
{
	if (io_unlink(g->q->msgs, file->name) < 0 && errno != ENOENT)
		log_warning("cannot remove queue file %s: %s", file->name, strerror(errno));
}

/* A message may have come by the same name. One that cannot be looked up counts as there. */
static void batch_add(struct gone *g, const uint8_t *r)
{
	const char *name = (const char *)r;

	if (le32_get(r + QUEUE_ID_MAX) != crc32c(0, r, QUEUE_ID_MAX) || name[QUEUE_ID_MAX - 1] != 0 ||
	    !queue_id_ok(str_from(name)) || contents_wanted(g->q, str_from(name)))
		return;
	memcpy(g->batch[g->n++].name, name, QUEUE_ID_MAX);
}

/* The next of the list. False: there is none. One that cannot be read is the next start's: its files are found by
 * tidy.c. */
static bool batch_read(struct gone *g)
{
	uint8_t records[SWEEP_MANY * RECORD];
	ssize_t got;
	uint64_t len;
	int fd;

	g->n = 0;
	pthread_mutex_lock(&g->lock);
	fd = g->fd;
	len = g->len - g->at < sizeof(records) ? g->len - g->at : sizeof(records);
	pthread_mutex_unlock(&g->lock);
	if (len == 0)
		return false;
	got = io_pread(fd, records, len, (off_t)g->at);
	if (got < 0)
		log_warning("cannot read the queue's list of removed files: %s", strerror(errno));
	for (ssize_t at = 0; at + (ssize_t)RECORD <= got; at += (ssize_t)RECORD)
		batch_add(g, records + at);
	g->at += len;
	return true;
}

/* All are removed, and it is on the disk: nobody asks for the list any more. False: more came meanwhile. */
static bool list_end(struct gone *g)
{
	bool all;

	pthread_mutex_lock(&g->lock);
	all = g->at == g->len && !g->writing;
	if (all) {
		if (io_unlink(g->q->o.dirfd, LIST_NAME) < 0)
			log_warning("cannot remove the queue's list of removed files: %s", strerror(errno));
		io_close(g->fd);
		g->fd = -1;
		g->len = g->at = 0;
	}
	pthread_mutex_unlock(&g->lock);
	return all;
}

static void sweep_again(void *ctx)
{
	struct gone *g = ctx;

	rpc_server_after(g->q->server, REST_MS + g->took_ms, sweep_step, g);
}

/* The pool's. */
static void sweep_files(void *ctx)
{
	struct gone *g = ctx;
	int64_t began = clock_ms();

	for (size_t i = 0; i < g->n; i++)
		remove_file(g, &g->batch[i]);
	g->took_ms = clock_ms() - began;
	rpc_server_after(g->q->server, 0, sweep_again, g);
}

static void sweep_end(void *ctx)
{
	struct gone *g = ctx;

	g->sweeping = false;
	if (!list_end(g))
		gone_sweep(g);
}

static void sweep_sync(void *ctx)
{
	struct gone *g = ctx;

	if (io_syncfs(g->q->msgs) < 0)
		storage_failed("cannot sync the queue's files: %s", strerror(errno));
	rpc_server_after(g->q->server, 0, sweep_end, g);
}

static void sweep_step(void *ctx)
{
	struct gone *g = ctx;

	/* Who works by hand does not wait for the disk behind us. */
	if (g->q->acting.n > 0)
		rpc_server_after(g->q->server, WAIT_MS, sweep_step, g);
	else
		pool_run(g->q->pool, 0, batch_read(g) ? sweep_files : sweep_sync, g);
}

void gone_sweep(void *ctx)
{
	struct gone *g = ctx;

	bool is_there;

	pthread_mutex_lock(&g->lock);
	is_there = g->fd >= 0;
	pthread_mutex_unlock(&g->lock);
	if (g->sweeping || !is_there)
		return;
	g->sweeping = true;
	sweep_step(g);
}

bool gone_is_swept(const struct gone *g)
{
	return !g->sweeping;
}

void gone_sweep_now(struct gone *g)
{
	if (g->fd < 0)
		return;
	while (batch_read(g))
		for (size_t i = 0; i < g->n; i++)
			remove_file(g, &g->batch[i]);
	if (io_syncfs(g->q->msgs) < 0)
		storage_failed("cannot sync the queue's files: %s", strerror(errno));
	(void)list_end(g);
}
