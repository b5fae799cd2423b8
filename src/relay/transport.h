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
	unsigned limit;	    /* deliveries at a time: column maxproc, else default_process_limit; 0: any number */
};

/* conf: main.cf; references of its own are taken. An -o for the limits of the command ("smtp_destination_...") counts
 * as one for those of the service ("slow_destination_..."). NULL with err: a setting that is none, with its line. */
struct transports *transports_new(const struct master_cf *cf, struct conf *conf, struct err *err);
struct transports *transports_ref(struct transports *t);
void transports_unref(struct transports **t);
/* NULL: master.cf has none of that name (or t is NULL). */
const struct transport *transports_find(const struct transports *t, struct str name);
/* `for (size_t i = 0; (transport = transports_at(t, i)); i++)` */
const struct transport *transports_at(const struct transports *t, size_t i);

/* What mail for a transport of that name becomes. A service of master.cf is what its command is; smtp, lmtp, relay,
 * error, discard and retry are there without a line of their own. */
enum transport_kind {
	TRANSPORT_UNKNOWN, /* nobody serves it: the mail waits */
	TRANSPORT_STORE,   /* virtual, store, local: our own mailboxes, where the recipient is ours */
	TRANSPORT_SMTP,
	TRANSPORT_LMTP,
	TRANSPORT_ERROR,
	TRANSPORT_DISCARD,
	TRANSPORT_RETRY,
};
enum transport_kind transport_kind(const struct transports *t, struct str name);
/* Deliveries of that transport at a time; 0: any number. */
unsigned transport_limit(const struct transports *t, const struct conf *conf, struct str name);

#endif
