/* Doing file operations, continued: directories. A folder is made, renamed, joined with another, removed. As with
 * files, each may be repeated and ends where the first time ended. */
#include "store/engine_local_private.h"

#include "base/fatal.h"
#include "base/log.h"
#include "os/io.h"
#include <errno.h>
#include <unistd.h>

#define DIR_MODE  0700
#define MARK_MODE 0600

/* ---- directories -------------------------------------------------------------------------------------- */

/* The names of new directories are made safe at once: a message that lies safely in one folder and is renamed
 * into a new one must not go with it if the power does. */
static void sync_dir(struct local *l, const char *path)
{
	int fd = io_open(l->o.rootfd, path, O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return; /* gone again */
	if (io_fsync(fd) < 0)
		storage_failed("cannot sync directory %s: %s", path, strerror(errno));
	io_close(fd);
}

/* 1 made, 0 it was there, -1. */
static int make_dir(struct local *l, const char *path, struct err *err)
{
	if (io_mkdir(l->o.rootfd, path, DIR_MODE) == 0)
		return 1;
	return errno == EEXIST ? 0 : err_errno(err, "cannot make directory %s", path);
}

int dir_make_safe(struct local *l, const char *path, struct err *err)
{
	ptrdiff_t slash = str_rchr(str_from(path), '/');
	char parent[STORE_PATH_MAX];
	int rc = make_dir(l, path, err);

	if (rc <= 0)
		return rc;
	snprintf(parent, sizeof(parent), "%.*s", (int)(slash < 0 ? 1 : slash), slash < 0 ? "." : path);
	sync_dir(l, parent);
	return 1;
}

static int make_parents(struct local *l, struct str path, struct err *err)
{
	char part[STORE_PATH_MAX];

	for (size_t i = 1; i <= path.len; i++) {
		if (i < path.len && path.ptr[i] != '/')
			continue;
		local_path(part, str_sub(path, 0, i), STR_NULL, "");
		if (dir_make_safe(l, part, err) < 0)
			return -1;
	}
	return 0;
}

int folder_make(struct local *l, struct str path, struct str folder, struct err *err)
{
	static const char *const subs[] = {"tmp", "new", "cur"};
	char full[STORE_PATH_MAX];
	bool made = false;
	int fd, rc;

	if (make_parents(l, path, err) < 0 || dir_make_safe(l, local_path(full, path, folder, ""), err) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(subs); i++) {
		rc = make_dir(l, local_path(full, path, folder, subs[i]), err);
		if (rc < 0)
			return -1;
		made = made || rc > 0;
	}
	if (made)
		sync_dir(l, local_path(full, path, folder, ""));
	if (folder.len == 0)
		return 0;
	fd = io_open(l->o.rootfd, local_path(full, path, folder, "maildirfolder"), O_WRONLY | O_CREAT, MARK_MODE);
	if (fd < 0)
		return err_errno(err, "cannot create %s", full);
	io_close(fd);
	return 0;
}

/* ---- folders ------------------------------------------------------------------------------------------ */

struct folder_walk {
	struct local *l;
	const struct store_file_op *op;
	const char *sub;
	bool again; /* at recovery, or after a failure */
	struct err *err;
};

static int remove_message(void *ctx, const char *name)
{
	struct folder_walk *f = ctx;
	struct store_entry e = store_entry_parse(str_from(name), true);
	char found[FOUND_MAX];

	snprintf(found, sizeof(found), "%s/%s", f->sub, name);
	return file_expunge(f->l, f->op->path, f->op->folder, found, e.base, f->err);
}

static int unlink_one(void *ctx, const char *name)
{
	struct folder_walk *f = ctx;
	char full[STORE_PATH_MAX], dir[STORE_PATH_MAX];

	snprintf(full, sizeof(full), "%s/%s", local_path(dir, f->op->path, f->op->folder, f->sub), name);
	if (io_unlink(f->l->o.rootfd, full) < 0 && errno != ENOENT && errno != EISDIR && errno != EPERM)
		return err_errno(f->err, "cannot remove %s", full);
	return 0;
}

/* At recovery the folder may stand under its new name already, and what was put into it before was put into the old one
 * once more: the message that we bring is there, perhaps under the flags that it got later. It must not be there twice;
 * that name goes last, so that at no moment there is none. */
static int move_message(void *ctx, const char *name)
{
	struct folder_walk *f = ctx;
	const struct store_file_op *op = f->op;
	struct store_entry e = store_entry_parse(str_from(name), strcmp(f->sub, "cur") == 0);
	char from[STORE_PATH_MAX], found[FOUND_MAX], other[FOUND_MAX], full[STORE_PATH_MAX];
	int twice = 0;

	snprintf(found, sizeof(found), "%s/%s", f->sub, name);
	if (f->again)
		twice = file_find(f->l, op->path, op->to_folder, e.base, e.cur, e.flags, other, f->err);
	local_path(from, op->path, op->folder, found);
	if (twice < 0 || file_rename_into(f->l, from, op->path, op->to_folder, found, f->err) < 0)
		return -1;
	if (twice > 0 && strcmp(other, found) != 0 &&
	    io_unlink(f->l->o.rootfd, local_path(full, op->path, op->to_folder, other)) < 0 && errno != ENOENT)
		return err_errno(f->err, "cannot remove %s", full);
	cache_note(f->l, op->path, op->to_folder, e.base, found);
	return 0;
}

/* What fn does to every entry of the folder's directory `sub`; a folder that is not there has none. */
static int folder_walk(struct folder_walk *f, const char *sub, int (*fn)(void *ctx, const char *name))
{
	char dir[STORE_PATH_MAX];
	int rc;

	f->sub = sub;
	errno = 0;
	rc = dir_each(f->l->o.rootfd, local_path(dir, f->op->path, f->op->folder, sub), fn, f);
	if (rc < 0 && f->err->kind == ERR_OK && errno != ENOENT)
		return err_errno(f->err, "cannot read %s", dir);
	return rc < 0 && f->err->kind != ERR_OK ? -1 : 0;
}

/* What was moved out must have arrived before the directories go: a power loss may keep the second and not the first.
 */
static int sync_before_removal(struct local *l, struct str path, struct err *err)
{
	char full[STORE_PATH_MAX];
	int fd = io_open(l->o.rootfd, local_path(full, path, STR_NULL, ""), O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, "cannot open %s", full);
	if (io_syncfs(fd) < 0)
		storage_failed("cannot sync the file system of %s: %s", full, strerror(errno));
	io_close(fd);
	return 0;
}

static int folder_rmdirs(struct folder_walk *f)
{
	static const char *const subs[] = {"cur", "new", "tmp", ""};

	if (sync_before_removal(f->l, f->op->path, f->err) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(subs); i++) {
		char full[STORE_PATH_MAX];
		local_path(full, f->op->path, f->op->folder, subs[i]);
		if (io_rmdir(f->l->o.rootfd, full) == 0 || errno == ENOENT)
			continue;
		if (errno != ENOTEMPTY && errno != EEXIST)
			return err_errno(f->err, "cannot remove directory %s", full);
		/* Somebody else keeps things there; without cur/ it is no folder any more. */
		log_info("directory %s is left: it holds files of another program", full);
	}
	return 0;
}

int folder_remove(struct local *l, const struct store_file_op *op, struct err *err)
{
	struct folder_walk f = {.l = l, .op = op, .err = err};

	notes_drop(l, op->path, op->folder);
	if (folder_walk(&f, "new", remove_message) < 0 || folder_walk(&f, "cur", remove_message) < 0 ||
	    folder_walk(&f, "tmp", unlink_one) < 0 || folder_walk(&f, "", unlink_one) < 0)
		return -1;
	cache_forget_folder(l, op->path, op->folder);
	return folder_rmdirs(&f);
}

int folder_rename_dirs(struct local *l, const struct file_work *w, struct err *err)
{
	const struct store_file_op *op = &w->op;
	struct folder_walk f = {.l = l, .op = op, .err = err, .again = l->recovering || w->again};
	char from[STORE_PATH_MAX], to[STORE_PATH_MAX];

	local_path(from, op->path, op->folder, "");
	local_path(to, op->path, op->to_folder, "");
	cache_forget_folder(l, op->path, op->folder);
	cache_forget_folder(l, op->path, op->to_folder);
	if (io_rename(l->o.rootfd, from, l->o.rootfd, to) == 0)
		return 0;
	if (errno == ENOENT)
		return folder_make(l, op->path, op->to_folder, err);
	if (errno != ENOTEMPTY && errno != EEXIST)
		return err_errno(err, "cannot rename folder %s to %s", from, to);
	/* Done before and begun again by recovery, or another tool made the target: join them. */
	if (folder_walk(&f, "new", move_message) < 0 || folder_walk(&f, "cur", move_message) < 0)
		return -1;
	return folder_remove(l, op, err);
}
