/* See files.h. The memory file: for each file {u32 length of the path, u32 flags, u64 length of the contents, path,
 * contents}; it is mapped, not copied. Of a file that could not be read the contents are the sentence that says why. */
#include "directory/tables/files.h"
#include "base/mem.h"
#include "base/vec.h"
#include "os/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX ((size_t)1 << 30)  /* a table of more bytes than this belongs in a database */
#define LIST_MAX ((size_t)16 << 20) /* of an alias */

/* What the memory file tells of a file. */
enum { FILE_LIST = 1, FILE_NESTS = 2, FILE_FAILED = 4 };

struct file {
	struct str path;
	unsigned flags;
	struct str contents; /* ptr NULL: could not be read */
	char *own;	     /* malloc'ed contents */
	struct err why;
};

struct table_files {
	struct arena arena;
	char *base;
	VEC(struct file) files;
	void *map;
	size_t map_len;
	bool closed; /* nothing more is read */
};

struct table_files *table_files_new(const char *base)
{
	struct table_files *f = NEW(struct table_files);

	arena_init(&f->arena);
	f->base = mem_strdup(base);
	return f;
}

void table_files_free(struct table_files **fp)
{
	struct table_files *f = *fp;

	*fp = NULL;
	if (f == NULL)
		return;
	for (size_t i = 0; i < f->files.n; i++)
		free(f->files.v[i].own);
	vec_release(&f->files);
	if (f->map)
		munmap(f->map, f->map_len);
	arena_release(&f->arena);
	free(f->base);
	free(f);
}

/* A list is kept apart from a table of the same name: not everybody who may name the one may read the other. */
static struct file *find(const struct table_files *f, struct str path, unsigned list)
{
	for (size_t i = 0; i < f->files.n; i++)
		if (str_eq(f->files.v[i].path, path) && (f->files.v[i].flags & FILE_LIST) == list)
			return &f->files.v[i];
	return NULL;
}

static bool led_to_by_links(const char *path, int fd)
{
	char name[64], real[PATH_MAX];
	ssize_t len;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	len = readlink(name, real, sizeof(real));
	return len < 0 || !str_eq(str_of(real, (size_t)len), str_from(path));
}

/* Root reads it, and other people's mail goes by it: who may not read a file shall not see it as a list of addresses in
 * a bounce, and not everybody shall write it. */
static int check_list(struct file *file, const char *path, int fd, const struct stat *st)
{
	if (st->st_mode & S_IWOTH)
		return err_set(&file->why, ERR_PERM, "4.3.5", "the list %s is writable for everybody", path);
	if (!(st->st_mode & S_IROTH) && led_to_by_links(path, fd))
		return err_set(&file->why, ERR_PERM, "4.3.5",
			       "the list %s is reached by a symbolic link, and not readable for everybody", path);
	if (st->st_uid == 0 || st->st_uid == geteuid())
		file->flags |= FILE_NESTS;
	return 0;
}

/* Not blocking, so that a FIFO under the name does not stop the system; and only what is a file. */
static int read_disk(struct table_files *f, struct file *file)
{
	bool list = file->flags & FILE_LIST;
	char *path =
		file->path.ptr[0] == '/' ? str_dup(file->path) : mem_printf("%s/%.*s", f->base, STR_ARG(file->path));
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	ssize_t len = -1;

	if (fd < 0 || fstat(fd, &st) < 0) {
		err_errno(&file->why, "cannot open %s", path);
	} else if (!S_ISREG(st.st_mode)) {
		err_set(&file->why, ERR_PERM, "", "%s is not a file", path);
	} else if (!list || check_list(file, path, fd, &st) == 0) {
		len = fd_read_all(fd, list ? LIST_MAX : FILE_MAX, &file->own, &file->why);
		if (len < 0)
			err_context(&file->why, "%s", path);
	}
	if (fd >= 0)
		close(fd);
	free(path);
	if (len >= 0)
		file->contents = str_of(file->own, (size_t)len);
	return len < 0 ? -1 : 0;
}

static struct file *read_once(struct table_files *f, struct str path, unsigned list, struct err *err)
{
	struct file *file = find(f, path, list), fresh = {.flags = list};

	if (file == NULL && f->closed) {
		err_set(err, ERR_TEMP, "4.3.0", "%.*s was not passed on", STR_ARG(path));
		return NULL;
	}
	if (file == NULL) {
		fresh.path = arena_str(&f->arena, path);
		(void)!read_disk(f, &fresh); /* kept with the error in it */
		vec_push(&f->files, fresh);
		file = &f->files.v[f->files.n - 1];
	}
	if (file->contents.ptr == NULL && err)
		*err = file->why;
	return file->contents.ptr ? file : NULL;
}

