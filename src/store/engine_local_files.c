/* Doing file operations: on a file thread, or again at recovery.
 *
 * Every operation may be repeated: recovery does all that came after the last checkpoint once more, in order,
 * and ends where the first time ended. A PUT is written again where its file is missing or not whole; a MOVE
 * whose source is gone and whose target is there was done already; removing twice is removing once. A source
 * that is nowhere was deleted by another tool: that is not an error. */
#include "store/engine_local_private.h"

#include "base/encode.h"
#include "base/fatal.h"
#include "base/log.h"
#include "os/io.h"
#include <errno.h>
#include <time.h>
#include <unistd.h>

#define TMP_PREFIX "postrider."
#define FILE_MODE  0600
#define PIECE	   ((size_t)256 << 10)

/* ---- renaming ----------------------------------------------------------------------------------------- */

int file_rename_into(struct local *l, const char *from, struct str path, struct str to_folder, const char *to,
		     struct err *err)
{
	char full[STORE_PATH_MAX];

	local_path(full, path, to_folder, to);
	if (io_rename(l->o.rootfd, from, l->o.rootfd, full) == 0)
		return 1;
	if (errno == ENOENT) {
		if (home_check(l, path, err) < 0 || folder_make(l, path, to_folder, err) < 0)
			return -1;
		if (io_rename(l->o.rootfd, from, l->o.rootfd, full) == 0)
			return 1;
		if (errno == ENOENT)
			return 0;
	}
	return err_errno(err, "cannot rename %s to %s", from, full);
}

static void target_name(char out[FOUND_MAX], struct str base, bool cur, struct str flags)
{
	char name[STORE_NAME_MAX];

	store_file_name(name, base, cur, flags);
	snprintf(out, FOUND_MAX, "%s/%s", cur ? "cur" : "new", name);
}

/* ---- PUT ---------------------------------------------------------------------------------------------- */

static void tmp_name(char out[FOUND_MAX], struct str base)
{
	snprintf(out, FOUND_MAX, "tmp/" TMP_PREFIX "%.*s", STR_ARG(base));
}

/* One write: what a body's copy costs is less than a second call. */
static int put_inline(int fd, const struct file_work *w, struct err *err)
{
	size_t prefix = w->op.prefix.len, len = prefix + w->body.len;
	char *whole;
	int rc;

	if (len == 0)
		return 0;
	whole = mem_alloc(len);
	if (prefix)
		memcpy(whole, w->op.prefix.ptr, prefix);
	if (w->body.len)
		memcpy(whole + prefix, w->body.ptr, w->body.len);
	rc = io_pwrite(fd, whole, len, 0);
	free(whole);
	return rc < 0 ? err_errno(err, "cannot write a message") : 0;
}

static int put_blob(struct local *l, int fd, const struct file_work *w, struct err *err)
{
	size_t prefix = w->op.prefix.len;
	int from, rc;

	if (prefix && io_pwrite(fd, w->op.prefix.ptr, prefix, 0) < 0)
		return err_errno(err, "cannot write a message");
	from = spool_read(l->spool, w->op.blob, err);
	if (from < 0)
		return -1;
	rc = io_copy(from, 0, fd, (off_t)prefix, w->blob_size);
	if (rc < 0)
		err_errno(err, "cannot copy a message out of the spool");
	io_close(from);
	return rc;
}

/* The clock that file systems stamp files with. */
static uint64_t stamp_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return (uint64_t)now.tv_sec;
}

/* A message of this very second has its time already. */
static void put_time(int fd, uint64_t time, uint64_t began)
{
	struct timespec times[2];

	if (time == 0 || (time == began && time == stamp_clock()))
		return;
	times[0] = times[1] = (struct timespec){.tv_sec = (time_t)time};
	if (futimens(fd, times) < 0)
		log_warning("cannot set the time of a message: %s", strerror(errno));
}

static int put_contents(struct local *l, int fd, const struct file_work *w, struct err *err)
{
	uint64_t began = stamp_clock();
	int rc = w->op.blob ? put_blob(l, fd, w, err) : put_inline(fd, w, err);

	if (rc == 0)
		put_time(fd, w->op.time, began);
	return rc;
}

