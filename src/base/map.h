/* map - a hash table from bytes to a pointer. Keys are copied; values belong to the caller.
 *
 * Not shared between threads without a lock of the owner's. The hash is seeded a process, so that a peer
 * cannot choose colliding keys. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/str.h"

struct map;

struct map *map_new(void);
void map_free(struct map **m);			    /* values are left alone */
void *map_get(const struct map *m, struct str key); /* NULL if absent */
/* Returns the value that stood there before, or NULL. value must not be NULL. */
void *map_set(struct map *m, struct str key, void *value);
void *map_remove(struct map *m, struct str key); /* returns the removed value, or NULL */
size_t map_count(const struct map *m);
/* Visits every entry in no order: `for (size_t at = 0; map_next(m, &at, &key, &value);)`.
 * The map must not change meanwhile, except by map_remove() of the entry just visited. */
bool map_next(const struct map *m, size_t *at, struct str *key_r, void **value_r);

/* The same with a number as the key. */
void *map_get_u64(const struct map *m, uint64_t key);
void *map_set_u64(struct map *m, uint64_t key, void *value);
void *map_remove_u64(struct map *m, uint64_t key);
static inline uint64_t map_key_u64(struct str key)
{
	uint64_t k;
	memcpy(&k, key.ptr, sizeof(k));
	return k;
}

#endif
