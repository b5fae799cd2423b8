#include "journal/step.h"

#include "base/mem.h"
#include <stdatomic.h>

struct step {
	struct step_loop loop;
	void (*fn)(void *ctx);           /* NULL once freed; the loop's */
	void *ctx;
	atomic_bool posted;
};

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
	/* The loop still holds a pointer if it is posted: step_run() frees it then. */
	if (!atomic_load(&s->posted))
		free(s);
}
