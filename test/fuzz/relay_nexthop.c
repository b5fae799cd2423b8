/* Nexthops of transport(5) tables and of ETRN: a host, a port, nothing that a name or a socket address could not be.
 *
 * Covers: src/relay/nexthop.c */
#include "relay/mx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_NONE;
	struct nexthop n;

	if (size < 1)
		return 0;
	if (nexthop_parse(str_of(data + 1, size - 1), 25, data[0] & 1, &n, &err) < 0) {
		if (err.kind == ERR_OK || !err.code[0])
			abort();
		return 0;
	}
	if (n.host.len == 0 || (!n.path && (n.host.len > 253 || n.port == 0)) || (n.literal && n.addr.len == 0))
		abort();
	return 0;
}
