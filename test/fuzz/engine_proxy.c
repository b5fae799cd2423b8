/* PROXY headers as anybody who reaches the port could send them.
 *
 * Covers: src/engine/proxy.c */
#include "engine/private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size ? size : 1);
	struct net_addr peer, local, peer2, local2;
	bool known, known2;
	ssize_t whole, len = 0;

	if (copy == NULL)
		abort();
	memcpy(copy, data, size);
	whole = proxy_parse(str_of(copy, size), &peer, &local, &known);
	if (whole > (ssize_t)size || (known && whole > 0 && (peer.len == 0 || local.len == 0)))
		abort();
	/* Byte by byte it is the same header, and nothing behind it is looked at. */
	for (size_t have = 1; have <= size && len == 0; have++)
		len = proxy_parse(str_of(copy, have), &peer2, &local2, &known2);
	if (size > 0 && len != whole)
		abort();
	free(copy);
	return 0;
}
