/* POP3 lines as a client could send them, and any bytes as a message to send.
 *
 * Covers: src/pop3/wire.c */
#include "pop3/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Lines found in a stream that grows by `step` bytes are those found in the whole. */
static void check_lines(struct str in, size_t step)
{
	size_t start = 0;

	while (start < in.len) {
		struct str rest = str_skip(in, start), name, args;
		size_t scanned = 0, whole_scanned = 0;
		ssize_t whole = pop3_line_find(rest, 100, &whole_scanned), len = 0;

		for (size_t have = 1; len == 0 && have <= rest.len; have += step)
			len = pop3_line_find(str_sub(rest, 0, have), 100, &scanned);
		if (len == 0)
			len = pop3_line_find(rest, 100, &scanned);
		if (len != whole || len > 100)
			abort();
		if (len <= 0)
			return;
		pop3_line_split(str_sub(rest, 0, (size_t)len), &name, &args);
		if (str_chr(name, ' ') >= 0 || str_chr(name, '\n') >= 0 || name.len + args.len > (size_t)len)
			abort();
		start += (size_t)len;
	}
}

/* What stands there of a message: no NUL, which is sent as 0x80. */
static bool is_sent_as(struct str wire, struct str in)
{
	bool same = wire.len >= in.len;

	for (size_t i = 0; same && i < in.len; i++)
		same = wire.ptr[i] == (in.ptr[i] == '\0' ? '\x80' : in.ptr[i]);
	return same;
}

/* A reader of the wire form gets the message back, with CRLF, and knows its end. */
static void check_message(struct str in, bool as_is, size_t step)
{
	struct pop3_wire w;
	struct buf out, back;
	size_t at = 0;

	pop3_wire_init(&w, as_is, UINT64_MAX);
	buf_init(&out, 1 << 24);
	buf_init(&back, 1 << 24);
	for (; at < in.len; at += step)
		if (!pop3_wire_add(&w, str_sub(in, at, step), &out))
			abort();
	pop3_wire_end(&w, &out);
	if (!str_ends(buf_str(&out), STR("\r\n.\r\n")) && !str_eq(buf_str(&out), STR(".\r\n")))
		abort();
	for (struct str rest = str_sub(buf_str(&out), 0, out.len - 3); rest.len > 0;) {
		ptrdiff_t lf = str_chr(rest, '\n');
		struct str line = str_sub(rest, 0, lf < 0 ? rest.len : (size_t)lf + 1);

		if (str_eq(line, STR(".\r\n")))
			abort(); /* an end in the middle */
		rest = str_skip(rest, line.len);
		if (str_starts(line, STR(".")))
			line = str_skip(line, 1);
		if (!as_is && str_ends(line, STR("\r\n"))) {
			line.len -= 2;
			buf_add_str(&back, line);
			buf_addc(&back, '\n');
		} else {
			buf_add_str(&back, line);
		}
	}
	if (memchr(out.ptr, '\0', out.len) || (as_is && !is_sent_as(buf_str(&back), in)))
		abort();
	buf_release(&out);
	buf_release(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t step;

	if (size == 0)
		return 0;
	step = (size_t)(data[0] >> 1) + 1;
	check_lines(str_of(data + 1, size - 1), step);
	check_message(str_of(data + 1, size - 1), data[0] & 1, step);
	return 0;
}
