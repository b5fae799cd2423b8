/* Every message of every call between processes, from bytes of a captured peer. The first byte chooses the table, the
 * second the call.
 *
 * Covers: src/engine/rpc_schema.c */
#include "directory/schema.h"
#include "dns/schema.h"
#include "proc/schema.h"
#include "queue/schema.h"
#include "relay/schema.h"
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
	const struct rpc_call *const tables[] = {STORE_CALLS,	DIR_CALLS, QUEUE_CALLS,
						 CONTROL_CALLS, DNS_CALLS, RELAY_CALLS};
	const struct rpc_call *table;
	size_t calls = 0;

	if (size < 2)
		return 0;
	table = tables[data[0] % ARRAY_SIZE(tables)];
	while (table[calls].number)
		calls++;
	decode(table[data[1] % calls].request, str_of(data + 2, size - 2));
	decode(table[data[1] % calls].reply, str_of(data + 2, size - 2));
	return 0;
}
