/* File operations in a commit record of the store: what recovery reads back from a disk.
 *
 * Covers: src/store/engine_local_record.c */
#include "store/engine_local_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int touch(void *ctx, const struct file_work *w)
{
	const struct str all[] = {w->op.path,	   w->op.folder,  w->op.base,	w->op.flags, w->op.was_flags,
				  w->op.to_folder, w->op.to_base, w->op.prefix, w->body};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		*(uint64_t *)ctx += str_hash(all[i], i);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t sum = 0;
	int rc = file_record_parse(str_of(data, size), touch, &sum);

	return rc > 0;
}
