#include "msg/mutf7.h"
#include "base/utf8.h"

/* RFC 3501 5.1.3: base64 with ',' for '/', without padding. */
static const char ALPHABET[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

static int value_of(char c)
{
	const char *at = c != '\0' ? strchr(ALPHABET, c) : NULL;

	return at != NULL ? (int)(at - ALPHABET) : -1;
}

static bool is_direct(uint32_t c)
{
	return c >= 0x20 && c <= 0x7e;
}

/* One UTF-16 unit of a shift; *high is a surrogate that waits for its other half. */
static bool decode_unit(struct buf *out, uint32_t unit, uint32_t *high, bool strict)
{
	if (*high != 0) {
		if (unit < 0xdc00 || unit > 0xdfff)
			return false;
		utf8_add(out, 0x10000 + ((*high - 0xd800) << 10) + (unit - 0xdc00));
		*high = 0;
		return true;
	}
	if (unit >= 0xdc00 && unit <= 0xdfff)
		return false;
	if (unit >= 0xd800 && unit <= 0xdbff)
		*high = unit;
	else if (unit == 0 || (strict ? is_direct(unit) : unit < 0x20 || unit == 0x7f))
		return false;
	else
		utf8_add(out, unit);
	return true;
}

/* The base64 between '&' and '-'. */
static bool decode_shift(struct buf *out, struct str text, bool strict)
{
	uint32_t bits = 0, high = 0;
	unsigned count = 0;

	for (size_t i = 0; i < text.len; i++) {
		int value = value_of(text.ptr[i]);

		if (value < 0)
			return false;
		bits = bits << 6 | (uint32_t)value;
		count += 6;
		if (count < 16)
			continue;
		count -= 16;
		if (!decode_unit(out, bits >> count & 0xffff, &high, strict))
			return false;
	}
	return high == 0 && count < 6 && (bits & ((1u << count) - 1)) == 0;
}

static bool decode(struct buf *out, struct str name, bool strict)
{
	bool after_shift = false;

	while (name.len > 0) {
		char c = name.ptr[0];
		ptrdiff_t end;

		name = str_skip(name, 1);
		if (c != '&') {
			if (!is_direct((unsigned char)c))
				return false;
			buf_addc(out, c);
			after_shift = false;
			continue;
		}
		end = str_chr(name, '-');
		if (end < 0)
			return false;
		if (end == 0) {
			buf_addc(out, '&');
		} else if ((strict && after_shift) || !decode_shift(out, str_sub(name, 0, (size_t)end), strict)) {
			return false;
		}
		after_shift = end > 0;
		name = str_skip(name, (size_t)end + 1);
	}
	return !buf_failed(out);
}

bool mutf7_decode(struct buf *out, struct str name)
{
	return decode(out, name, true);
}

bool mutf7_decode_any(struct buf *out, struct str name)
{
	return decode(out, name, false);
}

struct shift {
	struct buf *out;
	uint32_t bits;
	unsigned count;
	bool open;
};

static void shift_add(struct shift *s, uint32_t unit)
{
	if (!s->open)
		buf_addc(s->out, '&');
	s->open = true;
	s->bits = s->bits << 16 | unit;
	for (s->count += 16; s->count >= 6; s->count -= 6)
		buf_addc(s->out, ALPHABET[s->bits >> (s->count - 6) & 63]);
}

static void shift_close(struct shift *s)
{
	if (s->count > 0)
		buf_addc(s->out, ALPHABET[s->bits << (6 - s->count) & 63]);
	if (s->open)
		buf_addc(s->out, '-');
	s->bits = s->count = 0;
	s->open = false;
}

/* Characters that stand as themselves, but for those in `shifted`. */
static bool encode(struct buf *out, struct str name, const char *shifted)
{
	struct shift s = {.out = out};

	while (name.len > 0) {
		int32_t c = utf8_next(&name);

		if (c <= 0)
			return false;
		if (is_direct((uint32_t)c) && strchr(shifted, c) == NULL) {
			shift_close(&s);
			buf_addz(out, c == '&' ? "&-" : (char[]){(char)c, '\0'});
		} else if (c < 0x10000) {
			shift_add(&s, (uint32_t)c);
		} else {
			shift_add(&s, 0xd800 + ((uint32_t)(c - 0x10000) >> 10));
			shift_add(&s, 0xdc00 + ((uint32_t)(c - 0x10000) & 0x3ff));
		}
	}
	shift_close(&s);
	return !buf_failed(out);
}

bool mutf7_encode(struct buf *out, struct str name)
{
	return encode(out, name, "");
}

bool mutf7_encode_level(struct buf *out, struct str level)
{
	return encode(out, level, "./");
}
