/* schema - the tables of queue/schema.h: how each message travels, and the numbers of the calls. */
#include "queue/schema.h"

RPC_DEFINE(queue_rcpt, QUEUE_RCPT_FIELDS)
RPC_DEFINE(queue_message, QUEUE_MESSAGE_FIELDS)
RPC_DEFINE(queue_id, QUEUE_ID_FIELDS)
RPC_DEFINE(queue_claim, QUEUE_CLAIM_FIELDS)
RPC_DEFINE(queue_claimed, QUEUE_CLAIMED_FIELDS)
RPC_DEFINE(queue_rcpt_outcome, QUEUE_OUTCOME_FIELDS)
RPC_DEFINE(queue_result, QUEUE_RESULT_FIELDS)
RPC_DEFINE(queue_blob_begin, QUEUE_BLOB_BEGIN_FIELDS)
RPC_DEFINE(queue_blob, QUEUE_BLOB_FIELDS)
RPC_DEFINE(queue_blob_finish, QUEUE_BLOB_FINISH_FIELDS)
RPC_DEFINE(queue_ok, QUEUE_OK_FIELDS)
RPC_DEFINE(queue_list, QUEUE_LIST_FIELDS)
RPC_DEFINE(queue_listed, QUEUE_LISTED_FIELDS)
RPC_DEFINE(queue_act, QUEUE_ACT_FIELDS)
RPC_DEFINE(queue_acted, QUEUE_ACTED_FIELDS)

/* Numbers are never reused. QUEUE_BLOB_DROP is sent and forgotten; it names the blob, without a descriptor. */
#define CALLS(F)                                                                                                       \
	F(QUEUE_COMMIT, 1, &queue_message_type, &queue_id_type)                                                        \
	F(QUEUE_CLAIM, 2, &queue_claim_type, &queue_claimed_type)                                                      \
	F(QUEUE_RESULT, 3, &queue_result_type, &queue_ok_type)                                                         \
	F(QUEUE_BLOB_BEGIN, 4, &queue_blob_begin_type, &queue_blob_type)                                               \
	F(QUEUE_BLOB_FINISH, 5, &queue_blob_finish_type, &queue_ok_type)                                               \
	F(QUEUE_BLOB_DROP, 6, &queue_blob_type, NULL)                                                                  \
	F(QUEUE_LIST, 7, &queue_list_type, &queue_listed_type)                                                         \
	F(QUEUE_ACT, 8, &queue_act_type, &queue_acted_type)

#define DEFINE(name, number_, request_, reply_)                                                                        \
	const struct rpc_call name = {.number = number_, .request = request_, .reply = reply_};
CALLS(DEFINE)

#define ENTRY(name, number_, request_, reply_) {.number = number_, .request = request_, .reply = reply_},
const struct rpc_call QUEUE_CALLS[] = {CALLS(ENTRY){0}};
