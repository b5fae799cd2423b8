/* roles - which process is at the other end of a channel. Master numbers every process it starts and gives
 * each channel a tag (rpc_peer_tag) = serial << 8 | role: the serial tells two lives of one role apart, so that
 * a grant (store/schema.h) for a process that died can never serve its successor. */
#ifndef CONFIG_ROLES_H
#define CONFIG_ROLES_H

#include "base/attr.h"
#include <stdio.h>

enum process_role {
	PROCESS_MASTER = 1,
	PROCESS_SMTPD,
	PROCESS_ACCESS,
	PROCESS_RELAY,
	PROCESS_DNS,
	PROCESS_DIRECTORY,
	PROCESS_QUEUE,
	PROCESS_STORE,
	PROCESS_ROLES
};

static inline uint64_t process_tag(uint64_t serial, enum process_role role)
{
	return serial << 8 | (uint64_t)role;
}
static inline enum process_role process_tag_role(uint64_t tag)
{
	return (enum process_role)(tag & 0xff);
}

/* For the log: "smtpd#7", the seventh process that master has started. */
static inline void process_tag_name(uint64_t tag, char *name, size_t size)
{
	static const char *const names[PROCESS_ROLES] = {[PROCESS_MASTER] = "master",	    [PROCESS_SMTPD] = "smtpd",
							 [PROCESS_ACCESS] = "access",	    [PROCESS_RELAY] = "relay",
							 [PROCESS_DIRECTORY] = "directory", [PROCESS_QUEUE] = "queue",
							 [PROCESS_STORE] = "store",	    [PROCESS_DNS] = "dns"};
	enum process_role role = process_tag_role(tag);

	snprintf(name, size, "%s#%llu", role < PROCESS_ROLES && names[role] ? names[role] : "peer",
		 (unsigned long long)(tag >> 8));
}

#endif
