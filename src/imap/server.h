/* imap/server - what a process needs to serve IMAP. One instance a process.
 * The protocol table goes into struct engine_listener, a struct service (config/service.h) into its `service`. */
#ifndef IMAP_SERVER_H
#define IMAP_SERVER_H

#include "engine/session.h"
#include "store/view.h"

struct imap_server {
	struct engine *engine;
	struct store_client *store;
	struct rpc_channel *directory;   /* calls of directory/schema.h */
};

extern const struct protocol imap_protocol;

#endif
