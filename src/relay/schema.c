/* schema - the tables of relay/schema.h. */
#include "relay/schema.h"

RPC_DEFINE(relay_sts, RELAY_STS_FIELDS)
RPC_DEFINE(relay_ok, RELAY_OK_FIELDS)

/* Numbers are never reused. */
#define CALLS(F) F(RELAY_STS_FETCH, 1, &relay_sts_type, &relay_ok_type)

#define DEFINE(name, number_, request_, reply_)                                                                        \
	const struct rpc_call name = {.number = number_, .request = request_, .reply = reply_};
CALLS(DEFINE)

#define ENTRY(name, number_, request_, reply_) {.number = number_, .request = request_, .reply = reply_},
const struct rpc_call RELAY_CALLS[] = {CALLS(ENTRY){0}};
