/* DIR_ROUTE: by which transport mail travels. */
#include "directory/route.h"
#include "directory/service_private.h"

void service_route(struct work *w)
{
	const struct dir_route *ask = w->req->msg;
	struct router router = {.db = w->db, .finder = {.set = w->tables, .conf = w->conf, .arena = &w->req->arena}};
	struct dir_routed answer = {0};
	struct err err = ERR_NONE;
	struct route found;

	if (route(&router, ask->sender, ask->recipient, &found, &err) < 0) {
		rpc_refuse(w->req, &err);
		return;
	}
	answer.class = (uint8_t)found.class;
	answer.transport = found.transport;
	answer.nexthop = found.nexthop;
	answer.recipient = found.recipient;
	rpc_answer(w->req, &answer);
}
