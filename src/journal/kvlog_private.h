/* Shared by kvlog.c, kvlog_read.c and kvlog_recover.c only. */
#ifndef KVLOG_PRIVATE_H
#define KVLOG_PRIVATE_H

#include "journal/index.h"
#include "journal/journal.h"
#include "journal/kvlog.h"
#include "journal/overlay.h"

#include "base/buf.h"
#include <pthread.h>
#include <stdatomic.h>

enum { RECORD_COMMIT = 1 };

struct kvlog_waiter {
	struct kvlog_waiter *next;
	uint64_t lsn;
	void (*fn)(void *ctx);
	void *ctx;
};

struct kvlog_queue {
	struct kvlog_waiter *head, **tail;
};

struct kvlog {
	struct kvlog_options o;
	struct step *step;
	int lock_fd;
	struct journal *journal;
	struct index *index;
	bool read_only;

	/* The loop's. */
	struct overlay *active, *frozen;
	uint64_t lsn, frozen_lsn;
	struct kvlog_queue commits, checkpoints;
	bool checkpoint_wanted;
	bool whole, frozen_whole; /* the index has all keys, with the overlays */
	uint64_t commit_count, checkpoint_count;
	struct buf scratch;

	/* Index thread. */
	pthread_t thread;
	bool thread_started;
	atomic_bool closing;
	atomic_llong last_commit_ms;
	int64_t walk_at_ms; /* the thread's: not before may the index be walked again */
	pthread_mutex_t lock;
	pthread_cond_t cond, done_cond;
	bool todo;    /* frozen is to be written */
	bool written; /* frozen is written; the loop has not dropped it yet */
	bool failed;  /* and the log is closing: given up */
	bool dirty;   /* active is not empty: watch for quiet */
	bool idle;    /* it was quiet long enough: the loop should freeze */
	bool doubted; /* what was read cannot be so: the index is to be walked */
	bool stop;
};

int kvlog_recover(struct kvlog *k, struct err *err) WARN_UNUSED;

#endif
