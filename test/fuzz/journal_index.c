/* The walk through a file that should be an LMDB environment. With the first byte odd the pages get the numbers that
 * they should have, so that the walk goes deeper. A value that begins with X is not what its checksum says.
 *
 * Covers: src/journal/index_check.c */
#include "base/fatal.h"
#include "base/mem.h"
#include "journal/index_check.h"
#include "journal/record.h"
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool look(void *ctx, struct str table, struct str key, struct str value)
{
	*(uint64_t *)ctx += str_hash(table, 1) + str_hash(key, 2) + str_hash(value, 3);
	return !str_starts(value, STR("X"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct err err = ERR_NONE;
	uint64_t sum = 0;
	uint8_t *pages;

	if (size < 1 || size > 1 << 20)
		return 0;
	if (fd < 0)
		fd = memfd_create("index", MFD_CLOEXEC);
	pages = mem_dup(data + 1, size - 1);
	for (size_t i = 0; data[0] & 1 && (i + 1) * 4096 < size; i++)
		le64_put(pages + i * 4096, i);
	if (ftruncate(fd, 0) == 0 && pwrite(fd, pages, size - 1, 0) == (ssize_t)size - 1)
		invariant(index_check(fd, look, &sum, &err) == (err.kind == ERR_OK));
	free(pages);
	return 0;
}
