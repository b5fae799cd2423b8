/* spool - bodies too large for the journal, written by a front end while they arrive.
 *
 *	OPEN --finish: length and CRC right, file and name synced--> FINISHED --use: a commit names it--> USED --> gone
 *
 * The writer holds a descriptor of the file until it closes it, so contents are always copied out of the
 * spool: what a captured front end writes later never reaches a stored message.
 * Thread-safe. Files are named by the id in hex, in the directory "spool". */
#ifndef JOURNAL_SPOOL_H
#define JOURNAL_SPOOL_H

#include "base/err.h"

struct spool;

/* limit: bytes of blobs that no commit has used yet. */
int spool_open(int dirfd, uint64_t limit, struct spool **s_r, struct err *err) WARN_UNUSED;
void spool_close(struct spool **s);

int spool_begin(struct spool *s, uint64_t size_hint, uint64_t *id_r, int *fd_r, struct err *err) WARN_UNUSED;
/* Blocks: reads the whole file and syncs. A blob that fails is dropped. */
int spool_finish(struct spool *s, uint64_t id, uint64_t size, uint32_t crc, struct err *err) WARN_UNUSED;
/* Size of a finished blob that no commit used. False: there is none of this id. */
bool spool_finished(struct spool *s, uint64_t id, uint64_t *size_r);
/* A commit names it: from now on only spool_remove() ends it. The blob is finished. */
void spool_use(struct spool *s, uint64_t id);
/* Read-only descriptor, or -1. */
int spool_read(struct spool *s, uint64_t id, struct err *err) WARN_UNUSED;
void spool_drop(struct spool *s, uint64_t id);	 /* unless it is used */
void spool_remove(struct spool *s, uint64_t id); /* used or not */
/* After a restart: unlinks all files but those that spool_keep() named (which are USED). */
void spool_keep(struct spool *s, uint64_t id);
void spool_sweep(struct spool *s);

#endif
