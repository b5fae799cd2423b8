/* directory/grants - what this process has told `store` about who may do what, and until when.
 *
 * A grant belongs to a session of a front end (peer, session) and names an account. It is noted here before it is
 * sent, so that whatever happens in between (revoked, channel lost, store restarted) finds it. Invariants:
 *   1. Nothing is granted to a peer that is gone.
 *   2. What the store holds is a subset of what is noted here, but for calls under way: a new store is told all of
 *      it (grants_repeat). After a restart of this process the store's are taken over (grants_adopt), so that
 *      the log-ins of the process before end as its own do.
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
/* What the store says when it will not take a message: full (ERR_FULL), or too large for all the quota (5.2.2). */
static inline bool grants_is_verdict(const struct err *err)
{
	return err->kind == ERR_FULL || (err->kind != ERR_OK && str_eq(str_from(err->code), STR("5.2.2")));
}

struct grant_ask {
	uint64_t peer, session;
	uint8_t rights;
	uint64_t epoch;
	bool admit; /* and would a message of this size be taken now? */
	uint64_t size;
};
/* Grants the rights on the account, as read from the database, and tells the store, waiting a few seconds at most: a
 * store that is away is told when it is back, which counts as success. Returns 0; 1 when the accounts have changed
 * since `epoch`, so that the caller asks for a grants_check() soon; -1 with err (ERR_LIMIT).
 * verdict_r (with admit; else NULL): the store's word that it would not take the message (grants_is_verdict), ERR_TEMP
 * when it said nothing. */
int grants_add(struct grants *g, const struct grant_ask *ask, const struct account *account, struct err *verdict_r,
	       struct err *err) WARN_UNUSED;
/* The same without waiting: returns as grants_add() does, but for 2: only done() will tell. It runs once, on any
 * thread: told false when the caller must do it the other way (the store did not answer; the grant was taken back on
 * its way: then grants_settle() is due, `settle`), else with the verdict. done may run before this returns. */
typedef void grants_done(void *ctx, bool told, bool settle, const struct err *verdict);
int grants_add_async(struct grants *g, const struct grant_ask *ask, const struct account *account, bool *stale_r,
		     grants_done *done, void *ctx) WARN_UNUSED;
/* Does not wait. */
void grants_session_end(struct grants *g, uint64_t peer, uint64_t session);

/* Notes what the store holds and is not known here: granted by the process that was `directory` before. Returns how
 * many grants the store holds, or -1 with err (the store is away: to be tried again). */
int grants_adopt(struct grants *g, struct err *err) WARN_UNUSED;
/* The store is new: tells it everything. */
void grants_repeat(struct grants *g);
/* The store's channel is up or down. */
void grants_store_link(struct grants *g, bool up);
/* Compares every account granted with the database; revokes and tells anew what differs. Returns how many
 * accounts were revoked, or -1 when the database could not be read (nothing is revoked then). */
int grants_check(struct grants *g, struct db *db, struct err *err) WARN_UNUSED;
/* Accounts of which the store may hold a grant that was taken back while it was on its way: tells them anew. */
void grants_settle(struct grants *g);
size_t grants_count(struct grants *g);

#endif
