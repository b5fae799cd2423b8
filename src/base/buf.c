/* buf - see base/buf.h. */
#include "base/buf.h"
#include "base/fatal.h"
#include "base/mem.h"

#define BUF_FIRST 64

/* What ptr points at while nothing is allocated: ptr[0] may be read, never written. */
static char nothing[1];

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){.ptr = nothing, .max = max};
}

void buf_release(struct buf *b)
{
	if (b->size)
		free(b->ptr);
	buf_init(b, b->max);
}

void buf_clear(struct buf *b)
{
	b->failed = false;
	buf_truncate(b, 0);
}

static void resize(struct buf *b, size_t size)
{
	char *grown = mem_realloc(b->size ? b->ptr : NULL, size + 1);

	if (b->size == 0)
		grown[0] = '\0';
	b->ptr = grown;
	b->size = size;
}

char *buf_reserve(struct buf *b, size_t n)
{
	size_t need, size;

	if (b->failed || n > b->max - b->len) {
		b->failed = true;
		return NULL;
	}
	need = b->len + n;
	if (need > b->size || b->size == 0) {
		size = b->size < BUF_FIRST / 2 ? BUF_FIRST : b->size * 2;
		if (size < need)
			size = need;
		if (size > b->max)
			size = b->max;
		resize(b, size ? size : 1);
	}
	return b->ptr + b->len;
}

void buf_grow(struct buf *b, size_t n)
{
	invariant(n <= b->size - b->len);
	b->len += n;
	if (b->size)
		b->ptr[b->len] = '\0';
}

void buf_add(struct buf *b, const void *data, size_t len)
{
	char *room;

	if (len == 0)
		return;
	room = buf_reserve(b, len);
	if (room == NULL)
		return;
	memcpy(room, data, len);
	buf_grow(b, len);
}

void buf_add_str(struct buf *b, struct str s)
{
	buf_add(b, s.ptr, s.len);
}

void buf_addz(struct buf *b, const char *text)
{
	buf_add(b, text, strlen(text));
}

void buf_addc(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	buf_vaddf(b, fmt, args);
	va_end(args);
}

void buf_vaddf(struct buf *b, const char *fmt, va_list args)
{
	char small[256];
	va_list again;
	char *room;
	int len;

	va_copy(again, args);
	len = vsnprintf(small, sizeof(small), fmt, args);
	if (len < 0)
		b->failed = true;
	else if ((size_t)len < sizeof(small))
		buf_add(b, small, (size_t)len);
	else if ((room = buf_reserve(b, (size_t)len)) != NULL) {
		vsnprintf(room, (size_t)len + 1, fmt, again); /* the final NUL has its own room */
		buf_grow(b, (size_t)len);
	}
	va_end(again);
}

void buf_add_u64(struct buf *b, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do
		digits[--at] = (char)('0' + value % 10);
	while (value /= 10);
	buf_add(b, digits + at, sizeof(digits) - at);
}

void buf_truncate(struct buf *b, size_t len)
{
	if (len >= b->len)
		return;
	b->len = len;
	b->ptr[len] = '\0';
}

void buf_consume(struct buf *b, size_t n)
{
	if (n == 0)
		return;
	invariant(n <= b->len);
	memmove(b->ptr, b->ptr + n, b->len - n);
	buf_truncate(b, b->len - n);
}

void buf_replace(struct buf *b, size_t from, char was, char now)
{
	char *at = b->ptr + from, *end = b->ptr + b->len;

	while (from < b->len && at < end && (at = memchr(at, was, (size_t)(end - at))) != NULL)
		*at++ = now;
}

struct str buf_str(const struct buf *b)
{
	return str_of(b->ptr, b->len);
}

bool buf_failed(const struct buf *b)
{
	return b->failed;
}

char *buf_detach(struct buf *b, size_t *len_r)
{
	char *bytes = b->size ? b->ptr : mem_alloc(1);

	if (len_r)
		*len_r = b->len;
	buf_init(b, b->max);
	return bytes;
}
