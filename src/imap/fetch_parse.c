/* The arguments of FETCH (RFC 3501 6.4.5, 9: fetch). */
#include "base/vec.h"
#include "imap/fetch.h"
#include "imap/reply.h"

void imap_items_add(struct arena *arena, struct imap_items *items, enum imap_item_kind kind)
{
	vec_push_arena(arena, items, ((struct imap_item){.kind = kind}));
}

static bool has_item(const struct imap_items *items, enum imap_item_kind kind)
{
	for (size_t i = 0; i < items->n; i++) {
		if (items->v[i].kind == kind)
			return true;
	}
	return false;
}

/* ---- sections ---- */

int imap_field_order(const void *a, const void *b)
{
	const struct str *x = a, *y = b;

	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return strncasecmp(x->ptr, y->ptr, x->len);
}

static bool parse_fields(struct imap_parser *p, struct imap_section *section)
{
	struct {
		struct str *v;
		size_t n, cap;
	} fields = {0};
	struct str name;

	if (!imap_parse_space(p) || !imap_parse_char(p, '('))
		return false;
	while (!imap_parse_take(p, ')')) {
		if (!imap_parse_astring(p, &name))
			return false;
		if (fields.n >= IMAP_FETCH_FIELDS_MAX)
			return imap_parse_fail(p, "Too many header fields");
		vec_push_arena(p->arena, &fields, name);
		if (!imap_parse_peek(p, ')') && !imap_parse_space(p))
			return false;
	}
	if (fields.n == 0)
		return imap_parse_fail(p, "Empty list of header fields");
	section->fields = fields.v;
	section->field_count = fields.n;
	section->sorted = ARENA_ARRAY(p->arena, struct str, fields.n + 1);
	memcpy(section->sorted, fields.v, fields.n * sizeof(*fields.v));
	qsort(section->sorted, fields.n, sizeof(*fields.v), imap_field_order);
	return true;
}

static bool parse_section_text(struct imap_parser *p, struct imap_section *section)
{
	static const struct {
		const char *name;
		int what;
	} table[] = {
		{"HEADER.FIELDS.NOT", SECTION_FIELDS_NOT},
		{"HEADER.FIELDS", SECTION_FIELDS},
		{"HEADER", SECTION_HEADER},
		{"TEXT", SECTION_TEXT},
		{"MIME", SECTION_MIME},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (!imap_parse_word(p, table[i].name))
			continue;
		section->what = table[i].what;
		if (section->what == SECTION_FIELDS || section->what == SECTION_FIELDS_NOT)
			return parse_fields(p, section);
		return section->what != SECTION_MIME || section->depth > 0 ||
		       imap_parse_fail(p, "MIME needs a part number");
	}
	return imap_parse_fail(p, "Invalid section");
}

static bool parse_section(struct imap_parser *p, struct imap_section *section)
{
	bool dot = false;

	if (imap_parse_take(p, ']'))
		return true;
	while (p->at < p->in.len && ascii_digit(p->in.ptr[p->at])) {
		uint32_t number;

		if (!imap_parse_u32(p, &number))
			return false;
		if (number == 0 || section->depth == MIME_DEPTH_MAX)
			return imap_parse_fail(p, "Invalid part number");
		section->path[section->depth++] = number;
		dot = imap_parse_take(p, '.');
		if (!dot)
			break;
	}
	if ((dot || section->depth == 0) && !parse_section_text(p, section))
		return false;
	return imap_parse_char(p, ']');
}

static bool parse_partial(struct imap_parser *p, struct imap_section *section)
{
	if (!imap_parse_take(p, '<'))
		return true;
	section->partial = true;
	return imap_parse_u64(p, &section->origin) && imap_parse_char(p, '.') && imap_parse_u64(p, &section->count) &&
	       imap_parse_char(p, '>');
}

static bool add_section(struct imap_parser *p, struct imap_items *items, bool peek)
{
	struct imap_item item = {
		.kind = ITEM_SECTION, .section = ARENA_NEW(p->arena, struct imap_section), .peek = peek};

	if (!parse_section(p, item.section) || !parse_partial(p, item.section))
		return false;
	vec_push_arena(p->arena, items, item);
	return true;
}

static void add_rfc822(struct imap_parser *p, struct imap_items *items, enum imap_item_kind kind, int what)
{
	struct imap_item item = {.kind = kind, .section = ARENA_NEW(p->arena, struct imap_section)};

	item.section->what = what;
	item.peek = kind == ITEM_RFC822_HEADER; /* the one that does not set \Seen */
	vec_push_arena(p->arena, items, item);
}

/* ---- items ---- */

static bool is_item_char(char c)
{
	return ascii_alnum(c) || c == '.';
}

static struct str take_name(struct imap_parser *p)
{
	size_t from = p->at;

	while (p->at < p->in.len && is_item_char(p->in.ptr[p->at]))
		p->at++;
	return str_sub(p->in, from, p->at - from);
}

static const struct {
	const char *name;
	enum imap_item_kind kind;
} plain_items[] = {
	{"FLAGS", ITEM_FLAGS},
	{"UID", ITEM_UID},
	{"INTERNALDATE", ITEM_INTERNALDATE},
	{"RFC822.SIZE", ITEM_SIZE},
	{"MODSEQ", ITEM_MODSEQ},
	{"ENVELOPE", ITEM_ENVELOPE},
	{"BODYSTRUCTURE", ITEM_BODYSTRUCTURE},
};

