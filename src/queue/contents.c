/* Where the bytes of queued messages are.
 *
 *	commit -> journal, and in memory (or the spool) -> checkpoint: file msgs/ID, synced -> index -> memory freed
 *
 *	file = body, envelope (as the index holds it), u64 body length, u32 envelope length, u32 CRC32C of all
 *	       before, 8 bytes of magic; behind it one more byte when a message that came to be held was released:
 *	       any other than RELEASED_MARK is one that a power loss took, and says nothing
 *
 * The body comes first, so that a descriptor of the file is one of the body. A message that ends is noted in the
 * journal too, and removals of files are synced by the next checkpoint: without an index the files are what is
 * known of older messages, and one that was delivered must not come back. */
#include "queue/service_private.h"

#include "base/encode.h"
#include "base/fatal.h"
#include "base/log.h"
#include "journal/record.h"
#include "os/io.h"
#include <errno.h>

#define TRAILER	      24u
#define MAGIC	      "PTRQUEU1"
#define ENVELOPE_MAX  (5u << 20)
#define PIECE	      ((size_t)256 << 10)
#define SETTLE_MANY   1000u
#define ENDED	      UINT64_MAX       /* in place of the blob: the message is gone */
#define RELEASED      (UINT64_MAX - 1) /* the same: it is held no more */
#define RELEASED_MARK "R"

/* ---- records ------------------------------------------------------------------------------------------ */

static void add_bytes(struct buf *out, struct str s)
{
	uint8_t head[4];

	le32_put(head, (uint32_t)s.len);
	buf_add(out, head, sizeof(head));
	buf_add_str(out, s);
}

void contents_encode(struct buf *out, struct str id, const struct queue_message *m, struct str envelope,
		     uint64_t blob_size)
{
	uint8_t head[16];

	le64_put(head, m->blob);
	le64_put(head + 8, m->blob ? blob_size : m->body.len);
	buf_add(out, head, sizeof(head));
	add_bytes(out, id);
	add_bytes(out, envelope);
	add_bytes(out, m->blob ? STR_NULL : m->body);
}

static void encode_event(struct buf *out, uint64_t event, struct str id)
{
	uint8_t head[16] = {0};

	le64_put(head, event);
	buf_add(out, head, sizeof(head));
	add_bytes(out, id);
	add_bytes(out, STR_NULL);
	add_bytes(out, STR_NULL);
}

void contents_encode_end(struct buf *out, struct str id)
{
	encode_event(out, ENDED, id);
}

void contents_encode_released(struct buf *out, struct str id)
{
	encode_event(out, RELEASED, id);
}

static bool take_bytes(struct str *in, struct str *out)
{
	uint32_t len;

	if (in->len < 4 || (len = le32_get(in->ptr)) > in->len - 4)
		return false;
	*out = str_sub(*in, 4, len);
	*in = str_skip(*in, 4 + (size_t)len);
	return true;
}

/* One entry of a record's extra part; its strings point into the record. */
struct entry {
	uint64_t blob, size;
	struct str id, envelope, body;
};

static bool take_entry(struct str *in, struct entry *e)
{
	if (in->len < 16)
		return false;
	e->blob = le64_get(in->ptr);
	e->size = le64_get(in->ptr + 8);
	*in = str_skip(*in, 16);
	return take_bytes(in, &e->id) && take_bytes(in, &e->envelope) && take_bytes(in, &e->body) &&
	       queue_id_ok(e->id) && (e->blob || e->size == e->body.len);
}

bool contents_check(struct str extra)
{
	struct entry e;

	while (extra.len)
		if (!take_entry(&extra, &e))
			return false;
	return true;
}

static void contents_add(struct queue_service *q, uint64_t lsn, const struct entry *e)
{
	struct contents *c = NEW(struct contents);

	snprintf(c->id, sizeof(c->id), "%.*s", STR_ARG(e->id));
	c->lsn = lsn;
	c->blob = e->blob;
	c->size = e->size;
	c->refs = 1;
	c->envelope = mem_dup(e->envelope.ptr, e->envelope.len);
	c->envelope_len = e->envelope.len;
	c->body = e->blob ? NULL : str_dup(e->body);
	pthread_mutex_lock(&q->lock);
	vec_push(&q->contents, c);
	map_set(q->contents_by_id, e->id, c);
	pthread_mutex_unlock(&q->lock);
}

