/* Delivery to accounts of our own: one STORE_DELIVER for all of an attempt. */
#include "base/clock.h"
#include "base/log.h"
#include "msg/header.h"
#include "os/fault.h"
#include "relay/private.h"

/* Where the recipient stands in d->rcpts, or their count. */
static size_t twin_of(const struct delivery *d, const struct delivery_rcpt *r)
{
	size_t i = 0;

	while (i < d->rcpt_count && !(d->rcpts[i].account == r->account && str_ieq(d->rcpts[i].address, r->address)))
		i++;
	return i;
}

/* Two recipients that lead to one account get one copy: (delivery id, address) is done once. */
static void drop_twins(struct delivery *d)
{
	size_t count = d->rcpt_count;

	d->rcpt_count = 0;
	for (size_t i = 0; i < count; i++)
		if (twin_of(d, &d->rcpts[i]) == d->rcpt_count)
			d->rcpts[d->rcpt_count++] = d->rcpts[i];
}

/* Delivered-To values of the message as it came. */
static void find_loops(struct attempt *a, struct arena *arena, struct delivery *d)
{
	struct str bytes, rest, *list = ARENA_ARRAY(arena, struct str, 100);
	struct header h;
	size_t n = 0;

	if (content_map(&a->content, &bytes, NULL) < 0)
		return;
	rest = bytes;
	while (n < 100 && header_next(&rest, &h))
		if (str_ieq(h.name, STR("Delivered-To")))
			list[n++] = arena_str(arena, str_trim(h.value));
	content_unmap(&a->content, bytes);
	d->delivered_to = list;
	d->delivered_to_count = n;
}

static void take_result(struct attempt *a, const struct delivery_rcpt *r)
{
	bool done = r->state == DELIVERY_DONE, failed = r->state == DELIVERY_FAILED;
	struct attempt_rcpt result = {.outcome = done	  ? OUTCOME_DELIVERED
						 : failed ? OUTCOME_FAILED
							  : OUTCOME_DEFERRED,
				      .code = str_from(r->err.code[0] != '\0' ? r->err.code
						       : failed		      ? "5.0.0"
									      : "4.0.0"),
				      .text = str_from(r->err.text),
				      .mta = STR(""),
				      .said = STR(""),
				      .relay = STR("store"),
				      .program = STR("virtual")};

	if (done) {
		result.code = STR("2.0.0");
		result.text = STR("delivered to mailbox");
	} else {
		result.trouble = trouble_of(result.code, NOTICE_SOFTWARE);
	}
	outcome_merge(a, r->index, &result);
}

void store_job_run(struct job *j)
{
	struct attempt *a = j->attempt;
	const struct queue_message *m = a->message;
	struct relay *r = a->relay;
	struct delivery d = {
		.session = a->session,
		.queue_id = m->id,
		.sender = m->sender,
		.auth_user = m->auth_user,
		.client = m->client,
		.envid = m->envid,
		.ret = m->ret,
		.smtputf8 = m->smtputf8,
		.arrival = m->arrival,
		.verp = m->verp,
		.prefix = m->prefix,
		.fingerprint = STR(""),
		.queued = true,
		.summary = m->summary,
		.content = a->content,
		.rcpts = arena_dup(&j->arena, j->here, j->here_count * sizeof(*j->here)),
		.rcpt_count = j->here_count,
	};
	struct err err = ERR_NONE;

	memcpy(d.id, m->delivery_id.ptr, m->delivery_id.len < sizeof(d.id) ? m->delivery_id.len : sizeof(d.id));
	drop_twins(&d);
	find_loops(a, &j->arena, &d);
	if (d.summary.len == 0 && deliver_prepare(&d, &j->arena, &err) < 0)
		log_warning("%.*s: %s", STR_ARG(m->id), err.text);
	d.fingerprint = a->fingerprint;
	deliver_store(&r->env, &d);
	FAULT_POINT("relay.delivered");
	pthread_mutex_lock(&r->d.lock);
	delivery_done_take(&a->done, &d);
	for (size_t i = 0; i < j->here_count; i++) {
		struct delivery_rcpt *twin = &d.rcpts[twin_of(&d, &j->here[i])], of = *twin;

		of.index = j->here[i].index;
		take_result(a, &of);
	}
	pthread_mutex_unlock(&r->d.lock);
	/* A copy that was made for the store, and not taken; the attempt's own is the attempt's. */
	if (d.content.place == CONTENT_STORE)
		content_drop(&d.content, &r->env);
}
