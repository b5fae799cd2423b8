/* MIME trees: every part lies inside its parent, within the limits; decoding and preview never fail.
 *
 * Covers: src/msg/mime.c src/msg/mime_decode.c src/msg/mime_fields.c src/msg/mime_params.c src/msg/mime_preview.c */
#include "base/fatal.h"
#include "base/utf8.h"
#include "msg/mime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t check(struct str message, const struct mime_part *part, size_t depth, struct arena *arena)
{
	size_t n = 1, end = part->body_offset + part->body_len;
	struct buf out;

	invariant(depth <= MIME_DEPTH_MAX + 1);
	invariant(part->header_offset + part->header_len == part->body_offset && end <= message.len);
	invariant((part->multipart || part->message) == (part->first != NULL));
	invariant(part->body_size_crlf >= part->body_len && part->header_size_crlf >= part->header_len);
	invariant(part->envelope != NULL || !(part->parent == NULL || part->parent->message));
	buf_init(&out, message.len + 16);
	(void)mime_decode(part->encoding, str_sub(message, part->body_offset, part->body_len), &out);
	invariant(!buf_failed(&out));
	buf_release(&out);
	(void)mime_param_text(part->disposition_params, part->disposition_param_count, "filename", arena);
	for (const struct mime_part *c = part->first; c != NULL; c = c->next) {
		invariant(c->header_offset >= part->body_offset && c->body_offset + c->body_len <= end);
		n += check(message, c, depth + 1, arena);
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str message = str_of(data, size);
	struct arena arena;
	struct mime_part *root;
	struct buf preview;

	arena_init(&arena);
	buf_init(&preview, 100);
	root = mime_parse(message, &arena);
	invariant(check(message, root, 1, &arena) <= 2 * MIME_PARTS_MAX);
	invariant(root->header_len + root->body_len == size);
	mime_preview(message, root, 80, &preview);
	invariant(!buf_failed(&preview) && utf8_valid(buf_str(&preview)));
	buf_release(&preview);
	arena_release(&arena);
	return 0;
}
