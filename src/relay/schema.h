/* relay/schema - the calls that the process `relay` answers. */
#ifndef RELAY_SCHEMA_H
#define RELAY_SCHEMA_H

#include "engine/rpc.h"

/* The lists of fields are tables. */
/* clang-format off */

/* Fetches the domain's MTA-STS policy now, and keeps it. domain: A-labels, lower case. Refused with the reason:
 * ERR_NOT_FOUND: the domain has none; ERR_TEMP: it cannot be had now. */
#define RELAY_STS_FIELDS(F, S) F(S, bytes, domain)
RPC_DECLARE(relay_sts, RELAY_STS_FIELDS)
#define RELAY_OK_FIELDS(F, S) F(S, u8, unused)
RPC_DECLARE(relay_ok, RELAY_OK_FIELDS)

extern const struct rpc_call RELAY_STS_FETCH;
extern const struct rpc_call RELAY_CALLS[];
/* clang-format on */

#endif
