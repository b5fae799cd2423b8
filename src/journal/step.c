#include "journal/step.h"

#include "base/mem.h"
#include <pthread.h>
#include <stdatomic.h>

struct step {
	struct step_loop loop;
	void (*fn)(void *ctx); /* NULL once freed; the loop's */
	void *ctx;
	atomic_bool posted;
	struct step *next_dead, **at_dead;
};

/* Freed while posted: the loop still holds a pointer. If it has ended and never calls, they stay here. */
static struct step *dead;
static pthread_mutex_t dead_lock = PTHREAD_MUTEX_INITIALIZER;

struct step *step_new(const struct step_loop *loop, void (*fn)(void *ctx), void *ctx)
{
	struct step *s = NEW(struct step);

	s->loop = *loop;
	s->fn = fn;
	s->ctx = ctx;
	return s;
}

static void step_run(void *arg)
{
	struct step *s = arg;

	if (!s->fn) {
		pthread_mutex_lock(&dead_lock);
		*s->at_dead = s->next_dead;
		if (s->next_dead)
			s->next_dead->at_dead = s->at_dead;
		pthread_mutex_unlock(&dead_lock);
		free(s);
		return;
	}
	/* Cleared first: what happens while fn looks asks for another run. */
	atomic_store(&s->posted, false);
	s->fn(s->ctx);
}

void step_post(struct step *s)
{
	if (!atomic_exchange(&s->posted, true))
		s->loop.post(s->loop.ctx, step_run, s);
}

void step_free(struct step **sp)
{
	struct step *s = *sp;

	*sp = NULL;
	if (!s)
		return;
	s->fn = NULL;
	if (!atomic_load(&s->posted)) {
		free(s);
		return;
	}
	pthread_mutex_lock(&dead_lock);
	s->next_dead = dead;
	s->at_dead = &dead;
	if (dead)
		dead->at_dead = &s->next_dead;
	dead = s;
	pthread_mutex_unlock(&dead_lock);
}
