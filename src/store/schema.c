/* schema - the tables of store/schema.h: how each message travels, and the numbers of the calls. */
#include "store/schema.h"

RPC_DEFINE(uid_range, UID_RANGE_FIELDS)
RPC_DEFINE(store_name, STORE_NAME_FIELDS)
RPC_DEFINE(mailbox_info, MAILBOX_INFO_FIELDS)
RPC_DEFINE(store_account, STORE_ACCOUNT_FIELDS)
RPC_DEFINE(store_mailbox_list, STORE_MAILBOX_LIST_FIELDS)
RPC_DEFINE(store_mailbox_get, STORE_MAILBOX_GET_FIELDS)
RPC_DEFINE(store_mailbox_change, STORE_MAILBOX_CHANGE_FIELDS)
RPC_DEFINE(store_view_open, STORE_VIEW_OPEN_FIELDS)
RPC_DEFINE(store_view, STORE_VIEW_FIELDS)
RPC_DEFINE(store_view_close, STORE_VIEW_CLOSE_FIELDS)
RPC_DEFINE(message_change, MESSAGE_CHANGE_FIELDS)
RPC_DEFINE(store_changes, STORE_CHANGES_FIELDS)
RPC_DEFINE(store_meta_get, STORE_META_GET_FIELDS)
RPC_DEFINE(message_meta, MESSAGE_META_FIELDS)
RPC_DEFINE(store_meta, STORE_META_FIELDS)
RPC_DEFINE(store_body_get, STORE_BODY_GET_FIELDS)
RPC_DEFINE(store_body, STORE_BODY_FIELDS)
RPC_DEFINE(store_bodies_get, STORE_BODIES_GET_FIELDS)
RPC_DEFINE(store_bodies, STORE_BODIES_FIELDS)
RPC_DEFINE(found_summary, FOUND_SUMMARY_FIELDS)
RPC_DEFINE(store_summary_put, STORE_SUMMARY_PUT_FIELDS)
RPC_DEFINE(store_op, STORE_OP_FIELDS)
RPC_DEFINE(store_commit, STORE_COMMIT_FIELDS)
RPC_DEFINE(store_op_result, STORE_OP_RESULT_FIELDS)
RPC_DEFINE(store_committed, STORE_COMMITTED_FIELDS)
RPC_DEFINE(deliver_target, DELIVER_TARGET_FIELDS)
RPC_DEFINE(store_deliver, STORE_DELIVER_FIELDS)
RPC_DEFINE(deliver_refusal, DELIVER_REFUSAL_FIELDS)
RPC_DEFINE(store_delivered, STORE_DELIVERED_FIELDS)
RPC_DEFINE(store_id, STORE_ID_FIELDS)
RPC_DEFINE(store_confirm, STORE_CONFIRM_FIELDS)
RPC_DEFINE(blob_begin, BLOB_BEGIN_FIELDS)
RPC_DEFINE(blob, BLOB_FIELDS)
RPC_DEFINE(blob_finish, BLOB_FINISH_FIELDS)
RPC_DEFINE(blob_drop, BLOB_DROP_FIELDS)
RPC_DEFINE(store_ok, STORE_OK_FIELDS)
RPC_DEFINE(store_quota, STORE_QUOTA_FIELDS)
RPC_DEFINE(store_admit, STORE_ADMIT_FIELDS)
RPC_DEFINE(store_grant, STORE_GRANT_FIELDS)
RPC_DEFINE(store_grants, STORE_GRANTS_FIELDS)
RPC_DEFINE(store_granted, STORE_GRANTED_FIELDS)
RPC_DEFINE(store_release, STORE_RELEASE_FIELDS)
RPC_DEFINE(store_revoke, STORE_REVOKE_FIELDS)
RPC_DEFINE(store_fsck, STORE_FSCK_FIELDS)
RPC_DEFINE(store_report, STORE_REPORT_FIELDS)

/* Numbers are never reused. Those without a reply are sent and forgotten. */
#define CALLS(F)                                                                                                       \
	F(STORE_MAILBOXES, 1, &store_account_type, &store_mailbox_list_type)                                           \
	F(STORE_MAILBOX, 2, &store_mailbox_get_type, &mailbox_info_type)                                               \
	F(STORE_MAILBOX_CHANGE, 3, &store_mailbox_change_type, &mailbox_info_type)                                     \
	F(STORE_VIEW_OPEN, 4, &store_view_open_type, &store_view_type)                                                 \
	F(STORE_VIEW_CLOSE, 5, &store_view_close_type, NULL)                                                           \
	F(STORE_CHANGES, 6, &store_changes_type, NULL)                                                                 \
	F(STORE_META, 7, &store_meta_get_type, &store_meta_type)                                                       \
	F(STORE_BODY, 8, &store_body_get_type, &store_body_type)                                                       \
	F(STORE_SUMMARY_PUT, 9, &store_summary_put_type, NULL)                                                         \
	F(STORE_COMMIT, 10, &store_commit_type, &store_committed_type)                                                 \
	F(STORE_DELIVER, 11, &store_deliver_type, &store_delivered_type)                                               \
	F(STORE_CONFIRM, 12, &store_confirm_type, NULL)                                                                \
	F(STORE_BLOB_BEGIN, 13, &blob_begin_type, &blob_type)                                                          \
	F(STORE_BLOB_FINISH, 14, &blob_finish_type, &store_ok_type)                                                    \
	F(STORE_BLOB_DROP, 15, &blob_drop_type, NULL)                                                                  \
	F(STORE_QUOTA, 16, &store_account_type, &store_quota_type)                                                     \
	F(STORE_ADMIT, 17, &store_admit_type, &store_ok_type)                                                          \
	F(STORE_GRANT, 18, &store_grant_type, &store_ok_type)                                                          \
	F(STORE_RELEASE, 19, &store_release_type, NULL)                                                                \
	F(STORE_REVOKE, 20, &store_revoke_type, &store_ok_type)                                                        \
	F(STORE_FSCK, 21, &store_fsck_type, &store_report_type)                                                        \
	F(STORE_STATUS, 22, &store_ok_type, &store_report_type)                                                        \
	F(STORE_BODIES, 23, &store_bodies_get_type, &store_bodies_type)                                                \
	F(STORE_GRANTS, 24, &store_grants_type, &store_granted_type)

#define DEFINE(name, number_, request_, reply_)                                                                        \
	const struct rpc_call name = {.number = number_, .request = request_, .reply = reply_};
CALLS(DEFINE)

#define ENTRY(name, number_, request_, reply_) {.number = number_, .request = request_, .reply = reply_},
const struct rpc_call STORE_CALLS[] = {CALLS(ENTRY){0}};
