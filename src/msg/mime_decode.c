/* Content-Transfer-Encoding (RFC 2045 6), read leniently: what bytes say wins over how they are laid out. */
#include "base/encode.h"
#include "msg/lex.h"
#include "msg/mime.h"

/* Also the alphabet of RFC 4648 5. */
static int lenient_value(char c)
{
	return c == '-' ? 62 : c == '_' ? 63 : base64_value(c);
}

/* RFC 2045 6.8: characters outside the alphabet are passed over. Lines may have any length, '=' may stand in the
 * middle (pieces encoded one by one and joined), the last quantum may lack its padding. */
static bool decode_base64(struct str in, struct buf *out)
{
	uint32_t bits = 0;
	unsigned n = 0;
	bool clean = true;

	for (size_t i = 0; i < in.len; i++) {
		int value = lenient_value(in.ptr[i]);

		if (value >= 0) {
			bits = bits << 6 | (uint32_t)value;
			if (++n < 4)
				continue;
			buf_add(out, (char[]){(char)(bits >> 16), (char)(bits >> 8), (char)bits}, 3);
			n = 0;
		} else if (in.ptr[i] == '=') {
			if (n == 2)
				buf_addc(out, (char)(bits >> 4));
			else if (n == 3)
				buf_add(out, (char[]){(char)(bits >> 10), (char)(bits >> 2)}, 2);
			clean = clean && n != 1;
			n = 0; /* a second '=' finds nothing left */
		} else if (!lex_is_wsp(in.ptr[i])) {
			clean = false;
		}
	}
	if (n == 2)
		buf_addc(out, (char)(bits >> 4));
	else if (n == 3)
		buf_add(out, (char[]){(char)(bits >> 10), (char)(bits >> 2)}, 2);
	return clean && n == 0 && !buf_failed(out);
}

/* Behind '=': a soft line break, with blanks that transport left there. 0 if it is none, else its length. */
static size_t soft_break(struct str rest)
{
	size_t n = 0;

	while (n < rest.len && (ascii_blank(rest.ptr[n]) || rest.ptr[n] == '\r'))
		n++;
	if (n < rest.len && rest.ptr[n] == '\n')
		return n + 1;
	return n == rest.len ? n : 0;
}

/* Blanks at the end of a line were added on the way (RFC 2045 6.7 (3)). */
static void drop_trailing_blanks(struct buf *out, size_t from)
{
	while (out->len > from && ascii_blank(out->ptr[out->len - 1]))
		buf_truncate(out, out->len - 1);
}

/* RFC 2045 6.7. */
static bool decode_qp(struct str in, struct buf *out)
{
	bool clean = true;
	size_t literal_from = out->len; /* blanks from here on stood as such on this line */

	for (size_t i = 0; i < in.len; i++) {
		struct str rest = str_skip(in, i + 1);
		char c = in.ptr[i];
		size_t n;

		if (c == '\n' || (c == '\r' && rest.len > 0 && rest.ptr[0] == '\n')) {
			drop_trailing_blanks(out, literal_from);
			buf_addc(out, c);
			literal_from = out->len;
		} else if (c != '=') {
			buf_addc(out, c);
		} else if (rest.len >= 2 && lex_hex(rest.ptr[0]) >= 0 && lex_hex(rest.ptr[1]) >= 0) {
			buf_addc(out, (char)(lex_hex(rest.ptr[0]) << 4 | lex_hex(rest.ptr[1])));
			literal_from = out->len;
			i += 2;
		} else if (rest.len == 0 || (n = soft_break(rest)) > 0) {
			i += rest.len == 0 ? 0 : n;
			literal_from = out->len;
		} else {
			buf_addc(out, '=');
			clean = false;
		}
	}
	return clean && !buf_failed(out);
}

bool mime_decode(struct str encoding, struct str body, struct buf *out)
{
	encoding = str_trim(encoding);
	if (str_ieq(encoding, STR("base64")))
		return decode_base64(body, out);
	if (str_ieq(encoding, STR("quoted-printable")))
		return decode_qp(body, out);
	buf_add_str(out, body);
	return !buf_failed(out) && (encoding.len == 0 || str_ieq(encoding, STR("7bit")) ||
				    str_ieq(encoding, STR("8bit")) || str_ieq(encoding, STR("binary")));
}
