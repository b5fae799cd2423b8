/* postrider queue: what was accepted and waits: list, show, flush (try again now), delete. */
#include "cmd/control.h"
#include <inttypes.h>
#include <jansson.h>
#include <time.h>

#define QUEUE_TIMEOUT_MS 60000
#define PAGE		 200

static struct str sender_text(const struct queue_message *m)
{
	return m->sender.len ? m->sender : STR("MAILER-DAEMON");
}

static void print_message(const struct queue_message *m)
{
	time_t arrival = (time_t)m->arrival;
	char when[40];
	struct tm tm;

	localtime_r(&arrival, &tm);
	strftime(when, sizeof(when), "%a %b %e %H:%M:%S", &tm);
	printf("%-15.*s %10" PRIu64 " %s  %.*s\n", STR_ARG(m->id), m->size, when, STR_ARG(sender_text(m)));
	for (size_t i = 0; i < m->rcpts.n; i++) {
		const struct queue_rcpt *r = &m->rcpts.v[i];

		if (r->last_text.len)
			printf("%16s(%.*s)\n", "", STR_ARG(r->last_text));
		printf("%16s%.*s\n", "", STR_ARG(r->address));
	}
	putchar('\n');
}

static json_t *json_str(struct str s)
{
	json_t *text = json_stringn(s.ptr ? s.ptr : "", s.len);

	return text ? text : json_string("(not UTF-8)");
}

static json_t *message_json(const struct queue_message *m)
{
	json_t *rcpts = json_array();

	for (size_t i = 0; i < m->rcpts.n; i++) {
		const struct queue_rcpt *r = &m->rcpts.v[i];

		json_array_append_new(rcpts, json_pack("{s:o, s:I, s:o, s:o}", "address", json_str(r->address),
						       "attempts", (json_int_t)r->attempts, "code",
						       json_str(r->last_code), "reason", json_str(r->last_text)));
	}
	return json_pack("{s:o, s:o, s:I, s:I, s:o}", "id", json_str(m->id), "sender", json_str(m->sender), "arrival",
			 (json_int_t)m->arrival, "size", (json_int_t)m->size, "recipients", rcpts);
}

struct listing {
	const char *only; /* this id, or NULL */
	json_t *json;	  /* or NULL: text */
	uint64_t count, bytes;
};

static void take_page(struct listing *l, const struct queue_listed *page)
{
	for (size_t i = 0; i < page->messages.n; i++) {
		const struct queue_message *m = &page->messages.v[i];

		if (l->only && !str_eq(m->id, str_from(l->only)))
			continue;
		l->count++;
		l->bytes += m->size;
		if (l->json)
			json_array_append_new(l->json, message_json(m));
		else
			print_message(m);
	}
}

/* Page after page. 0 or -1. */
static int walk(const struct cmd *c, struct listing *l, struct err *err)
{
	char after[64] = "";
	bool more = true;

	while (more) {
		struct queue_list request = {.after = str_from(after), .max = PAGE};
		struct queue_listed page;
		struct rpc_reply hold;

		if (control_call(c->dir, &CONTROL_QUEUE_LIST, &request, &page, &hold, QUEUE_TIMEOUT_MS, err) < 0) {
			rpc_reply_release(&hold);
			return -1;
		}
		take_page(l, &page);
		more = page.messages.n == PAGE;
		if (more)
			snprintf(after, sizeof(after), "%.*s", STR_ARG(page.messages.v[PAGE - 1].id));
		rpc_reply_release(&hold);
	}
	return 0;
}

static int list(struct cmd *c, const char *only)
{
	struct listing l = {.only = only, .json = c->json ? json_array() : NULL};
	struct err err = ERR_NONE;
	int status = EX_OK;

	if (walk(c, &l, &err) < 0)
		status = cmd_error(cmd_status_of(&err), "%s", err.text);
	else if (only && l.count == 0)
		status = cmd_error(EX_DATAERR, "there is no message %s in the queue", only);
	else if (l.json)
		json_dumpf(l.json, stdout, JSON_INDENT(2));
	else if (l.count == 0)
		puts("Mail queue is empty");
	else if (only == NULL)
		printf("-- %" PRIu64 " Kbytes in %" PRIu64 " Request%s.\n", (l.bytes + 1023) / 1024, l.count,
		       l.count == 1 ? "" : "s");
	if (l.json && status == EX_OK)
		putchar('\n');
	json_decref(l.json);
	return status;
}

static int act(struct cmd *c, enum queue_action action, const char *id)
{
	struct queue_act request = {.action = (uint8_t)action, .id = str_from(id)};
	struct queue_acted reply;
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	int status = EX_OK;

	if (control_call(c->dir, &CONTROL_QUEUE_ACT, &request, &reply, &hold, QUEUE_TIMEOUT_MS, &err) < 0)
		/* "Not found" with a code is said by the queue of the message; without, by us of the system. */
		status = err.kind == ERR_NOT_FOUND && err.code[0] && id
				 ? cmd_error(EX_DATAERR, "there is no message %s in the queue", id)
				 : cmd_error(cmd_status_of(&err), "%s", err.text);
	else if (id && reply.count == 0)
		status = cmd_error(EX_DATAERR, "there is no message %s in the queue", id);
	else if (c->json)
		printf("{\"count\": %" PRIu64 "}\n", reply.count);
	else
		printf("%" PRIu64 " message%s\n", reply.count, reply.count == 1 ? "" : "s");
	rpc_reply_release(&hold);
	return status;
}

int cmd_queue(struct cmd *c)
{
	const char *verb = c->argc > 0 ? c->argv[0] : "", *id = c->argc > 1 ? c->argv[1] : NULL;

	if (strcmp(verb, "list") == 0 && c->argc == 1)
		return list(c, NULL);
	if (strcmp(verb, "show") == 0 && c->argc == 2)
		return list(c, id);
	if (strcmp(verb, "flush") == 0 && c->argc <= 2)
		return act(c, QUEUE_FLUSH, id);
	/* Deleting all is for one who says so. */
	if (strcmp(verb, "delete") == 0 && c->argc == 2)
		return act(c, QUEUE_DELETE, strcmp(id, "ALL") == 0 ? NULL : id);
	return cmd_usage(c);
}
