/* directory/resolve_cache - where addresses lead, kept while the accounts and the configuration stay as they are.
 *
 * Only answers of the common kind are kept: one local account (RCPT_LOCAL). What is found is never older than the state
 * that resolve_cache_renew() was told last; the caller asks the database for its state (PRAGMA data_version, on a
 * connection that never writes) after the question has come in and before each resolve_cache_find(): so nothing stale
 * is found once a change was acknowledged, whoever made it.
 *
 * Bounded: CACHE_MAX addresses of at most CACHE_TEXT_MAX bytes; the half that was not asked for lately goes first.
 * Thread-safe; resolve_cache_renew() and resolve_cache_find() are one thread's. */
#ifndef DIRECTORY_RESOLVE_CACHE_H
#define DIRECTORY_RESOLVE_CACHE_H

#include "config/conf.h"
#include "directory/resolve.h"

#define CACHE_MAX      8192
#define CACHE_TEXT_MAX 1024 /* of address, path and extension together */

struct resolve_cache;

struct resolve_cache *resolve_cache_new(void);
void resolve_cache_free(struct resolve_cache **c);

/* Forgets everything when `version` or conf is not what it was. */
void resolve_cache_renew(struct resolve_cache *c, uint64_t version, struct conf *conf);
/* Fills *t_r, with a user of which only what a grant needs is set; bytes live in the arena. */
bool resolve_cache_find(struct resolve_cache *c, struct str address, struct arena *arena,
			struct resolved_target *t_r) WARN_UNUSED;

/* Which state is told at present; to be taken before a look-up whose answer resolve_cache_put() shall keep. It is not
 * kept when the state has changed since. */
uint64_t resolve_cache_state(struct resolve_cache *c);
void resolve_cache_put(struct resolve_cache *c, uint64_t state, struct str address, const struct resolved *found);

#endif
