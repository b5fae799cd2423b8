/* IDLE: RFC 2177. The session parks; session.c's change handler announces, its time-out handler keeps alive. */
#include "imap/session.h"

enum next imap_cmd_idle(struct imap_session *s, struct imap_parser *p)
{
	if (!imap_parse_end(p))
		return imap_bad(s, p);
	session_write(s->io, STR("+ idling\r\n"));
	s->mode = IMAP_MODE_IDLE;
	if (s->view)
		imap_sync(s, true);
	arena_release(&s->arena);
	return s->view && view_gone(s->view) ? imap_bye(s, "The selected mailbox is gone") : NEXT_UNIT;
}

enum next imap_idle_unit(struct imap_session *s, struct str line)
{
	enum next next;

	s->mode = IMAP_MODE_COMMAND;
	if (str_ieq(str_trim(line), STR("DONE")))
		next = imap_reply(s, "OK Idle completed.");
	else
		next = imap_reply(s, "BAD Expected DONE.");
	return imap_command_end(s, next);
}
