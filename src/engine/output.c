/* What a session still has to send: a list of chunks, each bytes in memory or a slice of a file that is read
 * (and LF made CRLF) a piece at a time as the socket drains. */
#include "engine/private.h"

#include "base/log.h"
#include "base/mem.h"
#include "os/fd.h"
#include "os/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

#define STAGE_SIZE (32u << 10)

struct out_chunk {
	struct out_chunk *next;
	struct buf buf;	       /* bytes to send; of a slice: the piece read last */
	size_t at;	       /* sent */
	int fd;		       /* -1: memory only */
	uint64_t offset, left; /* of the slice, not read yet */
	unsigned how;	       /* SLICE_* */
	bool after_cr;
};

static struct out_chunk *chunk_new(struct session *s, int fd)
{
	struct out_chunk *c = NEW(struct out_chunk);

	c->fd = fd;
	buffer_lend(&c->buf, OUTPUT_MAX);
	if (s->out_last)
		s->out_last->next = c;
	else
		s->out_first = c;
	s->out_last = c;
	return c;
}

static void chunk_pop(struct session *s)
{
	struct out_chunk *c = s->out_first;

	s->out_first = c->next;
	if (s->out_first == NULL)
		s->out_last = NULL;
	fd_close(&c->fd);
	buf_clear(&c->buf);
	buffer_return(&c->buf, OUTPUT_MAX);
	free(c);
}

void output_release(struct session *s)
{
	while (s->out_first)
		chunk_pop(s);
	s->unsent = s->out_memory = 0;
}

/* The chunk to append to; NULL when the session already holds more than anybody may. */
static struct out_chunk *chunk_for(struct session *s, size_t len)
{
	if (s->phase == PHASE_DEAD)
		return NULL;
	if (len > OUTPUT_MAX || s->out_memory > OUTPUT_MAX - len) {
		log_error("%s: over %u bytes of output for %s", s->protocol->name, OUTPUT_MAX, s->peer_text);
		s->phase = PHASE_DEAD;
		return NULL;
	}
	if (s->out_last && s->out_last->fd < 0)
		return s->out_last;
	return chunk_new(s, -1);
}

static void wrote(struct session *s, struct out_chunk *c, size_t from)
{
	size_t len = c->buf.len - from;

	s->unsent += len;
	s->out_memory += len;
	if (s->transcript || s->kept)
		transcript_output(s, str_of(c->buf.ptr + from, len));
}

void session_write(struct session *s, struct str bytes)
{
	struct out_chunk *c = chunk_for(s, bytes.len);
	size_t from;

	if (c == NULL)
		return;
	from = c->buf.len;
	buf_add_str(&c->buf, bytes);
	wrote(s, c, from);
}

void session_printf(struct session *s, const char *fmt, ...)
{
	struct out_chunk *c = chunk_for(s, 1);
	va_list args;
	size_t from;

	if (c == NULL)
		return;
	from = c->buf.len;
	va_start(args, fmt);
	buf_vaddf(&c->buf, fmt, args);
	va_end(args);
	wrote(s, c, from);
}

void session_write_file(struct session *s, int fd, uint64_t offset, uint64_t len, unsigned how)
{
	struct out_chunk *c;
	int own;

	if (len == 0 || s->phase == PHASE_DEAD)
		return;
	own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0) {
		/* What was promised cannot be sent any more. */
		log_error("%s: cannot keep a file open for %s: %m", s->protocol->name, s->peer_text);
		s->phase = PHASE_DEAD;
		return;
	}
	c = chunk_new(s, own);
	c->offset = offset;
	c->left = len;
	c->how = how;
	s->unsent += len;
	if (s->transcript || s->kept)
		transcript_output(s, STR("[file]\n"));
}

/* ---- flushing ---- */

static void add_crlf(struct out_chunk *c, struct str piece)
{
	while (piece.len > 0) {
		ptrdiff_t lf = str_chr(piece, '\n');
		size_t before = lf < 0 ? piece.len : (size_t)lf;
		bool has_cr = before > 0 ? piece.ptr[before - 1] == '\r' : c->after_cr;

		buf_add(&c->buf, piece.ptr, before);
		if (before > 0)
			c->after_cr = piece.ptr[before - 1] == '\r';
		if (lf < 0)
			return;
		if (has_cr)
			buf_addc(&c->buf, '\n');
		else
			buf_add(&c->buf, "\r\n", 2);
		c->after_cr = false;
		piece = str_skip(piece, before + 1);
	}
}

/* Reads the next piece of a slice. Returns -1 when the file is shorter than was said. */
static int chunk_refill(struct session *s, struct out_chunk *c)
{
	char raw[STAGE_SIZE / 2];
	size_t want = c->left < sizeof(raw) ? (size_t)c->left : sizeof(raw);
	ssize_t n = io_pread(c->fd, raw, want, (off_t)c->offset);

	if (n != (ssize_t)want) {
		log_error("%s: a file became shorter while it was sent to %s", s->protocol->name, s->peer_text);
		return -1;
	}
	buf_clear(&c->buf);
	c->at = 0;
	if (c->how & SLICE_CRLF)
		add_crlf(c, str_of(raw, want));
	else
		buf_add(&c->buf, raw, want);
	if (c->how & SLICE_NO_NUL)
		buf_replace(&c->buf, 0, '\0', '\x80');
	c->offset += want;
	c->left -= want;
	s->unsent += c->buf.len - want;
	s->out_memory += c->buf.len;
	return 0;
}

/* Sends the first chunk's bytes. */
static enum io_result chunk_send(struct session *s, struct out_chunk *c)
{
	ssize_t n = session_send(s, c->buf.ptr + c->at, c->buf.len - c->at, c->next != NULL || c->left > 0);

	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? IO_AGAIN_ : IO_BROKEN_;
	c->at += (size_t)n;
	session_left(s, (size_t)n);
	s->unsent -= (size_t)n;
	s->out_memory -= (size_t)n;
	return IO_DONE_;
}

enum io_result output_flush(struct session *s)
{
	struct out_chunk *c;

	while ((c = s->out_first) != NULL) {
		enum io_result r;

		if (c->at == c->buf.len && c->left > 0 && chunk_refill(s, c) < 0)
			return IO_BROKEN_;
		if (c->at == c->buf.len) {
			chunk_pop(s);
			continue;
		}
		r = chunk_send(s, c);
		if (r != IO_DONE_)
			return r;
	}
	s->out_by = 0;
	return IO_DONE_;
}
