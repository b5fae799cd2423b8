/* rpc_wire - frames on a stream socket; shared by rpc_channel*.c and rpc_server*.c only.
 *
 * A frame is {u32 length, u16 type, u16 fd count, u64 call id}, little-endian, then `length` bytes. Its
 * descriptors are attached to its first byte, so they have arrived, in order, before the frame is whole.
 * A reply's bytes begin with its outcome: u8 err_kind; if that is not ERR_OK, an encoded struct rpc_failure
 * follows, else the encoded reply. */
#ifndef ENGINE_RPC_WIRE_H
#define ENGINE_RPC_WIRE_H

#include "engine/rpc.h"
#include "os/fd.h"

#define RPC_HEADER_SIZE 16u
#define RPC_FRAME_MAX	(24u << 20) /* bytes behind a header */
#define RPC_READ_SIZE	(64u << 10)

#define RPC_FAILURE_FIELDS(F, S) F(S, u32, sys) F(S, bytes, code) F(S, bytes, text)
RPC_DECLARE(rpc_failure, RPC_FAILURE_FIELDS)

/* A whole frame. The receiver owns `bytes` (malloc'ed) and the descriptors. */
struct rpc_frame {
	uint16_t type;
	uint64_t id;
	char *bytes;
	size_t len;
	int fds[FD_PASS_MAX];
	size_t fd_count;
	bool fds_lost; /* it came with descriptors for which this process has no room: fd_count is 0 */
};
void rpc_frame_drop(struct rpc_frame *f); /* frees the bytes, closes the descriptors */

/* Gathers frames from one socket. */
struct rpc_reader {
	char *window; /* RPC_READ_SIZE bytes, from the first read on */
	size_t from, to;
	char *large; /* body of a frame that does not fit the window */
	size_t large_len, large_have;
	struct rpc_frame head;	  /* of that frame */
	int fds[2 * FD_PASS_MAX]; /* received and not yet claimed by a frame; FD_LOST: see fd_recv() */
	size_t fd_count;
	bool wipe; /* what is handed out does not stay in the window: some calls are secret */
};
void rpc_reader_release(struct rpc_reader *r);
/* One receive. 1: bytes came; 0: the end; -1: errno (EAGAIN: nothing now). */
int rpc_reader_fill(struct rpc_reader *r, int sock);
/* 1: *frame_r is whole and the caller's; 0: more bytes needed; -1: the peer breaks the rules. */
int rpc_reader_next(struct rpc_reader *r, struct rpc_frame *frame_r);

/* Reserves a header at the end of out; rpc_header_put fills in the one at `at` for what was appended since. */
size_t rpc_header_begin(struct buf *out);
void rpc_header_put(struct buf *out, size_t at, uint16_t type, uint64_t id, size_t fd_count);

const struct rpc_call *rpc_table_find(const struct rpc_call *table, uint16_t number);

#endif
