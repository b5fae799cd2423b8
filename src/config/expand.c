#include "config/expand.h"

static bool is_name_char(char c)
{
	return ascii_alnum(c) || c == '_';
}
static bool is_inner_name_char(char c)
{
	return is_name_char(c) || c == '-' || c == '.' || c == '+';
}

static void skip_space(struct str *rest)
{
	while (rest->len > 0 && ascii_space(rest->ptr[0]))
		*rest = str_skip(*rest, 1);
}

static bool at(struct str rest, char c)
{
	return rest.len > 0 && rest.ptr[0] == c;
}

/* What stands between the bracket at the front of *rest and its partner. */
static bool take_bracketed(struct str *rest, char open, char close, struct str *inner_r)
{
	size_t depth = 0;

	for (size_t i = 0; i < rest->len; i++) {
		if (rest->ptr[i] == open)
			depth++;
		else if (rest->ptr[i] == close && --depth == 0) {
			*inner_r = str_sub(*rest, 1, i - 1);
			*rest = str_skip(*rest, i + 1);
			return true;
		}
	}
	return false;
}

static int syntax(struct expander *e, struct str text, const char *why)
{
	return err_set(e->err, ERR_SYNTAX, "", "%s in \"%.*s\"", why, STR_ARG(str_sub(text, 0, 60)));
}

/* "{text}" without the blanks at its ends, or everything up to the end. */
static int take_branch(struct expander *e, struct str *rest, struct str *text_r)
{
	skip_space(rest);
	if (!at(*rest, '{')) {
		*text_r = *rest;
		*rest = STR("");
		return 0;
	}
	if (!take_bracketed(rest, '{', '}', text_r))
		return syntax(e, *rest, "unbalanced {}");
	*text_r = str_trim(*text_r);
	skip_space(rest);
	return 0;
}

/* "?then", ":else", "?{then}:{else}", or nothing (which is the value itself, see expand_braced). */
struct branches {
	struct str yes, no;
	bool has_yes, has_no;
};

static int take_branches(struct expander *e, struct str rest, struct branches *b_r)
{
	struct str whole = rest;

	*b_r = (struct branches){0};
	skip_space(&rest);
	if (at(rest, '?')) {
		rest = str_skip(rest, 1);
		b_r->has_yes = true;
		if (take_branch(e, &rest, &b_r->yes) < 0)
			return -1;
	}
	if (at(rest, ':')) {
		rest = str_skip(rest, 1);
		b_r->has_no = true;
		if (take_branch(e, &rest, &b_r->no) < 0)
			return -1;
	}
	if (rest.len > 0 || !(b_r->has_yes || b_r->has_no))
		return syntax(e, whole, "\"?\" or \":\" expected");
	return 0;
}

static int compare(struct str a, struct str b)
{
	uint64_t x, y;

	if (str_to_u64(a, &x) && str_to_u64(b, &y))
		return x < y ? -1 : x > y;
	return str_cmp(a, b);
}

static bool holds(int order, struct str op)
{
	if (str_eq(op, STR("==")))
		return order == 0;
	if (str_eq(op, STR("!=")))
		return order != 0;
	if (str_eq(op, STR("<")))
		return order < 0;
	if (str_eq(op, STR("<=")))
		return order <= 0;
	if (str_eq(op, STR(">")))
		return order > 0;
	return order >= 0;
}

static bool is_operator_char(char c)
{
	return c == '=' || c == '!' || c == '<' || c == '>';
}

static bool is_operator(struct str op)
{
	static const char *const operators[] = {"==", "!=", "<", "<=", ">", ">="};

	for (size_t i = 0; i < ARRAY_SIZE(operators); i++)
		if (str_eq(op, str_from(operators[i])))
			return true;
	return false;
}

static int expand_operand(struct expander *e, struct str *rest, struct buf *out)
{
	struct str text;

	skip_space(rest);
	if (!at(*rest, '{') || !take_bracketed(rest, '{', '}', &text))
		return syntax(e, *rest, "{text} expected");
	skip_space(rest);
	return expand_text(e, str_trim(text), out);
}

/* {a} op {b}; *rest is left behind it. */
static int expand_comparison(struct expander *e, struct str *rest, bool *true_r)
{
	struct buf a, b;
	struct str op;
	int result = -1;

	buf_init(&a, 1 << 20);
	buf_init(&b, 1 << 20);
	if (expand_operand(e, rest, &a) == 0) {
		op = str_run(rest, is_operator_char);
		if (!is_operator(op))
			result = syntax(e, *rest, "==, !=, <, <=, > or >= expected");
		else if (expand_operand(e, rest, &b) == 0)
			result = 0;
		if (result == 0)
			*true_r = holds(compare(buf_str(&a), buf_str(&b)), op);
	}
	buf_release(&a);
	buf_release(&b);
	return result;
}

static int expand_chosen(struct expander *e, const struct branches *b, bool yes, struct buf *out)
{
	if (yes)
		return b->has_yes ? expand_text(e, b->yes, out) : 0;
	return b->has_no ? expand_text(e, b->no, out) : 0;
}