/* For the next checkpoint: without an index it would be on hold again. */
static void contents_released(struct queue_service *q, uint64_t lsn, struct str id)
{
	struct released r = {.lsn = lsn};

	snprintf(r.id, sizeof(r.id), "%.*s", STR_ARG(id));
	pthread_mutex_lock(&q->lock);
	vec_push(&q->released, r);
	pthread_mutex_unlock(&q->lock);
}

void contents_take(struct queue_service *q, uint64_t lsn, struct str extra)
{
	struct entry e;

	while (extra.len && take_entry(&extra, &e))
		if (e.blob == RELEASED)
			contents_released(q, lsn, e.id);
		else if (e.blob != ENDED)
			contents_add(q, lsn, &e);
}

int contents_replay(struct queue_service *q, uint64_t lsn, struct str extra, struct err *err)
{
	struct entry e;

	if (!contents_check(extra))
		return err_set(err, ERR_PERM, "5.3.0", "journal record %llu is no queue record",
			       (unsigned long long)lsn);
	contents_take(q, lsn, extra);
	while (extra.len && take_entry(&extra, &e))
		if (e.blob == ENDED)
			contents_end(q, e.id);
	return 0;
}

/* ---- under the lock ----------------------------------------------------------------------------------- */

static void contents_unref(struct contents *c)
{
	if (--c->refs > 0)
		return;
	free(c->body);
	free(c->envelope);
	free(c);
}

/* Not the map's any more, if it was. */
static void contents_forget(struct queue_service *q, struct contents *c)
{
	struct str id = str_from(c->id);

	if (map_get(q->contents_by_id, id) == c)
		map_remove(q->contents_by_id, id);
	contents_unref(c);
}

/* ---- files -------------------------------------------------------------------------------------------- */

/* from: of the blob, or -1: the body is in memory. */
static int write_body(int fd, int from, const struct contents *c, uint32_t *crc, struct err *err)
{
	char *piece;
	uint64_t at = 0;
	ssize_t n = 0;
	int rc = 0;

	if (from < 0) {
		*crc = crc32c(0, c->body, c->size);
		return c->size && io_pwrite(fd, c->body, c->size, 0) < 0 ? err_errno(err, "cannot write a queue file")
									 : 0;
	}
	piece = mem_alloc(PIECE);
	*crc = 0;
	while (rc == 0 && at < c->size &&
	       (n = io_pread(from, piece, c->size - at < PIECE ? c->size - at : PIECE, (off_t)at)) > 0) {
		*crc = crc32c(*crc, piece, (size_t)n);
		rc = io_pwrite(fd, piece, (size_t)n, (off_t)at);
		at += (uint64_t)n;
	}
	if (rc < 0 || n < 0)
		rc = err_errno(err, "cannot copy a message out of the spool");
	else if (at < c->size)
		rc = err_set(err, ERR_TEMP, "4.3.0", "a message in the spool is cut short");
	free(piece);
	return rc;
}

static int write_file(struct queue_service *q, const struct contents *c, struct err *err)
{
	uint8_t trailer[TRAILER];
	uint32_t crc = 0;
	int fd, from = -1, rc;

	/* The source first: nothing is there to be cut off for a body that cannot be read. */
	if (c->blob && (from = spool_read(q->spool, c->blob, err)) < 0)
		return -1;
	fd = io_open(q->msgs, c->id, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0) {
		err_errno(err, "cannot create queue file %s", c->id);
		if (from >= 0)
			io_close(from);
		return -1;
	}
	rc = write_body(fd, from, c, &crc, err);
	if (from >= 0)
		io_close(from);
	le64_put(trailer, c->size);
	le32_put(trailer + 8, (uint32_t)c->envelope_len);
	crc = crc32c(crc, c->envelope, c->envelope_len);
	crc = crc32c(crc, trailer, 12);
	le32_put(trailer + 12, crc);
	memcpy(trailer + 16, MAGIC, 8);
	if (rc == 0 && (io_pwrite(fd, c->envelope, c->envelope_len, (off_t)c->size) < 0 ||
			io_pwrite(fd, trailer, sizeof(trailer), (off_t)(c->size + c->envelope_len)) < 0))
		rc = err_errno(err, "cannot write queue file %s", c->id);
	io_close(fd);
	if (rc < 0 && io_unlink(q->msgs, c->id) < 0)
		log_warning("cannot remove unfinished queue file %s: %s", c->id, strerror(errno));
	return rc;
}

