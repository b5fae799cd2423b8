#include "msg/xtext.h"
#include "base/utf8.h"
#include "msg/lex.h"

/* xchar, RFC 3461 4. */
static bool is_xchar(unsigned char c)
{
	return c >= '!' && c <= '~' && c != '+' && c != '=';
}

void xtext_encode(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];

		if (is_xchar(c))
			buf_addc(out, (char)c);
		else
			buf_addf(out, "+%02X", c);
	}
}

/* hexchar: "+" and two upper case digits; lower case is taken too. */
bool xtext_decode(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];

		if (c == '+') {
			int high = i + 2 < text.len ? lex_hex(text.ptr[i + 1]) : -1;
			int low = i + 2 < text.len ? lex_hex(text.ptr[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			buf_addc(out, (char)(high << 4 | low));
			i += 2;
		} else if (is_xchar(c)) {
			buf_addc(out, (char)c);
		} else {
			return false;
		}
	}
	return !buf_failed(out);
}

/* QCHAR, RFC 6533 3: xchar without the backslash; QUCHAR: what is no ASCII, too. */
static void utf8_encode(struct buf *out, struct str text, bool may_utf8)
{
	while (text.len > 0) {
		int32_t c = utf8_next(&text);

		if (c >= 0 && c < 0x80 && is_xchar((unsigned char)c) && c != '\\')
			buf_addc(out, (char)c);
		else if (c >= 0x80 && may_utf8)
			utf8_add(out, (uint32_t)c);
		else
			buf_addf(out, "\\x{%02X}", c < 0 ? 0xfffd : (unsigned)c);
	}
}

void xtext_utf8_encode(struct buf *out, struct str text)
{
	utf8_encode(out, text, false);
}

void xtext_unitext_encode(struct buf *out, struct str text)
{
	utf8_encode(out, text, true);
}

/* "\x{HEX}" at the front of *rest. */
static bool take_embedded(struct str *rest, struct buf *out)
{
	uint32_t value = 0;
	size_t n = 3;

	if (!str_starts(*rest, STR("\\x{")))
		return false;
	for (; n < rest->len && n < 9 && lex_hex(rest->ptr[n]) >= 0; n++)
		value = value << 4 | (uint32_t)lex_hex(rest->ptr[n]);
	if (n == 3 || n >= rest->len || rest->ptr[n] != '}')
		return false;
	if (value == 0 || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
		return false;
	utf8_add(out, value);
	*rest = str_skip(*rest, n + 1);
	return true;
}

bool xtext_utf8_decode(struct buf *out, struct str text)
{
	if (!utf8_valid(text))
		return false;
	while (text.len > 0) {
		unsigned char c = (unsigned char)text.ptr[0];

		if (c == '\\') {
			if (!take_embedded(&text, out))
				return false;
			continue;
		}
		if (c < 0x80 && !is_xchar(c))
			return false;
		buf_addc(out, (char)c);
		text = str_skip(text, 1);
	}
	return !buf_failed(out);
}
