/* wire - packets between master and a child: a u16 number and an encoded message, one a packet. */
#ifndef PROC_WIRE_H
#define PROC_WIRE_H

#include "proc/schema.h"

/* Descriptors of a child: where it finds its control channel and the pipe that its log lines go into. */
#define PROC_CONTROL_FD 3
#define PROC_LOG_FD	4

/* 0, or -1: the other side is gone or does not read. Descriptors in msg stay the caller's. Any thread. */
int proc_send(int fd, enum proc_message number, const struct rpc_type *type, const void *msg);

struct proc_packet {
	uint16_t number;
	struct arena arena; /* holds the packet's bytes and lists */
	struct str body;
	int fds[16]; /* not yet taken by proc_unpack() */
	size_t fd_count;
	bool fds_lost; /* there was no room for its descriptors in this process: proc_unpack() gives -1 for each */
};
/* Waits for one packet. 1, 0 at the end, -1 (nothing now on a non-blocking socket, or malformed: errno EBADMSG). */
int proc_recv(int fd, struct proc_packet *packet_r) WARN_UNUSED;
/* Decodes the body into *msg_r, whose descriptors are then the caller's. 0 or -1. With fds_lost the caller asks for the
 * message again, or does without. */
int proc_unpack(struct proc_packet *packet, const struct rpc_type *type, void *msg_r, struct err *err) WARN_UNUSED;
/* Closes descriptors that nobody took. */
void proc_packet_release(struct proc_packet *packet);

#endif
