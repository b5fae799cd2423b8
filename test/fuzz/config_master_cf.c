/* master.cf: services or an error that says where.
 *
 * Covers: src/config/master_cf.c */
#include "base/fatal.h"
#include "config/master_cf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena;
	struct master_cf cf;
	struct err err = ERR_NONE;

	arena_init(&arena);
	if (master_cf_parse(str_of(data, size), "master.cf", &arena, &cf, &err) < 0)
		invariant(strstr(err.text, "master.cf") != NULL);
	else
		for (size_t i = 0; i < cf.count; i++)
			invariant(cf.services[i].name.len > 0 && cf.services[i].command.len > 0);
	arena_release(&arena);
	return 0;
}
