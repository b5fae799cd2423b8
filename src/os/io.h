/* io - the thin layer through which journal, store and queue touch a disk.
 *
 * Each call is one system call (EINTR retried; write and read loops complete). They return what the call
 * returns (>= 0), or -1 with errno. A hook may observe every operation and make any of them fail: fault
 * tests inject the N-th failure, and the power-loss recorder (os/io_record.h) keeps the history from which
 * images of a disk after a crash are made. Without a hook the layer costs one predictable branch.
 *
 * Paths are relative to a directory descriptor; nothing here uses the working directory. Thread-safe. */
#ifndef OS_IO_H
#define OS_IO_H

#include "base/str.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

enum io_op {
	IO_OPEN,
	IO_CLOSE,
	IO_READ,
	IO_WRITE,
	IO_FALLOCATE,
	IO_TRUNCATE,
	IO_FDATASYNC,
	IO_FSYNC,
	IO_SYNCFS,
	IO_RENAME,
	IO_LINK,
	IO_UNLINK,
	IO_MKDIR,
	IO_RMDIR,
	IO_COPY,
	IO_MMAP,
	IO_STAT,
	IO_READDIR,
	IO_OP_COUNT
};

struct io_event {
	enum io_op op;
	int fd;		  /* the file, or the directory for operations on names */
	const char *path; /* first name, or NULL */
	int fd2;	  /* directory of the second name */
	const char *path2;
	const void *data; /* IO_WRITE */
	size_t len;
	off_t offset;
	int flags;  /* IO_OPEN */
	int result; /* descriptor of IO_OPEN, in after() */
};

struct io_hook {
	/* Before the call: 0 goes on, an errno value makes it fail without being done. */
	int (*before)(void *ctx, const struct io_event *event);
	/* After a call that succeeded. */
	void (*after)(void *ctx, const struct io_event *event);
	void *ctx;
};
/* For tests and single-threaded set-up: installs (NULL: removes) the hook of the whole process. */
void io_set_hook(const struct io_hook *hook);

int io_open(int dirfd, const char *path, int flags, mode_t mode) WARN_UNUSED; /* O_CLOEXEC is added */
int io_close(int fd);
/* Read up to len bytes; less only at end of file. */
ssize_t io_pread(int fd, void *data, size_t len, off_t offset) WARN_UNUSED;
/* Write all len bytes; a short write goes on until an error. Returns 0 or -1. */
int io_pwrite(int fd, const void *data, size_t len, off_t offset) WARN_UNUSED;
int io_write(int fd, const void *data, size_t len) WARN_UNUSED;	    /* at the file position */
int io_fallocate_zero(int fd, off_t offset, off_t len) WARN_UNUSED; /* allocated and zero-written */
int io_ftruncate(int fd, off_t len) WARN_UNUSED;
int io_fdatasync(int fd) WARN_UNUSED;
int io_fsync(int fd) WARN_UNUSED;
int io_syncfs(int fd) WARN_UNUSED;
int io_rename(int dirfd, const char *from, int dirfd2, const char *to) WARN_UNUSED;
int io_link(int dirfd, const char *from, int dirfd2, const char *to) WARN_UNUSED;
int io_unlink(int dirfd, const char *path) WARN_UNUSED;
int io_mkdir(int dirfd, const char *path, mode_t mode) WARN_UNUSED;
int io_rmdir(int dirfd, const char *path) WARN_UNUSED;
/* Copies len bytes between files: reflink, copy_file_range, or read and write. Returns 0 or -1. */
int io_copy(int from, off_t from_offset, int to, off_t to_offset, size_t len) WARN_UNUSED;
int io_fstatat(int dirfd, const char *path, struct stat *st, int flags) WARN_UNUSED;
int io_fstat(int fd, struct stat *st) WARN_UNUSED;
/* A directory to read; NULL with errno. */
DIR *io_opendir(int dirfd, const char *path) WARN_UNUSED;
/* The next name but "." and "..", living until the next call. 1; 0: that was all; -1 with errno: the rest is not
 * known, and who takes it for all would take messages for gone. */
int io_readdir(DIR *dir, const char **name_r) WARN_UNUSED;
void io_closedir(DIR *dir);
/* Bytes and inodes that an unprivileged process may still take on the file system of fd. -1 EROFS: none, as it is
 * mounted read-only. */
int io_free_space(int fd, uint64_t *bytes_r, uint64_t *inodes_r) WARN_UNUSED;
/* The file system of fd is known to be one that no other machine writes to. */
bool io_is_local(int fd);

#endif
