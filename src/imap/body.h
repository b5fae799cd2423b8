/* imap/body - the stored bytes of a message, counted and sent as the wire sees them.
 *
 * Files hold LF, the wire CRLF (unless as_is). A "wire" number counts bytes as sent; a "file" number counts bytes
 * as stored, from the very first (prefix included). Whole bodies go out as file slices: nothing is read but to
 * count line ends. A NUL, which no literal may hold (RFC 3501 9: CHAR8), goes out as 0x80, as Dovecot sends it: sizes
 * stay what they are, and so does the file. */
#ifndef IMAP_BODY_H
#define IMAP_BODY_H

#include "base/vec.h"
#include "engine/rpc.h"
#include "engine/session.h"
#include "store/schema.h"

#define IMAP_BODY_LOAD_MAX (128u << 20) /* what is ever read into memory of one message */

/* How many LF of a large file go out as CRLF, up to each multiple of IMAP_MARK_BYTES: what is asked of one message
 * again and again (parts, or a partial range after the other) is not counted from its beginning each time. Grows as far
 * as is asked for. */
#define IMAP_MARK_BYTES 65536u
struct imap_marks {
	uint32_t uid; /* of the message they are of; for the owner */
	uint64_t size;
	VEC(uint64_t) lfs; /* [i]: of the bytes before i * IMAP_MARK_BYTES */
};

struct imap_body {
	int fd;			  /* -1: bytes */
	struct imap_marks *marks; /* or NULL */
	struct str bytes;
	uint64_t size; /* file */
	bool as_is;
	bool failed; /* reading stopped working */
};

/* Takes over fd (or -1). Size from the file itself: another program may have changed it. */
void imap_body_init(struct imap_body *b, int fd, struct str bytes, bool as_is);
void imap_body_release(struct imap_body *b);

/* Appends the region's wire bytes to out; only of a body in memory. */
void imap_body_wire(struct imap_body *b, uint64_t from, uint64_t len, struct buf *out);
/* From now on the body uses these marks, and forgets what they say of another message. They outlive it. */
void imap_body_mark(struct imap_body *b, struct imap_marks *marks, uint32_t uid);
void imap_marks_release(struct imap_marks *marks);

/* Wire bytes of the file bytes from .. from + len. */
uint64_t imap_body_wire_len(struct imap_body *b, uint64_t from, uint64_t len);
/* Of those, the file bytes that are there: never more than go over the wire, and known without counting. */
uint64_t imap_body_file_len(const struct imap_body *b, uint64_t from, uint64_t len);
/* Sends `count` wire bytes of that region, from the wire byte `start` on; all of them must be there. When they cannot
 * be read the connection breaks. */
void imap_body_send(struct session *io, struct imap_body *b, uint64_t from, uint64_t len, uint64_t start,
		    uint64_t count);
/* Appends file bytes to out. False if they cannot be read. */
bool imap_body_read(struct imap_body *b, uint64_t from, uint64_t len, struct buf *out);

#endif
