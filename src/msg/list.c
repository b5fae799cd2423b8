/* Address lists of header fields (RFC 5322 3.4, 4.4), read as forgivingly as ENVELOPE needs.
 *
 * One pass over the tokens. Words are gathered twice: joined by single blanks, should they turn out to be a
 * display name, and without blanks, should an '@' make them a local part. What stands at a comma, a semicolon
 * or the end decides; characters that fit nowhere are passed over. */
#include "base/vec.h"
#include "msg/address.h"
#include "msg/lex.h"

struct list_parser {
	struct str whole, rest;
	struct arena *arena;
	struct mailbox_addr_list *list;
	size_t max;
	bool in_group;

	/* the address being read */
	struct buf name, local, domain;
	size_t words;
	bool gap;     /* a blank since the last word */
	bool have_at; /* local and domain hold an address without brackets */
	bool done;    /* an address in brackets was added; the rest up to the comma is noise */
	size_t from;  /* where its first word begins, of `whole` */
	size_t to;    /* where the last piece of it that was taken ends */
	struct str comment;
};

static bool is_word_char(char c)
{
	return lex_is_atext(c) || c == '.';
}

static bool at(const struct list_parser *p, char c)
{
	return p->rest.len > 0 && p->rest.ptr[0] == c;
}

static size_t here(const struct list_parser *p)
{
	return p->whole.len - p->rest.len;
}

static void item_clear(struct list_parser *p)
{
	buf_clear(&p->name);
	buf_clear(&p->local);
	buf_clear(&p->domain);
	p->words = 0;
	p->gap = p->have_at = p->done = false;
	p->comment = STR_NULL;
}

static void add(struct list_parser *p, struct mailbox_addr a)
{
	if (p->list->n < p->max)
		vec_push_arena(p->arena, p->list, a);
}

/* Copies; a value that is there but empty keeps a pointer, so that it is not taken for absent. */
static struct str keep(struct list_parser *p, struct str s)
{
	return s.len > 0 ? arena_str(p->arena, s) : STR("");
}

static struct str comment_text(struct list_parser *p)
{
	struct str text = str_trim(p->comment);
	char *copy = arena_alloc(p->arena, text.len + 1);
	size_t n = 0;

	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] == '\\' && i + 1 < text.len)
			i++;
		if (text.ptr[i] != '\r' && text.ptr[i] != '\n')
			copy[n++] = text.ptr[i];
	}
	return str_of(copy, n);
}

static void skip_cfws(struct list_parser *p)
{
	size_t before = p->rest.len;

	lex_skip_cfws(&p->rest, &p->comment);
	if (p->rest.len != before)
		p->gap = true;
}

/* "[...]" up to its end or the end of the text. */
static void take_literal(struct list_parser *p, struct buf *out)
{
	ptrdiff_t end = str_chr(p->rest, ']');
	size_t n = end < 0 ? p->rest.len : (size_t)end + 1;

	for (size_t i = 0; i < n; i++)
		if (!lex_is_wsp(p->rest.ptr[i]))
			buf_addc(out, p->rest.ptr[i]);
	p->rest = str_skip(p->rest, n);
	p->to = here(p);
}

/* Domain with blanks and comments between its parts (obs-domain). */
static void take_domain(struct list_parser *p, struct buf *out)
{
	for (;;) {
		struct str before;

		skip_cfws(p);
		before = p->rest;
		if (at(p, '[') && out->len == 0) {
			take_literal(p, out);
			return;
		}
		/* "a@b c" without a dot between is a domain and noise. */
		if (out->len > 0 && !at(p, '.') && out->ptr[out->len - 1] != '.')
			return;
		buf_add_str(out, str_run(&p->rest, is_word_char));
		if (p->rest.len == before.len)
			return;
		p->to = here(p);
	}
}

static void take_word(struct list_parser *p)
{
	size_t start;

	if (p->gap && p->words > 0)
		buf_addc(&p->name, ' ');
	start = p->name.len;
	if (p->words == 0)
		p->from = here(p);
	if (at(p, '"'))
		lex_quoted(&p->rest, &p->name);
	else
		buf_add_str(&p->name, str_run(&p->rest, is_word_char));
	if (!p->have_at) {
		buf_add(&p->local, p->name.ptr + start, p->name.len - start);
		p->to = here(p);
	}
	p->words++;
	p->gap = false;
}

/* "a@b" without brackets; should a '<' follow, all of it was a display name. */
static void take_at(struct list_parser *p)
{
	if (p->words == 0)
		p->from = here(p);
	p->rest = str_skip(p->rest, 1);
	buf_addc(&p->name, '@');
	if (p->have_at)
		return;
	p->to = here(p);
	p->have_at = true;
	take_domain(p, &p->domain);
	buf_add_str(&p->name, buf_str(&p->domain));
	p->words++;
}

/* "@a,@b:" behind '<'; what only looks like one is left for the address. */
static struct str take_route(struct list_parser *p)
{
	size_t n = 0;

