/* names - what each name set in a main.cf means to us, for `postrider config -n` and `postrider check`. */
#ifndef CONFIG_NAMES_H
#define CONFIG_NAMES_H

#include "config/conf.h"

enum conf_name_status {
	CONF_NAME_USED,	   /* a parameter */
	CONF_NAME_NOT_YET, /* a parameter of Postfix, accepted and not used yet */
	CONF_NAME_NO_USE,  /* one that has no sense here: `why` */
	CONF_NAME_USER,	   /* user-defined: another value mentions it */
	CONF_NAME_UNKNOWN,
};

struct conf_name {
	struct str name, raw; /* raw: as set, not expanded */
	unsigned line;
	enum conf_name_status status;
	const char *why;  /* CONF_NAME_NO_USE: a sentence; CONF_NAME_NOT_YET: what is so without it, or NULL */
	bool warn;	  /* who relies on it is wrong */
	unsigned earlier; /* the line of an earlier setting that this one takes the place of; 0: none */
};

/* Every name that is set, in alphabetical order. `more`: texts whose $names count as uses (-o of master.cf). */
void conf_each_name(const struct conf *c, const struct str *more, size_t more_count,
		    void (*f)(void *ctx, const struct conf_name *name), void *ctx);

/* Each $name in a value that nothing defines: it counts as empty, and is most often a spelling mistake. line: 0 for -o.
 */
void conf_each_undefined(const struct conf *c, void (*f)(void *ctx, struct str in, unsigned line, struct str name),
			 void *ctx);

/* A line for each name that the -o of a service sets and that somebody may rely on in vain. */
void conf_warn_own(const struct conf *c, const char *where, struct buf *warnings);

/* The text of a name as set, else its default, not expanded. False: nobody knows it. Lives as long as c. */
bool conf_raw(const struct conf *c, struct str name, struct str *raw_r);

#endif
