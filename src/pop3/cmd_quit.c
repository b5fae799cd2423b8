/* QUIT. RFC 1939 4, 6. */
#include "pop3/session.h"

enum next pop3_cmd_quit(struct pop3_session *s, struct str args)
{
	struct err err = ERR_NONE;

	(void)args;
	/* RFC 1939 6: the UPDATE state. If it fails nothing was removed, and the client is told so. */
	if (s->deleted > 0 && pop3_maildrop_update(s, &err) < 0)
		(void)pop3_err(s, "[SYS/TEMP] The messages were not deleted: %s", err.text);
	else if (s->deleted > 0)
		(void)pop3_ok(s, "Logging out, %zu messages deleted.", s->deleted);
	else
		(void)pop3_ok(s, "Logging out.");
	return NEXT_CLOSE;
}
