/* The data filter. See filter.h.
 *
 * End of data. Some systems take "\n.\n", "\n.\r\n" or "\r.\r" for the end, others pass them on inside a
 * message; where two such systems meet, a sender smuggles a second message into the first. Here a line starts
 * only behind CRLF, a dot there counts only if CRLF follows, and every bare LF inside becomes a line end of the
 * stored form, so that nobody behind us sees it bare either. A dot behind a bare LF is text: it is neither an
 * end nor stuffing, because the sender's lines end with CRLF.
 *
 * Speed. A body is searched for LF with memchr; between line ends bytes are copied in one piece. */
#include "smtp/filter.h"
#include "base/vec.h"

#define HEADER_SLICE	   4096 /* input decoded at a time while the header lasts: bounds `line` */
#define DELIVERED_TO_MAX   100
#define MESSAGE_ID_LOG_MAX 500

void smtp_filter_init(struct smtp_filter *f, const struct smtp_filter_limits *limits, struct arena *arena)
{
	*f = (struct smtp_filter){.limits = *limits, .arena = arena, .state = FILTER_BOL, .in_header = true};
	buf_init(&f->line, limits->line_max + 2 * HEADER_SLICE);
	buf_init(&f->held, limits->line_max + 2 * HEADER_SLICE);
	f->message_id = STR("");
}

void smtp_filter_release(struct smtp_filter *f)
{
	buf_release(&f->line);
	buf_release(&f->held);
}

void smtp_filter_chunk(struct smtp_filter *f, uint64_t count)
{
	f->chunked = true;
	f->state = FILTER_TEXT;
	f->remaining = count;
}

static void refuse(struct smtp_filter *f, enum smtp_filter_refusal why)
{
	if (f->refused == FILTER_OK)
		f->refused = why;
	buf_clear(&f->line);
	buf_clear(&f->held);
	f->held_name = 0;
}

/* ---- the header layer ------------------------------------------------------------------------------------ */

/* Length of the field name of a line "Name: ..." or "Name : ..." (RFC 5322 2.2, 4.5.8), 0 if it is none. */
static size_t field_name(struct str line)
{
	size_t n = 0, colon;

	while (n < line.len && line.ptr[n] > 32 && line.ptr[n] < 127 && line.ptr[n] != ':')
		n++;
	for (colon = n; colon < line.len && ascii_blank(line.ptr[colon]);)
		colon++;
	return colon < line.len && line.ptr[colon] == ':' ? n : 0;
}

static void see_delivered_to(struct smtp_filter *f, struct str value)
{
	struct {
		struct str *v;
		size_t n, cap;
	} seen = {f->delivered_to, f->delivered_to_count, f->delivered_to_cap};

	if (seen.n >= DELIVERED_TO_MAX)
		return;
	vec_push_arena(f->arena, &seen, arena_str(f->arena, str_sub(value, 0, 400)));
	f->delivered_to = seen.v;
	f->delivered_to_count = seen.n;
	f->delivered_to_cap = seen.cap;
}

/* A line that starts a field. Returns whether it stays in the message. */
static bool see_field(struct smtp_filter *f, struct str line, size_t name_len)
{
	struct str name = str_sub(line, 0, name_len);
	struct str value = str_trim(str_skip(line, (size_t)str_chr(line, ':') + 1));

	if (str_ieq(name, STR("Received")))
		f->hops++;
	else if (str_ieq(name, STR("Delivered-To")))
		see_delivered_to(f, value);
	else if (str_ieq(name, STR("Date")))
		f->has_date = true;
	else if (str_ieq(name, STR("From")))
		f->has_from = true;
	else if (str_ieq(name, STR("Message-ID"))) {
		f->has_message_id = true;
		if (f->message_id.len == 0)
			f->message_id = arena_str(f->arena, str_sub(value, 0, MESSAGE_ID_LOG_MAX));
	} else if (f->limits.submission && (str_ieq(name, STR("Bcc")) || str_ieq(name, STR("Resent-Bcc"))))
		return false;
	else if (f->limits.local && (str_ieq(name, STR("Return-Path")) || str_ieq(name, STR("Content-Length"))))
		return false;
	return true;
}

/* A long Message-ID is often folded behind the colon. */
static void see_continuation(struct smtp_filter *f, struct str line)
{
	if (f->has_message_id && f->message_id.len == 0)
		f->message_id = arena_str(f->arena, str_sub(str_trim(line), 0, MESSAGE_ID_LOG_MAX));
}

