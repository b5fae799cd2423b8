/* queue/schema - the calls that the process `queue` answers.
 *
 * A queued message is an envelope (sender, recipients, DSN parameters) and contents. It was accepted: it
 * leaves only by delivery, by a bounce that is itself safe, or by an administrator's hand. `relay` claims due
 * parts of messages, tries, and reports each recipient's result; a claim that is not reported (relay died) comes
 * back by itself. */
#ifndef QUEUE_SCHEMA_H
#define QUEUE_SCHEMA_H

#include "engine/rpc.h"

/* The lists of fields are tables. */
/* clang-format off */

enum dsn_notify { NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4, NOTIFY_DELAY = 8 };   /* 0: not given */
enum dsn_ret { RET_NONE, RET_FULL, RET_HDRS };
/* BY (RFC 2852 4): what to do when the time is over; and whether to tell of each relaying. */
enum by_mode { BY_NOTIFY = 1, BY_RETURN = 2, BY_TRACE = 4 };
enum queue_outcome { OUTCOME_DELIVERED = 1, OUTCOME_DEFERRED, OUTCOME_FAILED };
/* A report was asked for: of the first attempt (sendmail -v); of what would become of it, for nothing is delivered
 * (sendmail -bv). */
enum queue_mark { MARK_REPORT = 1, MARK_VERIFY = 2,
	MARK_EXPIRED = 4, /* by hand: what the next attempt cannot deliver goes back */
	MARK_HOLD = 8 /* of a new message: it is not tried until it is released */ };

#define QUEUE_RCPT_FIELDS(F, S)                                   \
	F(S, u32, index)          /* names the recipient within the message */ \
	F(S, bytes, address)      /* resolved */                  \
	F(S, bytes, original)     /* as given in RCPT TO */       \
	F(S, bytes, orcpt)        /* ORCPT parameter, decoded "type;address", or "" */ \
	F(S, u32, notify)                                         \
	F(S, u64, account)        /* local account, or 0 */       \
	F(S, u32, attempts)                                       \
	F(S, bytes, last_code) F(S, bytes, last_text)  /* why it waits */
RPC_DECLARE(queue_rcpt, QUEUE_RCPT_FIELDS)

/* ID, envelope and where the contents are. In a commit: id "", times 0, contents inline or a finished blob. */
#define QUEUE_MESSAGE_FIELDS(F, S)                                \
	F(S, bytes, id)           /* queue id as logs show it */  \
	F(S, bytes, delivery_id)  /* 16 bytes, goes with every attempt */ \
	F(S, bytes, sender)       /* "" is the null sender */     \
	F(S, bytes, auth_user)                                    \
	F(S, bytes, client)       /* "name[address]" */           \
	F(S, bytes, envid) F(S, u8, ret)                          \
	F(S, u8, smtputf8)                                        \
	F(S, u64, arrival)                                        \
	F(S, list, rcpts, queue_rcpt)                             \
	F(S, bytes, prefix)       /* Received: and what submission added, without Return-Path and Delivered-To */ \
	F(S, bytes, body)         /* LF form, or as received with as_is */ \
	F(S, u64, blob)                                           \
	F(S, fd, body_fd)         /* in a claim, for bodies over 64 KB: read-only, body at offset 0 */ \
	F(S, u64, size) F(S, u8, as_is)                           \
	F(S, bytes, summary)      \
	/* From here on fields that came later: queue/message.c reads what was written without them. */ \
	F(S, u64, hold_until)     /* seconds: not tried before (RFC 4865); 0: at once */ \
	F(S, bytes, hold_request) /* as Future-Release-Request has it: "for;600" */ \
	F(S, u64, by_time)        /* seconds: to be delivered until then (RFC 2852), if by_mode */ \
	F(S, u8, by_mode)         /* enum by_mode */ \
	F(S, bytes, verp)         /* two delimiters: each recipient's copy has a sender of its own (msg/verp.h); or "" */ \
	F(S, u8, marks)           /* enum queue_mark */
RPC_DECLARE(queue_message, QUEUE_MESSAGE_FIELDS)

/* A part is what is scheduled: recipients of one message at one destination, so many that one delivery takes them.
 * Parts are claimed, tried, put off and struck off one by one. QUEUE_PART_REPORT is not one of recipients: the
 * notifications that its message still owes (`told`), all in one. */
#define QUEUE_PART_REPORT 0xffffffffu
/* What became of a recipient, kept until it was told to the sender. TOLD_TRACE beside the outcome: for the report that
 * was asked for, whatever else is told. */
