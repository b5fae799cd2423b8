/* RFC 2047: encoded words to UTF-8.
 *
 * Adjacent encoded words of one charset are decoded together, because senders split characters between them
 * (which 5 (3) forbids); the blanks between encoded words go (6.2), all others stay. */
#include "base/utf8.h"
#include "msg/charset.h"
#include "msg/header.h"
#include "msg/lex.h"
#include "msg/mime.h"

struct word_decoder {
	struct buf *out;
	struct buf pending; /* bytes of the encoded words so far, not converted yet */
	struct str charset; /* theirs; ptr NULL: none pending */
};

static void flush_pending(struct word_decoder *d)
{
	if (d->charset.ptr != NULL)
		charset_decode(d->out, d->charset, buf_str(&d->pending));
	buf_clear(&d->pending);
	d->charset = STR_NULL;
}

static void decode_q(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];

		if (c == '=' && i + 2 < text.len && lex_hex(text.ptr[i + 1]) >= 0 && lex_hex(text.ptr[i + 2]) >= 0) {
			c = (char)(lex_hex(text.ptr[i + 1]) << 4 | lex_hex(text.ptr[i + 2]));
			i += 2;
		} else if (c == '_') {
			c = ' ';
		}
		buf_addc(out, c);
	}
}

/* "=?charset*lang?Q?text?=" at the front of *rest. Text never holds '?', so a false start costs no more than the
 * way to the next one. */
static bool take_encoded_word(struct str *rest, struct str *charset_r, char *encoding_r, struct str *text_r)
{
	struct str in = str_skip(*rest, 2), language;
	ptrdiff_t mark = str_chr(in, '?');

	if (mark <= 0 || mark > 60)
		return false;
	str_split(str_sub(in, 0, (size_t)mark), '*', charset_r, &language);
	in = str_skip(in, (size_t)mark + 1);
	if (in.len < 2 || in.ptr[1] != '?')
		return false;
	*encoding_r = ascii_upper(in.ptr[0]);
	in = str_skip(in, 2);
	mark = str_chr(in, '?');
	if (mark < 0 || (size_t)mark + 1 >= in.len || in.ptr[mark + 1] != '=')
		return false;
	*text_r = str_sub(in, 0, (size_t)mark);
	*rest = str_skip(in, (size_t)mark + 2);
	return *encoding_r == 'Q' || *encoding_r == 'B';
}

static void add_word(struct word_decoder *d, struct str charset, char encoding, struct str text)
{
	if (d->charset.ptr != NULL && !str_ieq(d->charset, charset))
		flush_pending(d);
	d->charset = charset;
	if (encoding == 'Q')
		decode_q(&d->pending, text);
	else if (!mime_decode(STR("base64"), text, &d->pending))
		return; /* what could be read was */
}

static bool is_blank(struct str s)
{
	return str_trim(s).len == 0;
}

static void decode_words(struct word_decoder *d, struct str in)
{
	struct str plain = {in.ptr, 0}, charset, text;
	char encoding;

	while (in.len > 0) {
		struct str before = in;

		if (in.ptr[0] == '=' && in.len > 1 && in.ptr[1] == '?' &&
		    take_encoded_word(&in, &charset, &encoding, &text)) {
			if (d->charset.ptr == NULL || !is_blank(plain)) {
				flush_pending(d);
				charset_guess(d->out, plain);
			}
			add_word(d, charset, encoding, text);
			plain = str_of(in.ptr, 0);
			continue;
		}
		in = str_skip(before, 1);
		plain.len++;
	}
	flush_pending(d);
	charset_guess(d->out, plain);
}

struct str header_decode(struct str value, struct arena *arena)
{
	struct word_decoder d;
	struct buf out;
	struct str in = header_unfold(value, arena), result;

	if (str_is_ascii(in) && str_find(in, STR("=?")) < 0)
		return in;
	buf_init(&out, in.len * 3 + 16);
	buf_init(&d.pending, in.len + 16);
	d.out = &out;
	d.charset = STR_NULL;
	decode_words(&d, in);
	/* An encoded line end must not become a real one. */
	for (size_t i = 0; i < out.len; i++)
		if ((unsigned char)out.ptr[i] < 0x20 || out.ptr[i] == 0x7f)
			out.ptr[i] = ' ';
	result = arena_str(arena, buf_str(&out));
	buf_release(&d.pending);
	buf_release(&out);
	return result;
}
