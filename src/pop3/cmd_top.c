/* TOP: the header, and the first lines of the body. RFC 1939 7. */
#include "pop3/session.h"

enum next pop3_cmd_top(struct pop3_session *s, struct str args)
{
	struct str number, lines;
	uint64_t n;

	if (!str_split(str_trim(args), ' ', &number, &lines) || !str_to_u64(str_trim(lines), &n) || n == UINT64_MAX)
		return pop3_bad(s, "TOP needs a message number and a number of lines.");
	return pop3_retrieve(s, number, n);
}
