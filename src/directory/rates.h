/* directory/rates - how often somebody did something within a period: what smtpd's limits are compared with.
 *
 * A count begins with the first event and ends with the period, then the next begins (Postfix's anvil(8)). In memory
 * only, of bounded size: when it is full, the entry longest without an event goes. Lives as long as directory, so a
 * new smtpd goes on counting where the last one was. One thread. */
#ifndef DIRECTORY_RATES_H
#define DIRECTORY_RATES_H

#include "base/str.h"

struct rates;

struct rates *rates_new(size_t entries_max);
void rates_free(struct rates **r);
/* Adds n events of `kind` by `who`; returns how many there are in the period under way. Letter case does not count. */
uint64_t rates_add(struct rates *r, char kind, struct str who, uint64_t n, int64_t period_ms, int64_t now_ms);
/* Whom a client's address stands for: itself, of IPv6 its /64. */
struct str rates_client(struct str address, char out[64]);

#endif
