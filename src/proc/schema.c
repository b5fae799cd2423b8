/* proc/schema - see proc/schema.h. */
#include "proc/schema.h"

RPC_DEFINE(proc_config, PROC_CONFIG_FIELDS)
RPC_DEFINE(proc_file, PROC_FILE_FIELDS)
RPC_DEFINE(proc_bundle, PROC_BUNDLE_FIELDS)
RPC_DEFINE(proc_listen, PROC_LISTEN_FIELDS)
RPC_DEFINE(proc_peer, PROC_PEER_FIELDS)
RPC_DEFINE(proc_report, PROC_REPORT_FIELDS)
RPC_DEFINE(proc_missing, PROC_MISSING_FIELDS)
RPC_DEFINE(proc_again, PROC_AGAIN_FIELDS)
RPC_DEFINE(proc_drop, PROC_DROP_FIELDS)
RPC_DEFINE(proc_dropped, PROC_DROPPED_FIELDS)
RPC_DEFINE(proc_connect, PROC_CONNECT_FIELDS)
RPC_DEFINE(proc_connected, PROC_CONNECTED_FIELDS)
RPC_DEFINE(proc_stop, PROC_STOP_FIELDS)
RPC_DEFINE(proc_note, PROC_NOTE_FIELDS)
RPC_DEFINE(proc_taken, PROC_TAKEN_FIELDS)
RPC_DEFINE(proc_surge, PROC_SURGE_FIELDS)
RPC_DEFINE(proc_state, PROC_STATE_FIELDS)
RPC_DEFINE(control_ok, CONTROL_OK_FIELDS)
RPC_DEFINE(control_reloaded, CONTROL_RELOADED_FIELDS)
RPC_DEFINE(control_process, CONTROL_PROCESS_FIELDS)
RPC_DEFINE(control_status, CONTROL_STATUS_FIELDS)
RPC_DEFINE(control_alarm, CONTROL_ALARM_FIELDS)
RPC_DEFINE(control_alarms, CONTROL_ALARMS_FIELDS)
RPC_DEFINE(control_probe, CONTROL_PROBE_FIELDS)

/* Numbers are never reused: an old `postrider stop` speaks to a new master and the other way round. */
#define CALLS(F)                                                                                                       \
	F(CONTROL_STATUS, 1, &control_ok_type, &control_status_type)                                                   \
	F(CONTROL_STOP, 2, &control_ok_type, &control_ok_type)                                                         \
	F(CONTROL_RELOAD, 15, &control_ok_type, &control_reloaded_type)                                                \
	F(CONTROL_RESTART, 4, &control_ok_type, &control_ok_type)                                                      \
	F(CONTROL_STORE_STATUS, 5, &store_ok_type, &store_report_type)                                                 \
	F(CONTROL_STORE_FSCK, 6, &store_fsck_type, &store_report_type)                                                 \
	F(CONTROL_QUEUE_LIST, 7, &queue_list_type, &queue_listed_type)                                                 \
	F(CONTROL_QUEUE_ACT, 8, &queue_act_type, &queue_acted_type)                                                    \
	F(CONTROL_DIR_CHANGED, 9, &control_ok_type, &control_ok_type)                                                  \
	F(CONTROL_PROBE, 10, &control_probe_type, &proc_note_type)                                                     \
	F(CONTROL_DNS_LOOKUP, 20, &dns_question_type, &dns_reply_type)                                                 \
	F(CONTROL_QUEUE_READ, 22, &queue_id_type, &queue_message_type)                                                 \
	F(CONTROL_TABLES, 16, &control_ok_type, &control_reloaded_type)                                                \
	F(CONTROL_QUEUE_COMMIT, 11, &queue_commit_type, &queue_id_type)                                                \
	F(CONTROL_ALARMS, 12, &control_ok_type, &control_alarms_type)                                                  \
	F(CONTROL_STS, 13, &dir_sts_get_type, &dir_sts_type)                                                           \
	F(CONTROL_STS_FETCH, 14, &relay_sts_type, &relay_ok_type)

#define DEFINE(name, number_, request_, reply_)                                                                        \
	const struct rpc_call name = {.number = number_, .request = request_, .reply = reply_};
CALLS(DEFINE)

#define ENTRY(name, number_, request_, reply_) {.number = number_, .request = request_, .reply = reply_},
const struct rpc_call CONTROL_CALLS[] = {CALLS(ENTRY){0}};