static int write_tmp(struct local *l, const struct file_work *w, struct err *err)
{
	const struct store_file_op *op = &w->op;
	char name[FOUND_MAX], full[STORE_PATH_MAX];
	int fd, rc, flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW;

	tmp_name(name, op->base);
	fd = io_open(l->o.rootfd, local_path(full, op->path, op->folder, name), flags, FILE_MODE);
	if (fd < 0 && errno == ENOENT) {
		if ((op->home && home_check(l, op->path, err) < 0) || folder_make(l, op->path, op->folder, err) < 0)
			return -1;
		fd = io_open(l->o.rootfd, full, flags, FILE_MODE);
	}
	if (fd < 0)
		return err_errno(err, "cannot create %s", full);
	rc = put_contents(l, fd, w, err);
	if (io_close(fd) < 0 && rc == 0)
		rc = err_errno(err, "cannot close %s", full);
	if (rc < 0 && io_unlink(l->o.rootfd, full) < 0)
		log_warning("cannot remove unfinished %s: %s", full, strerror(errno));
	return rc;
}

static int put_place(struct local *l, const struct store_file_op *op, const char *to, struct err *err)
{
	char name[FOUND_MAX], from[STORE_PATH_MAX];
	int rc;

	tmp_name(name, op->base);
	rc = file_rename_into(l, local_path(from, op->path, op->folder, name), op->path, op->folder, to, err);
	if (rc > 0)
		cache_note(l, op->path, op->folder, op->base, to);
	return rc;
}

static int file_put(struct local *l, const struct file_work *w, struct err *err)
{
	char to[FOUND_MAX];
	int rc;

	target_name(to, w->op.base, w->op.cur, w->op.flags);
	if (write_tmp(l, w, err) < 0)
		return -1;
	rc = put_place(l, &w->op, to, err);
	return rc > 0 ? 0 : rc < 0 ? -1 : err_set(err, ERR_TEMP, "4.3.0", "a message vanished while it was written");
}

/* ---- PUT at recovery: is the file whole? -------------------------------------------------------------- */

static int crc_fd(int fd, off_t at, uint64_t *len_r, uint32_t *crc)
{
	char *piece = mem_alloc(PIECE);
	ssize_t n;

	/* What stands in the page cache may never have reached the disk if a sync failed: read the disk. */
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	*len_r = 0;
	while ((n = io_pread(fd, piece, PIECE, at + (off_t)*len_r)) > 0) {
		*crc = crc32c(*crc, piece, (size_t)n);
		*len_r += (uint64_t)n;
	}
	free(piece);
	return n < 0 ? -1 : 0;
}

static int expected_crc(struct local *l, const struct file_work *w, uint32_t *crc_r, struct err *err)
{
	uint64_t len;
	int fd, rc;

	*crc_r = crc32c(0, w->op.prefix.ptr, w->op.prefix.len);
	if (!w->op.blob) {
		*crc_r = crc32c(*crc_r, w->body.ptr, w->body.len);
		return 0;
	}
	fd = spool_read(l->spool, w->op.blob, err);
	if (fd < 0)
		return -1;
	rc = crc_fd(fd, 0, &len, crc_r);
	io_close(fd);
	return rc < 0 ? err_errno(err, "cannot read a blob") : 0;
}

static bool is_whole(struct local *l, const struct file_work *w, const char *name, uint32_t want)
{
	char full[STORE_PATH_MAX];
	uint32_t crc = 0;
	uint64_t len = 0;
	int fd = io_open(l->o.rootfd, local_path(full, w->op.path, w->op.folder, name), O_RDONLY | O_NOFOLLOW, 0), rc;

	if (fd < 0)
		return false;
	rc = crc_fd(fd, 0, &len, &crc);
	io_close(fd);
	return rc == 0 && len == file_work_size(w) && crc == want;
}

int file_put_redo(struct local *l, const struct file_work *w, struct err *err)
{
	const struct store_file_op *op = &w->op;
	char found[FOUND_MAX], name[FOUND_MAX], full[STORE_PATH_MAX];
	uint32_t want;
	int rc;

	if (device_touch(l, op->path, NULL, err) < 0 || expected_crc(l, w, &want, err) < 0)
		return -1;
	rc = file_find(l, op->path, op->folder, op->base, op->cur, op->flags, found, err);
	if (rc < 0)
		return -1;
	if (rc > 0 && is_whole(l, w, found, want)) {
		tmp_name(name, op->base);
		if (io_unlink(l->o.rootfd, local_path(full, op->path, op->folder, name)) < 0 && errno != ENOENT)
			return err_errno(err, "cannot remove %s", full);
		return 0;
	}
	if (rc == 0)
		target_name(found, op->base, op->cur, op->flags);
	if (write_tmp(l, w, err) < 0)
		return -1;
	return put_place(l, op, found, err) > 0 ? 0 : -1;
}

