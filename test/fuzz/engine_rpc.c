/* Frames and messages between processes, as a captured process could send them.
 *
 * Covers: src/engine/rpc_wire.c src/engine/rpc_schema.c */
#include "base/mem.h"
#include "engine/rpc_wire.h"

#include <sys/socket.h>
#include <unistd.h>

#define LEAF_FIELDS(F, S) F(S, u32, first) F(S, bytes, name) F(S, fd, file)
RPC_DECLARE(leaf, LEAF_FIELDS)
RPC_DEFINE(leaf, LEAF_FIELDS)

#define BRANCH_FIELDS(F, S) F(S, u8, kind) F(S, list, leaves, leaf) F(S, one, first, leaf)
RPC_DECLARE(branch, BRANCH_FIELDS)
RPC_DEFINE(branch, BRANCH_FIELDS)

#define TREE_FIELDS(F, S)                                                                                              \
	F(S, u16, a) F(S, u64, b) F(S, list, branches, branch) F(S, bytes, text) F(S, list, texts, leaf)
RPC_DECLARE(tree, TREE_FIELDS)
RPC_DEFINE(tree, TREE_FIELDS)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What decodes must encode to the same bytes again. */
static void check_message(struct str in, const int *fds, size_t fd_count)
{
	struct arena arena;
	struct tree tree;
	struct buf out;
	int out_fds[FD_PASS_MAX];
	size_t out_count = 0;

	arena_init(&arena);
	buf_init(&out, RPC_FRAME_MAX);
	if (rpc_decode(&tree_type, in, fds, fd_count, &arena, &tree, NULL) == 0) {
		if (rpc_encode(&tree_type, &tree, &out, out_fds, &out_count, NULL) < 0 || out_count != fd_count ||
		    !str_eq(buf_str(&out), in))
			abort();
	}
	if (arena_used(&arena) > 64 * in.len + 4096)
		abort();
	buf_release(&out);
	arena_release(&arena);
}

/* A frame as a process sends it comes as it was, its descriptors with it. */
static void check_frame(const struct rpc_frame *sent, size_t fd_count)
{
	struct rpc_reader reader = {.wipe = true};
	struct rpc_frame came;
	int pair[2], fds[FD_PASS_MAX] = {0, 0, 0, 0};
	struct buf out;
	size_t at;

	buf_init(&out, RPC_FRAME_MAX);
	at = rpc_header_begin(&out);
	buf_add(&out, sent->bytes, sent->len);
	rpc_header_put(&out, at, sent->type, sent->id, fd_count);
	if (fd_socketpair(pair) < 0 || fd_send(pair[1], out.ptr, out.len, fds, fd_count) != (ssize_t)out.len)
		abort();
	while ((at = (size_t)rpc_reader_next(&reader, &came)) == 0)
		if (rpc_reader_fill(&reader, pair[0]) <= 0)
			abort();
	if (at != 1 || came.type != sent->type || came.id != sent->id || came.fd_count != fd_count ||
	    !str_eq(str_of(came.bytes, came.len), str_of(sent->bytes, sent->len)))
		abort();
	rpc_frame_drop(&came);
	rpc_reader_release(&reader);
	buf_release(&out);
	close(pair[0]);
	close(pair[1]);
}

/* The bytes as a stream of frames, in pieces that the first byte chooses. */
static void check_stream(const uint8_t *data, size_t size)
{
	struct rpc_reader reader = {0};
	struct rpc_frame frame;
	int pair[2], n = 0;
	size_t at = 1, piece = (size_t)data[0] + 1;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
		abort();
	while (at < size && n >= 0) {
		size_t len = size - at < piece ? size - at : piece;
		if (send(pair[1], data + at, len, 0) < 0)
			abort();
		at += len;
		if (rpc_reader_fill(&reader, pair[0]) <= 0)
			break;
		while ((n = rpc_reader_next(&reader, &frame)) > 0) {
			check_message(str_of(frame.bytes, frame.len), frame.fds, frame.fd_count);
			if (frame.len < 60000)
				check_frame(&frame, frame.id % (FD_PASS_MAX + 1));
			rpc_frame_drop(&frame);
		}
	}
	rpc_reader_release(&reader);
	close(pair[0]);
	close(pair[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int fds[FD_PASS_MAX] = {3, 4, 5, 6};

	if (size == 0)
		return 0;
	check_message(str_of(data + 1, size - 1), fds, data[0] % 5);
	check_stream(data, size);
	return 0;
}
