/* BODY[section]: where it lies in the stored message, and how it goes out (RFC 3501 6.4.5). */
#include "base/mem.h"
#include "imap/fetch.h"
#include "imap/reply.h"
#include "msg/header.h"

#define HEADER_MAX (16u << 20)
#define PREFIX_MAX (64u << 10) /* the store takes no more */

/* ---- finding ---- */

static const struct mime_part *content_of(const struct mime_part *part)
{
	return part && part->message ? part->first : NULL;
}

static struct imap_region header_region(const struct mime_part *part, uint32_t prefix_len)
{
	struct imap_region r = {.exists = true, .from = prefix_len + part->header_offset, .len = part->header_len};

	if (part->parent == NULL) { /* what was put in front at delivery is part of the message's header */
		r.from = 0;
		r.len = prefix_len + part->header_offset + part->header_len;
	}
	return r;
}

static struct imap_region body_region(const struct mime_part *part, uint32_t prefix_len)
{
	return (struct imap_region){.exists = true, .from = prefix_len + part->body_offset, .len = part->body_len};
}

static bool is_listed(const struct imap_section *section, struct str name)
{
	size_t low = 0, high = section->field_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = imap_field_order(&section->sorted[mid], &name);

		if (order == 0)
			return true;
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

static void add_crlf_lines(struct buf *out, struct str raw)
{
	while (raw.len > 0) {
		ptrdiff_t lf = str_chr(raw, '\n');
		size_t n = lf < 0 ? raw.len : (size_t)lf;

		buf_add_str(out, str_sub(raw, 0, n > 0 && lf >= 0 && raw.ptr[n - 1] == '\r' ? n - 1 : n));
		buf_addz(out, "\r\n");
		raw = str_skip(raw, lf < 0 ? n : n + 1);
	}
}

/* The fields that are listed, or are not, and the empty line that ends them. */
static struct imap_region filter_fields(const struct imap_section *section, struct imap_region header,
					struct imap_body *body, struct buf *text)
{
	struct header h;
	struct buf raw;
	struct str rest;

	buf_init(&raw, HEADER_MAX);
	if (!imap_body_read(body, header.from, header.len, &raw))
		body->failed = true;
	for (rest = buf_str(&raw); rest.len > 0 && header_next(&rest, &h);) {
		if (h.name.len > 0 && is_listed(section, h.name) == (section->what == SECTION_FIELDS))
			add_crlf_lines(text, h.raw);
	}
	buf_addz(text, "\r\n");
	buf_replace(text, 0, '\0', '\x80');
	buf_release(&raw);
	return (struct imap_region){.exists = !body->failed, .is_text = true};
}

static struct imap_region find_in_part(const struct imap_section *section, const struct mime_part *part,
				       uint32_t prefix_len, struct imap_body *body, struct buf *text)
{
	/* HEADER and TEXT of a part number are those of the message that the part holds. */
	const struct mime_part *message = section->depth ? content_of(part) : part;

	switch (section->what) {
	case SECTION_ALL:
		return body_region(part, prefix_len);
	case SECTION_MIME:
		return header_region(part, prefix_len);
	case SECTION_TEXT:
		return message ? body_region(message, prefix_len) : (struct imap_region){0};
	case SECTION_HEADER:
		return message ? header_region(message, prefix_len) : (struct imap_region){0};
	case SECTION_FIELDS:
	case SECTION_FIELDS_NOT:
		return message ? filter_fields(section, header_region(message, prefix_len), body, text)
			       : (struct imap_region){0};
	}
	return (struct imap_region){0};
}

struct imap_region imap_section_find(const struct imap_section *section, const struct mime_part *root,
				     uint32_t prefix_len, struct imap_body *body, struct buf *text)
{
	const struct mime_part *part = root;

	if (section->depth == 0 && section->what == SECTION_ALL)
		return (struct imap_region){.exists = true, .from = 0, .len = body->size};
	if (root == NULL)
		return (struct imap_region){0};
	if (section->depth > 0) {
		part = mime_find((struct mime_part *)root, section->path, section->depth);
		if (part == NULL)
			return (struct imap_region){0};
	}
	return find_in_part(section, part, prefix_len, body, text);
}

/* ---- sending ---- */

/* Of a body in memory: counted by making it. */
static void send_whole(struct session *io, struct imap_body *body, const struct imap_region *region)
{
	struct buf wire;

	buf_init(&wire, 2 * body->bytes.len + 1);
	imap_body_wire(body, region->from, region->len, &wire);
	session_printf(io, " {%zu}\r\n", wire.len);
	session_write(io, buf_str(&wire));
	buf_release(&wire);
}

void imap_section_send(struct session *io, const struct imap_section *section, const struct imap_region *region,
		       struct imap_body *body, struct str text)
{
	uint64_t total, start = 0, count, least;

	if (!region->exists) {
		session_write(io, STR(" NIL"));
		return;
	}
	if (!region->is_text && body->fd < 0 && !section->partial) {
		send_whole(io, body, region);
		return;
	}
	/* A range that lies within what is there for certain needs no count of the whole. */
	least = region->is_text ? text.len : imap_body_file_len(body, region->from, region->len);
	if (section->partial && section->origin <= least && section->count <= least - section->origin)
		total = least;
	else
		total = region->is_text ? text.len : imap_body_wire_len(body, region->from, region->len);
	count = total;
	if (!region->is_text && body->failed) {
		session_write(io, STR(" NIL")); /* a length would be a promise; the tagged NO tells why */
		return;
	}
	if (section->partial) {
		start = section->origin < total ? section->origin : total;
		count = section->count < total - start ? section->count : total - start;
	}
	session_printf(io, " {%llu}\r\n", (unsigned long long)count);
	if (region->is_text)
		session_write(io, str_sub(text, start, count));
	else
		imap_body_send(io, body, region->from, region->len, start, count);
}

/* ---- reading ahead ---- */

#define FOUND_BYTES_MAX (128u << 10)

static void tell_summaries(struct imap_session *s, struct imap_ahead *ahead)
{
	struct store_summary_put put = {.session = session_id(s->io), .account = s->account};

	if (ahead->found_count == 0)
		return;
	put.found.v = ahead->found;
	put.found.n = ahead->found_count;
	(void)rpc_send(store_client_channel(s->server->store), &STORE_SUMMARY_PUT, &put);
	for (size_t i = 0; i < ahead->found_count; i++)
		free((void *)(uintptr_t)ahead->found[i].summary.ptr);
	ahead->found_count = ahead->found_bytes = 0;
}

static void note_summary(struct imap_session *s, struct imap_ahead *ahead, uint64_t message, struct str bytes)
{
	if (!ahead->found)
		ahead->found = mem_alloc(sizeof(*ahead->found) * STORE_BODIES_MAX);
	ahead->found[ahead->found_count++] =
		(struct found_summary){.message = message, .summary = str_of(str_dup(bytes), bytes.len)};
	ahead->found_bytes += bytes.len;
	if (ahead->found_count == STORE_BODIES_MAX || ahead->found_bytes >= FOUND_BYTES_MAX)
		tell_summaries(s, ahead);
}

static void drop_bodies(struct imap_ahead *ahead)
{
	if (ahead->has)
		rpc_reply_release(&ahead->hold);
	ahead->has = false;
	ahead->at = 0;
}

void imap_ahead_release(struct imap_session *s, struct imap_ahead *ahead)
{
	tell_summaries(s, ahead);
	free(ahead->found);
	ahead->found = NULL;
	drop_bodies(ahead);
}

static const struct store_body *find_ahead(struct imap_ahead *ahead, uint32_t uid)
{
	if (!ahead->has)
		return NULL;
	while (ahead->at < ahead->got.bodies.n && ahead->got.bodies.v[ahead->at].meta.uid < uid)
		ahead->at++;
	if (ahead->at == ahead->got.bodies.n || ahead->got.bodies.v[ahead->at].meta.uid != uid)
		return NULL;
	return &ahead->got.bodies.v[ahead->at];
}

bool imap_ahead_has(struct imap_ahead *ahead, uint32_t uid)
{
	return find_ahead(ahead, uid) != NULL;
}

void imap_ahead_load(struct imap_session *s, struct imap_ahead *ahead, uint32_t uid, struct uid_range *ranges,
		     size_t count)
{
	struct store_bodies_get get = {.session = session_id(s->io),
				       .account = s->account,
				       .mailbox = view_mailbox(s->view),
				       .uids = {.v = ranges, .n = count}};

	if (imap_ahead_has(ahead, uid))
		return;
	drop_bodies(ahead);
	rpc_reply_init(&ahead->hold);
	ahead->has = store_call(s->server->store, &STORE_BODIES, &get, &ahead->got, &ahead->hold, NULL) == 0;
	if (!ahead->has) /* each will be asked for by itself, and say why not */
		rpc_reply_release(&ahead->hold);
}

/* ---- getting at a message ---- */

int imap_body_open(struct imap_session *s, struct imap_ahead *ahead, uint32_t uid, struct imap_body *b,
		   struct rpc_reply *hold, struct message_meta *meta_r, struct err *err)
{
	struct store_body_get get = {
		.session = session_id(s->io), .account = s->account, .mailbox = view_mailbox(s->view), .uid = uid};
	const struct store_body *near = find_ahead(ahead, uid);
	struct store_body reply;

	imap_body_init(b, -1, STR_NULL, false);
	rpc_reply_init(hold);
	if (near && near->bytes.len > 0) {
		imap_body_init(b, -1, near->bytes, near->meta.as_is);
		*meta_r = near->meta;
		return 0;
	}
	if (store_call(s->server->store, &STORE_BODY, &get, &reply, hold, err) < 0)
		return -1;
	imap_body_init(b, reply.fd, reply.bytes, reply.meta.as_is);
	imap_body_mark(b, &s->marks, uid);
	*meta_r = reply.meta;
	return 0;
}

/* Encoded too, when there is room for that: the store keeps it. */
static void summarize(struct imap_session *s, struct imap_ahead *ahead, uint64_t message, struct str prefix,
		      struct str raw, struct arena *arena, struct summary *summary_r)
{
	struct buf made;

	buf_init(&made, RPC_BYTES_MAX / 2);
	summary_make_behind(prefix, raw, &made);
	if (buf_failed(&made)) {
		summary_parse_behind(prefix, raw, arena, summary_r);
	} else {
		note_summary(s, ahead, message, buf_str(&made));
		if (!summary_decode(arena_str(arena, buf_str(&made)), arena, summary_r))
			summary_parse_behind(prefix, raw, arena, summary_r);
	}
	buf_release(&made);
}

static int summary_from_body(struct imap_session *s, struct imap_ahead *ahead, const struct message_meta *meta,
			     struct arena *arena, struct summary *summary_r, struct err *err)
{
	struct message_meta newest;
	struct imap_body body;
	struct rpc_reply hold;
	struct buf prefix, raw;
	int rc;

	buf_init(&prefix, PREFIX_MAX);
	buf_init(&raw, IMAP_BODY_LOAD_MAX);
	rc = imap_body_open(s, ahead, meta->uid, &body, &hold, &newest, err);
	if (rc == 0 && (!imap_body_read(&body, 0, newest.prefix_len <= PREFIX_MAX ? newest.prefix_len : 0, &prefix) ||
			!imap_body_read(&body, newest.prefix_len,
					body.size < IMAP_BODY_LOAD_MAX ? body.size : IMAP_BODY_LOAD_MAX - 1, &raw)))
		rc = err_set(err, ERR_TEMP, "4.3.0", "the message cannot be read");
	if (rc == 0)
		summarize(s, ahead, meta->message, buf_str(&prefix), buf_str(&raw), arena, summary_r);
	imap_body_release(&body);
	rpc_reply_release(&hold);
	buf_release(&prefix);
	buf_release(&raw);
	return rc;
}

int imap_summary_get(struct imap_session *s, struct imap_ahead *ahead, const struct message_meta *meta,
		     struct arena *arena, struct summary *summary_r, struct err *err)
{
	if (meta->summary.len > 0 && summary_decode(meta->summary, arena, summary_r))
		return 0;
	return summary_from_body(s, ahead, meta, arena, summary_r, err);
}
