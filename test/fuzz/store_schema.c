/* Every message of the store's calls, from bytes of a captured front end. */
#include "store/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const struct rpc_type *type, struct str in)
{
	struct arena a;
	void *msg;

	if (!type)
		return;
	arena_init(&a);
	msg = arena_alloc(&a, type->size);
	if (rpc_decode(type, in, NULL, 0, &a, msg, NULL) == 0) {
		struct buf out;
		int fds[16];
		size_t n = 0;

		buf_init(&out, RPC_BYTES_MAX);
		(void)!rpc_encode(type, msg, &out, fds, &n, NULL);
		buf_release(&out);
	}
	arena_release(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t calls = 0;

	while (STORE_CALLS[calls].number)
		calls++;
	if (size < 1)
		return 0;
	decode(STORE_CALLS[data[0] % calls].request, str_of(data + 1, size - 1));
	decode(STORE_CALLS[data[0] % calls].reply, str_of(data + 1, size - 1));
	return 0;
}
