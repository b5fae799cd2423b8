/* overlay - keys and values that were committed since the last checkpoint, in order, in memory.
 *
 * A skip list. A key stands for a value or for a tombstone (deleted since). Nodes never move or vanish until
 * the overlay is freed, so iterators stay valid across puts; a value lives until its key is put again. All memory goes
 * at once, with the overlay: what overlay_bytes() counts are the values put over, too. One thread at a time; once
 * nobody writes any more (frozen), any number may read. */
#ifndef JOURNAL_OVERLAY_H
#define JOURNAL_OVERLAY_H

#include "base/str.h"

struct overlay;
struct overlay_node;

struct overlay *overlay_new(void);
void overlay_free(struct overlay **o);
size_t overlay_bytes(const struct overlay *o);
size_t overlay_count(const struct overlay *o);

void overlay_put(struct overlay *o, struct str key, struct str value);
void overlay_del(struct overlay *o, struct str key);

const struct overlay_node *overlay_find(const struct overlay *o, struct str key);   /* NULL: nothing known of it */
const struct overlay_node *overlay_seek(const struct overlay *o, struct str key);   /* the first >= key, or NULL */
const struct overlay_node *overlay_before(const struct overlay *o, struct str key); /* the last < key, or NULL */
const struct overlay_node *overlay_first(const struct overlay *o);
const struct overlay_node *overlay_last(const struct overlay *o);
const struct overlay_node *overlay_next(const struct overlay_node *n);
const struct overlay_node *overlay_prev(const struct overlay_node *n);

struct str overlay_key(const struct overlay_node *n);
/* False for a tombstone. */
bool overlay_value(const struct overlay_node *n, struct str *value_r);

#endif
