/* regexp: POSIX expressions, by the C library, as in Postfix (regexp_table(5)). */
#include "directory/tables/rules.h"
#include <regex.h>

static int compile_one(struct rules *rules, struct str pattern, struct str flags, bool groups, regex_t **regex_r,
		       struct err *err)
{
	int options = REG_EXTENDED | REG_ICASE, code;
	regex_t *regex;
	char why[120];

	for (size_t i = 0; i < flags.len; i++) {
		if (flags.ptr[i] == 'i')
			options ^= REG_ICASE;
		else if (flags.ptr[i] == 'm')
			options ^= REG_NEWLINE;
		else if (flags.ptr[i] == 'x')
			options ^= REG_EXTENDED;
		else
			return err_set(err, ERR_SYNTAX, "", "unknown regexp option \"%c\"", flags.ptr[i]);
	}
	regex = NEW(regex_t);
	code = regcomp(regex, arena_strz(&rules->arena, pattern), options | (groups ? 0 : REG_NOSUB));
	if (code == 0) {
		*regex_r = regex;
		return 0;
	}
	regerror(code, regex, why, sizeof(why));
	free(regex);
	return err_set(err, ERR_SYNTAX, "", "%s", why);
}

static int compile(struct rules *rules, struct rule *r, struct str *rest, struct err *err)
{
	struct str pattern, flags;
	regex_t *regex;

	if (!rules_delimited(rest, "!", &r->negated, &pattern, &flags, err) ||
	    compile_one(rules, pattern, flags, true, &regex, err) < 0)
		return -1;
	r->pattern = regex;
	if (r->kind == RULE_IF || rest->len == 0 || rest->ptr[0] != '!')
		return 0;
	if (!rules_delimited(rest, "!", &r->second_negated, &pattern, &flags, err) ||
	    compile_one(rules, pattern, flags, false, &regex, err) < 0)
		return -1;
	r->second = regex;
	return 0;
}

static unsigned groups_of(const struct rule *r)
{
	return (unsigned)((const regex_t *)r->pattern)->re_nsub;
}

static void free_one(void **regex)
{
	if (*regex)
		regfree(*regex);
	free(*regex);
	*regex = NULL;
}

static void free_rule(struct rule *r)
{
	free_one(&r->pattern);
	free_one(&r->second);
}

/* Keys are followed by a NUL: key() below. */
static int match(const struct rule *r, const void *pattern, struct str key, struct rule_groups *groups_r,
		 struct err *err)
{
	regmatch_t found[RULE_GROUPS_MAX];
	size_t want = groups_r ? (size_t)r->groups + 1 : 0;
	int code = regexec(pattern, key.ptr, want, found, 0);
	char why[120];

	if (code == REG_NOMATCH)
		return 0;
	if (code != 0) {
		regerror(code, pattern, why, sizeof(why));
		return err_set(err, ERR_TEMP, "4.3.0", "%s", why);
	}
	for (size_t i = 0; i < want; i++)
		groups_r->v[i] = found[i].rm_so < 0 ? STR_NULL
						    : str_sub(key, (size_t)found[i].rm_so,
							      (size_t)(found[i].rm_eo - found[i].rm_so));
	if (groups_r)
		groups_r->n = (unsigned)want;
	return 1;
}

static bool key(struct str given, struct arena *arena, struct str *prepared_r)
{
	*prepared_r = str_of(arena_strz(arena, given), given.len);
	return true;
}

static const struct rule_type type = {
	.compile = compile, .groups = groups_of, .free = free_rule, .match = match, .key = key};

struct table *table_open_regexp(const struct opening *o, struct err *err)
{
	return rules_open(o, &type, err);
}
