/* msg/verp - variable envelope return paths: whom a bounce is about stands in the address that it comes back to.
 *
 *	owner-list@example.org, for user@elsewhere.test, with "+=":  owner-list+user=elsewhere.test@example.org */
#ifndef MSG_VERP_H
#define MSG_VERP_H

#include "base/arena.h"
#include "base/str.h"

/* Two characters, both of which `filter` has (verp_delimiter_filter). */
bool verp_delimiters_ok(struct str delimiters, struct str filter);
/* The sender's address for this recipient's copy. Addresses are in text form; the result lives in the arena. Where
 * there are no delimiters, or nobody to send it back to, the sender as he is. */
struct str verp_sender(struct arena *arena, struct str delimiters, struct str sender, struct str recipient);

#endif
