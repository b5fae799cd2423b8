#include "pop3/wire.h"

ssize_t pop3_line_find(struct str in, size_t max, size_t *scanned)
{
	ptrdiff_t at = str_chr(str_skip(in, *scanned), '\n');
	size_t len = *scanned + (size_t)at + 1;

	if (at < 0) {
		*scanned = in.len;
		return in.len >= max ? -1 : 0;
	}
	return len > max ? -1 : (ssize_t)len;
}

void pop3_line_split(struct str line, struct str *name_r, struct str *args_r)
{
	if (str_ends(line, STR("\n")))
		line.len--;
	if (str_ends(line, STR("\r")))
		line.len--;
	if (!str_split(line, ' ', name_r, args_r))
		*args_r = STR_NULL;
}

void pop3_wire_init(struct pop3_wire *w, bool as_is, uint64_t body_lines)
{
	*w = (struct pop3_wire){.as_is = as_is, .body_lines = body_lines, .before = '\n', .after_crlf = true};
}

/* Ends a line; false when TOP has seen enough. */
static bool end_line(struct pop3_wire *w)
{
	bool empty = w->line_len == 0;

	w->line_len = 0;
	if (w->in_body) {
		if (w->body_lines != UINT64_MAX)
			w->body_lines--;
	} else {
		w->in_body = empty;
	}
	return !w->in_body || w->body_lines > 0;
}

bool pop3_wire_add(struct pop3_wire *w, struct str piece, struct buf *out)
{
	for (size_t i = 0; i < piece.len; i++) {
		char c = piece.ptr[i];

		if (c == '\n') {
			if (w->before != '\r' && !w->as_is)
				buf_addc(out, '\r');
			buf_addc(out, '\n');
			w->after_crlf = w->before == '\r' || !w->as_is;
			w->before = '\n';
			if (!end_line(w))
				return false;
			continue;
		}
		if (c == '.' && w->before == '\n')
			buf_addc(out, '.');
		buf_addc(out, c == '\0' ? '\x80' : c); /* clients stop at a NUL; IMAP sends the same */
		if (c != '\r')
			w->line_len++;
		w->before = c;
		w->after_crlf = false;
	}
	return true;
}

void pop3_wire_end(const struct pop3_wire *w, struct buf *out)
{
	if (!w->after_crlf)
		buf_addz(out, "\r\n");
	/* TOP ends the header with an empty line, also that of a message which is nothing else: old clients wait for
	 * it. RETR gives what is there, of the size that LIST told. */
	if (!w->in_body && w->body_lines != UINT64_MAX)
		buf_addz(out, "\r\n");
	buf_addz(out, ".\r\n");
}
