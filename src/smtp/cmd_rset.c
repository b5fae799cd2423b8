/* RSET. RFC 5321 4.1.1.5. */
#include "smtp/smtp.h"

enum next smtp_cmd_rset(struct smtp_session *c, struct str args)
{
	if (args.len > 0)
		return smtp_reply(c, 501, "5.5.4", "Syntax: RSET");
	smtp_mail_reset(c);
	return smtp_reply(c, 250, "2.0.0", "Ok");
}
