/* The history is a list of steps on nodes (files and directories, numbered as they appear). Nodes are told by
 * the inode of the real file; names by the path that the kernel knows for a directory's descriptor. */
#include "os/io_record_private.h"

#include "base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <unistd.h>

static __thread size_t sync_began;

/* ---- names -------------------------------------------------------------------------------------------- */

static ptrdiff_t entry_index(const struct io_record *r, size_t dir, const char *name)
{
	for (size_t i = 0; i < r->nodes.v[dir].entries.n; i++)
		if (strcmp(r->nodes.v[dir].entries.v[i].name, name) == 0)
			return (ptrdiff_t)i;
	return -1;
}

static void entry_unset(struct io_record *r, size_t dir, const char *name)
{
	ptrdiff_t i = entry_index(r, dir, name);

	if (i < 0)
		return;
	free(r->nodes.v[dir].entries.v[i].name);
	vec_remove(&r->nodes.v[dir].entries, (size_t)i);
}

static void entry_set(struct io_record *r, size_t dir, const char *name, size_t node)
{
	struct entry e = {mem_strdup(name), node};

	entry_unset(r, dir, name);
	vec_push(&r->nodes.v[dir].entries, e);
}

static size_t node_new(struct io_record *r, bool is_dir)
{
	struct node n = {.is_dir = is_dir};

	vec_push(&r->nodes, n);
	return r->nodes.n - 1;
}

static void add(struct io_record *r, struct record_step step)
{
	vec_push(&r->steps, step);
}

