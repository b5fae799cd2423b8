/* params - the parameter table as data: what config/params.def says, for the parser, `postrider config`, the man
 * page and the checks. Constant; any thread. */
#ifndef CONFIG_PARAMS_H
#define CONFIG_PARAMS_H

#include "base/buf.h"

enum param_type { PARAM_TYPE_STR, PARAM_TYPE_BOOL, PARAM_TYPE_INT, PARAM_TYPE_SIZE, PARAM_TYPE_TIME, PARAM_TYPE_ENUM };
enum param_when { PARAM_RELOAD, PARAM_RESTART };

struct param {
	const char *name;
	enum param_type type;
	size_t offset;	   /* in struct conf */
	const char *def;   /* as it would stand in main.cf; write it with param_default() */
	int64_t min, max;  /* INT and SIZE; TIME: in its unit */
	char unit;	   /* TIME: what a number without a suffix means */
	const char *words; /* ENUM: separated by blanks or commas */
	enum param_when when;
	const char *text; /* one sentence */
};

extern const struct param PARAMS[];
extern const size_t PARAM_COUNT;

const struct param *param_find(struct str name); /* or NULL */
/* The default in Postfix's words: "no", "300s", "$mydomain". */
struct str param_default(const struct param *p);
/* Value text to what stands in struct conf. False, with a sentence in why, when it is none. STR is left alone. */
bool param_value(const struct param *p, struct str text, int64_t *value_r, struct buf *why);

/* A parameter of Postfix that Postrider accepts and does not use yet. Never one of PARAMS. */
bool param_is_postfix(struct str name);
/* One of those whose $names Postfix fills in only when it uses the value: "$EXTENSION" of mailbox_command. */
bool param_is_late(struct str name);

#endif
