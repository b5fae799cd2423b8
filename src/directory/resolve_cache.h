/* directory/resolve_cache - where addresses lead, kept while the accounts and the configuration stay as they are.
 *
 * Only answers of the common kinds are kept: one local account (RCPT_LOCAL); and of domains, that they are not ours.
 * What is found is never older than the state
 * that resolve_cache_renew() was told last; the caller asks the database for its state (PRAGMA data_version, on a
 * connection that never writes) after the question has come in and before each resolve_cache_find(): so nothing stale
 * is found once a change was acknowledged, whoever made it.
 *
 * Bounded: CACHE_MAX addresses of at most CACHE_TEXT_MAX bytes; the half that was not asked for lately goes first.
 * Thread-safe; resolve_cache_renew() and resolve_cache_find() are one thread's. */
#ifndef DIRECTORY_RESOLVE_CACHE_H
#define DIRECTORY_RESOLVE_CACHE_H

#include "directory/resolve.h"

#define CACHE_MAX      8192
#define CACHE_TEXT_MAX 1024 /* of address, path and extension together */

/* What may be known of a domain that is not ours. */
enum resolve_domain {
	DOMAIN_ELSEWHERE =
		1,	    /* has no accounts and is not in mydestination: the database does not say where mail goes */
	DOMAIN_FOREIGN = 2, /* each of its addresses is RCPT_REMOTE and leads to itself */
};

struct resolve_cache;

struct resolve_cache *resolve_cache_new(void);
void resolve_cache_free(struct resolve_cache **c);

/* Forgets everything when `version` (of the database) or `reload` (counted: configuration and tables) is not what it
 * was. */
void resolve_cache_renew(struct resolve_cache *c, uint64_t version, uint64_t reload);
/* Fills *t_r, with a user of which only what a grant needs is set; bytes live in the arena. */
bool resolve_cache_find(struct resolve_cache *c, struct str address, struct arena *arena,
			struct resolved_target *t_r) WARN_UNUSED;

/* What is known of a normalized domain: enum resolve_domain, or 0. By the same rules as resolve_cache_find(). */
unsigned resolve_cache_domain(struct resolve_cache *c, struct str domain);

/* Which state is told at present; to be taken before a look-up whose answer resolve_cache_put() shall keep, and before
 * the configuration that it goes by. It is not kept when the state has changed since. */
uint64_t resolve_cache_state(struct resolve_cache *c);
void resolve_cache_put(struct resolve_cache *c, uint64_t state, struct str address, const struct resolved *found);
/* Adds to what is known. */
void resolve_cache_put_domain(struct resolve_cache *c, uint64_t state, struct str domain, unsigned known);

#endif
