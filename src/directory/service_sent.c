/* DIR_SENT: how much users send, and who suddenly sends much more (sending.h). Who is known is counted on the loop; to
 * get to know somebody takes a look into the database, on a thread. */
#include "base/clock.h"
#include "base/log.h"
#include "directory/service_private.h"
#include <inttypes.h>

static struct sending_rules rules_of(const struct conf *conf)
{
	return (struct sending_rules){.factor = conf->submission_surge_factor,
				      .hour_floor = conf->submission_surge_recipients_per_hour,
				      .day_floor = conf->submission_surge_recipients_per_day};
}

static int count(struct directory_service *s, const struct dir_sent *ask, const struct sending_rules *rules)
{
	int result = sending_add(s->sending, ask->user, ask->recipients, rules, clock_wall());

	if (result > 0) {
		log_warning("warning: %.*s sends to far more recipients than ever before (submission_surge_factor)",
			    STR_ARG(ask->user));
		service_save_soon(s);
	}
	return result;
}

static void on_save_time(void *ctx)
{
	struct directory_service *s = ctx;

	s->save_armed = false;
	service_save_soon(s);
}

bool service_sent_early(struct directory_service *s, struct rpc_request *req)
{
	struct sending_rules rules;

	if (!s->save_armed)
		rpc_server_after(s->server, SENDING_SAVE_MS, on_save_time, s);
	s->save_armed = true;
	pthread_mutex_lock(&s->lock);
	rules = rules_of(s->conf);
	pthread_mutex_unlock(&s->lock);
	if (count(s, req->msg, &rules) < 0)
		return false;
	rpc_answer(req, NULL);
	return true;
}

void service_sent(struct work *w)
{
	const struct dir_sent *ask = w->req->msg;
	struct sending_rules rules = rules_of(w->conf);
	struct err err = ERR_NONE;

	if (sending_load(w->service->sending, w->db, ask->user, clock_wall(), &err) < 0)
		log_warning("cannot find out what %.*s usually sends: %s", STR_ARG(ask->user), err.text);
	else
		(void)count(w->service, ask, &rules);
	rpc_answer(w->req, NULL);
}
