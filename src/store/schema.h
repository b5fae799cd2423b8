/* store/schema - the calls that the process `store` answers, and what they carry.
 *
 * The store keeps accounts; an account keeps mailboxes; a mailbox keeps messages in ascending UID. Every
 * change is a commit: atomic, durable when answered, ordered within its account. Every call names a session
 * of the caller's and an account; the store looks up the grant (peer, session, account) that `directory`
 * gave and refuses (ERR_DENIED) what its rights do not cover. Message bytes are never interpreted here.
 *
 * Times are seconds since 1970. Mailbox names are UTF-8 with '/' between levels; "INBOX" is spelled so. */
#ifndef STORE_SCHEMA_H
#define STORE_SCHEMA_H

#include "engine/rpc.h"

/* The lists of fields are tables. */
/* clang-format off */

/* ---- flags, roles, rights ---- */
enum {
	FLAG_SEEN = 1, FLAG_ANSWERED = 2, FLAG_FLAGGED = 4, FLAG_DELETED = 8, FLAG_DRAFT = 16,
	FLAG_SYSTEM = 31,
};
/* Keywords are bits of a 64-bit word; bit i is the i-th name of the mailbox's keyword list. */
#define STORE_KEYWORDS_MAX 64
#define STORE_KEYWORD_LEN_MAX 100

enum mailbox_role {
	ROLE_NONE, ROLE_INBOX, ROLE_DRAFTS, ROLE_SENT, ROLE_TRASH, ROLE_JUNK, ROLE_ARCHIVE, ROLE_FLAGGED, ROLE_ALL,
};

enum store_rights { RIGHT_READ = 1, RIGHT_WRITE = 2, RIGHT_DELIVER = 4, RIGHT_ADMIN = 8, RIGHTS_FULL = 7 };

/* ---- pieces ---- */
#define UID_RANGE_FIELDS(F, S) \
	F(S, u32, first)       \
	F(S, u32, last)        /* inclusive; first <= last; ranges ascend and do not touch */
RPC_DECLARE(uid_range, UID_RANGE_FIELDS)

#define STORE_NAME_FIELDS(F, S) F(S, bytes, name)
RPC_DECLARE(store_name, STORE_NAME_FIELDS)

#define MAILBOX_INFO_FIELDS(F, S)                                                   \
	F(S, u32, id)             /* never reused, kept through RENAME; 0: not a mailbox (a subscribed name only) */ \
	F(S, bytes, name)                                                           \
	F(S, u8, role)                                                              \
	F(S, u8, subscribed)                                                        \
	F(S, u32, uidvalidity)                                                      \
	F(S, u32, uidnext)                                                          \
	F(S, u64, highestmodseq)                                                    \
	F(S, u32, messages)                                                         \
	F(S, u32, unseen)                                                           \
	F(S, u32, recent)                                                           \
	F(S, u32, deleted)                                                          \
	F(S, u64, size)           /* sum of RFC822.SIZE */
RPC_DECLARE(mailbox_info, MAILBOX_INFO_FIELDS)

/* ---- looking ---- */
#define STORE_ACCOUNT_FIELDS(F, S) F(S, u64, session) F(S, u64, account)
RPC_DECLARE(store_account, STORE_ACCOUNT_FIELDS)

#define STORE_MAILBOX_LIST_FIELDS(F, S) F(S, list, mailboxes, mailbox_info)
RPC_DECLARE(store_mailbox_list, STORE_MAILBOX_LIST_FIELDS)

#define STORE_MAILBOX_GET_FIELDS(F, S) F(S, u64, session) F(S, u64, account) F(S, bytes, name)
RPC_DECLARE(store_mailbox_get, STORE_MAILBOX_GET_FIELDS)

enum mailbox_change { MAILBOX_CREATE = 1, MAILBOX_DELETE, MAILBOX_RENAME, MAILBOX_SUBSCRIBE, MAILBOX_UNSUBSCRIBE };
/* CREATE makes missing parents. RENAME of INBOX moves its messages into the new mailbox (RFC 3501 6.3.5). */
#define STORE_MAILBOX_CHANGE_FIELDS(F, S) \
	F(S, u64, session) F(S, u64, account) F(S, bytes, commit_id) \
	F(S, u8, change) F(S, bytes, name) F(S, bytes, new_name) F(S, u8, role)