/* The inside of ${...}. */
static int expand_braced(struct expander *e, struct str inner, struct buf *out)
{
	struct branches b;
	struct str rest = inner, name;
	struct buf value;
	bool yes = false;
	int result;

	skip_space(&rest);
	if (at(rest, '{')) {
		if (expand_comparison(e, &rest, &yes) < 0 || take_branches(e, rest, &b) < 0)
			return -1;
		return expand_chosen(e, &b, yes, out);
	}
	name = str_run(&rest, is_inner_name_char);
	skip_space(&rest);
	if (name.len == 0)
		return syntax(e, inner, "parameter name expected");
	if (rest.len == 0)
		return expand_name(e, name, out);
	if (take_branches(e, rest, &b) < 0)
		return -1;
	buf_init(&value, 1 << 20);
	result = expand_name(e, name, &value);
	yes = value.len > 0;
	buf_release(&value);
	return result < 0 ? -1 : expand_chosen(e, &b, yes, out);
}

/* Behind a '$'. */
static int expand_dollar(struct expander *e, struct str *rest, struct buf *out)
{
	struct str whole = *rest, inner;

	if (at(*rest, '$')) {
		*rest = str_skip(*rest, 1);
		buf_addc(out, '$');
		return 0;
	}
	if (at(*rest, '{') || at(*rest, '(')) {
		bool brace = at(*rest, '{');

		if (!take_bracketed(rest, brace ? '{' : '(', brace ? '}' : ')', &inner))
			return syntax(e, whole, brace ? "${ without }" : "$( without )");
		return expand_braced(e, inner, out);
	}
	inner = str_run(rest, is_name_char);
	if (inner.len == 0)
		return syntax(e, whole, "\"$\" without a name (a dollar sign is written $$)");
	return expand_name(e, inner, out);
}

int expand_text(struct expander *e, struct str text, struct buf *out)
{
	int result = 0;

	if (++e->depth > EXPAND_DEPTH_MAX)
		result = err_set(e->err, ERR_LIMIT, "", "nested too deeply");
	while (result == 0 && text.len > 0) {
		ptrdiff_t dollar = str_chr(text, '$');
		size_t n = dollar < 0 ? text.len : (size_t)dollar;

		buf_add_str(out, str_sub(text, 0, n));
		text = str_skip(text, n + 1);
		if (dollar >= 0)
			result = expand_dollar(e, &text, out);
		if (buf_failed(out))
			result = err_set(e->err, ERR_LIMIT, "", "expands to more than %zu bytes", out->max);
	}
	e->depth--;
	return result;
}

static int loop(struct expander *e, unsigned from, struct str name)
{
	struct buf path;
	int result;

	buf_init(&path, 150);
	for (unsigned i = from; i < e->name_count; i++)
		buf_addf(&path, "$%.*s -> ", STR_ARG(e->names[i]));
	result = err_set(e->err, ERR_SYNTAX, "", "parameter refers to itself: %s$%.*s", path.ptr, STR_ARG(name));
	buf_release(&path);
	return result;
}

static void add_domain_of(struct buf *out, struct str host)
{
	ptrdiff_t dot = str_chr(host, '.');

	/* As Postfix: a host without a domain is in "localdomain". */
	buf_add_str(out, dot >= 0 ? str_skip(host, (size_t)dot + 1) : STR("localdomain"));
}

int expand_name(struct expander *e, struct str name, struct buf *out)
{
	struct expand_value value;
	struct buf host;
	int result;

	for (unsigned i = 0; i < e->name_count; i++)
		if (str_eq(e->names[i], name))
			return loop(e, i, name);
	if (e->name_count == EXPAND_DEPTH_MAX || ++e->steps > EXPAND_STEPS_MAX)
		return err_set(e->err, ERR_LIMIT, "", "too many parameters refer to one another");
	if (!e->lookup(e->ctx, name, &value))
		return 0;
	e->names[e->name_count++] = name;
	if (value.domain_of) {
		buf_init(&host, 4096);
		result = expand_text(e, value.raw, &host);
		add_domain_of(out, str_trim(buf_str(&host)));
		buf_release(&host);
	} else {
		result = expand_text(e, value.raw, out);
	}
	e->name_count--;
	return result;
}

void expand_names(struct str text, void (*f)(void *ctx, struct str name), void *ctx)
{
	while (text.len > 0) {
		ptrdiff_t dollar = str_chr(text, '$');
		struct str name;

		if (dollar < 0)
			return;
		text = str_skip(text, (size_t)dollar + 1);
		if (at(text, '$')) {
			text = str_skip(text, 1);
			continue;
		}
		if (at(text, '{') || at(text, '(')) {
			text = str_skip(text, 1);
			skip_space(&text);
			name = str_run(&text, is_inner_name_char);
		} else {
			name = str_run(&text, is_name_char);
		}
		if (name.len > 0)
			f(ctx, name);
	}
}
