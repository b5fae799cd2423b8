/* snapshot - a mailbox as it travels to a front end: its chunks as the index has them (key H, keys.h), each behind its
 * number and length in host byte order. Nothing is decoded on the way: most of who opens a mailbox wants to know how
 * many messages there are, and the front end reads the rest when somebody asks (view_base.c). */
#ifndef STORE_SNAPSHOT_H
#define STORE_SNAPSHOT_H

#include "store/keys.h"

struct account;
struct mailbox;

struct snapshot_chunk {
	uint32_t number; /* uid >> 6 */
	uint64_t present;
	struct str value;
};

/* Appends one. */
void snapshot_add(struct buf *out, uint32_t number, struct str value);
/* Takes the first chunk off `rest`: 1, 0 at the end, -1 when that is not one. Values were checked when the snapshot was
 * made, and are not here. */
int snapshot_next(struct str *rest, struct snapshot_chunk *c_r) WARN_UNUSED;

/* Fills count and snapshot, or, when it is large, snapshot_fd. Outside of a transaction of the account: the engine has
 * all that is in memory. -1 err; when the index is damaged, the account is rebuilt. Loop thread only. */
int snapshot_make(struct account *a, struct mailbox *m, struct arena *arena, struct store_view *out,
		  struct err *err) WARN_UNUSED;

#endif
