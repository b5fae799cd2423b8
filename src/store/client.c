/* client - one a process: the channel to the store, and what its events do to the views. */
#include "base/clock.h"
#include "store/shared.h"

/* Longer than any answer takes unless the store is down: callers then see a temporary error. */
#define CALL_TIMEOUT_MS 30000

static void on_event(void *ctx, uint16_t number, const void *msg)
{
	if (number == STORE_CHANGES.number)
		shared_changes(ctx, msg);
}

/* ---- confirmations ---- */

/* The store strikes off within seconds; what it had not when it died is told again to the next one. An identical
 * message must not be taken for a sender's second try because of that. */
#define CONFIRMED_KEEP_MS 30000
#define CONFIRMED_MAX	  20000

static int confirm_send(struct store_client *c, const uint8_t id[16], const struct store_id *accounts, size_t count)
{
	struct store_confirm msg = {.delivery_id = str_of(id, 16)};

	msg.accounts.v = (struct store_id *)(uintptr_t)accounts;
	msg.accounts.n = count;
	return rpc_send_later(c->channel, &STORE_CONFIRM, &msg);
}

/* Under the lock. Some go at once, so that the list is not moved up for each. */
static void confirmed_trim(struct store_client *c)
{
	size_t old = 0;

	while (old < c->confirmed.n &&
	       (clock_ms() - c->confirmed.v[old]->at_ms > CONFIRMED_KEEP_MS || c->confirmed.n - old > CONFIRMED_MAX))
		old++;
	if (old == 0 || (old < 1000 && old < c->confirmed.n / 2))
		return;
	for (size_t i = 0; i < old; i++)
		free(c->confirmed.v[i]);
	c->confirmed.n -= old;
	memmove(c->confirmed.v, c->confirmed.v + old, c->confirmed.n * sizeof(*c->confirmed.v));
}

void store_confirm_delivery(struct store_client *c, const uint8_t delivery_id[16], const struct store_id *accounts,
			    size_t count)
{
	struct confirmed_delivery *d = mem_alloc(sizeof(*d) + count * sizeof(*accounts));

	d->at_ms = clock_ms();
	memcpy(d->id, delivery_id, sizeof(d->id));
	d->account_count = count;
	if (count > 0)
		memcpy(d->accounts, accounts, count * sizeof(*accounts));
	pthread_mutex_lock(&c->confirmed_lock);
	confirmed_trim(c);
	vec_push(&c->confirmed, d);
	pthread_mutex_unlock(&c->confirmed_lock);
	(void)!confirm_send(c, delivery_id, accounts, count);
}

/* A connection that is gone takes with it what was not confirmed over it: the store knows then. */
void store_unheard_delivery(struct store_client *c, const uint8_t delivery_id[16])
{
	struct store_confirm msg = {.delivery_id = str_of(delivery_id, 16), .unheard = 1};

	(void)!rpc_send(c->channel, &STORE_CONFIRM, &msg);
}

static void confirm_again(struct store_client *c)
{
	pthread_mutex_lock(&c->confirmed_lock);
	confirmed_trim(c);
	for (size_t i = 0; i < c->confirmed.n; i++) {
		const struct confirmed_delivery *d = c->confirmed.v[i];

		if (confirm_send(c, d->id, d->accounts, d->account_count) < 0)
			break;
	}
	pthread_mutex_unlock(&c->confirmed_lock);
}

static void on_link(void *ctx, bool up)
{
	if (!up)
		return;
	shared_all_stale(ctx);
	confirm_again(ctx);
}

/* Nobody else knows of it, and it would take up room in the spool for as long as we are connected. */
static void came_late(void *ctx, uint16_t number, const void *reply)
{
	struct store_client *c = ctx;
	struct blob_drop drop;

	if (number != STORE_BLOB_BEGIN.number)
		return;
	drop = (struct blob_drop){.blob = ((const struct blob *)reply)->blob};
	(void)!rpc_send(c->channel, &STORE_BLOB_DROP, &drop);
}

/* ---- life ---- */

struct store_client *store_client_new(struct engine *engine)
{
	struct store_client *c = NEW(struct store_client);

	c->engine = engine;
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->confirmed_lock, NULL);
	c->shared = map_new();
	c->channel = rpc_channel_new("store", STORE_CALLS);
	rpc_channel_on_event(c->channel, on_event, c);
	rpc_channel_on_link(c->channel, on_link, c);
	rpc_channel_on_late(c->channel, came_late, c);
	return c;
}

void store_client_free(struct store_client **cp)
{
	struct store_client *c = *cp;

	*cp = NULL;
	if (!c)
		return;
	rpc_channel_free(&c->channel); /* ends the reader thread: no event comes after this */
	map_free(&c->shared);
	for (size_t i = 0; i < c->confirmed.n; i++)
		free(c->confirmed.v[i]);
	vec_release(&c->confirmed);
	pthread_mutex_destroy(&c->confirmed_lock);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

struct rpc_channel *store_client_channel(struct store_client *c)
{
	return c->channel;
}

/* Sent again over a new channel: what only reads, and what carries an id by which the store knows it again. */
static bool repeatable(const struct rpc_call *call)
{
	return call->number != STORE_BLOB_BEGIN.number && call->number != STORE_BLOB_FINISH.number;
}

int store_call(struct store_client *c, const struct rpc_call *call, const void *request, void *reply_r,
	       struct rpc_reply *hold, struct err *err)
{
	return store_call_within(c, call, request, reply_r, hold, CALL_TIMEOUT_MS, err);
}

int store_call_within(struct store_client *c, const struct rpc_call *call, const void *request, void *reply_r,
		      struct rpc_reply *hold, int64_t timeout_ms, struct err *err)
{
	return rpc_call(c->channel, call, request, reply_r, hold, repeatable(call), timeout_ms, err);
}
