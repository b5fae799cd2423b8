/* msg/summary - what IMAP and POP3 need of a message without reading it again: envelope, structure, preview.
 *
 * Made once, where the message is received (deliver, APPEND, or the first look at a foreign file); kept by the
 * store as bytes that it does not interpret. The bytes carry a version; an unknown or damaged one reads as
 * "absent", and the message is parsed again. A large one is compressed with zlib. */
#ifndef MSG_SUMMARY_H
#define MSG_SUMMARY_H

#include "msg/mime.h"

struct summary {
	struct mime_part *root;
	struct str preview;
	int64_t sent_date; /* Date: field, seconds; INT64_MIN: none */
	int sent_zone;
};

/* message: stored form. Appends the encoded summary to out. */
void summary_make(struct str message, struct buf *out);
void summary_encode(const struct summary *s, struct buf *out);
/* False if absent or damaged. The strings point into the bytes, or into the arena. */
bool summary_decode(struct str bytes, struct arena *arena, struct summary *s_r) WARN_UNUSED;
/* Decoded form from the message itself. */
void summary_parse(struct str message, struct arena *arena, struct summary *s_r);
/* Both, of the message behind `prefix`: lines that stand in front of it in its file and are no part of its structure,
 * which begins behind them. The Date, From and Message-ID that submission added there are in the envelope. */
void summary_make_behind(struct str prefix, struct str message, struct buf *out);
void summary_parse_behind(struct str prefix, struct str message, struct arena *arena, struct summary *s_r);

#endif
