/* Reading files: a body that is in place, or still only in the journal; directories as they are. */
#include "store/engine_local_private.h"

#include "os/fd.h"
#include "os/io.h"
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- bodies ------------------------------------------------------------------------------------------- */

/* A large message that is not in place yet: prefix and blob in a memory file. */
static int compose(struct local *l, const struct file_work *w, struct store_file *body_r, struct err *err)
{
	int from = spool_read(l->spool, w->op.blob, err), to, rc;

	if (from < 0)
		return -1;
	to = memfd_create("message", MFD_CLOEXEC);
	rc = to < 0 ? -1 : 0;
	if (rc == 0 && w->op.prefix.len)
		rc = io_pwrite(to, w->op.prefix.ptr, w->op.prefix.len, 0);
	if (rc == 0)
		rc = io_copy(from, 0, to, (off_t)w->op.prefix.len, w->blob_size);
	io_close(from);
	if (rc < 0) {
		err_errno(err, "cannot put a message together");
		fd_close(&to);
		return -1;
	}
	body_r->fd = to;
	body_r->size = file_work_size(w);
	return 1;
}

static int pending_body(struct local *l, const struct file_work *w, struct arena *a, struct store_file *body_r,
			struct err *err)
{
	char *bytes;

	if (w->op.blob)
		return compose(l, w, body_r, err);
	bytes = arena_alloc(a, w->op.prefix.len + w->body.len + 1);
	if (w->op.prefix.len)
		memcpy(bytes, w->op.prefix.ptr, w->op.prefix.len);
	if (w->body.len)
		memcpy(bytes + w->op.prefix.len, w->body.ptr, w->body.len);
	body_r->bytes = str_of(bytes, w->op.prefix.len + w->body.len);
	body_r->size = body_r->bytes.len;
	return 1;
}

/* What a file was called before the operations that wait, going back from the last one. Copies into arena:
 * the jobs end while nobody holds the lock. */
struct origin {
	struct str folder, base;
	struct file_job *put; /* it does not exist yet: this makes it. Holds a reference */
};

static struct origin trace_back(struct local *l, uint64_t account, struct str folder, struct str base, struct arena *a)
{
	struct origin o = {.folder = folder, .base = base};
	struct lane *lane;

	pthread_mutex_lock(&l->lock);
	lane = map_get_u64(l->lanes, account);
	for (struct file_job *j = lane ? lane->tail : NULL; j && !o.put; j = j->lane_prev) {
		const struct store_file_op *op = &j->work.op;
		bool to = op->kind == FILE_MOVE || op->kind == FILE_COPY;

		if (op->kind == FILE_FOLDER_RENAME && str_eq(op->to_folder, o.folder)) {
			o.folder = op->folder;
		} else if (to && str_eq(op->to_folder, o.folder) && str_eq(op->to_base, o.base)) {
			o.folder = op->folder;
			o.base = op->base;
		} else if (op->kind == FILE_PUT && str_eq(op->folder, o.folder) && str_eq(op->base, o.base)) {
			o.put = j;
			j->refs++;
		}
	}
	o.folder = arena_str(a, o.folder);
	o.base = arena_str(a, o.base);
	pthread_mutex_unlock(&l->lock);
	return o;
}

static void origin_release(struct local *l, struct origin *o)
{
	if (!o->put)
		return;
	pthread_mutex_lock(&l->lock);
	if (--o->put->refs == 0) {
		file_record_unref(o->put->record);
		free(o->put);
	}
	pthread_mutex_unlock(&l->lock);
}

/* 1 open, 0 not there. */
static int open_full(struct local *l, const char *full, struct store_file *body_r, struct err *err)
{
	int fd = io_open(l->o.rootfd, full, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, "cannot open %s", full);
	if (io_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		io_close(fd);
		return err_set(err, ERR_PERM, "5.3.0", "%s is no message file", full);
	}
	body_r->fd = fd;
	body_r->size = (uint64_t)st.st_size;
	return 1;
}

