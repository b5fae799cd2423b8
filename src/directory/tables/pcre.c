/* pcre: Perl's expressions, by libpcre2 (pcre_table(5)). Without its compiler to machine code: no jail of ours lets
 * memory be written and run. */
#include "directory/tables/rules.h"
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Steps at which a pattern is too much for a key: some tenths of a second. */
#define MATCH_LIMIT 1000000

static int flags_of(struct str flags, uint32_t *options_r, struct err *err)
{
	static const struct {
		char letter;
		uint32_t option;
	} letters[] = {{'i', PCRE2_CASELESS}, {'m', PCRE2_MULTILINE},	   {'s', PCRE2_DOTALL},	  {'x', PCRE2_EXTENDED},
		       {'A', PCRE2_ANCHORED}, {'E', PCRE2_DOLLAR_ENDONLY}, {'U', PCRE2_UNGREEDY}, {'X', 0}};
	size_t at;

	*options_r = PCRE2_CASELESS | PCRE2_DOTALL;
	for (size_t i = 0; i < flags.len; i++) {
		for (at = 0; at < ARRAY_SIZE(letters) && letters[at].letter != flags.ptr[i]; at++)
			;
		if (at == ARRAY_SIZE(letters))
			return err_set(err, ERR_SYNTAX, "", "unknown pcre option \"%c\"", flags.ptr[i]);
		*options_r ^= letters[at].option;
	}
	return 0;
}

static int compile(struct rules *rules, struct rule *r, struct str *rest, struct err *err)
{
	struct str pattern, flags;
	PCRE2_UCHAR why[120];
	PCRE2_SIZE at;
	uint32_t options;
	int code;

	(void)rules;
	if (!rules_delimited(rest, "", &r->negated, &pattern, &flags, err) || flags_of(flags, &options, err) < 0)
		return -1;
	r->pattern = pcre2_compile((PCRE2_SPTR)pattern.ptr, pattern.len, options, &code, &at, NULL);
	if (r->pattern)
		return 0;
	pcre2_get_error_message(code, why, sizeof(why));
	return err_set(err, ERR_SYNTAX, "", "error in regex at offset %zu: %s", (size_t)at, (const char *)why);
}

static unsigned groups_of(const struct rule *r)
{
	uint32_t count = 0;

	pcre2_pattern_info(r->pattern, PCRE2_INFO_CAPTURECOUNT, &count);
	return count;
}

static void free_rule(struct rule *r)
{
	pcre2_code_free(r->pattern);
	r->pattern = NULL;
}

static void take_groups(const struct rule *r, struct str key, pcre2_match_data *data, struct rule_groups *groups_r)
{
	const PCRE2_SIZE *v = pcre2_get_ovector_pointer(data);
	uint32_t n = pcre2_get_ovector_count(data);

	for (groups_r->n = 0; groups_r->n <= r->groups && groups_r->n < n; groups_r->n++) {
		PCRE2_SIZE from = v[2 * groups_r->n], to = v[2 * groups_r->n + 1];

		groups_r->v[groups_r->n] = from == PCRE2_UNSET || to < from ? STR_NULL : str_sub(key, from, to - from);
	}
}

static int match(const struct rule *r, const void *pattern, struct str key, struct rule_groups *groups_r,
		 struct err *err)
{
	pcre2_match_data *data = pcre2_match_data_create_from_pattern(pattern, NULL);
	pcre2_match_context *limits = pcre2_match_context_create(NULL);
	PCRE2_UCHAR why[120];
	int code = PCRE2_ERROR_NOMEMORY;

	if (data && limits) {
		pcre2_set_match_limit(limits, MATCH_LIMIT);
		code = pcre2_match(pattern, (PCRE2_SPTR)key.ptr, key.len, 0, 0, data, limits);
	}
	if (code >= 0 && groups_r)
		take_groups(r, key, data, groups_r);
	pcre2_match_context_free(limits);
	pcre2_match_data_free(data);
	if (code >= 0 || code == PCRE2_ERROR_NOMATCH)
		return code >= 0;
	pcre2_get_error_message(code, why, sizeof(why));
	return err_set(err, ERR_TEMP, "4.3.0", "%s", (const char *)why);
}

static const struct rule_type type = {.compile = compile, .groups = groups_of, .free = free_rule, .match = match};

struct table *table_open_pcre(const struct opening *o, struct err *err)
{
	return rules_open(o, &type, err);
}
