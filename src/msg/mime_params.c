/* Parameters of MIME fields: quoted, bare, with blanks that nobody quoted, and in RFC 2231 pieces.
 *
 * Pieces may come in any order (RFC 2231 3) and some of them percent-encoded (4.1). They are joined under the
 * plain name, with "*" behind it where the result is percent-encoded, which is the form IMAP shows. */
#include "base/vec.h"
#include "msg/charset.h"
#include "msg/header.h"
#include "msg/lex.h"
#include "msg/mime_fields.h"

/* token, RFC 2045 5.1, and 8-bit bytes; tspecials end it. */
static bool is_token_char(char c)
{
	return (unsigned char)c > ' ' && c != 0x7f && strchr("()<>@,;:\\\"/[]?=", c) == NULL;
}

static bool is_attribute_char(char c)
{
	return is_token_char(c) || c == '/' || c == '[' || c == ']';
}
static bool is_value_char(char c)
{
	return c != ';' && c != '"' && !lex_is_wsp(c);
}
static bool is_not_semicolon(char c)
{
	return c != ';';
}

struct piece {
	struct str base; /* name without "*0*" */
	uint32_t number;
	bool numbered, extended; /* "*N", "*" */
	struct str value;
	bool joined;
};
typedef VEC(struct piece) pieces;

/* Bare value: up to a blank, and if more than a comment follows, up to the semicolon ("name=two words.txt"). */
static void bare_value(struct str *rest, struct buf *value)
{
	struct str start = *rest, word = str_run(rest, is_value_char);

	lex_skip_cfws(rest, NULL);
	if (rest->len > 0 && rest->ptr[0] != ';') {
		*rest = start;
		word = str_trim(str_run(rest, is_not_semicolon));
	}
	for (size_t i = 0; i < word.len; i++)
		if (word.ptr[i] != '\r' && word.ptr[i] != '\n')
			buf_addc(value, word.ptr[i]);
}

/* One parameter behind its semicolon. False where there is none (more may follow). */
static bool take_param(struct str *rest, struct str *name_r, struct buf *value)
{
	buf_clear(value);
	lex_skip_cfws(rest, NULL);
	*name_r = str_run(rest, is_attribute_char);
	lex_skip_cfws(rest, NULL);
	if (name_r->len == 0 || rest->len == 0 || rest->ptr[0] != '=') {
		str_run(rest, is_not_semicolon);
		return false;
	}
	*rest = str_skip(*rest, 1);
	lex_skip_cfws(rest, NULL);
	if (rest->len > 0 && rest->ptr[0] == '"')
		lex_quoted(rest, value);
	else
		bare_value(rest, value);
	str_run(rest, is_not_semicolon);
	return true;
}

/* "filename*1*": base, number and marks. */
static struct piece split_piece(struct str name)
{
	struct piece p = {.base = name};
	struct str number;
	ptrdiff_t star;

	if (str_ends(name, STR("*"))) {
		p.extended = true;
		name.len--;
	}
	star = str_rchr(name, '*');
	p.base = name;
	if (star > 0) {
		number = str_skip(name, (size_t)star + 1);
		if (number.len <= 4 && str_to_u32(number, &p.number)) {
			p.numbered = true;
			p.base = str_sub(name, 0, (size_t)star);
		}
	}
	return p;
}

/* Percent-encodes what a plain piece holds, because others of its parameter are percent-encoded. */
static void add_extended(struct buf *out, struct str value)
{
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.ptr[i];

		if (is_token_char((char)c) && c < 0x80 && c != '*' && c != '\'' && c != '%')
			buf_addc(out, (char)c);
		else
			buf_addf(out, "%%%02X", c);
	}
}

/* Pieces 0, 1, 2 ... of one name until one is missing; the first of a number counts. */
static void join_pieces(pieces *all, size_t first, struct buf *out, bool *extended_r)
{
	bool extended = false;

	buf_clear(out);
	for (size_t i = 0; i < all->n; i++)
		if (str_ieq(all->v[i].base, all->v[first].base) && all->v[i].numbered)
			extended |= all->v[i].extended;
	for (uint32_t number = 0; number < MIME_PARAMS_MAX; number++) {
		size_t found = all->n;

		for (size_t i = all->n; i-- > 0;)
			if (all->v[i].numbered && all->v[i].number == number &&
			    str_ieq(all->v[i].base, all->v[first].base))
				found = i;
		if (found == all->n)
			break;
		if (extended && number == 0 && !all->v[found].extended)
			buf_addz(out, "''"); /* charset and language stand in piece 0 only */
		if (extended && !all->v[found].extended)
			add_extended(out, all->v[found].value);
		else
			buf_add_str(out, all->v[found].value);
	}
	for (size_t i = 0; i < all->n; i++)
		if (all->v[i].numbered && str_ieq(all->v[i].base, all->v[first].base))
			all->v[i].joined = true;
	*extended_r = extended;
}

