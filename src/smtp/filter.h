/* smtp/filter - a message as it comes off the wire, turned into its stored form while it streams.
 *
 * Two layers in one pass. The line layer finds the end of the data (DATA: CRLF "." CRLF and nothing else,
 * RFC 5321 4.1.1.4; BDAT: a count), undoes dot-stuffing and turns each line end into LF, bare ones too. The
 * header layer looks at the header's lines as they pass: it counts hops, remembers what the transaction
 * wants to know, removes Bcc on submission, and puts an empty line where the header ends without one.
 *
 * Invariants: out never holds more than one byte more than came in, but for that empty line; memory is
 * bounded by one physical header line (line_max); after `refused` nothing more is put out, the rest is
 * swallowed. Not thread-safe; belongs to one transaction. */
#ifndef SMTP_FILTER_H
#define SMTP_FILTER_H

#include "base/arena.h"
#include "base/buf.h"

struct smtp_filter_limits {
	uint64_t message_max; /* bytes in wire form, 0: no limit */
	size_t line_max;      /* one header line, with its continuation lines */
	size_t header_max;    /* the whole header */
	unsigned field_max;   /* header fields */
	bool submission;      /* remove Bcc */
	bool local;	      /* of a program of this machine: the line of an mbox in front goes, too */
	/* May be NULL. Each whole address field passes here with its line ends: what it puts into `out` stands in its
	 * place, nothing leaves it as it is. */
	void (*field)(void *ctx, struct str name, struct str field, struct buf *out);
	void *field_ctx;
};

enum smtp_filter_refusal {
	FILTER_OK,
	FILTER_TOO_LARGE,
	FILTER_HEADER_LINE,
	FILTER_HEADER_SIZE,
	FILTER_HEADER_COUNT,
};

struct smtp_filter {
	struct smtp_filter_limits limits;
	struct arena *arena; /* the transaction's */

	/* line layer */
	enum { FILTER_BOL, FILTER_DOT, FILTER_DOT_CR, FILTER_TEXT } state;
	bool chunked; /* BDAT: no dots, `remaining` bytes in this chunk */
	uint64_t remaining;
	bool pending_cr;    /* a CR whose next byte has not come yet */
	char last;	    /* last byte put out, to see CR CR LF */
	bool bare_lf;	    /* a bare LF came (and was taken for a line end) */
	bool as_is;	    /* CR CR LF: LF to CRLF would not give the bytes back */
	uint64_t wire_size; /* bytes of the message with CRLF line ends */

	/* header layer */
	bool in_header;
	bool dropping;	  /* continuation lines of a removed field follow */
	struct buf line;  /* the physical line under way */
	struct buf held;  /* the field under way, for limits.field */
	size_t held_name; /* length of its name; 0: none is held */
	size_t header_size, field_size;
	unsigned fields;
	enum smtp_filter_refusal refused;

	/* what was seen */
	unsigned hops; /* Received: fields */
	bool has_from, has_date, has_message_id;
	struct str message_id; /* for the log, clipped */
	struct str *delivered_to;
	size_t delivered_to_count, delivered_to_cap;
};

void smtp_filter_init(struct smtp_filter *f, const struct smtp_filter_limits *limits, struct arena *arena);
void smtp_filter_release(struct smtp_filter *f);
/* The next `count` bytes are a chunk of BDAT. */
void smtp_filter_chunk(struct smtp_filter *f, uint64_t count);
/* bulk_filter.take (engine/session.h). state: struct smtp_filter. */
size_t smtp_filter_take(void *state, struct str in, struct buf *out, bool *done);
/* After the last byte: what is still held back (an unfinished header line, a CR at the very end of BDAT). */
void smtp_filter_finish(struct smtp_filter *f, struct buf *out);

#endif
