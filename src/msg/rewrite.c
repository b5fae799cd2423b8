/* See rewrite.h. The spans of the addresses come from the parser of lists; what lies between them is copied. */
#include "msg/rewrite.h"
#include "msg/lex.h"

#define LINE_GOOD 78 /* RFC 5322 2.1.1 */

enum rewrite_class rewrite_class(struct str field_name)
{
	static const struct {
		const char *name;
		enum rewrite_class class;
	} fields[] = {
		{"From", REWRITE_SENDER},
		{"To", REWRITE_RECIPIENT},
		{"Cc", REWRITE_RECIPIENT},
		{"Bcc", REWRITE_RECIPIENT},
		{"Reply-To", REWRITE_SENDER},
		{"Sender", REWRITE_SENDER},
		{"Return-Path", REWRITE_SENDER},
		{"Errors-To", REWRITE_SENDER},
		{"Apparently-To", REWRITE_RECIPIENT},
		{"Disposition-Notification-To", REWRITE_SENDER},
		{"Mail-Followup-To", REWRITE_SENDER},
		{"Return-Receipt-To", REWRITE_SENDER},
		{"Resent-From", REWRITE_SENDER},
		{"Resent-Sender", REWRITE_SENDER},
		{"Resent-Reply-To", REWRITE_RECIPIENT},
		{"Resent-To", REWRITE_RECIPIENT},
		{"Resent-Cc", REWRITE_RECIPIENT},
		{"Resent-Bcc", REWRITE_RECIPIENT},
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (str_ieq(field_name, str_from(fields[i].name)))
			return fields[i].class;
	return REWRITE_NONE;
}

/* ---- folding ---- */

struct fold {
	struct buf *out;
	struct str eol;
	size_t line;  /* of out: where the line begins */
	size_t comma; /* of out: behind the last comma of the list in this line; 0: none */
};

/* The line has become too long: it ends at its last comma, where the list has a blank. */
static void fold_at_comma(struct fold *f)
{
	struct buf *out = f->out;
	size_t rest = out->len - f->comma;
	bool blank = rest > 0 && ascii_blank(out->ptr[f->comma]);
	size_t more = f->eol.len + !blank;

	if (rest == 0 || buf_reserve(out, more) == NULL)
		return;
	memmove(out->ptr + f->comma + more, out->ptr + f->comma, rest);
	memcpy(out->ptr + f->comma, f->eol.ptr, f->eol.len);
	if (!blank)
		out->ptr[f->comma + f->eol.len] = ' ';
	buf_grow(out, more);
	f->line = f->comma + f->eol.len;
	f->comma = 0;
}

static void fold_take(struct fold *f, struct str piece, bool at_comma)
{
	buf_add_str(f->out, piece);
	if (f->out->len - f->line > LINE_GOOD && f->comma > f->line)
		fold_at_comma(f);
	if (at_comma)
		f->comma = f->out->len;
}

/* The next piece of a line: a comment, a quoted string, a comma, or a run of other bytes. */
static size_t piece_size(struct str line)
{
	struct str rest = line;
	struct buf ignored;
	size_t n = 1;

	if (line.ptr[0] == '(') {
		lex_comment(&rest, NULL);
		return line.len - rest.len;
	}
	if (line.ptr[0] == '"') {
		buf_init(&ignored, 0);
		lex_quoted(&rest, &ignored);
		buf_release(&ignored);
		return line.len - rest.len;
	}
	while (line.ptr[0] != ',' && n < line.len && !char_is_one_of(line.ptr[n], "(\","))
		n++;
	return n;
}

static void put_folded(struct buf *out, struct str field)
{
	struct fold f = {.out = out, .eol = str_ends(field, STR("\r\n")) ? STR("\r\n") : STR("\n")};

	while (field.len > 0) {
		ptrdiff_t lf = str_chr(field, '\n');
		struct str line = lf < 0 ? field : str_sub(field, 0, (size_t)lf + 1), end;

		field = str_skip(field, line.len);
		end = line;
		while (line.len > 0 && (line.ptr[line.len - 1] == '\n' || line.ptr[line.len - 1] == '\r'))
			line.len--;
		end = str_skip(end, line.len);
		f.line = out->len;
		f.comma = 0;
		while (line.len > 0) {
			size_t n = piece_size(line);

			fold_take(&f, str_sub(line, 0, n), line.ptr[0] == ',');
			line = str_skip(line, n);
		}
		buf_add_str(out, end);
	}
}

/* ---- one field ---- */

static struct str as_path(const struct mailbox_addr *a, struct arena *arena)
{
	struct address plain = {.local = a->local, .domain = a->domain};

	return address_str(arena, &plain);
}

size_t rewrite_field(const struct header *field, rewrite_map *map, void *ctx, struct arena *arena, struct buf *out)
{
	enum rewrite_class class = field->name.len > 0 ? rewrite_class(field->name) : REWRITE_NONE;
	struct mailbox_addr_list list;
	size_t at = 0, replaced = 0, value = (size_t)(field->value.ptr - field->raw.ptr);
	struct buf changed;

	if (class == REWRITE_NONE) {
		buf_add_str(out, field->raw);
		return 0;
	}
	buf_init(&changed, SIZE_MAX / 2);
	address_list_parse_max(field->value, REWRITE_MAX, arena, &list);
	for (size_t i = 0; i < list.n; i++) {
		const struct mailbox_addr *a = &list.v[i];
		struct str to;

		if (a->kind != ADDR_MAILBOX || a->local.len == 0 || str_has_control(a->local) ||
		    str_has_control(a->domain) || !map(ctx, class, as_path(a, arena), &to))
			continue;
		buf_add_str(&changed, str_sub(field->raw, at, value + a->at - at));
		buf_add_str(&changed, to);
		at = value + a->at + a->len;
		replaced++;
	}
	if (replaced == 0) {
		buf_add_str(out, field->raw);
	} else {
		buf_add_str(&changed, str_skip(field->raw, at));
		put_folded(out, buf_str(&changed));
	}
	buf_release(&changed);
	return replaced;
}

size_t rewrite_header(struct str header, rewrite_map *map, void *ctx, struct arena *arena, struct buf *out)
{
	struct str rest = header, end;
	struct header field;
	size_t replaced = 0;

	for (end = rest; header_next(&rest, &field); end = rest)
		replaced += rewrite_field(&field, map, ctx, arena, out);
	buf_add_str(out, end);
	return replaced;
}
