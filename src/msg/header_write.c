/* Writing header fields: folding (RFC 5322 2.2.3) and encoded words (RFC 2047).
 *
 * The value is a sequence of words and the blanks between them; a line is broken in front of a blank, never
 * inside a word, so that reading undoes it exactly. Whatever line ends the value brings are blanks. */
#include "base/encode.h"
#include "base/utf8.h"
#include "msg/header.h"
#include "msg/lex.h"

#define LINE_GOOD     78 /* RFC 5322 2.1.1 */
#define LINE_ENCODED  76 /* RFC 2047 2 */
#define WORD_FRAME    12 /* "=?UTF-8?Q?" "?=" */
#define WORD_TEXT_MAX (75 - WORD_FRAME)
#define WORD_TEXT_MIN 12 /* one character of four bytes in Q */

struct folder {
	struct buf *out;
	size_t column, limit;
	bool any; /* a word stands behind the name */
};

static bool is_word(char c)
{
	return !lex_is_wsp(c);
}

/* Takes blanks; what is left of them without line ends goes to blank_r, at least one. */
static void take_blanks(struct str *rest, struct buf *blank)
{
	buf_clear(blank);
	for (; rest->len > 0 && lex_is_wsp(rest->ptr[0]); *rest = str_skip(*rest, 1))
		if (ascii_blank(rest->ptr[0]) && blank->len < LINE_GOOD)
			buf_addc(blank, rest->ptr[0]);
	if (blank->len == 0)
		buf_addc(blank, ' ');
}

/* Blank, then `size` bytes will follow: breaks the line first if they would not fit. */
static void folder_blank(struct folder *f, struct str blank, size_t size)
{
	if (f->any && f->column + blank.len + size > f->limit) {
		buf_addc(f->out, '\n');
		f->column = 0;
	}
	buf_add_str(f->out, blank);
	f->column += blank.len;
}

static void folder_word(struct folder *f, struct str word)
{
	for (size_t i = 0; i < word.len; i++) {
		char c = word.ptr[i];

		buf_addc(f->out, (unsigned char)c < 0x20 || c == 0x7f ? '?' : c);
	}
	f->column += word.len;
	f->any = true;
}

/* RFC 2047 5 (3): what may stand for itself even in a phrase. */
static bool is_q_safe(unsigned char c)
{
	return ascii_alnum((char)c) || c == '!' || c == '*' || c == '+' || c == '-' || c == '/';
}

static size_t q_cost(struct str s)
{
	size_t cost = 0;

	for (size_t i = 0; i < s.len; i++)
		cost += is_q_safe((unsigned char)s.ptr[i]) || s.ptr[i] == ' ' ? 1 : 3;
	return cost;
}

static void q_write(struct buf *out, struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c == ' ')
			buf_addc(out, '_');
		else if (is_q_safe(c))
			buf_addc(out, (char)c);
		else
			buf_addf(out, "=%02X", c);
	}
}

/* As many whole characters as fit into room bytes of encoded text. */
static struct str take_characters(struct str *rest, size_t room, bool base64)
{
	struct str left = *rest;
	size_t taken = 0, cost = 0;

	while (left.len > 0) {
		struct str before = left, c;

		(void)utf8_next(&left);
		c = str_sub(before, 0, before.len - left.len);
		cost = base64 ? (taken + c.len + 2) / 3 * 4 : cost + q_cost(c);
		if (cost > room)
			break;
		taken += c.len;
	}
	left = str_sub(*rest, 0, taken);
	*rest = str_skip(*rest, taken);
	return left;
}

/* One run of text as encoded words; an encoded word holds whole characters (RFC 2047 5). */
static void folder_encode(struct folder *f, struct str text)
{
	bool base64 = q_cost(text) * 5 > text.len * 11; /* most of it would be "=XX" */

	for (bool first = true; text.len > 0; first = false) {
		size_t room = f->column + WORD_FRAME < LINE_ENCODED ? LINE_ENCODED - WORD_FRAME - f->column : 0;
		struct str piece;
		size_t before;

		if (!first || (room < WORD_TEXT_MIN && f->any)) {
			buf_addz(f->out, "\n ");
			f->column = 1;
			room = WORD_TEXT_MAX;
		}
		room = room < WORD_TEXT_MIN ? WORD_TEXT_MIN : room > WORD_TEXT_MAX ? WORD_TEXT_MAX : room;
		piece = take_characters(&text, room, base64);
		before = f->out->len;
		buf_addz(f->out, base64 ? "=?UTF-8?B?" : "=?UTF-8?Q?");
		if (base64)
			base64_encode(f->out, piece);
		else
			q_write(f->out, piece);
		buf_addz(f->out, "?=");
		f->column += f->out->len - before;
		f->any = true;
	}
}

/* The words from here on that are not ASCII, with the blanks between them, as clean UTF-8. */
static void take_foreign(struct str *rest, struct buf *text, struct buf *blank)
{
	struct str left = *rest, word = str_run(&left, is_word);

	buf_clear(text);
	utf8_sanitize(text, word);
	*rest = left;
	while (left.len > 0) {
		take_blanks(&left, blank);
		word = str_run(&left, is_word);
		if (word.len == 0 || str_is_ascii(word))
			return;
		buf_add_str(text, buf_str(blank));
		utf8_sanitize(text, word);
		*rest = left;
	}
}

void header_write(struct buf *out, const char *name, struct str value, bool encode)
{
	struct folder f = {.out = out, .column = strlen(name) + 1, .limit = encode ? LINE_ENCODED : LINE_GOOD};
	struct buf blank, text;

	buf_init(&blank, LINE_GOOD + 1);
	buf_init(&text, value.len * 3 + 1);
	buf_addz(out, name);
	buf_addc(out, ':');
	value = str_trim(value);
	buf_addc(&blank, ' ');
	while (value.len > 0) {
		struct str left = value, word = str_run(&left, is_word);

		if (encode && !str_is_ascii(word)) {
			folder_blank(&f, buf_str(&blank), WORD_FRAME + WORD_TEXT_MIN);
			take_foreign(&value, &text, &blank);
			folder_encode(&f, buf_str(&text));
		} else {
			folder_blank(&f, buf_str(&blank), word.len);
			folder_word(&f, word);
			value = left;
		}
		if (value.len > 0)
			take_blanks(&value, &blank);
	}
	buf_addc(out, '\n');
	buf_release(&blank);
	buf_release(&text);
}
