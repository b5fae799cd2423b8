/* schema - the tables of queue/schema.h: how each message travels, and the numbers of the calls. */
#include "queue/schema.h"

RPC_DEFINE(queue_rcpt, QUEUE_RCPT_FIELDS)
RPC_DEFINE(queue_message, QUEUE_MESSAGE_FIELDS)
RPC_DEFINE(queue_commit, QUEUE_COMMIT_FIELDS)
RPC_DEFINE(queue_fingerprint, QUEUE_FINGERPRINT_FIELDS)
RPC_DEFINE(queue_heard, QUEUE_HEARD_FIELDS)
RPC_DEFINE(queue_orphans, QUEUE_ORPHANS_FIELDS)
RPC_DEFINE(queue_address, QUEUE_ADDRESS_FIELDS)
RPC_DEFINE(queue_known_one, QUEUE_KNOWN_ONE_FIELDS)
RPC_DEFINE(queue_known, QUEUE_KNOWN_FIELDS)
RPC_DEFINE(queue_taken, QUEUE_TAKEN_FIELDS)
RPC_DEFINE(queue_id, QUEUE_ID_FIELDS)
RPC_DEFINE(queue_claim, QUEUE_CLAIM_FIELDS)
RPC_DEFINE(queue_told, QUEUE_TOLD_FIELDS)
RPC_DEFINE(queue_part, QUEUE_PART_FIELDS)
RPC_DEFINE(queue_number, QUEUE_NUMBER_FIELDS)
RPC_DEFINE(queue_claim_info, QUEUE_CLAIM_INFO_FIELDS)
RPC_DEFINE(queue_claimed, QUEUE_CLAIMED_FIELDS)
RPC_DEFINE(queue_ended, QUEUE_ENDED_FIELDS)
RPC_DEFINE(queue_give_back, QUEUE_GIVE_BACK_FIELDS)
RPC_DEFINE(queue_admit, QUEUE_ADMIT_FIELDS)
RPC_DEFINE(queue_admitted, QUEUE_ADMITTED_FIELDS)
RPC_DEFINE(queue_rcpt_outcome, QUEUE_OUTCOME_FIELDS)
RPC_DEFINE(queue_result, QUEUE_RESULT_FIELDS)
RPC_DEFINE(queue_blob_begin, QUEUE_BLOB_BEGIN_FIELDS)
RPC_DEFINE(queue_blob, QUEUE_BLOB_FIELDS)
RPC_DEFINE(queue_blob_finish, QUEUE_BLOB_FINISH_FIELDS)
RPC_DEFINE(queue_ok, QUEUE_OK_FIELDS)
RPC_DEFINE(queue_list, QUEUE_LIST_FIELDS)
RPC_DEFINE(queue_state, QUEUE_STATE_FIELDS)
RPC_DEFINE(queue_listed, QUEUE_LISTED_FIELDS)
RPC_DEFINE(queue_act, QUEUE_ACT_FIELDS)
RPC_DEFINE(queue_etrn, QUEUE_ETRN_FIELDS)
RPC_DEFINE(queue_summary_ask, QUEUE_SUMMARY_ASK_FIELDS)
RPC_DEFINE(queue_summary, QUEUE_SUMMARY_FIELDS)
RPC_DEFINE(queue_acted, QUEUE_ACTED_FIELDS)

/* Numbers are never reused. QUEUE_BLOB_DROP and QUEUE_HEARD are sent and forgotten; the former names the blob, without
 * a descriptor. */
#define CALLS(F)                                                                                                       \
	F(QUEUE_COMMIT, 1, &queue_commit_type, &queue_id_type)                                                         \
	F(QUEUE_CLAIM, 2, &queue_claim_type, &queue_claimed_type)                                                      \
	F(QUEUE_RESULT, 3, &queue_result_type, &queue_ended_type)                                                      \
	F(QUEUE_BLOB_BEGIN, 4, &queue_blob_begin_type, &queue_blob_type)                                               \
	F(QUEUE_BLOB_FINISH, 5, &queue_blob_finish_type, &queue_ok_type)                                               \
	F(QUEUE_BLOB_DROP, 6, &queue_blob_type, NULL)                                                                  \
	F(QUEUE_LIST, 7, &queue_list_type, &queue_listed_type)                                                         \
	F(QUEUE_ACT, 8, &queue_act_type, &queue_acted_type)                                                            \
	F(QUEUE_HEARD, 9, &queue_heard_type, NULL)                                                                     \
	F(QUEUE_ORPHANS, 10, &queue_ok_type, &queue_orphans_type)                                                      \
	F(QUEUE_KNOWN, 11, &queue_fingerprint_type, &queue_known_type)                                                 \
	F(QUEUE_GIVE_BACK, 12, &queue_give_back_type, NULL)                                                            \
	F(QUEUE_ADMIT, 13, &queue_admit_type, &queue_admitted_type)                                                    \
	F(QUEUE_READ, 14, &queue_id_type, &queue_message_type)                                                         \
	F(QUEUE_SUMMARY, 20, &queue_summary_ask_type, &queue_summary_type)                                             \
	F(QUEUE_ETRN, 21, &queue_etrn_type, &queue_acted_type)                                                         \
	F(QUEUE_PROGRESS, 22, &queue_result_type, &queue_ended_type)

#define DEFINE(name, number_, request_, reply_)                                                                        \
	const struct rpc_call name = {.number = number_, .request = request_, .reply = reply_};
CALLS(DEFINE)

#define ENTRY(name, number_, request_, reply_) {.number = number_, .request = request_, .reply = reply_},
const struct rpc_call QUEUE_CALLS[] = {CALLS(ENTRY){0}};

uint64_t queue_message_since(const struct queue_message *m)
{
	return m->hold_until > m->arrival ? m->hold_until : m->arrival;
}
