/* DELE. RFC 1939 5. */
#include "pop3/session.h"

enum next pop3_cmd_dele(struct pop3_session *s, struct str args)
{
	struct pop3_message *m = pop3_message_of(s, str_trim(args));

	if (m == NULL)
		return pop3_after_bad(s);
	m->deleted = true;
	s->deleted++;
	return pop3_ok(s, "Marked for deletion.");
}
