/* client - see client.h. */
#include "queue/client.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/vec.h"
#include <pthread.h>

/* A queue that is away is started at once; mail does not wait for one that does not come. */
#define ASK_MS	     5000
#define ASK_AGAIN_MS 5000
/* The queue writes within seconds what it hears; what it had not when it died is told again to the next one. */
#define HEARD_KEEP_MS 30000
#define HEARD_MAX     20000

struct heard {
	uint8_t id[16];
	int64_t at_ms;
};

struct queue_client {
	struct rpc_channel *channel;
	pthread_mutex_t lock;
	struct map *orphans; /* fingerprints; under lock, as all below */
	uint64_t generation; /* of the channel when they were fetched */
	bool stale;
	int64_t failed_ms; /* when they could not be fetched */
	VEC(struct heard) heard;
};

/* ---- heard ---- */

static int heard_send(struct queue_client *c, const uint8_t id[16], bool heard)
{
	struct queue_heard msg = {.delivery_id = str_of(id, 16), .heard = heard};

	return rpc_send_later(c->channel, &QUEUE_HEARD, &msg);
}

/* Under the lock. Some go at once, so that the list is not moved up for each. */
static void heard_trim(struct queue_client *c)
{
	size_t old = 0;

	while (old < c->heard.n && (clock_ms() - c->heard.v[old].at_ms > HEARD_KEEP_MS || c->heard.n - old > HEARD_MAX))
		old++;
	if (old == 0 || (old < 1000 && old < c->heard.n / 2))
		return;
	c->heard.n -= old;
	memmove(c->heard.v, c->heard.v + old, c->heard.n * sizeof(*c->heard.v));
}

void queue_heard(struct queue_client *c, const uint8_t delivery_id[16], bool heard)
{
	struct heard h = {.at_ms = clock_ms()};

	memcpy(h.id, delivery_id, sizeof(h.id));
	pthread_mutex_lock(&c->lock);
	heard_trim(c);
	if (heard)
		vec_push(&c->heard, h);
	else
		c->stale = true;
	pthread_mutex_unlock(&c->lock);
	(void)!heard_send(c, delivery_id, heard);
}

static void on_link(void *ctx, bool up)
{
	struct queue_client *c = ctx;

	if (!up)
		return;
	pthread_mutex_lock(&c->lock);
	heard_trim(c);
	for (size_t i = 0; i < c->heard.n && heard_send(c, c->heard.v[i].id, true) == 0; i++)
		;
	pthread_mutex_unlock(&c->lock);
}

/* ---- orphans ---- */

/* Under the lock. */
static bool is_fresh(const struct queue_client *c)
{
	return !c->stale && c->generation == rpc_channel_generation(c->channel);
}

static void orphans_take(struct queue_client *c, const struct queue_orphans *list, uint64_t generation)
{
	pthread_mutex_lock(&c->lock);
	map_free(&c->orphans);
	c->orphans = map_new();
	for (size_t i = 0; i < list->fingerprints.n; i++)
		map_set(c->orphans, list->fingerprints.v[i].fingerprint, c);
	/* A full list does not say all. */
	c->stale = c->stale || list->fingerprints.n == QUEUE_ORPHANS_MAX;
	c->generation = generation;
	pthread_mutex_unlock(&c->lock);
}

static int orphans_fetch(struct queue_client *c, struct err *err)
{
	uint64_t generation = rpc_channel_generation(c->channel);
	struct queue_ok ask = {0};
	struct queue_orphans list;
	struct rpc_reply hold;
	int rc;

	pthread_mutex_lock(&c->lock);
	if (c->failed_ms && clock_ms() - c->failed_ms < ASK_AGAIN_MS && !rpc_channel_connected(c->channel)) {
		pthread_mutex_unlock(&c->lock);
		return err_set(err, ERR_TEMP, "4.3.0", "the queue is away");
	}
	c->stale = false; /* what ends from here on is told later than we ask, or is in the answer */
	pthread_mutex_unlock(&c->lock);
	rpc_reply_init(&hold);
	rc = rpc_call(c->channel, &QUEUE_ORPHANS, &ask, &list, &hold, true, ASK_MS, err);
	if (rc == 0)
		orphans_take(c, &list, generation);
	rpc_reply_release(&hold);
	pthread_mutex_lock(&c->lock);
	c->failed_ms = rc < 0 ? clock_ms() : 0;
	c->stale = c->stale || rc < 0;
	pthread_mutex_unlock(&c->lock);
	return rc;
}

int queue_known_find(struct queue_client *c, struct str fingerprint, struct queue_known *known_r,
		     struct rpc_reply *hold, struct err *err)
{
	struct queue_fingerprint ask = {fingerprint};
	bool fresh, fits;

	*known_r = (struct queue_known){0};
	pthread_mutex_lock(&c->lock);
	fresh = is_fresh(c);
	pthread_mutex_unlock(&c->lock);
	if (!fresh && orphans_fetch(c, err) < 0)
		return -1;
	pthread_mutex_lock(&c->lock);
	fits = map_get(c->orphans, fingerprint) != NULL;
	pthread_mutex_unlock(&c->lock);
	return fits ? rpc_call(c->channel, &QUEUE_KNOWN, &ask, known_r, hold, true, ASK_MS, err) : 0;
}

/* ---- what comes too late ---- */

void queue_came_late(struct rpc_channel *c, uint16_t number, const void *reply)
{
	struct queue_blob drop = {.fd = -1};

	if (number != QUEUE_BLOB_BEGIN.number)
		return;
	drop.blob = ((const struct queue_blob *)reply)->blob;
	(void)!rpc_send(c, &QUEUE_BLOB_DROP, &drop);
}

static void came_late(void *ctx, uint16_t number, const void *reply)
{
	struct queue_client *c = ctx;

	queue_came_late(c->channel, number, reply);
}

/* ---- life ---- */

struct queue_client *queue_client_new(void)
{
	struct queue_client *c = NEW(struct queue_client);

	pthread_mutex_init(&c->lock, NULL);
	c->orphans = map_new();
	c->stale = true;
	c->channel = rpc_channel_new("queue", QUEUE_CALLS);
	rpc_channel_on_link(c->channel, on_link, c);
	rpc_channel_on_late(c->channel, came_late, c);
	return c;
}

void queue_client_free(struct queue_client **cp)
{
	struct queue_client *c = *cp;

	*cp = NULL;
	if (!c)
		return;
	rpc_channel_free(&c->channel);
	map_free(&c->orphans);
	vec_release(&c->heard);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

struct rpc_channel *queue_client_channel(struct queue_client *c)
{
	return c->channel;
}
