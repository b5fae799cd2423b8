#include "store/snapshot.h"
#include "os/fd.h"
#include "store/service_private.h"
#include <errno.h>

/* Above this, some 1,500 messages, it travels as a sealed memory file, which all views of the peer share. */
#define INLINE_MAX (8u << 10)
#define PIECE_MAX  (32u << 10) /* written at a time */
/* A chunk whose numbers are all of the longest kind, and more. */
#define CHUNK_MAX 4096u

/* ---- the form ---- */

struct head {
	uint32_t number, length;
};

void snapshot_add(struct buf *out, uint32_t number, struct str value)
{
	struct head h = {number, (uint32_t)value.len};

	buf_add(out, &h, sizeof(h));
	buf_add_str(out, value);
}

int snapshot_next(struct str *rest, struct snapshot_chunk *c)
{
	struct head h;

	if (rest->len == 0)
		return 0;
	if (rest->len < sizeof(h))
		return -1;
	memcpy(&h, rest->ptr, sizeof(h));
	*rest = str_skip(*rest, sizeof(h));
	if (h.length > rest->len || h.number > UINT32_MAX / CHUNK_UIDS)
		return -1;
	c->number = h.number;
	c->value = str_sub(*rest, 0, h.length);
	*rest = str_skip(*rest, h.length);
	return hot_chunk_present(c->value, true, &c->present) ? 1 : -1;
}

/* ---- making one ---- */

/* Through one small buffer: a copy of it all in memory of its own costs more than the copying. */
struct making {
	struct buf piece;
	int fd;
	uint32_t count;
	int failed; /* errno */
	bool damaged;
};

static bool flush(struct making *s)
{
	if (s->fd < 0)
		s->fd = fd_memory("snapshot");
	if (s->fd < 0 || fd_memory_add(s->fd, buf_str(&s->piece)) < 0)
		s->failed = errno;
	buf_clear(&s->piece);
	return !s->failed;
}

static int take_chunk(void *ctx, struct str key, struct str value)
{
	struct making *s = ctx;
	uint32_t mailbox, number;
	uint64_t present;

	s->damaged = !key_read_u32_u32(key, 'H', &mailbox, &number) || !hot_chunk_present(value, false, &present) ||
		     value.len > CHUNK_MAX;
	if (s->damaged || (s->piece.len + sizeof(struct head) + value.len > PIECE_MAX && !flush(s)))
		return 1;
	s->count += (uint32_t)__builtin_popcountll(present);
	snapshot_add(&s->piece, number, value);
	return 0;
}

static void hand_over(struct making *s, struct arena *arena, struct store_view *out)
{
	if (s->fd < 0 && s->piece.len <= INLINE_MAX) {
		out->snapshot = arena_str(arena, buf_str(&s->piece));
		return;
	}
	if (!flush(s))
		return;
	if (fd_memory_seal(s->fd) < 0) {
		s->failed = errno;
		return;
	}
	out->snapshot_fd = s->fd;
	s->fd = -1;
}

int snapshot_make(struct account *a, struct mailbox *m, struct arena *arena, struct store_view *out, struct err *err)
{
	struct making s = {.fd = -1};
	struct str first = key_u32(arena, a->id, 'H', m->id);
	struct str end = mailbox_chunks_end(arena, a, m);
	int rc;

	buf_init(&s.piece, PIECE_MAX);
	rc = store_engine_range(a->svc->engine, first, end, false, take_chunk, &s, err);
	out->count = s.count;
	/* A chunk whose key was damaged is not found, and nothing says so but the count. */
	if (!s.failed && (rc < 0 || s.damaged || s.count != m->rec.messages))
		rc = account_broken(a, err);
	else if (!s.failed)
		hand_over(&s, arena, out);
	if (s.failed) {
		errno = s.failed;
		rc = err_errno(err, "making a snapshot");
	}
	fd_close(&s.fd);
	buf_release(&s.piece);
	return rc < 0 ? -1 : 0;
}
