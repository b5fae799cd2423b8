/* check_transports - which transports the configuration sends mail to that nobody serves: that mail waits, with "mail
 * transport unavailable"; and nexthops, TLS policies and log-ins that are none. For `postrider check`. */
#ifndef CMD_CHECK_TRANSPORTS_H
#define CMD_CHECK_TRANSPORTS_H

#include "config/conf.h"
#include "config/master_cf.h"

/* tell(): a sentence for each place, with file and line. Looks at the parameters that name a transport or a nexthop,
 * and through the tables of transport_maps, smtp_tls_policy_maps and the like that are text. */
void check_transports(const char *dir, struct conf *conf, const struct master_cf *cf,
		      void (*tell_it)(void *ctx, const char *text), void *ctx);

#endif