RPC_DECLARE(store_mailbox_change, STORE_MAILBOX_CHANGE_FIELDS)

/* ---- views: see store/view.h, which is what protocols use ---- */
#define STORE_VIEW_OPEN_FIELDS(F, S) \
	F(S, u64, session) F(S, u64, account) F(S, u32, mailbox) \
	F(S, u8, claim_recent)    /* SELECT, not EXAMINE: this session gets the \Recent messages */ \
	F(S, u8, want_snapshot)   /* 0: the caller's process already follows this mailbox */
RPC_DECLARE(store_view_open, STORE_VIEW_OPEN_FIELDS)

/* The snapshot is the mailbox chunk by chunk (store/snapshot.h), inline or (large) in a sealed memory file. From the reply on, the peer gets store_changes events for this mailbox, until as many
 * view_close as view_open were sent by it. The directory on disk was looked at first. */
#define STORE_VIEW_FIELDS(F, S)                                   \
	F(S, one, info, mailbox_info)                             \
	F(S, u32, first_recent)   /* UIDs from here are \Recent for this session; 0: none */ \
	F(S, list, keywords, store_name)                          \
	F(S, bytes, snapshot)                                     \
	F(S, fd, snapshot_fd)                                     \
	F(S, u32, count)
RPC_DECLARE(store_view, STORE_VIEW_FIELDS)

#define STORE_VIEW_CLOSE_FIELDS(F, S) F(S, u64, session) F(S, u64, account) F(S, u32, mailbox)
RPC_DECLARE(store_view_close, STORE_VIEW_CLOSE_FIELDS)

enum change_kind { CHANGE_NEW = 1, CHANGE_FLAGS, CHANGE_EXPUNGE };
#define MESSAGE_CHANGE_FIELDS(F, S) \
	F(S, u8, kind) F(S, u32, uid) F(S, u32, flags) F(S, u64, keywords) F(S, u64, modseq)
RPC_DECLARE(message_change, MESSAGE_CHANGE_FIELDS)

/* Event. Sent to every peer that follows the mailbox, to the committing one before the commit's reply. */
#define STORE_CHANGES_FIELDS(F, S)                                \
	F(S, u64, account) F(S, u32, mailbox)                     \
	F(S, u64, modseq)         /* the mailbox's HIGHESTMODSEQ now, and before: who knew less has missed something. */ \
	F(S, u64, since)          /* Both 0: nothing of it changed */ \
	F(S, u8, gap)             /* events were lost: take a new snapshot */ \
	F(S, u8, deleted)         /* the mailbox is gone */       \
	F(S, list, changes, message_change)                       \
	F(S, list, keywords, store_name)  /* the whole list, when it grew; else empty */
RPC_DECLARE(store_changes, STORE_CHANGES_FIELDS)

#define STORE_META_GET_FIELDS(F, S) \
	F(S, u64, session) F(S, u64, account) F(S, u32, mailbox) \
	F(S, list, uids, uid_range) /* at most 1,000 messages are answered, found among about 4,000 UIDs; ask again */ \
	F(S, u8, want_summary)
RPC_DECLARE(store_meta_get, STORE_META_GET_FIELDS)

#define MESSAGE_META_FIELDS(F, S)                                 \
	F(S, u32, uid)                                            \
	F(S, u64, message)        /* id, unique in the account, same in every mailbox it was copied to */ \
	F(S, u64, date)           /* INTERNALDATE */              \
	F(S, u64, size)           /* RFC822.SIZE: with CRLF */    \
	F(S, u64, file_size)                                      \
	F(S, u32, prefix_len)     /* bytes of the file before the accepted message; offsets in summary start behind */ \
	F(S, u8, as_is)           /* the file holds the bytes as received: never convert LF */ \
	F(S, bytes, summary)      /* msg/summary.h; empty: not parsed yet, see store_summary_put */ \
	F(S, u8, found)
RPC_DECLARE(message_meta, MESSAGE_META_FIELDS)

#define STORE_META_FIELDS(F, S) F(S, list, messages, message_meta)
RPC_DECLARE(store_meta, STORE_META_FIELDS)

#define STORE_BODY_GET_FIELDS(F, S) F(S, u64, session) F(S, u64, account) F(S, u32, mailbox) F(S, u32, uid)
RPC_DECLARE(store_body_get, STORE_BODY_GET_FIELDS)