/* Absolute path of dirfd/path; false if it cannot be told. */
static bool absolute(int dirfd, const char *path, char out[PATH_MAX])
{
	char link[64], base[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
	n = readlink(link, base, sizeof(base) - 1);
	if (n <= 0)
		return false;
	base[n] = 0;
	return snprintf(out, PATH_MAX, "%s%s%s", base, path ? "/" : "", path ? path : "") < PATH_MAX;
}

static size_t create(struct io_record *r, size_t dir, const char *name, bool is_dir)
{
	size_t node = node_new(r, is_dir);

	entry_set(r, dir, name, node);
	add(r, (struct record_step){.kind = STEP_SET, .node = node, .dir = dir, .name = mem_strdup(name)});
	return node;
}

/* The directory of a path below the root and the last name; false: outside. A directory on the way that nobody
 * told of was made by another thread that has not come to its hook yet. */
static bool locate(struct io_record *r, const char *path, size_t *dir_r, char name_r[NAME_MAX + 1])
{
	size_t root_len = strlen(r->root), dir = 0;
	struct str rest, part, next;

	if (strncmp(path, r->root, root_len) != 0 || (path[root_len] != '/' && path[root_len] != 0))
		return false;
	rest = str_from(path + root_len);
	name_r[0] = 0;
	if (!str_token(&rest, "/", &part))
		return true;
	while (str_token(&rest, "/", &next)) {
		char name[NAME_MAX + 1];
		ptrdiff_t i;

		if (!str_eq(part, STR("."))) {
			snprintf(name, sizeof(name), "%.*s", STR_ARG(part));
			i = entry_index(r, dir, name);
			dir = i < 0 ? create(r, dir, name, true) : r->nodes.v[dir].entries.v[i].node;
		}
		part = next;
	}
	*dir_r = dir;
	if (!str_eq(part, STR(".")))
		snprintf(name_r, NAME_MAX + 1, "%.*s", STR_ARG(part));
	return true;
}

static bool locate_at(struct io_record *r, int dirfd, const char *path, size_t *dir_r, char name_r[NAME_MAX + 1])
{
	char full[PATH_MAX];

	*dir_r = 0;
	return absolute(dirfd, path, full) && locate(r, full, dir_r, name_r);
}

/* ---- nodes -------------------------------------------------------------------------------------------- */

/* The node of an open descriptor, making one for a file that was created out of sight. -1: not ours. */
static ptrdiff_t node_of(struct io_record *r, int fd)
{
	char name[NAME_MAX + 1];
	struct stat st;
	size_t dir, node;
	uintptr_t known;
	ptrdiff_t i;

	/* What has no name any more is not there after a crash. */
	if (fstat(fd, &st) < 0 || st.st_nlink == 0)
		return -1;
	known = (uintptr_t)map_get_u64(r->by_inode, st.st_ino);
	if (known)
		return (ptrdiff_t)known - 1;
	if (!locate_at(r, fd, NULL, &dir, name))
		return -1;
	if (!name[0]) {
		node = dir;
	} else {
		i = entry_index(r, dir, name);
		node = i >= 0 ? r->nodes.v[dir].entries.v[i].node : create(r, dir, name, S_ISDIR(st.st_mode));
	}
	map_set_u64(r->by_inode, st.st_ino, (void *)(node + 1));
	return (ptrdiff_t)node;
}

/* ---- what the hook tells ------------------------------------------------------------------------------ */

static void on_write(struct io_record *r, int fd, const void *data, size_t len, off_t offset)
{
	ptrdiff_t node = node_of(r, fd);
	int flags = fcntl(fd, F_GETFL);

	if (node < 0)
		return;
	add(r, (struct record_step){.kind = STEP_WRITE,
				    .node = (size_t)node,
				    .data = mem_dup(data, len),
				    .len = len,
				    .offset = offset,
				    .durable = flags >= 0 && (flags & O_DSYNC)});
}

/* The source of a copy is always read from its beginning. */
static void on_copy(struct io_record *r, const struct io_event *e)
{
	char *data = mem_alloc(e->len + 1);

	if (pread(e->fd, data, e->len, 0) == (ssize_t)e->len)
		on_write(r, e->fd2, data, e->len, e->offset);
	free(data);
}

/* What a peer wrote into a file by itself is seen when it is synced. */
static void on_sync(struct io_record *r, int fd, size_t covers)
{
	ptrdiff_t node = node_of(r, fd);
	struct stat st;
	char *data;
	bool written = false;

	if (node < 0)
		return;
	for (size_t i = 0; i < r->steps.n && !written; i++)
		written = (r->steps.v[i].kind == STEP_WRITE || r->steps.v[i].kind == STEP_ZERO) &&
			  r->steps.v[i].node == (size_t)node;
	if (!written && !r->nodes.v[node].is_dir && fstat(fd, &st) == 0 && st.st_size > 0) {
		data = mem_alloc((size_t)st.st_size);
		if (pread(fd, data, (size_t)st.st_size, 0) == st.st_size) {
			on_write(r, fd, data, (size_t)st.st_size, 0);
			covers = r->steps.n;
		}
		free(data);
	}
	add(r, (struct record_step){.kind = STEP_SYNC, .node = (size_t)node, .covers = covers});
}

static void on_open(struct io_record *r, const struct io_event *e)
{
	struct stat st;
	size_t dir;
	char name[NAME_MAX + 1];
	ptrdiff_t i;
	size_t node;

	if (!(e->flags & O_CREAT) || !locate_at(r, e->fd, e->path, &dir, name) || fstat(e->result, &st) < 0)
		return;
	i = entry_index(r, dir, name);
	node = i >= 0 ? r->nodes.v[dir].entries.v[i].node : create(r, dir, name, false);
	map_set_u64(r->by_inode, st.st_ino, (void *)(node + 1));
	if (e->flags & O_TRUNC && i >= 0)
		add(r, (struct record_step){.kind = STEP_TRUNCATE, .node = node});
}

static void on_name(struct io_record *r, const struct io_event *e)
{
	char name[NAME_MAX + 1], name2[NAME_MAX + 1];
	size_t dir, dir2, node;
	struct stat st;
	ptrdiff_t i;

	if (!locate_at(r, e->fd, e->path, &dir, name))
		return;
	i = entry_index(r, dir, name);
	if (e->op == IO_MKDIR) {
		node = i < 0 ? create(r, dir, name, true) : r->nodes.v[dir].entries.v[i].node;
		if (fstatat(e->fd, e->path, &st, 0) == 0)
			map_set_u64(r->by_inode, st.st_ino, (void *)(node + 1));
		return;
	}
	if (i < 0)
		return;
	node = r->nodes.v[dir].entries.v[i].node;
	if (e->op == IO_UNLINK || e->op == IO_RMDIR) {
		entry_unset(r, dir, name);
		add(r, (struct record_step){.kind = STEP_UNSET, .node = node, .dir = dir, .name = mem_strdup(name)});
		return;
	}
	if (!locate_at(r, e->fd2, e->path2, &dir2, name2))
		return;
	if (e->op == IO_RENAME) {
		ptrdiff_t to = entry_index(r, dir2, name2);
		if (to >= 0 && r->nodes.v[dir2].entries.v[to].node == node)
			return; /* two names of one file: nothing happens */
		entry_unset(r, dir, name);
	}
	entry_set(r, dir2, name2, node);
	add(r, (struct record_step){.kind = e->op == IO_RENAME ? STEP_MOVE : STEP_SET,
				    .node = node,
				    .dir = e->op == IO_RENAME ? dir : dir2,
				    .dir2 = dir2,
				    .name = mem_strdup(e->op == IO_RENAME ? name : name2),
				    .name2 = mem_strdup(name2)});
}

static int before(void *ctx, const struct io_event *e)
{
	if (e->op == IO_FDATASYNC || e->op == IO_FSYNC || e->op == IO_SYNCFS)
		io_record_sync_begin(ctx);
	return 0;
}

static void after(void *ctx, const struct io_event *e)
{
	struct io_record *r = ctx;
	ptrdiff_t node;

	pthread_mutex_lock(&r->lock);
	switch (e->op) {
	case IO_OPEN:
		on_open(r, e);
		break;
	case IO_WRITE:
		on_write(r, e->fd, e->data, e->len, e->offset);
		break;
	case IO_COPY:
		on_copy(r, e);
		break;
	case IO_FALLOCATE:
	case IO_TRUNCATE:
		node = node_of(r, e->fd);
		if (node >= 0)
			add(r, (struct record_step){.kind = e->op == IO_TRUNCATE ? STEP_TRUNCATE : STEP_ZERO,
						    .node = (size_t)node,
						    .len = e->len,
						    .offset = e->offset});
		break;
	case IO_FDATASYNC:
	case IO_FSYNC:
		on_sync(r, e->fd, sync_began);
		break;
	case IO_SYNCFS:
		add(r, (struct record_step){.kind = STEP_SYNCFS, .covers = sync_began});
		break;
	case IO_RENAME:
	case IO_LINK:
	case IO_UNLINK:
	case IO_MKDIR:
	case IO_RMDIR:
		on_name(r, e);
		break;
	default:
		break;
	}
	pthread_mutex_unlock(&r->lock);
}

/* ---- recording ---------------------------------------------------------------------------------------- */

/* What is there at the start, as durable steps. */
static void base_add(struct io_record *r, int dirfd, size_t dir);

static void base_entry(struct io_record *r, int dirfd, size_t dir, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	uintptr_t known;
	size_t node;
	char *data;

	if (fd < 0 || fstat(fd, &st) < 0) {
		if (fd >= 0)
			close(fd);
		return;
	}
	known = (uintptr_t)map_get_u64(r->by_inode, st.st_ino);
	node = known ? known - 1 : node_new(r, S_ISDIR(st.st_mode));
	entry_set(r, dir, name, node);
	add(r, (struct record_step){
		       .kind = STEP_SET, .node = node, .dir = dir, .name = mem_strdup(name), .durable = true});
	map_set_u64(r->by_inode, st.st_ino, (void *)(node + 1));
	if (S_ISDIR(st.st_mode)) {
		base_add(r, fd, node);
	} else if (!known && st.st_size > 0) {
		data = mem_alloc((size_t)st.st_size);
		if (pread(fd, data, (size_t)st.st_size, 0) == st.st_size)
			add(r, (struct record_step){.kind = STEP_WRITE,
						    .node = node,
						    .data = data,
						    .len = (size_t)st.st_size,
						    .durable = true});
		else
			free(data);
	}
	close(fd);
}

static void base_add(struct io_record *r, int dirfd, size_t dir)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			base_entry(r, dirfd, dir, e->d_name);
	if (d)
		closedir(d);
}

