/* io_record - the power-loss recorder: what a disk could look like if the power went after any operation.
 *
 * While it runs it keeps the history of all operations (through os/io.h) below one directory. From every prefix
 * of the history it makes images of that directory. An operation that a later sync of the prefix covers is in
 * the image; every other may be there or not:
 *   - a write, sector by sector (512 bytes): lost, torn, or there before an older one that is not;
 *   - a name (create, rename, link, unlink, mkdir, rmdir): covered only by an fsync of a directory concerned or
 *     by syncfs, never by an fsync of the file.
 * A sync covers what was finished before it began. For tests only; one recorder at a time. */
#ifndef OS_IO_RECORD_H
#define OS_IO_RECORD_H

#include "base/err.h"
#include "os/io.h"

struct io_record;

/* Starts recording below the directory rootfd, which is borrowed, and installs the hook. What is there already (the
 * image of an earlier loss, whose recovery is recorded in its turn) counts as durable: it is the first
 * io_record_base() operations. */
struct io_record *io_record_new(int rootfd);
size_t io_record_base(const struct io_record *r);
void io_record_stop(struct io_record *r); /* removes the hook; the history stays */
void io_record_free(struct io_record **r);

/* Puts a mark into the history: "from here on, `value` has been promised". Any thread. */
void io_record_mark(struct io_record *r, uint64_t value);

/* For I/O that does not go through os/io.h (LMDB): call after a write, around a sync. Any thread. */
void io_record_write(struct io_record *r, int fd, const void *data, size_t len, off_t offset);
void io_record_sync_begin(struct io_record *r);
void io_record_sync_end(struct io_record *r, int fd);

size_t io_record_length(struct io_record *r);
/* The n-th operation (from 1 on) is a sync. */
bool io_record_is_sync(const struct io_record *r, size_t n);
/* The highest mark within the first n operations; 0: none. */
uint64_t io_record_marked(const struct io_record *r, size_t n);

/* What becomes of the operations that no sync covers. */
enum io_loss {
	IO_LOSE_ALL,
	IO_LOSE_NONE,
	IO_LOSE_RANDOM, /* each name and each sector is there or not */
	IO_LOSE_FILES,	/* each file and each directory has all of its operations or none */
	IO_LOSE_DATA,	/* names are there, what was written is not: a rename before the data it covers */
	IO_LOSE_ZERO,	/* names and sizes are there, the bytes are zeros */
	IO_LOSE_NAMES,	/* what was written is there, names are not */
	IO_LOSE_TORN,	/* all is there, but of the last write only some first sectors */
	IO_LOSE_KINDS
};
/* Writes the image after the first n operations into the empty directory dirfd. Returns 0, or -1 with err. */
int io_record_image(const struct io_record *r, size_t n, enum io_loss loss, uint64_t seed, int dirfd,
		    struct err *err) WARN_UNUSED;

#endif