#define TOLD_TRACE 0x80
#define TOLD_EXPANDED 2 /* in `relayed`: he is an alias, and went on as another message */
#define QUEUE_TOLD_FIELDS(F, S)                                   \
	F(S, bytes, address) F(S, bytes, orcpt)                   \
	F(S, u8, outcome) F(S, u8, relayed /* delivered to a system that sends no reports */) \
	F(S, bytes, code) F(S, bytes, text)                       \
	F(S, bytes, mta) F(S, bytes, said)  /* host that decided and its reply, or "" */ \
	F(S, u64, time)
RPC_DECLARE(queue_told, QUEUE_TOLD_FIELDS)
/* What the sender was told: that it is late by delay_warning_time, or by BY. */
enum queue_warned { WARNED_DELAY = 1, WARNED_BY = 2 };
/* In `bulk`: its sender asked for it to wait until `due`. */
#define PART_LATER 2
/* As the index keeps it. */
#define QUEUE_PART_FIELDS(F, S)                                   \
	F(S, u64, due) F(S, u32, attempts)                        \
	F(S, u8, bulk)            /* one of several parts at its destination; PART_LATER */ \
	F(S, u8, warned)          /* enum queue_warned */ \
	F(S, bytes, destination)  /* domain in lower case; "local" for accounts */ \
	F(S, list, rcpts, queue_rcpt) F(S, list, told, queue_told)
RPC_DECLARE(queue_part, QUEUE_PART_FIELDS)

/* `fingerprint`: of sender and bytes, or "" when a second try of it could not be told. */
#define QUEUE_COMMIT_FIELDS(F, S) F(S, one, message, queue_message) F(S, bytes, fingerprint)
RPC_DECLARE(queue_commit, QUEUE_COMMIT_FIELDS)

#define QUEUE_ID_FIELDS(F, S) F(S, bytes, id)
RPC_DECLARE(queue_id, QUEUE_ID_FIELDS)

/* Due parts, at most `max`, each as a message with its recipients; waits up to wait_ms for one. Destinations take
 * turns, and none has more than `window` (0: any number) parts claimed: one that is slow or dead keeps no other. */
#define QUEUE_CLAIM_FIELDS(F, S) F(S, u32, max) F(S, u32, wait_ms) F(S, u32, window)
RPC_DECLARE(queue_claim, QUEUE_CLAIM_FIELDS)
#define QUEUE_FINGERPRINT_FIELDS(F, S) F(S, bytes, fingerprint)
RPC_DECLARE(queue_fingerprint, QUEUE_FINGERPRINT_FIELDS)
#define QUEUE_NUMBER_FIELDS(F, S) F(S, u32, number)
RPC_DECLARE(queue_number, QUEUE_NUMBER_FIELDS)
#define QUEUE_CLAIM_INFO_FIELDS(F, S)                             \
	F(S, u32, part)                                           \
	F(S, u32, nrcpt)          /* of the whole message, when it came */ \
	F(S, u8, alone)           /* the message has no other part: its notifications go with the result */ \
	F(S, u8, first)           /* nothing of the message was claimed before, as far as this process knows */ \
	F(S, u8, warned)                                          \
	F(S, u32, attempts)                                       \
	F(S, list, told, queue_told)        /* QUEUE_PART_REPORT: of these ... */ \
	F(S, list, records, queue_number)   /* ... in these records, for the result to name */
RPC_DECLARE(queue_claim_info, QUEUE_CLAIM_INFO_FIELDS)
/* The lists are parallel. fingerprints: as it came with the commit; for the store, which may hold the sender's first
 * try. asked: another number than in the answer before when somebody asked meanwhile for mail to be tried now (flush,
 * release, requeue, ETRN): he may know that a destination is there again. */
#define QUEUE_CLAIMED_FIELDS(F, S) F(S, list, messages, queue_message) F(S, list, fingerprints, queue_fingerprint) \
	F(S, list, infos, queue_claim_info) F(S, u32, asked)
RPC_DECLARE(queue_claimed, QUEUE_CLAIMED_FIELDS)

#define QUEUE_OUTCOME_FIELDS(F, S) F(S, u32, index) F(S, u8, outcome) F(S, bytes, code) F(S, bytes, text)
RPC_DECLARE(queue_rcpt_outcome, QUEUE_OUTCOME_FIELDS)
/* Struck off (delivered, failed) or due later (deferred). A result that is refused leaves the part with who claimed it: he
 * reports again, or gives it back. A bounce goes in the same commit as the failures
 * it tells of: `bounce` is a whole message, or one without recipients for none. */
