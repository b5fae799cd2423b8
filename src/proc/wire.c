/* wire - see proc/wire.h. */
#include "proc/wire.h"
#include "os/fd.h"
#include <errno.h>
#include <unistd.h>

#define PACKET_MAX ((size_t)64 * 1024)

int proc_send(int fd, enum proc_message number, const struct rpc_type *type, const void *msg)
{
	uint16_t head = (uint16_t)number;
	int fds[FD_PASS_MAX], result = -1;
	size_t fd_count = 0;
	struct buf out;

	buf_init(&out, PACKET_MAX);
	buf_add(&out, &head, sizeof(head));
	if (rpc_encode(type, msg, &out, fds, &fd_count, NULL) == 0 && !buf_failed(&out))
		result = fd_send(fd, out.ptr, out.len, fds, fd_count) == (ssize_t)out.len ? 0 : -1;
	buf_release(&out);
	return result;
}

/* A message is whole or nothing: those of its descriptors that did come are of no use. */
static void lose_fds(struct proc_packet *p)
{
	if (p->fd_count == 0 || p->fds[p->fd_count - 1] != FD_LOST)
		return;
	p->fds_lost = true;
	while (p->fd_count > 0)
		fd_close(&p->fds[--p->fd_count]);
}

int proc_recv(int fd, struct proc_packet *p)
{
	char bytes[PACKET_MAX];
	ssize_t n;

	*p = (struct proc_packet){0};
	arena_init(&p->arena);
	n = fd_recv(fd, bytes, sizeof(bytes), p->fds, ARRAY_SIZE(p->fds), &p->fd_count);
	if (n <= 0)
		return n < 0 && errno == ECONNRESET ? 0 : (int)n;
	if (n < (ssize_t)sizeof(p->number)) {
		proc_packet_release(p);
		errno = EBADMSG;
		return -1;
	}
	memcpy(&p->number, bytes, sizeof(p->number));
	lose_fds(p);
	p->body = arena_str(&p->arena, str_skip(str_of(bytes, (size_t)n), sizeof(p->number)));
	return 1;
}

int proc_unpack(struct proc_packet *p, const struct rpc_type *type, void *msg_r, struct err *err)
{
	if (p->fds_lost)
		return rpc_decode_without_fds(type, p->body, &p->arena, msg_r, err);
	if (rpc_decode(type, p->body, p->fds, p->fd_count, &p->arena, msg_r, err) < 0)
		return -1;
	p->fd_count = 0;
	return 0;
}

void proc_packet_release(struct proc_packet *p)
{
	for (size_t i = 0; i < p->fd_count; i++)
		close(p->fds[i]);
	p->fd_count = 0;
	arena_release(&p->arena);
}
