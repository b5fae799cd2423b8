/* pool - a few threads for disk work that must not hold up a loop. Tasks run in no promised order.
 * Threads are started when they are needed, up to the limit. */
#ifndef JOURNAL_POOL_H
#define JOURNAL_POOL_H

#include "base/attr.h"

struct pool;
struct pool *pool_new(unsigned threads);
/* Any thread. fn(ctx) runs on a thread of the pool, not before delay_ms have passed. */
void pool_run(struct pool *p, int64_t delay_ms, void (*fn)(void *ctx), void *ctx);
/* Runs what is due, drops what is delayed (the owner sees to what its ctx holds), joins. */
void pool_free(struct pool **p);

#endif