/* ---- MOVE, COPY, REMOVE ------------------------------------------------------------------------------- */

/* Where the message that a MOVE or COPY is about can be taken from: its folder or, at recovery, the expunged
 * ones (a later operation of the first time put it there). 1 with full path, 0 when there is nothing to do. */
static int source_find(struct local *l, const struct file_work *w, char full_r[STORE_PATH_MAX], struct err *err)
{
	const struct store_file_op *op = &w->op;
	char found[FOUND_MAX], name[STORE_NAME_MAX + sizeof(STORE_EXPUNGED_DIR)];
	struct stat st;
	int rc = file_find(l, op->path, op->folder, op->base, op->was_cur, op->was_flags, found, err);

	if (rc != 0) {
		local_path(full_r, op->path, op->folder, found);
		return rc;
	}
	if (op->home && home_check(l, op->path, err) < 0)
		return -1;
	if (!l->recovering && !w->again)
		return 0;
	rc = file_find(l, op->path, op->to_folder, op->to_base, op->cur, op->flags, found, err);
	if (rc != 0)
		return rc < 0 ? -1 : 0;
	snprintf(name, sizeof(name), STORE_EXPUNGED_DIR "/%.*s", STR_ARG(op->base));
	local_path(full_r, op->path, STR_NULL, name);
	return io_fstatat(l->o.rootfd, full_r, &st, 0) == 0;
}

/* What a COPY is made from. At recovery a later MOVE may have reached the disk without it: then it waits for that one.
 */
static int copy_source(struct local *l, const struct file_work *w, char full_r[STORE_PATH_MAX], struct err *err)
{
	const struct store_file_op *op = &w->op;
	char found[FOUND_MAX], name[STORE_NAME_MAX + sizeof(STORE_EXPUNGED_DIR)];
	struct stat st;
	int rc = file_find(l, op->path, op->folder, op->base, op->was_cur, op->was_flags, found, err);

	if (rc > 0)
		local_path(full_r, op->path, op->folder, found);
	if (rc != 0 || (!l->recovering && !w->again))
		return rc;
	snprintf(name, sizeof(name), STORE_EXPUNGED_DIR "/%.*s", STR_ARG(op->base));
	local_path(full_r, op->path, STR_NULL, name);
	if (io_fstatat(l->o.rootfd, full_r, &st, 0) == 0)
		return 1;
	if (l->recovering)
		pending_add(l, op);
	return 0;
}

/* At recovery a copy may be there as a name of bytes that never arrived, while the original was written anew. */
static int copy_outdated(struct local *l, const struct file_work *w, const char *from, const char *full,
			 struct err *err)
{
	struct stat a, b;

