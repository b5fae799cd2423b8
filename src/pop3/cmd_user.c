/* USER. RFC 1939 7. */
#include "base/mem.h"
#include "pop3/session.h"

enum next pop3_cmd_user(struct pop3_session *s, struct str args)
{
	args = str_trim(args);
	if (pop3_cleartext_refused(s))
		return pop3_bad(s, "[AUTH] Log-in over clear text is refused: use STLS or the TLS port.");
	if (args.len == 0)
		return pop3_bad(s, "USER needs a name.");
	free(s->user_given);
	s->user_given = str_dup(args);
	return pop3_ok(s, "Send your password.");
}
