/* relay/service - what relay does for others (relay/schema.h), on threads of its own. */
#ifndef RELAY_SERVICE_H
#define RELAY_SERVICE_H

#include "relay/remote.h"

struct relay_service;

struct relay_service *relay_service_new(struct remote *remote);
/* Inside the jail. */
void relay_service_start(struct relay_service *s);
void relay_service_add_peer(struct relay_service *s, int fd, uint64_t tag);
/* Any thread. What is under way ends by remote_stop(). */
void relay_service_stop(struct relay_service *s);
/* Behind relay_service_stop(): waits for its threads. */
void relay_service_free(struct relay_service **s);

#endif
