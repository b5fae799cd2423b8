/* STARTTLS. RFC 3207. */
#include "smtp/smtp.h"

enum next smtp_cmd_starttls(struct smtp_session *c, struct str args)
{
	if (args.len > 0)
		return smtp_reply(c, 501, "5.5.4", "Syntax: STARTTLS");
	if (session_is_tls(c->s))
		return smtp_reply(c, 554, "5.5.1", "Error: TLS already active");
	if (!smtp_offers_tls(c))
		return smtp_reply(c, 502, "5.5.1", "Error: command not implemented");
	/* Bytes that came in clear behind the command would be read as if they had come through TLS: somebody
	 * put them there (CVE-2011-0411). Refusing tells an honest but hasty client more than dropping would. */
	if (session_input_pending(c->s)) {
		smtp_log(c, "warning: STARTTLS with commands behind it from %.*s", STR_ARG(c->client));
		c->failures[CMD_STARTTLS]++;
		c->ending = true;
		smtp_reply_line(c, 554, "5.5.0", STR("Error: commands behind STARTTLS; goodbye"));
		return NEXT_CLOSE;
	}
	smtp_reply(c, 220, "2.0.0", "Ready to start TLS");
	session_starttls(c->s);
	return NEXT_TLS;
}