/* What the bytes of the stored form are on the wire. */
static uint64_t wire_length(struct str stored)
{
	uint64_t n = stored.len;

	for (size_t i = 0; i < stored.len; i++)
		n += stored.ptr[i] == '\n';
	return n;
}

static bool is_address_field(struct str name)
{
	static const char *const names[] = {"From",
					    "To",
					    "Cc",
					    "Bcc",
					    "Sender",
					    "Reply-To",
					    "Errors-To",
					    "Apparently-To",
					    "Return-Receipt-To",
					    "Disposition-Notification-To",
					    "Mail-Followup-To"};

	if (str_istarts(name, STR("Resent-")))
		name = str_skip(name, 7);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_ieq(name, str_from(names[i])))
			return true;
	return false;
}

/* The field is whole: as limits.field wants it. A Bcc is shown to it, and goes. */
static void held_flush(struct smtp_filter *f, struct buf *out)
{
	struct str field = buf_str(&f->held), name = str_sub(field, 0, f->held_name);
	bool drop = f->limits.submission && (str_ieq(name, STR("Bcc")) || str_ieq(name, STR("Resent-Bcc")));
	struct buf changed;

	if (f->held_name == 0)
		return;
	buf_init(&changed, 4 * f->held.max);
	f->limits.field(f->limits.field_ctx, name, field, &changed);
	if (drop || (changed.len > 0 && !buf_failed(&changed))) {
		f->wire_size -= wire_length(field);
		field = drop ? STR("") : buf_str(&changed);
		f->wire_size += wire_length(field);
	}
	buf_add_str(out, field);
	buf_release(&changed);
	buf_clear(&f->held);
	f->held_name = 0;
}

/* One whole line of the header, with its LF (the very last line of a message may come without). */
static void header_line(struct smtp_filter *f, struct str line, struct buf *out)
{
	size_t name_len = field_name(line);
	bool continuation = f->fields > 0 && line.len > 0 && ascii_blank(line.ptr[0]);

	f->dropping = f->dropping && continuation;
	if (!continuation)
		held_flush(f, out);
	f->header_size += line.len;
	f->field_size = continuation ? f->field_size + line.len : line.len;
	if (f->field_size > f->limits.line_max) {
		refuse(f, FILTER_HEADER_LINE);
	} else if (f->header_size > f->limits.header_max) {
		refuse(f, FILTER_HEADER_SIZE);
	} else if (line.len > 0 && (line.ptr[0] == '\n' || str_eq(line, STR("\r\n")))) {
		f->in_header = false;
		buf_add_str(out, line);
	} else if (continuation) {
		see_continuation(f, line);
		if (!f->dropping)
			buf_add_str(f->held_name > 0 ? &f->held : out, line);
	} else if (name_len > 0) {
		if (++f->fields > f->limits.field_max) {
			refuse(f, FILTER_HEADER_COUNT);
			return;
		}
		if (f->limits.field != NULL && is_address_field(str_sub(line, 0, name_len))) {
			(void)see_field(f, line, name_len);
			f->held_name = name_len;
			buf_add_str(&f->held, line);
			return;
		}
		f->dropping = !see_field(f, line, name_len);
		if (!f->dropping)
			buf_add_str(out, line);
	} else if (f->limits.local && f->fields == 0 && f->header_size == line.len &&
		   (str_starts(line, STR("From ")) || str_starts(line, STR(">From ")))) {
		f->wire_size -= wire_length(line);
	} else if (f->fields == 0 && (str_starts(line, STR("From ")) || str_starts(line, STR(">From ")))) {
		/* The separator line of an mbox: kept, as a field. */
		f->fields++;
		f->wire_size += 16;
		buf_addz(out, "X-Mailbox-Line: ");
		buf_add_str(out, line);
	} else {
		/* The body starts without an empty line: ours is put in, or Received would swallow the text. */
		f->in_header = false;
		f->wire_size += 2;
		buf_addc(out, '\n');
		buf_add_str(out, line);
	}
	if (f->dropping)
		f->wire_size -= line.len + (str_ends(line, STR("\n")) ? 1 : 0);
}

/* Hands whole lines to header_line(); whatever stands behind the header's end goes straight through. */
static void header_drain(struct smtp_filter *f, struct buf *out)
{
	size_t at = 0;

	while (f->in_header && f->refused == FILTER_OK) {
		const char *nl = memchr(f->line.ptr + at, '\n', f->line.len - at);
		size_t len;

		if (nl == NULL)
			break;
		len = (size_t)(nl - (f->line.ptr + at)) + 1;
		header_line(f, str_of(f->line.ptr + at, len), out);
		at += len;
	}
	if (f->refused != FILTER_OK)
		return;
	if (!f->in_header) {
		buf_add(out, f->line.ptr + at, f->line.len - at);
		buf_release(&f->line);
		return;
	}
	buf_consume(&f->line, at);
	if (f->line.len > f->limits.line_max)
		refuse(f, FILTER_HEADER_LINE);
}

