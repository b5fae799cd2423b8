/* A line of text that tells people what a message says, for lists.
 *
 * The first text/plain part that is no attachment, else the first text/html one without its tags. Only the
 * beginning of a part is looked at, so that a preview costs the same for every message. */
#include "base/utf8.h"
#include "msg/charset.h"
#include "msg/mime.h"

#define PREVIEW_INPUT_MAX 65536

static const struct mime_part *find_text(const struct mime_part *part, const char *subtype)
{
	if (part->disposition.ptr != NULL && str_ieq(part->disposition, STR("attachment")))
		return NULL;
	if (str_ieq(part->type, STR("text")) && str_ieq(part->subtype, str_from(subtype)))
		return part;
	if (!part->multipart)
		return NULL;
	for (const struct mime_part *child = part->first; child != NULL; child = child->next) {
		const struct mime_part *found = find_text(child, subtype);

		if (found != NULL)
			return found;
	}
	return NULL;
}

static void decode_text(struct str message, const struct mime_part *part, struct buf *text)
{
	struct str body = str_sub(str_sub(message, part->body_offset, part->body_len), 0, PREVIEW_INPUT_MAX);
	struct str charset = mime_param(part->params, part->param_count, "charset");
	struct buf bytes;

	buf_init(&bytes, PREVIEW_INPUT_MAX + 16);
	(void)mime_decode(part->encoding, body, &bytes); /* what can be read is enough */
	if (charset.len > 0 && charset_known(charset) && !str_ieq(charset, STR("us-ascii")))
		charset_decode(text, charset, buf_str(&bytes));
	else
		charset_guess(text, buf_str(&bytes));
	buf_release(&bytes);
}

/* ---- HTML ---- */

static const struct {
	const char *name;
	const char *text;
} ENTITIES[] = {
	{"amp", "&"},
	{"lt", "<"},
	{"gt", ">"},
	{"quot", "\""},
	{"apos", "'"},
	{"nbsp", " "},
	{"shy", ""},
	{"zwnj", ""},
	{"auml", "\xc3\xa4"},
	{"ouml", "\xc3\xb6"},
	{"uuml", "\xc3\xbc"},
	{"szlig", "\xc3\x9f"},
	{"eacute", "\xc3\xa9"},
	{"mdash", "\xe2\x80\x94"},
	{"ndash", "\xe2\x80\x93"},
	{"hellip", "\xe2\x80\xa6"},
	{"copy", "\xc2\xa9"},
	{"euro", "\xe2\x82\xac"},
	{"rsquo", "\xe2\x80\x99"},
	{"lsquo", "\xe2\x80\x98"},
};

/* "#8364" or "#x20ac" */
static bool add_numeric_entity(struct str name, struct buf *out)
{
	uint32_t value = 0;
	bool hex = name.len > 1 && ascii_lower(name.ptr[1]) == 'x';
	struct str digits = str_skip(name, hex ? 2 : 1);

	if (digits.len == 0 || digits.len > 7)
		return false;
	for (size_t i = 0; i < digits.len; i++) {
		char c = ascii_lower(digits.ptr[i]);

		if (!ascii_digit(c) && !(hex && c >= 'a' && c <= 'f'))
			return false;
		value = value * (hex ? 16 : 10) + (uint32_t)(ascii_digit(c) ? c - '0' : c - 'a' + 10);
	}
	if (value < 0x20 || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
		buf_addc(out, ' ');
	else
		utf8_add(out, value);
	return true;
}

/* The entity behind '&'. Returns how many bytes it took; 0 if it is none. */
static size_t add_entity(struct str rest, struct buf *out)
{
	ptrdiff_t end = str_chr(str_sub(rest, 0, 12), ';');
	struct str name = str_sub(rest, 0, end < 0 ? 0 : (size_t)end);

	if (name.len > 1 && name.ptr[0] == '#')
		return add_numeric_entity(name, out) ? name.len + 1 : 0;
	for (size_t i = 0; i < ARRAY_SIZE(ENTITIES) && name.len > 0; i++)
		if (str_eq(name, str_from(ENTITIES[i].name))) {
			buf_addz(out, ENTITIES[i].text);
			return name.len + 1;
		}
	return 0;
}

/* Elements whose contents nobody reads. */
static bool is_hidden_element(struct str tag, struct str *end_r)
{
	static const char *const hidden[][2] = {
		{"style", "</style"}, {"script", "</script"}, {"title", "</title"}, {"!--", "-->"}};

	for (size_t i = 0; i < ARRAY_SIZE(hidden); i++)
		if (str_istarts(tag, str_from(hidden[i][0]))) {
			*end_r = str_from(hidden[i][1]);
			return true;
		}
	return false;
}

/* The tag behind '<': returns how many bytes it and what it hides take. */
static size_t skip_tag(struct str rest)
{
	struct str end;
	ptrdiff_t at;
	size_t start = 0;

	if (is_hidden_element(rest, &end)) {
		at = str_ifind(rest, end);
		if (at < 0)
			return rest.len;
		start = (size_t)at;
	}
	at = str_chr(str_skip(rest, start), '>');
	return at < 0 ? rest.len : start + (size_t)at + 1;
}

static void strip_html(struct str html, struct buf *out)
{
	for (size_t i = 0; i < html.len;) {
		struct str rest = str_skip(html, i + 1);
		size_t taken = 0;

		if (html.ptr[i] == '<') {
			taken = skip_tag(rest);
			buf_addc(out, ' ');
		} else if (html.ptr[i] == '&') {
			taken = add_entity(rest, out);
			if (taken == 0)
				buf_addc(out, '&');
		} else {
			buf_addc(out, html.ptr[i]);
		}
		i += 1 + taken;
	}
}

/* Blanks, line ends, control characters and invisible spaces become one blank. */
static bool is_gap(int32_t c)
{
	return c <= 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0xad || (c >= 0x2000 && c <= 0x200f) ||
	       (c >= 0x2028 && c <= 0x202f) || c == 0x34f || c == 0xfeff;
}

static void add_folded(struct str text, size_t max, struct buf *out)
{
	size_t start = out->len;
	bool gap = false;

	while (text.len > 0) {
		struct str before = text;
		int32_t c = utf8_next(&text);
		size_t size = before.len - text.len;

		if (is_gap(c)) {
			gap = out->len > start;
			continue;
		}
		if (out->len - start + gap + size > max)
			return;
		if (gap)
			buf_addc(out, ' ');
		buf_add(out, before.ptr, size);
		gap = false;
	}
}

void mime_preview(struct str message, const struct mime_part *root, size_t max, struct buf *out)
{
	const struct mime_part *part = find_text(root, "plain");
	bool html = part == NULL;
	struct buf text, stripped;

	if (html)
		part = find_text(root, "html");
	if (part == NULL)
		return;
	buf_init(&text, PREVIEW_INPUT_MAX * 3 + 64);
	buf_init(&stripped, PREVIEW_INPUT_MAX * 4 + 64);
	decode_text(message, part, &text);
	if (html)
		strip_html(buf_str(&text), &stripped);
	add_folded(html ? buf_str(&stripped) : buf_str(&text), max, out);
	buf_release(&text);
	buf_release(&stripped);
}
