/* step - "something happened, look": a function of the loop that any thread may ask to be run.
 * However often it is asked before the loop comes to it, it runs once. Safe to free while it is posted. */
#ifndef JOURNAL_STEP_H
#define JOURNAL_STEP_H

#include "base/attr.h"

struct step_loop {
	void (*post)(void *ctx, void (*fn)(void *arg),
		     void *arg); /* any thread; calls fn(arg) once, soon, on the loop */
	void *ctx;
};

struct step;
struct step *step_new(const struct step_loop *loop, void (*fn)(void *ctx), void *ctx);
void step_post(struct step *s);	 /* any thread, until step_free */
void step_free(struct step **s); /* the loop; fn will not run again */

#endif
