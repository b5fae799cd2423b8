/* Page after page of the queue, and acting on what was chosen. */
#include "base/clock.h"
#include "base/mem.h"
#include "cmd/control.h"
#include "cmd/progress.h"
#include "cmd/queue.h"
#include <time.h>

#define QUEUE_TIMEOUT_MS 60000
#define PAGE		 1000
#define ACT_BATCH	 1000

const char *queue_condition_name(enum queue_condition c)
{
	return c == QUEUE_ACTIVE ? "active" : c == QUEUE_ON_HOLD ? "hold" : "deferred";
}

const char *queue_waits_text(const struct queue_entry *e, char out[100])
{
	time_t due = (time_t)e->due;
	char when[40];
	struct tm tm;

	localtime_r(&due, &tm);
	strftime(when, sizeof(when), "%a %b %e %H:%M:%S %Y", &tm);
	snprintf(out, 100, "held until %s, as its sender asked", when);
	return out;
}

static struct queue_entry entry_of(const struct queue_listed *page, size_t i)
{
	struct queue_entry e = {.m = &page->messages.v[i], .condition = QUEUE_DEFERRED};

	if (i < page->states.n) {
		e.due = page->states.v[i].due;
		e.condition = page->states.v[i].active ? QUEUE_ACTIVE
			      : e.due >= QUEUE_HELD    ? QUEUE_ON_HOLD
						       : QUEUE_DEFERRED;
		e.waits = e.condition == QUEUE_DEFERRED && e.due == e.m->hold_until && (int64_t)e.due > clock_wall();
	}
	return e;
}

static int walk_from(const char *dir, char after[64], int (*fn)(void *ctx, const struct queue_entry *e), void *ctx,
		     struct err *err)
{
	bool more = true;
	int stop = 0;

	while (more && stop == 0) {
		struct queue_list request = {.after = str_from(after), .max = PAGE};
		struct queue_listed page;
		struct rpc_reply hold;

		if (control_call(dir, &CONTROL_QUEUE_LIST, &request, &page, &hold, QUEUE_TIMEOUT_MS, err) < 0) {
			rpc_reply_release(&hold);
			return -1;
		}
		for (size_t i = 0; i < page.messages.n && stop == 0; i++) {
			struct queue_entry e = entry_of(&page, i);

			stop = fn(ctx, &e);
		}
		more = page.messages.n > 0;
		if (more)
			snprintf(after, 64, "%.*s", STR_ARG(page.messages.v[page.messages.n - 1].id));
		rpc_reply_release(&hold);
	}
	return 0;
}

int queue_walk(const char *dir, int (*fn)(void *ctx, const struct queue_entry *e), void *ctx, struct err *err)
{
	char after[64] = "";

	return walk_from(dir, after, fn, ctx, err);
}

struct search {
	const char *id;
	int (*fn)(void *ctx, const struct queue_entry *e);
	void *ctx;
	bool found;
};

static int search_one(void *ctx, const struct queue_entry *e)
{
	struct search *s = ctx;
	int order = str_cmp(e->m->id, str_from(s->id));

	if (order == 0) {
		s->found = true;
		(void)s->fn(s->ctx, e);
	}
	return order >= 0;
}

/* From the ids that begin as this one does: the first of them that follow are few. */
int queue_find(const char *dir, const char *id, int (*fn)(void *ctx, const struct queue_entry *e), void *ctx,
	       struct err *err)
{
	struct search s = {.id = id, .fn = fn, .ctx = ctx};
	char after[64];
	size_t len = strlen(id);

	if (len < 2 || len >= 32)
		return 0;
	for (size_t i = 0; i < len; i++)
		if (!ascii_alnum(id[i]))
			return 0;
	snprintf(after, sizeof(after), "%.*s", (int)len - 1, id);
	return walk_from(dir, after, search_one, &s, err) < 0 ? -1 : s.found;
}

/* ---- acting ---- */

struct gather {
	const struct queue_choice *choice;
	enum queue_action action;
	struct progress bar;
	uint64_t until, seen;
	struct arena arena;
	VEC(struct queue_id) ids;
};

