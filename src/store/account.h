/* account - an account as the loop thread holds it: header, mailboxes, and the chunks that were needed lately.
 *
 * What stands here is what the engine holds, pending commits included; it is a cache and can be dropped at any
 * moment between two transactions (account_forget), except while commits of the account are under way.
 * Invariants:
 *   - entries and counts change only through message.c, inside a transaction;
 *   - a transaction that fails forgets every account that it touched: nothing half-done stays in memory;
 *   - mailboxes are never moved in memory; pointers to chunks die at account_forget().
 * Loop thread only. */
#ifndef STORE_ACCOUNT_H
#define STORE_ACCOUNT_H

#include "base/vec.h"
#include "store/engine.h"
#include "store/keys.h"

struct store_service;
struct txn;

struct chunk {
	uint32_t number; /* uid >> 6 */
	uint64_t present;
	struct hot_entry hot[CHUNK_UIDS];
	struct static_entry *fixed; /* NULL: not loaded */
	struct arena names;	    /* of foreign files in `fixed` */
	bool hot_dirty, fixed_dirty;
};

struct mailbox {
	uint32_t id;
	struct mailbox_record rec;		 /* name and folder are malloc'ed */
	struct str keywords[STORE_KEYWORDS_MAX]; /* malloc'ed */
	size_t keyword_count;
	VEC(struct chunk *) chunks; /* ascending number */
	size_t chunk_last;	    /* place in `chunks` that was looked for last */
	bool complete;		    /* every chunk that exists is in `chunks` */
	bool dirty, keywords_dirty, deleted_now;
	bool claimed;	/* rec.recent_from was raised since the record was written */
	bool noted;	/* the uidlist carries its V line */
	int passed_bit; /* of $Forwarded, or -1 */
};

struct note {
	uint8_t delivery_id[16];
	struct note_record rec; /* malloc'ed */
};

struct look_waiter {
	void (*fn)(void *ctx);
	void *ctx;
};

/* What is known of a folder on disk; outlives the cache of its account. */
struct folder_state {
	uint32_t mailbox;
	uint64_t stamp;	  /* of the directory at the last merge */
	int64_t stamp_ms; /* when that stamp was seen first: */
	bool trusted;	  /* the folder was read after the clock of the file system had moved on from that */
	uint64_t saved;	  /* the stamp that stands in the index, of a folder that was trusted at the end */
	bool saved_read;
	bool names_unseen; /* nobody has looked whether names lag (a crash), since it was trusted at the start */
	uint64_t mark;	   /* watch_mark() before the last merge */
	bool scanning;
	int64_t scan_at_ms; /* a scan is due then; 0: none */
	VEC(struct look_waiter) waiters;
	VEC(uint32_t) suspects; /* not in the directory at the last scan */
	int64_t suspects_ms;
	int64_t gone_ms; /* since when its directory is missing; 0: it is there */
};

struct account {
	struct store_service *svc;
	uint64_t id;
	struct account_header header; /* path and host are malloc'ed */
	bool dirty;
	bool fresh;			 /* made by a transaction that is not committed yet */
	VEC(struct mailbox *) mailboxes; /* in no order */
	size_t mailbox_last;		 /* place in `mailboxes` that was found last by its id */
	VEC(struct note) notes;
	VEC(struct answer_record) answers; /* malloc'ed */
	VEC(struct str) subscriptions;	   /* names that are no mailboxes; malloc'ed */
	int64_t used_ms;
	size_t chunk_count;
};

/* 1: *a_r is there; 0: no such account (yet); -1 err: its records are damaged. */
int account_get(struct store_service *svc, uint64_t id, struct account **a_r, struct err *err) WARN_UNUSED;
/* Makes header, INBOX and default folders, as part of the transaction. */
int account_create(struct txn *t, uint64_t id, struct str path, bool folders, struct account **a_r,
		   struct err *err) WARN_UNUSED;
void account_forget(struct store_service *svc, uint64_t id);
/* Frees accounts, and chunks of accounts, that were not used lately when there are too many. */
void accounts_trim(struct store_service *svc);

struct mailbox *account_mailbox(struct account *a, uint32_t id);
struct mailbox *account_mailbox_named(struct account *a, struct str name);
struct mailbox *account_mailbox_role(struct account *a, uint8_t role);
struct mailbox *account_mailbox_folder(struct account *a, struct str folder);
bool account_subscribed_name(const struct account *a, struct str name, size_t *at_r);
/* The bit of a keyword, or -1. */
int mailbox_keyword(const struct mailbox *m, struct str name);

/* The chunk with that number; with `make` an empty one where there is none. 1, 0 absent, -1 err. */
int chunk_get(struct account *a, struct mailbox *m, uint32_t number, bool fixed, bool make, struct chunk **c_r,
	      struct err *err) WARN_UNUSED;
int chunk_load_fixed(struct account *a, struct mailbox *m, struct chunk *c, struct err *err) WARN_UNUSED;
/* The first message with from <= uid <= last. 1, 0 none, -1 err. */
int message_next(struct account *a, struct mailbox *m, uint32_t from, uint32_t last, uint32_t *uid_r,
		 struct chunk **c_r, struct err *err) WARN_UNUSED;
static inline unsigned chunk_slot(uint32_t uid)
{
	return uid & (CHUNK_UIDS - 1);
}
/* The first UID behind the chunk, 0: there is none. */
static inline uint32_t chunk_next(const struct chunk *c)
{
	return (c->number + 1) << 6;
}
/* The index has told something that cannot be: the account is rebuilt. -1 err. */
int account_broken(struct account *a, struct err *err) WARN_UNUSED;
/* Reads every chunk of the mailbox at once. */
int mailbox_load(struct account *a, struct mailbox *m, struct err *err) WARN_UNUSED;
uint32_t mailbox_recent(struct account *a, struct mailbox *m);
/* How many messages stand in the chunks of a mailbox that was read whole. */
uint32_t mailbox_count(const struct mailbox *m);
/* Does the name of a file not say yet what the index says? Looks at every chunk, and keeps none. */
bool mailbox_lags(struct account *a, const struct mailbox *m);
/* The first key behind its chunks (H). */
struct str mailbox_chunks_end(struct arena *arena, const struct account *a, const struct mailbox *m);

/* For creation and loading. */
struct mailbox *mailbox_new(struct account *a, uint32_t id, const struct mailbox_record *rec);
void mailbox_keywords_set(struct mailbox *m, const struct str *names, size_t count);
struct str str_own(struct str s); /* a malloc'ed copy */

/* The base name of a message's file. */
struct str entry_base(struct arena *arena, const struct account *a, const struct static_entry *e);
/* The letters that the file's name should carry (PROJECTED_CUR when it belongs into cur/). */
unsigned entry_projection(const struct mailbox *m, const struct hot_entry *h);

#endif
