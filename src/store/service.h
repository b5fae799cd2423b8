/* store/service - the process `store` as a library: mailboxes over an engine, answering store/schema.h.
 *
 * One loop thread does everything in memory; the engine's threads write, and a few threads of the service read
 * directories. Rules:
 *   1. An answer or event leaves only after the commit that it tells of, and every earlier one of the account, is
 *      durable; the committing peer gets its event before its answer.
 *   2. A request is answered for a (peer, session, account) that directory granted, and within the rights.
 *   3. Whatever a peer sends is checked: sizes, ids, ranges, names. A peer that ends leaves nothing behind. */
#ifndef STORE_SERVICE_H
#define STORE_SERVICE_H

#include "config/conf.h"
#include "store/engine.h"
#include "store/schema.h"

struct store_service;

struct store_options {
	int state_dirfd;   /* journal, index, spool: <queue_directory>/store. Borrowed */
	int mail_dirfd;	   /* virtual_mailbox_base. Borrowed */
	struct conf *conf; /* a reference is taken */
	/* Tests: opens this engine instead of `local`. */
	int (*open_engine)(void *ctx, const struct store_loop *loop, struct store_engine **e_r, struct err *err);
	void *open_ctx;
};

/* Takes the lock, recovers. Blocks. NULL with err when the directory is held by another process or unreadable. */
struct store_service *store_service_new(const struct store_options *options, struct err *err);
/* Adds a connection (now owned): tag as master made it, role in its low byte. `directory`: it may also grant,
 * release and revoke. `admin`: it may also ask for fsck and status. Any thread. */
void store_service_add_peer(struct store_service *svc, int fd, uint64_t tag, bool directory, bool admin);
/* A new configuration, whose reference is taken over: it holds from the next request on. On the loop. */
void store_service_configure(struct store_service *svc, struct conf *conf);
/* Serves until store_service_stop(). */
void store_service_run(struct store_service *svc);
/* It ended by itself, because recovery could not finish when it began and a new process may get further. */
bool store_service_starts_anew(const struct store_service *svc);
/* Orderly end: any thread. store_service_run() returns. */
/* It takes nothing. Any thread. */
bool store_service_read_only(const struct store_service *svc);
void store_service_stop(struct store_service *svc);
/* Waits for everything under way, makes a last checkpoint, frees. */
void store_service_free(struct store_service **svc);

/* The event loop, for descriptors and timers of the process's own (its control channel). */
struct rpc_server *store_service_server(struct store_service *svc);

#endif
