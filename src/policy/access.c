/* See access.h. */
#include "policy/access.h"

static const struct {
	const char *word;
	enum access_kind kind;
} words[] = {
	{"OK", ACCESS_OK},
	{"RELAY", ACCESS_OK},
	{"DUNNO", ACCESS_DUNNO},
	{"REJECT", ACCESS_REJECT},
	{"DEFER", ACCESS_DEFER},
	{"DEFER_IF_PERMIT", ACCESS_DEFER_IF_PERMIT},
	{"DEFER_IF_REJECT", ACCESS_DEFER_IF_REJECT},
	{"WARN", ACCESS_WARN},
	{"INFO", ACCESS_WARN},
	{"HOLD", ACCESS_HOLD},
	{"DISCARD", ACCESS_DISCARD},
	{"REDIRECT", ACCESS_REDIRECT},
	{"PREPEND", ACCESS_PREPEND},
	{"FILTER", ACCESS_UNSUPPORTED},
	{"BCC", ACCESS_BCC},
};

static bool all_digits(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!ascii_digit(s.ptr[i]))
			return false;
	return s.len > 0;
}

/* "5.7.1" at the front, of the class of a reply. */
static struct str take_dsn(struct str *text)
{
	struct str word, part, rest;
	unsigned parts = 0;

	(void)str_split(*text, ' ', &word, &rest);
	rest = word;
	if (word.len < 5 || (word.ptr[0] != '4' && word.ptr[0] != '5') || word.ptr[1] != '.')
		return STR("");
	while (str_token(&rest, ".", &part)) {
		if (!all_digits(part) || part.len > 3)
			return STR("");
		parts++;
	}
	if (parts != 3 || word.ptr[word.len - 1] == '.')
		return STR("");
	*text = str_trim(str_skip(*text, word.len));
	return word;
}

struct access_action access_parse(struct str value)
{
	struct access_action a = {.kind = ACCESS_RESTRICTIONS, .text = str_trim(value), .dsn = STR("")};
	size_t n = 0;

	while (n < a.text.len && !ascii_space(a.text.ptr[n]))
		n++;
	a.word = str_sub(a.text, 0, n);
	if (all_digits(a.text)) {
		a.kind = ACCESS_OK;
		return a;
	}
	if (n == 3 && all_digits(a.word) && (a.word.ptr[0] == '4' || a.word.ptr[0] == '5')) {
		a.kind = a.word.ptr[0] == '5' ? ACCESS_REJECT : ACCESS_DEFER;
		a.code = (a.word.ptr[0] - '0') * 100 + (a.word.ptr[1] - '0') * 10 + (a.word.ptr[2] - '0');
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (str_ieq(a.word, str_from(words[i].word)))
			a.kind = words[i].kind;
	if (a.kind == ACCESS_RESTRICTIONS)
		return a;
	a.text = str_trim(str_skip(a.text, n));
	if (a.kind >= ACCESS_REJECT && a.kind <= ACCESS_DEFER_IF_REJECT)
		a.dsn = take_dsn(&a.text);
	return a;
}
