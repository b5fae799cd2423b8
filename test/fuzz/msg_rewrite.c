/* Rewritten headers: what maps nothing changes nothing; what is exchanged can be found again, in the same number; the
 * fields stay as many as they were.
 *
 * Covers: src/msg/rewrite.c src/msg/list.c */
#include "base/fatal.h"
#include "msg/rewrite.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool map_nothing(void *ctx, enum rewrite_class class, struct str from, struct str *to_r)
{
	(void)to_r;
	invariant(class != REWRITE_NONE && from.len > 0);
	++*(size_t *)ctx;
	return false;
}

static bool map_all(void *ctx, enum rewrite_class class, struct str from, struct str *to_r)
{
	(void)class;
	(void)from;
	(void)ctx;
	*to_r = STR("somebody@rewritten.example");
	return true;
}

static size_t fields_of(struct str header)
{
	struct header h;
	size_t n = 0;

	while (header_next(&header, &h))
		n++;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_of(data, size);
	size_t seen = 0, replaced;
	struct arena arena;
	struct buf same, out;

	arena_init(&arena);
	buf_init(&same, SIZE_MAX / 2);
	buf_init(&out, SIZE_MAX / 2);
	invariant(rewrite_header(in, map_nothing, &seen, &arena, &same) == 0 && str_eq(buf_str(&same), in));
	replaced = rewrite_header(in, map_all, NULL, &arena, &out);
	invariant(replaced == seen && fields_of(buf_str(&out)) == fields_of(in));
	buf_release(&same);
	buf_release(&out);
	arena_release(&arena);
	return 0;
}
