/* /etc/hosts: ends, and every address is one.
 *
 * Covers: src/relay/hosts.c */
#include "base/fatal.h"
#include "relay/hosts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = str_of(data, size), name, rest;
	struct net_addr addr;
	size_t at = 0, before = 0;

	str_split(text, '\n', &name, &rest);
	while (hosts_next(rest, name, &at, &addr)) {
		invariant(at > before && addr.len > 0);
		before = at;
	}
	invariant(at >= rest.len);
	return 0;
}
