/* arena - see base/arena.h.
 *
 * Blocks hang in a list, the newest first; an allocation is a step forward in the newest. One too large for
 * the remaining room opens another block, and one too large for any block gets one of its own. Most arenas hold little:
 * the first block is one that malloc(3) has at hand, and what is zeroed is what is handed out. */
#include "base/arena.h"
#include "base/fatal.h"
#include "base/mem.h"
#include <stdalign.h>

#define BLOCK_SIZE     ((size_t)1024 - 64)
#define BLOCK_SIZE_2   ((size_t)4096 - 64)
#define BLOCK_SIZE_MAX ((size_t)65536 - 64)
#define ALIGN	       alignof(max_align_t)

struct arena_block {
	struct arena_block *next;
	size_t size;
	size_t used;
	alignas(max_align_t) char bytes[];
};

void arena_init(struct arena *a)
{
	*a = (struct arena){0};
}

static void free_list(struct arena_block *block)
{
	while (block) {
		struct arena_block *next = block->next;

		free(block);
		block = next;
	}
}

void arena_clear(struct arena *a)
{
	struct arena_block *kept = a->blocks;

	a->used = 0;
	if (kept == NULL)
		return;
	free_list(kept->next);
	kept->next = NULL;
#ifdef ARENA_DEBUG
	if (true) {
#else
	if (kept->size > BLOCK_SIZE_MAX) {
#endif
		free(kept);
		a->blocks = NULL;
		return;
	}
	kept->used = 0;
}

void arena_release(struct arena *a)
{
	free_list(a->blocks);
	arena_init(a);
}

size_t arena_used(const struct arena *a)
{
	return a->used;
}

static struct arena_block *block_new(size_t size)
{
	struct arena_block *block = mem_realloc(NULL, sizeof(*block) + size);

	block->next = NULL;
	block->size = size;
	block->used = 0;
	return block;
}

#ifdef ARENA_DEBUG
static struct arena_block *block_for(struct arena *a, size_t size)
{
	struct arena_block *block = block_new(size);

	block->next = a->blocks;
	a->blocks = block;
	return block;
}
#else
static struct arena_block *block_for(struct arena *a, size_t size)
{
	struct arena_block *newest = a->blocks, *block;
	size_t want;

	if (newest && newest->size - newest->used >= size)
		return newest;
	want = newest == NULL ? BLOCK_SIZE : newest->size < BLOCK_SIZE_2 ? BLOCK_SIZE_2 : newest->size * 2;
	if (want > BLOCK_SIZE_MAX)
		want = BLOCK_SIZE_MAX;
	block = block_new(size > want ? size : want);
	if (size > want / 2 && newest) { /* a large one: go on filling the newest */
		block->next = newest->next;
		newest->next = block;
	} else {
		block->next = newest;
		a->blocks = block;
	}
	return block;
}
#endif

/* Not zeroed. */
static void *room_for(struct arena *a, size_t size)
{
	struct arena_block *block;
	void *room;

	invariant(size < (size_t)1 << 40);
#ifndef ARENA_DEBUG
	size = (size + ALIGN - 1) & ~(ALIGN - 1);
#endif
	block = block_for(a, size);
	room = block->bytes + block->used;
	block->used += size;
	a->used += size;
	return room;
}

void *arena_alloc(struct arena *a, size_t size)
{
	void *room = room_for(a, size);

	memset(room, 0, size);
	return room;
}

void *arena_dup(struct arena *a, const void *ptr, size_t size)
{
	void *copy = room_for(a, size);

	if (size)
		memcpy(copy, ptr, size);
	return copy;
}

char *arena_strz(struct arena *a, struct str s)
{
	char *copy = room_for(a, s.len + 1);

	if (s.len)
		memcpy(copy, s.ptr, s.len);
	copy[s.len] = '\0';
	return copy;
}

struct str arena_str(struct arena *a, struct str s)
{
	return str_of(arena_strz(a, s), s.len);
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
	struct str s;
	va_list args;

	va_start(args, fmt);
	s = arena_vprintf(a, fmt, args);
	va_end(args);
	return s;
}

struct str arena_vprintf(struct arena *a, const char *fmt, va_list args)
{
	char text[256]; /* most fit, and are made once */
	va_list again;
	char *room;
	int len;

	invariant(fmt != NULL);
	va_copy(again, args);
	len = vsnprintf(text, sizeof(text), fmt, args);
	invariant(len >= 0);
	room = room_for(a, (size_t)len + 1);
	if ((size_t)len < sizeof(text))
		memcpy(room, text, (size_t)len + 1);
	else
		vsnprintf(room, (size_t)len + 1, fmt, again);
	va_end(again);
	return str_of(room, (size_t)len);
}
