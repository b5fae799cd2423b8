/* See rules.h; the language is that of regexp_table(5), pcre_table(5) and cidr_table(5).
 *
 * Where Postfix leaves out a rule that it cannot read and goes on, the table is refused: a filter with a hole in it is
 * worse than the one that was in force until now. */
#include "directory/tables/rules.h"

/* ---- $1 in results ---- */

/* The next piece of a result: literal bytes, or a $number. 1, 0 at the end, -1: no number. Names are as in Postfix'
 * mac_parse(): "$12", "${12}", "$(12)"; "$$" is a dollar. */
static int next_piece(struct str *rest, struct str *literal_r, unsigned *number_r)
{
	ptrdiff_t dollar = str_chr(*rest, '$'), end;
	struct str name;

	*number_r = 0;
	if (rest->len == 0)
		return 0;
	if (dollar != 0) {
		*literal_r = dollar < 0 ? *rest : str_sub(*rest, 0, (size_t)dollar);
		*rest = str_skip(*rest, literal_r->len);
		return 1;
	}
	if (rest->len > 1 && rest->ptr[1] == '$') {
		*literal_r = str_sub(*rest, 0, 1);
		*rest = str_skip(*rest, 2);
		return 1;
	}
	if (rest->len > 1 && (rest->ptr[1] == '{' || rest->ptr[1] == '(')) {
		end = str_chr(*rest, rest->ptr[1] == '{' ? '}' : ')');
		if (end < 0)
			return -1;
		name = str_sub(*rest, 2, (size_t)end - 2);
		*rest = str_skip(*rest, (size_t)end + 1);
	} else {
		for (end = 1; (size_t)end < rest->len && (ascii_alnum(rest->ptr[end]) || rest->ptr[end] == '_'); end++)
			;
		name = str_sub(*rest, 1, (size_t)end - 1);
		*rest = str_skip(*rest, (size_t)end);
	}
	return str_to_u32(name, number_r) && *number_r > 0 ? 1 : -1;
}

/* Looks the result through: how many groups it wants; without any, "$$" is made "$" for good. */
static int prescan(struct rules *rules, struct rule *r, struct str result, struct err *err)
{
	struct str rest = result, literal;
	struct buf plain;
	unsigned number = 0;
	int more;

	buf_init(&plain, TABLE_LINE_MAX);
	while ((more = next_piece(&rest, &literal, &number)) > 0) {
		if (number == 0)
			buf_add_str(&plain, literal);
		else if (number > r->groups)
			r->groups = number;
	}
	r->result = arena_str(&rules->arena, r->groups ? result : buf_str(&plain));
	buf_release(&plain);
	if (more < 0)
		return err_set(err, ERR_SYNTAX, "", "the result has a \"$\" without a number (say $$ for a dollar)");
	if (r->groups && r->negated)
		return err_set(err, ERR_SYNTAX, "", "the result of a negated pattern has nothing to put in for $%u",
			       r->groups);
	if (r->groups && (r->groups > rules->type->groups(r) || r->groups >= RULE_GROUPS_MAX))
		return err_set(err, ERR_SYNTAX, "", "the pattern has no %u pairs of parentheses for $%u", r->groups,
			       r->groups);
	return 0;
}

static struct str substitute(const struct rule *r, const struct rule_groups *groups, struct arena *arena)
{
	struct str rest = r->result, literal, result;
	struct buf out;
	unsigned number = 0;

	buf_init(&out, TABLE_LINE_MAX);
	while (next_piece(&rest, &literal, &number) > 0) {
		if (number == 0)
			buf_add_str(&out, literal);
		else if (number < groups->n && groups->v[number].ptr)
			buf_add_str(&out, groups->v[number]);
	}
	result = arena_str(arena, buf_str(&out));
	buf_release(&out);
	return result;
}

/* ---- reading ---- */

static struct str skip_blanks(struct str s)
{
	while (s.len > 0 && ascii_space(s.ptr[0]))
		s = str_skip(s, 1);
	return s;
}

static bool is_word(struct str line, struct str word)
{
	return str_istarts(line, word) && (line.len == word.len || !ascii_alnum(line.ptr[word.len]));
}

static int take_rule(struct rules *rules, struct rule *r, struct str line, struct err *err)
{
	if (is_word(line, STR("if"))) {
		r->kind = RULE_IF;
		line = skip_blanks(str_skip(line, 2));
	}
	if (rules->type->compile(rules, r, &line, err) < 0)
		return -1;
	line = skip_blanks(line);
	if (r->kind == RULE_IF)
		return line.len == 0 ? 0
				     : err_set(err, ERR_SYNTAX, "",
					       "there is text behind the pattern of an if; rules between if and endif "
					       "must not begin with blanks");
	if (rules->type->groups)
		return prescan(rules, r, line, err);
	r->result = arena_str(&rules->arena, line);
	return 0;
}

static int close_if(struct rules *rules, const struct opening *o, unsigned line, struct err *err)
{
	struct rule r = {.kind = RULE_ENDIF, .line = line};

	for (size_t i = rules->n; i-- > 0;)
		if (rules->v[i].kind == RULE_IF && rules->v[i].endif == 0) {
			rules->v[i].endif = rules->n;
			vec_push_arena(&rules->arena, rules, r);
			return 0;
		}
	return table_error(o, line, err, "endif without if");
}

