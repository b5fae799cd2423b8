/* directory/penalty - how long the answer to a failed log-in is held back.
 *
 * Failures are counted a client address (IPv6: a /64) and a user name; the delay starts at `first_ms` and doubles
 * with each failure of the worse of the two, up to `max_ms`. A count is halved for every ten minutes of peace. In
 * memory only, of bounded size: when it is full, the entry longest at peace goes. Nobody is locked out. Thread-safe. */
#ifndef DIRECTORY_PENALTY_H
#define DIRECTORY_PENALTY_H

#include "base/str.h"

struct penalty;

struct penalty *penalty_new(size_t entries_max);
void penalty_free(struct penalty **p);
/* Counts a failure; returns the delay in milliseconds. client: address as text. now_ms: clock_ms(). */
uint32_t penalty_failed(struct penalty *p, struct str client, struct str user, int64_t now_ms, int64_t first_ms,
			int64_t max_ms);
/* The user has proved himself: his count goes. The client's stays, or one good account would pay for many guesses. */
void penalty_passed(struct penalty *p, struct str user);
/* Failures of all within the last hour, in steps of five minutes. */
uint64_t penalty_recent(struct penalty *p, int64_t now_ms);
size_t penalty_count(struct penalty *p);

#endif
