/* kvlog - durable ordered keys and values: a journal in front, an overlay in memory, an index behind.
 * Shared by the store's local engine and the queue.
 *
 *	commit --> journal (durable) --> done()
 *	   \-----> active overlay --freeze--> frozen overlay --settle, one transaction--> index
 *
 * Invariants:
 *  1. index LSN <= frozen LSN <= durable LSN when the index is written: it never leads the journal.
 *  2. A read sees active over frozen over index; the frozen overlay is dropped only after its transaction.
 *  3. A journal segment is released only when the index holds all of it and the owner's own work for these
 *     records (files) is settled: done and synced.
 *  4. done() callbacks run in commit order, on the loop.
 *
 * Besides keys a commit carries `extra`, bytes that only the owner understands (file operations, contents);
 * at recovery they are given back in order through `replay`.
 *
 * Threads: the loop calls everything; the hooks say where they run. */
#ifndef JOURNAL_KVLOG_H
#define JOURNAL_KVLOG_H

#include "base/arena.h"
#include "base/err.h"
#include "journal/step.h"

struct kvlog;

#define KVLOG_KEY_MAX	500u
#define KVLOG_EXTRA_MAX 64u /* parts of extra */

struct kvlog_op {
	struct str key;
	struct str value;
	bool del;
};

struct kvlog_hooks {
	/* Recovery, in order: a commit that the index does not hold yet. Negative with err: recovery fails. */
	int (*replay)(void *ctx, uint64_t lsn, struct str extra, struct err *err);
	/* Recovery, after the last replay: keys can be read; on return everything replayed is synced. */
	int (*recovered)(void *ctx, struct err *err);
	/* Flusher thread, must not block. */
	void (*durable)(void *ctx, uint64_t lsn);
	/* Index thread: waits until the owner's work for records up to lsn is done, and syncs it. Negative: not
	 * possible now; tried again in a second, unless the log is being closed. */
	int (*settle)(void *ctx, uint64_t lsn, struct err *err);
	/* Index thread (recovery: the opening one): the index holds everything up to lsn; recovery will not ask for it
	 * again. */
	void (*settled)(void *ctx, uint64_t lsn);
	/* Index thread (recovery: the opening one): the disk is full, here is the moment to give something up. */
	void (*disk_full)(void *ctx);
	void *ctx; /* any hook may be NULL */
};

struct kvlog_options {
	int dirfd; /* borrowed */
	struct step_loop loop;
	struct kvlog_hooks hooks;
	uint64_t journal_size_limit;
	uint32_t segment_size; /* 0: default */
	size_t overlay_limit;  /* 0: 16 MB */
	int64_t idle_ms;       /* quiet time before a checkpoint; 0: 3 s */
	/* Every value says all there is to know of its key. When the index was lost, the keys of the journal are
	 * applied all the same; otherwise they would be parts of something whose rest is gone. */
	bool keys_alone;
};

/* Takes the directory's lock, recovers, checkpoints, starts. Blocks. When recovery cannot finish (hooks fail,
 * disk full) the log opens all the same, for reading only. -1: locked or unreadable. *k_r is set before the
 * hook `recovered` is called. */
int kvlog_open(const struct kvlog_options *options, struct kvlog **k_r, struct err *err) WARN_UNUSED;
bool kvlog_read_only(const struct kvlog *k);
/* Read-only, but files can be written again: opening it anew (in a new process) is worth a try. */
bool kvlog_may_recover(struct kvlog *k);
/* The index is new, or was gone or damaged: what recovery gave to replay is true, but not all keys are known (none,
 * without keys_alone). The owner makes them anew and says when he has: until the checkpoint after that every start
 * finds it so again, for a crash may have come in between. */
bool kvlog_index_lost(const struct kvlog *k);
void kvlog_index_rebuilt(struct kvlog *k);

/* Applies ops in order, appends extra. Returns the LSN, or 0 with err and nothing done. done may be NULL. What the
 * owner has to do for the record it notes before it returns to its loop: no checkpoint begins before that. */
uint64_t kvlog_commit(struct kvlog *k, const struct kvlog_op *ops, size_t op_count, const struct str *extra,
		      size_t extra_count, void (*done)(void *ctx), void *ctx, struct err *err) WARN_UNUSED;
/* The index is being written, and since that began three times as much was committed as begins another. Who can wait
 * should not commit now: nothing else bounds what he commits. */
bool kvlog_is_behind(const struct kvlog *k);
/* Calls fn when all that was committed so far is durable; at once if it is. */
void kvlog_barrier(struct kvlog *k, void (*fn)(void *ctx), void *ctx);

/* 1, 0, -1; the value is copied. */
int kvlog_get(struct kvlog *k, struct str key, struct arena *a, struct str *value_r, struct err *err) WARN_UNUSED;
/* As store_engine_range(). */
typedef int kvlog_range_fn(void *ctx, struct str key, struct str value);
int kvlog_range(struct kvlog *k, struct str first, struct str end, bool reverse, kvlog_range_fn *fn, void *ctx,
		struct err *err) WARN_UNUSED;
/* Forward, and without the values (those of the overlays apart): what is damaged can be listed, and dropped. */
int kvlog_keys(struct kvlog *k, struct str first, struct str end, kvlog_range_fn *fn, void *ctx,
	       struct err *err) WARN_UNUSED;

/* Whether the index has a key: what recovery brings, and what was committed since, does not count. False when it cannot
 * be read. */
bool kvlog_index_has_keys(struct kvlog *k);

/* What the owner has read cannot be so: the index thread walks the whole file, as a start does, and ends the process if
 * it is damaged; the next one makes it anew. A get, range or keys that fails for more than a damaged value asks for it
 * itself (with keys_alone, for that too). Not more often than every few seconds. */
void kvlog_doubt(struct kvlog *k);

/* fn (may be NULL) is called when all that was committed so far is in the index. */
void kvlog_checkpoint(struct kvlog *k, void (*fn)(void *ctx), void *ctx);
/* The last LSN given; 0 before the first of all. */
uint64_t kvlog_lsn(const struct kvlog *k);

struct kvlog_stats {
	uint64_t commits, flushes, checkpoints, journal_bytes, journal_segments;
};
void kvlog_stats(struct kvlog *k, struct kvlog_stats *stats_r);

/* Flushes, makes a last checkpoint (if that is possible), calls what is due, frees. */
void kvlog_close(struct kvlog **k);

/* The payload of a commit record; split for recovery and its fuzz target. Calls fn for each key operation;
 * returns false when the bytes are not a commit. */
bool kvlog_payload_parse(struct str payload, void (*fn)(void *ctx, const struct kvlog_op *op), void *ctx,
			 struct str *extra_r) WARN_UNUSED;

#endif
