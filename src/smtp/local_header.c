/* Header fields of mail from this machine: "To: root" means root@$myorigin (Postfix's append_at_myorigin).
 *
 * One pass over the value (RFC 5322 3.4). Nothing is written anew: the domain is put in behind an address that has
 * none, and every other byte stays where it was. What is no single word (a name without an address) is left alone. */
#include "msg/lex.h"
#include "smtp/smtp.h"

/* The address under way, up to the next comma. */
struct item {
	size_t words, word_end;
	bool gap;  /* a blank since the last word */
	bool done; /* it has a domain, or was completed */
};

struct scan {
	struct str in;
	struct str origin;
	size_t at, copied;
	struct item item;
	struct buf *out;
};

static void put_origin(struct scan *s, size_t where)
{
	buf_add_str(s->out, str_sub(s->in, s->copied, where - s->copied));
	buf_addc(s->out, '@');
	buf_add_str(s->out, s->origin);
	s->copied = where;
}

static void item_end(struct scan *s)
{
	if (!s->item.done && s->item.words == 1)
		put_origin(s, s->item.word_end);
	s->item = (struct item){0};
}

static void word(struct scan *s, size_t end)
{
	if (s->item.words == 0 || s->item.gap)
		s->item.words++;
	s->item.gap = false;
	s->item.word_end = end;
	s->at = end;
}

/* Behind a quoted string or a comment. */
static size_t behind(const struct scan *s, bool comment)
{
	struct str rest = str_skip(s->in, s->at);
	struct buf text;

	if (comment) {
		lex_comment(&rest, NULL);
	} else {
		buf_init(&text, s->in.len + 1);
		lex_quoted(&rest, &text);
		buf_release(&text);
	}
	return s->in.len - rest.len;
}

/* "<root>"; a route or anything with an '@' is whole, and <> is nobody. */
static void angle(struct scan *s)
{
	size_t at = s->at + 1;
	bool domain = false, any = false;

	for (; at < s->in.len && s->in.ptr[at] != '>' && s->in.ptr[at] != ','; at++) {
		if (s->in.ptr[at] == '"') {
			s->at = at;
			at = behind(s, false) - 1;
			any = true;
			continue;
		}
		domain = domain || s->in.ptr[at] == '@';
		any = any || !lex_is_wsp(s->in.ptr[at]);
	}
	if (at < s->in.len && s->in.ptr[at] == '>' && any && !domain) {
		size_t end = at;

		while (lex_is_wsp(s->in.ptr[end - 1]))
			end--;
		put_origin(s, end);
	}
	s->item.done = true;
	s->at = at < s->in.len && s->in.ptr[at] == '>' ? at + 1 : at;
}

static void step(struct scan *s)
{
	char c = s->in.ptr[s->at];

	if (c == '"') {
		word(s, behind(s, false));
	} else if (c == '(') {
		s->at = behind(s, true);
		s->item.gap = true;
	} else if (c == '<') {
		angle(s);
	} else if (c == ',' || c == ';') {
		item_end(s);
		s->at++;
	} else if (c == ':') { /* the name of a group */
		s->item = (struct item){0};
		s->at++;
	} else if (lex_is_wsp(c)) {
		s->item.gap = true;
		s->at++;
	} else {
		s->item.done = s->item.done || c == '@';
		word(s, s->at + 1);
	}
}

void smtp_local_field(struct str name, struct str field, struct str origin, struct buf *out)
{
	ptrdiff_t colon = str_chr(str_skip(field, name.len), ':');
	struct scan s = {.in = field, .origin = origin, .out = out};

	if (colon < 0)
		return;
	s.at = name.len + (size_t)colon + 1;
	while (s.at < s.in.len)
		step(&s);
	item_end(&s);
	if (s.copied > 0)
		buf_add_str(out, str_skip(field, s.copied));
}
