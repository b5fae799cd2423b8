/* client - one a process: the channel to the store, and what its events do to the views. */
#include "store/shared.h"

/* Longer than any answer takes unless the store is down: callers then see a temporary error. */
#define CALL_TIMEOUT_MS 30000

static void on_event(void *ctx, uint16_t number, const void *msg)
{
	if (number == STORE_CHANGES.number)
		shared_changes(ctx, msg);
}

static void on_link(void *ctx, bool up)
{
	if (up)
		shared_all_stale(ctx);
}

struct store_client *store_client_new(struct engine *engine)
{
	struct store_client *c = NEW(struct store_client);

	c->engine = engine;
	pthread_mutex_init(&c->lock, NULL);
	c->shared = map_new();
	c->channel = rpc_channel_new("store", STORE_CALLS);
	rpc_channel_on_event(c->channel, on_event, c);
	rpc_channel_on_link(c->channel, on_link, c);
	return c;
}

void store_client_free(struct store_client **cp)
{
	struct store_client *c = *cp;

	*cp = NULL;
	if (!c)
		return;
	rpc_channel_free(&c->channel);     /* ends the reader thread: no event comes after this */
	map_free(&c->shared);
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
	return rpc_call(c->channel, call, request, reply_r, hold, repeatable(call), CALL_TIMEOUT_MS, err);
}
