/* Page after page of the queue, and acting on what was chosen. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "cmd/control.h"
#include "cmd/progress.h"
#include "cmd/queue.h"
#include <pthread.h>
#include <time.h>

#define QUEUE_TIMEOUT_MS 60000
#define PAGE		 1000
#define FIND_PAGE	 20
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

static void hide(struct str s)
{
	if (s.len > 0) /* of the answer, which is ours */
		utf8_hide_controls((char *)(uintptr_t)s.ptr, s.len);
}

void queue_entry_for_terminal(const struct queue_entry *e)
{
	const struct queue_message *m = e->m;
	const struct str texts[] = {m->sender, m->auth_user, m->client, m->envid, m->verp};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		hide(texts[i]);
	for (size_t i = 0; i < m->rcpts.n; i++) {
		const struct queue_rcpt *r = &m->rcpts.v[i];

		hide(r->address);
		hide(r->original);
		hide(r->orcpt);
		hide(r->last_text);
	}
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

/* ---- pages ---- */

/* One page, asked for by a thread while the one before is looked at. */
struct page {
	struct control *control;
	char after[64];
	uint32_t max;
	struct queue_listed listed;
	struct rpc_reply hold;
	struct err err;
	int result;
	pthread_t thread;
	bool has_thread;
};

static void *page_run(void *arg)
{
	struct page *p = arg;
	struct queue_list request = {.after = str_from(p->after), .max = p->max};

	p->result =
		control_ask(p->control, &CONTROL_QUEUE_LIST, &request, &p->listed, &p->hold, QUEUE_TIMEOUT_MS, &p->err);
	return NULL;
}

/* What stands behind `after`. */
static void page_ask(struct page *p, struct control *control, struct str after, uint32_t max, bool by_thread)
{
	*p = (struct page){.control = control, .max = max};
	snprintf(p->after, sizeof(p->after), "%.*s", STR_ARG(after));
	p->has_thread = by_thread && pthread_create(&p->thread, NULL, page_run, p) == 0;
	if (!p->has_thread)
		(void)page_run(p);
}

static void page_wait(struct page *p)
{
	if (p->has_thread)
		pthread_join(p->thread, NULL);
	p->has_thread = false;
}

static int page_look(const struct page *p, int (*fn)(void *ctx, const struct queue_entry *e), void *ctx)
{
	int stop = 0;

	for (size_t i = 0; i < p->listed.messages.n && stop == 0; i++) {
		struct queue_entry e = entry_of(&p->listed, i);

		stop = fn(ctx, &e);
	}
	return stop;
}

static int walk_from(const char *dir, const char *after, uint32_t max,
		     int (*fn)(void *ctx, const struct queue_entry *e), void *ctx, struct err *err)
{
	struct control control;
	struct page pages[2], *page = &pages[0], *next = &pages[1];
	int stop = 0;

	if (control_begin(&control, dir, err) < 0)
		return -1;
	page_ask(page, &control, str_from(after), max, false);
	while (page->result == 0 && page->listed.messages.n > 0 && stop == 0) {
		struct page *seen = page;

		page_ask(next, &control, page->listed.messages.v[page->listed.messages.n - 1].id, max, true);
		stop = page_look(page, fn, ctx);
		page_wait(next);
		rpc_reply_release(&page->hold);
		page = next;
		next = seen;
	}
	if (page->result < 0 && err && stop == 0)
		*err = page->err;
	stop = page->result < 0 && stop == 0 ? -1 : 0;
	rpc_reply_release(&page->hold);
	control_end(&control);
	return stop;
}

struct watched_walk {
	int (*fn)(void *ctx, const struct queue_entry *e);
	void *ctx;
	struct progress bar;
	uint64_t seen;
};

static int watch_one(void *ctx, const struct queue_entry *e)
{
	struct watched_walk *w = ctx;

	progress_step(&w->bar, ++w->seen, 0);
	return w->fn(w->ctx, e);
}

int queue_walk(const char *dir, const char *what, int (*fn)(void *ctx, const struct queue_entry *e), void *ctx,
	       struct err *err)
{
	struct watched_walk w = {.fn = fn, .ctx = ctx};
	int rc;

	if (!what)
		return walk_from(dir, "", PAGE, fn, ctx, err);
	progress_begin(&w.bar, what);
	rc = walk_from(dir, "", PAGE, watch_one, &w, err);
	progress_end(&w.bar);
	return rc;
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
	return walk_from(dir, after, FIND_PAGE, search_one, &s, err) < 0 ? -1 : s.found;
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

static int act_batches(struct control *control, enum queue_action action, struct gather *g, uint64_t *count_r,
		       struct err *err)
{
	int rc = 0;

	for (size_t at = 0; at < g->ids.n && rc == 0; at += ACT_BATCH) {
		struct queue_act request = {.action = (uint8_t)action};
		struct queue_acted reply;
		struct rpc_reply hold;

		request.ids.v = g->ids.v + at;
		request.ids.n = g->ids.n - at < ACT_BATCH ? g->ids.n - at : ACT_BATCH;
		rc = control_ask(control, &CONTROL_QUEUE_ACT, &request, &reply, &hold, QUEUE_TIMEOUT_MS, err);
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
static int act_whole(struct control *control, enum queue_action action, const char *destination, struct gather *g,
		     uint64_t *count_r, struct err *err)
{
	char after[64] = "";
	uint64_t total = 0;
	int rc = 0;

	do {
		struct queue_act request = {.action = (uint8_t)action,
					    .counts = g->bar.watched && !after[0],
					    .destination = destination ? str_from(destination) : STR(""),
					    .after = str_from(after),
					    .until = g->until};
		struct queue_acted reply = {0};
		struct rpc_reply hold;

		rc = control_ask(control, &CONTROL_QUEUE_ACT, &request, &reply, &hold, QUEUE_TIMEOUT_MS, err);
		snprintf(after, sizeof(after), "%.*s", rc == 0 ? (int)reply.next.len : 0,
			 rc == 0 ? reply.next.ptr : "");
		if (rc == 0)
			*count_r += reply.count;
		total = request.counts && rc == 0 ? reply.total : total;
		rpc_reply_release(&hold);
		progress_step(&g->bar, *count_r, total);
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
	struct control control;
	int rc = 0;

	*count_r = 0;
	progress_begin(&g.bar, words[action]);
	if (control_begin(&control, dir, err) < 0)
		return -1;
	arena_init(&g.arena);
	for (size_t i = 0; named && i < choice->ids.n; i++)
		vec_push(&g.ids, (struct queue_id){str_from(choice->ids.v[i])});
	if (whole)
		rc = act_whole(&control, action, choice->destination, &g, count_r, err);
	/* What goes to a domain of ours waits under another name. */
	whole = whole && (*count_r > 0 || !choice->destination);
	if (rc == 0 && !named && !whole)
		rc = queue_walk(dir, NULL, gather_one, &g, err);
	if (rc == 0 && !whole)
		rc = act_batches(&control, action, &g, count_r, err);
	progress_end(&g.bar);
	vec_release(&g.ids);
	arena_release(&g.arena);
	control_end(&control);
	return rc;
}
