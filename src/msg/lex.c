#include "msg/lex.h"

bool lex_is_atext(char c)
{
	return ascii_alnum(c) || (unsigned char)c >= 0x80 || (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

void lex_skip_wsp(struct str *rest)
{
	size_t n = 0;

	while (n < rest->len && lex_is_wsp(rest->ptr[n]))
		n++;
	*rest = str_skip(*rest, n);
}

/* ccontent may nest without limit (RFC 5322 3.2.2): a counter is all the memory that needs. */
void lex_comment(struct str *rest, struct str *comment_r)
{
	size_t at = 0, depth = 0, end;

	for (; at < rest->len; at++) {
		char c = rest->ptr[at];

		if (c == '\\')
			at++;
		else if (c == '(')
			depth++;
		else if (c == ')' && --depth == 0)
			break;
	}
	end = at < rest->len ? at : rest->len;
	if (comment_r != NULL)
		*comment_r = str_sub(*rest, 1, end - 1);
	*rest = str_skip(*rest, end + 1);
}

void lex_skip_cfws(struct str *rest, struct str *last_comment_r)
{
	for (;;) {
		lex_skip_wsp(rest);
		if (rest->len == 0 || rest->ptr[0] != '(')
			return;
		lex_comment(rest, last_comment_r);
	}
}

void lex_quoted(struct str *rest, struct buf *out)
{
	size_t at = 1;

	for (; at < rest->len && rest->ptr[at] != '"'; at++) {
		if (rest->ptr[at] == '\\' && at + 1 < rest->len)
			at++;
		if (rest->ptr[at] != '\r' && rest->ptr[at] != '\n')
			buf_addc(out, rest->ptr[at]);
	}
	*rest = str_skip(*rest, at + 1);
}

int lex_hex(char c)
{
	if (ascii_digit(c))
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
