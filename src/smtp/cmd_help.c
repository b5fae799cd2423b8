/* HELP. RFC 5321 4.1.1.8. */
#include "smtp/smtp.h"

enum next smtp_cmd_help(struct smtp_session *c, struct str args)
{
	(void)args;
	return smtp_reply(c, 214, "2.0.0", "%s MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS%s HELP QUIT; see RFC %s",
			  c->lmtp ? "LHLO" : "HELO EHLO", c->lmtp ? "" : " AUTH", c->lmtp ? "2033" : "5321");
}
