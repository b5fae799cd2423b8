/* Bulk input: a body of known length, or one that a filter ends, gathered without a thread waiting for it.
 *
 * Decoded bytes gather in `mem`. Past memory_max they go to the file that the protocol's spill function
 * opens, a write each WRITE_SIZE. What cannot be kept (too large, no file, a failed write) is swallowed: the
 * end is still found, so that the protocol stays in step. */
#include "engine/private.h"

#include "base/encode.h"
#include "base/mem.h"
#include "os/io.h"

#define WRITE_SIZE     (64u << 10)
#define MEMORY_DEFAULT (64u << 10)

struct bulk {
	struct bulk_options o;
	struct buf mem;
	uint64_t size; /* decoded */
	uint64_t left; /* of a counted one */
	uint32_t crc;
	int fd;
	bool spilled, too_large, swallow;
	struct err err;
};

void bulk_release(struct session *s)
{
	if (s->bulk == NULL)
		return;
	buf_release(&s->bulk->mem);
	free(s->bulk);
	s->bulk = NULL;
}

void session_bulk(struct session *s, const struct bulk_options *options)
{
	struct bulk *b;

	if (s->bulk == NULL || !options->append) {
		bulk_release(s);
		b = s->bulk = NEW(struct bulk);
		b->fd = -1;
		buf_init(&b->mem, SIZE_MAX / 2);
	}
	b = s->bulk;
	b->o = *options;
	b->left = options->count;
	if (b->o.memory_max == 0)
		b->o.memory_max = MEMORY_DEFAULT;
}

static void bulk_swallow(struct bulk *b)
{
	b->swallow = true;
	buf_release(&b->mem);
}

static void bulk_write(struct bulk *b)
{
	if (b->mem.len > 0 && io_write(b->fd, b->mem.ptr, b->mem.len) < 0) {
		err_errno(&b->err, "cannot write the message to the spool");
		bulk_swallow(b);
		return;
	}
	buf_clear(&b->mem);
}

static void bulk_spill(struct session *s, struct bulk *b)
{
	if (b->o.spill == NULL) {
		b->too_large = true;
		bulk_swallow(b);
		return;
	}
	b->fd = b->o.spill(s, b->o.spill_arg, &b->err);
	if (b->fd < 0)
		bulk_swallow(b);
	else
		b->spilled = true;
}

/* Bytes from `from` on have just been appended to mem. */
static void bulk_took(struct session *s, struct bulk *b, size_t from)
{
	size_t len = b->mem.len - from;

	b->size += len;
	if (b->o.max > 0 && b->size > b->o.max) {
		b->too_large = true;
		bulk_swallow(b);
	}
	if (b->swallow) {
		buf_clear(&b->mem);
		return;
	}
	b->crc = crc32c(b->crc, b->mem.ptr + from, len);
	if (!b->spilled && b->mem.len > b->o.memory_max)
		bulk_spill(s, b);
	if (b->spilled && !b->swallow && b->mem.len >= WRITE_SIZE)
		bulk_write(b);
}

static bool bulk_finish(struct bulk *b)
{
	if (b->spilled && !b->swallow)
		bulk_write(b);
	if (b->spilled)
		buf_release(&b->mem);
	return true;
}

static bool feed_counted(struct session *s, struct bulk *b)
{
	struct str in = session_input(s);
	size_t n = b->left < in.len ? (size_t)b->left : in.len;
	size_t from = b->mem.len;

	if (n > 0) {
		if (b->swallow) {
			b->size += n;
		} else {
			buf_add(&b->mem, in.ptr, n);
			bulk_took(s, b, from);
		}
		b->left -= n;
		session_consume(s, n);
	}
	return b->left == 0 && bulk_finish(b);
}

static bool feed_filtered(struct session *s, struct bulk *b)
{
	bool done = false;

	while (!done) {
		struct str in = session_input(s);
		size_t from = b->mem.len, n;

		/* What comes out is seldom longer: room for it at once, not doubled from the smallest. */
		if (in.len == 0 || buf_reserve(&b->mem, in.len) == NULL)
			return false;
		n = b->o.filter.take(b->o.filter.state, in, &b->mem, &done);
		if (n > 0)
			session_consume(s, n);
		bulk_took(s, b, from);
		if (n == 0 && !done)
			return false;
	}
	return bulk_finish(b);
}

bool bulk_feed(struct session *s)
{
	return s->bulk->o.filter.take ? feed_filtered(s, s->bulk) : feed_counted(s, s->bulk);
}

/* ---- asking ---- */

uint64_t session_bulk_size(struct session *s)
{
	return s->bulk ? s->bulk->size : 0;
}

struct str session_bulk_memory(struct session *s)
{
	return s->bulk && !s->bulk->spilled && !s->bulk->swallow ? buf_str(&s->bulk->mem) : STR_NULL;
}

bool session_bulk_spilled(struct session *s)
{
	return s->bulk && s->bulk->spilled;
}

bool session_bulk_too_large(struct session *s)
{
	return s->bulk && s->bulk->too_large;
}

const struct err *session_bulk_error(struct session *s)
{
	static const struct err none;

	return s->bulk ? &s->bulk->err : &none;
}

uint32_t session_bulk_crc(struct session *s)
{
	return s->bulk ? s->bulk->crc : 0;
}

void session_bulk_drop(struct session *s)
{
	bulk_release(s);
}