/* ---- the line layer -------------------------------------------------------------------------------------- */

static void put(struct smtp_filter *f, const char *ptr, size_t len, struct buf *out)
{
	if (len == 0)
		return;
	f->last = ptr[len - 1];
	f->wire_size += len;
	buf_add(out, ptr, len);
}

static void put_line_end(struct smtp_filter *f, struct buf *out)
{
	if (f->last == '\r')
		f->as_is = true;
	f->wire_size++;
	put(f, "\n", 1, out);
}

/* Text up to a line end or the end of `in`. Returns bytes taken. */
static size_t take_text(struct smtp_filter *f, struct str in, struct buf *out)
{
	const char *nl;
	size_t len;

	if (f->pending_cr) {
		f->pending_cr = false;
		if (in.ptr[0] == '\n') {
			put_line_end(f, out);
			f->state = f->chunked ? FILTER_TEXT : FILTER_BOL;
			return 1;
		}
		put(f, "\r", 1, out);
	}
	nl = memchr(in.ptr, '\n', in.len);
	len = nl != NULL ? (size_t)(nl - in.ptr) : in.len;
	if (len > 0 && in.ptr[len - 1] == '\r') {
		put(f, in.ptr, len - 1, out);
		if (nl == NULL) {
			f->pending_cr = true;
			return len;
		}
		put_line_end(f, out);
		f->state = f->chunked ? FILTER_TEXT : FILTER_BOL;
		return len + 1;
	}
	put(f, in.ptr, len, out);
	if (nl == NULL)
		return len;
	f->bare_lf = true;
	f->wire_size++;
	put(f, "\n", 1, out);
	return len + 1;
}

/* Decodes `in` into out. Returns bytes taken: all of them, unless the data ended. */
static size_t take_lines(struct smtp_filter *f, struct str in, struct buf *out, bool *done)
{
	size_t at = 0;

	while (at < in.len) {
		char c = in.ptr[at];

		switch (f->state) {
		case FILTER_BOL:
			f->state = c == '.' ? FILTER_DOT : FILTER_TEXT;
			at += c == '.';
			break;
		case FILTER_DOT: /* the dot itself is gone either way (RFC 5321 4.5.2) */
			f->state = c == '\r' ? FILTER_DOT_CR : FILTER_TEXT;
			at += c == '\r';
			break;
		case FILTER_DOT_CR:
			if (c == '\n') {
				*done = true;
				return at + 1;
			}
			f->pending_cr = true;
			f->state = FILTER_TEXT;
			break;
		case FILTER_TEXT:
			at += take_text(f, str_skip(in, at), out);
			break;
		}
	}
	return at;
}

size_t smtp_filter_take(void *state, struct str in, struct buf *out, bool *done)
{
	struct smtp_filter *f = state;
	size_t at = 0;

	*done = false;
	if (f->chunked && in.len > f->remaining)
		in.len = (size_t)f->remaining;
	while (at < in.len && !*done) {
		struct str piece = str_skip(in, at);
		size_t before = out->len;

		if (f->refused == FILTER_OK && f->in_header) {
			piece = str_sub(piece, 0, HEADER_SLICE);
			at += take_lines(f, piece, &f->line, done);
			header_drain(f, out);
		} else {
			at += take_lines(f, piece, out, done);
		}
		if (f->limits.message_max > 0 && f->wire_size > f->limits.message_max)
			refuse(f, FILTER_TOO_LARGE);
		if (f->refused != FILTER_OK) {
			buf_truncate(out, before);
			buf_clear(&f->line);
		}
	}
	if (f->chunked) {
		f->remaining -= at;
		*done = f->remaining == 0;
	}
	return at;
}

void smtp_filter_finish(struct smtp_filter *f, struct buf *out)
{
	struct buf *to = f->in_header ? &f->line : out;

	if (f->refused != FILTER_OK)
		return;
	if (f->pending_cr)
		put(f, "\r", 1, to);
	f->pending_cr = false;
	if (!f->in_header)
		return;
	header_drain(f, out);
	if (f->in_header && f->refused == FILTER_OK && f->line.len > 0)
		header_line(f, str_of(f->line.ptr, f->line.len), out);
	if (f->refused == FILTER_OK)
		held_flush(f, out);
	buf_release(&f->line);
}
