/* The summary's bytes:
 *
 *   u8 version, u8 flags (bit 0: deflated), u32le CRC32C of what follows, varint length of the raw form, contents
 *
 * Raw form: preview, sent date and zone, then the tree in preorder. Numbers are LEB128 varints, strings a varint
 * length + 1 (0: absent) and their bytes, so that NIL and "" stay apart. Every read is checked against what is
 * left; counts are checked against the bytes that their items need at least, so that a damaged summary that passes
 * its CRC still cannot make us allocate more than a multiple of its size. */
#include "msg/summary.h"
#include "base/encode.h"
#include "msg/date.h"
#include "msg/header.h"
#include <zlib.h>

#define VERSION	      1
#define FLAG_DEFLATED 1
#define PREVIEW_MAX   256
#define HEAD_SIZE     6
#define RAW_MAX	      (8u << 20)
#define DEPTH_MAX     (MIME_DEPTH_MAX + 2)
/* The usual summary has some 500 bytes and would become half of that, for five times the work of making it and ten
 * times that of reading it: only what is large is packed, with a window that costs little to set up. */
#define DEFLATE_MIN    1024
#define DEFLATE_LEVEL  3
#define DEFLATE_WINDOW 12
#define DEFLATE_MEMORY 5

/* ---- writing ---- */

static void put_number(struct buf *out, uint64_t n)
{
	for (; n >= 0x80; n >>= 7)
		buf_addc(out, (char)(n | 0x80));
	buf_addc(out, (char)n);
}

/* Zigzag: small numbers of either sign stay short. */
static void put_signed(struct buf *out, int64_t n)
{
	uint64_t doubled = (uint64_t)n << 1;

	put_number(out, n < 0 ? ~doubled : doubled);
}

static void put_str(struct buf *out, struct str s)
{
	put_number(out, s.ptr == NULL ? 0 : s.len + 1);
	buf_add_str(out, s);
}

static void put_params(struct buf *out, const struct mime_param *params, size_t count)
{
	put_number(out, count);
	for (size_t i = 0; i < count; i++) {
		put_str(out, params[i].name);
		put_str(out, params[i].value);
	}
}

static void put_list(struct buf *out, const struct mailbox_addr_list *list)
{
	put_number(out, list->n);
	for (size_t i = 0; i < list->n; i++) {
		put_number(out, list->v[i].kind);
		put_str(out, list->v[i].name);
		put_str(out, list->v[i].route);
		put_str(out, list->v[i].local);
		put_str(out, list->v[i].domain);
	}
}

static void put_envelope(struct buf *out, const struct envelope *e)
{
	put_str(out, e->date);
	put_str(out, e->subject);
	put_str(out, e->in_reply_to);
	put_str(out, e->message_id);
	put_list(out, &e->from);
	put_list(out, &e->sender);
	put_list(out, &e->reply_to);
	put_list(out, &e->to);
	put_list(out, &e->cc);
	put_list(out, &e->bcc);
}

static void put_part(struct buf *out, const struct mime_part *part)
{
	put_number(out, (part->message ? 1u : 0) | (part->multipart ? 2u : 0) | (part->envelope != NULL ? 4u : 0));
	put_str(out, part->type);
	put_str(out, part->subtype);
	put_params(out, part->params, part->param_count);
	put_str(out, part->id);
	put_str(out, part->description);
	put_str(out, part->encoding);
	put_str(out, part->md5);
	put_str(out, part->disposition);
	put_str(out, part->location);
	put_params(out, part->disposition_params, part->disposition_param_count);
	put_number(out, part->language_count);
	for (size_t i = 0; i < part->language_count; i++)
		put_str(out, part->languages[i]);
	put_number(out, part->header_offset);
	put_number(out, part->header_len);
	put_number(out, part->body_offset);
	put_number(out, part->body_len);
	put_number(out, part->header_size_crlf);
	put_number(out, part->body_size_crlf);
	put_number(out, part->body_lines);
	if (part->envelope != NULL)
		put_envelope(out, part->envelope);
	put_number(out, part->child_count);
	for (const struct mime_part *child = part->first; child != NULL; child = child->next)
		put_part(out, child);
}

