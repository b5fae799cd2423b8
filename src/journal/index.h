/* index - the ordered keys and values of everything up to one LSN, in LMDB (one file, "index.mdb").
 *
 * Each stored value is {version, CRC32C of key and value, value}. An overlay and its LSN are written in one
 * transaction, so the file always stands at a definite LSN.
 *
 * Threads: index_get and cursors on the owner's loop; index_apply on one other thread, and never a second time
 * before the loop knows of the first. As LMDB reuses only pages that were freed before the transaction under
 * way began, a short read on the loop never meets a page in reuse, and no reader table is needed. */
#ifndef JOURNAL_INDEX_H
#define JOURNAL_INDEX_H

#include "base/arena.h"
#include "base/err.h"
#include "journal/overlay.h"

struct index;

/* Opens or creates. The file is walked first (journal/index_check.h); one that is none of ours or damaged is set aside
 * as "index.damaged", reported, and a new one is begun. values: a single damaged value is enough for that; otherwise it
 * is found when it is read. Changes the working directory for a moment: LMDB takes names only. */
int index_open(int dirfd, bool values, struct index **ix_r, struct err *err) WARN_UNUSED;
/* Walks the file of an open index again (values: and them, too): true when it is damaged, and why. Not while it is
 * written. */
bool index_damaged(int dirfd, bool values, struct err *why) WARN_UNUSED;
/* Sets the file aside all the same, for it is older than what the journal begins with. */
int index_discard(struct index *ix, int dirfd, struct err *err) WARN_UNUSED;
void index_close(struct index **ix);
uint64_t index_lsn(const struct index *ix); /* 0: nothing was ever written */
/* Which journal it belongs to; 0: it does not say. Written with the next index_apply(). */
uint64_t index_journal(const struct index *ix);
void index_journal_set(struct index *ix, uint64_t id);
/* Its owner has said that no key is missing: see index_apply(). A new index is not whole. */
bool index_whole(const struct index *ix);

/* 1 with a copy in the arena, 0 absent, -1 err (damaged). */
int index_get(struct index *ix, struct str key, struct arena *a, struct str *value_r, struct err *err) WARN_UNUSED;

struct index_cursor;
/* Stands on the first key >= `from` (reverse: the last < `from`; STR_NULL: the last of all). One at a
 * time, closed before the caller returns to its events. */
int index_cursor_open(struct index *ix, struct str from, bool reverse, struct index_cursor **c_r,
		      struct err *err) WARN_UNUSED;
/* 1 with key and value where it stands, 0 at the end, -1 err. */
int index_cursor_at(struct index_cursor *c, struct str *key_r, struct str *value_r, struct err *err) WARN_UNUSED;
/* The same without the value, and the value of where it stands: a damaged one hides no other key. */
int index_cursor_key(struct index_cursor *c, struct str *key_r, struct err *err) WARN_UNUSED;
int index_cursor_value(struct index_cursor *c, struct str *value_r, struct err *err) WARN_UNUSED;
void index_cursor_step(struct index_cursor *c);
void index_cursor_close(struct index_cursor **c);

/* Writes all of the overlay and its LSN: durable when it returns 0. Grows the map as needed. whole: with it, no key
 * is missing; once said it holds. */
int index_apply(struct index *ix, const struct overlay *o, uint64_t lsn, bool whole, struct err *err) WARN_UNUSED;

#endif
