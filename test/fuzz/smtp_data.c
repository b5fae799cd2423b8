/* The data filter: whatever way the bytes are cut, the same message and the same end; and no end but the
 * first CRLF "." CRLF at the start of a line, found here by the simplest means.
 *
 * Covers: src/smtp/filter.c, src/smtp/local_header.c */
#include "smtp/smtp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
	struct buf out;
	size_t taken;
	bool done;
	uint64_t wire_size;
	bool as_is;
	enum smtp_filter_refusal refused;
};

/* As mail from this machine: every field with addresses is held, and may come out longer. */
static void complete(void *ctx, struct str name, struct str field, struct buf *out)
{
	(void)ctx;
	smtp_local_field(name, field, STR("o.test"), out);
}

static struct result run(struct str in, size_t piece, uint8_t how)
{
	const bool local = how & 4, submission = (how & 1) || local, chunked = how & 2;
	const struct smtp_filter_limits limits = {.message_max = 20000,
						  .line_max = 200,
						  .header_max = 2000,
						  .field_max = 20,
						  .submission = submission,
						  .local = local,
						  .field = local ? complete : NULL};
	struct result r = {0};
	struct smtp_filter f;
	struct arena arena;

	arena_init(&arena);
	buf_init(&r.out, 1 << 24);
	smtp_filter_init(&f, &limits, &arena);
	if (chunked)
		smtp_filter_chunk(&f, in.len);
	while (r.taken < in.len && !r.done) {
		size_t n = smtp_filter_take(&f, str_sub(in, r.taken, piece), &r.out, &r.done);

		if (n == 0 && !r.done)
			abort();
		r.taken += n;
	}
	if (chunked || r.done)
		smtp_filter_finish(&f, &r.out);
	r.wire_size = f.wire_size;
	r.as_is = f.as_is;
	r.refused = f.refused;
	smtp_filter_release(&f);
	arena_release(&arena);
	return r;
}

/* Where the data ends: behind the first CRLF.CRLF, or .CRLF at the very start. 0: nowhere. */
static size_t end_of(struct str in)
{
	ptrdiff_t at;

	if (str_starts(in, STR(".\r\n")))
		return 3;
	at = str_find(in, STR("\r\n.\r\n"));
	return at < 0 ? 0 : (size_t)at + 5;
}

static uint64_t wire_size_of(const struct buf *stored)
{
	uint64_t n = stored->len;

	for (size_t i = 0; i < stored->len; i++)
		n += stored->ptr[i] == '\n';
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool chunked;
	struct result whole, cut;
	struct str in;

	if (size < 2)
		return 0;
	chunked = data[0] & 2;
	in = str_of(data + 2, size - 2);
	whole = run(in, SIZE_MAX, data[0]);
	cut = run(in, 1 + data[1] % 50, data[0]);
	if (whole.done != cut.done || whole.taken != cut.taken ||
	    (whole.refused == FILTER_OK) != (cut.refused == FILTER_OK))
		abort();
	if (whole.refused == FILTER_OK && (whole.done || chunked)) {
		if (!str_eq(buf_str(&whole.out), buf_str(&cut.out)) || whole.as_is != cut.as_is)
			abort();
		if (whole.wire_size != wire_size_of(&whole.out) || cut.wire_size != whole.wire_size)
			abort();
	}
	if (!chunked && end_of(in) != (whole.done ? whole.taken : 0))
		abort();
	if (chunked && in.len > 0 && (!whole.done || whole.taken != in.len))
		abort();
	buf_release(&whole.out);
	buf_release(&cut.out);
	return 0;
}
