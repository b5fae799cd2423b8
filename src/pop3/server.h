/* pop3/server - what a process needs to serve POP3. One instance a process.
 * The protocol table goes into struct engine_listener, a struct service (config/service.h) into its `service`. */
#ifndef POP3_SERVER_H
#define POP3_SERVER_H

#include "directory/login.h"
#include "engine/session.h"
#include "store/view.h"

struct pop3_server {
	struct engine *engine;
	struct store_client *store;
	struct rpc_channel *directory;	    /* calls of directory/schema.h */
	struct login_mechanisms mechanisms; /* login_mechanisms_init() before the first session */
};

extern const struct protocol pop3_protocol;

#endif