/* Either fd (read-only, the Maildir file) or, while the file is not written yet, the bytes. */
#define STORE_BODY_FIELDS(F, S) F(S, fd, fd) F(S, bytes, bytes) F(S, one, meta, message_meta)
RPC_DECLARE(store_body, STORE_BODY_FIELDS)

/* Several small messages at once: one answer for many calls. */
#define STORE_BODIES_GET_FIELDS(F, S)                             \
	F(S, u64, session) F(S, u64, account) F(S, u32, mailbox)  \
	F(S, list, uids, uid_range)
RPC_DECLARE(store_bodies_get, STORE_BODIES_GET_FIELDS)
/* Ascending, until STORE_BODIES_MAX messages or STORE_BODIES_BYTES are reached; bytes are empty where the message must
 * be asked for by itself (large, or not where it was thought to be). Expunged ones are left out. */
#define STORE_BODIES_MAX   64
#define STORE_BODIES_BYTES (256u << 10)
#define STORE_BODIES_FIELDS(F, S) F(S, list, bodies, store_body)
RPC_DECLARE(store_bodies, STORE_BODIES_FIELDS)

/* What a front end found out about messages that came without a summary (another tool put the files there). */
#define FOUND_SUMMARY_FIELDS(F, S) F(S, u64, message) F(S, bytes, summary)
RPC_DECLARE(found_summary, FOUND_SUMMARY_FIELDS)
#define STORE_SUMMARY_PUT_FIELDS(F, S) \
	F(S, u64, session) F(S, u64, account) F(S, list, found, found_summary)
RPC_DECLARE(store_summary_put, STORE_SUMMARY_PUT_FIELDS)

/* ---- changing ---- */
enum store_op_kind { OP_APPEND = 1, OP_FLAGS, OP_EXPUNGE, OP_COPY, OP_MOVE };
enum flags_mode { FLAGS_SET = 1, FLAGS_ADD, FLAGS_REMOVE };
#define STORE_OP_FIELDS(F, S)                                     \
	F(S, u8, kind)                                            \
	F(S, u32, mailbox)                                        \
	F(S, u32, target)         /* COPY, MOVE: destination */   \
	F(S, list, uids, uid_range)                               \
	F(S, u8, mode)            /* FLAGS */                     \
	F(S, u32, flags)                                          \
	F(S, list, keywords, store_name)                          \
	F(S, u64, unchangedsince) /* FLAGS: leave messages with a higher modseq alone; UINT64_MAX: no condition */ \
	F(S, u8, only_deleted)    /* EXPUNGE: only those flagged \Deleted */ \
	F(S, u64, date)           /* APPEND */                    \
	F(S, u64, size)           /* APPEND: with CRLF, without prefix */ \
	F(S, u8, as_is)                                           \
	F(S, bytes, body)         /* APPEND: the file's bytes, or */ \
	F(S, u64, blob)           /* the finished blob that holds them */ \
	F(S, bytes, summary)
RPC_DECLARE(store_op, STORE_OP_FIELDS)

/* All ops are done, or none. A repeated commit_id (16 bytes) gets the first answer again. */
#define STORE_COMMIT_FIELDS(F, S) \
	F(S, u64, session) F(S, u64, account) F(S, bytes, commit_id) F(S, list, ops, store_op)
RPC_DECLARE(store_commit, STORE_COMMIT_FIELDS)

#define STORE_OP_RESULT_FIELDS(F, S)                              \
	F(S, u32, uidvalidity)    /* of the mailbox appended, copied or moved to */ \
	F(S, list, uids, uid_range)     /* touched in `mailbox`, ascending */ \
	F(S, list, new_uids, uid_range) /* given in the destination, in the order of uids */ \
	F(S, list, modified, uid_range) /* FLAGS: failed the unchangedsince test */
RPC_DECLARE(store_op_result, STORE_OP_RESULT_FIELDS)

/* modseq: the last one that this commit gave; 0: it changed nothing */
#define STORE_COMMITTED_FIELDS(F, S) F(S, u64, modseq) F(S, list, results, store_op_result)
RPC_DECLARE(store_committed, STORE_COMMITTED_FIELDS)

