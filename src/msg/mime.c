/* The MIME tree, found in one pass over the lines.
 *
 * A line is header or body of the innermost open part, or a boundary. Open multiparts stand on a stack; a boundary
 * line of one of them closes everything inside it, however deep, so a missing closing boundary costs only its own
 * part. A boundary matches the whole line (RFC 2046 5.1.1 lets blanks follow), so one may be the prefix of
 * another. Sizes come from running counters taken where a part begins and ends: nothing is read twice but headers,
 * and those once more, field by field.
 *
 * Limits are in mime.h: parts, depth, text kept, addresses kept. Past them a part is a leaf. */
#include "msg/header.h"
#include "msg/lex.h"
#include "msg/mime_fields.h"

#define BOUNDARY_MAX 255 /* RFC 2046 5.1.1 says 70; longer ones exist */

/* How much of the message lies before a point. */
struct mark {
	size_t offset;
	uint64_t crlf_more; /* LFs that the wire form has as CRLF */
	size_t lines;
};

struct open_part {
	struct mime_part *part, *last_child;
	struct mark header, body;
	bool in_body;
};

struct open_multipart {
	size_t depth; /* its place among the open parts */
	struct str boundary;
};

struct mime_parser {
	struct str in;
	struct arena *arena;
	struct mime_budget budget;
	bool lf_is_crlf;		 /* stored form with bare LFs only */
	struct mark at, before_line_end; /* where the current line begins; the same without the line end before it */
	size_t parts;
	struct mime_part *root;
	/* The chain from the root to where we are. */
	struct open_part open[MIME_DEPTH_MAX + 1];
	size_t open_count;
	struct open_multipart multiparts[MIME_DEPTH_MAX + 1];
	size_t multipart_count;
};

static struct open_part *innermost(struct mime_parser *p)
{
	return &p->open[p->open_count - 1];
}

static struct mime_part *new_child(struct mime_parser *p, struct open_part *parent, size_t offset)
{
	struct mime_part *part = ARENA_NEW(p->arena, struct mime_part);

	part->header_offset = part->body_offset = offset;
	if (parent == NULL)
		return part;
	part->parent = parent->part;
	if (parent->last_child == NULL)
		parent->part->first = part;
	else
		parent->last_child->next = part;
	parent->last_child = part;
	parent->part->child_count++;
	return part;
}

static void open_part(struct mime_parser *p, struct mark at)
{
	struct mime_part *part = new_child(p, p->open_count > 0 ? innermost(p) : NULL, at.offset);

	if (p->open_count == 0)
		p->root = part;
	p->open[p->open_count++] = (struct open_part){.part = part, .header = at};
	/* The last part that may be takes everything that follows. */
	if (++p->parts >= MIME_PARTS_MAX)
		p->multipart_count = 0;
}

static bool may_go_deeper(const struct mime_parser *p)
{
	return p->open_count < MIME_DEPTH_MAX && p->parts < MIME_PARTS_MAX;
}

static void make_leaf(struct mime_part *part)
{
	part->type = STR("application");
	part->subtype = STR("octet-stream");
	part->param_count = 0;
	part->multipart = part->message = false;
}

/* The header block of `o` ends at `end`. */
static void header_done(struct mime_parser *p, struct open_part *o, struct mark end)
{
	struct mime_part *part = o->part, *parent = part->parent;
	struct str block = str_sub(p->in, o->header.offset, end.offset - o->header.offset);
	bool in_digest = parent != NULL && parent->multipart && str_ieq(parent->subtype, STR("digest"));

	o->body = end;
	o->in_body = true;
	part->header_len = block.len;
	part->header_size_crlf = block.len + (end.crlf_more - o->header.crlf_more);
	part->body_offset = end.offset;
	mime_part_fields(part, block, in_digest, &p->budget, p->arena);
	if (parent == NULL || parent->message)
		part->envelope = mime_envelope(block, &p->budget, p->arena);
}

/* RFC 2046 5.1.1: a boundary never ends with blanks. */
static struct str boundary_of(struct mime_parser *p, const struct mime_part *part)
{
	struct str boundary = mime_param(part->params, part->param_count, "boundary");

	if (boundary.ptr == NULL)
		boundary = mime_param_text(part->params, part->param_count, "boundary", p->arena);
	while (boundary.len > 0 && lex_is_wsp(boundary.ptr[boundary.len - 1]))
		boundary.len--;
	return boundary.len <= BOUNDARY_MAX ? boundary : STR_NULL;
}

/* The empty line behind a header: what the body is decides what the next lines mean. */
static void body_begins(struct mime_parser *p, struct mark at)
{
	struct open_part *o = innermost(p);

	header_done(p, o, at);
	if ((o->part->multipart || o->part->message) && !may_go_deeper(p)) {
		make_leaf(o->part);
	} else if (o->part->message) {
		open_part(p, at);
	} else if (o->part->multipart) {
		struct str boundary = boundary_of(p, o->part);

		if (boundary.len > 0)
			p->multiparts[p->multipart_count++] = (struct open_multipart){p->open_count - 1, boundary};
	}
}

