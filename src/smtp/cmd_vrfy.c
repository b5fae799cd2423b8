/* VRFY, EXPN: who lives here is nobody's business. RFC 5321 3.5.3, 7.3. */
#include "smtp/smtp.h"

enum next smtp_cmd_vrfy(struct smtp_session *c, struct str args)
{
	if (c->local && args.len > 0)
		return smtp_local_vrfy(c, args);
	if (c->conf->disable_vrfy_command)
		return smtp_reply(c, 502, "5.5.1", "VRFY command is disabled");
	if (args.len == 0)
		return smtp_reply(c, 501, "5.5.4", "Syntax: VRFY address");
	return smtp_reply(c, 252, "2.0.0", "Send some mail, it will be tried");
}

enum next smtp_cmd_expn(struct smtp_session *c, struct str args)
{
	(void)args;
	return smtp_reply(c, 502, "5.5.1", "EXPN command is not implemented");
}
