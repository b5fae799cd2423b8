/* 8 bits to 7. See downgrade.h.
 *
 * The tree of mime_parse() says where each header and body lies; the message is walked through once in the order of its
 * bytes. Text becomes quoted-printable, with its line ends; anything else base64, of its canonical form. */
#include "msg/downgrade.h"
#include "msg/header.h"
#include "msg/mime.h"

#define QP_LINE 76 /* RFC 2045 6.7 (5) */
#define PIECE	16384

struct downgrade {
	struct str in;
	size_t at; /* copied up to here */
	struct str eol;
	int (*put)(void *ctx, struct str piece);
	void *ctx;
	struct buf out;
	bool failed;
};

static bool is_eight_bit(struct str s)
{
	return !str_is_ascii(s);
}

static void give(struct downgrade *d, struct str piece)
{
	if (!d->failed && piece.len > 0 && d->put(d->ctx, piece) < 0)
		d->failed = true;
}

static void give_out(struct downgrade *d, size_t least)
{
	if (d->out.len < least)
		return;
	give(d, buf_str(&d->out));
	buf_clear(&d->out);
}

/* Everything up to `end`, as it is. */
static void copy_to(struct downgrade *d, size_t end)
{
	if (end > d->at)
		give(d, str_sub(d->in, d->at, end - d->at));
	d->at = end > d->at ? end : d->at;
}

/* ---- encodings ---- */

static void put_hex(struct buf *out, unsigned char c)
{
	static const char digits[] = "0123456789ABCDEF";

	buf_add(out, (char[]){'=', digits[c >> 4], digits[c & 15]}, 3);
}

/* RFC 2045 6.7. Blanks at a line's end are encoded, and what mail systems trip over: a leading From, a lone dot. */
static void qp_line(struct downgrade *d, struct str line)
{
	size_t column = 0;

	for (size_t i = 0; i < line.len; i++) {
		unsigned char c = (unsigned char)line.ptr[i];
		bool last = i + 1 == line.len;
		bool plain = (c > ' ' && c < 0x7f && c != '=') || ((c == ' ' || c == '\t') && !last);

		if (i == 0 && (c == '.' || str_starts(line, STR("From "))))
			plain = false;
		/* A character that is not the line's last leaves room for the soft break's '='. */
		if (column + (plain ? 1 : 3) > (last ? QP_LINE : QP_LINE - 1)) {
			buf_addc(&d->out, '=');
			buf_add_str(&d->out, d->eol);
			column = 0;
		}
		if (plain)
			buf_addc(&d->out, (char)c);
		else
			put_hex(&d->out, c);
		column += plain ? 1 : 3;
		give_out(d, PIECE);
	}
}

static void put_qp(struct downgrade *d, struct str body)
{
	while (body.len > 0 && !d->failed) {
		const char *lf = memchr(body.ptr, '\n', body.len);
		struct str line = lf ? str_of(body.ptr, (size_t)(lf - body.ptr)) : body;

		body = str_skip(body, line.len + (lf != NULL));
		if (lf != NULL && line.len > 0 && line.ptr[line.len - 1] == '\r')
			line.len--;
		qp_line(d, line);
		if (lf != NULL)
			buf_add_str(&d->out, d->eol);
		/* Without a line end of its own the body ends where the boundary's begins. */
		give_out(d, PIECE);
	}
	give_out(d, 1);
}

#define B64_BYTES 57 /* of one line of 76 */

struct b64 {
	struct downgrade *d;
	unsigned char line[B64_BYTES];
	size_t n;
};

static void b64_flush(struct b64 *b)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct buf *out = &b->d->out;

	if (b->n == 0)
		return;
	for (size_t i = 0; i < b->n; i += 3) {
		size_t left = b->n - i;
		uint32_t bits = (uint32_t)b->line[i] << 16 | (left > 1 ? (uint32_t)b->line[i + 1] << 8 : 0) |
				(left > 2 ? b->line[i + 2] : 0);

		buf_add(out,
			(char[]){set[bits >> 18], set[bits >> 12 & 63], left > 1 ? set[bits >> 6 & 63] : '=',
				 left > 2 ? set[bits & 63] : '='},
			4);
	}
	buf_add_str(out, b->d->eol);
	b->n = 0;
	give_out(b->d, PIECE);
}

static void b64_byte(struct b64 *b, char c)
{
	b->line[b->n++] = (unsigned char)c;
	if (b->n == B64_BYTES)
		b64_flush(b);
}

/* Of the canonical form: stored LF stands for CRLF (RFC 2045 6.8). */
static void put_base64(struct downgrade *d, struct str body)
{
	struct b64 b = {.d = d};
	bool lf_is_crlf = d->eol.len == 1;

	for (size_t i = 0; i < body.len && !d->failed; i++) {
		if (body.ptr[i] == '\n' && lf_is_crlf)
			b64_byte(&b, '\r');
		b64_byte(&b, body.ptr[i]);
	}
	b64_flush(&b);
	give_out(d, 1);
	/* The last line's end belongs to the boundary behind it, if there is one: an empty line does no harm. */
}

