/* check_transports - which transports the configuration sends mail to that nobody serves: that mail waits, with "mail
 * transport unavailable". For `postrider check`. */
#ifndef CMD_CHECK_TRANSPORTS_H
#define CMD_CHECK_TRANSPORTS_H

#include "config/conf.h"
#include "config/master_cf.h"

/* tell(): a sentence for each place, with file and line. Looks at the parameters that name a transport, and through the
 * tables of transport_maps and sender_dependent_default_transport_maps that are text. */
void check_transports(const char *dir, struct conf *conf, const struct master_cf *cf,
		      void (*tell)(void *ctx, const char *text), void *ctx);

#endif
