/* vec - a typed growable array. `VEC(int) v = {0};` is an empty one.
 *
 * Elements move when it grows: keep indexes, not pointers. Plain vectors are freed with vec_release();
 * the arena form never is. The caller bounds the count. */
#ifndef BASE_VEC_H
#define BASE_VEC_H

#include "base/arena.h"
#include "base/mem.h"

#define VEC(type)                                                                                                      \
	struct {                                                                                                       \
		type *v;                                                                                               \
		size_t n;                                                                                              \
		size_t cap;                                                                                            \
	}

void *vec_grow_(void *v, size_t elem, size_t *cap, size_t need);
void *vec_grow_arena_(struct arena *a, void *v, size_t elem, size_t *cap, size_t n, size_t need);

#define vec_reserve(vec, need)                                                                                         \
	((vec)->cap >= (need) ? (void)0                                                                                \
			      : (void)((vec)->v = vec_grow_((vec)->v, sizeof(*(vec)->v), &(vec)->cap, (need))))
#define vec_push(vec, item) (vec_reserve((vec), (vec)->n + 1), (void)((vec)->v[(vec)->n++] = (item)))
#define vec_release(vec)    (free((vec)->v), (vec)->v = NULL, (vec)->n = (vec)->cap = 0)
#define vec_clear(vec)	    ((vec)->n = 0)
/* Removes element i, keeping the order. */
#define vec_remove(vec, i)                                                                                             \
	(memmove((vec)->v + (i), (vec)->v + (i) + 1, ((vec)->n - (i)-1) * sizeof(*(vec)->v)), (void)(vec)->n--)

/* Removes the first element that equals item, if there is one. */
#define vec_remove_item(vec, item)                                                                                     \
	do {                                                                                                           \
		size_t at_ = 0;                                                                                        \
		while (at_ < (vec)->n && (vec)->v[at_] != (item))                                                      \
			at_++;                                                                                         \
		if (at_ < (vec)->n)                                                                                    \
			vec_remove((vec), at_);                                                                        \
	} while (0)

#define vec_push_arena(a, vec, item)                                                                                   \
	((vec)->cap > (vec)->n ? (void)0                                                                               \
			       : (void)((vec)->v = vec_grow_arena_((a), (vec)->v, sizeof(*(vec)->v), &(vec)->cap,      \
								   (vec)->n, (vec)->n + 1)),                           \
	 (void)((vec)->v[(vec)->n++] = (item)))

#endif