void contents_unlink(struct queue_service *q, struct str id)
{
	char name[QUEUE_ID_MAX];

	snprintf(name, sizeof(name), "%.*s", STR_ARG(id));
	if (io_unlink(q->msgs, name) == 0)
		q->unsynced = true;
	else if (errno != ENOENT)
		log_warning("cannot remove queue file %s: %s", name, strerror(errno));
}

/* ---- checkpoint (index thread) ------------------------------------------------------------------------ */

/* The next one to write from *at on, with a reference. Only this thread takes any out, so the place holds while more
 * come. */
static struct contents *next_unfiled(struct queue_service *q, uint64_t lsn, size_t *at)
{
	struct contents *c = NULL;

	pthread_mutex_lock(&q->lock);
	for (; *at < q->contents.n && !c && q->contents.v[*at]->lsn <= lsn; ++*at)
		if (!q->contents.v[*at]->filed && !q->contents.v[*at]->gone)
			c = q->contents.v[*at];
	if (c)
		c->refs++;
	pthread_mutex_unlock(&q->lock);
	return c;
}

/* Where the trailer ends, and what stands behind it: RELEASED_MARK[0], another byte, or 0 for none. 1, 0 there is no
 * trailer, -1 errno. */
static int trailer_end(int fd, off_t *end_r, char *behind_r)
{
	char last[9] = {0};
	struct stat st;

	if (io_fstat(fd, &st) < 0)
		return -1;
	*end_r = st.st_size;
	*behind_r = 0;
	if (st.st_size < (off_t)TRAILER)
		return 0;
	if (io_pread(fd, last, sizeof(last), st.st_size - (off_t)sizeof(last)) != sizeof(last))
		return -1;
	if (memcmp(last + 1, MAGIC, 8) == 0)
		return 1;
	*end_r = st.st_size - 1;
	*behind_r = last[8];
	return *end_r >= (off_t)TRAILER && memcmp(last, MAGIC, 8) == 0;
}

static int mark_released(struct queue_service *q, const char *name)
{
	int fd = io_open(q->msgs, name, O_RDWR | O_NOFOLLOW, 0), rc;
	char behind;
	off_t end;

	if (fd < 0)
		return errno == ENOENT ? 0 : -1; /* it has ended meanwhile */
	rc = trailer_end(fd, &end, &behind);
	if (rc > 0)
		rc = io_pwrite(fd, RELEASED_MARK, 1, end) < 0 ? -1 : 1;
	io_close(fd);
	return rc;
}

/* Up to lsn: their files are written. */
static bool next_released(struct queue_service *q, uint64_t lsn, size_t at, struct released *r_r)
{
	bool found;

	pthread_mutex_lock(&q->lock);
	found = at < q->released.n && q->released.v[at].lsn <= lsn;
	if (found)
		*r_r = q->released.v[at];
	pthread_mutex_unlock(&q->lock);
	return found;
}

static void settle_released(struct queue_service *q, uint64_t lsn)
{
	struct released r;
	size_t n = 0;

	for (; next_released(q, lsn, n, &r); n++) {
		int rc = mark_released(q, r.id);

		if (rc < 0)
			log_warning("cannot mark queue file %s as released, it may be on hold again one day: %s", r.id,
				    strerror(errno));
		else if (rc > 0)
			q->unsynced = true;
	}
	if (n == 0)
		return;
	pthread_mutex_lock(&q->lock);
	q->released.n -= n;
	memmove(q->released.v, q->released.v + n, q->released.n * sizeof(*q->released.v));
	pthread_mutex_unlock(&q->lock);
}

