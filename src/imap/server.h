/* imap/server - what a process needs to serve IMAP. One instance a process, zeroed before it is filled in.
 * The protocol table goes into struct engine_listener, a struct service (config/service.h) into its `service`. */
#ifndef IMAP_SERVER_H
#define IMAP_SERVER_H

#include "engine/session.h"
#include "store/view.h"
#include <pthread.h>

/* The mechanisms that directory offers, asked for once a minute. Shared by all sessions. */
struct imap_mechanisms {
	pthread_mutex_t lock;            /* zeroed memory is an unlocked mutex here */
	struct {
		char names[160];
		int64_t asked_ms;        /* 0: never */
	} of[4];                         /* index: tls + 2 * loopback */
};

struct imap_server {
	struct engine *engine;
	struct store_client *store;
	struct rpc_channel *directory;   /* calls of directory/schema.h */
	struct imap_mechanisms mechanisms;
};

extern const struct protocol imap_protocol;

#endif
