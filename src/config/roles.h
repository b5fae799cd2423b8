/* roles - which process is at the other end of a channel. Master numbers every process it starts and gives
 * each channel a tag (rpc_peer_tag) = serial << 8 | role: the serial tells two lives of one role apart, so that
 * a grant (store/schema.h) for a process that died can never serve its successor. */
#ifndef CONFIG_ROLES_H
#define CONFIG_ROLES_H

#include "base/attr.h"

enum process_role {
	PROCESS_MASTER = 1,
	PROCESS_SMTPD,
	PROCESS_ACCESS,
	PROCESS_RELAY,
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

#endif
