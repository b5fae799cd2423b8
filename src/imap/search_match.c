/* Does a message fit? Text is decoded piece by piece into UTF-8, folded, and searched as bytes. */
#include "base/utf8.h"
#include "imap/search.h"
#include "msg/charset.h"
#include "msg/date.h"
#include "msg/header.h"

#define TEXT_MAX (256u << 20)

/* ---- folding ---- */

static uint32_t fold_latin_extended(uint32_t c)
{
	if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17e))
		return c & 1 ? c + 1 : c;
	if (c == 0x130 || c == 0x131) /* the Turkish i: both as i */
		return 'i';
	if (c == 0x178)
		return 0xff;
	return c & 1 ? c : c + 1;
}

static uint32_t fold_char(uint32_t c)
{
	if (c < 0x80)
		return (uint32_t)(unsigned char)ascii_lower((char)c);
	if (c >= 0xc0 && c <= 0xde && c != 0xd7)
		return c + 32;
	if (c >= 0x100 && c <= 0x17e)
		return fold_latin_extended(c);
	if ((c >= 0x391 && c <= 0x3a1) || (c >= 0x3a3 && c <= 0x3ab))
		return c + 32;
	if (c == 0x3c2) /* final sigma */
		return 0x3c3;
	if (c >= 0x400 && c <= 0x40f)
		return c + 80;
	if (c >= 0x410 && c <= 0x42f)
		return c + 32;
	if ((c >= 0x460 && c <= 0x481) || (c >= 0x48a && c <= 0x4bf) || (c >= 0x4d0 && c <= 0x52f) ||
	    (c >= 0x1e00 && c <= 0x1e95) || (c >= 0x1ea0 && c <= 0x1eff))
		return c | 1;
	if (c >= 0x531 && c <= 0x556)
		return c + 48;
	return c;
}

/* The ASCII that the text begins with. */
static void fold_ascii(struct buf *out, struct str *text)
{
	size_t n = 0;
	char *room;

	while (n < text->len && (unsigned char)text->ptr[n] < 0x80)
		n++;
	room = n > 0 ? buf_reserve(out, n) : NULL;
	if (room) {
		for (size_t i = 0; i < n; i++)
			room[i] = ascii_lower(text->ptr[i]);
		buf_grow(out, n);
	}
	*text = str_skip(*text, n);
}

void imap_fold(struct buf *out, struct str text)
{
	while (text.len > 0) {
		int32_t c;

		fold_ascii(out, &text);
		if (text.len == 0)
			break;
		c = utf8_next(&text);
		utf8_add(out, c < 0 ? 0xfffd : fold_char((uint32_t)c));
	}
}

static bool contains(struct str utf8, struct str needle)
{
	struct buf folded;
	bool found;

	if (needle.len == 0)
		return true;
	buf_init(&folded, TEXT_MAX);
	imap_fold(&folded, utf8);
	found = str_find(buf_str(&folded), needle) >= 0;
	buf_release(&folded);
	return found;
}

/* ---- headers ---- */

static bool value_contains(struct str raw, struct str needle)
{
	struct arena arena;
	bool found;

	arena_init(&arena);
	found = contains(header_decode(header_unfold(raw, &arena), &arena), needle);
	arena_release(&arena);
	return found;
}

static bool block_contains(struct str block, struct str field, struct str needle)
{
	struct header h;

	while (block.len > 0 && header_next(&block, &h)) {
		if (h.name.len > 0 && str_ieq(h.name, field) && value_contains(h.value, needle))
			return true;
	}
	return false;
}

/* A piece of text, and an end that no needle goes across. */
static void gather(struct buf *out, struct str utf8)
{
	imap_fold(out, utf8);
	buf_addc(out, '\0');
}

/* Every field, names included: what TEXT looks at. */
static void gather_block(struct buf *out, struct str block)
{
	struct header h;

	while (block.len > 0 && header_next(&block, &h)) {
		struct arena arena;

		gather(out, h.name);
		arena_init(&arena);
		gather(out, header_decode(header_unfold(h.value, &arena), &arena));
		arena_release(&arena);
		if (str_is_ascii(h.raw))
			gather(out, h.raw);
	}
}

