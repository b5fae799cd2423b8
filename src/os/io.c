/* io - see os/io.h.
 *
 * Every function has the same form: describe the operation, ask the hook, do it with EINTR repeated, tell
 * the hook. Loops tell the hook about the whole of what was asked for, not about the pieces. */
#include "os/io.h"
#include "base/mem.h"
#include <errno.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Not in linux/magic.h. */
#define ZFS_MAGIC      0x2FC12FC1u
#define BCACHEFS_MAGIC 0xCA451A4Eu

#define COPY_PIECE ((size_t)128 * 1024)

/* Set while other threads do their work: each operation looks once. */
static const struct io_hook *_Atomic hook;

void io_set_hook(const struct io_hook *new_hook)
{
	hook = new_hook;
}

/* True when the hook makes the operation fail; errno is set. */
static bool vetoed(const struct io_event *event)
{
	const struct io_hook *h = hook;
	int error = __builtin_expect(h == NULL, 1) || h->before == NULL ? 0 : h->before(h->ctx, event);

	if (error)
		errno = error;
	return error != 0;
}

static void done(struct io_event *event, int result)
{
	const struct io_hook *h = hook;

	if (__builtin_expect(h == NULL, 1) || h->after == NULL || result < 0)
		return;
	event->result = result;
	h->after(h->ctx, event);
}

/* Does `call` until a signal no longer interrupts it. */
#define REPEAT(result, call)                                                                                           \
	do                                                                                                             \
		(result) = (call);                                                                                     \
	while ((result) < 0 && errno == EINTR)

int io_open(int dirfd, const char *path, int flags, mode_t mode)
{
	struct io_event event = {.op = IO_OPEN, .fd = dirfd, .path = path, .flags = flags};
	int fd;

	if (vetoed(&event))
		return -1;
	REPEAT(fd, openat(dirfd, path, flags | O_CLOEXEC, mode));
	done(&event, fd);
	return fd;
}

int io_close(int fd)
{
	struct io_event event = {.op = IO_CLOSE, .fd = fd};
	int result;

	if (vetoed(&event))
		return -1;
	/* The hook hears of it first: afterwards another thread may have got the same number. */
	done(&event, 0);
	result = close(fd);
	return result < 0 && errno == EINTR ? 0 : result; /* on Linux it is closed all the same */
}

