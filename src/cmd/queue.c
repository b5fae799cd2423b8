/* postrider queue: what was accepted and waits: list, show, flush (try again now), hold, release, requeue, delete. */
#include "cmd/queue.h"
#include <inttypes.h>

static int list(struct cmd *c)
{
	struct queue_choice choice;
	bool destinations = false, ages = false;
	int kept = 1, status;

	queue_choice_init(&choice);
	for (int i = 1; i < c->argc; i++) {
		if (strcmp(c->argv[i], "--by-destination") == 0)
			destinations = true;
		else if (strcmp(c->argv[i], "--by-age") == 0)
			ages = true;
		else
			c->argv[kept++] = c->argv[i];
	}
	if (destinations && ages)
		status = cmd_error(EX_USAGE, "choose one of --by-destination and --by-age");
	else if (!queue_choice_parse(&choice, kept - 1, c->argv + 1))
		status = EX_USAGE;
	else if (destinations)
		status = queue_print_destinations(c->dir, &choice, c->json);
	else if (ages)
		status = queue_print_ages(c->dir, &choice, c->json);
	else
		status = queue_print_list(c->dir, &choice, c->json);
	queue_choice_release(&choice);
	return status;
}

static int done(const struct cmd *c, const struct queue_choice *choice, uint64_t count)
{
	/* Who names one message wants to hear that there is none. */
	if (count == 0 && choice->ids.n == 1)
		return cmd_error(EX_DATAERR, "there is no message %s in the queue", choice->ids.v[0]);
	if (count == 0 && choice->ids.n > 1)
		return cmd_error(EX_DATAERR, "none of these %zu messages is in the queue", (size_t)choice->ids.n);
	if (c->json)
		printf("{\"count\": %" PRIu64 "}\n", count);
	else
		printf("%" PRIu64 " message%s\n", count, count == 1 ? "" : "s");
	return EX_OK;
}

/* Doing it to all is for one who says so; only a flush is harmless. */
static int act(struct cmd *c, enum queue_action action)
{
	struct queue_choice choice;
	struct err err = ERR_NONE;
	uint64_t count;
	int status;

	queue_choice_init(&choice);
	if (!queue_choice_parse(&choice, c->argc - 1, c->argv + 1))
		status = EX_USAGE;
	else if (queue_choice_is_empty(&choice) && action != QUEUE_FLUSH)
		status = cmd_usage(c);
	else if (queue_act_on(c->dir, action, &choice, &count, &err) < 0)
		status = cmd_error(cmd_status_of(&err), "%s", err.text);
	else
		status = done(c, &choice, count);
	queue_choice_release(&choice);
	return status;
}

int cmd_queue(struct cmd *c)
{
	static const struct {
		const char *verb;
		enum queue_action action;
	} actions[] = {{"flush", QUEUE_FLUSH},	   {"hold", QUEUE_HOLD},     {"release", QUEUE_RELEASE},
		       {"requeue", QUEUE_REQUEUE}, {"expire", QUEUE_EXPIRE}, {"delete", QUEUE_DELETE}};
	const char *verb = c->argc > 0 ? c->argv[0] : "";

	if (strcmp(verb, "list") == 0)
		return list(c);
	if (strcmp(verb, "show") == 0 && c->argc == 2)
		return queue_show(c->dir, c->argv[1], c->json);
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		if (strcmp(verb, actions[i].verb) == 0)
			return act(c, actions[i].action);
	return cmd_usage(c);
}
