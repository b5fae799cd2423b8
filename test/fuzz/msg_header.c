/* Header fields: the pieces are the whole; what is written has no line of its own to offer.
 *
 * Covers: src/msg/header.c src/msg/header_decode.c src/msg/header_write.c src/msg/charset.c src/msg/charset_iconv.c
 * src/msg/mutf7.c src/msg/xtext.c */
#include "base/fatal.h"
#include "base/utf8.h"
#include "msg/charset.h"
#include "msg/header.h"
#include "msg/mutf7.h"
#include "msg/xtext.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void codecs(struct str in, struct buf *a, struct buf *b)
{
	struct str label, rest;

	buf_clear(a);
	buf_clear(b);
	if (mutf7_decode(a, in))
		invariant(mutf7_encode(b, buf_str(a)) && str_eq(buf_str(b), in));
	/* What is right is right for the lenient reader too, which has folders without control characters; and a folder's
	 * level reads back as itself. */
	buf_clear(a);
	buf_clear(b);
	invariant(!mutf7_decode(a, in) || mutf7_decode_any(b, in) == !str_has_control(buf_str(a)));
	buf_clear(a);
	buf_clear(b);
	if (mutf7_encode_level(a, in))
		invariant(mutf7_decode_any(b, buf_str(a)) == !str_has_control(in) &&
			  (str_has_control(in) || str_eq(buf_str(b), in)));
	buf_clear(a);
	buf_clear(b);
	xtext_encode(a, in);
	invariant(xtext_decode(b, buf_str(a)) && str_eq(buf_str(b), in));
	buf_clear(a);
	(void)xtext_utf8_decode(a, in);
	buf_clear(a);
	xtext_utf8_encode(a, in);
	buf_clear(a);
	if (str_split(in, '\n', &label, &rest))
		charset_decode(a, label, rest);
	invariant(!buf_failed(a) && utf8_valid(buf_str(a)));
}

static void write_one(struct str value, bool encode, struct buf *out)
{
	struct header h;
	struct str rest;

	buf_clear(out);
	header_write(out, "Name", value, encode);
	rest = buf_str(out);
	invariant(header_next(&rest, &h) && rest.len == 0 && str_eq(h.name, STR("Name")));
	invariant(!encode || str_is_ascii(h.raw));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_of(data, size), rest = in;
	struct header h;
	struct arena arena;
	struct buf a, b;
	size_t sum = 0;
	static bool loaded;

	if (!loaded)
		charset_load();
	loaded = true;
	arena_init(&arena);
	buf_init(&a, 20 * size + 1000);
	buf_init(&b, 20 * size + 1000);
	while (header_next(&rest, &h)) {
		sum += h.raw.len;
		invariant(utf8_valid(header_decode(h.value, &arena)));
	}
	invariant(sum <= header_size(in) && header_size(in) + rest.len == size);
	write_one(in, false, &a);
	write_one(in, true, &a);
	codecs(in, &a, &b);
	buf_release(&a);
	buf_release(&b);
	arena_release(&arena);
	return 0;
}
