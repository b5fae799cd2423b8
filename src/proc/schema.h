/* proc/schema - what master and its processes tell each other, and what the control socket answers.
 *
 * Between master and a child: packets on the child's descriptor 3 (SOCK_SEQPACKET: one message a packet), a
 * u16 number and the encoded message. Requests by an administrator: engine/rpc on DIR/run/control. */
#ifndef PROC_SCHEMA_H
#define PROC_SCHEMA_H

#include "directory/schema.h"
#include "dns/schema.h"
#include "engine/rpc.h"
#include "queue/schema.h"
#include "relay/schema.h"
#include "store/schema.h"

/* ---- master to child ---- */

enum proc_message {
	PROC_CONFIG = 1, /* the first message; again at each reload */
	PROC_LISTEN,
	PROC_PEER,
	PROC_STOP,
	PROC_ASK,   /* wants a PROC_STATE */
	PROC_PROBE, /* test builds only: try what the jail forbids; wants a PROC_PROBED */
	PROC_DROP,  /* a file of the maildrop; wants a PROC_DROPPED */
	PROC_CONNECTED,
	/* child to master */
	PROC_READY = 32, /* jailed, and serving from now on */
	PROC_STATE,
	PROC_PROBED,
	PROC_TAKEN,   /* a configuration is in use; or cannot be used, and the old one stays */
	PROC_REPORT,  /* a peer broke the rules of its channel, as none of ours does that is still ours */
	PROC_MISSING, /* has no channel to a callee */
	PROC_DROPPED,
	PROC_CONNECT, /* relay: wants a connection to a UNIX socket; answered by PROC_CONNECTED */
	PROC_AGAIN,   /* had no room for the descriptors of a message: wants it once more */
};

/* bundle: a sealed memory file with an encoded proc_bundle. tables: one of directory/tables/files.h; for everybody but
 * directory there is nothing in it. generation: grows with each that is sent. */
#define PROC_CONFIG_FIELDS(F, S)                                                                                       \
	F(S, u64, serial)                                                                                              \
	F(S, u64, generation)                                                                                          \
	F(S, bytes, dir) /* the instance, outside view */                                                              \
	F(S, fd, bundle) F(S, fd, tables)
RPC_DECLARE(proc_config, PROC_CONFIG_FIELDS)

/* Files that the configuration names and a jailed process cannot open: certificates and keys. */
#define PROC_FILE_FIELDS(F, S) F(S, bytes, path) F(S, bytes, contents)
RPC_DECLARE(proc_file, PROC_FILE_FIELDS)
/* client_...: for relay alone; the files that main.cf and the transports of master.cf name for it (smtp_tls_CAfile and
 * so on; all of smtp_tls_CApath as one), and what smtp_mta_sts_CAfile holds; so is bounce_templates, of
 * bounce_template_file. */
#define PROC_BUNDLE_FIELDS(F, S)                                                                                       \
	F(S, bytes, main_cf)                                                                                           \
	F(S, bytes, master_cf)                                                                                         \
	F(S, list, files, proc_file)                                                                                   \
	F(S, bytes, resolv_conf)                                                                                       \
	F(S, bytes, trust_anchor)                                                                                      \
	F(S, list, client_files, proc_file)                                                                            \
	F(S, bytes, client_sts_ca) F(S, bytes, bounce_templates)
RPC_DECLARE(proc_bundle, PROC_BUNDLE_FIELDS)

/* A listening socket of the master.cf service `name` (as in master_service.name, unique among type inet); address: as
 * in struct listening, unique among all. */
#define PROC_LISTEN_FIELDS(F, S) F(S, bytes, name) F(S, bytes, address) F(S, fd, fd)
RPC_DECLARE(proc_listen, PROC_LISTEN_FIELDS)

/* One end of a fresh channel to a peer. tag: process_tag() of that peer (config/roles.h). */
#define PROC_PEER_FIELDS(F, S) F(S, u64, tag) F(S, fd, fd)
RPC_DECLARE(proc_peer, PROC_PEER_FIELDS)

