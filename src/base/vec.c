/* vec - see base/vec.h. */
#include "base/vec.h"
#include "base/fatal.h"

static size_t next_cap(size_t cap, size_t need)
{
	size_t grown = cap < 4 ? 8 : cap * 2;

	return grown < need ? need : grown;
}

static size_t bytes(size_t elem, size_t count)
{
	size_t size = 0;

	if (__builtin_mul_overflow(elem, count, &size))
		bug("vector of %zu elements", count);
	return size;
}

void *vec_grow_(void *v, size_t elem, size_t *cap, size_t need)
{
	*cap = next_cap(*cap, need);
	return mem_realloc(v, bytes(elem, *cap));
}

void *vec_grow_arena_(struct arena *a, void *v, size_t elem, size_t *cap, size_t n, size_t need)
{
	void *grown;

	*cap = next_cap(*cap, need);
	grown = arena_alloc(a, bytes(elem, *cap));
	if (n)
		memcpy(grown, v, bytes(elem, n));
	return grown;
}
