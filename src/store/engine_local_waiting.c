/* What waits: file operations that cannot be done for now, because a Maildir is away, was replaced, is read-only or
 * its disk is full. They must hold up neither the checkpoint, and with it the journal, nor anybody else's mail.
 *
 *	a job fails --> its lane is stuck: tried again every second, bodies served from memory
 *	settle      --> what stuck lanes still have to do, and notes that could not be written, go into the file
 *	                `waiting` (synced, then renamed into place); after that the journal may forget them
 *	done        --> the file is written anew without it, or removed
 *	recovery    --> the file first, then the journal; what fails, and all that comes after it for the account, waits
 *
 * Invariants:
 *  1. What was acknowledged and is not done stands in `waiting` or in the journal.
 *  2. What was done is synced before the file forgets it: the list is made first, then the disks are synced, then
 *     the file is written. What ends in between is in the list, and may be done twice: a blob stays for as long as
 *     the file may name it.
 *  3. In the file each account's operations stand in the order of commits, and all come before the journal's. */
#include "store/engine_local_private.h"

#include "base/encode.h"
#include "base/fatal.h"
#include "base/log.h"
#include "journal/record.h"
#include "os/io.h"
#include <errno.h>
#include <unistd.h>

#define WAITING_NAME	"waiting"
#define WAITING_NEW	"waiting.new"
#define WAITING_DAMAGED "waiting.damaged"
#define MAGIC		"PRWAIT1\n"
#define MAGIC_LEN	8u
#define WAITING_MAX	((size_t)2 << 30)
#define REFRESH_MS	1000
#define NOTES_AGAIN_MS	5000

/* ---- is the Maildir there ----------------------------------------------------------------------------- */

int home_check(struct local *l, struct str path, struct err *err)
{
	static const char *const any[] = {"cur", "new", "tmp", STORE_UIDLIST_NAME};
	char full[STORE_PATH_MAX];
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(any); i++) {
		if (io_fstatat(l->o.rootfd, local_path(full, path, STR_NULL, any[i]), &st, 0) == 0)
			return 0;
		if (errno != ENOENT && errno != ENOTDIR)
			return err_errno(err, "cannot look at %s", full);
	}
	return err_set(err, ERR_TEMP, "4.3.0", "the Maildir %.*s is missing: is its file system mounted?",
		       STR_ARG(path));
}

/* ---- writing ------------------------------------------------------------------------------------------ */

struct blobs {
	uint64_t *v;
	size_t n, cap;
};

static void gather_one(void *ctx, const struct file_work *w)
{
	struct buf *out = ctx;
	struct file_record *r = file_record_of(w);
	uint8_t len[4];

	le32_put(len, (uint32_t)r->len);
	buf_add(out, len, sizeof(len));
	buf_add(out, r->bytes, r->len);
	file_record_unref(r);
}

/* Which blobs it names, too. */
static void gather(struct local *l, uint64_t lsn, struct blobs *blobs, struct buf *out)
{
	buf_add(out, MAGIC, MAGIC_LEN);
	pthread_mutex_lock(&l->lock);
	l->kept_done = false;
	for (struct file_job *j = l->head; j && j->lsn <= lsn; j = j->next) {
		gather_one(out, &j->work);
		if (j->work.op.blob)
			vec_push(blobs, j->work.op.blob);
		j->kept = true;
	}
	pthread_mutex_unlock(&l->lock);
	notes_each(l, gather_one, out);
}

static int write_synced(struct local *l, struct str bytes, struct err *err)
{
	int fd = io_open(l->o.dirfd, WAITING_NEW, O_WRONLY | O_CREAT | O_TRUNC, 0600), rc;

	if (fd < 0)
		return err_errno(err, "cannot create the list of what waits");
	rc = io_pwrite(fd, bytes.ptr, bytes.len, 0);
	if (rc < 0)
		err_errno(err, "cannot write the list of what waits");
	else if (io_fsync(fd) < 0)
		storage_failed("cannot sync the list of what waits: %s", strerror(errno));
	io_close(fd);
	if (rc >= 0 && io_rename(l->o.dirfd, WAITING_NEW, l->o.dirfd, WAITING_NAME) < 0)
		rc = err_errno(err, "cannot rename the list of what waits");
	if (rc < 0 && io_unlink(l->o.dirfd, WAITING_NEW) < 0 && errno != ENOENT)
		log_warning("cannot remove %s: %s", WAITING_NEW, strerror(errno));
	return rc;
}