	if ((!l->recovering && !w->again) || io_fstatat(l->o.rootfd, full, &b, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (io_fstatat(l->o.rootfd, from, &a, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (a.st_ino == b.st_ino && a.st_dev == b.st_dev))
		return 0;
	if (io_unlink(l->o.rootfd, full) < 0 && errno != ENOENT)
		return err_errno(err, "cannot remove %s", full);
	return 0;
}

/* At recovery the target may be there already under other flags: it must not be there twice. */
static int drop_other(struct local *l, const struct file_work *w, const char *to, struct err *err)
{
	const struct store_file_op *op = &w->op;
	char found[FOUND_MAX], full[STORE_PATH_MAX];
	int rc;

	if ((!l->recovering && !w->again) || (str_eq(op->folder, op->to_folder) && str_eq(op->base, op->to_base)))
		return 0;
	rc = file_find(l, op->path, op->to_folder, op->to_base, op->cur, op->flags, found, err);
	if (rc <= 0 || strcmp(found, to) == 0)
		return rc < 0 ? -1 : 0;
	if (io_unlink(l->o.rootfd, local_path(full, op->path, op->to_folder, found)) < 0 && errno != ENOENT)
		return err_errno(err, "cannot remove %s", full);
	return 0;
}

static int file_move(struct local *l, const struct file_work *w, struct err *err)
{
	const struct store_file_op *op = &w->op;
	char from[STORE_PATH_MAX], to[FOUND_MAX], full[STORE_PATH_MAX];
	int rc = 0;

	target_name(to, op->to_base, op->cur, op->flags);
	local_path(full, op->path, op->to_folder, to);
	/* Twice: another tool may rename it between our looking and our renaming. */
	for (int attempt = 0; attempt < 2 && rc == 0; attempt++) {
		rc = source_find(l, w, from, err);
		if (rc <= 0 || strcmp(from, full) == 0)
			return rc < 0 ? -1 : 0;
		if (drop_other(l, w, to, err) < 0)
			return -1;
		rc = file_rename_into(l, from, op->path, op->to_folder, to, err);
	}
	if (rc <= 0)
		return rc;
	/* Two names of one file: rename() leaves both. */
	if ((l->recovering || w->again) && io_unlink(l->o.rootfd, from) < 0 && errno != ENOENT)
		return err_errno(err, "cannot remove %s", from);
	cache_note(l, op->path, op->folder, op->base, NULL);
	cache_note(l, op->path, op->to_folder, op->to_base, to);
	return 0;
}

/* Where hard links are not to be had. */
static int copy_file(struct local *l, const struct store_file_op *op, const char *from, const char *full,
		     struct err *err)
{
	char name[FOUND_MAX], tmp[STORE_PATH_MAX];
	int in = io_open(l->o.rootfd, from, O_RDONLY | O_NOFOLLOW, 0), out, rc;
	struct stat st;

	if (in < 0)
		return errno == ENOENT ? 0 : err_errno(err, "cannot open %s", from);
	tmp_name(name, op->to_base);
	out = io_open(l->o.rootfd, local_path(tmp, op->path, op->to_folder, name),
		      O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, FILE_MODE);
	if (out < 0) {
		err_errno(err, "cannot create %s", tmp);
		io_close(in);
		return -1;
	}
	rc = io_fstat(in, &st);
	if (rc == 0)
		rc = io_copy(in, 0, out, 0, (size_t)st.st_size);
	if (rc < 0)
		err_errno(err, "cannot copy %s", from);
	io_close(in);
	io_close(out);
	if (rc == 0 && io_rename(l->o.rootfd, tmp, l->o.rootfd, full) < 0)
		rc = err_errno(err, "cannot rename %s", tmp);
	return rc;
}

static int file_copy(struct local *l, const struct file_work *w, struct err *err)
{
	const struct store_file_op *op = &w->op;
	char from[STORE_PATH_MAX], to[FOUND_MAX], full[STORE_PATH_MAX];
	int rc = copy_source(l, w, from, err);

	if (rc <= 0)
		return rc;
	target_name(to, op->to_base, op->cur, op->flags);
	local_path(full, op->path, op->to_folder, to);
	if (drop_other(l, w, to, err) < 0 || copy_outdated(l, w, from, full, err) < 0)
		return -1;
	rc = io_link(l->o.rootfd, from, l->o.rootfd, full);
	if (rc < 0 && errno == ENOENT) {
		if (folder_make(l, op->path, op->to_folder, err) < 0)
			return -1;
		rc = io_link(l->o.rootfd, from, l->o.rootfd, full);
	}
	if (rc < 0 && errno != EEXIST && errno != ENOENT) {
		if (errno != EXDEV && errno != EPERM && errno != EMLINK && errno != EOPNOTSUPP)
			return err_errno(err, "cannot link %s to %s", from, full);
		if (copy_file(l, op, from, full, err) < 0)
			return -1;
	}
	cache_note(l, op->path, op->to_folder, op->to_base, to);
	return 0;
}

int file_expunge(struct local *l, struct str path, struct str folder, const char *found, struct str base,
		 struct err *err)
{
	char from[STORE_PATH_MAX], to[STORE_PATH_MAX], name[STORE_NAME_MAX + sizeof(STORE_EXPUNGED_DIR)];
	int rc;

	local_path(from, path, folder, found);
	snprintf(name, sizeof(name), STORE_EXPUNGED_DIR "/%.*s", STR_ARG(base));
	local_path(to, path, STR_NULL, name);
	rc = io_rename(l->o.rootfd, from, l->o.rootfd, to);
	if (rc < 0 && errno == ENOENT) {
		char dir[STORE_PATH_MAX];
		if (dir_make_safe(l, local_path(dir, path, STR_NULL, STORE_EXPUNGED_DIR), err) < 0)
			return -1;
		rc = io_rename(l->o.rootfd, from, l->o.rootfd, to);
	}
	if (rc < 0 && errno != ENOENT)
		return err_errno(err, "cannot rename %s to %s", from, to);
	/* A copy of it may be there: two names of one file, and rename() leaves both. */
	if (io_unlink(l->o.rootfd, from) < 0 && errno != ENOENT)
		return err_errno(err, "cannot remove %s", from);
	cache_note(l, path, folder, base, NULL);
	return 0;
}

static int file_remove(struct local *l, const struct store_file_op *op, struct err *err)
{
	bool cur = op->cur || op->was_cur;
	char found[FOUND_MAX];
	int rc = file_find(l, op->path, op->folder, op->base, cur, op->cur ? op->flags : op->was_flags, found, err);

	if (rc == 0 && op->home)
		return home_check(l, op->path, err);
	return rc <= 0 ? rc : file_expunge(l, op->path, op->folder, found, op->base, err);
}

/* ---- sweeping ----------------------------------------------------------------------------------------- */

struct sweep {
	struct local *l;
	const char *dir;
	struct timespec limit; /* unlinks what is older */
	bool ours;	       /* only names that we gave */
};

static bool is_older(const struct stat *st, const struct timespec *limit)
{
	return st->st_ctim.tv_sec < limit->tv_sec ||
	       (st->st_ctim.tv_sec == limit->tv_sec && st->st_ctim.tv_nsec < limit->tv_nsec);
}

static int sweep_one(void *ctx, const char *name)
{
	struct sweep *s = ctx;
	char full[STORE_PATH_MAX];
	struct stat st;

	if (s->ours && strncmp(name, TMP_PREFIX, sizeof(TMP_PREFIX) - 1) != 0)
		return 0;
	snprintf(full, sizeof(full), "%s/%s", s->dir, name);
	if (io_fstatat(s->l->o.rootfd, full, &st, AT_SYMLINK_NOFOLLOW) < 0 || !is_older(&st, &s->limit) ||
	    !S_ISREG(st.st_mode))
		return 0;
	if (io_unlink(s->l->o.rootfd, full) < 0 && errno != ENOENT)
		log_warning("cannot remove %s: %s", full, strerror(errno));
	return 0;
}

/* Unfinished files of ours that are none of this process: their commit was never durable, or recovery has done it. */
void folder_sweep_tmp(struct local *l, struct str path, struct str folder, bool all)
{
	char dir[STORE_PATH_MAX];
	struct sweep s = {l, dir, l->opened, true};

	if (all) /* recovery: nothing is being written, and clocks are coarse */
		s.limit.tv_sec = (time_t)INT64_MAX;

	local_path(dir, path, folder, "tmp");
	if (dir_each(l->o.rootfd, dir, sweep_one, &s) < 0 && errno != ENOENT)
		log_warning("cannot sweep %s: %s", dir, strerror(errno));
}

static int file_purge(struct local *l, const struct store_file_op *op)
{
	char dir[STORE_PATH_MAX];
	struct sweep s = {l, dir, {.tv_sec = (time_t)op->time}, false};

	local_path(dir, op->path, STR_NULL, STORE_EXPUNGED_DIR);
	if (dir_each(l->o.rootfd, dir, sweep_one, &s) < 0 && errno != ENOENT)
		log_warning("cannot purge %s: %s", dir, strerror(errno));
	folder_sweep_tmp(l, op->path, STR_NULL, false);
	return 0;
}

/* ---- all of them -------------------------------------------------------------------------------------- */

static int work_do(struct local *l, const struct file_work *w, struct err *err)
{
	const struct store_file_op *op = &w->op;

	/* Nothing there to remove or rename would be taken for done already. */
	if (op->home && op->kind >= FILE_FOLDER_MAKE && op->kind <= FILE_FOLDER_REMOVE &&
	    home_check(l, op->path, err) < 0)
		return -1;
	switch (op->kind) {
	case FILE_PUT:
		return w->again ? file_put_redo(l, w, err) : file_put(l, w, err);
	case FILE_MOVE:
		return file_move(l, w, err);
	case FILE_COPY:
		return file_copy(l, w, err);
	case FILE_REMOVE:
		return file_remove(l, op, err);
	case FILE_PURGE:
		return file_purge(l, op);
	case FILE_FOLDER_MAKE:
		return folder_make(l, op->path, op->folder, err);
	case FILE_FOLDER_RENAME:
		return notes_rename(l, w, folder_rename_dirs, err);
	case FILE_FOLDER_REMOVE:
		return folder_remove(l, op, err);
	case FILE_NOTE:
	case FILE_NOTE_REPLACE:
		notes_add(l, w);
		return 0;
	}
	return 0;
}

int file_work_do(struct local *l, const struct file_work *w, struct err *err)
{
	bool note = w->op.kind == FILE_NOTE || w->op.kind == FILE_NOTE_REPLACE;
	dev_t dev;
	int rc;

	if (note)
		return work_do(l, w, err);
	if (device_touch(l, w->op.path, &dev, err) < 0)
		return -1;
	rc = work_do(l, w, err);
	device_dirty(l, dev);
	return rc;
}