int contents_settle(void *ctx, uint64_t lsn, struct err *err)
{
	struct queue_service *q = ctx;
	struct contents *c;
	size_t at = 0;

	while ((c = next_unfiled(q, lsn, &at))) {
		int rc = write_file(q, c, err);
		bool gone;

		/* Also for the next try, which finds it filed, should one of those behind it fail. */
		if (rc == 0)
			q->unsynced = true;
		pthread_mutex_lock(&q->lock);
		c->filed = rc == 0;
		gone = c->gone;
		pthread_mutex_unlock(&q->lock);
		/* It ended while we wrote: whoever ended it found no file to remove. */
		if (gone)
			contents_unlink(q, str_from(c->id));
		pthread_mutex_lock(&q->lock);
		contents_unref(c);
		pthread_mutex_unlock(&q->lock);
		if (rc < 0)
			return -1;
	}
	settle_released(q, lsn);
	gone_settle(q->gone);
	if (atomic_exchange(&q->unsynced, false) && io_syncfs(q->msgs) < 0)
		storage_failed("cannot sync the queue's files: %s", strerror(errno));
	return 0;
}

/* Takes the first of them up to lsn out: at most SETTLE_MANY, so that the loop does not wait for the lock. */
static size_t take_settled(struct queue_service *q, uint64_t lsn, uint64_t blobs[SETTLE_MANY])
{
	size_t n = 0;

	pthread_mutex_lock(&q->lock);
	for (; n < SETTLE_MANY && n < q->contents.n && q->contents.v[n]->lsn <= lsn; n++) {
		blobs[n] = q->contents.v[n]->blob;
		contents_forget(q, q->contents.v[n]);
	}
	if (n > 0) {
		q->contents.n -= n;
		memmove(q->contents.v, q->contents.v + n, q->contents.n * sizeof(*q->contents.v));
	}
	pthread_mutex_unlock(&q->lock);
	return n;
}

