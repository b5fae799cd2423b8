/* ENABLE: RFC 5161. Unknown extensions are no error; what was not enabled is not listed. */
#include "imap/session.h"

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
	s->condstore |= condstore;
	session_printf(s->io, "* ENABLED%s\r\n", condstore ? " CONDSTORE" : "");
	if (condstore && s->view) /* RFC 7162 3.1.2.1 wants the number at the first enabling */
		session_printf(s->io, "* OK [HIGHESTMODSEQ %llu] Highest\r\n",
			       (unsigned long long)view_highestmodseq(s->view));
	return imap_reply(s, "OK Enabled.");
}
