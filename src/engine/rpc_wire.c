#include "engine/rpc_wire.h"

#include "base/mem.h"
#include <endian.h>

RPC_DEFINE(rpc_failure, RPC_FAILURE_FIELDS)

static void fds_drop(struct rpc_frame *f)
{
	while (f->fd_count > 0)
		fd_close(&f->fds[--f->fd_count]);
}

void rpc_frame_drop(struct rpc_frame *f)
{
	free(f->bytes);
	f->bytes = NULL;
	fds_drop(f);
}

void rpc_reader_release(struct rpc_reader *r)
{
	free(r->window);
	free(r->large);
	for (size_t i = 0; i < r->head.fd_count; i++)
		fd_close(&r->head.fds[i]);
	for (size_t i = 0; i < r->fd_count; i++)
		fd_close(&r->fds[i]);
	*r = (struct rpc_reader){0};
}

/* Room in the window for at least one header; what is there moves to the front. */
static void window_make_room(struct rpc_reader *r)
{
	if (r->window == NULL)
		r->window = mem_realloc(NULL, RPC_READ_SIZE);
	if (r->from == r->to)
		r->from = r->to = 0;
	if (r->from > 0 && RPC_READ_SIZE - r->to < RPC_READ_SIZE / 2) {
		memmove(r->window, r->window + r->from, r->to - r->from);
		if (r->wipe) /* of a frame that has come in part */
			mem_wipe(r->window + r->to - r->from, r->from);
		r->to -= r->from;
		r->from = 0;
	}
}

int rpc_reader_fill(struct rpc_reader *r, int sock)
{
	size_t came = 0;
	ssize_t n;

	if (r->large) {
		n = fd_recv(sock, r->large + r->large_have, r->large_len - r->large_have, r->fds + r->fd_count,
			    ARRAY_SIZE(r->fds) - r->fd_count, &came);
	} else {
		window_make_room(r);
		n = fd_recv(sock, r->window + r->to, RPC_READ_SIZE - r->to, r->fds + r->fd_count,
			    ARRAY_SIZE(r->fds) - r->fd_count, &came);
	}
	r->fd_count += came;
	if (n <= 0)
		return (int)n;
	if (r->large)
		r->large_have += (size_t)n;
	else
		r->to += (size_t)n;
	return 1;
}

/* Takes the frame's descriptors off the queue. A frame has the descriptors of one message, so that what was lost of
 * them is the end of these. */
static bool claim_fds(struct rpc_reader *r, struct rpc_frame *f, size_t count)
{
	size_t taken = 0;

	if (count > FD_PASS_MAX)
		return false;
	for (; taken < count && taken < r->fd_count && !f->fds_lost; taken++) {
		if (r->fds[taken] == FD_LOST)
			f->fds_lost = true;
		else
			f->fds[f->fd_count++] = r->fds[taken];
	}
	if (taken < count && !f->fds_lost) {
		f->fd_count = 0; /* they stay the reader's */
		return false;
	}
	r->fd_count -= taken;
	memmove(r->fds, r->fds + taken, r->fd_count * sizeof(int));
	if (f->fds_lost)
		fds_drop(f);
	return true;
}

static int next_large(struct rpc_reader *r, struct rpc_frame *frame_r)
{
	if (r->large_have < r->large_len)
		return 0;
	*frame_r = r->head;
	frame_r->bytes = r->large;
	frame_r->len = r->large_len;
	r->large = NULL;
	r->head.fd_count = 0;
	return 1;
}

int rpc_reader_next(struct rpc_reader *r, struct rpc_frame *frame_r)
{
	struct {
		uint32_t len;
		uint16_t type, fds;
		uint64_t id;
	} h;
	size_t have = r->to - r->from;
	uint32_t len;

	if (r->large)
		return next_large(r, frame_r);
	if (have < RPC_HEADER_SIZE)
		return 0;
	memcpy(&h, r->window + r->from, RPC_HEADER_SIZE);
	len = le32toh(h.len);
	if (len > RPC_FRAME_MAX)
		return -1;
	have -= RPC_HEADER_SIZE;
	/* Small and not whole yet: stays in the window. */
	if (have < len && len + RPC_HEADER_SIZE <= RPC_READ_SIZE / 2)
		return 0;
	r->head = (struct rpc_frame){.type = le16toh(h.type), .id = le64toh(h.id)};
	if (!claim_fds(r, &r->head, le16toh(h.fds)))
		return -1;
	r->large = mem_realloc(NULL, len ? len : 1);
	r->large_len = len;
	r->large_have = have < len ? have : len;
	memcpy(r->large, r->window + r->from + RPC_HEADER_SIZE, r->large_have);
	if (r->wipe)
		mem_wipe(r->window + r->from, RPC_HEADER_SIZE + r->large_have);
	r->from += RPC_HEADER_SIZE + r->large_have;
	return next_large(r, frame_r);
}

size_t rpc_header_begin(struct buf *out)
{
	static const char empty[RPC_HEADER_SIZE];
	size_t at = out->len;

	buf_add(out, empty, sizeof(empty));
	return at;
}

void rpc_header_put(struct buf *out, size_t at, uint16_t type, uint64_t id, size_t fd_count)
{
	uint32_t len = htole32((uint32_t)(out->len - at - RPC_HEADER_SIZE));
	uint16_t type_le = htole16(type), fds = htole16((uint16_t)fd_count);
	uint64_t id_le = htole64(id);

	memcpy(out->ptr + at, &len, 4);
	memcpy(out->ptr + at + 4, &type_le, 2);
	memcpy(out->ptr + at + 6, &fds, 2);
	memcpy(out->ptr + at + 8, &id_le, 8);
}

const struct rpc_call *rpc_table_find(const struct rpc_call *table, uint16_t number)
{
	for (; table->request != NULL; table++)
		if (table->number == number)
			return table;
	return NULL;
}