#define PROC_REPORT_FIELDS(F, S) F(S, u64, tag) F(S, bytes, text)
RPC_DECLARE(proc_report, PROC_REPORT_FIELDS)
/* The callee's role, and how many channels to it have come so far: a newer one may be on its way. */
#define PROC_MISSING_FIELDS(F, S) F(S, u32, role) F(S, u64, count)
RPC_DECLARE(proc_missing, PROC_MISSING_FIELDS)

/* number: PROC_CONFIG, PROC_LISTEN (text: its address), or PROC_PEER (tag: as it was). */
#define PROC_AGAIN_FIELDS(F, S) F(S, u16, number) F(S, u64, tag) F(S, bytes, text)
RPC_DECLARE(proc_again, PROC_AGAIN_FIELDS)

/* uid: the file's owner. conn: a connection to the socket of local submission. */
#define PROC_DROP_FIELDS(F, S) F(S, bytes, name) F(S, u32, uid) F(S, fd, file) F(S, fd, conn)
RPC_DECLARE(proc_drop, PROC_DROP_FIELDS)
/* result: enum submit_result (smtp/submit.h); text: why not. */
#define PROC_DROPPED_FIELDS(F, S) F(S, bytes, name) F(S, u8, result) F(S, bytes, text)
RPC_DECLARE(proc_dropped, PROC_DROPPED_FIELDS)

/* path: as behind "lmtp:unix:". fd: connected, or on its way to be; -1: none, and text says why. */
#define PROC_CONNECT_FIELDS(F, S) F(S, u64, id) F(S, bytes, path)
RPC_DECLARE(proc_connect, PROC_CONNECT_FIELDS)
#define PROC_CONNECTED_FIELDS(F, S) F(S, u64, id) F(S, bytes, text) F(S, fd, fd)
RPC_DECLARE(proc_connected, PROC_CONNECTED_FIELDS)

#define PROC_STOP_FIELDS(F, S) F(S, u64, grace_ms)
RPC_DECLARE(proc_stop, PROC_STOP_FIELDS)

#define PROC_NOTE_FIELDS(F, S) F(S, bytes, text) /* READY: sandbox_status(); PROBE(D): a text */
RPC_DECLARE(proc_note, PROC_NOTE_FIELDS)
/* why: why it is not used; empty: from now on it counts. */
#define PROC_TAKEN_FIELDS(F, S) F(S, u64, generation) F(S, bytes, why)
RPC_DECLARE(proc_taken, PROC_TAKEN_FIELDS)

/* An account that suddenly sends much more than ever: struct surge (directory/sending.h). */
#define PROC_SURGE_FIELDS(F, S)                                                                                        \
	F(S, bytes, who)                                                                                               \
	F(S, u64, seq) F(S, u64, since) F(S, u64, hour) F(S, u64, hour_top) F(S, u64, day) F(S, u64, day_top)
RPC_DECLARE(proc_surge, PROC_SURGE_FIELDS)

/* downs, down_s, down_where: relay's, what struct downs_report has. login_failures: within the last hour. read_only: no
 * commit is taken. surges: directory's, those that were not told (DIR_SURGE_TOLD) yet, PROC_SURGES_MAX at a time. */
#define PROC_SURGES_MAX 16
#define PROC_STATE_FIELDS(F, S)                                                                                        \
	F(S, u64, sessions)                                                                                            \
	F(S, u64, login_failures)                                                                                      \
	F(S, u8, read_only) F(S, list, surges, proc_surge) F(S, u64, downs) F(S, u64, down_s) F(S, bytes, down_where)
RPC_DECLARE(proc_state, PROC_STATE_FIELDS)

/* ---- the control socket ---- */

#define CONTROL_OK_FIELDS(F, S) F(S, u8, unused)
RPC_DECLARE(control_ok, CONTROL_OK_FIELDS)