static bool list_contains(const struct mailbox_addr_list *list, struct str needle)
{
	struct arena arena;
	bool found = false;

	arena_init(&arena);
	for (size_t i = 0; i < list->n && !found; i++) {
		const struct mailbox_addr *a = &list->v[i];
		struct str name = header_decode(a->name, &arena), text;

		if (a->kind == ADDR_MAILBOX)
			text = arena_printf(&arena, "%.*s%s<%.*s@%.*s>", STR_ARG(name), name.len ? " " : "",
					    STR_ARG(a->local), STR_ARG(a->domain));
		else
			text = name;
		found = contains(text, needle);
	}
	arena_release(&arena);
	return found;
}

static bool envelope_text(const struct envelope *e, struct str field, struct str *raw_r)
{
	if (str_ieq(field, STR("Subject")))
		*raw_r = e->subject;
	else if (str_ieq(field, STR("Message-ID")))
		*raw_r = e->message_id;
	else if (str_ieq(field, STR("In-Reply-To")))
		*raw_r = e->in_reply_to;
	else
		return false;
	return true;
}

static const struct mailbox_addr_list *envelope_list(const struct envelope *e, struct str field)
{
	return str_ieq(field, STR("From")) ? &e->from
	       : str_ieq(field, STR("To")) ? &e->to
	       : str_ieq(field, STR("Cc")) ? &e->cc
					   : &e->bcc;
}

static bool match_summary_header(const struct imap_key *key, const struct summary *summary)
{
	const struct envelope *e = summary->root->envelope;
	struct str raw;

	if (e == NULL)
		return false;
	if (envelope_text(e, key->field, &raw))
		return raw.ptr != NULL && value_contains(raw, key->text);
	return envelope_list(e, key->field)->n > 0 &&
	       (key->text.len == 0 || list_contains(envelope_list(e, key->field), key->text));
}

static bool match_header(const struct imap_key *key, struct imap_candidate *c)
{
	const struct summary *summary;
	const struct str *message;

	if (key->cost == COST_SUMMARY) {
		summary = c->summary(c);
		return summary && summary->root && match_summary_header(key, summary);
	}
	message = c->message(c);
	return message &&
	       block_contains(str_sub(*message, 0, c->prefix_len + header_size(str_skip(*message, c->prefix_len))),
			      key->field, key->text);
}

/* ---- bodies ---- */

static struct str charset_of(const struct mime_part *part)
{
	for (size_t i = 0; i < part->param_count; i++) {
		if (str_ieq(part->params[i].name, STR("charset")))
			return part->params[i].value;
	}
	return STR_NULL;
}

static void gather_leaf(struct buf *out, const struct mime_part *part, struct str message)
{
	struct buf decoded, utf8;
	struct str charset = charset_of(part);

	if (part->type.ptr != NULL && !str_ieq(part->type, STR("text")) && !str_ieq(part->type, STR("message")))
		return;
	buf_init(&decoded, TEXT_MAX);
	buf_init(&utf8, TEXT_MAX);
	(void)mime_decode(part->encoding, str_sub(message, part->body_offset, part->body_len), &decoded);
	if (charset.len > 0)
		charset_decode(&utf8, charset, buf_str(&decoded));
	else
		charset_guess(&utf8, buf_str(&decoded));
	gather(out, buf_str(&utf8));
	buf_release(&utf8);
	buf_release(&decoded);
}

/* message: behind the prefix, as the offsets count. */
static void gather_part(struct buf *out, const struct mime_part *part, struct str message)
{
	if (part->parent) /* the headers of parts and of messages inside belong to the body */
		gather_block(out, str_sub(message, part->header_offset, part->header_len));
	if (part->first == NULL)
		gather_leaf(out, part, message);
	for (const struct mime_part *child = part->first; child; child = child->next)
		gather_part(out, child, message);
}

static struct str header_text(struct imap_candidate *c, struct str message, const struct mime_part *root)
{
	if (!c->has_header_text) {
		c->has_header_text = true;
		buf_init(&c->header_text, TEXT_MAX);
		gather_block(&c->header_text,
			     str_sub(message, 0, c->prefix_len + root->header_offset + root->header_len));
	}
	return buf_str(&c->header_text);
}

