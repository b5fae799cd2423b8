/* postqueue, postsuper, postcat, qshape: Postfix's names and options for what `postrider queue` does. */
#include "cmd/queue.h"
#include <getopt.h>
#include <inttypes.h>
#include <unistd.h>

/* What Postfix's programs end with, by which scripts know them. */
#define SUPER_FAILED 1
#define CAT_FAILED   1

static int usage(const char *name, const char *text, int status)
{
	fprintf(stderr, "usage: %s %s\n", name, text);
	return status;
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
		fprintf(stderr, "postqueue: there is no message %s in the queue\n", id);
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
			return usage(name, text, EX_UNAVAILABLE);
		if (opt == 'c')
			dir = optarg;
		else if (opt != 'v')
			mode = mode ? -1 : opt;
		id = opt == 'i' ? optarg : id;
		site = opt == 's' ? optarg : site;
	}
	queue_choice_init(&all);
	if (optind < argc || mode <= 0)
		return usage(name, text, EX_UNAVAILABLE);
	if (mode == 'p')
		return queue_print_list(dir, &all, false);
	return mode == 'j' ? queue_print_lines(dir) : flush(dir, id, site);
}

/* ---- postsuper ---- */

struct deed {
	int opt;
	enum queue_action action;
	const char *done, *each; /* of all, of one */
};

static const struct deed DEEDS[] = {{'d', QUEUE_DELETE, "Deleted", "removed"},
				    {'e', QUEUE_EXPIRE, "Force-expired", "expired"},
				    {'h', QUEUE_HOLD, "Placed on hold", "placed on hold"},
				    {'H', QUEUE_RELEASE, "Released from hold", "released from hold"},
				    {'r', QUEUE_REQUEUE, "Requeued", "requeued"}};

static const struct deed *deed_of(int opt)
{
	size_t i = 0;

	while (DEEDS[i].opt != opt)
		i++;
	return &DEEDS[i];
}

/* What say_each() says, and how often it did: one command runs at a time. */
static const struct deed *under_way;
static uint64_t said;

static void say_each(struct str id)
{
	said++;
	fprintf(stderr, "postsuper: %.*s: %s\n", STR_ARG(id), under_way->each);
}

static void take_id(struct queue_choice *choice, const char *id)
{
	bool good = *id != '\0';

	for (const char *p = id; *p; p++)
		good = good && ascii_alnum(*p);
	if (good)
		vec_push(&choice->ids, id);
	else
		fprintf(stderr, "postsuper: warning: invalid mail queue id: %s\n", id);
}

/* "-": ids on standard input, one a line. */
static void read_ids(struct arena *arena, struct queue_choice *choice)
{
	char line[200];

	while (fgets(line, sizeof(line), stdin))
		take_id(choice, arena_strz(arena, str_trim(str_from(line))));
}

static int super_do(const char *dir, const struct deed *deed, const struct queue_choice *choice)
{
	struct err err = ERR_NONE;
	uint64_t count = 0;

	under_way = deed;
	said = 0;
	if ((choice->all || choice->ids.n > 0) && queue_act_on(dir, deed->action, choice, &count, &err) < 0) {
		failed(&err);
		return SUPER_FAILED;
	}
	count = choice->all ? count : said;
	fprintf(stderr, "postsuper: %s: %" PRIu64 " message%s\n", deed->done, count, count == 1 ? "" : "s");
	return EX_OK;
}

/* "ALL", "ALL deferred" (the name of a queue behind the options), an id, or "-". -f is expired, and off hold. */
static int super_act(const char *dir, int opt, const char *target, unsigned conditions)
{
	struct queue_choice choice;
	struct arena arena;
	int status;

	arena_init(&arena);
	queue_choice_init(&choice);
	choice.conditions = conditions;
	choice.all = strcmp(target, "ALL") == 0;
	choice.each = choice.all ? NULL : say_each;
	if (strcmp(target, "-") == 0)
		read_ids(&arena, &choice);
	else if (!choice.all)
		take_id(&choice, target);
	status = super_do(dir, deed_of(opt == 'f' ? 'e' : opt), &choice);
	if (opt == 'f' && status == EX_OK)
		status = super_do(dir, deed_of('H'), &choice);
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
	static const char text[] = "[-c DIR] [-d | -e | -f | -h | -H | -r ID|ALL|-] ... [hold|active|deferred ...]";
	struct {
		int opt;
		const char *target;
	} todo[64];
	unsigned conditions = 0;
	size_t n = 0;
	int opt, status = EX_OK;

	optind = 0;
	while ((opt = getopt(argc, argv, "c:d:e:f:h:H:r:psSv")) != -1) {
		if (opt == '?' || n == ARRAY_SIZE(todo))
			return usage(name, text, SUPER_FAILED);
		if (opt == 'c') {
			dir = optarg;
		} else if (strchr("defhHr", opt)) {
			todo[n].opt = opt;
			todo[n++].target = optarg;
		} /* -p -s -S: there are no stray files to purge, and no directories to set up */
	}
	if (!take_queues(argc, argv, &conditions))
		return usage(name, text, SUPER_FAILED);
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
			return usage(name, text, CAT_FAILED);
		if (opt == 'c')
			dir = optarg;
		by_id = by_id || opt == 'q';
		what |= opt == 'b'   ? QUEUE_SHOW_BODY
			: opt == 'e' ? QUEUE_SHOW_ENVELOPE
			: opt == 'h' ? QUEUE_SHOW_HEADER
				     : 0;
	}
	if (optind == argc || !by_id)
		return usage(name, text, CAT_FAILED);
	if (what == 0)
		what = QUEUE_SHOW_ENVELOPE | QUEUE_SHOW_HEADER | QUEUE_SHOW_BODY;
	for (int i = optind; i < argc && status == EX_OK; i++)
		status = queue_cat(dir, argv[i], what | QUEUE_SHOW_POSTFIX) == EX_OK ? EX_OK : CAT_FAILED;
	return status;
}

/* ---- qshape ---- */

int qshape_main(const char *name, const char *dir, int argc, char **argv)
{
	static const char text[] = "[-s] [-c DIR] [hold|incoming|active|deferred ...]";
	struct queue_choice choice;
	bool senders = false;
	int opt, status;

	queue_choice_init(&choice);
	optind = 0;
	while ((opt = getopt(argc, argv, "c:s")) != -1) {
		if (opt == '?')
			return usage(name, text, EX_USAGE);
		if (opt == 'c')
			dir = optarg;
		senders = senders || opt == 's';
	}
	if (!take_queues(argc, argv, &choice.conditions))
		return usage(name, text, EX_USAGE);
	/* As the original: what is new or in hand. */
	if (optind == argc)
		choice.conditions = QUEUE_ACTIVE;
	status = queue_print_qshape(dir, &choice, senders);
	queue_choice_release(&choice);
	return status;
}
