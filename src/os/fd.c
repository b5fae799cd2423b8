/* fd - see os/fd.h. */
#include "os/fd.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fatal.h"

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(FD_PASS_MAX * sizeof(int))];
};

ssize_t fd_send(int sock, const void *data, size_t len, const int *fds, size_t fd_count)
{
	const char *at = data;
	size_t sent = 0;

	invariant(fd_count <= FD_PASS_MAX && len > 0);
	while (sent < len) {
		struct iovec iov = {.iov_base = (void *)(uintptr_t)(at + sent), .iov_len = len - sent};
		struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
		union control control = {0};
		ssize_t n;

		if (sent == 0 && fd_count) {
			msg.msg_control = control.bytes;
			msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
			control.header.cmsg_level = SOL_SOCKET;
			control.header.cmsg_type = SCM_RIGHTS;
			control.header.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
			memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
		}
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return sent && errno == EAGAIN ? (ssize_t)sent : -1;
		sent += (size_t)n;
	}
	return (ssize_t)sent;
}

/* Takes the descriptors out of one received message. Returns -1 when there are more than fd_max. The kernel cuts them
 * off (MSG_CTRUNC) when they exceed the room given to it, which holds FD_PASS_MAX, or what the process may have open.
 */
static int take_fds(struct msghdr *msg, int *fds, size_t fd_max, size_t *fd_count_r)
{
	size_t count = 0;
	bool too_many = false;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (count < fd_max)
				fds[count++] = fd;
			else {
				close(fd);
				too_many = true;
			}
		}
	}
	if (msg->msg_flags & MSG_CTRUNC) {
		if (count < FD_PASS_MAX && count < fd_max)
			fds[count++] = FD_LOST;
		else
			too_many = true;
	}
	if (too_many) {
		for (size_t i = 0; i < count; i++)
			close(fds[i]);
		errno = EMSGSIZE;
		return -1;
	}
	*fd_count_r = count;
	return 0;
}

ssize_t fd_recv(int sock, void *data, size_t len, int *fds, size_t fd_max, size_t *fd_count_r)
{
	struct iovec iov = {.iov_base = data, .iov_len = len};
	union control control;
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	ssize_t n;

	*fd_count_r = 0;
	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0 || take_fds(&msg, fds, fd_max, fd_count_r) < 0)
		return -1;
	return n;
}

int fd_socketpair(int pair_r[2])
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair_r);
}

int fd_memory(const char *name)
{
	return memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

int fd_memory_add(int fd, struct str data)
{
	while (data.len) {
		ssize_t n = write(fd, data.ptr, data.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data = str_skip(data, (size_t)n);
	}
	return 0;
}

int fd_memory_seal(int fd)
{
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -1;
	return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
}

int fd_sealed(const char *name, struct str data)
{
	int fd = fd_memory(name);

	if (fd >= 0 && (fd_memory_add(fd, data) < 0 || fd_memory_seal(fd) < 0))
		fd_close(&fd);
	return fd;
}

ssize_t fd_read_all(int fd, size_t max, char **data_r, struct err *err)
{
	char *data = NULL;
	size_t len = 0, size = 0;

	for (;;) {
		ssize_t n;

		if (len == size) {
			size = size ? size * 2 : 4096;
			data = mem_realloc(data, size + 1);
		}
		n = read(fd, data + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			err_errno(err, "cannot read");
			break;
		}
		if (n == 0) {
			data[len] = '\0';
			*data_r = data;
			return (ssize_t)len;
		}
		len += (size_t)n;
		if (len > max) {
			err_set(err, ERR_LIMIT, "5.3.4", "larger than %zu bytes", max);
			break;
		}
	}
	free(data);
	return -1;
}

/* Not by fstat(): libc makes of it a call that takes a path as well, which jails do not allow. */
int64_t fd_size(int fd)
{
	return lseek(fd, 0, SEEK_END);
}

void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

int fd_nonblocking(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -1;
	return fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

int fd_wait(int fd, short events, int64_t timeout_ms)
{
	int64_t until = timeout_ms < 0 ? -1 : clock_ms() + timeout_ms;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = events};
		int64_t left = until < 0 ? -1 : until - clock_ms();
		int n = poll(&p, 1, until < 0 ? -1 : left < 0 ? 0 : left > 1000000000 ? 1000000000 : (int)left);

		if (n >= 0 || errno != EINTR)
			return n;
	}
}
