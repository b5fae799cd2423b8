/* What a checkpoint does to files before the index is written: notes are appended, file systems synced. */
#include "store/engine_local_private.h"

#include "base/fatal.h"
#include "base/log.h"
#include "os/io.h"
#include <errno.h>

#define NOTE_MAX ((size_t)64 << 20)

/* ---- file systems ------------------------------------------------------------------------------------- */

/* Under the lock. */
static struct device *device_find(struct local *l, dev_t dev)
{
	for (size_t i = 0; i < l->devices.n; i++)
		if (l->devices.v[i].dev == dev)
			return &l->devices.v[i];
	return NULL;
}

/* Before the first write for an account: the file system it is on is among those that will be synced, with a
 * descriptor that was open before, so that syncfs() reports every error since. */
int device_touch(struct local *l, struct str path, dev_t *dev_r, struct err *err)
{
	char full[STORE_PATH_MAX];
	struct device *d;
	struct stat st;
	int fd;

	local_path(full, path, STR_NULL, "");
	if (io_fstatat(l->o.rootfd, full, &st, 0) < 0) {
		if (errno != ENOENT)
			return err_errno(err, "cannot look at %s", full);
		/* It will be made on the root's. */
		if (io_fstat(l->o.rootfd, &st) < 0)
			return err_errno(err, "cannot look at the root");
	}
	if (dev_r)
		*dev_r = st.st_dev;
	pthread_mutex_lock(&l->lock);
	d = device_find(l, st.st_dev);
	if (d)
		d->dirty = true;
	pthread_mutex_unlock(&l->lock);
	if (d)
		return 0;
	fd = io_open(l->o.rootfd, full, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return err_errno(err, "cannot open %s", full);
	pthread_mutex_lock(&l->lock);
	d = device_find(l, st.st_dev);
	if (d) {
		d->dirty = true;
		io_close(fd);
	} else {
		struct device added = {.dev = st.st_dev, .fd = fd, .dirty = true};
		vec_push(&l->devices, added);
	}
	pthread_mutex_unlock(&l->lock);
	return 0;
}

/* Behind the last write, and before the job counts as done: a sync of an earlier checkpoint may have begun between
 * device_touch() and the write, and taken the mark away. */
void device_dirty(struct local *l, dev_t dev)
{
	struct device *d;

	pthread_mutex_lock(&l->lock);
	d = device_find(l, dev);
	if (d)
		d->dirty = true;
	pthread_mutex_unlock(&l->lock);
}

int devices_sync(struct local *l, struct err *err)
{
	(void)err;
	for (size_t i = 0;; i++) {
		bool dirty = false;
		int fd = -1;

		pthread_mutex_lock(&l->lock);
		if (i < l->devices.n) {
			dirty = l->devices.v[i].dirty;
			l->devices.v[i].dirty = false;
			fd = l->devices.v[i].fd;
		}
		pthread_mutex_unlock(&l->lock);
		if (fd < 0)
			return 0;
		/* After an error nobody knows what was written: recovery compares every file with the journal. */
		if (dirty && io_syncfs(fd) < 0)
			storage_failed("cannot sync the file system of the mailboxes: %s", strerror(errno));
	}
}

/* ---- notes -------------------------------------------------------------------------------------------- */

static struct str note_key(char out[STORE_PATH_MAX], struct str path, struct str folder)
{
	int n = snprintf(out, STORE_PATH_MAX, "%.*s%c%.*s", STR_ARG(path), 0, STR_ARG(folder));

	return str_of(out, (size_t)n);
}

static void note_free(struct note *n)
{
	free(n->path);
	free(n->folder);
	buf_release(&n->text);
	free(n);
}

/* Under notes_lock. */
static struct note *note_for(struct local *l, struct str path, struct str folder)
{
	char key[STORE_PATH_MAX];
	struct note *n = map_get(l->notes, note_key(key, path, folder));

	if (n)
		return n;
	n = NEW(struct note);
	n->path = str_dup(path);
	n->folder = str_dup(folder);
	buf_init(&n->text, NOTE_MAX);
	map_set(l->notes, note_key(key, path, folder), n);
	return n;
}

void notes_add(struct local *l, const struct file_work *w)
{
	struct note *n;

	pthread_mutex_lock(&l->notes_lock);
	n = note_for(l, w->op.path, w->op.folder);
	n->account = w->op.account;
	n->home = n->home || w->op.home;
	if (w->op.kind == FILE_NOTE_REPLACE) {
		buf_clear(&n->text);
		n->replace = true;
	}
	buf_add_str(&n->text, w->op.prefix);
	pthread_mutex_unlock(&l->notes_lock);
}

void notes_drop(struct local *l, struct str path, struct str folder)
{
	char key[STORE_PATH_MAX];
	struct note *n;

	pthread_mutex_lock(&l->notes_lock);
	n = map_remove(l->notes, note_key(key, path, folder));
	if (n)
		note_free(n);
	pthread_mutex_unlock(&l->notes_lock);
}

/* Renames the folder by fn, and what is noted for it goes along: under the lock, so that a checkpoint never
 * sees notes for a name that is not there yet. */
int notes_rename(struct local *l, const struct file_work *w,
		 int (*fn)(struct local *l, const struct file_work *w, struct err *err), struct err *err)
{
	char key[STORE_PATH_MAX];
	struct note *n, *to;
	int rc;

	pthread_mutex_lock(&l->notes_lock);
	n = map_remove(l->notes, note_key(key, w->op.path, w->op.folder));
	if (n) {
		to = note_for(l, w->op.path, w->op.to_folder);
		to->replace = to->replace || n->replace;
		to->account = n->account;
		to->home = to->home || n->home;
		buf_add_str(&to->text, buf_str(&n->text));
		note_free(n);
	}
	rc = fn(l, w, err);
	pthread_mutex_unlock(&l->notes_lock);
	return rc;
}

/* A torn last line is ended first, so that it spoils no other. */
static int append(int fd, struct str text)
{
	struct stat st;
	char last = '\n';
	off_t at;

	if (io_fstat(fd, &st) < 0)
		return -1;
	at = st.st_size;
	if (at > 0 && io_pread(fd, &last, 1, at - 1) < 0)
		return -1;
	if ((last == '\n' || (io_pwrite(fd, "\n", 1, at++) == 0)) && io_pwrite(fd, text.ptr, text.len, at) == 0)
		return 0;
	if (io_ftruncate(fd, st.st_size) < 0)
		log_warning("cannot take back half a note: %s", strerror(errno));
	return -1;
}

static int replace(struct local *l, const struct note *n, int fd, const char *from)
{
	char to[STORE_PATH_MAX];

	if (io_pwrite(fd, n->text.ptr, n->text.len, 0) < 0 || io_ftruncate(fd, (off_t)n->text.len) < 0)
		return -1;
	/* Before the rename, or a crash could leave the new name and no contents. */
	if (io_fsync(fd) < 0)
		storage_failed("cannot sync a uidlist: %s", strerror(errno));
	return io_rename(l->o.rootfd, from, l->o.rootfd,
			 local_path(to, str_from(n->path), str_from(n->folder), STORE_UIDLIST_NAME));
}

static int note_write(struct local *l, const struct note *n, struct err *err)
{
	const char *name = n->replace ? STORE_UIDLIST_NAME ".new" : STORE_UIDLIST_NAME;
	char full[STORE_PATH_MAX];
	int fd, rc;

	if (device_touch(l, str_from(n->path), NULL, err) < 0)
		return -1;
	fd = io_open(l->o.rootfd, local_path(full, str_from(n->path), str_from(n->folder), name),
		     O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
	if (fd < 0) {
		if (errno != ENOENT)
			return err_errno(err, "cannot open %s", full);
		/* The folder was removed, and there is nothing to note; or all of the Maildir is away. */
		return n->home ? home_check(l, str_from(n->path), err) : 0;
	}
	rc = n->replace ? replace(l, n, fd, full) : append(fd, buf_str(&n->text));
	if (rc < 0)
		err_errno(err, "cannot write %s", full);
	io_close(fd);
	return rc;
}

size_t notes_flush(struct local *l, struct err *err)
{
	struct str key;
	void *value;
	size_t left = 0;

	pthread_mutex_lock(&l->notes_lock);
	for (size_t at = 0; map_next(l->notes, &at, &key, &value);) {
		struct note *n = value;
		if (note_write(l, n, err) < 0) {
			left++;
			continue;
		}
		map_remove(l->notes, key);
		note_free(n);
	}
	pthread_mutex_unlock(&l->notes_lock);
	return left;
}

void notes_each(struct local *l, void (*fn)(void *ctx, const struct file_work *w), void *ctx)
{
	struct str key;
	void *value;

	pthread_mutex_lock(&l->notes_lock);
	for (size_t at = 0; map_next(l->notes, &at, &key, &value);) {
		const struct note *n = value;
		struct file_work w = {.op = {.kind = n->replace ? FILE_NOTE_REPLACE : FILE_NOTE,
					     .path = str_from(n->path),
					     .folder = str_from(n->folder),
					     .prefix = buf_str(&n->text),
					     .account = n->account,
					     .home = true,
					     .body = -1}};

		fn(ctx, &w);
	}
	pthread_mutex_unlock(&l->notes_lock);
}

void notes_free(struct local *l)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(l->notes, &at, &key, &value);)
		note_free(value);
	map_free(&l->notes);
}
