#include "imap/parse.h"
#include "base/utf8.h"
#include "base/vec.h"
#include "msg/date.h"
#include "msg/mutf7.h"

void imap_parser_init(struct imap_parser *p, struct str in, struct arena *arena)
{
	*p = (struct imap_parser){.in = in, .arena = arena};
}

#undef imap_parse_fail
bool imap_parse_fail(struct imap_parser *p, const char *error)
{
	if (p->error == NULL)
		p->error = error;
	return false;
}

static bool more(const struct imap_parser *p)
{
	return p->at < p->in.len;
}
static char next(const struct imap_parser *p)
{
	return p->in.ptr[p->at];
}

bool imap_parse_peek(const struct imap_parser *p, char c)
{
	return more(p) && next(p) == c;
}

bool imap_parse_take(struct imap_parser *p, char c)
{
	if (!imap_parse_peek(p, c))
		return false;
	p->at++;
	return true;
}

bool imap_parse_char(struct imap_parser *p, char c)
{
	if (imap_parse_take(p, c))
		return true;
	return imap_parse_fail(p, c == '('   ? "Expected a parenthesis"
				  : c == ')' ? "Missing closing parenthesis"
					     : "Syntax error");
}

bool imap_parse_space(struct imap_parser *p)
{
	if (!imap_parse_take(p, ' '))
		return imap_parse_fail(p, more(p) ? "Missing space between arguments" : "Missing argument");
	while (imap_parse_take(p, ' '))
		;
	return true;
}

bool imap_parse_at_end(struct imap_parser *p)
{
	while (imap_parse_take(p, ' '))
		;
	return !more(p);
}

bool imap_parse_end(struct imap_parser *p)
{
	return imap_parse_at_end(p) || imap_parse_fail(p, "Unexpected extra arguments");
}

/* ATOM-CHAR of RFC 3501 9, with 8-bit bytes allowed. */
static bool is_atom_char(char c)
{
	unsigned char u = (unsigned char)c;

	return u > 0x20 && u != 0x7f && strchr("(){%*\"\\]", c) == NULL;
}

static struct str take_while(struct imap_parser *p, bool (*is)(char))
{
	size_t from = p->at;

	while (more(p) && is(next(p)))
		p->at++;
	return str_sub(p->in, from, p->at - from);
}

static bool is_tag_char(char c)
{
	return (is_atom_char(c) || c == ']') && c != '+';
}
static bool is_astring_char(char c)
{
	return is_atom_char(c) || c == ']';
}
static bool is_pattern_char(char c)
{
	return is_astring_char(c) || c == '%' || c == '*';
}

bool imap_parse_tag(struct imap_parser *p, struct str *tag_r)
{
	*tag_r = take_while(p, is_tag_char);
	return tag_r->len > 0 || imap_parse_fail(p, "Missing tag");
}

bool imap_parse_atom(struct imap_parser *p, struct str *atom_r)
{
	*atom_r = take_while(p, is_atom_char);
	return atom_r->len > 0 || imap_parse_fail(p, more(p) ? "Expected an atom" : "Missing argument");
}

bool imap_parse_word(struct imap_parser *p, const char *word)
{
	struct str w = str_from(word), rest = str_skip(p->in, p->at);

	if (!str_istarts(rest, w) || (rest.len > w.len && is_atom_char(rest.ptr[w.len])))
		return false;
	p->at += w.len;
	return true;
}

static struct str take_digits(struct imap_parser *p)
{
	return take_while(p, ascii_digit);
}

bool imap_parse_u32(struct imap_parser *p, uint32_t *n_r)
{
	return str_to_u32(take_digits(p), n_r) || imap_parse_fail(p, "Invalid number");
}

bool imap_parse_u64(struct imap_parser *p, uint64_t *n_r)
{
	return (str_to_u64(take_digits(p), n_r) && *n_r <= INT64_MAX) || imap_parse_fail(p, "Invalid number");
}