static struct str param_name(struct mime_budget *budget, struct arena *arena, struct str base, bool extended)
{
	struct str name = mime_keep(budget, arena, str_sub(base, 0, 255));

	return extended ? arena_printf(arena, "%.*s*", STR_ARG(name)) : name;
}

static void pieces_to_params(pieces *all, struct mime_budget *budget, struct arena *arena, struct mime_param **params_r,
			     size_t *count_r)
{
	struct mime_param *params = ARENA_ARRAY(arena, struct mime_param, all->n);
	struct buf joined;

	buf_init(&joined, (size_t)MIME_PARAMS_MAX * MIME_VALUE_MAX * 3);
	for (size_t i = 0; i < all->n; i++) {
		struct piece *p = &all->v[i];
		bool extended = p->extended;
		struct str value = p->value;

		if (p->joined)
			continue;
		if (p->numbered) {
			join_pieces(all, i, &joined, &extended);
			value = buf_str(&joined);
		}
		params[*count_r].name = param_name(budget, arena, p->base, extended);
		params[*count_r].value = mime_keep(budget, arena, value);
		++*count_r;
	}
	buf_release(&joined);
	*params_r = params;
}

void mime_params_parse(struct str rest, struct mime_budget *budget, struct arena *arena, struct mime_param **params_r,
		       size_t *count_r)
{
	struct arena scratch;
	pieces all = {0};
	struct buf value;
	struct str name;

	*params_r = NULL;
	*count_r = 0;
	arena_init(&scratch);
	buf_init(&value, rest.len + 1);
	while (rest.len > 0 && all.n < MIME_PARAMS_MAX) {
		struct piece p;

		if (rest.ptr[0] == ';')
			rest = str_skip(rest, 1);
		else
			str_run(&rest, is_not_semicolon);
		if (!take_param(&rest, &name, &value))
			continue;
		p = split_piece(name);
		p.value = arena_str(&scratch, str_sub(buf_str(&value), 0, MIME_VALUE_MAX));
		vec_push(&all, p);
	}
	if (all.n > 0)
		pieces_to_params(&all, budget, arena, params_r, count_r);
	vec_release(&all);
	buf_release(&value);
	arena_release(&scratch);
}

/* ---- reading them ---- */

struct str mime_param(const struct mime_param *params, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (str_ieq(params[i].name, str_from(name)))
			return params[i].value;
	return STR_NULL;
}

/* charset'language'percent-encoded (RFC 2231 4). */
static struct str extended_text(struct str value, struct arena *arena)
{
	struct str charset, language, rest;
	struct buf bytes, text;
	struct str result;

	if (!str_split(value, '\'', &charset, &rest) || !str_split(rest, '\'', &language, &rest)) {
		charset = STR("");
		rest = value;
	}
	buf_init(&bytes, rest.len + 1);
	buf_init(&text, rest.len * 3 + 1);
	for (size_t i = 0; i < rest.len; i++) {
		int high = i + 2 < rest.len ? lex_hex(rest.ptr[i + 1]) : -1;
		int low = i + 2 < rest.len ? lex_hex(rest.ptr[i + 2]) : -1;

		if (rest.ptr[i] == '%' && high >= 0 && low >= 0) {
			buf_addc(&bytes, (char)(high << 4 | low));
			i += 2;
		} else {
			buf_addc(&bytes, rest.ptr[i]);
		}
	}
	if (charset.len > 0)
		charset_decode(&text, charset, buf_str(&bytes));
	else
		charset_guess(&text, buf_str(&bytes));
	result = arena_str(arena, buf_str(&text));
	buf_release(&bytes);
	buf_release(&text);
	return result;
}

struct str mime_param_text(const struct mime_param *params, size_t count, const char *name, struct arena *arena)
{
	struct str plain = mime_param(params, count, name);

	for (size_t i = 0; i < count; i++)
		if (str_ends(params[i].name, STR("*")) &&
		    str_ieq(str_sub(params[i].name, 0, params[i].name.len - 1), str_from(name)))
			return extended_text(params[i].value, arena);
	return plain.ptr != NULL ? header_decode(plain, arena) : STR_NULL;
}