size_t io_record_base(const struct io_record *r)
{
	return r->base;
}

struct io_record *io_record_new(int rootfd)
{
	struct io_record *r = NEW(struct io_record);
	struct stat st = {0};

	pthread_mutex_init(&r->lock, NULL);
	r->by_inode = map_new();
	if (!absolute(rootfd, NULL, r->root) || fstat(rootfd, &st) < 0)
		r->root[0] = 0;
	map_set_u64(r->by_inode, st.st_ino, (void *)(node_new(r, true) + 1));
	base_add(r, rootfd, 0);
	r->base = r->steps.n;
	r->hook = (struct io_hook){before, after, r};
	io_set_hook(&r->hook);
	return r;
}

static bool covers(const struct record_step *sync, const struct record_step *s, size_t at)
{
	bool name = s->kind == STEP_SET || s->kind == STEP_UNSET || s->kind == STEP_MOVE;

	if (sync->covers <= at)
		return false;
	if (sync->kind == STEP_SYNCFS)
		return true;
	if (name)
		return sync->node == s->dir || (s->kind == STEP_MOVE && sync->node == s->dir2);
	return sync->node == s->node;
}

void io_record_stop(struct io_record *r)
{
	io_set_hook(NULL);
	for (size_t i = 0; i < r->steps.n; i++)
		r->steps.v[i].covered_by = r->steps.v[i].durable ? i : SIZE_MAX;
	for (size_t k = 0; k < r->steps.n; k++) {
		const struct record_step *sync = &r->steps.v[k];
		if (sync->kind != STEP_SYNC && sync->kind != STEP_SYNCFS)
			continue;
		for (size_t i = 0; i < k; i++)
			if (r->steps.v[i].covered_by == SIZE_MAX && r->steps.v[i].kind < STEP_SYNC &&
			    covers(sync, &r->steps.v[i], i))
				r->steps.v[i].covered_by = k;
	}
}

