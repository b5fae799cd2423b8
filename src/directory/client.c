/* See client.h. */
#include "directory/client.h"

#define TIMEOUT_MS 30000

int directory_ask(struct rpc_channel *directory, const struct dir_lookup *ask, struct arena *arena, struct str *value_r,
		  struct err *err)
{
	struct dir_found found;
	struct rpc_reply hold;
	int rc;

	rpc_reply_init(&hold);
	rc = rpc_call(directory, &DIR_LOOKUP, ask, &found, &hold, true, TIMEOUT_MS, err);
	if (rc == 0 && found.found) {
		*value_r = arena_str(arena, found.value);
		rc = 1;
	}
	rpc_reply_release(&hold);
	return rc;
}

int directory_lookup(void *ctx, struct str parameter, struct str list, struct str key, struct arena *arena,
		     struct str *value_r, struct err *err)
{
	struct dir_lookup ask = {.parameter = parameter, .list = list, .how = LOOKUP_KEY, .key = key};

	return directory_ask(ctx, &ask, arena, value_r, err);
}

int directory_lookup_address(void *ctx, struct str parameter, struct str list, struct str address, struct arena *arena,
			     struct str *value_r, struct err *err)
{
	struct dir_lookup ask = {.parameter = parameter, .list = list, .how = LOOKUP_ADDRESS, .key = address};

	return directory_ask(ctx, &ask, arena, value_r, err);
}

static int rewrite_some(struct rpc_channel *directory, struct str generic, struct dir_rewrite_one *v, size_t n,
			struct arena *arena, struct err *err)
{
	struct dir_rewrite ask = {.addresses = {v, n}, .generic = generic};
	struct dir_rewritten answer;
	struct rpc_reply hold;
	int rc;

	rpc_reply_init(&hold);
	rc = rpc_call(directory, &DIR_REWRITE, &ask, &answer, &hold, true, TIMEOUT_MS, err);
	if (rc == 0 && answer.addresses.n != n)
		rc = err_set(err, ERR_TEMP, "4.3.0", "the directory answered for other addresses");
	for (size_t i = 0; rc == 0 && i < n; i++)
		if (answer.addresses.v[i].address.len > 0)
			v[i].address = arena_str(arena, answer.addresses.v[i].address);
	rpc_reply_release(&hold);
	return rc;
}

int directory_rewrite(void *ctx, struct str generic, struct dir_rewrite_one *v, size_t n, struct arena *arena,
		      struct err *err)
{
	int rc = 0;

	for (size_t at = 0; rc == 0 && at < n; at += DIR_REWRITE_MAX)
		rc = rewrite_some(ctx, generic, v + at, n - at < DIR_REWRITE_MAX ? n - at : DIR_REWRITE_MAX, arena,
				  err);
	return rc;
}
