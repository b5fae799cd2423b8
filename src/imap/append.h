/* imap/append - line ends of an APPENDed message: the wire's CRLF to the LF that files hold. */
#ifndef IMAP_APPEND_H
#define IMAP_APPEND_H

#include "base/buf.h"

/* True if LF line ends can stand for the message's, so that CRLF to LF and back gives the same bytes. */
bool imap_append_is_clean(struct str message);
/* Converts as bytes pass; a bulk filter. CR LF becomes LF; everything else stays. */
struct imap_append_filter {
	uint64_t left;	/* bytes of the literal still to come */
	uint64_t lines; /* LF written */
	uint64_t crs;	/* CR that wait for what follows */
};
size_t imap_append_filter(void *filter, struct str in, struct buf *out, bool *done);

#endif
