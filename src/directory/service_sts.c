/* DIR_STS_GET, DIR_STS_PUT, DIR_STS_DUE: MTA-STS policies, kept for relay. */
#include "directory/service_private.h"

void service_sts_get(struct work *w)
{
	const struct dir_sts_get *ask = w->req->msg;
	/* A command only looks. */
	bool use = ask->use && process_tag_role(rpc_peer_tag(w->req->peer)) == PROCESS_RELAY;
	struct dir_sts answer;
	struct err err = ERR_NONE;

	if (sts_cache_get(w->service->sts, ask->domain, use, &w->req->arena, &answer, &err) < 0)
		rpc_refuse(w->req, &err);
	else
		rpc_answer(w->req, &answer);
}

void service_sts_put(struct work *w)
{
	struct dir_ok answer = {0};
	struct err err = ERR_NONE;

	if (sts_cache_put(w->service->sts, w->req->msg, &err) < 0)
		rpc_refuse(w->req, &err);
	else
		rpc_answer(w->req, &answer);
}

void service_sts_due(struct work *w)
{
	const struct dir_sts_due_ask *ask = w->req->msg;
	struct dir_sts_due answer;
	struct err err = ERR_NONE;

	if (sts_cache_due(w->service->sts, ask->now, &w->req->arena, &answer, &err) < 0)
		rpc_refuse(w->req, &err);
	else
		rpc_answer(w->req, &answer);
}
