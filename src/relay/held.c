/* Which parts this relay has in hand, so that none is begun twice. A queue process that was started anew knows nothing
 * of what the one before had handed out, and hands it out again. What becomes of such a part:
 *
 * - in hand still: nothing is begun; the result of what is under way ends the new claim, too;
 * - let go of during this call: it may have been handed out before its result was there: given back, and claimed again
 *   if it is still due;
 * - neither: it is begun.
 *
 * Only one thread claims. A name let go of is kept until the next call begins: what that brings is the queue's word
 * after the result. */
#include "relay/private.h"

struct hand {
	struct hand *next_left;
	bool left;  /* let go of since the claim under way began */
	bool again; /* claimed again meanwhile */
	char name[HELD_NAME_MAX];
};

static struct str name_of(const struct queue_message *m, uint32_t part, char out[HELD_NAME_MAX])
{
	int n = snprintf(out, HELD_NAME_MAX, "%u/%.*s", part, STR_ARG(str_sub(m->id, 0, HELD_NAME_MAX - 20)));

	return str_of(out, (size_t)n);
}

void held_init(struct held *h)
{
	pthread_mutex_init(&h->lock, NULL);
	h->parts = map_new();
}

void held_release(struct held *h)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(h->parts, &at, &key, &value);)
		free(value);
	map_free(&h->parts);
	pthread_mutex_destroy(&h->lock);
}

void held_claiming(struct held *h)
{
	struct hand *hand;

	pthread_mutex_lock(&h->lock);
	while ((hand = h->left)) {
		h->left = hand->next_left;
		map_remove(h->parts, str_from(hand->name));
		free(hand);
	}
	pthread_mutex_unlock(&h->lock);
}

enum held_as held_take(struct held *h, const struct queue_message *m, uint32_t part)
{
	char out[HELD_NAME_MAX];
	struct str name = name_of(m, part, out);
	enum held_as as = HELD_NEW;
	struct hand *hand;

	pthread_mutex_lock(&h->lock);
	hand = map_get(h->parts, name);
	if (!hand) {
		hand = NEW(struct hand);
		memcpy(hand->name, out, name.len + 1);
		map_set(h->parts, name, hand);
	} else if (hand->left) {
		as = HELD_LEFT;
	} else {
		hand->again = true;
		as = HELD_ALREADY;
	}
	pthread_mutex_unlock(&h->lock);
	return as;
}

bool held_has(struct held *h, const struct queue_message *m, uint32_t part)
{
	char out[HELD_NAME_MAX];
	const struct hand *hand;
	bool has;

	pthread_mutex_lock(&h->lock);
	hand = map_get(h->parts, name_of(m, part, out));
	has = hand && !hand->left;
	pthread_mutex_unlock(&h->lock);
	return has;
}

bool held_leave(struct held *h, const struct queue_message *m, uint32_t part)
{
	char out[HELD_NAME_MAX];
	struct hand *hand;
	bool gone = true;

	pthread_mutex_lock(&h->lock);
	hand = map_get(h->parts, name_of(m, part, out));
	if (hand && hand->again) {
		hand->again = false;
		gone = false;
	} else if (hand) {
		hand->left = true;
		hand->next_left = h->left;
		h->left = hand;
	}
	pthread_mutex_unlock(&h->lock);
	return gone;
}
