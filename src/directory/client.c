/* See client.h. */
#include "directory/client.h"

#define TIMEOUT_MS 30000

int directory_ask(struct rpc_channel *directory, const struct dir_lookup *ask, struct arena *arena, struct str *value_r,
		  struct err *err)
{
	struct dir_found found;
	struct rpc_reply hold;
	int rc;

	rpc_reply_init(&hold);
	rc = rpc_call(directory, &DIR_LOOKUP, ask, &found, &hold, true, TIMEOUT_MS, err);
	if (rc == 0 && found.found) {
		*value_r = arena_str(arena, found.value);
		rc = 1;
	}
	rpc_reply_release(&hold);
	return rc;
}

int directory_lookup(void *ctx, struct str parameter, struct str list, struct str key, struct arena *arena,
		     struct str *value_r, struct err *err)
{
	struct dir_lookup ask = {.parameter = parameter, .list = list, .how = LOOKUP_KEY, .key = key};

	return directory_ask(ctx, &ask, arena, value_r, err);
}

int directory_route(struct rpc_channel *directory, struct str sender, struct str recipient, struct arena *arena,
		    struct dir_routed *route_r, struct err *err)
{
	struct dir_route ask = {.sender = sender, .recipient = recipient};
	struct rpc_reply hold;
	int rc;

	rpc_reply_init(&hold);
	rc = rpc_call(directory, &DIR_ROUTE, &ask, route_r, &hold, true, TIMEOUT_MS, err);
	if (rc == 0) {
		route_r->transport = arena_str(arena, route_r->transport);
		route_r->nexthop = arena_str(arena, route_r->nexthop);
		route_r->recipient = arena_str(arena, route_r->recipient);
	}
	rpc_reply_release(&hold);
	return rc;
}
