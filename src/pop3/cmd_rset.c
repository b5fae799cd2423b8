/* RSET. RFC 1939 5. */
#include "pop3/session.h"

enum next pop3_cmd_rset(struct pop3_session *s, struct str args)
{
	(void)args;
	for (size_t i = 0; i < s->count; i++)
		s->messages[i].deleted = false;
	s->deleted = 0;
	return pop3_ok(s, "%zu messages, none marked.", s->count);
}
