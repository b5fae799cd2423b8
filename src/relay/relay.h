/* relay - delivers what the queue holds, to accounts here and to other systems, and sends back what can never be.
 *
 * Parts of messages are claimed from the queue, their recipients resolved and routed anew (for a fresh grant; an alias
 * or a route may have changed), delivered under the delivery id that the message was accepted with, and reported:
 * delivered and failed recipients are struck off, deferred ones stay, and the bounce goes in the same commit as the
 * failures it tells of. A relay that dies loses nothing: what it claimed comes back; the store knows what was done, and
 * another system may get once more what it had taken while its answer was not yet reported.
 *
 * One thread runs relay_run(), which claims; others, as many as deliveries run, are started by it (dispatch.c).
 * relay_stop() and relay_conf() may be called from any. */
#ifndef RELAY_RELAY_H
#define RELAY_RELAY_H

#include "config/conf.h"
#include "deliver/deliver.h"
#include "directory/schema.h"
#include "msg/bounce_template.h"
#include "relay/downs.h"
#include "relay/transport.h"

struct relay;
struct remote;

struct relay_peers { /* borrowed: they live longer than the relay */
	struct store_client *store;
	struct rpc_channel *queue, *directory;
	struct remote *remote;
};

/* conf: a reference of its own is taken. */
struct relay *relay_new(const struct relay_peers *peers, struct conf *conf);
void relay_free(struct relay **r);
/* The configuration of the messages claimed from now on; of transports of master.cf, if any; templates of notifications
 * (NULL: those there are). References of its own are taken. */
void relay_conf(struct relay *r, struct conf *conf, struct transports *transports, struct bounce_templates *templates);
/* Claims and delivers until relay_stop(); ends when the deliveries under way have, at most a second later. */
void relay_run(struct relay *r);
void relay_stop(struct relay *r);
/* Destinations that nothing reaches while mail waits for them (downs.h). Any thread. */
void relay_downs(struct relay *r, struct downs_report *report_r);
/* Claims what is due now and waits until all of it is delivered and reported. Returns how many parts, or -1 with err.
 * For tests. */
int relay_step(struct relay *r, uint32_t wait_ms, struct err *err);

#endif
