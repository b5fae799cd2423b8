#include "imap/body.h"
#include "os/fd.h"
#include "os/io.h"

#define CHUNK 16384

void imap_body_init(struct imap_body *b, int fd, struct str bytes, bool as_is)
{
	*b = (struct imap_body){.fd = fd, .bytes = bytes, .size = bytes.len, .as_is = as_is};
	if (fd >= 0) {
		int64_t size = fd_size(fd);

		b->size = size > 0 ? (uint64_t)size : 0;
	}
}

void imap_body_release(struct imap_body *b)
{
	fd_close(&b->fd);
	b->bytes = STR_NULL;
}

/* Up to CHUNK bytes at an offset; empty at the end or when reading fails. */
static struct str chunk(struct imap_body *b, uint64_t from, uint64_t end, char *space)
{
	size_t want = end - from < CHUNK ? (size_t)(end - from) : CHUNK;
	ssize_t n;

	if (b->fd < 0)
		return str_sub(b->bytes, from, want);
	n = io_pread(b->fd, space, want, (off_t)from);
	if (n < (ssize_t)want)
		b->failed = true;
	return str_of(space, n > 0 ? (size_t)n : 0);
}

/* A place in the file; half: the CR of the virtual CRLF whose LF stands there is before it. */
struct place {
	uint64_t file;
	uint64_t wire; /* bytes before it */
	bool half;
};

struct walk {
	struct place at;
	uint64_t target; /* stop at this wire byte */
	char before;	 /* the byte in front of `at` */
};

/* Goes through one chunk. True: the target was reached. */
static bool walk_chunk(struct walk *w, struct str in)
{
	while (in.len > 0) {
		ptrdiff_t lf = str_chr(in, '\n');
		size_t plain = lf < 0 ? in.len : (size_t)lf;

		if (w->at.wire + plain >= w->target) {
			w->at.file += w->target - w->at.wire;
			w->at.wire = w->target;
			return true;
		}
		if (plain > 0)
			w->before = in.ptr[plain - 1];
		w->at.file += plain;
		w->at.wire += plain;
		if (lf < 0)
			return false;
		if (w->before != '\r' && ++w->at.wire == w->target) {
			w->at.half = true;
			return true;
		}
		w->at.wire++;
		w->at.file++;
		w->before = '\n';
		in = str_skip(in, plain + 1);
	}
	return false;
}

static char byte_before(struct imap_body *b, uint64_t at)
{
	char space[1]; /* as much as is asked for */
	struct str s;

	if (at == 0)
		return '\0';
	s = chunk(b, at - 1, at, space);
	return s.len ? s.ptr[0] : '\0';
}

/* ---- marks ---- */

void imap_body_mark(struct imap_body *b, struct imap_marks *marks, uint32_t uid)
{
	if (b->fd < 0 || b->as_is || b->size <= 2 * IMAP_MARK_BYTES)
		return;
	if (marks->uid != uid || marks->size != b->size)
		vec_clear(&marks->lfs);
	marks->uid = uid;
	marks->size = b->size;
	b->marks = marks;
}

void imap_marks_release(struct imap_marks *marks)
{
	vec_release(&marks->lfs);
	*marks = (struct imap_marks){0};
}

/* LF without a CR before it among the file bytes from .. to. */
static uint64_t count_lfs(struct imap_body *b, uint64_t from, uint64_t to)
{
	char space[CHUNK], before = byte_before(b, from);
	uint64_t count = 0;

	while (from < to) {
		struct str in = chunk(b, from, to, space), rest = in;

		if (in.len == 0)
			break;
		for (ptrdiff_t lf; (lf = str_chr(rest, '\n')) >= 0; rest = str_skip(rest, (size_t)lf + 1)) {
			if (lf > 0 || rest.ptr > in.ptr)
				before = rest.ptr == in.ptr || lf > 0 ? rest.ptr[lf - 1] : '\n';
			count += before != '\r';
		}
		before = in.ptr[in.len - 1];
		from += in.len;
	}
	return count;
}

/* Moves the walk, which stands at `from`, to the last mark in front of its target or of `end`. */
static void walk_by_marks(struct imap_body *b, struct walk *w, uint64_t from, uint64_t end)
{
	struct imap_marks *m = b->marks;
	uint64_t first = from / IMAP_MARK_BYTES, last = end / IMAP_MARK_BYTES, before_from, low, high;

	if (m->lfs.n == 0)
		vec_push(&m->lfs, 0);
	before_from = count_lfs(b, first * IMAP_MARK_BYTES, from);
	for (uint64_t i = m->lfs.n - 1; i < last && !b->failed; i = m->lfs.n - 1) {
		if (i > first && i * IMAP_MARK_BYTES - from + m->lfs.v[i] - m->lfs.v[first] - before_from >= w->target)
			break;
		vec_push(&m->lfs, m->lfs.v[i] + count_lfs(b, i * IMAP_MARK_BYTES, (i + 1) * IMAP_MARK_BYTES));
	}
	low = first;
	high = last < m->lfs.n - 1 ? last : m->lfs.n - 1;
	while (low < high) {
		uint64_t mid = low + (high - low + 1) / 2;
		uint64_t wire = mid * IMAP_MARK_BYTES - from + m->lfs.v[mid] - m->lfs.v[first] - before_from;

		if (wire <= w->target)
			low = mid;
		else
			high = mid - 1;
	}
	if (low == first)
		return;
	w->at.file = low * IMAP_MARK_BYTES;
	w->at.wire = w->at.file - from + m->lfs.v[low] - m->lfs.v[first] - before_from;
	w->before = byte_before(b, w->at.file);
}