int table_files_read(struct table_files *f, struct str path, struct str *contents_r, struct err *err)
{
	const struct file *file = read_once(f, path, 0, err);

	if (file == NULL)
		return -1;
	*contents_r = file->contents;
	return 0;
}

int table_files_read_list(struct table_files *f, struct str path, struct str *contents_r, bool *nests_r,
			  struct err *err)
{
	const struct file *file = read_once(f, path, FILE_LIST, err);

	if (file == NULL)
		return -1;
	*contents_r = file->contents;
	*nests_r = file->flags & FILE_NESTS;
	return 0;
}

bool table_files_next(const struct table_files *f, size_t *at, struct str *path_r)
{
	if (*at >= f->files.n)
		return false;
	*path_r = f->files.v[(*at)++].path;
	return true;
}

void table_files_drop(struct table_files *f)
{
	f->closed = true;
	for (size_t i = 0; i < f->files.n; i++) {
		free(f->files.v[i].own);
		f->files.v[i].own = NULL;
		f->files.v[i].contents = STR_NULL;
		err_set(&f->files.v[i].why, ERR_TEMP, "4.3.0", "%.*s was given back", STR_ARG(f->files.v[i].path));
	}
}

/* ---- the memory file ---- */

#define HEAD (2 * sizeof(uint32_t) + sizeof(uint64_t))

static int write_all(int fd, const void *data, size_t len)
{
	for (const char *p = data; len > 0;) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int write_file(int fd, const struct file *file)
{
	bool failed = file->contents.ptr == NULL;
	struct str contents = failed ? str_from(file->why.text) : file->contents;
	uint32_t path_len = (uint32_t)file->path.len, flags = file->flags | (failed ? FILE_FAILED : 0);
	uint64_t len = contents.len;

	return write_all(fd, &path_len, sizeof(path_len)) < 0 || write_all(fd, &flags, sizeof(flags)) < 0 ||
			       write_all(fd, &len, sizeof(len)) < 0 || write_all(fd, file->path.ptr, path_len) < 0 ||
			       write_all(fd, contents.ptr, contents.len) < 0
		       ? -1
		       : 0;
}

int table_files_seal(const struct table_files *f, struct err *err)
{
	int fd = memfd_create("postrider-tables", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	bool good = fd >= 0;

	for (size_t i = 0; good && f && i < f->files.n; i++)
		good = write_file(fd, &f->files.v[i]) == 0;
	if (good && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
		return fd;
	err_errno(err, "cannot make a memory file for the tables");
	fd_close(&fd);
	return -1;
}

static int take(struct table_files *f, struct str *rest, struct err *err)
{
	struct file file = {.path = STR_NULL};
	uint32_t path_len, flags;
	uint64_t len;

	if (rest->len < HEAD)
		return err_set(err, ERR_TEMP, "4.3.0", "the tables were passed on broken");
	memcpy(&path_len, rest->ptr, sizeof(path_len));
	memcpy(&flags, rest->ptr + sizeof(path_len), sizeof(flags));
	memcpy(&len, rest->ptr + sizeof(path_len) + sizeof(flags), sizeof(len));
	*rest = str_skip(*rest, HEAD);
	if (path_len > PATH_MAX || path_len > rest->len || len > rest->len - path_len)
		return err_set(err, ERR_TEMP, "4.3.0", "the tables were passed on broken");
	file.path = str_sub(*rest, 0, path_len);
	file.flags = flags & ~(unsigned)FILE_FAILED;
	file.contents = str_sub(*rest, path_len, (size_t)len);
	if (file.contents.ptr == NULL)
		file.contents.ptr = "";
	if (flags & FILE_FAILED) {
		err_set(&file.why, ERR_TEMP, "4.3.5", "%.*s", STR_ARG(file.contents));
		file.contents = STR_NULL;
	}
	*rest = str_skip(*rest, path_len + (size_t)len);
	vec_push(&f->files, file);
	return 0;
}

struct table_files *table_files_open(int fd, struct err *err)
{
	struct table_files *f = table_files_new("/");
	int64_t size = fd_size(fd);
	struct str rest;

	f->closed = true;
	if (size > 0) {
		f->map = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
		f->map_len = (size_t)size;
	}
	if (size < 0 || f->map == MAP_FAILED) {
		f->map = NULL;
		err_errno(err, "cannot read the tables");
		table_files_free(&f);
		return NULL;
	}
	for (rest = str_of(f->map, f->map_len); rest.len > 0;)
		if (take(f, &rest, err) < 0) {
			table_files_free(&f);
			return NULL;
		}
	return f;
}
