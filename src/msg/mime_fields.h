/* mime_fields - the values of MIME header fields (RFC 2045 5, RFC 2183, RFC 2231). Inside msg/ only. */
#ifndef MSG_MIME_FIELDS_H
#define MSG_MIME_FIELDS_H

#include "msg/mime.h"

/* What is kept of one message, so that its tree has a ceiling whatever the message holds. */
struct mime_budget {
	size_t text; /* bytes of values left */
	size_t addresses;
};

/* A copy of at most MIME_VALUE_MAX bytes, within the budget; never ptr NULL. */
struct str mime_keep(struct mime_budget *budget, struct arena *arena, struct str s);
/* "; name=value" and so on: at most MIME_PARAMS_MAX, RFC 2231 pieces joined. */
void mime_params_parse(struct str rest, struct mime_budget *budget, struct arena *arena, struct mime_param **params_r,
		       size_t *count_r);
/* Everything that the header block says of the part; defaults of RFC 2045 5.2, or of a digest (RFC 2046 5.1.5). */
void mime_part_fields(struct mime_part *part, struct str header, bool in_digest, struct mime_budget *budget,
		      struct arena *arena);
struct envelope *mime_envelope(struct str header, struct mime_budget *budget, struct arena *arena);

#endif
