/* dns/service - the inside of the process `dns`: questions of peers, answered by libunbound (its own thread; a loop
 * here). Any number of questions is under way at a time, each a few hundred bytes; who waits longer than `dns_timeout`
 * is told DNS_TEMP. */
#ifndef DNS_SERVICE_H
#define DNS_SERVICE_H

#include "dns/schema.h"
#include "dns/settings.h"

struct dns_service;

/* Makes the resolvers and opens what they need; before the jail, and before any thread. The settings must outlive it.
 */
struct dns_service *dns_service_new(const struct dns_settings *settings, struct err *err);
void dns_service_free(struct dns_service **s);
/* For a process that ends after dns_service_run(): its threads end, questions under way stay unasked, so that callers
 * ask the next one; dns_service_stop() may still come. */
void dns_service_end(struct dns_service *s);
void dns_service_add_peer(struct dns_service *s, int fd, uint64_t tag);
/* Serves until dns_service_stop(). */
void dns_service_run(struct dns_service *s);
void dns_service_stop(struct dns_service *s); /* any thread */
/* Why dns_service_run() has returned: the resolver's thread does not answer, and would not end either. The process
 * leaves by _exit(), and is started anew. */
bool dns_service_stuck(const struct dns_service *s);

/* Whether a resolver can be made of the settings (the anchors are keys): what master asks before it takes them. */
int dns_settings_check(const struct dns_settings *settings, struct err *err) WARN_UNUSED;

#endif