/* ---- parts ---- */

static const char *encoding_for(const struct mime_part *part)
{
	return str_ieq(part->type, STR("text")) ? "quoted-printable" : "base64";
}

/* The header with its Content-Transfer-Encoding replaced; `add` where there is none. */
static void put_header(struct downgrade *d, const struct mime_part *part, const char *encoding, bool add)
{
	struct str rest = str_sub(d->in, part->header_offset, part->header_len), before;
	struct header h;
	bool done = false;

	copy_to(d, part->header_offset);
	for (;;) {
		before = rest;
		if (!header_next(&rest, &h))
			break;
		if (!str_ieq(h.name, STR("Content-Transfer-Encoding"))) {
			give(d, h.raw);
			continue;
		}
		if (!done)
			buf_addf(&d->out, "Content-Transfer-Encoding: %s%.*s", encoding, STR_ARG(d->eol));
		give_out(d, 1);
		done = true;
	}
	if (!done && add) {
		/* Without MIME-Version nobody would look at it. */
		if (part->parent == NULL && !header_find(str_sub(d->in, 0, part->header_len), "MIME-Version", &h))
			buf_addf(&d->out, "MIME-Version: 1.0%.*s", STR_ARG(d->eol));
		buf_addf(&d->out, "Content-Transfer-Encoding: %s%.*s", encoding, STR_ARG(d->eol));
		give_out(d, 1);
	}
	give(d, before); /* the empty line */
	d->at = part->header_offset + part->header_len;
}

static bool says_wide(const struct mime_part *part)
{
	struct str encoding = part->encoding.ptr != NULL ? part->encoding : STR("");

	return str_ieq(encoding, STR("8bit")) || str_ieq(encoding, STR("binary"));
}

/* Already encoded, yet with 8-bit bytes in it: broken, and a second encoding would not mend it. */
static bool is_encoded(const struct mime_part *part)
{
	struct str encoding = part->encoding.ptr != NULL ? part->encoding : STR("");

	return str_ieq(encoding, STR("base64")) || str_ieq(encoding, STR("quoted-printable"));
}

static void convert_leaf(struct downgrade *d, const struct mime_part *part)
{
	struct str body = str_sub(d->in, part->body_offset, part->body_len);

	if (!is_eight_bit(body) || is_encoded(part)) {
		if (says_wide(part) && !is_eight_bit(body) && str_ieq(part->encoding, STR("8bit")))
			put_header(d, part, "7bit", false);
		return;
	}
	put_header(d, part, encoding_for(part), true);
	if (str_eq(str_from(encoding_for(part)), STR("base64")))
		put_base64(d, body);
	else
		put_qp(d, body);
	d->at = part->body_offset + part->body_len;
}

static struct str whole(const struct downgrade *d, const struct mime_part *part)
{
	return str_sub(d->in, part->header_offset, part->body_offset + part->body_len - part->header_offset);
}

static const struct mime_part *next_part(const struct mime_part *part, bool into)
{
	if (into && part->first != NULL)
		return part->first;
	while (part != NULL && part->next == NULL)
		part = part->parent;
	return part != NULL ? part->next : NULL;
}

static bool is_signed(const struct mime_part *part)
{
	return str_ieq(part->type, STR("multipart")) && str_ieq(part->subtype, STR("signed"));
}

/* Whether something in it stays as it is though it has 8 bits. */
static bool keeps_eight_bits(const struct downgrade *d, const struct mime_part *part)
{
	const struct mime_part *after = next_part(part, false);

	for (const struct mime_part *p = part; p != NULL && p != after;) {
		bool seal = is_signed(p);

		if (seal && is_eight_bit(whole(d, p)))
			return true;
		p = next_part(p, !seal);
	}
	return false;
}

/* In front of its children; their turn comes next. False: it has none that need a look. */
static bool convert_container(struct downgrade *d, const struct mime_part *part)
{
	if (is_signed(part) || !is_eight_bit(whole(d, part)))
		return false;
	if (says_wide(part) && !keeps_eight_bits(d, part))
		put_header(d, part, "7bit", false);
	return true;
}

int mime_downgrade(struct str message, int (*put)(void *ctx, struct str piece), void *ctx)
{
	struct downgrade d = {.in = message, .put = put, .ctx = ctx};
	struct arena arena;

	arena_init(&arena);
	buf_init(&d.out, SIZE_MAX / 2);
	d.eol = str_find(message, STR("\r\n")) < 0 ? STR("\n") : STR("\r\n");
	for (const struct mime_part *part = mime_parse(message, &arena); part != NULL && !d.failed;) {
		bool into = false;

		/* A part that the parser made up (a multipart without any) is its parent's body. */
		if (part->first != NULL && part->first->header_len > 0)
			into = convert_container(&d, part);
		else if (part->header_len > 0)
			convert_leaf(&d, part);
		part = next_part(part, into);
	}
	copy_to(&d, message.len);
	buf_release(&d.out);
	arena_release(&arena);
	return d.failed ? -1 : 0;
}
