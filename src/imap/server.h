/* imap/server - what a process needs to serve IMAP. One instance a process, zeroed before it is filled in.
 * The protocol table goes into struct engine_listener, a struct service (config/service.h) into its `service`. */
#ifndef IMAP_SERVER_H
#define IMAP_SERVER_H

#include "directory/login.h"
#include "engine/session.h"
#include "store/view.h"

struct imap_server {
	struct engine *engine;
	struct store_client *store;
	struct rpc_channel *directory;	    /* calls of directory/schema.h */
	struct login_mechanisms mechanisms; /* login_mechanisms_init() before the first session */
};

extern const struct protocol imap_protocol;

#endif
