/* buf - a growable byte buffer with a hard ceiling.
 *
 * Invariants: ptr is never NULL; ptr[len] == 0; len <= max.
 * Sticky failure: an append past max sets `failed` and appends nothing; later appends do nothing either.
 * Check buf_failed() once, before use. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/str.h"
#include <stdarg.h>

struct buf {
	char *ptr;
	size_t len;
	size_t size; /* allocated, without the final NUL; 0 while nothing is */
	size_t max;
	bool failed;
};

void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b); /* frees; b is as after init */
void buf_clear(struct buf *b);	 /* empty, memory kept, failed cleared */

void buf_add(struct buf *b, const void *data, size_t len);
void buf_add_str(struct buf *b, struct str s);
void buf_addz(struct buf *b, const char *text);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vaddf(struct buf *b, const char *fmt, va_list args);
void buf_add_u64(struct buf *b, uint64_t value); /* decimal */

/* Room for at least n more bytes; returns where to write them, or NULL (and failed) past max.
 * Follow with buf_grow(b, written). */
char *buf_reserve(struct buf *b, size_t n) WARN_UNUSED;
void buf_grow(struct buf *b, size_t n);
void buf_truncate(struct buf *b, size_t len);			  /* to at most len bytes */
void buf_consume(struct buf *b, size_t n);			  /* removes the first n bytes */
void buf_replace(struct buf *b, size_t from, char was, char now); /* each such byte from there on */

struct str buf_str(const struct buf *b);
bool buf_failed(const struct buf *b) WARN_UNUSED;
/* Hands the bytes (NUL-terminated, malloc'ed) to the caller; b is as after init. */
char *buf_detach(struct buf *b, size_t *len_r);

#endif
