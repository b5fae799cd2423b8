/* relay/transport - the transports of master.cf: services that deliver, under names of their own, with settings of
 * their own ("slow unix - - n - - smtp -o smtp_destination_concurrency_limit=1"). Immutable, counted. Thread-safe. */
#ifndef RELAY_TRANSPORT_H
#define RELAY_TRANSPORT_H

#include "config/conf.h"
#include "config/master_cf.h"

struct transports;

struct transport {
	struct str name;    /* of the service, as transport_maps has it */
	struct str command; /* "smtp", "lmtp", "error", ... */
	struct conf *conf;  /* main.cf with its -o on top */
};

/* conf: main.cf; references of its own are taken. An -o for the limits of the command ("smtp_destination_...") counts
 * as one for those of the service ("slow_destination_..."). NULL with err: a setting that is none, with its line. */
struct transports *transports_new(const struct master_cf *cf, struct conf *conf, struct err *err);
struct transports *transports_ref(struct transports *t);
void transports_unref(struct transports **t);
/* NULL: master.cf has none of that name (or t is NULL). */
const struct transport *transports_find(const struct transports *t, struct str name);

#endif
