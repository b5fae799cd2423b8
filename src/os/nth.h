/* nth - the N-th failure: any system call, and any allocation, can be made to fail once.
 *
 * In a test build (POSTRIDER_TEST with gcc's AddressSanitizer) os/nth_calls.c stands in front of the C library's
 * functions, for us and for every library that we are linked with. Each call is counted by its kind in a page of
 * memory that the tester shares: the file PROCESS in the directory named by the environment variable POSTRIDER_NTH
 * (nth_init(), before the jail), or memory of a unit test (nth_use()). The tester writes `error` and `left`, then
 * `kind`: the left-th call of that kind from now fails with errno `error`, without being done; error 0 means that half
 * of the bytes are read or written, where a kernel may do that. It fails once; `fired` and `where` tell that it did.
 * A process that is started again finds the same page.
 *
 * In other builds this is nothing at all. test/e2e/nth_system.py knows the same layout. */
#ifndef OS_NTH_H
#define OS_NTH_H

#include "base/attr.h"
#include <stdatomic.h>

#if defined(POSTRIDER_TEST) && defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
#define NTH_CALLS 1
#endif

enum nth_kind {
	NTH_NONE,
	NTH_READ,     /* read, pread, readv */
	NTH_WRITE,    /* write, pwrite, writev */
	NTH_RECV,     /* recv, recvfrom, recvmsg */
	NTH_SEND,     /* send, sendto, sendmsg, sendfile */
	NTH_PASS,     /* sendmsg with descriptors */
	NTH_ACCEPT,   /* accept, accept4 */
	NTH_OPEN,     /* open, openat, opendir, fdopendir */
	NTH_CLOSE,    /* closed all the same */
	NTH_RENAME,   /* rename, renameat, renameat2, link, linkat */
	NTH_UNLINK,   /* unlink, unlinkat, rmdir */
	NTH_MKDIR,    /* mkdir, mkdirat */
	NTH_SYNC,     /* fsync, fdatasync, syncfs, msync */
	NTH_MMAP,     /* mmap, mremap */
	NTH_EPOLL,    /* epoll_create1, epoll_ctl(EPOLL_CTL_ADD) */
	NTH_MAKE,     /* pipe2, socketpair, eventfd, timerfd_create, memfd_create, inotify_init1 */
	NTH_DUP,      /* dup, fcntl(F_DUPFD) */
	NTH_STAT,     /* stat, lstat, fstat, fstatat, statvfs, fstatvfs, fstatfs, access */
	NTH_TRUNCATE, /* ftruncate, fallocate */
	NTH_COPY,     /* copy_file_range */
	NTH_READDIR,  /* readdir */
	NTH_WATCH,    /* inotify_add_watch */
	NTH_LOCK,     /* flock, fcntl(F_SETLK) */
	NTH_SOCKET,   /* socket, connect, bind, listen */
	NTH_FORK,     /* fork */
	NTH_THREAD,   /* pthread_create; `error` is its result */
	NTH_MALLOC,   /* malloc, calloc, realloc, posix_memalign */
	NTH_TAKE,     /* recvmsg of descriptors: the bytes come, and no descriptor, as when too many are open */
	NTH_KINDS
};

#define NTH_PAGE_SIZE 4096
#define NTH_SHORT     0 /* as `error` */

struct nth_page {
	_Atomic uint32_t kind; /* written last; 0 once it has fired */
	int32_t error;
	_Atomic int64_t left;
	_Atomic uint32_t fired;
	uint32_t pid;			 /* who failed */
	_Atomic uint64_t count[32];	 /* calls so far, by kind */
	char where[NTH_PAGE_SIZE - 280]; /* the call, and its callers as "file+offset file+offset ..." */
};

#ifdef NTH_CALLS
void nth_init(const char *process);
/* Uses memory of the caller, which stays until NULL is given. For unit tests. */
void nth_use(struct nth_page *page);

/* For os/nth_calls.c: counts one call; true when it is the one to fail, and errno is set. */
bool nth_fails(enum nth_kind kind, const char *call);
/* The same, where half of the bytes may be a valid result. *halve_r: do it with half of the bytes. */
bool nth_fails_or_halves(enum nth_kind kind, const char *call, int fd, bool *halve_r);
#else
#define nth_init(process) ((void)0)
#endif

#endif