static struct str body_text(struct imap_candidate *c, struct str message, const struct mime_part *root)
{
	if (!c->has_body_text) {
		c->has_body_text = true;
		buf_init(&c->body_text, TEXT_MAX);
		gather_part(&c->body_text, root, str_skip(message, c->prefix_len));
	}
	return buf_str(&c->body_text);
}

void imap_candidate_release(struct imap_candidate *c)
{
	if (c->has_header_text)
		buf_release(&c->header_text);
	if (c->has_body_text)
		buf_release(&c->body_text);
	c->has_header_text = c->has_body_text = false;
}

static bool match_text(const struct imap_key *key, struct imap_candidate *c)
{
	const struct str *message = c->message(c);
	const struct summary *summary;

	if (message == NULL)
		return false;
	if (key->text.len == 0)
		return true;
	summary = c->summary(c);
	if (summary == NULL || summary->root == NULL)
		return false;
	return (key->kind == KEY_TEXT && str_find(header_text(c, *message, summary->root), key->text) >= 0) ||
	       str_find(body_text(c, *message, summary->root), key->text) >= 0;
}

/* ---- everything else ---- */

static bool compare_day(enum imap_key_kind kind, int64_t day, int64_t with)
{
	switch (kind) {
	case KEY_BEFORE:
	case KEY_SENTBEFORE:
		return day < with;
	case KEY_ON:
	case KEY_SENTON:
		return day == with;
	default:
		return day >= with;
	}
}

/* Times of day and zones do not count (6.4.4): the day that stands in the header. */
static bool match_sent(const struct imap_key *key, struct imap_candidate *c)
{
	const struct summary *summary = c->summary(c);

	if (summary == NULL || summary->sent_date == INT64_MIN)
		return false;
	return compare_day(key->kind, date_day_of(summary->sent_date, summary->sent_zone), key->day);
}

static bool match_meta(const struct imap_key *key, struct imap_candidate *c)
{
	const struct message_meta *meta = c->meta(c);

	if (meta == NULL)
		return false;
	if (key->kind == KEY_LARGER)
		return meta->size > key->number;
	if (key->kind == KEY_SMALLER)
		return meta->size < key->number;
	return compare_day(key->kind, date_day_of((int64_t)meta->date, 0), key->day);
}

static bool match_keyword(const struct imap_key *key, const struct imap_candidate *c)
{
	size_t n = c->view ? view_keyword_count(c->view) : 0;

	for (unsigned i = 0; i < n; i++) {
		if ((c->entry.keywords >> i & 1) && str_ieq(view_keyword(c->view, i), key->text))
			return true;
	}
	return false;
}

bool imap_search_match(const struct imap_key *key, struct imap_candidate *c)
{
	switch (key->kind) {
	case KEY_AND:
		for (size_t i = 0; i < key->child_count; i++) {
			if (!imap_search_match(key->children[i], c))
				return false;
		}
		return true;
	case KEY_OR:
		for (size_t i = 0; i < key->child_count; i++) {
			if (imap_search_match(key->children[i], c))
				return true;
		}
		return false;
	case KEY_NOT:
		return !imap_search_match(key->children[0], c);
	case KEY_ALL:
		return true;
	case KEY_FLAGS:
		return (c->entry.flags & key->flags) == key->flags;
	case KEY_KEYWORD:
		return match_keyword(key, c);
	case KEY_RECENT:
		return c->recent;
	case KEY_SEQS:
		return imap_ranges_have(key->seqs.v, key->seqs.n, c->seq);
	case KEY_MODSEQ:
		return c->entry.modseq >= key->number;
	case KEY_LARGER:
	case KEY_SMALLER:
	case KEY_BEFORE:
	case KEY_ON:
	case KEY_SINCE:
		return match_meta(key, c);
	case KEY_SENTBEFORE:
	case KEY_SENTON:
	case KEY_SENTSINCE:
		return match_sent(key, c);
	case KEY_HEADER:
		return match_header(key, c);
	case KEY_BODY:
	case KEY_TEXT:
		return match_text(key, c);
	}
	return false;
}
