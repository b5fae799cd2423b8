/* NOOP, with or without an argument. RFC 5321 4.1.1.9. */
#include "smtp/smtp.h"

enum next smtp_cmd_noop(struct smtp_session *c, struct str args)
{
	(void)args;
	return smtp_reply(c, 250, "2.0.0", "Ok");
}
