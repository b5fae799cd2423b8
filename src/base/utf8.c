/* utf8 - see base/utf8.h. RFC 3629 4. */
#include "base/utf8.h"

#define REPLACEMENT 0xfffd

/* Length of the sequence that begins with byte c, which is not ASCII, and the smallest code point it may carry; 0 if
 * none does. */
static unsigned sequence(unsigned char c, uint32_t *value_r, uint32_t *least_r)
{
	if (c >= 0xc2 && c <= 0xdf) {
		*value_r = c & 0x1f;
		*least_r = 0x80;
		return 2;
	}
	if (c >= 0xe0 && c <= 0xef) {
		*value_r = c & 0x0f;
		*least_r = 0x800;
		return 3;
	}
	if (c >= 0xf0 && c <= 0xf4) {
		*value_r = c & 0x07;
		*least_r = 0x10000;
		return 4;
	}
	return 0;
}

int32_t utf8_next(struct str *s)
{
	uint32_t value, least;
	unsigned len;

	if (s->len == 0)
		return -2;
	if ((unsigned char)s->ptr[0] < 0x80) {
		value = (unsigned char)s->ptr[0];
		*s = str_skip(*s, 1);
		return (int32_t)value;
	}
	len = sequence((unsigned char)s->ptr[0], &value, &least);
	if (len == 0 || len > s->len)
		goto malformed;
	for (unsigned i = 1; i < len; i++) {
		unsigned char c = (unsigned char)s->ptr[i];

		if ((c & 0xc0) != 0x80)
			goto malformed;
		value = value << 6 | (c & 0x3f);
	}
	if (value < least || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
		goto malformed;
	*s = str_skip(*s, len);
	return (int32_t)value;
malformed:
	*s = str_skip(*s, 1);
	return -1;
}

/* Most text is ASCII: so much of it stands in front, in steps of a word. */
static size_t ascii_words(struct str s)
{
	size_t at = 0;
	uint64_t word;

	for (; at + sizeof(word) <= s.len; at += sizeof(word)) {
		memcpy(&word, s.ptr + at, sizeof(word));
		if (word & 0x8080808080808080u)
			break;
	}
	return at;
}

bool utf8_valid(struct str s)
{
	int32_t c;

	do {
		s = str_skip(s, ascii_words(s));
		c = utf8_next(&s);
	} while (c >= 0);
	return c == -2;
}

void utf8_add(struct buf *out, uint32_t c)
{
	char bytes[4];
	size_t len;

	if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		c = REPLACEMENT;
	if (c < 0x80) {
		bytes[0] = (char)c;
		len = 1;
	} else if (c < 0x800) {
		bytes[0] = (char)(0xc0 | c >> 6);
		len = 2;
	} else if (c < 0x10000) {
		bytes[0] = (char)(0xe0 | c >> 12);
		len = 3;
	} else {
		bytes[0] = (char)(0xf0 | c >> 18);
		len = 4;
	}
	for (size_t i = 1; i < len; i++)
		bytes[i] = (char)(0x80 | (c >> (6 * (len - 1 - i)) & 0x3f));
	buf_add(out, bytes, len);
}

void utf8_sanitize(struct buf *out, struct str s)
{
	struct str rest = s;
	int32_t c;

	while ((c = utf8_next(&rest)) != -2) {
		if (c == -1)
			utf8_add(out, REPLACEMENT);
		else
			buf_add(out, s.ptr, s.len - rest.len);
		s = rest;
	}
}

/* How many bytes the control takes that stands there; 0: none. */
static size_t control_size(const char *at, const char *end)
{
	unsigned char c = (unsigned char)*at;

	if (c < 0x20 || c == 0x7f)
		return 1;
	return c == 0xc2 && at + 1 < end && (unsigned char)at[1] >= 0x80 && (unsigned char)at[1] <= 0x9f ? 2 : 0;
}

void utf8_hide_controls(char *text, size_t len)
{
	for (char *at = text, *end = text + len; at < end; at++)
		for (size_t n = control_size(at, end); n > 0; n--)
			at[n - 1] = '?';
}

bool utf8_has_control(struct str s)
{
	for (const char *at = s.ptr, *end = s.ptr + s.len; at < end; at++)
		if (control_size(at, end) > 0)
			return true;
	return false;
}
