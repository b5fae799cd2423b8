/* nth_calls - the C library's functions that can fail, each asking os/nth.h first.
 *
 * Defined in the program itself they stand before those of every shared library, the sanitizer's included, which is
 * what they go on to. */
#include "os/nth.h"

#ifdef NTH_CALLS
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Weak: a test may have its own. */
#define BARE	    __attribute__((weak, no_sanitize_address, no_sanitize_undefined))
#define BARE_HELPER static __attribute__((no_sanitize_address, no_sanitize_undefined))

/* The next one of the same name. */
#define REAL(name)                                                                                                     \
	static __typeof__(name) *real;                                                                                 \
	if (__builtin_expect(real == NULL, 0))                                                                         \
	real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define FAILING(result, bad, kind, name, params, args)                                                                 \
	BARE result name params                                                                                        \
	{                                                                                                              \
		REAL(name);                                                                                            \
		return nth_fails(kind, #name) ? (bad) : real args;                                                     \
	}

/* With a count of bytes, which may be halved. */
#define MOVING(kind, name, params, args, len)                                                                          \
	BARE ssize_t name params                                                                                       \
	{                                                                                                              \
		bool halve;                                                                                            \
		REAL(name);                                                                                            \
		if (nth_fails_or_halves(kind, #name, fd, &halve))                                                      \
			return -1;                                                                                     \
		if (halve && (len) > 1)                                                                                \
			(len) /= 2;                                                                                    \
		return real args;                                                                                      \
	}

/* ---- bytes ---- */

MOVING(NTH_READ, read, (int fd, void *data, size_t len), (fd, data, len), len)
MOVING(NTH_READ, pread, (int fd, void *data, size_t len, off_t at), (fd, data, len, at), len)
MOVING(NTH_READ, pread64, (int fd, void *data, size_t len, off64_t at), (fd, data, len, at), len)
MOVING(NTH_READ, readv, (int fd, const struct iovec *v, int count), (fd, v, count), count)
MOVING(NTH_WRITE, write, (int fd, const void *data, size_t len), (fd, data, len), len)
MOVING(NTH_WRITE, pwrite, (int fd, const void *data, size_t len, off_t at), (fd, data, len, at), len)
MOVING(NTH_WRITE, pwrite64, (int fd, const void *data, size_t len, off64_t at), (fd, data, len, at), len)
MOVING(NTH_WRITE, writev, (int fd, const struct iovec *v, int count), (fd, v, count), count)
MOVING(NTH_WRITE, pwritev, (int fd, const struct iovec *v, int count, off_t at), (fd, v, count, at), count)
MOVING(NTH_RECV, recv, (int fd, void *data, size_t len, int flags), (fd, data, len, flags), len)
MOVING(NTH_SEND, send, (int fd, const void *data, size_t len, int flags), (fd, data, len, flags), len)
MOVING(NTH_SEND, sendfile, (int fd, int in, off_t *at, size_t len), (fd, in, at, len), len)
MOVING(NTH_SEND, sendfile64, (int fd, int in, off64_t *at, size_t len), (fd, in, at, len), len)

/* The first piece alone, half of it. */
BARE_HELPER void halve_message(struct msghdr *msg, struct iovec *piece)
{
	if (msg->msg_iovlen == 0)
		return;
	*piece = msg->msg_iov[0];
	if (piece->iov_len > 1)
		piece->iov_len /= 2;
	msg->msg_iov = piece;
	msg->msg_iovlen = 1;
}

BARE ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct msghdr half = *msg;
	struct iovec piece;
	bool halve;
	REAL(sendmsg);

	if (nth_fails_or_halves(msg->msg_controllen ? NTH_PASS : NTH_SEND, "sendmsg", fd, &halve))
		return -1;
	if (halve)
		halve_message(&half, &piece);
	return real(fd, &half, flags);
}

/* What the kernel does when there is no room for descriptors that came: the bytes are received all the same. */
BARE_HELPER void lose_descriptors(struct msghdr *msg)
{
	const struct cmsghdr *c = msg->msg_controllen ? CMSG_FIRSTHDR(msg) : NULL;

	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || !nth_fails(NTH_TAKE, "recvmsg"))
		return;
	for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
		syscall(SYS_close, fd);
	}
	msg->msg_controllen = 0;
	msg->msg_flags |= MSG_CTRUNC;
}

