/* directory/sts_cache - MTA-STS policies on disk (RFC 8461 3.3), beside the accounts, in a file of their own: a cache,
 * which is made anew when it is damaged.
 *
 * Bounded: STS_CACHE_ROWS_MAX domains, STS_CACHE_PAGES_MAX pages; those that mail went to longest ago go first.
 * Thread-safe; blocks for the disk. What is given out lives in the arena. */
#ifndef DIRECTORY_STS_CACHE_H
#define DIRECTORY_STS_CACHE_H

#include "directory/schema.h"

#define STS_CACHE_FILE	    "mta-sts.sqlite" /* in the directory of the accounts */
#define STS_CACHE_ROWS_MAX  20000
#define STS_CACHE_PAGES_MAX 16384 /* of 4 KB */
#define STS_CACHE_DUE_MAX   100
#define STS_CACHE_UNUSED_S  (30 * (uint64_t)86400) /* so long without mail: it is not fetched again */

struct sts_cache;

/* Opens nothing yet. */
struct sts_cache *sts_cache_new(const char *path);
void sts_cache_free(struct sts_cache **c);
/* 1 found (expired or not), 0, -1. use: mail goes there now. */
int sts_cache_get(struct sts_cache *c, struct str domain, bool use, struct arena *arena, struct dir_sts *policy_r,
		  struct err *err) WARN_UNUSED;
int sts_cache_put(struct sts_cache *c, const struct dir_sts *policy, struct err *err) WARN_UNUSED;
int sts_cache_due(struct sts_cache *c, uint64_t now, struct arena *arena, struct dir_sts_due *due_r,
		  struct err *err) WARN_UNUSED;

#endif