static int gather_one(void *ctx, const struct queue_entry *e)
{
	struct gather *g = ctx;

	progress_step(&g->bar, ++g->seen, 0);
	if (e->m->arrival > g->until)
		return 1; /* what comes while we look was not meant */
	/* "Release all" is for what is on hold; who wants mail out before its sender does says which. */
	if (g->action == QUEUE_RELEASE && g->choice->all && e->condition != QUEUE_ON_HOLD)
		return 0;
	if (queue_choice_fits(g->choice, e))
		vec_push(&g->ids, (struct queue_id){arena_str(&g->arena, e->m->id)});
	return 0;
}

static int act_batches(const char *dir, enum queue_action action, struct gather *g, uint64_t *count_r, struct err *err)
{
	int rc = 0;

	for (size_t at = 0; at < g->ids.n && rc == 0; at += ACT_BATCH) {
		struct queue_act request = {.action = (uint8_t)action};
		struct queue_acted reply;
		struct rpc_reply hold;

		request.ids.v = g->ids.v + at;
		request.ids.n = g->ids.n - at < ACT_BATCH ? g->ids.n - at : ACT_BATCH;
		rc = control_call(dir, &CONTROL_QUEUE_ACT, &request, &reply, &hold, QUEUE_TIMEOUT_MS, err);
		if (rc == 0)
			*count_r += reply.count;
		for (size_t i = 0; rc == 0 && g->choice->each && i < reply.ids.n; i++)
			g->choice->each(reply.ids.v[i].id);
		rpc_reply_release(&hold);
		progress_step(&g->bar, at + request.ids.n, g->ids.n);
	}
	return rc;
}

/* The queue does it in one pass, piece by piece. */
static int act_whole(const char *dir, enum queue_action action, const char *destination, struct gather *g,
		     uint64_t *count_r, struct err *err)
{
	char after[64] = "";
	int rc = 0;

	do {
		struct queue_act request = {.action = (uint8_t)action,
					    .destination = destination ? str_from(destination) : STR(""),
					    .after = str_from(after),
					    .until = g->until};
		struct queue_acted reply = {0};
		struct rpc_reply hold;

		rc = control_call(dir, &CONTROL_QUEUE_ACT, &request, &reply, &hold, QUEUE_TIMEOUT_MS, err);
		snprintf(after, sizeof(after), "%.*s", rc == 0 ? (int)reply.next.len : 0,
			 rc == 0 ? reply.next.ptr : "");
		if (rc == 0)
			*count_r += reply.count;
		rpc_reply_release(&hold);
		progress_step(&g->bar, *count_r, 0);
	} while (rc == 0 && after[0]);
	return rc;
}

static bool has_conditions(const struct queue_choice *choice)
{
	return choice->sender || choice->recipient || choice->older_s >= 0 || choice->younger_s >= 0 ||
	       choice->conditions;
}

int queue_act_on(const char *dir, enum queue_action action, const struct queue_choice *choice, uint64_t *count_r,
		 struct err *err)
{
	static const char *const words[] = {
		[QUEUE_DELETE] = "deleting",   [QUEUE_FLUSH] = "flushing",     [QUEUE_HOLD] = "holding",
		[QUEUE_RELEASE] = "releasing", [QUEUE_REQUEUE] = "requeueing", [QUEUE_EXPIRE] = "expiring"};
	struct gather g = {.choice = choice, .action = action, .until = (uint64_t)clock_wall()};
	bool named = choice->ids.n > 0 && !choice->destination && !has_conditions(choice);
	/* Of a destination only a flush knows by itself which of a message's recipients are meant; "release all" is for
	 * what is on hold. */
	bool whole = choice->ids.n == 0 && !has_conditions(choice) && action != QUEUE_RELEASE &&
		     (!choice->destination || action == QUEUE_FLUSH);
	int rc = 0;

	*count_r = 0;
	arena_init(&g.arena);
	progress_begin(&g.bar, words[action]);
	for (size_t i = 0; named && i < choice->ids.n; i++)
		vec_push(&g.ids, (struct queue_id){str_from(choice->ids.v[i])});
	if (whole)
		rc = act_whole(dir, action, choice->destination, &g, count_r, err);
	/* What goes to a domain of ours waits under another name. */
	whole = whole && (*count_r > 0 || !choice->destination);
	if (rc == 0 && !named && !whole)
		rc = queue_walk(dir, gather_one, &g, err);
	if (rc == 0 && !whole)
		rc = act_batches(dir, action, &g, count_r, err);
	progress_end(&g.bar);
	vec_release(&g.ids);
	arena_release(&g.arena);
	return rc;
}