static bool parse_quoted(struct imap_parser *p, struct str *s_r)
{
	size_t from = p->at, escapes = 0;

	for (; more(p) && next(p) != '"'; p->at++) {
		if (next(p) == '\r' || next(p) == '\n' || next(p) == '\0')
			return imap_parse_fail(p, "Line end inside a quoted string");
		if (next(p) == '\\') {
			escapes++;
			if (++p->at >= p->in.len)
				break;
		}
	}
	if (!more(p))
		return imap_parse_fail(p, "Missing closing quote");
	*s_r = str_sub(p->in, from, p->at++ - from);
	if (escapes > 0) {
		char *out = arena_alloc(p->arena, s_r->len + 1);
		size_t n = 0;

		for (size_t i = 0; i < s_r->len; i++) {
			if (s_r->ptr[i] == '\\')
				i++;
			out[n++] = s_r->ptr[i];
		}
		*s_r = str_of(out, n);
	}
	return true;
}

static bool parse_literal(struct imap_parser *p, struct str *s_r)
{
	uint64_t n;

	if (!imap_parse_u64(p, &n))
		return false;
	imap_parse_take(p, '+');
	if (!imap_parse_take(p, '}'))
		return imap_parse_fail(p, "Invalid literal");
	imap_parse_take(p, '\r');
	if (!imap_parse_take(p, '\n') || n > p->in.len - p->at)
		return imap_parse_fail(p, "Invalid literal");
	*s_r = str_sub(p->in, p->at, n);
	p->at += n;
	if (str_chr(*s_r, '\0') >= 0)
		return imap_parse_fail(p, "NUL in a literal");
	return true;
}

bool imap_parse_string(struct imap_parser *p, struct str *s_r)
{
	if (imap_parse_take(p, '"'))
		return parse_quoted(p, s_r);
	if (imap_parse_take(p, '{'))
		return parse_literal(p, s_r);
	return imap_parse_fail(p, more(p) ? "Expected a string" : "Missing argument");
}

static bool parse_text(struct imap_parser *p, bool (*is)(char), struct str *s_r)
{
	if (imap_parse_peek(p, '"') || imap_parse_peek(p, '{'))
		return imap_parse_string(p, s_r);
	*s_r = take_while(p, is);
	return s_r->len > 0 || imap_parse_fail(p, more(p) ? "Expected a string" : "Missing argument");
}

bool imap_parse_astring(struct imap_parser *p, struct str *s_r)
{
	return parse_text(p, is_astring_char, s_r);
}

bool imap_parse_nstring(struct imap_parser *p, struct str *s_r)
{
	if (imap_parse_word(p, "NIL")) {
		*s_r = STR_NULL;
		return true;
	}
	return imap_parse_string(p, s_r);
}

/* ---- mailbox names (RFC 3501 5.1) ---- */

struct str imap_mailbox_normalize(struct str name, struct arena *arena)
{
	struct str first, rest;
	bool deeper = str_split(name, '/', &first, &rest);

	/* Some clients name a folder that holds folders with a final separator. */
	if (name.len > 1 && name.ptr[name.len - 1] == '/')
		return imap_mailbox_normalize(str_sub(name, 0, name.len - 1), arena);
	if (!str_ieq(first, STR("INBOX")) || str_starts(name, STR("INBOX")))
		return name;
	return deeper ? arena_printf(arena, "INBOX/%.*s", STR_ARG(rest)) : STR("INBOX");
}

/* Modified UTF-7 where it reads as such; raw UTF-8 as it is. False: neither. */
static bool decode_name(struct str raw, struct arena *arena, struct str *name_r)
{
	struct buf out;
	bool ok;

	if (!str_is_ascii(raw)) {
		*name_r = raw;
		return utf8_valid(raw);
	}
	if (str_chr(raw, '&') < 0) {
		*name_r = raw;
		return true;
	}
	buf_init(&out, raw.len * 4 + 16);
	ok = mutf7_decode(&out, raw) && !buf_failed(&out);
	*name_r = ok ? arena_str(arena, buf_str(&out)) : raw;
	buf_release(&out);
	return ok;
}

bool imap_parse_mailbox(struct imap_parser *p, struct str *name_r)
{
	struct str raw;

	if (!imap_parse_astring(p, &raw))
		return false;
	if (!decode_name(raw, p->arena, name_r))
		return imap_parse_fail(p, "Mailbox name is not valid modified UTF-7");
	if (name_r->len == 0 || name_r->len > 1000 || str_has_control(*name_r))
		return imap_parse_fail(p, "Invalid mailbox name");
	*name_r = imap_mailbox_normalize(*name_r, p->arena);
	return true;
}