/* ---- delivering: one message to accounts of one shard, one flush, all or nothing ---- */
#define DELIVER_TARGET_FIELDS(F, S)                               \
	F(S, u64, account)                                        \
	F(S, bytes, recipient)    /* the resolved address; (delivery id, recipient) is done once */ \
	F(S, bytes, mailbox)      /* "" is INBOX; created when missing if `create` */ \
	F(S, u8, create)                                          \
	F(S, u32, flags)                                          \
	F(S, list, keywords, store_name)                          \
	F(S, bytes, prefix)       /* Return-Path, Delivered-To, Received: LF line ends (CRLF when as_is) */
RPC_DECLARE(deliver_target, DELIVER_TARGET_FIELDS)

#define STORE_DELIVER_FIELDS(F, S)                                \
	F(S, u64, session)                                        \
	F(S, bytes, delivery_id)  /* 16 bytes */                  \
	F(S, bytes, fingerprint)  /* sender and hash of the bytes; an unconfirmed twin of it is answered as already delivered */ \
	F(S, u8, queued)          /* it comes from the queue, which knows its second try: do not note the fingerprint */ \
	F(S, list, targets, deliver_target)                       \
	F(S, bytes, body)                                         \
	F(S, u64, blob)                                           \
	F(S, u64, size)                                           \
	F(S, u8, as_is)                                           \
	F(S, u64, date)                                           \
	F(S, bytes, summary)
RPC_DECLARE(store_deliver, STORE_DELIVER_FIELDS)

/* Why one target refused (kind is an enum err_kind). With any refusal nothing was written. */
#define DELIVER_REFUSAL_FIELDS(F, S) \
	F(S, u32, target)         /* index in targets */ \
	F(S, u8, kind) F(S, bytes, code) F(S, bytes, text)
RPC_DECLARE(deliver_refusal, DELIVER_REFUSAL_FIELDS)

#define STORE_DELIVERED_FIELDS(F, S) F(S, u8, duplicate) F(S, list, refusals, deliver_refusal)
RPC_DECLARE(store_delivered, STORE_DELIVERED_FIELDS)

/* No reply: the front end has written its own answer to these; the notes may go. unheard: it could not, and its session has
 * ended: whoever sends the same again has it already. */
#define STORE_ID_FIELDS(F, S) F(S, u64, id)
RPC_DECLARE(store_id, STORE_ID_FIELDS)
#define STORE_CONFIRM_FIELDS(F, S) \
	F(S, bytes, delivery_id) F(S, list, accounts, store_id) /* of its targets */ F(S, u8, unheard)
RPC_DECLARE(store_confirm, STORE_CONFIRM_FIELDS)

/* ---- blobs: bodies over 64 KB ---- */
#define BLOB_BEGIN_FIELDS(F, S) F(S, u64, session) F(S, u64, size_hint)
RPC_DECLARE(blob_begin, BLOB_BEGIN_FIELDS)
#define BLOB_FIELDS(F, S) F(S, u64, blob) F(S, fd, fd)
RPC_DECLARE(blob, BLOB_FIELDS)
/* Syncs file and directory; afterwards the caller must not write. Refused if length or CRC32C differ. */
#define BLOB_FINISH_FIELDS(F, S) F(S, u64, blob) F(S, u64, size) F(S, u32, crc)
RPC_DECLARE(blob_finish, BLOB_FINISH_FIELDS)
#define BLOB_DROP_FIELDS(F, S) F(S, u64, blob)
RPC_DECLARE(blob_drop, BLOB_DROP_FIELDS)

#define STORE_OK_FIELDS(F, S) F(S, u8, unused)
RPC_DECLARE(store_ok, STORE_OK_FIELDS)

/* ---- quota and upkeep ---- */
#define STORE_QUOTA_FIELDS(F, S) F(S, u64, used_bytes) F(S, u64, used_messages) F(S, u64, limit_bytes) F(S, u64, limit_messages)
RPC_DECLARE(store_quota, STORE_QUOTA_FIELDS)

/* Would a message of this size be taken now? Answers ERR_FULL (over quota 4.2.2, disk 4.3.1) or OK. RCPT asks. */
#define STORE_ADMIT_FIELDS(F, S) F(S, u64, session) F(S, u64, account) F(S, u64, size)
RPC_DECLARE(store_admit, STORE_ADMIT_FIELDS)