ssize_t io_pread(int fd, void *data, size_t len, off_t offset)
{
	struct io_event event = {.op = IO_READ, .fd = fd, .len = len, .offset = offset};
	size_t got = 0;

	if (vetoed(&event))
		return -1;
	while (got < len) {
		ssize_t n;

		REPEAT(n, pread(fd, (char *)data + got, len - got, offset + (off_t)got));
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	done(&event, 0);
	return (ssize_t)got;
}

int io_pwrite(int fd, const void *data, size_t len, off_t offset)
{
	struct io_event event = {.op = IO_WRITE, .fd = fd, .data = data, .len = len, .offset = offset};
	size_t put = 0;

	if (vetoed(&event))
		return -1;
	while (put < len) {
		ssize_t n;

		REPEAT(n, pwrite(fd, (const char *)data + put, len - put, offset + (off_t)put));
		if (n < 0)
			return -1;
		put += (size_t)n;
	}
	done(&event, 0);
	return 0;
}

int io_write(int fd, const void *data, size_t len)
{
	off_t offset = hook ? lseek(fd, 0, SEEK_CUR) : 0;
	struct io_event event = {.op = IO_WRITE, .fd = fd, .data = data, .len = len, .offset = offset};
	size_t put = 0;

	if (vetoed(&event))
		return -1;
	while (put < len) {
		ssize_t n;

		REPEAT(n, write(fd, (const char *)data + put, len - put));
		if (n < 0)
			return -1;
		put += (size_t)n;
	}
	done(&event, 0);
	return 0;
}

static int write_zeros(int fd, off_t offset, off_t len)
{
	static const char zeros[COPY_PIECE];

	while (len > 0) {
		size_t piece = (size_t)len < sizeof(zeros) ? (size_t)len : sizeof(zeros);
		ssize_t n;

		REPEAT(n, pwrite(fd, zeros, piece, offset));
		if (n < 0)
			return -1;
		offset += n;
		len -= n;
	}
	return 0;
}

int io_fallocate_zero(int fd, off_t offset, off_t len)
{
	struct io_event event = {.op = IO_FALLOCATE, .fd = fd, .offset = offset, .len = (size_t)len};
	int result;

	if (vetoed(&event))
		return -1;
	/* Space first, so that a full disk says so at once; then real zeros, so that a later overwrite changes
	 * no metadata and fdatasync has nothing but the data to write. */
	REPEAT(result, fallocate(fd, 0, offset, len));
	if (result < 0 && errno != EOPNOTSUPP && errno != ENOSYS)
		return -1;
	result = write_zeros(fd, offset, len);
	done(&event, result);
	return result;
}

int io_ftruncate(int fd, off_t len)
{
	struct io_event event = {.op = IO_TRUNCATE, .fd = fd, .offset = len};
	int result;

	if (vetoed(&event))
		return -1;
	REPEAT(result, ftruncate(fd, len));
	done(&event, result);
	return result;
}

int io_fdatasync(int fd)
{
	struct io_event event = {.op = IO_FDATASYNC, .fd = fd};
	int result;

	if (vetoed(&event))
		return -1;
	REPEAT(result, fdatasync(fd));
	done(&event, result);
	return result;
}

int io_fsync(int fd)
{
	struct io_event event = {.op = IO_FSYNC, .fd = fd};
	int result;

	if (vetoed(&event))
		return -1;
	REPEAT(result, fsync(fd));
	done(&event, result);
	return result;
}

int io_syncfs(int fd)
{
	struct io_event event = {.op = IO_SYNCFS, .fd = fd};
	int result;

	if (vetoed(&event))
		return -1;
	REPEAT(result, syncfs(fd));
	done(&event, result);
	return result;
}

int io_rename(int dirfd, const char *from, int dirfd2, const char *to)
{
	struct io_event event = {.op = IO_RENAME, .fd = dirfd, .path = from, .fd2 = dirfd2, .path2 = to};
	int result;

	if (vetoed(&event))
		return -1;
	REPEAT(result, renameat(dirfd, from, dirfd2, to));
	done(&event, result);
	return result;
}

int io_link(int dirfd, const char *from, int dirfd2, const char *to)
{
	struct io_event event = {.op = IO_LINK, .fd = dirfd, .path = from, .fd2 = dirfd2, .path2 = to};
	int result;

	if (vetoed(&event))
		return -1;
	REPEAT(result, linkat(dirfd, from, dirfd2, to, 0));
	done(&event, result);
	return result;
}

int io_unlink(int dirfd, const char *path)
{
	struct io_event event = {.op = IO_UNLINK, .fd = dirfd, .path = path};
	int result;

	if (vetoed(&event))
		return -1;
	REPEAT(result, unlinkat(dirfd, path, 0));
	done(&event, result);
	return result;
}

int io_mkdir(int dirfd, const char *path, mode_t mode)
{
	struct io_event event = {.op = IO_MKDIR, .fd = dirfd, .path = path};
	int result;

	if (vetoed(&event))
		return -1;
	REPEAT(result, mkdirat(dirfd, path, mode));
	done(&event, result);
	return result;
}

int io_rmdir(int dirfd, const char *path)
{
	struct io_event event = {.op = IO_RMDIR, .fd = dirfd, .path = path};
	int result;

	if (vetoed(&event))
		return -1;
	REPEAT(result, unlinkat(dirfd, path, AT_REMOVEDIR));
	done(&event, result);
	return result;
}

/* By read and write, where the kernel cannot copy by itself (across file systems). */
static int copy_by_hand(int from, off_t from_offset, int to, off_t to_offset, size_t len)
{
	char *piece = mem_alloc(COPY_PIECE);
	int result = 0;

	while (len > 0 && result == 0) {
		ssize_t n, put = 0;

		REPEAT(n, pread(from, piece, len < COPY_PIECE ? len : COPY_PIECE, from_offset));
		if (n == 0)
			errno = EIO; /* the source is shorter than it was said to be */
		if (n <= 0) {
			result = -1;
			break;
		}
		while (put < n) {
			ssize_t w;

			REPEAT(w, pwrite(to, piece + put, (size_t)(n - put), to_offset + put));
			if (w < 0) {
				result = -1;
				break;
			}
			put += w;
		}
		from_offset += n;
		to_offset += n;
		len -= (size_t)n;
	}
	free(piece);
	return result;
}

/* A reflink copies no block; only whole, aligned ranges can be one, and the kernel says so by failing. */
static bool reflinked(int from, off_t from_offset, int to, off_t to_offset, size_t len)
{
	struct file_clone_range range = {.src_fd = from,
					 .src_offset = (uint64_t)from_offset,
					 .src_length = len,
					 .dest_offset = (uint64_t)to_offset};

	return len > 0 && ioctl(to, FICLONERANGE, &range) == 0;
}

int io_copy(int from, off_t from_offset, int to, off_t to_offset, size_t len)
{
	struct io_event event = {.op = IO_COPY, .fd = from, .fd2 = to, .offset = to_offset, .len = len};
	int result = 0;

	if (vetoed(&event))
		return -1;
	if (!reflinked(from, from_offset, to, to_offset, len)) {
		size_t left = len;

		while (left > 0) {
			ssize_t n;

			REPEAT(n, copy_file_range(from, &from_offset, to, &to_offset, left, 0));
			if (n <= 0)
				break;
			left -= (size_t)n;
		}
		if (left > 0)
			result = copy_by_hand(from, from_offset, to, to_offset, left);
	}
	done(&event, result);
	return result;
}

int io_fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
	struct io_event event = {.op = IO_STAT, .fd = dirfd, .path = path};
	int result;

	if (vetoed(&event))
		return -1;
	REPEAT(result, fstatat(dirfd, path, st, flags));
	done(&event, result);
	return result;
}

