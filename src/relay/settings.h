/* relay/settings - parameters of the client that are words, names of mechanisms and ports: a slip of the pen in one of
 * them would send mail back (inet_protocols), or a password in the clear (smtp_sasl_security_options), so that it is
 * refused at start and reload as Postfix refuses it. */
#ifndef RELAY_SETTINGS_H
#define RELAY_SETTINGS_H

#include "config/conf.h"

/* -1 with err, which names the parameter: what cannot be used. Of one of a transport, or of LMTP's: by smtp_'s name. */
int relay_settings_check(const struct conf *conf, struct err *err) WARN_UNUSED;

/* Does smtp_sasl_mechanism_filter let it pass? "!name" says no, "static:all" is any; the first that fits decides. An
 * empty filter lets all pass. */
bool relay_mechanism_passes(struct str filter, struct str mechanism);

#endif
