/* What regexp, pcre and cidr share: a list of rules, walked from the top, with if and endif around some of them. */
#ifndef DIRECTORY_TABLES_RULES_H
#define DIRECTORY_TABLES_RULES_H

#include "directory/tables/private.h"

enum rule_kind { RULE_MATCH, RULE_IF, RULE_ENDIF };

struct rule {
	enum rule_kind kind;
	bool negated;
	unsigned line;
	size_t endif;	   /* IF: index of its ENDIF */
	struct str result; /* MATCH; in the table's arena */
	unsigned groups;   /* MATCH: the highest $number of the result; 0: it is used as it stands, $$ already made $ */
	void *pattern;	   /* of the type's own */
	void *second;	   /* regexp: /first/!/second/, or NULL */
	bool second_negated;
};

struct rules {
	struct arena arena;
	const struct rule_type *type;
	struct rule *v;
	size_t n, cap;
};

/* Where the parentheses matched. */
#define RULE_GROUPS_MAX 100
struct rule_groups {
	struct str v[RULE_GROUPS_MAX]; /* ptr NULL: took no part */
	unsigned n;
};

#define RULE_NEVER 2

struct rule_type {
	/* Takes the pattern off the front of *rest, whatever stands behind it left there. -1 with err's text alone:
	 * file and line are put in front of it. */
	int (*compile)(struct rules *rules, struct rule *r, struct str *rest, struct err *err);
	unsigned (*groups)(
		const struct rule *r); /* how many parentheses the pattern has; NULL: results are plain text */
	void (*free)(struct rule *r);
	/* 1, 0 or -1 of pattern against key, without regard to `negated`; RULE_NEVER: neither this nor its opposite. */
	int (*match)(const struct rule *r, const void *pattern, struct str key, struct rule_groups *groups_r,
		     struct err *err);
	bool (*key)(struct str key, struct arena *arena,
		    struct str *prepared_r); /* false: matches nothing; may be NULL */
};

struct table *rules_open(const struct opening *o, const struct rule_type *type, struct err *err);
/* Takes "!/pattern/flags" off *rest: any number of "!", any delimiter that is no letter and no digit; flags end at a
 * blank or a byte of `end`. False with err. */
bool rules_delimited(struct str *rest, const char *end, bool *negated_r, struct str *pattern_r, struct str *flags_r,
		     struct err *err);

#endif
