/* directory/client - asking the process `directory` about look-up tables, from a thread that may wait.
 *
 * All return 0 or more, or -1 with err: ERR_TEMP when a table or the directory failed, which never means "not there".
 * What is given out lives in the arena. Thread-safe. */
#ifndef DIRECTORY_CLIENT_H
#define DIRECTORY_CLIENT_H

#include "directory/schema.h"

/* What the tables of a parameter say to a key: 1, 0 not there, -1. list: the tables, as the caller's configuration has
 * them ("": as main.cf does). ctx: struct rpc_channel of the directory; so it serves as a callback. */
int directory_lookup(void *ctx, struct str parameter, struct str list, struct str key, struct arena *arena,
		     struct str *value_r, struct err *err) WARN_UNUSED;
/* The same of an address, and of what is left of it: its extension is taken off, then all in front of the @. */
int directory_lookup_address(void *ctx, struct str parameter, struct str list, struct str address, struct arena *arena,
			     struct str *value_r, struct err *err) WARN_UNUSED;
/* The same for any question. */
int directory_ask(struct rpc_channel *directory, const struct dir_lookup *ask, struct arena *arena, struct str *value_r,
		  struct err *err) WARN_UNUSED;
/* What tables make of n addresses; of v each address is replaced, or stays. One call for every DIR_REWRITE_MAX of them.
 * 0, or -1. ctx: as above. */
int directory_rewrite(void *ctx, struct str generic, struct dir_rewrite_one *v, size_t n, struct arena *arena,
		      struct err *err) WARN_UNUSED;

#endif
