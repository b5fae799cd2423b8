/* QUIT. RFC 5321 4.1.1.10. */
#include "smtp/smtp.h"

enum next smtp_cmd_quit(struct smtp_session *c, struct str args)
{
	(void)args;
	c->ending = true;
	smtp_reply(c, 221, "2.0.0", "Bye");
	return NEXT_CLOSE;
}