/* but: which processes have not taken the new configuration (yet), in a sentence; empty: all have. */
#define CONTROL_RELOADED_FIELDS(F, S) F(S, bytes, but)
RPC_DECLARE(control_reloaded, CONTROL_RELOADED_FIELDS)

#define CONTROL_PROCESS_FIELDS(F, S)                                                                                   \
	F(S, bytes, name)                                                                                              \
	F(S, u64, pid) F(S, u64, uptime_s) F(S, u32, restarts) F(S, u8, ready) F(S, bytes, jail) F(S, u64, sessions)
RPC_DECLARE(control_process, CONTROL_PROCESS_FIELDS)

#define CONTROL_STATUS_FIELDS(F, S)                                                                                    \
	F(S, u64, pid)                                                                                                 \
	F(S, u64, uptime_s)                                                                                            \
	F(S, bytes, version)                                                                                           \
	F(S, u8, privileged) F(S, u8, stopping) F(S, u64, reloads) F(S, list, processes, control_process)
RPC_DECLARE(control_status, CONTROL_STATUS_FIELDS)

/* The conditions of alarm mail that hold, or held and whose end was not told yet. Times: seconds, wall clock. */
#define CONTROL_ALARM_FIELDS(F, S)                                                                                     \
	F(S, bytes, name) F(S, bytes, text) F(S, u8, holds) F(S, u8, told) F(S, u64, since) F(S, u64, last_mail)
RPC_DECLARE(control_alarm, CONTROL_ALARM_FIELDS)
#define CONTROL_ALARMS_FIELDS(F, S) F(S, u64, looked) /* 0: not yet */ F(S, list, alarms, control_alarm)
RPC_DECLARE(control_alarms, CONTROL_ALARMS_FIELDS)

#define CONTROL_PROBE_FIELDS(F, S) F(S, bytes, process) F(S, bytes, what)
RPC_DECLARE(control_probe, CONTROL_PROBE_FIELDS)

/*      call                  request          reply
 *      CONTROL_STATUS        control_ok       control_status
 *      CONTROL_STOP          control_ok       control_ok         answered when everything has stopped
 *      CONTROL_RELOAD        control_ok       control_reloaded   answered when it counts; or why it was refused
 *      CONTROL_RESTART       control_ok       control_ok         answered before the new master begins
 *      CONTROL_STORE_STATUS  store_ok         store_report       relayed to store
 *      CONTROL_STORE_FSCK    store_fsck       store_report       relayed to store
 *      CONTROL_QUEUE_LIST    queue_list       queue_listed       relayed to queue
 *      CONTROL_QUEUE_ACT     queue_act        queue_acted        relayed to queue
 *      CONTROL_QUEUE_READ    queue_id         queue_message      relayed to queue
 *      CONTROL_DIR_CHANGED   control_ok       control_ok         told to directory
 *      CONTROL_DNS_LOOKUP    dns_question     dns_reply          relayed to dns
 *      CONTROL_STS           dir_sts_get      dir_sts            relayed to directory
 *      CONTROL_STS_FETCH     relay_sts        relay_ok           relayed to relay
 *      CONTROL_TABLES        control_ok       control_reloaded   the same of the files of look-up tables alone
 *      CONTROL_QUEUE_COMMIT  queue_commit     queue_id           relayed to queue
 *      CONTROL_ALARMS        control_ok       control_alarms
 *      CONTROL_PROBE         control_probe    proc_note          test builds only */
extern const struct rpc_call CONTROL_STATUS, CONTROL_STOP, CONTROL_RELOAD, CONTROL_RESTART, CONTROL_STORE_STATUS,
	CONTROL_STORE_FSCK, CONTROL_QUEUE_LIST, CONTROL_QUEUE_ACT, CONTROL_QUEUE_READ, CONTROL_DIR_CHANGED,
	CONTROL_PROBE, CONTROL_DNS_LOOKUP, CONTROL_TABLES, CONTROL_QUEUE_COMMIT, CONTROL_ALARMS, CONTROL_STS,
	CONTROL_STS_FETCH;
extern const struct rpc_call CONTROL_CALLS[];

#endif
