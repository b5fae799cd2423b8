/* imap/match - LIST patterns (RFC 3501 6.3.8) on decoded names with '/' between levels. */
#ifndef IMAP_MATCH_H
#define IMAP_MATCH_H

#include "base/str.h"

/* '*' matches anything, '%' anything but '/'. INBOX (the name's first level) matches in any case.
 * Time is bounded by length(pattern) * length(name) for each '*'. */
bool imap_match(struct str pattern, struct str name);

#endif
