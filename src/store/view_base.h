/* view_base - the sealed snapshot that views share. Private to shared.c and view.c.
 *
 * It comes as chunks (snapshot.h) and most of it is never looked at: SELECT tells counts. Of a large one the chunks
 * stay as they came until somebody asks for an entry. Invariants:
 *   - what it shows never changes; it lives until its last holder lets go;
 *   - count and last_uid agree with the entries, whichever form they have.
 * Any thread. */
#ifndef STORE_VIEW_BASE_H
#define STORE_VIEW_BASE_H

#include "store/view.h"
#include <stdatomic.h>

struct view_base {
	_Atomic uint32_t refs;
	uint32_t count;
	uint32_t last_uid;			    /* 0: it is empty */
	bool all_seen;				    /* nothing in it lacks \Seen; false says nothing */
	_Atomic(const struct view_entry *) entries; /* ascending uid; NULL: still chunks */
	struct str chunks;			    /* mapped */
};

struct view_base *view_base_ref(struct view_base *b);
void view_base_unref(struct view_base **b);
struct view_base *view_base_from(struct view_entry *entries, size_t count); /* takes the malloc'ed entries over */
/* reply->snapshot_fd stays the caller's. NULL with err when it is malformed. */
struct view_base *view_base_from_reply(const struct store_view *reply, struct err *err);

/* First index in a sorted array of structs that begin with a uint32_t (a uid, mostly) whose value is >= key. */
size_t uid_lower_bound(const void *v, size_t n, size_t elem, uint32_t key);

/* All of them. The first call on a large base decodes it. */
const struct view_entry *view_base_entries(struct view_base *b);
/* Index of the first entry with a uid >= the one given, or the count. */
size_t view_base_find(struct view_base *b, uint32_t uid);
/* Index of the first entry without \Seen, or the count. */
size_t view_base_first_unseen(struct view_base *b);

#endif
