/* map - see base/map.h. Open addressing with linear probing; removed slots are marked and reused. */
#include "base/map.h"
#include "base/encode.h"
#include "base/fatal.h"
#include "base/mem.h"
#include <pthread.h>

struct slot {
	uint64_t hash;
	char *key; /* NULL: never used; &gone: removed */
	size_t key_len;
	void *value;
};

struct map {
	struct slot *slots;
	size_t size;   /* a power of two, or 0 */
	size_t count;  /* live */
	size_t filled; /* live and removed */
};

static char gone;
static uint64_t seed;
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void choose_seed(void)
{
	seed = random_u64();
}

struct map *map_new(void)
{
	pthread_once(&seed_once, choose_seed);
	return NEW(struct map);
}

static bool live(const struct slot *slot)
{
	return slot->key != NULL && slot->key != &gone;
}

void map_free(struct map **m)
{
	if (*m == NULL)
		return;
	for (size_t i = 0; i < (*m)->size; i++)
		if (live(&(*m)->slots[i]))
			free((*m)->slots[i].key);
	free((*m)->slots);
	free(*m);
	*m = NULL;
}

static struct slot *find(const struct map *m, struct str key, uint64_t hash)
{
	if (m->size == 0)
		return NULL;
	for (size_t i = hash & (m->size - 1);; i = (i + 1) & (m->size - 1)) {
		struct slot *slot = &m->slots[i];

		if (slot->key == NULL)
			return NULL;
		if (slot->key != &gone && slot->hash == hash && str_eq(str_of(slot->key, slot->key_len), key))
			return slot;
	}
}

/* The first slot that may take a key of this hash; there is always one. */
static struct slot *vacant(const struct map *m, uint64_t hash)
{
	size_t i = hash & (m->size - 1);

	while (live(&m->slots[i]))
		i = (i + 1) & (m->size - 1);
	return &m->slots[i];
}

static void rehash(struct map *m)
{
	struct slot *old = m->slots;
	size_t old_size = m->size;

	m->size = 16;
	while (m->size < (m->count + 1) * 2)
		m->size *= 2;
	m->slots = mem_alloc(m->size * sizeof(*m->slots));
	m->filled = m->count;
	for (size_t i = 0; i < old_size; i++)
		if (live(&old[i]))
			*vacant(m, old[i].hash) = old[i];
	free(old);
}

void *map_get(const struct map *m, struct str key)
{
	struct slot *slot = find(m, key, str_hash(key, seed));

	return slot ? slot->value : NULL;
}

void *map_set(struct map *m, struct str key, void *value)
{
	uint64_t hash = str_hash(key, seed);
	struct slot *slot = find(m, key, hash);
	void *before;

	invariant(value != NULL);
	if (slot) {
		before = slot->value;
		slot->value = value;
		return before;
	}
	if ((m->filled + 1) * 4 > m->size * 3)
		rehash(m);
	slot = vacant(m, hash);
	if (slot->key == NULL)
		m->filled++;
	*slot = (struct slot){hash, str_dup(key), key.len, value};
	m->count++;
	return NULL;
}

void *map_remove(struct map *m, struct str key)
{
	struct slot *slot = find(m, key, str_hash(key, seed));
	void *value;

	if (slot == NULL)
		return NULL;
	value = slot->value;
	free(slot->key);
	slot->key = &gone;
	slot->value = NULL;
	m->count--;
	return value;
}

size_t map_count(const struct map *m)
{
	return m->count;
}

bool map_next(const struct map *m, size_t *at, struct str *key_r, void **value_r)
{
	while (*at < m->size) {
		struct slot *slot = &m->slots[(*at)++];

		if (!live(slot))
			continue;
		if (key_r)
			*key_r = str_of(slot->key, slot->key_len);
		if (value_r)
			*value_r = slot->value;
		return true;
	}
	return false;
}

void *map_get_u64(const struct map *m, uint64_t key)
{
	return map_get(m, str_of(&key, sizeof(key)));
}

void *map_set_u64(struct map *m, uint64_t key, void *value)
{
	return map_set(m, str_of(&key, sizeof(key)), value);
}

void *map_remove_u64(struct map *m, uint64_t key)
{
	return map_remove(m, str_of(&key, sizeof(key)));
}
