/* directory/grants - what this process has told `store` about who may do what, and until when.
 *
 * A grant belongs to a session of a front end (peer, session) and names an account. It is noted here before it is
 * sent, so that whatever happens in between (revoked, channel lost, store restarted) finds it. Invariants:
 *   1. Nothing is granted to a peer that is gone.
 *   2. What the store holds is a subset of what is noted here, but for calls under way; after a restart of the store
 *      all of it is told again (grants_repeat).
 *   3. A log-in grant carries the serial its account had when the password was checked; when the account has another
 *      one, or is gone or disabled, it is revoked (grants_check).
 * Thread-safe; no lock is held during a call to the store. */
#ifndef DIRECTORY_GRANTS_H
#define DIRECTORY_GRANTS_H

#include "directory/accounts.h"
#include "engine/rpc.h"

#define GRANTS_SESSION_MAX 20000 /* accounts of one session; more is ERR_LIMIT */

struct grants;

/* store: borrowed. */
struct grants *grants_new(struct rpc_channel *store);
void grants_free(struct grants **g);

void grants_peer_open(struct grants *g, uint64_t peer, uint64_t tag);
void grants_peer_closed(struct grants *g, uint64_t peer);
bool grants_peer_live(struct grants *g, uint64_t peer);

/* Which state of the accounts a look-up that starts now will see; to be passed to grants_add(). */
uint64_t grants_epoch(struct grants *g);
/* Grants `rights` on the account, as read from the database, and tells the store, waiting a few seconds at most: a
 * store that is away is told when it is back, which counts as success. Returns 0; 1 when the accounts have changed
 * since `epoch`, so that the caller asks for a grants_check() soon; -1 with err (ERR_LIMIT). */
int grants_add(struct grants *g, uint64_t peer, uint64_t session, const struct account *account, uint8_t rights,
	       uint64_t epoch, struct err *err) WARN_UNUSED;
/* Does not wait. */
void grants_session_end(struct grants *g, uint64_t peer, uint64_t session);

/* The store is new: tells it everything. */
void grants_repeat(struct grants *g);
/* The store's channel is up or down. */
void grants_store_link(struct grants *g, bool up);
/* Compares every account granted with the database; revokes and tells anew what differs. Returns how many
 * accounts were revoked, or -1 when the database could not be read (nothing is revoked then). */
int grants_check(struct grants *g, struct db *db, struct err *err) WARN_UNUSED;
size_t grants_count(struct grants *g);

#endif
