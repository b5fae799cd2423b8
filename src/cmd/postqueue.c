/* postqueue, postsuper, postcat: Postfix's names and options for what `postrider queue` does. */
#include "cmd/queue.h"
#include <getopt.h>
#include <inttypes.h>
#include <unistd.h>

static int usage(const char *name, const char *text)
{
	fprintf(stderr, "usage: %s %s\n", name, text);
	return EX_USAGE;
}

static int failed(const struct err *err)
{
	return cmd_error(cmd_status_of(err), "%s", err->text);
}

/* ---- postqueue ---- */

static int flush(const char *dir, const char *id, const char *site)
{
	struct queue_choice choice;
	struct err err = ERR_NONE;
	uint64_t count;
	int status = EX_OK;

	queue_choice_init(&choice);
	choice.destination = site;
	if (id)
		vec_push(&choice.ids, id);
	if (queue_act_on(dir, QUEUE_FLUSH, &choice, &count, &err) < 0)
		status = failed(&err);
	else if (id && count == 0)
		status = cmd_error(EX_DATAERR, "there is no message %s in the queue", id);
	queue_choice_release(&choice);
	return status;
}

int postqueue_main(const char *name, const char *dir, int argc, char **argv)
{
	static const char text[] = "[-c DIR] -p | -j | -f | -i ID | -s SITE";
	const char *id = NULL, *site = NULL;
	struct queue_choice all;
	int opt, mode = 0;

	optind = 0;
	while ((opt = getopt(argc, argv, "c:pjfi:s:v")) != -1) {
		if (opt == '?')
			return usage(name, text);
		if (opt == 'c')
			dir = optarg;
		else if (opt != 'v')
			mode = mode ? -1 : opt;
		id = opt == 'i' ? optarg : id;
		site = opt == 's' ? optarg : site;
	}
	queue_choice_init(&all);
	if (optind < argc || mode <= 0)
		return usage(name, text);
	if (mode == 'p')
		return queue_print_list(dir, &all, false);
	return mode == 'j' ? queue_print_lines(dir) : flush(dir, id, site);
}

/* ---- postsuper ---- */

/* "ALL", "ALL deferred" (the name of a queue behind the options), an id, or "-": ids on standard input. */
static int read_ids(struct arena *arena, struct queue_choice *choice)
{
	char line[200];

	while (fgets(line, sizeof(line), stdin)) {
		struct str id = str_trim(str_from(line));

		if (id.len > 0)
			vec_push(&choice->ids, arena_strz(arena, id));
	}
	return choice->ids.n > 0;
}

static int super_act(const char *dir, int opt, const char *target, unsigned conditions)
{
	static const struct {
		int opt;
		enum queue_action action;
		const char *word;
	} table[] = {{'d', QUEUE_DELETE, "Deleted"},
		     {'h', QUEUE_HOLD, "Placed on hold"},
		     {'H', QUEUE_RELEASE, "Released from hold"},
		     {'r', QUEUE_REQUEUE, "Requeued"}};
	struct queue_choice choice;
	struct err err = ERR_NONE;
	struct arena arena;
	uint64_t count = 0;
	size_t i = 0;
	int status = EX_OK;
	bool some = true;

	while (table[i].opt != opt)
		i++;
	arena_init(&arena);
	queue_choice_init(&choice);
	choice.conditions = conditions;
	if (strcmp(target, "-") == 0)
		some = read_ids(&arena, &choice);
	else if (strcmp(target, "ALL") == 0)
		choice.all = true;
	else
		vec_push(&choice.ids, target);
	if (some && queue_act_on(dir, table[i].action, &choice, &count, &err) < 0)
		status = failed(&err);
	else if (count > 0)
		fprintf(stderr, "postsuper: %s: %" PRIu64 " message%s\n", table[i].word, count, count == 1 ? "" : "s");
	queue_choice_release(&choice);
	arena_release(&arena);
	return status;
}

/* The queues named behind the options: hold, incoming, active, deferred. */
static bool take_queues(int argc, char **argv, unsigned *conditions)
{
	for (int i = optind; i < argc; i++) {
		if (strcmp(argv[i], "hold") == 0)
			*conditions |= QUEUE_ON_HOLD;
		else if (strcmp(argv[i], "active") == 0)
			*conditions |= QUEUE_ACTIVE;
		else if (strcmp(argv[i], "deferred") == 0 || strcmp(argv[i], "incoming") == 0)
			*conditions |= QUEUE_DEFERRED;
		else
			return false;
	}
	return true;
}

int postsuper_main(const char *name, const char *dir, int argc, char **argv)
{
	static const char text[] = "[-c DIR] [-d | -h | -H | -r ID|ALL|-] ... [hold|active|deferred ...]";
	struct {
		int opt;
		const char *target;
	} todo[64];
	unsigned conditions = 0;
	size_t n = 0;
	int opt, status = EX_OK;

	optind = 0;
	while ((opt = getopt(argc, argv, "c:d:h:H:r:psSv")) != -1) {
		if (opt == '?' || n == ARRAY_SIZE(todo))
			return usage(name, text);
		if (opt == 'c') {
			dir = optarg;
		} else if (strchr("dhHr", opt)) {
			todo[n].opt = opt;
			todo[n++].target = optarg;
		} /* -p -s -S: there are no stray files to purge, and no directories to set up */
	}
	if (!take_queues(argc, argv, &conditions))
		return usage(name, text);
	for (size_t i = 0; i < n && status == EX_OK; i++)
		status = super_act(dir, todo[i].opt, todo[i].target, conditions);
	return status;
}

/* ---- postcat ---- */

int postcat_main(const char *name, const char *dir, int argc, char **argv)
{
	static const char text[] = "[-c DIR] [-beh] -q ID ...";
	unsigned what = 0;
	bool by_id = false;
	int opt, status = EX_OK;

	optind = 0;
	while ((opt = getopt(argc, argv, "c:bdehoqrsv")) != -1) {
		if (opt == '?')
			return usage(name, text);
		if (opt == 'c')
			dir = optarg;
		by_id = by_id || opt == 'q';
		what |= opt == 'b'   ? QUEUE_SHOW_BODY
			: opt == 'e' ? QUEUE_SHOW_ENVELOPE
			: opt == 'h' ? QUEUE_SHOW_HEADER
				     : 0;
	}
	if (optind == argc || !by_id)
		return usage(name, text);
	if (what == 0)
		what = QUEUE_SHOW_ENVELOPE | QUEUE_SHOW_HEADER | QUEUE_SHOW_BODY;
	for (int i = optind; i < argc && status == EX_OK; i++)
		status = queue_cat(dir, argv[i], what);
	return status;
}
