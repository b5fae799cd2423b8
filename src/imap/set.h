/* imap/set - sequence sets (RFC 3501 9: sequence-set) against a view. */
#ifndef IMAP_SET_H
#define IMAP_SET_H

#include "imap/parse.h"
#include "store/view.h"

/* Messages of a view: ascending ranges of sequence numbers that do not touch. */
struct imap_seqs {
	struct uid_range *v;
	size_t n, cap;
};

/* uid: the set names UIDs; those the view lacks are left out (6.4.8). Otherwise it names sequence numbers, and
 * one above the count is refused: false. '*' is the last message; "n:*" always includes it. */
bool imap_set_resolve(const struct imap_set *set, const struct view *view, bool uid, struct arena *arena,
		      struct imap_seqs *seqs_r) WARN_UNUSED;
uint64_t imap_seqs_count(const struct imap_seqs *seqs);
/* The same messages as UID ranges, for the store. */
struct uid_range *imap_seqs_uids(const struct imap_seqs *seqs, const struct view *view, struct arena *arena);
/* Sorts ranges and joins those that overlap or touch; returns how many are left. */
size_t imap_ranges_merge(struct uid_range *v, size_t n);
bool imap_ranges_have(const struct uid_range *v, size_t n, uint32_t x);
/* Adds x, which is above all before it. */
void imap_seqs_add(struct arena *arena, struct imap_seqs *seqs, uint32_t x);

#endif
