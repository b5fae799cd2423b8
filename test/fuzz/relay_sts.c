/* MTA-STS records and policies: what is taken is within its bounds, and a policy names each host that it has in full.
 *
 * Covers: src/relay/sts_policy.c */
#include "base/fatal.h"
#include "relay/sts_policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_of(data, size), id;
	struct sts_policy p;
	struct arena arena;

	arena_init(&arena);
	if (sts_record_parse(in, &id) == 1)
		invariant(id.len >= 1 && id.len <= STS_ID_MAX && id.ptr > in.ptr && id.ptr + id.len <= in.ptr + in.len);
	if (sts_policy_parse(in, &arena, &p, NULL) == 0) {
		invariant(p.mx_count <= STS_MX_MAX && p.max_age <= STS_MAX_AGE_MAX);
		invariant(p.mx_count > 0 || p.mode == STS_NONE);
		invariant(memmem(in.ptr, in.len, sts_mode_text(p.mode), strlen(sts_mode_text(p.mode))) != NULL);
		(void)!sts_policy_names(&p, in, &arena);
		for (size_t i = 0; i < p.mx_count; i++) {
			bool wild = str_starts(p.mx[i], STR("*."));
			struct str host = wild ? arena_printf(&arena, "a%.*s", STR_ARG(str_skip(p.mx[i], 1))) : p.mx[i];

			invariant(host.len > 255 || sts_policy_names(&p, host, &arena));
		}
	}
	arena_release(&arena);
	return 0;
}
