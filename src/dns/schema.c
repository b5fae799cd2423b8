/* schema - the tables of dns/schema.h. */
#include "dns/schema.h"

RPC_DEFINE(dns_question, DNS_QUESTION_FIELDS)
RPC_DEFINE(dns_rdata, DNS_RDATA_FIELDS)
RPC_DEFINE(dns_reply, DNS_REPLY_FIELDS)
RPC_DEFINE(dns_peer, DNS_PEER_FIELDS)
RPC_DEFINE(dns_peer_name, DNS_PEER_NAME_FIELDS)

/* Numbers are never reused. */
#define CALLS(F)                                                                                                       \
	F(DNS_LOOKUP, 1, &dns_question_type, &dns_reply_type)                                                          \
	F(DNS_NAME_OF, 2, &dns_peer_type, &dns_peer_name_type)

#define DEFINE(name, number_, request_, reply_)                                                                        \
	const struct rpc_call name = {.number = number_, .request = request_, .reply = reply_};
CALLS(DEFINE)

#define ENTRY(name, number_, request_, reply_) {.number = number_, .request = request_, .reply = reply_},
const struct rpc_call DNS_CALLS[] = {CALLS(ENTRY){0}};