static int store_list(struct local *l, struct buf *list, struct err *err)
{
	uint8_t crc[4];
	int rc;

	if (list->len == MAGIC_LEN && !l->waiting_there)
		return 0;
	if (list->len == MAGIC_LEN) {
		rc = io_unlink(l->o.dirfd, WAITING_NAME);
		if (rc < 0 && errno != ENOENT)
			return err_errno(err, "cannot remove the list of what waits");
	} else {
		le32_put(crc, crc32c(0, list->ptr, list->len));
		buf_add(list, crc, sizeof(crc));
		if (buf_failed(list))
			return err_set(err, ERR_FULL, "4.3.1", "too much waits for its file system");
		if (write_synced(l, buf_str(list), err) < 0)
			return -1;
	}
	if (io_fsync(l->o.dirfd) < 0)
		storage_failed("cannot sync the store's directory: %s", strerror(errno));
	l->waiting_there = list->len > MAGIC_LEN;
	return 0;
}

static void refresh(void *ctx);

static void refresh_in(struct local *l, int64_t ms)
{
	if (l->refresh_due)
		return;
	l->refresh_due = true;
	pool_run(l->pool, ms, refresh, l);
}

/* Under the lock. */
static bool is_listed(const struct local *l, uint64_t blob)
{
	for (size_t i = 0; i < l->listed.n; i++)
		if (l->listed.v[i] == blob)
			return true;
	return false;
}

/* Under the lock. Of a file that could not be written nobody knows whether it is the new one or that of before; it is
 * tried again for as long as the disk is full. */
static void note_listed(struct local *l, const struct blobs *blobs, bool written)
{
	if (written)
		vec_clear(&l->listed);
	for (size_t i = 0; i < blobs->n; i++)
		if (written || !is_listed(l, blobs->v[i]))
			vec_push(&l->listed, blobs->v[i]);
}

int waiting_settle(struct local *l, uint64_t lsn, struct err *err)
{
	struct err why = ERR_NONE;
	struct blobs blobs = {0};
	struct buf list;
	size_t left;
	int rc;

	buf_init(&list, WAITING_MAX);
	pthread_mutex_lock(&l->settle_lock);
	/* While a refresh waited for its turn the index may have learnt of more. */
	pthread_mutex_lock(&l->lock);
	lsn = lsn > l->kept_lsn ? lsn : l->kept_lsn;
	pthread_mutex_unlock(&l->lock);
	left = notes_flush(l, &why);
	if (left > 0 && !l->waiting_there)
		log_error("%zu uidlists wait to be written: %s", left, why.text);
	gather(l, lsn, &blobs, &list);
	rc = devices_sync(l, err);
	if (rc == 0)
		rc = store_list(l, &list, err);
	pthread_mutex_lock(&l->lock);
	note_listed(l, &blobs, rc == 0);
	if (rc == 0)
		l->kept_lsn = lsn;
	if (rc < 0)
		l->kept_done = true;
	if (left > 0 || rc < 0)
		refresh_in(l, NOTES_AGAIN_MS);
	pthread_mutex_unlock(&l->lock);
	pthread_mutex_unlock(&l->settle_lock);
	buf_release(&list);
	vec_release(&blobs);
	return rc;
}

/* A file thread. */
static void refresh(void *ctx)
{
	struct local *l = ctx;
	struct err err = ERR_NONE;
	uint64_t lsn;
	bool may;

	pthread_mutex_lock(&l->lock);
	l->refresh_due = false;
	may = l->serving;
	lsn = l->kept_lsn;
	pthread_mutex_unlock(&l->lock);
	if (may && waiting_settle(l, lsn, &err) < 0)
		log_warning("%s", err.text);
}

/* Under the lock: the file names something that is done. */
void waiting_refresh_soon(struct local *l)
{
	l->kept_done = true;
	refresh_in(l, REFRESH_MS);
}

void waiting_end(struct local *l)
{
	struct err err = ERR_NONE;
	uint64_t lsn;
	bool stale;

	pthread_mutex_lock(&l->lock);
	stale = l->serving && l->kept_done;
	lsn = l->kept_lsn;
	pthread_mutex_unlock(&l->lock);
	if (stale && waiting_settle(l, lsn, &err) < 0)
		log_warning("%s", err.text);
}

