/* QUEUE_SUMMARY: how much waits. Ids sort by arrival, so the oldest message stands first. */
#include "queue/service_private.h"

#include "base/clock.h"

#define LOOK_MAX 2000 /* messages that do not count in front of the oldest one that does */

struct summing {
	struct arena *scratch;
	struct queue_summary sum;
	uint64_t max;
	bool found;
};

/* Alarm mail itself, and what waits because its sender wanted that, is no sign of trouble. */
static bool counts(const struct queue_message *m)
{
	return !str_eq(m->client, STR(QUEUE_CLIENT_ALERT)) && m->hold_until <= (uint64_t)clock_wall();
}

static int count_one(void *ctx, struct str key, struct str value)
{
	struct summing *s = ctx;
	struct queued m;

	(void)key;
	s->sum.messages++;
	if (!s->found && s->sum.messages <= LOOK_MAX && message_head_decode(value, s->scratch, &m, NULL) == 0 &&
	    counts(&m.m)) {
		s->sum.oldest = queue_message_since(&m.m);
		s->found = true;
	}
	arena_clear(s->scratch);
	return s->sum.messages >= s->max;
}

void queue_handle_summary(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_summary_ask *ask = req->msg;
	struct arena scratch;
	struct summing s = {.scratch = &scratch, .max = ask->max ? ask->max : 1};
	struct err err = ERR_NONE;

	arena_init(&scratch);
	if (kvlog_range(q->k, STR("M"), STR("N"), false, count_one, &s, &err) < 0)
		rpc_refuse(req, &err);
	else
		rpc_answer(req, &s.sum);
	arena_release(&scratch);
}
