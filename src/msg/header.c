#include "msg/header.h"
#include "msg/lex.h"

/* Length of the line at the front, its LF included; the whole rest if there is none. */
static size_t line_size(struct str rest)
{
	const char *lf = rest.len > 0 ? memchr(rest.ptr, '\n', rest.len) : NULL;

	return lf != NULL ? (size_t)(lf - rest.ptr) + 1 : rest.len;
}

static bool line_is_empty(struct str line)
{
	return line.len > 0 && (line.ptr[0] == '\n' || (line.len > 1 && line.ptr[0] == '\r' && line.ptr[1] == '\n'));
}

static struct str without_line_end(struct str s)
{
	if (s.len > 0 && s.ptr[s.len - 1] == '\n') {
		s.len--;
		if (s.len > 0 && s.ptr[s.len - 1] == '\r')
			s.len--;
	}
	return s;
}

/* field-name: printable ASCII without the colon (RFC 5322 2.2); blanks before the colon are obsolete syntax (4.5). */
static void split_name(struct header *h)
{
	struct str field = without_line_end(h->raw);
	size_t n = 0, colon;

	while (n < field.len && field.ptr[n] > ' ' && field.ptr[n] != 0x7f && field.ptr[n] != ':')
		n++;
	for (colon = n; colon < field.len && ascii_blank(field.ptr[colon]);)
		colon++;
	if (n > 0 && colon < field.len && field.ptr[colon] == ':') {
		h->name = str_sub(field, 0, n);
		h->value = str_skip(field, colon + 1);
	} else {
		h->name = str_sub(field, 0, 0);
		h->value = field;
	}
}

bool header_next(struct str *rest, struct header *h_r)
{
	size_t size = line_size(*rest);

	if (size == 0)
		return false;
	if (line_is_empty(*rest)) {
		*rest = str_skip(*rest, size);
		return false;
	}
	while (size < rest->len && ascii_blank(rest->ptr[size]))
		size += line_size(str_skip(*rest, size));
	h_r->raw = str_sub(*rest, 0, size);
	*rest = str_skip(*rest, size);
	split_name(h_r);
	return true;
}

bool header_find(struct str message, const char *name, struct header *h_r)
{
	struct str wanted = str_from(name);

	while (header_next(&message, h_r))
		if (str_ieq(h_r->name, wanted))
			return true;
	return false;
}

size_t header_size(struct str message)
{
	struct str rest = message;

	while (rest.len > 0) {
		bool last = line_is_empty(rest);

		rest = str_skip(rest, line_size(rest));
		if (last)
			break;
	}
	return message.len - rest.len;
}

/* RFC 5322 2.2.3: the line end goes, the blank behind it stays. A NUL or a bare CR would only harm who shows the
 * value; it becomes a blank. */
struct str header_unfold(struct str value, struct arena *arena)
{
	struct str trimmed = str_trim(value);
	char *copy;
	size_t n = 0;

	if (str_chr(trimmed, '\n') < 0 && str_chr(trimmed, '\r') < 0 && str_chr(trimmed, '\0') < 0)
		return trimmed;
	copy = arena_alloc(arena, trimmed.len + 1);
	for (size_t i = 0; i < trimmed.len; i++) {
		char c = trimmed.ptr[i];

		if (c == '\n' || (c == '\r' && i + 1 < trimmed.len && trimmed.ptr[i + 1] == '\n'))
			continue;
		copy[n++] = c == '\r' || c == '\0' ? ' ' : c;
	}
	return str_of(copy, n);
}
