/* QUEUE_SUMMARY: how much waits. Ids sort by arrival, so the oldest message stands first. */
#include "queue/service_private.h"

#define LOOK_MAX 64 /* alarm mails in front of the oldest message that is none */

struct summing {
	struct rpc_request *req;
	struct queue_summary sum;
	uint64_t max;
	bool found;
};

static int count_one(void *ctx, struct str key, struct str value)
{
	struct summing *s = ctx;
	struct queued m;

	(void)key;
	s->sum.messages++;
	if (!s->found && s->sum.messages <= LOOK_MAX &&
	    message_head_decode(arena_str(&s->req->arena, value), &s->req->arena, &m, NULL) == 0 &&
	    !str_eq(m.m.client, STR(QUEUE_CLIENT_ALERT))) {
		s->sum.oldest = m.m.arrival;
		s->found = true;
	}
	return s->sum.messages >= s->max;
}

void queue_handle_summary(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_summary_ask *ask = req->msg;
	struct summing s = {.req = req, .max = ask->max ? ask->max : 1};
	struct err err = ERR_NONE;

	if (kvlog_range(q->k, STR("M"), STR("N"), false, count_one, &s, &err) < 0)
		rpc_refuse(req, &err);
	else
		rpc_answer(req, &s.sum);
}
