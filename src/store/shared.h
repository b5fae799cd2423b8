/* shared - what the views of one process onto one mailbox have in common. Private to client.c, shared.c, view.c.
 *
 * One struct shared a (account, mailbox): a sealed base snapshot, and the log of changes that came since. A view
 * remembers how far in the log it has looked. Invariants:
 *   - the base is never written to after it was installed; it lives until its last holder lets go;
 *   - log positions ascend for ever; log_first is the position of log.v[0];
 *   - a view whose `epoch` is not the shared one's has lost its place in the log and compares instead;
 *   - applying a change twice, or one that the snapshot already holds, changes nothing (the modseq tells).
 * Locks: client.lock, then shared.lock. No RPC is made under either. The reader thread of the channel appends to
 * the log; session threads read it. */
#ifndef STORE_SHARED_H
#define STORE_SHARED_H

#include "base/map.h"
#include "base/vec.h"
#include "store/view_base.h"
#include <pthread.h>
#include <stdatomic.h>

struct keyword_list {
	_Atomic uint32_t refs;
	size_t count;
	struct str names[STORE_KEYWORDS_MAX];
};

typedef VEC(struct message_change) change_vec;

struct shared {
	struct store_client *client;
	uint64_t account;
	uint32_t mailbox;
	unsigned users; /* under client.lock: views open or being opened */

	pthread_mutex_t lock;
	struct view_base *base; /* NULL: no snapshot yet */
	uint64_t base_pos;	/* the base holds everything before this position */
	change_vec log;
	uint64_t log_first;
	uint64_t epoch;
	uint64_t modseq; /* highest heard of */
	uint32_t uidvalidity;
	unsigned lost;	  /* how often events were lost; only rises */
	unsigned covered; /* `lost` when the base was asked for: the base and the log are whole while the two are equal
			   */
	bool deleted;
	struct keyword_list *keywords;
	VEC(struct view *) views;
};

/* Confirmations that the store may not have on disk yet, oldest first. */
struct confirmed_delivery {
	int64_t at_ms;
	uint8_t id[16];
	size_t account_count;
	struct store_id accounts[];
};

struct store_client {
	struct rpc_channel *channel;
	struct engine *engine;
	pthread_mutex_t confirmed_lock; /* no other is taken under it */
	VEC(struct confirmed_delivery *) confirmed;
	pthread_mutex_t lock;
	struct map *shared; /* key: account, mailbox */
};

struct keyword_list *keyword_list_ref(struct keyword_list *k);
void keyword_list_unref(struct keyword_list **k);

/* Finds or makes; the caller counts as a user until shared_leave(). */
struct shared *shared_join(struct store_client *c, uint64_t account, uint32_t mailbox);
void shared_leave(struct shared **s);
/* Events, from the reader thread. */
void shared_changes(struct store_client *c, const struct store_changes *event);
/* The link came up again: nothing that was heard before can be trusted to be complete. */
void shared_all_stale(struct store_client *c);
/* Takes a snapshot that was asked for while `lost` had the value given. Returns -1 when it is malformed.
 * reply->snapshot_fd stays the caller's. Takes the lock. */
int shared_install(struct shared *s, const struct store_view *reply, unsigned lost, struct err *err) WARN_UNUSED;
/* Under the lock: nothing is missing from what the base and the log hold together. */
static inline bool shared_whole(const struct shared *s)
{
	return s->base && s->covered == s->lost;
}
/* Under the lock: the keyword list of a reply or event. */
void shared_set_keywords(struct shared *s, const struct store_name *names, size_t count);
/* Under the lock: makes a new base at the end of the log when the old one is far behind. */
void shared_renew(struct shared *s, size_t behind);
/* Under the lock: something waits for this view. In view.c. */
void view_wake(struct view *v);

#endif
