/* fd - descriptors: passing them, sealing bytes in them, waiting for them. */
#ifndef OS_FD_H
#define OS_FD_H

#include "base/err.h"

#define FD_PASS_MAX 16

/* Sends all of `data` with up to FD_PASS_MAX descriptors attached to its first byte. Blocks as the socket
 * does. The descriptors stay the caller's. Returns the bytes sent (may be short on a non-blocking socket), or -1. */
ssize_t fd_send(int sock, const void *data, size_t len, const int *fds, size_t fd_count) WARN_UNUSED;
/* In place of the descriptors that the kernel threw away because this process can have no more (EMFILE). */
#define FD_LOST (-1)

/* Receives up to len bytes and appends descriptors (close-on-exec) to fds. *fd_count_r is how many came;
 * more than fd_max is an error: all are closed, errno EMSGSIZE. Returns bytes, 0 at the end, or -1.
 * The bytes of a message come even if there is no room for its descriptors: then FD_LOST, counted as one, stands behind
 * those that came, for all the others of that message. */
ssize_t fd_recv(int sock, void *data, size_t len, int *fds, size_t fd_max, size_t *fd_count_r) WARN_UNUSED;

int fd_socketpair(int pair_r[2]) WARN_UNUSED; /* SOCK_STREAM, close-on-exec */
/* A memory file holding `data`, sealed against every change, at offset 0. Returns the descriptor or -1. */
int fd_sealed(const char *name, struct str data) WARN_UNUSED;
/* The same in pieces: an empty memory file; what is added goes to its end; sealed, at offset 0. -1 with errno. */
int fd_memory(const char *name) WARN_UNUSED;
int fd_memory_add(int fd, struct str data) WARN_UNUSED;
int fd_memory_seal(int fd) WARN_UNUSED;
/* Reads a whole file of at most max bytes into a malloc'ed NUL-terminated *data_r. Returns its length, or -1. */
ssize_t fd_read_all(int fd, size_t max, char **data_r, struct err *err) WARN_UNUSED;
/* Bytes of a file that is read by offset: moves the descriptor's own. -1 with errno. */
int64_t fd_size(int fd) WARN_UNUSED;
void fd_close(int *fd); /* if >= 0; leaves -1 */
int fd_nonblocking(int fd, bool on);
/* Waits until fd is readable (POLLIN) or writable (POLLOUT). 1 ready, 0 time-out, -1 error. timeout_ms < 0: for ever.
 */
int fd_wait(int fd, short events, int64_t timeout_ms) WARN_UNUSED;

#endif