void io_record_free(struct io_record **rp)
{
	struct io_record *r = *rp;

	*rp = NULL;
	if (!r)
		return;
	for (size_t i = 0; i < r->steps.n; i++) {
		free(r->steps.v[i].name);
		free(r->steps.v[i].name2);
		free(r->steps.v[i].data);
	}
	for (size_t i = 0; i < r->nodes.n; i++) {
		for (size_t k = 0; k < r->nodes.v[i].entries.n; k++)
			free(r->nodes.v[i].entries.v[k].name);
		vec_release(&r->nodes.v[i].entries);
	}
	vec_release(&r->steps);
	vec_release(&r->nodes);
	map_free(&r->by_inode);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void io_record_mark(struct io_record *r, uint64_t value)
{
	pthread_mutex_lock(&r->lock);
	add(r, (struct record_step){.kind = STEP_MARK, .value = value});
	pthread_mutex_unlock(&r->lock);
}

void io_record_write(struct io_record *r, int fd, const void *data, size_t len, off_t offset)
{
	pthread_mutex_lock(&r->lock);
	on_write(r, fd, data, len, offset);
	pthread_mutex_unlock(&r->lock);
}

void io_record_sync_begin(struct io_record *r)
{
	pthread_mutex_lock(&r->lock);
	sync_began = r->steps.n;
	pthread_mutex_unlock(&r->lock);
}

void io_record_sync_end(struct io_record *r, int fd)
{
	pthread_mutex_lock(&r->lock);
	on_sync(r, fd, sync_began);
	pthread_mutex_unlock(&r->lock);
}

size_t io_record_length(struct io_record *r)
{
	size_t n;

	pthread_mutex_lock(&r->lock);
	n = r->steps.n;
	pthread_mutex_unlock(&r->lock);
	return n;
}

bool io_record_is_sync(const struct io_record *r, size_t n)
{
	return n > 0 && n <= r->steps.n &&
	       (r->steps.v[n - 1].kind == STEP_SYNC || r->steps.v[n - 1].kind == STEP_SYNCFS);
}

uint64_t io_record_marked(const struct io_record *r, size_t n)
{
	uint64_t mark = 0;

	for (size_t i = 0; i < n && i < r->steps.n; i++)
		if (r->steps.v[i].kind == STEP_MARK && r->steps.v[i].value > mark)
			mark = r->steps.v[i].value;
	return mark;
}
