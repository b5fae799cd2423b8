/* Lines of access tables: every one is some action, and its pieces lie inside of it.
 *
 * Covers: src/policy/access.c */
#include "policy/access.h"
#include <stdint.h>
#include <stdlib.h>

static void inside(struct str piece, struct str whole)
{
	if (piece.len > 0 && (piece.ptr < whole.ptr || piece.ptr + piece.len > whole.ptr + whole.len))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str value = str_of(data, size);
	struct access_action a = access_parse(value);

	inside(a.text, value);
	inside(a.word, value);
	inside(a.dsn, value);
	if (a.code != 0 && (a.code < 400 || a.code > 599))
		abort();
	return 0;
}
