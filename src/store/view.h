/* store/view - a mailbox as one session is allowed to see it: stable between announcements.
 *
 * A view is a sealed base snapshot of (uid, flags, keywords, modseq), shared between all views of this
 * process while equal, plus the changes that came since and were not announced yet. Sequence numbers are
 * positions in the view; they move only in view_sync(). One thread at a time uses a view (the session's);
 * what is shared underneath is locked here. Used by imap and pop3. */
#ifndef STORE_VIEW_H
#define STORE_VIEW_H

#include "engine/session.h"
#include "store/schema.h"

struct view_entry {
	uint32_t uid;
	uint32_t flags;	   /* FLAG_* */
	uint64_t keywords; /* bits, see view_keyword() */
	uint64_t modseq;
};

/* One a process: owns the channel to the store and everything that is shared between views. */
struct store_client;
struct store_client *
store_client_new(struct engine *engine); /* engine: where view changes wake sessions; may be NULL */
void store_client_free(struct store_client **c);
struct rpc_channel *store_client_channel(struct store_client *c);
/* Shorthand for rpc_call() with the store's deadline. Repeatable calls are those with an id of their own, and reads. */
int store_call(struct store_client *c, const struct rpc_call *call, const void *request, void *reply_r,
	       struct rpc_reply *hold, struct err *err) WARN_UNUSED;

/* The same with a deadline of the caller's. */
int store_call_within(struct store_client *c, const struct rpc_call *call, const void *request, void *reply_r,
		      struct rpc_reply *hold, int64_t timeout_ms, struct err *err) WARN_UNUSED;
/* The caller has given his own answer to a delivery: the store may forget it. Does not wait, and cannot fail: a
 * store that dies before it has struck the delivery off hears of it again when it is back. */
void store_confirm_delivery(struct store_client *c, const uint8_t delivery_id[16], const struct store_id *accounts,
			    size_t count);

/* He could not give it: the same message, if it comes again, is there already. The end of the session's grant says so,
 * too, but comes by way of directory, which may just have died. */
void store_unheard_delivery(struct store_client *c, const uint8_t delivery_id[16]);

struct view;
/* Opens a view. who.wake is woken (session_wake) when something changes. info_r's name points into the view. */
int view_open(struct store_client *c, uint64_t session, uint64_t account, uint32_t mailbox, bool claim_recent,
	      struct session_ref wake, struct view **view_r, struct mailbox_info *info_r, struct err *err) WARN_UNUSED;
void view_close(struct view **v);

uint32_t view_mailbox(const struct view *v);
size_t view_count(const struct view *v);
/* seq from 1 to count. */
struct view_entry view_at(const struct view *v, size_t seq);
/* The sequence number of uid, or 0. With `or_next`: of the first uid >= it, or 0. */
size_t view_seq(const struct view *v, uint32_t uid, bool or_next);
size_t view_first_unseen(const struct view *v);	  /* sequence number of the first message without \Seen; 0: none */
uint32_t view_first_recent(const struct view *v); /* 0: none */
uint32_t view_recent_count(const struct view *v);
/* Whether the last view_sync() could ask: false when the store was away, and the view is as old as it was. */
bool view_synced(const struct view *v);
uint64_t view_highestmodseq(const struct view *v); /* of what the view shows */
size_t view_keyword_count(const struct view *v);
struct str view_keyword(const struct view *v, unsigned bit); /* valid until view_sync or view_close */

/* Something is waiting to be announced. Cheap; any state. */
bool view_pending(const struct view *v);
bool view_gone(const struct view *v); /* the mailbox was deleted, or the right to it */
/* Folds what is waiting into the view and tells it, in the order IMAP wants: expunged (sequence numbers as
 * they stand at that moment, descending uid so that none shifts another untold), then flags (by new sequence
 * number), then the new count. Without allow_expunge messages that went away stay visible (RFC 3501 7.4.1).
 * keywords: the list grew. Any callback may be NULL. */
struct view_events {
	void (*expunged)(void *ctx, size_t seq, uint32_t uid, uint64_t modseq);
	void (*flags)(void *ctx, size_t seq, struct view_entry entry, struct view_entry before); /* as it was shown */
	void (*keywords)(void *ctx);
	void (*exists)(void *ctx, size_t count, uint32_t recent);
	void *ctx;
};
void view_sync(struct view *v, bool allow_expunge, const struct view_events *events);

#endif
