/* Where a command ends (RFC 3501 2.2.1, 4.3; RFC 7888).
 *
 * A line that ends in "{n}" goes on behind n bytes of literal. Small literals are collected with the command.
 * Two kinds are not: APPEND's message, which becomes bulk input, and one that is too large. For both the unit ends
 * with the line that announces the literal, and the handler decides. */
#include "imap/session.h"

/* APPEND's mailbox may be a literal too; its message is the one that does not stand right behind the word. */
static bool is_append_message(struct str unit, size_t spec_at)
{
	struct str rest, word, before = str_sub(unit, 0, spec_at);

	if (!str_split(before, ' ', &word, &rest))
		return false;
	return str_istarts(rest, STR("APPEND ")) && str_trim(rest).len > STR("APPEND").len;
}

static struct str without_line_end(struct str line)
{
	if (str_ends(line, STR("\n")))
		line.len--;
	if (str_ends(line, STR("\r")))
		line.len--;
	return line;
}

/* True: the unit ends here, with f saying why. */
static bool literal_ends_unit(struct imap_frame *f, enum imap_mode mode, bool logged_in, struct str unit, uint64_t size,
			      bool sync, size_t spec_at)
{
	size_t unit_max = logged_in ? IMAP_UNIT_MAX : IMAP_PRELOGIN_MAX;

	f->literal_size = size;
	f->literal_sync = sync;
	f->literal = mode != IMAP_MODE_COMMAND || size > IMAP_LITERAL_MAX || unit.len + size > unit_max ||
		     (logged_in && is_append_message(unit, spec_at));
	return f->literal;
}

ssize_t imap_frame_scan(struct imap_frame *f, enum imap_mode mode, bool logged_in, struct str in, size_t *scanned,
			unsigned *continue_r)
{
	size_t line_max = logged_in ? IMAP_LINE_MAX : IMAP_PRELOGIN_MAX;
	bool literals = mode == IMAP_MODE_COMMAND || mode == IMAP_MODE_SKIP || mode == IMAP_MODE_APPEND_TAIL;

	*continue_r = 0;
	if (*scanned == 0)
		*f = (struct imap_frame){0};
	while (*scanned < in.len) {
		ptrdiff_t lf = str_chr(str_skip(in, *scanned), '\n');
		size_t end = lf < 0 ? in.len : *scanned + (size_t)lf + 1, spec_at;
		struct str line = without_line_end(str_sub(in, f->line, end - f->line));
		uint64_t size;
		bool sync;

		if (line.len > line_max)
			return FRAME_TOO_LONG;
		*scanned = end;
		if (lf < 0)
			return FRAME_MORE;
		if (!literals || !imap_literal_spec(line, &size, &sync, &spec_at))
			return (ssize_t)end;
		if (literal_ends_unit(f, mode, logged_in, str_sub(in, 0, end), size, sync, f->line + spec_at))
			return (ssize_t)end;
		f->line = *scanned = end + size;
		*continue_r += sync;
	}
	return FRAME_MORE;
}

ssize_t imap_frame(struct session *io, struct str in, size_t *scanned)
{
	struct imap_session *s = imap_of(io);
	unsigned go_on;
	ssize_t len = imap_frame_scan(&s->frame, s->mode, s->state != IMAP_NOT_AUTHENTICATED, in, scanned, &go_on);

	/* A client that did not wait for it gets it all the same. */
	for (unsigned i = 0; i < go_on; i++)
		session_write(io, STR("+ OK\r\n"));
	if (go_on)
		session_flush(io);
	return len;
}
