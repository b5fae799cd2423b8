/* A request that was carried out, but whose answer was lost with the process that should have given it, comes
 * again. Each new message (also a bounce within a result) leaves a key, by which it is known then:
 *
 *	I delivery-id -> queue id
 *
 * The key outlives the message: the relay may be faster than the one who asks again. */
#include "queue/service_private.h"

#include "base/clock.h"

/* Longer than any call to the queue takes, its waiting for a new process included. */
#define KEEP_MS (10 * 60 * 1000)

struct str repeat_key(struct str delivery_id, char out[QUEUE_KEY_MAX])
{
	out[0] = 'I';
	memcpy(out + 1, delivery_id.ptr, 16);
	return str_of(out, 17);
}

int repeat_find(struct queue_service *q, struct str delivery_id, struct arena *a, struct str *id_r, struct err *err)
{
	char key[QUEUE_KEY_MAX];

	return delivery_id.len == 16 ? kvlog_get(q->k, repeat_key(delivery_id, key), a, id_r, err) : 0;
}

bool repeat_is_over(const struct queue_message *m)
{
	return m->delivery_id.len == 16 && (uint64_t)clock_wall() > m->arrival + KEEP_MS / 1000;
}

void repeat_ended(struct queue_service *q, struct str delivery_id)
{
	struct ended e = {.at_ms = clock_ms()};

	if (delivery_id.len != sizeof(e.delivery_id))
		return;
	memcpy(e.delivery_id, delivery_id.ptr, sizeof(e.delivery_id));
	vec_push(&q->ended, e);
}

bool repeat_outdated(struct queue_service *q, uint8_t delivery_id_r[16])
{
	if (q->ended_first == q->ended.n || clock_ms() - q->ended.v[q->ended_first].at_ms < KEEP_MS)
		return false;
	memcpy(delivery_id_r, q->ended.v[q->ended_first++].delivery_id, 16);
	if (q->ended_first > 1000 && q->ended_first > q->ended.n / 2) {
		q->ended.n -= q->ended_first;
		memmove(q->ended.v, q->ended.v + q->ended_first, q->ended.n * sizeof(*q->ended.v));
		q->ended_first = 0;
	}
	return true;
}

void repeat_found(struct queue_service *q, struct str key, struct str id)
{
	struct arena arena;
	struct err err = ERR_NONE;
	struct str value;
	char message[QUEUE_KEY_MAX];

	arena_init(&arena);
	if (key.len == 17 && queue_id_ok(id) && kvlog_get(q->k, message_key(id, message), &arena, &value, &err) == 0)
		repeat_ended(q, str_skip(key, 1));
	arena_release(&arena);
}
