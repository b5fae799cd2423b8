/* TLS with servers. */
#include "relay/smtp.h"

enum smtpc_tls_want smtpc_tls_want(const struct smtpc_try *t)
{
	return t->conf->smtp_tls_security_level <= 1 ? SMTP_TLS_NONE : SMTP_TLS_MUST;
}

int smtpc_tls_start(struct smtpc_try *t, struct smtpc_conn *c)
{
	smtpc_note(t, false, STR("4.7.5"), STR("TLS is required, but not available"), c, false);
	return 0;
}