bool waiting_blob(struct local *l, uint64_t blob)
{
	bool listed;

	pthread_mutex_lock(&l->lock);
	listed = is_listed(l, blob);
	pthread_mutex_unlock(&l->lock);
	return listed;
}

/* ---- recovery ----------------------------------------------------------------------------------------- */

void waiting_add(struct local *l, const struct file_work *w)
{
	vec_push(&l->stuck, file_record_of(w));
	map_set_u64(l->stuck_accounts, w->op.account, l);
}

bool waiting_has(const struct local *l, uint64_t account)
{
	return map_get_u64(l->stuck_accounts, account) != NULL;
}

/* 1 read, 0 there is none, -1. */
static int read_list(struct local *l, struct buf *out, struct err *err)
{
	char piece[65536];
	ssize_t n;
	off_t at = 0;
	int fd = io_open(l->o.dirfd, WAITING_NAME, O_RDONLY, 0);

	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, "cannot open the list of what waits");
	while ((n = io_pread(fd, piece, sizeof(piece), at)) > 0) {
		buf_add(out, piece, (size_t)n);
		at += n;
	}
	io_close(fd);
	return n < 0 || buf_failed(out) ? err_errno(err, "cannot read the list of what waits") : 1;
}

/* The entries, or false when these are not what was written. */
static bool unwrap(struct str all, struct str *entries_r)
{
	if (all.len < MAGIC_LEN + 4 || memcmp(all.ptr, MAGIC, MAGIC_LEN) != 0 ||
	    le32_get(all.ptr + all.len - 4) != crc32c(0, all.ptr, all.len - 4))
		return false;
	*entries_r = str_sub(all, MAGIC_LEN, all.len - MAGIC_LEN - 4);
	return true;
}

static int any_entry(void *ctx, const char *name)
{
	bool *found = ctx;

	*found = strcmp(name, "lost+found") != 0;
	return *found;
}

int root_look(struct local *l, struct err *err)
{
	bool found = false;
	struct stat st;

	if (l->root_there || !l->o.root_in_use)
		return 0;
	if (dir_each(l->o.rootfd, ".", any_entry, &found) < 0)
		return err_errno(err, "cannot read the mail directory (virtual_mailbox_base)");
	/* What waits for its place may be all that there is. */
	if (found || io_fstatat(l->o.dirfd, WAITING_NAME, &st, 0) == 0 || !kvlog_index_has_keys(l->k)) {
		l->root_there = true;
		return 0;
	}
	return err_set(err, ERR_TEMP, "4.3.0",
		       "the mail directory (virtual_mailbox_base) is empty, but there was mail in it: is its file "
		       "system mounted? Nothing is changed until it is back; if it is meant to be empty, make any "
		       "directory in it");
}

/* Once, before the first record of the journal. */
int waiting_load(struct local *l, struct err *err)
{
	struct str in;
	struct buf all;
	int rc;

	if (l->loaded)
		return 0;
	l->loaded = true;
	buf_init(&all, WAITING_MAX);
	rc = read_list(l, &all, err);
	l->waiting_there = rc > 0;
	if (rc > 0 && !unwrap(buf_str(&all), &in)) {
		log_error("the list of file operations that wait is damaged: set aside as %s", WAITING_DAMAGED);
		rc = io_rename(l->o.dirfd, WAITING_NAME, l->o.dirfd, WAITING_DAMAGED) < 0
			     ? err_errno(err, "cannot set the list of what waits aside")
			     : 0;
	}
	while (rc > 0 && in.len > 4) {
		uint32_t len = le32_get(in.ptr);

		in = str_skip(in, 4);
		if (len > in.len || redo_record(l, 0, str_sub(in, 0, len), err) < 0)
			rc = len > in.len ? err_set(err, ERR_PERM, "5.3.0", "the list of what waits is cut off") : -1;
		else
			in = str_skip(in, len);
	}
	buf_release(&all);
	return rc < 0 ? -1 : 0;
}

/* What recovery could not do becomes work like any other. */
void waiting_begin(struct local *l)
{
	for (size_t i = 0; i < l->stuck.n; i++) {
		lanes_add(l, l->stuck.v[i], 0);
		file_record_unref(l->stuck.v[i]);
	}
	l->stuck.n = 0;
}

void waiting_free(struct local *l)
{
	for (size_t i = 0; i < l->stuck.n; i++)
		file_record_unref(l->stuck.v[i]);
	vec_release(&l->stuck);
	map_free(&l->stuck_accounts);
}
