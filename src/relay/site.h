/* relay/site - a destination as deliveries see it: a transport and a nexthop, what waits for it, and how much it is
 * given at a time. That number adapts by feedback, as that of Postfix's qmgr(8) does: up with each good delivery, down
 * with each host that cannot be reached; when those are too many in a row the site is dead for minimal_backoff_time.
 * All under the dispatcher's lock. */
#ifndef RELAY_SITE_H
#define RELAY_SITE_H

#include "base/vec.h"
#include "config/conf.h"

struct job;

struct feedback { /* n, n / concurrency or n / sqrt_concurrency */
	double base;
	enum { FIXED, BY_CONCURRENCY, BY_SQUARE_ROOT } by;
};

/* What all sites of a transport share: so many deliveries at a time as its line of master.cf allows (maxproc), one
 * where transport_rate_delay parts them. A site whose turn comes while the lane is full waits here, and not in the line
 * of those that may begin. Invariant: where one waits here and a delivery may begin, another site of the lane is in
 * that line. */
struct lane {
	unsigned busy, limit; /* limit 0: none */
	int64_t rate_delay, next_ms;
	VEC(struct site *) full;
};

struct site {
	struct lane *lane;
	char *key; /* transport NUL nexthop; also the map's */
	size_t key_len;
	struct job *first, *last;
	unsigned waiting, busy;
	bool listed; /* in ready, timed or its lane's full */
	double window, success, failure, cohorts;
	double limit, initial, cohort_limit;
	struct feedback up, down;
	int64_t rate_delay, next_ms;
	int64_t dead_until; /* 0: alive */
	char *dead_why;
	bool unreachable; /* the last try came to no host */
};

/* Takes the numbers of its transport from the configuration, its lane's, too. */
void site_configure(struct site *s, const struct conf *c);
/* A delivery begins, or has ended: the next one has to wait for rate_delay. */
void site_pace(struct site *s);
/* When the next delivery may begin, by clock_ms(). */
int64_t site_next_ms(const struct site *s);
/* A delivery there went well. */
void site_good(struct site *s);
/* It did not. counts: no host could be reached; too many of these, and the site is dead, `why` is kept. */
void site_bad(struct site *s, const struct conf *c, struct str why, bool counts);
/* If it is dead it begins anew. */
void site_revive(struct site *s);
/* One whose time is over begins anew. */
bool site_is_dead(struct site *s);
void site_free(struct site *s);

static inline bool site_may_begin(const struct site *s)
{
	return s->waiting > 0 && (double)s->busy < s->window;
}

static inline bool lane_is_full(const struct lane *l)
{
	return l->limit > 0 && l->busy >= l->limit;
}

#endif
