/* arena - memory that shares one life: a connection, a transaction, a command, a message.
 *
 * Everything allocated from an arena goes at once, with arena_clear() or arena_release(). Allocation does
 * not fail; who parses foreign bytes bounds what he asks for and may look at arena_used(). Not shared
 * between threads. Built with -DARENA_DEBUG (the sanitizer builds) each allocation is a malloc of its own. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/str.h"
#include <stdarg.h>

struct arena {
	struct arena_block *blocks;
	size_t used; /* bytes handed out */
};

void arena_init(struct arena *a);
void arena_clear(struct arena *a); /* keeps at most one block */
void arena_release(struct arena *a);
size_t arena_used(const struct arena *a);

void *arena_alloc(struct arena *a, size_t size); /* zeroed, aligned for any type */
void *arena_dup(struct arena *a, const void *ptr, size_t size);
struct str arena_str(struct arena *a, struct str s); /* a copy, followed by a NUL */
char *arena_strz(struct arena *a, struct str s);     /* the same as char * */
struct str arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
struct str arena_vprintf(struct arena *a, const char *fmt, va_list args);

#define ARENA_NEW(a, type)	((type *)arena_alloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, n) ((type *)arena_alloc((a), sizeof(type) * (n)))

#endif