/* ---- from directory only ---- */
#define STORE_GRANT_FIELDS(F, S)                                  \
	F(S, u64, peer_tag)       /* rpc_peer_tag of the front end's channel: which process */ \
	F(S, u64, session) F(S, u64, account) F(S, u8, rights)    \
	F(S, u64, quota_bytes) F(S, u64, quota_messages)  /* 0: none */ \
	F(S, bytes, path)         /* the account's Maildir, relative to the store's root */ \
	F(S, u8, admit)           /* 1: would a message of this size be taken now? Refused as STORE_ADMIT is: */ \
	F(S, u64, size)           /* the grant stands all the same */ \
	F(S, u64, serial)         /* directory's, for STORE_GRANTS: which state of the account it goes by */
RPC_DECLARE(store_grant, STORE_GRANT_FIELDS)
/* What a directory that was started anew takes over: the grants behind this one, in order of tag, session and
 * account; as many as fit into an answer. None: that was all. */
#define STORE_GRANTS_FIELDS(F, S) F(S, u64, peer_tag) F(S, u64, session) F(S, u64, account)
RPC_DECLARE(store_grants, STORE_GRANTS_FIELDS)
#define STORE_GRANTED_FIELDS(F, S) F(S, list, grants, store_grant)
RPC_DECLARE(store_granted, STORE_GRANTED_FIELDS)
#define STORE_RELEASE_FIELDS(F, S) F(S, u64, peer_tag) F(S, u64, session)
RPC_DECLARE(store_release, STORE_RELEASE_FIELDS)
#define STORE_REVOKE_FIELDS(F, S) F(S, u64, account)
RPC_DECLARE(store_revoke, STORE_REVOKE_FIELDS)

/* ---- from master's control socket: rebuild the index of an account (or all: 0) from the files, or only compare ---- */
#define STORE_FSCK_FIELDS(F, S) F(S, u64, account) F(S, bytes, path) F(S, u8, check)
RPC_DECLARE(store_fsck, STORE_FSCK_FIELDS)
#define STORE_REPORT_FIELDS(F, S) F(S, bytes, text) F(S, u64, faults)
RPC_DECLARE(store_report, STORE_REPORT_FIELDS)

/*      call                  request                reply (none: sent and forgotten)
 *      STORE_MAILBOXES       store_account          store_mailbox_list
 *      STORE_MAILBOX         store_mailbox_get      mailbox_info
 *      STORE_MAILBOX_CHANGE  store_mailbox_change   mailbox_info
 *      STORE_VIEW_OPEN       store_view_open        store_view
 *      STORE_VIEW_CLOSE      store_view_close       none
 *      STORE_CHANGES         store_changes          an event
 *      STORE_META            store_meta_get         store_meta
 *      STORE_BODY            store_body_get         store_body
 *      STORE_SUMMARY_PUT     store_summary_put      none
 *      STORE_COMMIT          store_commit           store_committed
 *      STORE_DELIVER         store_deliver          store_delivered
 *      STORE_CONFIRM         store_confirm          none
 *      STORE_BLOB_BEGIN      blob_begin             blob
 *      STORE_BLOB_FINISH     blob_finish            store_ok
 *      STORE_BLOB_DROP       blob_drop              none
 *      STORE_QUOTA           store_account          store_quota
 *      STORE_ADMIT           store_admit            store_ok
 *      STORE_GRANT           store_grant            store_ok
 *      STORE_RELEASE         store_release          none
 *      STORE_REVOKE          store_revoke           store_ok
 *      STORE_GRANTS          store_grants           store_granted
 *      STORE_FSCK            store_fsck             store_report
 *      STORE_STATUS          store_ok               store_report
 *      STORE_BODIES          store_bodies_get       store_bodies */
extern const struct rpc_call STORE_MAILBOXES, STORE_MAILBOX, STORE_MAILBOX_CHANGE, STORE_VIEW_OPEN, STORE_VIEW_CLOSE,
	STORE_CHANGES, STORE_META, STORE_BODY, STORE_SUMMARY_PUT, STORE_COMMIT, STORE_DELIVER, STORE_CONFIRM,
	STORE_BLOB_BEGIN, STORE_BLOB_FINISH, STORE_BLOB_DROP, STORE_QUOTA, STORE_ADMIT, STORE_GRANT, STORE_RELEASE,
	STORE_REVOKE, STORE_FSCK, STORE_STATUS, STORE_BODIES, STORE_GRANTS;
extern const struct rpc_call STORE_CALLS[];        /* all of them, ended by {0} */
/* clang-format on */

#endif