/* Appends the deflated form of raw if it is shorter. */
static bool deflate_into(struct buf *out, struct str raw)
{
	z_stream z = {0};
	size_t before = out->len;
	char *room;
	int rc;

	if (raw.len < DEFLATE_MIN)
		return false;
	if (deflateInit2(&z, DEFLATE_LEVEL, Z_DEFLATED, DEFLATE_WINDOW, DEFLATE_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK)
		return false;
	room = buf_reserve(out, raw.len - 1);
	if (room == NULL) {
		deflateEnd(&z);
		return false;
	}
	z.next_in = (Bytef *)(uintptr_t)raw.ptr;
	z.avail_in = (uInt)raw.len;
	z.next_out = (Bytef *)room;
	z.avail_out = (uInt)raw.len - 1;
	rc = deflate(&z, Z_FINISH);
	if (rc == Z_STREAM_END)
		buf_grow(out, z.total_out);
	deflateEnd(&z);
	return out->len > before;
}

void summary_encode(const struct summary *s, struct buf *out)
{
	struct buf raw, contents;
	uint32_t crc;
	bool deflated;

	buf_init(&raw, RAW_MAX);
	buf_init(&contents, RAW_MAX + 16);
	put_str(&raw, s->preview);
	put_signed(&raw, s->sent_date);
	put_signed(&raw, s->sent_zone);
	put_part(&raw, s->root);
	if (!buf_failed(&raw)) { /* else: no summary, which reads as absent */
		put_number(&contents, raw.len);
		deflated = deflate_into(&contents, buf_str(&raw));
		if (!deflated)
			buf_add_str(&contents, buf_str(&raw));
		crc = crc32c(0, contents.ptr, contents.len);
		buf_add(out,
			(unsigned char[]){VERSION, deflated ? FLAG_DEFLATED : 0, (unsigned char)crc,
					  (unsigned char)(crc >> 8), (unsigned char)(crc >> 16),
					  (unsigned char)(crc >> 24)},
			HEAD_SIZE);
		buf_add_str(out, buf_str(&contents));
	}
	buf_release(&raw);
	buf_release(&contents);
}

/* ---- reading ---- */

struct reader {
	struct str rest;
	struct arena *arena;
	bool bad;
};

static uint64_t get_long(struct reader *r)
{
	uint64_t n = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		unsigned char c;

		if (r->rest.len == 0)
			break;
		c = (unsigned char)r->rest.ptr[0];
		r->rest = str_skip(r->rest, 1);
		n |= (uint64_t)(c & 0x7f) << shift;
		if (c < 0x80)
			return n;
	}
	r->bad = true;
	return 0;
}

/* Most numbers are small. */
static inline uint64_t get_number(struct reader *r)
{
	if (r->rest.len == 0 || (unsigned char)*r->rest.ptr >= 0x80)
		return get_long(r);
	r->rest.len--;
	return (unsigned char)*r->rest.ptr++;
}

static int64_t get_signed(struct reader *r)
{
	uint64_t n = get_number(r);

	return (int64_t)(n >> 1 ^ (~(n & 1) + 1));
}

/* A count of items that take at least min_size bytes each. */
static size_t get_count(struct reader *r, size_t min_size)
{
	uint64_t n = get_number(r);

	if (n > r->rest.len / min_size) {
		r->bad = true;
		return 0;
	}
	return (size_t)n;
}

static struct str get_str(struct reader *r)
{
	uint64_t n = get_number(r);
	struct str s;

	if (r->bad || n == 0)
		return STR_NULL;
	if (n - 1 > r->rest.len) {
		r->bad = true;
		return STR_NULL;
	}
	s = str_sub(r->rest, 0, (size_t)n - 1);
	r->rest = str_skip(r->rest, (size_t)n - 1);
	return s;
}

