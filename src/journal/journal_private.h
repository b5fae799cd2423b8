/* Shared by journal.c and recover.c only. */
#ifndef JOURNAL_PRIVATE_H
#define JOURNAL_PRIVATE_H

#include "base/mem.h"
#include "base/vec.h"
#include "journal/journal.h"
#include <pthread.h>

enum segment_state { SEGMENT_FREE, SEGMENT_CURRENT, SEGMENT_FULL };

struct segment {
	unsigned number;
	int fd;
	enum segment_state state;
	bool name_synced;    /* its name and its zeros survive a crash */
	bool header_written; /* of this life */
	uint64_t salt;
	uint64_t first_lsn, last_lsn;
	uint64_t needed;	     /* when it was begun */
	struct segment_header found; /* at open; first_lsn 0: none valid */
	bool damaged;		     /* its file is kept under another name when the journal starts */
	uint64_t highest;	     /* LSN of the last valid record in it */
};

/* Where a record is that will be replayed. */
struct journal_place {
	uint64_t lsn, batch;
	size_t segment; /* index in segments */
	size_t at, len;
	uint32_t type;
};

struct pending {
	struct pending *next;
	struct segment *segment; /* by the layout */
	size_t offset;
	uint64_t lsn;
	uint32_t type;
	uint32_t len;
	uint8_t data[]; /* room for the record's header, then the payload */
};

struct journal {
	struct journal_options o;
	VEC(struct segment *) segments;
	bool started;
	pthread_t flusher;
	VEC(struct journal_place) places; /* between scan and replay, by LSN */

	pthread_mutex_t lock; /* all below, and segment state */
	pthread_cond_t work, flushed;
	bool stop;
	struct pending *head, **tail;
	uint64_t next_lsn, durable, released;
	struct segment *current;
	size_t at; /* where the next batch goes in current */
	/* Where the queue would end if each of its records were a batch of its own (invariant 4). */
	size_t sim_left, sim_free;
	uint64_t records, flushes;

	/* Flusher only. */
	uint8_t *batch;
	size_t batch_size;
	uint32_t prev_crc;
};

int segment_create(struct journal *j, unsigned number, bool sync, struct err *err) WARN_UNUSED;
/* Damaged segments under another name, new ones in their places. */
int segments_replace(struct journal *j, struct err *err) WARN_UNUSED;
int segments_find(struct journal *j, struct err *err) WARN_UNUSED;

#endif
