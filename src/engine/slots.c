/* Slots: where the world outside a session finds it.
 *
 * A slot is never freed, so anybody may look at its word; the generation in it tells whether the session
 * meant still lives. The word's lower half holds BIT_RUNNING and the pending bits. Setting a bit on a parked
 * session makes it RUNNING in the same step: exactly one thread sees that it did, and it puts the session
 * into the line. Parking is a compare-and-swap that fails when a bit came in meanwhile. */
#include "engine/private.h"

#include "base/fatal.h"
#include "base/mem.h"

struct slot *slot_at(struct engine *e, uint32_t index)
{
	return &e->chunks[index / SLOT_CHUNK][index % SLOT_CHUNK];
}

uint32_t slot_generation(const struct slot *slot)
{
	return (uint32_t)(atomic_load(&slot->word) >> 32);
}

/* Under lock. */
static bool slots_grow(struct engine *e)
{
	uint32_t chunk = e->slot_count / SLOT_CHUNK;

	if (chunk == SLOT_CHUNKS)
		return false;
	e->chunks[chunk] = mem_alloc(SLOT_CHUNK * sizeof(struct slot));
	for (uint32_t i = SLOT_CHUNK; i-- > 0;) {
		struct slot *slot = &e->chunks[chunk][i];
		slot->index = e->slot_count + i;
		atomic_store(&slot->word, (uint64_t)1 << 32 | BIT_RUNNING);
		atomic_store(&slot->deadline, NEVER);
		vec_push(&e->free_slots, slot->index);
	}
	e->slot_count += SLOT_CHUNK;
	return true;
}

struct slot *slot_take(struct engine *e)
{
	struct slot *slot = NULL;

	pthread_mutex_lock(&e->lock);
	if (e->free_slots.n > 0 || slots_grow(e))
		slot = slot_at(e, e->free_slots.v[--e->free_slots.n]);
	pthread_mutex_unlock(&e->lock);
	if (slot)
		slot_take_bits(slot); /* engine_stop() posts to free ones too */
	return slot;
}

/* The next generation begins, owned by nobody yet, with no bit pending. */
void slot_release(struct engine *e, struct slot *slot)
{
	uint64_t generation = (uint64_t)slot_generation(slot) + 1;

	slot->session = NULL;
	atomic_store(&slot->deadline, NEVER);
	atomic_store(&slot->word, (generation & UINT32_MAX) << 32 | BIT_RUNNING);
	pthread_mutex_lock(&e->lock);
	vec_push(&e->free_slots, slot->index);
	pthread_mutex_unlock(&e->lock);
}

struct session *slot_win(struct engine *e, uint32_t index, uint32_t generation, unsigned bits)
{
	struct slot *slot = slot_at(e, index);
	uint64_t word = atomic_load(&slot->word);

	do {
		if ((uint32_t)(word >> 32) != generation)
			return NULL;
	} while (!atomic_compare_exchange_weak(&slot->word, &word, word | bits | BIT_RUNNING));
	return word & BIT_RUNNING ? NULL : slot->session;
}

void slot_post(struct engine *e, uint32_t index, uint32_t generation, unsigned bits)
{
	struct session *s = slot_win(e, index, generation, bits);

	if (s)
		ready_push(e, s);
}

unsigned slot_take_bits(struct slot *slot)
{
	return (unsigned)atomic_fetch_and(&slot->word, ~(uint64_t)BITS_PENDING) & BITS_PENDING;
}

bool slot_park(struct slot *slot)
{
	uint64_t word = atomic_load(&slot->word);

	do {
		invariant(word & BIT_RUNNING);
		if (word & BITS_PENDING)
			return false;
	} while (!atomic_compare_exchange_weak(&slot->word, &word, word & ~(uint64_t)BIT_RUNNING));
	return true;
}

void ready_push(struct engine *e, struct session *s)
{
	s->ready_next = NULL;
	pthread_mutex_lock(&e->ready_lock);
	if (e->ready_last)
		e->ready_last->ready_next = s;
	else
		e->ready_first = s;
	e->ready_last = s;
	e->ready_count++;
	pthread_mutex_unlock(&e->ready_lock);
	engine_pool_kick(e);
}

struct session *ready_pop(struct engine *e)
{
	struct session *s;

	if (e->ready_count == 0)
		return NULL;
	pthread_mutex_lock(&e->ready_lock);
	s = e->ready_first;
	if (s) {
		e->ready_first = s->ready_next;
		if (e->ready_first == NULL)
			e->ready_last = NULL;
		e->ready_count--;
	}
	pthread_mutex_unlock(&e->ready_lock);
	return s;
}