bool imap_parse_pattern(struct imap_parser *p, struct str *pattern_r, bool *valid_r)
{
	struct str raw;

	if (!parse_text(p, is_pattern_char, &raw))
		return false;
	*valid_r = decode_name(raw, p->arena, pattern_r) && pattern_r->len <= 1000;
	return true;
}

/* ---- sets, flags, dates ---- */

static bool parse_set_number(struct imap_parser *p, uint32_t *n_r)
{
	if (imap_parse_take(p, '*')) {
		*n_r = 0;
		return true;
	}
	if (!str_to_u32(take_digits(p), n_r) || *n_r == 0)
		return imap_parse_fail(p, "Invalid message set");
	return true;
}

bool imap_parse_set(struct imap_parser *p, struct imap_set *set_r)
{
	*set_r = (struct imap_set){0};
	do {
		struct imap_set_range r;

		if (!parse_set_number(p, &r.first))
			return false;
		r.last = r.first;
		if (imap_parse_take(p, ':') && !parse_set_number(p, &r.last))
			return false;
		vec_push_arena(p->arena, set_r, r);
	} while (imap_parse_take(p, ','));
	return true;
}

static bool parse_system_flag(struct imap_parser *p, struct imap_flags *flags)
{
	static const struct {
		const char *name;
		uint32_t flag;
	} table[] = {
		{"Seen", FLAG_SEEN},	   {"Answered", FLAG_ANSWERED}, {"Flagged", FLAG_FLAGGED},
		{"Deleted", FLAG_DELETED}, {"Draft", FLAG_DRAFT},	{"Recent", 0},
	};
	struct str name;

	if (!imap_parse_atom(p, &name))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (str_ieq(name, str_from(table[i].name))) {
			flags->system |= table[i].flag;
			return true;
		}
	}
	return imap_parse_fail(p, "Unknown system flag");
}

bool imap_parse_flag(struct imap_parser *p, struct imap_flags *flags)
{
	struct store_name keyword;

	if (imap_parse_take(p, '\\'))
		return parse_system_flag(p, flags);
	if (!imap_parse_atom(p, &keyword.name))
		return false;
	if (keyword.name.len > STORE_KEYWORD_LEN_MAX || !str_is_ascii(keyword.name))
		return imap_parse_fail(p, "Invalid keyword");
	for (size_t i = 0; i < flags->n; i++) {
		if (str_ieq(flags->v[i].name, keyword.name))
			return true;
	}
	if (flags->n >= IMAP_KEYWORDS_MAX)
		return imap_parse_fail(p, "Too many keywords");
	vec_push_arena(p->arena, flags, keyword);
	return true;
}

bool imap_parse_flag_list(struct imap_parser *p, struct imap_flags *flags_r)
{
	*flags_r = (struct imap_flags){0};
	if (!imap_parse_char(p, '('))
		return false;
	while (!imap_parse_take(p, ')')) {
		if (!imap_parse_flag(p, flags_r))
			return false;
		if (!imap_parse_peek(p, ')') && !imap_parse_space(p))
			return false;
	}
	return true;
}

bool imap_parse_date_time(struct imap_parser *p, uint64_t *time_r)
{
	struct str text;
	int64_t t;

	if (!imap_parse_string(p, &text))
		return false;
	if (!date_imap_parse(text, &t))
		return imap_parse_fail(p, "Invalid date-time");
	*time_r = t < 0 ? 0 : (uint64_t)t;
	return true;
}

bool imap_parse_date(struct imap_parser *p, int64_t *day_r)
{
	struct str text;

	if (!imap_parse_astring(p, &text))
		return false;
	return date_day_parse(text, day_r) || imap_parse_fail(p, "Invalid date");
}

bool imap_literal_spec(struct str line, uint64_t *size_r, bool *sync_r, size_t *spec_at_r)
{
	ptrdiff_t open;
	struct str digits;

	if (line.len < 3 || line.ptr[line.len - 1] != '}')
		return false;
	open = str_rchr(line, '{');
	if (open < 0)
		return false;
	digits = str_sub(line, (size_t)open + 1, line.len - (size_t)open - 2);
	*sync_r = !str_ends(digits, STR("+"));
	if (!*sync_r)
		digits.len--;
	*spec_at_r = (size_t)open;
	return str_to_u64(digits, size_r) && *size_r <= INT64_MAX;
}