#define QUEUE_RESULT_FIELDS(F, S) \
	F(S, bytes, id) F(S, list, outcomes, queue_rcpt_outcome) F(S, list, bounces, queue_message) \
	F(S, u32, part)                                           \
	F(S, u8, warned)                    /* enum queue_warned: of what the sender is told by this result */ \
	F(S, list, told, queue_told)        /* to be told together with what becomes of other parts */ \
	F(S, list, records, queue_number)   /* QUEUE_PART_REPORT: these were told */ \
	F(S, u32, attempt)                  /* the claim's `attempts` plus one: the same again is not taken twice; or 0 */
RPC_DECLARE(queue_result, QUEUE_RESULT_FIELDS)
/* QUEUE_PROGRESS (queue_result): outcomes and told, of recipients of a part that stays claimed. Those DELIVERED or FAILED
 * are struck off; one at least is left. What it brings comes once, however often it is said. */
#define QUEUE_ENDED_FIELDS(F, S) F(S, u8, ended /* the message has no other part: it is gone */)
RPC_DECLARE(queue_ended, QUEUE_ENDED_FIELDS)
/* No reply. The claim ends without an attempt; nothing more of its destination is claimed for so long. */
#define QUEUE_GIVE_BACK_FIELDS(F, S) F(S, bytes, id) F(S, u32, part) F(S, u32, pause_ms)
RPC_DECLARE(queue_give_back, QUEUE_GIVE_BACK_FIELDS)
/* Would a message of that size be taken now? Refused with 4.3.1 when the disk is full; of later_user (or "") to be sent
 * later: with ERR_DENIED when too much of him waits, as its commit would be. There is so much room that for
 * ample_ms nobody need ask again (0: not so much). */
#define QUEUE_ADMIT_FIELDS(F, S) F(S, u64, size) F(S, bytes, later_user)
RPC_DECLARE(queue_admit, QUEUE_ADMIT_FIELDS)
#define QUEUE_ADMITTED_FIELDS(F, S) F(S, u8, ample_ms)
RPC_DECLARE(queue_admitted, QUEUE_ADMITTED_FIELDS)

/* ---- second tries (queue/taken.c; front ends use queue/client.h) ----
 * A message is an orphan when it was committed, but its front end died or told (heard 0) that its answer did not leave.
 * QUEUE_ORPHANS lists the fingerprints of all; QUEUE_KNOWN (queue_fingerprint) tells more of those with this one.
 * QUEUE_HEARD has no reply: the answer left, also that to the second try. */
#define QUEUE_HEARD_FIELDS(F, S) F(S, bytes, delivery_id) F(S, u8, heard)
RPC_DECLARE(queue_heard, QUEUE_HEARD_FIELDS)
#define QUEUE_ORPHANS_MAX 50000
#define QUEUE_ORPHANS_FIELDS(F, S) F(S, list, fingerprints, queue_fingerprint)
RPC_DECLARE(queue_orphans, QUEUE_ORPHANS_FIELDS)
#define QUEUE_ADDRESS_FIELDS(F, S) F(S, bytes, address)
RPC_DECLARE(queue_address, QUEUE_ADDRESS_FIELDS)
#define QUEUE_KNOWN_ONE_FIELDS(F, S) F(S, bytes, delivery_id) F(S, bytes, id) F(S, list, recipients, queue_address)
RPC_DECLARE(queue_known_one, QUEUE_KNOWN_ONE_FIELDS)
#define QUEUE_KNOWN_FIELDS(F, S) F(S, list, messages, queue_known_one)
RPC_DECLARE(queue_known, QUEUE_KNOWN_FIELDS)
/* What the queue's index keeps of it. */
#define QUEUE_TAKEN_FIELDS(F, S) \
	F(S, bytes, id) F(S, bytes, fingerprint) F(S, u64, time) F(S, u8, heard) F(S, list, recipients, queue_address)
RPC_DECLARE(queue_taken, QUEUE_TAKEN_FIELDS)

#define QUEUE_BLOB_BEGIN_FIELDS(F, S) F(S, u64, size_hint)
RPC_DECLARE(queue_blob_begin, QUEUE_BLOB_BEGIN_FIELDS)
#define QUEUE_BLOB_FIELDS(F, S) F(S, u64, blob) F(S, fd, fd)
RPC_DECLARE(queue_blob, QUEUE_BLOB_FIELDS)
#define QUEUE_BLOB_FINISH_FIELDS(F, S) F(S, u64, blob) F(S, u64, size) F(S, u32, crc)
RPC_DECLARE(queue_blob_finish, QUEUE_BLOB_FINISH_FIELDS)
#define QUEUE_OK_FIELDS(F, S) F(S, u8, unused)
RPC_DECLARE(queue_ok, QUEUE_OK_FIELDS)