/* A multipart without parts, a message without contents: IMAP needs a child to show (RFC 3501 9, body-type-mpart). */
static void add_missing_child(struct mime_parser *p, struct open_part *o)
{
	struct mime_part *part = o->part, *child = new_child(p, o, part->body_offset);

	child->type = STR("text");
	child->subtype = STR("plain");
	child->body_len = part->body_len;
	child->body_size_crlf = part->body_size_crlf;
	child->body_lines = part->body_lines;
	if (part->message)
		child->envelope = ARENA_NEW(p->arena, struct envelope);
}

static void close_part(struct mime_parser *p, struct open_part *o, struct mark end)
{
	struct mime_part *part = o->part;

	if (!o->in_body)
		header_done(p, o, p->at); /* no empty line */
	if (end.offset < o->body.offset)
		end = o->body;
	/* A child without an empty line has its last header line whole: nothing is outside of its parent. */
	if (o->last_child != NULL && o->last_child->body_offset + o->last_child->body_len > end.offset)
		end = p->at;
	part->body_len = end.offset - o->body.offset;
	part->body_size_crlf = part->body_len + (end.crlf_more - o->body.crlf_more);
	part->body_lines = (uint32_t)(end.lines - o->body.lines);
	if ((part->multipart || part->message) && part->first == NULL)
		add_missing_child(p, o);
}

static void close_parts(struct mime_parser *p, size_t keep, struct mark end)
{
	while (p->open_count > keep)
		close_part(p, &p->open[--p->open_count], end);
}

enum boundary { BOUNDARY_NONE, BOUNDARY_NEXT, BOUNDARY_CLOSE };

static enum boundary boundary_match(struct str line, struct str boundary)
{
	if (!str_starts(line, boundary))
		return BOUNDARY_NONE;
	line = str_skip(line, boundary.len);
	if (line.len == 0)
		return BOUNDARY_NEXT;
	return str_eq(line, STR("--")) ? BOUNDARY_CLOSE : BOUNDARY_NONE;
}

/* Closes what a boundary line closes. `line` is without its line end. */
static enum boundary boundary_line(struct mime_parser *p, struct str line)
{
	if (p->multipart_count == 0 || !str_starts(line, STR("--")))
		return BOUNDARY_NONE;
	line = str_skip(line, 2);
	while (line.len > 0 && lex_is_wsp(line.ptr[line.len - 1]))
		line.len--;
	for (size_t i = p->multipart_count; i-- > 0;) {
		enum boundary match = boundary_match(line, p->multiparts[i].boundary);

		if (match == BOUNDARY_NONE)
			continue;
		/* The line end in front of a boundary belongs to it. */
		close_parts(p, p->multiparts[i].depth + 1, p->before_line_end);
		p->multipart_count = match == BOUNDARY_CLOSE ? i : i + 1;
		return match;
	}
	return BOUNDARY_NONE;
}

/* Takes the line at p->at, without its line end; the marks move behind it. */
static struct str take_line(struct mime_parser *p, struct mark *start_r)
{
	struct str rest = str_skip(p->in, p->at.offset), line = rest;
	const char *lf = memchr(rest.ptr, '\n', rest.len);

	*start_r = p->at;
	if (lf != NULL) {
		line.len = (size_t)(lf - rest.ptr);
		p->at.lines++;
		p->at.crlf_more += p->lf_is_crlf;
	}
	p->at.offset += line.len + (lf != NULL);
	if (lf != NULL && line.len > 0 && line.ptr[line.len - 1] == '\r')
		line.len--;
	return line;
}

static void parse_lines(struct mime_parser *p)
{
	struct mark start, after;

	while (p->at.offset < p->in.len) {
		struct str line = take_line(p, &start);
		enum boundary boundary;

		after = p->at;
		p->at = start; /* a part that is closed by this line ends in front of it */
		boundary = boundary_line(p, line);
		p->at = after;
		if (boundary == BOUNDARY_NEXT && may_go_deeper(p))
			open_part(p, p->at);
		else if (boundary == BOUNDARY_NONE && line.len == 0 && !innermost(p)->in_body)
			body_begins(p, p->at);
		p->before_line_end = start;
		p->before_line_end.offset += line.len;
	}
}

struct mime_part *mime_parse(struct str message, struct arena *arena)
{
	struct mime_parser p = {
		.in = message,
		.arena = arena,
		.budget = {.text = MIME_TEXT_MAX, .addresses = MIME_ADDRESSES_MAX},
		.lf_is_crlf = str_find(message, STR("\r\n")) < 0,
	};

	open_part(&p, p.at);
	parse_lines(&p);
	close_parts(&p, 0, p.at);
	return p.root;
}

struct mime_part *mime_find(struct mime_part *root, const uint32_t *path, size_t n)
{
	struct mime_part *part = root;

	for (size_t i = 0; i < n; i++) {
		/* The number counts the parts of a multipart, or of the message inside a message part; a
		 * message that is no multipart has itself as part 1. */
		if (i > 0 && part->message)
			part = part->first;
		else if (i > 0 && !part->multipart)
			return NULL;
		if (part->multipart) {
			part = part->first;
			for (uint32_t k = 1; part != NULL && k < path[i]; k++)
				part = part->next;
		} else if (path[i] != 1) {
			return NULL;
		}
		if (part == NULL || path[i] == 0)
			return NULL;
	}
	return part;
}
