/* RETR. RFC 1939 5. */
#include "pop3/session.h"

enum next pop3_cmd_retr(struct pop3_session *s, struct str args)
{
	return pop3_retrieve(s, str_trim(args), UINT64_MAX);
}