/* QUEUE_READ (queue_id) answers a queue_message with its contents: body, or body_fd.
 * Administrator: envelopes without contents, oldest first, from `after` on. */
#define QUEUE_LIST_FIELDS(F, S) F(S, bytes, after) F(S, u32, max)
RPC_DECLARE(queue_list, QUEUE_LIST_FIELDS)
/* Beside each message: when it is due (QUEUE_HELD and later: never by itself), and whether somebody has it in hand. */
#define QUEUE_HELD 0x7fffffffffffull
#define QUEUE_STATE_FIELDS(F, S) F(S, u64, due) F(S, u8, active)
RPC_DECLARE(queue_state, QUEUE_STATE_FIELDS)
#define QUEUE_LISTED_FIELDS(F, S) F(S, list, messages, queue_message) F(S, list, states, queue_state)
RPC_DECLARE(queue_listed, QUEUE_LISTED_FIELDS)
/* id "": all, or those with recipients at `destination`; `ids`: these, as far as they are there. FLUSH: due now, but for
 * what is held, or waits because its sender asked for it (and with a destination, only what goes there). HOLD: not tried
 * until it is released. RELEASE: of what is held; what waits for its sender's time goes out now. REQUEUE: as if it had
 * just come, held or not. EXPIRE: MARK_EXPIRED; it is due when it was. */
enum queue_action { QUEUE_DELETE = 1, QUEUE_FLUSH, QUEUE_HOLD, QUEUE_RELEASE, QUEUE_REQUEUE, QUEUE_EXPIRE };
#define QUEUE_ACT_FIELDS(F, S) F(S, u8, action) F(S, bytes, id) F(S, list, ids, queue_id) F(S, bytes, destination) \
	F(S, bytes, after /* of all: behind this id */) F(S, u64, until /* of all: what came by then; 0: whatever is there */) \
	F(S, u8, counts /* of all: how many are there is to be said */)
RPC_DECLARE(queue_act, QUEUE_ACT_FIELDS)
/* count: messages that were found; ids: those named to which it did something. next: of all, it was many; go on after this one. "": all is done.
 * total: how many there were to begin with, behind `after`, if that was asked. */
#define QUEUE_ACTED_FIELDS(F, S) F(S, u64, count) F(S, bytes, next) F(S, list, ids, queue_id) F(S, u64, total)
RPC_DECLARE(queue_acted, QUEUE_ACTED_FIELDS)

/* ETRN (RFC 1985): what waits for this destination is due now; how many messages. Asked by strangers: no more than
 * QUEUE_ETRN_MAX of them are counted and begun, and none again within QUEUE_ETRN_PAUSE_S. */
#define QUEUE_ETRN_MAX	   10000u
#define QUEUE_ETRN_PAUSE_S 60
#define QUEUE_ETRN_FIELDS(F, S) F(S, bytes, destination)
RPC_DECLARE(queue_etrn, QUEUE_ETRN_FIELDS)

/* How much waits, for alarms: messages, counted up to `max`; the arrival of the oldest that is no alarm mail itself
 * (client "alert"), 0 for none. Cheap: keys, and the first few values. */
#define QUEUE_SUMMARY_ASK_FIELDS(F, S) F(S, u32, max)
RPC_DECLARE(queue_summary_ask, QUEUE_SUMMARY_ASK_FIELDS)
#define QUEUE_SUMMARY_FIELDS(F, S) F(S, u64, messages) F(S, u64, oldest)
RPC_DECLARE(queue_summary, QUEUE_SUMMARY_FIELDS)
#define QUEUE_CLIENT_ALERT "alert"

/* Since when it is tried, or will be: its life, and pauses, count from there. */
uint64_t queue_message_since(const struct queue_message *m);

extern const struct rpc_call QUEUE_COMMIT, QUEUE_CLAIM, QUEUE_RESULT, QUEUE_BLOB_BEGIN, QUEUE_BLOB_FINISH, QUEUE_BLOB_DROP,
	QUEUE_LIST, QUEUE_ACT, QUEUE_READ, QUEUE_HEARD, QUEUE_ORPHANS, QUEUE_KNOWN, QUEUE_GIVE_BACK, QUEUE_ADMIT,
	QUEUE_SUMMARY, QUEUE_ETRN, QUEUE_PROGRESS;
extern const struct rpc_call QUEUE_CALLS[];
/* clang-format on */

#endif