static bool parse_item(struct imap_parser *p, struct imap_items *items)
{
	struct str name = take_name(p);

	if (items->n >= IMAP_FETCH_ITEMS_MAX)
		return imap_parse_fail(p, "Too many FETCH items");
	for (size_t i = 0; i < ARRAY_SIZE(plain_items); i++) {
		if (str_ieq(name, str_from(plain_items[i].name))) {
			imap_items_add(p->arena, items, plain_items[i].kind);
			return true;
		}
	}
	if (str_ieq(name, STR("BODY")) || str_ieq(name, STR("BODY.PEEK"))) {
		if (imap_parse_take(p, '['))
			return add_section(p, items, name.len > 4);
		if (name.len > 4)
			return imap_parse_fail(p, "BODY.PEEK needs a section");
		imap_items_add(p->arena, items, ITEM_BODY);
	} else if (str_ieq(name, STR("RFC822"))) {
		add_rfc822(p, items, ITEM_RFC822, SECTION_ALL);
	} else if (str_ieq(name, STR("RFC822.HEADER"))) {
		add_rfc822(p, items, ITEM_RFC822_HEADER, SECTION_HEADER);
	} else if (str_ieq(name, STR("RFC822.TEXT"))) {
		add_rfc822(p, items, ITEM_RFC822_TEXT, SECTION_TEXT);
	} else {
		return imap_parse_fail(p, "Unknown FETCH item");
	}
	return true;
}

/* ALL, FAST, FULL stand alone. */
static bool parse_macro(struct imap_parser *p, struct imap_items *items)
{
	bool all = imap_parse_word(p, "ALL"), fast = !all && imap_parse_word(p, "FAST");
	bool full = !all && !fast && imap_parse_word(p, "FULL");

	if (!all && !fast && !full)
		return false;
	imap_items_add(p->arena, items, ITEM_FLAGS);
	imap_items_add(p->arena, items, ITEM_INTERNALDATE);
	imap_items_add(p->arena, items, ITEM_SIZE);
	if (all || full)
		imap_items_add(p->arena, items, ITEM_ENVELOPE);
	if (full)
		imap_items_add(p->arena, items, ITEM_BODY);
	return true;
}

static bool parse_modifiers(struct imap_parser *p, struct imap_items *items)
{
	if (imap_parse_at_end(p))
		return true;
	if (!imap_parse_char(p, '('))
		return imap_parse_fail(p, "Unexpected extra arguments");
	while (!imap_parse_take(p, ')')) {
		if (!imap_parse_word(p, "CHANGEDSINCE") || !imap_parse_space(p))
			return imap_parse_fail(p, "Unknown FETCH modifier");
		items->changedsince = true;
		/* 0 is sent by clients in the field, though the grammar asks for more. */
		if (!imap_parse_u64(p, &items->modseq))
			return false;
		imap_parse_take(p, ' ');
	}
	return imap_parse_end(p);
}

bool imap_parse_items(struct imap_parser *p, bool uid_command, struct imap_items *items_r)
{
	*items_r = (struct imap_items){0};
	if (imap_parse_take(p, '(')) {
		while (!imap_parse_take(p, ')')) {
			if (!parse_item(p, items_r))
				return false;
			if (!imap_parse_peek(p, ')') && !imap_parse_space(p))
				return false;
		}
	} else if (!parse_macro(p, items_r) && !parse_item(p, items_r)) {
		return false;
	}
	if (items_r->n == 0)
		return imap_parse_fail(p, "Nothing to fetch");
	if (!parse_modifiers(p, items_r))
		return false;
	if (uid_command && !has_item(items_r, ITEM_UID)) { /* in front: some clients look for it there */
		imap_items_add(p->arena, items_r, ITEM_UID);
		memmove(items_r->v + 1, items_r->v, (items_r->n - 1) * sizeof(*items_r->v));
		items_r->v[0] = (struct imap_item){.kind = ITEM_UID};
	}
	if (items_r->changedsince && !has_item(items_r, ITEM_MODSEQ))
		imap_items_add(p->arena, items_r, ITEM_MODSEQ);
	return true;
}

void imap_add_section_name(struct buf *out, const struct imap_section *section)
{
	static const char *const names[] = {
		[SECTION_ALL] = "",
		[SECTION_HEADER] = "HEADER",
		[SECTION_FIELDS] = "HEADER.FIELDS",
		[SECTION_FIELDS_NOT] = "HEADER.FIELDS.NOT",
		[SECTION_TEXT] = "TEXT",
		[SECTION_MIME] = "MIME",
	};

	buf_addz(out, "BODY[");
	for (size_t i = 0; i < section->depth; i++)
		buf_addf(out, "%s%u", i ? "." : "", section->path[i]);
	buf_addf(out, "%s%s", section->depth && section->what != SECTION_ALL ? "." : "", names[section->what]);
	for (size_t i = 0; i < section->field_count; i++) {
		buf_addz(out, i ? " " : " (");
		imap_add_astring(out, section->fields[i]);
	}
	buf_addz(out, section->field_count ? ")]" : "]");
	if (section->partial)
		buf_addf(out, "<%llu>", (unsigned long long)section->origin);
}
