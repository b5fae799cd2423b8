#include "msg/charset.h"
#include "base/utf8.h"
#include "msg/charset_iconv.h"

static const struct charset {
	const char *name;
	uint16_t high[128];
} CHARSETS[] = {
#define CHARSET(name, ...) {name, {__VA_ARGS__}},
#include "msg/charset_tables.def"
#undef CHARSET
};

/* Names in mail for what the tables call otherwise (IANA character-sets registry, and use). */
static const struct {
	const char *alias, *name;
} ALIASES[] = {
	{"utf8", "utf-8"},
	{"us-ascii", "utf-8"}, /* whoever labels UTF-8 as ASCII meant it */
	{"ascii", "utf-8"},
	{"ansi_x3.4-1968", "utf-8"},
	/* As browsers do: the bytes 0x80 .. 0x9f of "Latin 1" are those of windows-1252. */
	{"iso-8859-1", "windows-1252"},
	{"latin1", "windows-1252"},
	{"iso-8859-8-i", "iso-8859-8"},
	{"iso-8859-8-e", "iso-8859-8"},
	{"latin2", "iso-8859-2"},
	{"latin5", "iso-8859-9"},
	{"latin9", "iso-8859-15"},
	{"latin-9", "iso-8859-15"},
	{"tis-620", "iso-8859-11"},
	{"koi8", "koi8-r"},
	{"utf-16", "utf-16be"},
};

static struct str canonical(struct str name, char out[32])
{
	size_t n = 0;

	name = str_trim(name);
	if (name.len >= 30)
		return STR_NULL;
	for (size_t i = 0; i < name.len; i++)
		out[n++] = name.ptr[i] == '_' ? '-' : ascii_lower(name.ptr[i]);
	/* "iso8859-1", "cp1252", "x-cp1252" */
	if (str_starts(str_of(out, n), STR("iso8859-"))) {
		memmove(out + 4, out + 3, n - 3);
		out[3] = '-';
		n++;
	} else if (str_starts(str_of(out, n), STR("x-cp125")) || str_starts(str_of(out, n), STR("cp125"))) {
		char digits[4];

		memcpy(digits, out + n - 4, 4);
		snprintf(out, 32, "windows-%.4s", digits);
		n = 12;
	}
	for (size_t i = 0; i < ARRAY_SIZE(ALIASES); i++)
		if (str_eq(str_of(out, n), str_from(ALIASES[i].alias)))
			return str_from(ALIASES[i].name);
	return str_of(out, n);
}

static const struct charset *table_of(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(CHARSETS); i++)
		if (str_eq(name, str_from(CHARSETS[i].name)))
			return &CHARSETS[i];
	return NULL;
}

static bool is_utf16(struct str name)
{
	return str_eq(name, STR("utf-16be")) || str_eq(name, STR("utf-16le"));
}

bool charset_known(struct str name)
{
	char space[32];

	name = canonical(name, space);
	return str_eq(name, STR("utf-8")) || is_utf16(name) || table_of(name) != NULL || charset_iconv_known(name);
}

static void decode_table(struct buf *out, const struct charset *table, struct str bytes)
{
	for (size_t i = 0; i < bytes.len; i++) {
		unsigned char c = (unsigned char)bytes.ptr[i];

		if (c < 0x80)
			buf_addc(out, (char)c);
		else
			utf8_add(out, table->high[c - 0x80] != 0 ? table->high[c - 0x80] : 0xfffd);
	}
}

static void decode_utf16(struct buf *out, bool little, struct str bytes)
{
	uint32_t high = 0;

	for (size_t i = 0; i + 1 < bytes.len; i += 2) {
		unsigned char a = (unsigned char)bytes.ptr[i], b = (unsigned char)bytes.ptr[i + 1];
		uint32_t unit = little ? (uint32_t)b << 8 | a : (uint32_t)a << 8 | b;

		if (i == 0 && unit == 0xfeff)
			continue;
		if (i == 0 && unit == 0xfffe) {
			little = !little;
			continue;
		}
		if (high != 0 && unit >= 0xdc00 && unit < 0xe000) {
			utf8_add(out, 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00));
			high = 0;
			continue;
		}
		if (high != 0)
			utf8_add(out, 0xfffd);
		high = unit >= 0xd800 && unit < 0xdc00 ? unit : 0;
		if (high == 0)
			utf8_add(out, unit >= 0xdc00 && unit < 0xe000 ? 0xfffd : unit);
	}
	if (high != 0 || bytes.len % 2 != 0)
		utf8_add(out, 0xfffd);
}

bool charset_decode(struct buf *out, struct str name, struct str bytes)
{
	char space[32];
	const struct charset *table;

	name = canonical(name, space);
	if (str_eq(name, STR("utf-8"))) {
		utf8_sanitize(out, bytes);
		return true;
	}
	if (is_utf16(name)) {
		decode_utf16(out, str_eq(name, STR("utf-16le")), bytes);
		return true;
	}
	table = table_of(name);
	if (table != NULL) {
		decode_table(out, table, bytes);
		return true;
	}
	if (charset_iconv_decode(out, name, bytes))
		return true;
	if (utf8_valid(bytes)) {
		buf_add_str(out, bytes);
		return false;
	}
	for (size_t i = 0; i < bytes.len; i++) {
		if ((unsigned char)bytes.ptr[i] < 0x80)
			buf_addc(out, bytes.ptr[i]);
		else
			utf8_add(out, 0xfffd);
	}
	return false;
}

void charset_guess(struct buf *out, struct str bytes)
{
	if (utf8_valid(bytes))
		buf_add_str(out, bytes);
	else
		charset_decode(out, STR("windows-1252"), bytes);
}
