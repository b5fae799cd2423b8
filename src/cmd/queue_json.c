#include "cmd/queue_json.h"

json_t *queue_json_entry(const struct queue_entry *e)
{
	const struct queue_message *m = e->m;
	json_t *rcpts = json_array(), *json;
	json_t *due = e->due >= QUEUE_HELD ? json_null() : json_integer((json_int_t)e->due);

	for (size_t i = 0; i < m->rcpts.n; i++) {
		const struct queue_rcpt *r = &m->rcpts.v[i];

		json_array_append_new(rcpts, json_pack("{s:o, s:I, s:o, s:o}", "address", json_of(r->address),
						       "attempts", (json_int_t)r->attempts, "code",
						       json_of(r->last_code), "reason", json_of(r->last_text)));
	}
	json = json_pack("{s:o, s:o, s:I, s:I, s:s, s:o, s:o}", "id", json_of(m->id), "sender", json_of(m->sender),
			 "arrival", (json_int_t)m->arrival, "size", (json_int_t)m->size, "state",
			 queue_condition_name(e->condition), "due", due, "recipients", rcpts);
	if (e->waits)
		json_object_set_new(json, "hold_until", json_integer((json_int_t)m->hold_until));
	if (m->by_mode)
		json_object_set_new(json, "deliver_by", json_integer((json_int_t)m->by_time));
	return json;
}

json_t *queue_json_postfix(const struct queue_entry *e)
{
	const struct queue_message *m = e->m;
	json_t *rcpts = json_array();

	for (size_t i = 0; i < m->rcpts.n; i++) {
		const struct queue_rcpt *r = &m->rcpts.v[i];
		json_t *rcpt = json_pack("{s:o}", "address", json_of(r->address));

		if (r->last_text.len)
			json_object_set_new(rcpt, "delay_reason", json_of(r->last_text));
		json_array_append_new(rcpts, rcpt);
	}
	return json_pack("{s:s, s:o, s:I, s:I, s:b, s:o, s:o}", "queue_name", queue_condition_name(e->condition),
			 "queue_id", json_of(m->id), "arrival_time", (json_int_t)m->arrival, "message_size",
			 (json_int_t)m->size, "forced_expire", (m->marks & MARK_EXPIRED) != 0, "sender",
			 m->sender.len ? json_of(m->sender) : json_string("MAILER-DAEMON"), "recipients", rcpts);
}

void queue_json_print(json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(value);
}