static int open_placed(struct local *l, struct str path, struct str folder, struct str base, bool cur, struct str flags,
		       struct store_file *body_r, struct err *err)
{
	char found[FOUND_MAX], full[STORE_PATH_MAX];
	int rc = file_find(l, path, folder, base, cur, flags, found, err);

	return rc <= 0 ? rc : open_full(l, local_path(full, path, folder, found), body_r, err);
}

static int open_expunged(struct local *l, struct str path, struct str base, struct store_file *body_r, struct err *err)
{
	char name[STORE_NAME_MAX + sizeof(STORE_EXPUNGED_DIR)], full[STORE_PATH_MAX];

	snprintf(name, sizeof(name), STORE_EXPUNGED_DIR "/%.*s", STR_ARG(base));
	return open_full(l, local_path(full, path, STR_NULL, name), body_r, err);
}

int local_body(struct store_engine *e, uint64_t account, struct str path, struct str folder, struct str base, bool cur,
	       struct str flags, struct arena *a, struct store_file *body_r, struct err *err)
{
	struct local *l = local_of(e);
	int rc = 0;

	/* File threads rename under our feet: look again before saying that there is nothing. */
	for (int attempt = 0; attempt < 3 && rc == 0; attempt++) {
		struct origin o = trace_back(l, account, folder, base, a);

		if (o.put) {
			rc = pending_body(l, &o.put->work, a, body_r, err);
			origin_release(l, &o);
			return rc;
		}
		rc = open_placed(l, path, folder, base, cur, flags, body_r, err);
		if (rc == 0 && !(str_eq(o.folder, folder) && str_eq(o.base, base)))
			rc = open_placed(l, path, o.folder, o.base, cur, flags, body_r, err);
		if (rc == 0)
			rc = open_expunged(l, path, base, body_r, err);
	}
	return rc;
}

int local_message(struct store_engine *e, struct str path, struct str folder, struct str name, bool cur, size_t max,
		  struct arena *a, struct str *bytes_r)
{
	char sub[FOUND_MAX], full[STORE_PATH_MAX], *bytes;
	struct store_file file;
	ssize_t n = -1;

	snprintf(sub, sizeof(sub), "%s/%.*s", cur ? "cur" : "new", STR_ARG(name));
	if (open_full(local_of(e), local_path(full, path, folder, sub), &file, NULL) <= 0)
		return 0;
	if (file.size <= max) {
		bytes = arena_alloc(a, (size_t)file.size + 1);
		n = io_pread(file.fd, bytes, (size_t)file.size, 0);
		*bytes_r = str_of(bytes, file.size);
	}
	io_close(file.fd);
	return n >= 0 && (uint64_t)n == file.size;
}

/* ---- directories -------------------------------------------------------------------------------------- */

struct scan {
	void (*fn)(void *ctx, const struct store_entry *entry);
	void *ctx;
	bool cur;
	int count;
};

static int scan_one(void *ctx, const char *name)
{
	struct scan *s = ctx;
	struct store_entry e = store_entry_parse(str_from(name), s->cur);

	if (e.base.len == 0)
		return 0;
	s->fn(s->ctx, &e);
	s->count++;
	return 0;
}

int local_scan(struct store_engine *e, struct str path, struct str folder,
	       void (*fn)(void *ctx, const struct store_entry *entry), void *ctx, bool *missing_r, struct err *err)
{
	struct local *l = local_of(e);
	struct scan s = {.fn = fn, .ctx = ctx};
	char dir[STORE_PATH_MAX];
	int missing = 0;

	for (int i = 0; i < 2; i++) {
		s.cur = i == 1;
		if (dir_each(l->o.rootfd, local_path(dir, path, folder, s.cur ? "cur" : "new"), scan_one, &s) == 0)
			continue;
		if (errno != ENOENT)
			return err_errno(err, "cannot read %s", dir);
		missing++;
	}
	*missing_r = missing == 2;
	return s.count;
}

