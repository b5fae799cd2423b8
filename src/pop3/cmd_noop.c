/* NOOP. RFC 1939 5. */
#include "pop3/session.h"

enum next pop3_cmd_noop(struct pop3_session *s, struct str args)
{
	(void)args;
	return pop3_ok(s, "Nothing done.");
}
