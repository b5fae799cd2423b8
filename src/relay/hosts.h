/* relay/hosts - /etc/hosts (hosts(5)), as it was when master read it: what smtp_host_lookup = native asks first. Pure.
 */
#ifndef RELAY_HOSTS_H
#define RELAY_HOSTS_H

#include "base/str.h"
#include "os/net.h"

#define HOSTS_FILE "/etc/hosts"

/* `for (size_t at = 0; hosts_next(text, name, &at, &addr);)`: every address of the name, without a port. */
bool hosts_next(struct str text, struct str name, size_t *at, struct net_addr *addr_r);

#endif
