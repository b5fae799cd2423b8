/* journal - what was promised, in order, on the disk before anybody is told.
 *
 * Segment files ("journal.0", "journal.1", ...) are written with zeros once and then recycled; a commit is
 * whatever gathered while the previous fdatasync ran.
 *
 * Invariants:
 *  1. LSNs are given without gaps, starting where journal_start() said; records lie in LSN order.
 *  2. durable <= written <= given: a record counts as durable only after an fdatasync that covers it and all
 *     records before it, and (for a new segment) after its name was synced.
 *  3. A block that holds a durable record is never written again before journal_release() freed its segment.
 *  4. journal_append() takes a record only if the segments at hand can hold it and everything before it:
 *     the flusher never runs out of room, so what was taken can always be made durable.
 *  5. A failed write or fdatasync ends the process by storage_failed(). Nothing is retried.
 *
 * Threads: append, release and stop belong to one thread (the owner's loop); the flusher is the journal's own
 * and calls `durable`; the read-only questions may be asked from any thread. */
#ifndef JOURNAL_JOURNAL_H
#define JOURNAL_JOURNAL_H

#include "base/err.h"
#include "journal/record.h"

struct journal;

#define JOURNAL_SEGMENT_SIZE (16u << 20)

struct journal_options {
	int dirfd;	       /* borrowed; the caller holds its lock (see journal_lock_dir) */
	uint64_t size_limit;   /* bytes of all segments; at least two segments are made */
	uint32_t segment_size; /* 0: JOURNAL_SEGMENT_SIZE; a multiple of JOURNAL_BLOCK */
	uint64_t id;	       /* which journal it is, as journal_id() said last time; 0: not known any more */
	/* On the flusher thread: everything up to lsn is durable. Must not block. */
	void (*durable)(void *ctx, uint64_t lsn);
	void *ctx;
};

/* Takes the exclusive lock of a directory (file "lock"), for as long as the descriptor is open. Returns it,
 * or -1: somebody else has it. */
int journal_lock_dir(int dirfd, struct err *err) WARN_UNUSED;

/* Opens the segments that are there and makes what is missing, at least two. Segments of another journal are set
 * aside under another name and reported; when it is not known which is ours (id 0) and they disagree, -1. So it is with
 * segments that a newer version wrote. Starts nothing. */
int journal_open(const struct journal_options *options, struct journal **j_r, struct err *err) WARN_UNUSED;
uint64_t journal_id(const struct journal *j);

/* What is there to be recovered. Nothing of it was told to anybody unless it lies at or below `durable`. */
struct journal_found {
	uint64_t first, last; /* LSNs to be replayed; first 0: none */
	uint64_t lost;	      /* records above `after` that were durable and are not there any more */
	uint64_t lost_first;  /* the first of them */
	bool header_lost;     /* a segment cannot be read at all: more than that may be lost */
	char segment[32];     /* the file where that was found */
};
/* Looks for every valid record with an LSN above `after`; after 0: there is no index, it begins with the oldest
 * segment that all later ones follow. What was torn when the power went is left out: nobody was told of it. */
int journal_scan(struct journal *j, uint64_t after, struct journal_found *found_r, struct err *err) WARN_UNUSED;
/* Gives fn what was found, in order; payloads live during the call. fn returns negative (with err) to stop. */
typedef int journal_record_fn(void *ctx, const struct journal_record *record, struct err *err);
int journal_replay(struct journal *j, journal_record_fn *fn, void *ctx, struct err *err) WARN_UNUSED;

/* Only once everything recovered is safe elsewhere: makes all segments free (damaged ones are kept under another name),
 * begins a freshly salted one with next_lsn and starts the flusher. */
int journal_start(struct journal *j, uint64_t next_lsn, struct err *err) WARN_UNUSED;

/* Takes one record whose payload is the parts one after the other (copied). Returns its LSN, or 0 when the
 * journal is full (size_limit, disk) or the record too large: nothing was taken. */
uint64_t journal_append(struct journal *j, uint32_t type, const struct str *parts, size_t count,
			struct err *err) WARN_UNUSED;

uint64_t journal_durable(struct journal *j);
/* Waits until lsn is durable. Any thread but the flusher. */
void journal_wait(struct journal *j, uint64_t lsn);
/* Records up to lsn are not needed any more: segments that hold nothing else may be reused. */
void journal_release(struct journal *j, uint64_t lsn);
/* Some segment is full: time for a checkpoint. */
bool journal_wants_checkpoint(struct journal *j);

struct journal_stats {
	uint64_t bytes, segments, records, flushes;
};
void journal_stats(struct journal *j, struct journal_stats *stats_r);

/* Flushes what was taken, ends the flusher, frees. */
void journal_close(struct journal **j);

#endif
