#include "imap/reply.h"
#include "base/encode.h"
#include "base/utf8.h"
#include "msg/mutf7.h"

#define QUOTED_MAX	   1000
#define ENCODED_WORD_BYTES 45 /* 45 bytes are 60 of base64; a word may have 75 characters (RFC 2047 2) */

/* TEXT-CHAR: any 7-bit byte but NUL, CR and LF. */
static bool is_quotable(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c == 0 || c == '\r' || c == '\n' || c > 0x7f)
			return false;
	}
	return s.len <= QUOTED_MAX;
}

static void add_quoted(struct buf *out, struct str s)
{
	buf_addc(out, '"');
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] == '"' || s.ptr[i] == '\\')
			buf_addc(out, '\\');
		buf_addc(out, s.ptr[i]);
	}
	buf_addc(out, '"');
}

static void add_literal(struct buf *out, struct str s)
{
	buf_addf(out, "{%zu}\r\n", s.len);
	for (size_t i = 0; i < s.len; i++)
		buf_addc(out, s.ptr[i] == '\0' ? '?' : s.ptr[i]);
}

void imap_add_string(struct buf *out, struct str s)
{
	if (is_quotable(s))
		add_quoted(out, s);
	else
		add_literal(out, s);
}

void imap_add_astring(struct buf *out, struct str s)
{
	bool atom = s.len > 0 && s.len <= QUOTED_MAX && !str_ieq(s, STR("NIL"));

	for (size_t i = 0; atom && i < s.len; i++)
		atom = (unsigned char)s.ptr[i] > 0x20 && (unsigned char)s.ptr[i] < 0x7f &&
		       strchr("(){%*\"\\]", s.ptr[i]) == NULL;
	if (atom)
		buf_add_str(out, s);
	else
		imap_add_string(out, s);
}

void imap_add_nstring(struct buf *out, struct str s)
{
	if (s.ptr == NULL)
		buf_addz(out, "NIL");
	else
		imap_add_string(out, s);
}

/* Whatever the bytes are, UTF-8 comes out: unlabelled 8-bit that is not UTF-8 is read as ISO-8859-1. */
static void add_as_utf8(struct buf *out, struct str s)
{
	if (utf8_valid(s)) {
		buf_add_str(out, s);
		return;
	}
	for (size_t i = 0; i < s.len; i++)
		utf8_add(out, (unsigned char)s.ptr[i]);
}

static size_t word_cut(struct str s)
{
	size_t n = s.len < ENCODED_WORD_BYTES ? s.len : ENCODED_WORD_BYTES;

	while (n < s.len && n > 1 && ((unsigned char)s.ptr[n] & 0xc0) == 0x80)
		n--;
	return n;
}

void imap_add_header_nstring(struct buf *out, struct str value)
{
	struct buf utf8, words;
	struct str rest;

	if (value.ptr == NULL || str_is_ascii(value)) {
		imap_add_nstring(out, value);
		return;
	}
	buf_init(&utf8, value.len * 2 + 8);
	buf_init(&words, value.len * 8 + 64);
	add_as_utf8(&utf8, value);
	for (rest = buf_str(&utf8); rest.len > 0;) {
		size_t n = word_cut(rest);

		buf_addz(&words, words.len ? " =?utf-8?B?" : "=?utf-8?B?");
		base64_encode(&words, str_sub(rest, 0, n));
		buf_addz(&words, "?=");
		rest = str_skip(rest, n);
	}
	imap_add_string(out, buf_str(&words));
	buf_release(&words);
	buf_release(&utf8);
}

void imap_add_mailbox(struct buf *out, struct str name)
{
	struct buf raw;

	buf_init(&raw, name.len * 4 + 16);
	/* A name that is not UTF-8 has no wire form; it is shown as it is, in a literal. */
	imap_add_astring(out, mutf7_encode(&raw, name) ? buf_str(&raw) : name);
	buf_release(&raw);
}

void imap_add_system_flags(struct buf *out, uint32_t flags, bool recent)
{
	static const struct {
		uint32_t flag;
		const char *name;
	} table[] = {
		{FLAG_ANSWERED, "\\Answered"}, {FLAG_FLAGGED, "\\Flagged"}, {FLAG_DELETED, "\\Deleted"},
		{FLAG_SEEN, "\\Seen"},	       {FLAG_DRAFT, "\\Draft"},
	};
	const char *blank = "";

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (flags & table[i].flag) {
			buf_addf(out, "%s%s", blank, table[i].name);
			blank = " ";
		}
	}
	if (recent)
		buf_addf(out, "%s\\Recent", blank);
}

void imap_add_ranges(struct buf *out, const struct uid_range *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		buf_addf(out, "%s%u", i ? "," : "", v[i].first);
		if (v[i].last != v[i].first)
			buf_addf(out, ":%u", v[i].last);
	}
}
