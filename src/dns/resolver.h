/* dns/resolver - libunbound, set up. Private to src/dns. */
#ifndef DNS_RESOLVER_H
#define DNS_RESOLVER_H

#include "dns/settings.h"

struct ub_ctx;

/* Answered by the resolver itself: whether it answers at all. */
#define RESOLVER_OWN_ZONE "alive.postrider.invalid."

/* A resolver, ready (nothing is opened later but sockets), with or without validation. NULL with err. */
struct ub_ctx *resolver_new(const struct dns_settings *s, bool validating, struct err *err);

#endif
