/* Paths and address lists: nothing crashes; what a path gives is written and read back the same.
 *
 * Covers: src/msg/path.c src/msg/list.c src/msg/lex.c src/msg/domain.c */
#include "base/fatal.h"
#include "msg/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void path(struct str in, unsigned flags, struct arena *arena)
{
	struct address a, b;
	struct str rest, text;
	struct err err;

	if (address_parse_path(in, flags, arena, &a, &rest, &err) < 0)
		return;
	invariant(rest.len <= in.len && a.local.len <= 255);
	if (a.local.len == 0 || a.domain.len == 0)
		return;
	text = address_str(arena, &a);
	text = arena_printf(arena, "<%.*s>", STR_ARG(text));
	invariant(address_parse_path(text, ADDRESS_UTF8, arena, &b, &rest, &err) == 0);
	invariant(str_eq(a.local, b.local) && str_eq(a.domain, b.domain));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_of(data, size), key, again;
	struct mailbox_addr_list list;
	struct arena arena;

	arena_init(&arena);
	for (unsigned flags = 0; flags < 8; flags++)
		path(in, flags, &arena);
	address_list_parse(in, &arena, &list);
	invariant(list.n <= ADDRESS_LIST_MAX + 1);
	if (domain_normalize(in, &arena, &key)) {
		invariant(domain_normalize(key, &arena, &again) && str_eq(key, again));
		(void)domain_unicode(key, &arena);
	}
	arena_release(&arena);
	return 0;
}