static int read_line(struct rules *rules, const struct opening *o, struct str line, unsigned number, struct err *err)
{
	struct rule r = {.line = number};
	struct err why = ERR_NONE;

	if (is_word(line, STR("endif"))) {
		if (str_trim(str_skip(line, 5)).len > 0)
			table_warn(o, number, "ignoring extra text after endif");
		return close_if(rules, o, number, err);
	}
	if (take_rule(rules, &r, line, &why) < 0) {
		rules->type->free(&r);
		return table_error(o, number, err, "%s", why.text);
	}
	if (r.kind == RULE_MATCH && r.result.len == 0)
		table_warn(o, number, "no replacement text: using empty string");
	vec_push_arena(&rules->arena, rules, r);
	return 0;
}

static int read_rules(struct rules *rules, const struct opening *o, struct str text, struct err *err)
{
	struct table_lines lines;
	struct buf line;
	unsigned number;
	int more;

	buf_init(&line, TABLE_LINE_MAX);
	table_lines_init(&lines, o, text);
	while ((more = table_lines_next(&lines, &line, &number, err)) > 0)
		if (read_line(rules, o, buf_str(&line), number, err) < 0) {
			more = -1;
			break;
		}
	buf_release(&line);
	for (size_t i = 0; i < rules->n && more == 0; i++)
		if (rules->v[i].kind == RULE_IF && rules->v[i].endif == 0)
			more = table_error(o, rules->v[i].line, err, "if without endif");
	return more;
}

/* ---- looking up ---- */

/* 1, 0, -1: does the rule say yes? */
static int says_yes(const struct rules *rules, const struct rule *r, struct str key, struct rule_groups *groups,
		    struct err *err)
{
	int rc = rules->type->match(r, r->pattern, key, r->groups ? groups : NULL, err);

	if (rc < 0)
		return -1;
	if (rc == RULE_NEVER || rc == (int)r->negated)
		return 0;
	if (r->second == NULL)
		return 1;
	rc = rules->type->match(r, r->second, key, NULL, err);
	return rc < 0 ? -1 : rc != (int)r->second_negated;
}

static int rules_find(const struct table *t, struct str key, struct arena *arena, struct str *value_r, struct err *err)
{
	const struct rules *rules = t->data;
	struct rule_groups groups;

	groups.n = 0;
	if (rules->type->key && !rules->type->key(key, arena, &key))
		return 0;
	for (size_t i = 0; i < rules->n; i++) {
		const struct rule *r = &rules->v[i];
		int yes = r->kind == RULE_ENDIF ? 0 : says_yes(rules, r, key, &groups, err);

		if (yes < 0)
			return err_context(err, "%s, line %u", t->name, r->line);
		if (yes && r->kind == RULE_MATCH) {
			*value_r = r->groups ? substitute(r, &groups, arena) : r->result;
			return 1;
		}
		if (!yes && r->kind == RULE_IF)
			i = r->endif;
	}
	return 0;
}

static void rules_free(void *data)
{
	struct rules *rules = data;

	for (size_t i = 0; i < rules->n; i++)
		rules->type->free(&rules->v[i]);
	arena_release(&rules->arena);
	free(rules);
}

static const struct table_ops rules_ops = {.find = rules_find, .free = rules_free};

struct table *rules_open(const struct opening *o, const struct rule_type *type, struct err *err)
{
	struct rules *rules = NEW(struct rules);
	struct arena arena;
	struct str text;
	int result;

	arena_init(&arena);
	arena_init(&rules->arena);
	rules->type = type;
	result = table_rules_text(o, &arena, &text, err);
	if (result == 0)
		result = read_rules(rules, o, text, err);
	arena_release(&arena);
	if (result == 0)
		return table_new(o, &rules_ops, rules, false);
	rules_free(rules);
	return NULL;
}

bool rules_delimited(struct str *rest, const char *end, bool *negated_r, struct str *pattern_r, struct str *flags_r,
		     struct err *err)
{
	struct str s = *rest;
	size_t n = 1, to;

	for (*negated_r = false; s.len > 0 && (s.ptr[0] == '!' || ascii_space(s.ptr[0])); s = str_skip(s, 1))
		*negated_r ^= s.ptr[0] == '!';
	if (s.len == 0 || ascii_alnum(s.ptr[0])) {
		err_set(err, ERR_SYNTAX, "", "there is no /pattern/");
		return false;
	}
	while (n < s.len && s.ptr[n] != s.ptr[0])
		n += s.ptr[n] == '\\' ? 2 : 1;
	if (n >= s.len) {
		err_set(err, ERR_SYNTAX, "", "the pattern has no closing \"%c\"", s.ptr[0]);
		return false;
	}
	*pattern_r = str_sub(s, 1, n - 1);
	for (to = n + 1; to < s.len && !ascii_space(s.ptr[to]) && !char_is_one_of(s.ptr[to], end); to++)
		;
	*flags_r = str_sub(s, n + 1, to - n - 1);
	*rest = str_skip(s, to);
	return true;
}
