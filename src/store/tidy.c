/* tidy - after a start: what a killed store left unfinished in tmp/ goes. Recovery does so where its journal leads it;
 * the files of a commit that never became durable are named by nobody. Some accounts at a time, on another thread, so
 * that a start costs nobody anything. */
#include "store/service_private.h"

#define ACCOUNTS_A_TIME 100
#define PAUSE_MS	100

struct tidy {
	struct job job;
	struct arena arena;
	VEC(struct str) paths;
	uint64_t next; /* where to go on; 0: these are the last */
	struct str path;
};

static void tidy_folder(void *ctx, struct str folder)
{
	struct tidy *t = ctx;

	store_engine_sweep(t->job.svc->engine, t->path, folder);
}

static void tidy_work(struct job *j)
{
	struct tidy *t = (struct tidy *)j;

	for (size_t i = 0; i < t->paths.n; i++) {
		t->path = t->paths.v[i];
		(void)!store_engine_folders(j->svc->engine, t->path, tidy_folder, t, NULL);
	}
}

static void tidy_more(void *ctx)
{
	struct store_service *svc = ctx;

	tidy_start(svc);
}

static void tidy_done(struct job *j)
{
	struct tidy *t = (struct tidy *)j;
	struct store_service *svc = j->svc;

	svc->tidy_from = t->next;
	if (t->next && !store_stopping(svc, NULL))
		timer_once(svc, TIMER_TIDY, PAUSE_MS, tidy_more);
	vec_release(&t->paths);
	arena_release(&t->arena);
	free(t);
}

void tidy_start(struct store_service *svc)
{
	struct tidy *t = NEW(struct tidy);
	uint64_t id = svc->tidy_from;
	struct str path;
	bool more = true;

	arena_init(&t->arena);
	t->job.work = tidy_work;
	t->job.done = tidy_done;
	while (t->paths.n < ACCOUNTS_A_TIME && (more = account_after(svc, id, &t->arena, &id, &path)))
		vec_push(&t->paths, path);
	t->next = more ? id : 0;
	jobs_add(svc->jobs, &t->job);
}
