/* Log-in at servers. */
#include "relay/smtp.h"

int smtpc_sasl_login(struct smtpc_try *t, struct smtpc_conn *c)
{
	(void)t;
	(void)c;
	return 1;
}