void contents_settled(void *ctx, uint64_t lsn)
{
	struct queue_service *q = ctx;
	uint64_t blobs[SETTLE_MANY];
	size_t n;

	while ((n = take_settled(q, lsn, blobs)) > 0)
		for (size_t i = 0; i < n; i++)
			if (blobs[i])
				spool_remove(q->spool, blobs[i]);
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static int give(int fd, uint64_t size, struct queue_message *m, struct arena *a, struct err *err)
{
	char *bytes;
	ssize_t n;

	if (size > QUEUE_INLINE_MAX) {
		m->body_fd = fd;
		return 0;
	}
	bytes = arena_alloc(a, size + 1);
	n = io_pread(fd, bytes, size, 0);
	io_close(fd);
	if (n != (ssize_t)size)
		return err_set(err, ERR_TEMP, "4.3.0", "queue file %.*s is cut short", STR_ARG(m->id));
	m->body = str_of(bytes, size);
	return 0;
}

int contents_here(struct queue_service *q, struct str id, struct queue_message *m, struct arena *a, struct err *err)
{
	uint64_t size = m->size, blob = 0;
	bool here = false;
	const struct contents *c;
	int fd;

	pthread_mutex_lock(&q->lock);
	c = map_get(q->contents_by_id, id);
	if (c) {
		blob = c->blob;
		here = blob == 0;
		if (here)
			m->body = arena_str(a, str_of(c->body, c->size));
	}
	fd = blob ? spool_read(q->spool, blob, err) : -1;
	pthread_mutex_unlock(&q->lock);
	if (!blob)
		return here;
	return fd < 0 || give(fd, size, m, a, err) < 0 ? -1 : 1;
}

int contents_read(struct queue_service *q, struct queue_message *m, struct arena *a, struct err *err)
{
	char name[QUEUE_ID_MAX];
	int fd;

	snprintf(name, sizeof(name), "%.*s", STR_ARG(m->id));
	fd = io_open(q->msgs, name, O_RDONLY | O_NOFOLLOW, 0);
	if (fd < 0)
		return err_errno(err, "cannot open queue file %s", name);
	return give(fd, m->size, m, a, err);
}

int contents_open(struct queue_service *q, struct str id, struct queue_message *m, struct arena *a, struct err *err)
{
	int rc = contents_here(q, id, m, a, err);

	m->id = id;
	if (rc == 0)
		rc = contents_read(q, m, a, err);
	return rc < 0 ? -1 : 0;
}

/* ---- ending ------------------------------------------------------------------------------------------- */

/* Only now, when its end is durable: a checkpoint between commit and flush must still write the file. What no
 * checkpoint has filed has no file; of one that is being written its writer finds out, and removes it. */
void contents_end(struct queue_service *q, struct str id)
{
	struct contents *c;
	bool filed;

	pthread_mutex_lock(&q->lock);
	c = map_get(q->contents_by_id, id);
	filed = !c || c->filed;
	if (c)
		c->gone = true;
	pthread_mutex_unlock(&q->lock);
	if (filed)
		gone_add(q->gone, id);
}

/* ---- recovery ----------------------------------------------------------------------------------------- */

bool contents_wanted(struct queue_service *q, struct str id)
{
	char key[QUEUE_KEY_MAX];
	struct arena a;
	struct str value;
	int rc;

	arena_init(&a);
	rc = kvlog_get(q->k, message_key(id, key), &a, &value, NULL);
	arena_release(&a);
	return rc != 0; /* an entry that cannot be read counts as there */
}

static int each_file(struct queue_service *q, int (*fn)(struct queue_service *q, const char *name, struct err *err),
		     struct err *err)
{
	DIR *dir = io_opendir(q->msgs, ".");
	const char *name;
	int rc = 0, more;

	if (!dir)
		return err_errno(err, "cannot read the queue's files");
	while ((more = io_readdir(dir, &name)) > 0 && rc == 0)
		if (queue_id_ok(str_from(name)))
			rc = fn(q, name, err);
	if (more < 0 && rc == 0)
		rc = err_errno(err, "cannot read all of the queue's files");
	io_closedir(dir);
	return rc;
}

/* CRC32C of the first `len` bytes; -1 when they cannot be read. */
static int file_crc(int fd, uint64_t len, uint32_t *crc)
{
	char *piece = mem_alloc(PIECE);
	uint64_t at = 0;
	ssize_t n = 1;

	*crc = 0;
	while (at < len && (n = io_pread(fd, piece, len - at < PIECE ? len - at : PIECE, (off_t)at)) > 0) {
		*crc = crc32c(*crc, piece, (size_t)n);
		at += (uint64_t)n;
	}
	free(piece);
	return n > 0 || len == 0 ? 0 : -1;
}

/* 1, 0 damaged, -1 errno. */
static int file_check(int fd, struct arena *a, struct str *envelope_r, bool *released_r)
{
	uint8_t trailer[TRAILER];
	uint64_t size;
	uint32_t len, crc;
	char *bytes, behind;
	off_t end;
	int rc = trailer_end(fd, &end, &behind);

	if (rc <= 0)
		return rc;
	*released_r = behind == RELEASED_MARK[0];
	if (io_pread(fd, trailer, TRAILER, end - (off_t)TRAILER) != TRAILER)
		return -1;
	if ((size = le64_get(trailer)) > (uint64_t)end || (len = le32_get(trailer + 8)) > ENVELOPE_MAX ||
	    size + len + TRAILER != (uint64_t)end)
		return 0;
	bytes = arena_alloc(a, len + 1);
	if (io_pread(fd, bytes, len, (off_t)size) != (ssize_t)len || file_crc(fd, size + len, &crc) < 0)
		return -1;
	*envelope_r = str_of(bytes, len);
	return crc32c(crc, trailer, 12) == le32_get(trailer + 12);
}

/* Not swept by the next start: its name is no queue id any more. */
static void set_aside(struct queue_service *q, const char *name)
{
	char aside[QUEUE_ID_MAX + 16];

	snprintf(aside, sizeof(aside), "%s.damaged", name);
	if (io_rename(q->msgs, name, q->msgs, aside) < 0)
		log_error("queue file %s is damaged and cannot be set aside: %s", name, strerror(errno));
	else
		log_error("queue file %s is damaged: it is not in the queue any more, what is left of it is kept as "
			  "msgs/%s",
			  name, aside);
}

/* 1, 0 set aside, -1 err. */
static int read_envelope(struct queue_service *q, const char *name, struct arena *a, struct queued *m,
			 struct str *envelope_r, struct err *err)
{
	int fd = io_open(q->msgs, name, O_RDONLY | O_NOFOLLOW, 0), rc;
	struct err why = ERR_NONE;
	bool released = false;

	if (fd < 0)
		return err_errno(err, "cannot open queue file %s", name);
	rc = file_check(fd, a, envelope_r, &released);
	if (rc < 0)
		err_errno(err, "cannot read queue file %s", name);
	io_close(fd);
	if (rc > 0 && message_decode(*envelope_r, a, m, &why) < 0)
		rc = 0;
	if (rc == 0)
		set_aside(q, name);
	else if (rc > 0 && released)
		m->m.marks &= (uint8_t)~MARK_HOLD;
	return rc;
}

/* The whole file is there: a checkpoint wrote it, and has perhaps given the blob back. */
static bool is_filed(struct queue_service *q, const struct contents *c)
{
	int fd = io_open(q->msgs, c->id, O_RDONLY | O_NOFOLLOW, 0);
	struct str envelope;
	struct arena a;
	bool whole, released;

	if (fd < 0)
		return false;
	arena_init(&a);
	whole = file_check(fd, &a, &envelope, &released) > 0;
	arena_release(&a);
	io_close(fd);
	return whole;
}

/* Under the lock. Without an index the journal tells of messages, too, that a checkpoint has already put into files. */
static void settle_replayed(struct queue_service *q)
{
	size_t kept = 0;

	for (size_t i = 0; i < q->contents.n; i++) {
		struct contents *c = q->contents.v[i];

		c->gone = c->gone || !contents_wanted(q, str_from(c->id));
		if (q->rebuild && !c->gone && c->blob && is_filed(q, c)) {
			contents_forget(q, c);
			continue;
		}
		if (c->gone)
			contents_unlink(q, str_from(c->id)); /* perhaps half of one: not for a rebuild to find */
		else if (c->blob)
			spool_keep(q->spool, c->blob);
		q->contents.v[kept++] = c;
	}
	q->contents.n = kept;
}

/* Without an index nothing is swept: the files are what is known of older messages. With one, tidy.c does it. */
int contents_recovered(void *ctx, struct err *err)
{
	struct queue_service *q = ctx;

	q->rebuild = kvlog_index_lost(q->k);
	pthread_mutex_lock(&q->lock);
	settle_replayed(q);
	pthread_mutex_unlock(&q->lock);
	if (contents_settle(q, UINT64_MAX, err) < 0)
		return -1;
	spool_sweep(q->spool);
	return 0;
}

struct rebuild_ops {
	struct arena *a;
	VEC(struct kvlog_op) ops;
};

static void rebuild_op(void *ctx, struct str key, struct str value)
{
	struct rebuild_ops *r = ctx;
	struct kvlog_op op = {arena_str(r->a, key), arena_str(r->a, value), false};

	vec_push_arena(r->a, &r->ops, op);
}

static int rebuild_file(struct queue_service *q, const char *name, struct err *err)
{
	struct str envelope, id = str_from(name);
	struct queued m;
	struct arena a;
	int rc = 0;

	arena_init(&a);
	if (!contents_wanted(q, id) && (rc = read_envelope(q, name, &a, &m, &envelope, err)) > 0) {
		struct rebuild_ops r = {.a = &a};

		m.m.id = id;
		rc = message_ops(q, &m.m, m.due, &a, rebuild_op, &r, err);
		if (rc == 0)
			rc = kvlog_commit(q->k, r.ops.v, r.ops.n, NULL, 0, NULL, NULL, err) ? 0 : -1;
	}
	arena_release(&a);
	return rc < 0 ? -1 : 0;
}

int contents_rebuild(struct queue_service *q, struct err *err)
{
	if (q->rebuild) {
		gone_sweep_now(q->gone);
		if (each_file(q, rebuild_file, err) < 0)
			return -1;
	}
	kvlog_index_rebuilt(q->k);
	return 0;
}

void contents_free(struct queue_service *q)
{
	for (size_t i = 0; i < q->contents.n; i++)
		contents_unref(q->contents.v[i]);
	vec_release(&q->contents);
	vec_release(&q->released);
	gone_free(&q->gone);
	map_free(&q->contents_by_id);
}
