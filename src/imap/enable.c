/* ENABLE: RFC 5161. Unknown extensions are no error; what was not enabled is not listed. */
#include "imap/session.h"

void imap_condstore(struct imap_session *s)
{
	if (!s->condstore && s->view)
		session_printf(s->io, "* OK [HIGHESTMODSEQ %llu] Highest\r\n",
			       (unsigned long long)view_highestmodseq(s->view));
	s->condstore = true;
}

enum next imap_cmd_enable(struct imap_session *s, struct imap_parser *p)
{
	bool condstore = false;
	struct str name;

	if (!imap_parse_space(p))
		return imap_bad(s, p);
	do { /* imap_parse_at_end() takes the blanks between the names */
		if (!imap_parse_atom(p, &name))
			return imap_bad(s, p);
		condstore |= str_ieq(name, STR("CONDSTORE"));
	} while (!imap_parse_at_end(p));
	session_printf(s->io, "* ENABLED%s\r\n", condstore ? " CONDSTORE" : "");
	if (condstore) {
		s->condstore = false; /* asked for by name it is told again */
		imap_condstore(s);
	}
	return imap_reply(s, "OK Enabled.");
}