int io_fstat(int fd, struct stat *st)
{
	struct io_event event = {.op = IO_STAT, .fd = fd};
	int result;

	if (vetoed(&event))
		return -1;
	REPEAT(result, fstat(fd, st));
	done(&event, result);
	return result;
}

DIR *io_opendir(int dirfd, const char *path)
{
	int fd = io_open(dirfd, path, O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (fd >= 0 && !dir) {
		int error = errno;
		io_close(fd);
		errno = error;
	}
	return dir;
}

int io_readdir(DIR *dir, const char **name_r)
{
	struct io_event event = {.op = IO_READDIR, .fd = dirfd(dir)};
	struct dirent *d;

	if (vetoed(&event))
		return -1;
	do {
		errno = 0;
		d = readdir(dir);
	} while (d && (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0));
	if (!d)
		return errno ? -1 : 0;
	*name_r = d->d_name;
	done(&event, 0);
	return 1;
}

void io_closedir(DIR *dir)
{
	struct io_event event = {.op = IO_CLOSE, .fd = dirfd(dir)};

	done(&event, 0);
	closedir(dir);
}

bool io_is_local(int fd)
{
	static const uint64_t local[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC,
					 F2FS_SUPER_MAGIC, ZFS_MAGIC,	    BCACHEFS_MAGIC};
	struct io_event event = {.op = IO_STAT, .fd = fd};
	struct statfs st;
	int result;

	if (vetoed(&event))
		return false;
	REPEAT(result, fstatfs(fd, &st));
	if (result < 0)
		return false;
	done(&event, 0);
	for (size_t i = 0; i < ARRAY_SIZE(local); i++)
		if ((uint64_t)st.f_type == local[i])
			return true;
	return false;
}

int io_free_space(int fd, uint64_t *bytes_r, uint64_t *inodes_r)
{
	struct io_event event = {.op = IO_STAT, .fd = fd};
	struct statvfs st;
	int result;

	if (vetoed(&event))
		return -1;
	REPEAT(result, fstatvfs(fd, &st));
	if (result < 0)
		return -1;
	if (st.f_flag & ST_RDONLY) {
		errno = EROFS;
		return -1;
	}
	*bytes_r = (uint64_t)st.f_bavail * st.f_frsize;
	/* File systems without a table of inodes report none at all. */
	*inodes_r = st.f_files == 0 ? UINT64_MAX : st.f_favail;
	done(&event, 0);
	return 0;
}
