/* schema - the tables of directory/schema.h: how each message travels, and the numbers of the calls. */
#include "directory/schema.h"

RPC_DEFINE(dir_resolve, DIR_RESOLVE_FIELDS)
RPC_DEFINE(dir_target, DIR_TARGET_FIELDS)
RPC_DEFINE(dir_resolved, DIR_RESOLVED_FIELDS)
RPC_DEFINE(dir_route, DIR_ROUTE_FIELDS)
RPC_DEFINE(dir_routed, DIR_ROUTED_FIELDS)
RPC_DEFINE(dir_route_all, DIR_ROUTE_ALL_FIELDS)
RPC_DEFINE(dir_routed_one, DIR_ROUTED_ONE_FIELDS)
RPC_DEFINE(dir_routed_all, DIR_ROUTED_ALL_FIELDS)
RPC_DEFINE(dir_lookup, DIR_LOOKUP_FIELDS)
RPC_DEFINE(dir_found, DIR_FOUND_FIELDS)
RPC_DEFINE(dir_rewrite_one, DIR_REWRITE_ONE_FIELDS)
RPC_DEFINE(dir_rewrite, DIR_REWRITE_FIELDS)
RPC_DEFINE(dir_rewritten_one, DIR_REWRITTEN_ONE_FIELDS)
RPC_DEFINE(dir_rewritten, DIR_REWRITTEN_FIELDS)
RPC_DEFINE(dir_mechanisms, DIR_MECHANISMS_FIELDS)
RPC_DEFINE(dir_mechanism_list, DIR_MECHANISM_LIST_FIELDS)
RPC_DEFINE(dir_auth_start, DIR_AUTH_START_FIELDS)
RPC_DEFINE(dir_auth_plain, DIR_AUTH_PLAIN_FIELDS)
RPC_DEFINE(dir_auth_step, DIR_AUTH_STEP_FIELDS)
RPC_DEFINE(dir_auth, DIR_AUTH_FIELDS)
RPC_DEFINE(dir_sender, DIR_SENDER_FIELDS)
RPC_DEFINE(dir_allowed, DIR_ALLOWED_FIELDS)
RPC_DEFINE(dir_count, DIR_COUNT_FIELDS)
RPC_DEFINE(dir_counted, DIR_COUNTED_FIELDS)
RPC_DEFINE(dir_sent, DIR_SENT_FIELDS)
RPC_DEFINE(dir_surge_told, DIR_SURGE_TOLD_FIELDS)
RPC_DEFINE(dir_sts_get, DIR_STS_GET_FIELDS)
RPC_DEFINE(dir_sts, DIR_STS_FIELDS)
RPC_DEFINE(dir_sts_due_ask, DIR_STS_DUE_ASK_FIELDS)
RPC_DEFINE(dir_sts_name, DIR_STS_NAME_FIELDS)
RPC_DEFINE(dir_sts_due, DIR_STS_DUE_FIELDS)
RPC_DEFINE(dir_session_end, DIR_SESSION_END_FIELDS)
RPC_DEFINE(dir_ok, DIR_OK_FIELDS)

/* Numbers are never reused. Those without a reply are sent and forgotten. */
#define CALLS(F)                                                                                                       \
	F(DIR_RESOLVE, 1, &dir_resolve_type, &dir_resolved_type, false)                                                \
	F(DIR_MECHANISMS, 2, &dir_mechanisms_type, &dir_mechanism_list_type, false)                                    \
	F(DIR_AUTH_START, 3, &dir_auth_start_type, &dir_auth_type, true)                                               \
	F(DIR_AUTH_PLAIN, 4, &dir_auth_plain_type, &dir_auth_type, true)                                               \
	F(DIR_AUTH_STEP, 5, &dir_auth_step_type, &dir_auth_type, true)                                                 \
	F(DIR_AUTH_ABORT, 6, &dir_session_end_type, NULL, false)                                                       \
	F(DIR_SENDER, 7, &dir_sender_type, &dir_allowed_type, false)                                                   \
	F(DIR_SESSION_END, 8, &dir_session_end_type, NULL, false)                                                      \
	F(DIR_CHANGED, 9, &dir_ok_type, NULL, false)                                                                   \
	F(DIR_ROUTE, 10, &dir_route_type, &dir_routed_type, false)                                                     \
	F(DIR_LOOKUP, 11, &dir_lookup_type, &dir_found_type, false)                                                    \
	F(DIR_COUNT, 12, &dir_count_type, &dir_counted_type, false)                                                    \
	F(DIR_SENT, 13, &dir_sent_type, NULL, false)                                                                   \
	F(DIR_SURGE_TOLD, 14, &dir_surge_told_type, NULL, false)                                                       \
	F(DIR_STS_GET, 15, &dir_sts_get_type, &dir_sts_type, false)                                                    \
	F(DIR_STS_PUT, 16, &dir_sts_type, &dir_ok_type, false)                                                         \
	F(DIR_STS_DUE, 17, &dir_sts_due_ask_type, &dir_sts_due_type, false)                                            \
	F(DIR_ROUTE_ALL, 18, &dir_route_all_type, &dir_routed_all_type, false)                                         \
	F(DIR_REWRITE, 19, &dir_rewrite_type, &dir_rewritten_type, false)

#define DEFINE(name, number_, request_, reply_, secret_)                                                               \
	const struct rpc_call name = {.number = number_, .request = request_, .reply = reply_, .secret = secret_};
CALLS(DEFINE)

#define ENTRY(name, number_, request_, reply_, secret_)                                                                \
	{.number = number_, .request = request_, .reply = reply_, .secret = secret_},
const struct rpc_call DIR_CALLS[] = {CALLS(ENTRY){0}};
