/* expand - $name in values, as Postfix expands it (postconf(5)):
 *
 *   $name ${name} $(name)          the value of name, itself expanded; "" if nobody set it
 *   ${name?text} ${name:text}      text if name is not empty; if it is
 *   ${name?{text1}:{text2}}        both
 *   ${{a} == {b} ? {x} : {y}}      == != < <= >= >; numbers if both sides are
 *   $$                             a dollar sign
 *
 * Loops are errors. Depth, steps and output are bounded, so no file can keep a process busy. */
#ifndef CONFIG_EXPAND_H
#define CONFIG_EXPAND_H

#include "base/buf.h"
#include "base/err.h"

#define EXPAND_DEPTH_MAX 100
#define EXPAND_STEPS_MAX 100000

struct expand_value {
	struct str raw; /* not expanded yet */
	bool domain_of; /* what stands behind the first dot of the expansion: $mydomain */
};

struct expander {
	/* False: nobody knows the name. */
	bool (*lookup)(const void *ctx, struct str name, struct expand_value *value_r);
	const void *ctx;
	struct err *err;
	struct str names[EXPAND_DEPTH_MAX]; /* being expanded, outermost first */
	unsigned name_count, depth, steps;
};

/* Appends. Returns 0, or -1 with a sentence in err (without file and line). */
int expand_text(struct expander *e, struct str text, struct buf *out) WARN_UNUSED;
int expand_name(struct expander *e, struct str name, struct buf *out) WARN_UNUSED;
/* Calls f for every name that text mentions, conditional ones included. Does not expand. */
void expand_names(struct str text, void (*f)(void *ctx, struct str name), void *ctx);

#endif
