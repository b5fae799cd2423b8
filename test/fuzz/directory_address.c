/* Addresses as keys: what is accepted is short, printable and the same when asked again in another case.
 *
 * Covers: src/directory/address_key.c */
#include "directory/accounts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct address_key key, again;
	struct arena arena;
	struct str copy;

	arena_init(&arena);
	if (address_key(str_of(data, size), true, &arena, &key)) {
		if (key.local_key.len > 64 || key.domain.len == 0 || key.domain.len > 255 ||
		    str_has_control(key.local_key) || !str_is_ascii(key.domain))
			abort();
		copy = arena_printf(&arena, "%.*s@%.*s", STR_ARG(key.local_key), STR_ARG(key.domain));
		/* Quotes around a local part are taken off once: such a key is not an address again. */
		if (key.local_key.len > 0 && key.local_key.ptr[0] != '"' &&
		    (!address_key(copy, true, &arena, &again) || !str_eq(again.local_key, key.local_key) ||
		     !str_eq(again.domain, key.domain)))
			abort();
	}
	arena_release(&arena);
	return 0;
}