/* Where the format has no "absent". */
static struct str get_text(struct reader *r)
{
	struct str s = get_str(r);

	return s.ptr != NULL ? s : STR("");
}

static struct mime_param *get_params(struct reader *r, size_t *count_r)
{
	size_t n = get_count(r, 2);
	struct mime_param *params = n > 0 ? ARENA_ARRAY(r->arena, struct mime_param, n) : NULL;

	for (size_t i = 0; i < n && !r->bad; i++) {
		params[i].name = get_text(r);
		params[i].value = get_text(r);
	}
	*count_r = n;
	return params;
}

static void get_list(struct reader *r, struct mailbox_addr_list *list)
{
	list->n = list->cap = get_count(r, 5);
	if (list->n > 0)
		list->v = ARENA_ARRAY(r->arena, struct mailbox_addr, list->n);
	for (size_t i = 0; i < list->n && !r->bad; i++) {
		uint64_t kind = get_number(r);

		r->bad = r->bad || kind > ADDR_GROUP_END;
		list->v[i].kind = (int)kind;
		list->v[i].name = get_str(r);
		list->v[i].route = get_str(r);
		list->v[i].local = get_str(r);
		list->v[i].domain = get_str(r);
	}
}

static struct envelope *get_envelope(struct reader *r)
{
	struct envelope *e = ARENA_NEW(r->arena, struct envelope);

	e->date = get_str(r);
	e->subject = get_str(r);
	e->in_reply_to = get_str(r);
	e->message_id = get_str(r);
	get_list(r, &e->from);
	get_list(r, &e->sender);
	get_list(r, &e->reply_to);
	get_list(r, &e->to);
	get_list(r, &e->cc);
	get_list(r, &e->bcc);
	return e;
}

static void get_languages(struct reader *r, struct mime_part *part)
{
	part->language_count = get_count(r, 1);
	if (part->language_count > 0)
		part->languages = ARENA_ARRAY(r->arena, struct str, part->language_count);
	for (size_t i = 0; i < part->language_count && !r->bad; i++)
		part->languages[i] = get_text(r);
}

static void get_sizes(struct reader *r, struct mime_part *part)
{
	part->header_offset = get_number(r);
	part->header_len = get_number(r);
	part->body_offset = get_number(r);
	part->body_len = get_number(r);
	part->header_size_crlf = get_number(r);
	part->body_size_crlf = get_number(r);
	part->body_lines = (uint32_t)get_number(r);
}

#define PART_SIZE_MIN 18 /* bytes that the smallest part takes */

static struct mime_part *get_part(struct reader *r, struct mime_part *parent, unsigned depth)
{
	struct mime_part *part = ARENA_NEW(r->arena, struct mime_part), **link = &part->first;
	uint64_t flags = get_number(r);

	part->parent = parent;
	part->message = flags & 1;
	part->multipart = flags & 2;
	part->type = get_text(r);
	part->subtype = get_text(r);
	part->params = get_params(r, &part->param_count);
	part->id = get_str(r);
	part->description = get_str(r);
	part->encoding = get_str(r);
	part->md5 = get_str(r);
	part->disposition = get_str(r);
	part->location = get_str(r);
	part->disposition_params = get_params(r, &part->disposition_param_count);
	get_languages(r, part);
	get_sizes(r, part);
	if (flags & 4)
		part->envelope = get_envelope(r);
	part->child_count = get_count(r, PART_SIZE_MIN);
	if ((part->multipart || part->message) != (part->child_count > 0) || depth > DEPTH_MAX)
		r->bad = true;
	for (size_t i = 0; i < part->child_count && !r->bad; i++) {
		*link = get_part(r, part, depth + 1);
		link = &(*link)->next;
	}
	/* Who shows a message relies on its envelope. */
	if ((parent == NULL || parent->message) && part->envelope == NULL)
		r->bad = true;
	return part;
}