BARE ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	struct msghdr half = *msg;
	struct iovec piece;
	ssize_t result;
	bool halve;
	REAL(recvmsg);

	if (nth_fails_or_halves(NTH_RECV, "recvmsg", fd, &halve))
		return -1;
	if (!halve) {
		result = real(fd, msg, flags);
		if (result > 0)
			lose_descriptors(msg);
		return result;
	}
	halve_message(&half, &piece);
	result = real(fd, &half, flags);
	msg->msg_controllen = half.msg_controllen;
	msg->msg_namelen = half.msg_namelen;
	msg->msg_flags = half.msg_flags;
	return result;
}

FAILING(ssize_t, -1, NTH_COPY, copy_file_range, (int in, off64_t *at, int out, off64_t *to, size_t len, unsigned flags),
	(in, at, out, to, len, flags))

/* ---- names and descriptors ---- */

#define OPENING(name, params, args)                                                                                    \
	BARE int name params                                                                                           \
	{                                                                                                              \
		va_list list;                                                                                          \
		mode_t mode;                                                                                           \
		REAL(name);                                                                                            \
		va_start(list, flags);                                                                                 \
		mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(list, mode_t) : 0;                                     \
		va_end(list);                                                                                          \
		return nth_fails(NTH_OPEN, #name) ? -1 : real args;                                                    \
	}

OPENING(open, (const char *path, int flags, ...), (path, flags, mode))
OPENING(open64, (const char *path, int flags, ...), (path, flags, mode))
OPENING(openat, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))
OPENING(openat64, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))
FAILING(DIR *, NULL, NTH_OPEN, opendir, (const char *path), (path))
FAILING(DIR *, NULL, NTH_OPEN, fdopendir, (int fd), (fd))
FAILING(struct dirent *, NULL, NTH_READDIR, readdir, (DIR * dir), (dir))
FAILING(struct dirent64 *, NULL, NTH_READDIR, readdir64, (DIR * dir), (dir))

BARE int close(int fd)
{
	int result;
	REAL(close);

	result = real(fd);
	return nth_fails(NTH_CLOSE, "close") ? -1 : result;
}

FAILING(int, -1, NTH_RENAME, rename, (const char *from, const char *to), (from, to))
FAILING(int, -1, NTH_RENAME, renameat, (int dir, const char *from, int dir2, const char *to), (dir, from, dir2, to))
FAILING(int, -1, NTH_RENAME, renameat2, (int dir, const char *from, int dir2, const char *to, unsigned flags),
	(dir, from, dir2, to, flags))
FAILING(int, -1, NTH_RENAME, link, (const char *from, const char *to), (from, to))
FAILING(int, -1, NTH_RENAME, linkat, (int dir, const char *from, int dir2, const char *to, int flags),
	(dir, from, dir2, to, flags))
