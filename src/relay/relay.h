/* relay - tries again what the queue holds, and sends back what can never be delivered.
 *
 * Until mail leaves for other systems, its destinations are the accounts of the store. Each claimed message
 * is resolved anew (for a fresh grant; an alias may have changed), delivered under the delivery id that it
 * was accepted with, and reported to the queue: delivered and failed recipients are struck off, deferred ones
 * stay, and the bounce goes in the same commit as the failures it tells of. A relay that dies loses nothing:
 * what it claimed comes back, and the store knows what was done.
 *
 * One thread runs relay_run(); relay_stop() and relay_conf() may be called from any. */
#ifndef RELAY_RELAY_H
#define RELAY_RELAY_H

#include "config/conf.h"
#include "deliver/deliver.h"
#include "directory/schema.h"

struct relay;

/* All but conf borrowed: they live longer than the relay. conf: a reference of its own is taken. */
struct relay *relay_new(struct store_client *store, struct rpc_channel *queue, struct rpc_channel *directory,
			struct conf *conf);
void relay_free(struct relay **r);
/* The configuration of the messages claimed from now on. */
void relay_conf(struct relay *r, struct conf *conf);
/* Claims and delivers until relay_stop(); ends after the message under way, at most a second later. */
void relay_run(struct relay *r);
void relay_stop(struct relay *r);
/* Claims what is due now and handles it. Returns how many messages, or -1 with err. For tests, and run's step. */
int relay_step(struct relay *r, uint32_t wait_ms, struct err *err);

#endif