static bool get_summary(struct str raw, struct arena *arena, struct summary *s_r)
{
	struct reader r = {.rest = raw, .arena = arena};
	struct summary s;

	s.preview = get_text(&r);
	s.sent_date = get_signed(&r);
	s.sent_zone = (int)get_signed(&r);
	s.root = get_part(&r, NULL, 0);
	if (r.bad || r.rest.len != 0)
		return false;
	*s_r = s;
	return true;
}

static bool inflate_and_get(struct str packed, size_t raw_len, struct arena *arena, struct summary *s_r)
{
	uLongf size = raw_len;
	char *room = arena_alloc(arena, raw_len + 1);

	return uncompress((Bytef *)room, &size, (const Bytef *)packed.ptr, (uLong)packed.len) == Z_OK &&
	       size == raw_len && get_summary(str_of(room, raw_len), arena, s_r);
}

bool summary_decode(struct str bytes, struct arena *arena, struct summary *s_r)
{
	struct reader r = {.arena = arena};
	const unsigned char *head = (const unsigned char *)bytes.ptr;
	uint64_t raw_len;

	if (bytes.len <= HEAD_SIZE || head[0] != VERSION || head[1] > FLAG_DEFLATED)
		return false;
	r.rest = str_skip(bytes, HEAD_SIZE);
	if (crc32c(0, r.rest.ptr, r.rest.len) !=
	    ((uint32_t)head[2] | (uint32_t)head[3] << 8 | (uint32_t)head[4] << 16 | (uint32_t)head[5] << 24))
		return false;
	raw_len = get_number(&r);
	/* zlib cannot make more than 1032 bytes of one. */
	if (r.bad || raw_len > RAW_MAX || raw_len / 1033 > r.rest.len)
		return false;
	if (head[1] == FLAG_DEFLATED)
		return inflate_and_get(r.rest, (size_t)raw_len, arena, s_r);
	return raw_len == r.rest.len && get_summary(r.rest, arena, s_r);
}

/* ---- making ---- */

void summary_parse(struct str message, struct arena *arena, struct summary *s_r)
{
	struct buf preview;

	buf_init(&preview, PREVIEW_MAX + 16);
	s_r->root = mime_parse(message, arena);
	mime_preview(message, s_r->root, PREVIEW_MAX, &preview);
	s_r->preview = arena_str(arena, buf_str(&preview));
	s_r->sent_zone = 0;
	if (!date_parse(s_r->root->envelope->date, &s_r->sent_date, &s_r->sent_zone)) {
		s_r->sent_date = INT64_MIN;
		s_r->sent_zone = 0;
	}
	buf_release(&preview);
}

/* Most prefixes have nothing but trace fields. */
static bool prefix_adds(struct str prefix)
{
	return str_find(prefix, STR("\nDate:")) >= 0 || str_find(prefix, STR("\nFrom:")) >= 0 ||
	       str_find(prefix, STR("\nMessage-ID:")) >= 0;
}

void summary_parse_behind(struct str prefix, struct str message, struct arena *arena, struct summary *s_r)
{
	struct envelope *e, *added;
	struct summary of_prefix;

	summary_parse(message, arena, s_r);
	if (!prefix_adds(prefix))
		return;
	summary_parse(prefix, arena, &of_prefix);
	e = s_r->root->envelope;
	added = of_prefix.root->envelope;
	if (added->date.ptr) {
		e->date = added->date;
		s_r->sent_date = of_prefix.sent_date;
		s_r->sent_zone = of_prefix.sent_zone;
	}
	if (added->from.n > 0)
		e->from = added->from;
	if (added->message_id.ptr)
		e->message_id = added->message_id;
}

void summary_make_behind(struct str prefix, struct str message, struct buf *out)
{
	struct arena arena;
	struct summary s;

	arena_init(&arena);
	summary_parse_behind(prefix, message, &arena, &s);
	summary_encode(&s, out);
	arena_release(&arena);
}

void summary_make(struct str message, struct buf *out)
{
	summary_make_behind(STR(""), message, out);
}