/* The place of the wire byte `target` of the region, or its end. */
static struct place find(struct imap_body *b, uint64_t from, uint64_t end, uint64_t target)
{
	struct walk w = {.at.file = from, .target = target, .before = byte_before(b, from)};
	char space[CHUNK];

	if (b->as_is) {
		w.at.file = target < end - from ? from + target : end;
		w.at.wire = w.at.file - from;
		return w.at;
	}
	if (b->marks && end - from > IMAP_MARK_BYTES && target > IMAP_MARK_BYTES)
		walk_by_marks(b, &w, from, end);
	for (uint64_t pos = w.at.file; pos < end;) {
		struct str in = chunk(b, pos, end, space);

		if (in.len == 0 || walk_chunk(&w, in))
			break;
		pos += in.len;
	}
	return w.at;
}

static uint64_t clip(const struct imap_body *b, uint64_t from, uint64_t len)
{
	return from >= b->size ? from : len > b->size - from ? b->size : from + len;
}

uint64_t imap_body_wire_len(struct imap_body *b, uint64_t from, uint64_t len)
{
	return find(b, from, clip(b, from, len), UINT64_MAX).wire;
}

void imap_body_wire(struct imap_body *b, uint64_t from, uint64_t len, struct buf *out)
{
	struct str in = str_sub(b->bytes, from, len);
	char before = from > 0 && from <= b->bytes.len ? b->bytes.ptr[from - 1] : '\0';
	size_t begin = out->len;

	while (!b->as_is && in.len > 0) {
		ptrdiff_t lf = str_chr(in, '\n');
		size_t plain = lf < 0 ? in.len : (size_t)lf;

		buf_add(out, in.ptr, plain);
		if (plain > 0)
			before = in.ptr[plain - 1];
		in = str_skip(in, plain);
		if (lf < 0)
			break;
		if (before == '\r')
			buf_addc(out, '\n');
		else
			buf_add(out, "\r\n", 2);
		before = '\n';
		in = str_skip(in, 1);
	}
	buf_add_str(out, in);
	buf_replace(out, begin, '\0', '\x80');
}

/* File bytes to the wire, line ends made CRLF; `from` does not stand inside one. */
static void send_region(struct session *io, struct imap_body *b, uint64_t from, uint64_t end)
{
	struct buf wire;

	if (from >= end)
		return;
	if (b->fd >= 0) {
		session_write_file(io, b->fd, from, end - from, SLICE_NO_NUL | (b->as_is ? 0 : SLICE_CRLF));
		return;
	}
	buf_init(&wire, 2 * b->bytes.len + 1);
	imap_body_wire(b, from, end - from, &wire);
	session_write(io, buf_str(&wire));
	buf_release(&wire);
}

void imap_body_send(struct session *io, struct imap_body *b, uint64_t from, uint64_t len, uint64_t start,
		    uint64_t count)
{
	uint64_t end = clip(b, from, len);
	struct place a, z;
	char space[1];

	if (count == 0)
		return;
	a = find(b, from, end, start);
	z = find(b, from, end, start + count);
	if (!b->as_is && a.file < z.file) {
		/* A slice that begins with the LF of a CRLF must not get a second CR: the LF goes by hand. */
		struct str first = chunk(b, a.file, a.file + 1, space);

		if (a.half || (first.len && first.ptr[0] == '\n' && byte_before(b, a.file) == '\r')) {
			session_write(io, STR("\n"));
			a.file++;
		}
	}
	if (b->failed) {
		session_break(io);
		return;
	}
	send_region(io, b, a.file, z.file);
	if (z.half && !(a.half && a.file == z.file))
		session_write(io, STR("\r"));
}

uint64_t imap_body_file_len(const struct imap_body *b, uint64_t from, uint64_t len)
{
	return clip(b, from, len) - from;
}

bool imap_body_read(struct imap_body *b, uint64_t from, uint64_t len, struct buf *out)
{
	uint64_t end = clip(b, from, len);
	char *to;

	if (from >= end)
		return true;
	if (b->fd < 0) {
		buf_add_str(out, str_sub(b->bytes, from, end - from));
		return !buf_failed(out);
	}
	to = buf_reserve(out, end - from);
	if (to == NULL || io_pread(b->fd, to, end - from, (off_t)from) != (ssize_t)(end - from))
		return false;
	buf_grow(out, end - from);
	return true;
}