FAILING(int, -1, NTH_UNLINK, unlink, (const char *path), (path))
FAILING(int, -1, NTH_UNLINK, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
FAILING(int, -1, NTH_UNLINK, rmdir, (const char *path), (path))
FAILING(int, -1, NTH_MKDIR, mkdir, (const char *path, mode_t mode), (path, mode))
FAILING(int, -1, NTH_MKDIR, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
FAILING(int, -1, NTH_STAT, stat, (const char *path, struct stat *st), (path, st))
FAILING(int, -1, NTH_STAT, stat64, (const char *path, struct stat64 *st), (path, st))
FAILING(int, -1, NTH_STAT, lstat, (const char *path, struct stat *st), (path, st))
FAILING(int, -1, NTH_STAT, lstat64, (const char *path, struct stat64 *st), (path, st))
FAILING(int, -1, NTH_STAT, fstat, (int fd, struct stat *st), (fd, st))
FAILING(int, -1, NTH_STAT, fstat64, (int fd, struct stat64 *st), (fd, st))
FAILING(int, -1, NTH_STAT, fstatat, (int dir, const char *path, struct stat *st, int flags), (dir, path, st, flags))
FAILING(int, -1, NTH_STAT, statvfs, (const char *path, struct statvfs *st), (path, st))
FAILING(int, -1, NTH_STAT, fstatvfs, (int fd, struct statvfs *st), (fd, st))
FAILING(int, -1, NTH_STAT, fstatfs, (int fd, struct statfs *st), (fd, st))
FAILING(int, -1, NTH_STAT, access, (const char *path, int mode), (path, mode))
FAILING(int, -1, NTH_TRUNCATE, ftruncate, (int fd, off_t len), (fd, len))
FAILING(int, -1, NTH_TRUNCATE, ftruncate64, (int fd, off64_t len), (fd, len))
FAILING(int, -1, NTH_TRUNCATE, fallocate, (int fd, int mode, off_t at, off_t len), (fd, mode, at, len))
FAILING(int, -1, NTH_SYNC, fsync, (int fd), (fd))
FAILING(int, -1, NTH_SYNC, fdatasync, (int fd), (fd))
FAILING(int, -1, NTH_SYNC, syncfs, (int fd), (fd))
FAILING(int, -1, NTH_SYNC, msync, (void *at, size_t len, int flags), (at, len, flags))
FAILING(int, -1, NTH_LOCK, flock, (int fd, int what), (fd, what))
FAILING(int, -1, NTH_WATCH, inotify_add_watch, (int fd, const char *path, uint32_t mask), (fd, path, mask))
FAILING(int, -1, NTH_DUP, dup, (int fd), (fd))

/* Unlocking cannot fail. */
BARE_HELPER bool fcntl_fails(int command, const void *arg)
{
	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		return nth_fails(NTH_DUP, "fcntl");
	if ((command == F_SETLK || command == F_SETLKW) && ((const struct flock *)arg)->l_type != F_UNLCK)
		return nth_fails(NTH_LOCK, "fcntl");
	return false;
}

/* Whatever the third argument is, it passes as a pointer. */
#define CONTROLLING(name)                                                                                              \
	BARE int name(int fd, int command, ...)                                                                        \
	{                                                                                                              \
		va_list list;                                                                                          \
		void *arg;                                                                                             \
		REAL(name);                                                                                            \
		va_start(list, command);                                                                               \
		arg = va_arg(list, void *);                                                                            \
		va_end(list);                                                                                          \
		return fcntl_fails(command, arg) ? -1 : real(fd, command, arg);                                        \
	}

CONTROLLING(fcntl)
CONTROLLING(fcntl64)

/* ---- sockets, channels, events ---- */

FAILING(int, -1, NTH_ACCEPT, accept, (int fd, struct sockaddr *addr, socklen_t *len), (fd, addr, len))
FAILING(int, -1, NTH_ACCEPT, accept4, (int fd, struct sockaddr *addr, socklen_t *len, int flags),
	(fd, addr, len, flags))
FAILING(int, -1, NTH_SOCKET, socket, (int domain, int type, int protocol), (domain, type, protocol))
FAILING(int, -1, NTH_SOCKET, connect, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len))
FAILING(int, -1, NTH_SOCKET, bind, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len))
FAILING(int, -1, NTH_SOCKET, listen, (int fd, int backlog), (fd, backlog))
FAILING(int, -1, NTH_EPOLL, epoll_create1, (int flags), (flags))
FAILING(int, -1, NTH_MAKE, pipe2, (int pair[2], int flags), (pair, flags))
FAILING(int, -1, NTH_MAKE, socketpair, (int domain, int type, int protocol, int pair[2]),
	(domain, type, protocol, pair))
FAILING(int, -1, NTH_MAKE, eventfd, (unsigned value, int flags), (value, flags))
FAILING(int, -1, NTH_MAKE, timerfd_create, (clockid_t clock, int flags), (clock, flags))
FAILING(int, -1, NTH_MAKE, memfd_create, (const char *name, unsigned flags), (name, flags))
FAILING(int, -1, NTH_MAKE, inotify_init1, (int flags), (flags))

/* Only adding takes memory; changing and removing cannot fail. */
BARE int epoll_ctl(int set, int what, int fd, struct epoll_event *ev)
{
	REAL(epoll_ctl);
	return what == EPOLL_CTL_ADD && nth_fails(NTH_EPOLL, "epoll_ctl") ? -1 : real(set, what, fd, ev);
}

/* ---- processes and memory ---- */

FAILING(pid_t, -1, NTH_FORK, fork, (void), ())
FAILING(int, errno, NTH_THREAD, pthread_create,
	(pthread_t * thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg), (thread, attr, run, arg))
FAILING(void *, MAP_FAILED, NTH_MMAP, mmap, (void *at, size_t len, int prot, int flags, int fd, off_t from),
	(at, len, prot, flags, fd, from))
FAILING(void *, MAP_FAILED, NTH_MMAP, mmap64, (void *at, size_t len, int prot, int flags, int fd, off64_t from),
	(at, len, prot, flags, fd, from))
FAILING(void *, NULL, NTH_MALLOC, malloc, (size_t size), (size))
FAILING(void *, NULL, NTH_MALLOC, calloc, (size_t count, size_t size), (count, size))
FAILING(void *, NULL, NTH_MALLOC, realloc, (void *ptr, size_t size), (ptr, size))
FAILING(int, ENOMEM, NTH_MALLOC, posix_memalign, (void **at, size_t align, size_t size), (at, align, size))
#endif