static bool is_folder(struct local *l, struct str path, struct str folder)
{
	char full[STORE_PATH_MAX];
	struct stat st;

	return io_fstatat(l->o.rootfd, local_path(full, path, folder, "cur"), &st, 0) == 0 && S_ISDIR(st.st_mode);
}

int local_folders(struct store_engine *e, struct str path, void (*fn)(void *ctx, struct str folder), void *ctx,
		  struct err *err)
{
	struct local *l = local_of(e);
	char full[STORE_PATH_MAX];
	const char *entry;
	int more, count = 0;
	DIR *dir;

	dir = io_opendir(l->o.rootfd, local_path(full, path, STR_NULL, ""));
	if (!dir)
		return errno == ENOENT ? 0 : err_errno(err, "cannot read %s", full);
	if (is_folder(l, path, STR_NULL)) {
		fn(ctx, STR(""));
		count++;
	}
	while ((more = io_readdir(dir, &entry)) > 0) {
		struct str name = str_from(entry);
		if (name.len < 2 || name.len > 200 || name.ptr[0] != '.' || !is_folder(l, path, name))
			continue;
		fn(ctx, name);
		count++;
	}
	if (more < 0)
		count = err_errno(err, "cannot read all of %s", full);
	io_closedir(dir);
	return count;
}

uint64_t local_folder_stamp(struct store_engine *e, struct str path, struct str folder, int64_t *newest_r)
{
	struct local *l = local_of(e);
	uint64_t times[6] = {0};

	*newest_r = 0;
	for (int i = 0; i < 2; i++) {
		char full[STORE_PATH_MAX];
		struct stat st;
		if (io_fstatat(l->o.rootfd, local_path(full, path, folder, i ? "cur" : "new"), &st, 0) < 0)
			return 0;
		times[3 * i] = (uint64_t)st.st_mtim.tv_sec;
		times[3 * i + 1] = (uint64_t)st.st_mtim.tv_nsec;
		times[3 * i + 2] = (uint64_t)st.st_ino;
		if (st.st_mtim.tv_sec > *newest_r)
			*newest_r = st.st_mtim.tv_sec;
	}
	return str_hash(str_of(times, sizeof(times)), 1) | 1;
}

int local_read_file(struct store_engine *e, struct str path, struct str folder, const char *name, size_t max,
		    struct arena *a, struct str *bytes_r, struct err *err)
{
	struct local *l = local_of(e);
	char full[STORE_PATH_MAX];
	struct stat st;
	char *bytes;
	ssize_t n;
	int fd;

	fd = io_open(l->o.rootfd, local_path(full, path, folder, name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, "cannot open %s", full);
	if (io_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size > max) {
		io_close(fd);
		return err_set(err, ERR_LIMIT, "5.3.0", "%s is too large or no file", full);
	}
	bytes = arena_alloc(a, (size_t)st.st_size + 1);
	n = io_pread(fd, bytes, (size_t)st.st_size, 0);
	if (n < 0)
		err_errno(err, "cannot read %s", full);
	io_close(fd);
	*bytes_r = str_of(bytes, n < 0 ? 0 : (size_t)n);
	return n < 0 ? -1 : 1;
}

int local_stat(struct store_engine *e, struct str path, struct str folder, bool cur, struct str name, uint64_t *size_r,
	       uint64_t *mtime_r, struct err *err)
{
	struct local *l = local_of(e);
	char full[STORE_PATH_MAX], sub[FOUND_MAX];
	struct stat st;

	snprintf(sub, sizeof(sub), "%s/%.*s", cur ? "cur" : "new", STR_ARG(name));
	if (io_fstatat(l->o.rootfd, local_path(full, path, folder, sub), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_errno(err, "cannot look at %s", full);
	*size_r = (uint64_t)st.st_size;
	*mtime_r = (uint64_t)st.st_mtim.tv_sec;
	return 1;
}