	while (n < p->rest.len && (is_word_char(p->rest.ptr[n]) || lex_is_wsp(p->rest.ptr[n]) ||
				   p->rest.ptr[n] == '@' || p->rest.ptr[n] == ','))
		n++;
	if (n == p->rest.len || p->rest.ptr[n] != ':')
		return STR_NULL;
	struct str route = keep(p, str_sub(p->rest, 0, n));

	p->rest = str_skip(p->rest, n + 1);
	return route;
}

/* angle-addr, with obs-route. */
static void take_angle(struct list_parser *p)
{
	struct mailbox_addr a = {.kind = ADDR_MAILBOX};

	p->rest = str_skip(p->rest, 1);
	buf_clear(&p->local);
	buf_clear(&p->domain);
	skip_cfws(p);
	if (at(p, '@'))
		a.route = take_route(p);
	skip_cfws(p);
	p->from = p->to = here(p);
	for (; p->rest.len > 0 && !at(p, '>') && !at(p, '@'); skip_cfws(p)) {
		if (at(p, '"'))
			lex_quoted(&p->rest, &p->local);
		else if (is_word_char(p->rest.ptr[0]))
			buf_add_str(&p->local, str_run(&p->rest, is_word_char));
		else if (at(p, ',') || at(p, ';'))
			break;
		else
			p->rest = str_skip(p->rest, 1);
		p->to = here(p);
	}
	if (at(p, '@')) {
		p->rest = str_skip(p->rest, 1);
		p->to = here(p);
		take_domain(p, &p->domain);
	}
	while (p->rest.len > 0 && !at(p, '>') && !at(p, ',') && !at(p, ';'))
		p->rest = str_skip(p->rest, 1);
	if (at(p, '>'))
		p->rest = str_skip(p->rest, 1);
	a.local = keep(p, buf_str(&p->local));
	a.domain = keep(p, buf_str(&p->domain));
	a.at = p->from;
	a.len = p->to - p->from;
	if (p->words > 0)
		a.name = keep(p, buf_str(&p->name));
	else if (p->comment.ptr != NULL)
		a.name = comment_text(p);
	add(p, a);
	p->done = true;
}

/* At a comma, a semicolon or the end. */
static void finish_item(struct list_parser *p)
{
	struct mailbox_addr a = {.kind = ADDR_MAILBOX, .domain = STR("")};

	if (!p->done && p->have_at) {
		a.local = keep(p, buf_str(&p->local));
		a.domain = keep(p, buf_str(&p->domain));
	} else if (!p->done && p->words == 1) {
		a.local = keep(p, buf_str(&p->local));
	} else if (!p->done && p->words > 1) {
		a.local = STR("");
		a.name = keep(p, buf_str(&p->name));
	}
	if (a.local.ptr != NULL) {
		a.at = p->from;
		a.len = p->to - p->from;
		if (a.name.ptr == NULL && p->comment.ptr != NULL)
			a.name = comment_text(p);
		add(p, a);
	}
	item_clear(p);
}

static void start_group(struct list_parser *p)
{
	if (!p->in_group && !p->done && !p->have_at && p->words > 0) {
		add(p, (struct mailbox_addr){.kind = ADDR_GROUP_START, .name = keep(p, buf_str(&p->name))});
		p->in_group = true;
	}
	item_clear(p);
}

static void end_group(struct list_parser *p)
{
	finish_item(p);
	if (p->in_group)
		add(p, (struct mailbox_addr){.kind = ADDR_GROUP_END});
	p->in_group = false;
}

static void take_token(struct list_parser *p)
{
	char c = p->rest.ptr[0];

	if (c == '<' && !p->done) {
		take_angle(p);
	} else if (c == '@' && !p->done) {
		take_at(p);
	} else if (c == '"' || is_word_char(c)) {
		take_word(p);
	} else {
		p->rest = str_skip(p->rest, 1);
		if (c == ',')
			finish_item(p);
		else if (c == ':')
			start_group(p);
		else if (c == ';')
			end_group(p);
	}
}

void address_list_parse_max(struct str value, size_t max, struct arena *arena, struct mailbox_addr_list *list_r)
{
	struct list_parser p = {.whole = value, .rest = value, .arena = arena, .list = list_r, .max = max};

	*list_r = (struct mailbox_addr_list){0};
	buf_init(&p.name, 2 * value.len + 2);
	buf_init(&p.local, value.len + 1);
	buf_init(&p.domain, value.len + 1);
	for (skip_cfws(&p); p.rest.len > 0 && list_r->n < max; skip_cfws(&p))
		take_token(&p);
	if (p.in_group)
		end_group(&p);
	else
		finish_item(&p);
	buf_release(&p.name);
	buf_release(&p.local);
	buf_release(&p.domain);
}

void address_list_parse(struct str value, struct arena *arena, struct mailbox_addr_list *list_r)
{
	address_list_parse_max(value, ADDRESS_LIST_MAX, arena, list_r);
}
