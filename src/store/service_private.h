/* service_private - what the parts of the service share. See service.h for the rules; loop thread only, but
 * for jobs.c and what a job's `work` does. */
#ifndef STORE_SERVICE_PRIVATE_H
#define STORE_SERVICE_PRIVATE_H

#include "base/map.h"
#include "store/account.h"
#include "store/service.h"
#include <pthread.h>

struct peer {
	struct rpc_peer *rpc;
	uint64_t id, tag;
	bool directory, admin;
};

/* In whose name a front end's session may act, and how far. */
struct grant {
	uint64_t tag, session, account;
	uint8_t rights;
	uint64_t quota_bytes, quota_messages, serial;
	struct str path; /* malloc'ed */
};

struct follower {
	uint64_t peer; /* rpc_peer_id */
	uint64_t session;
	uint32_t opens, claims;
};
struct followed {
	uint64_t account;
	uint32_t mailbox;
	VEC(struct follower) followers;
	VEC(uint64_t) gaps; /* peers that missed events and have taken no snapshot since */
};

struct blob_ref {
	uint64_t blob, peer, size;
	bool finished;
};

/* A folder that was removed or renamed, since checkpoint number `checkpoints`. */
struct given_up {
	char *folder;
	uint64_t serial, checkpoints;
};

/* What must outlive the cache of an account. */
struct runtime {
	uint64_t account;
	struct txn *last;   /* youngest commit that is not durable yet */
	struct txn *before; /* what `last` was, while a commit is being tried */
	uint64_t serial;    /* bumped at each commit with file operations */
	VEC(struct folder_state *) folders;
	int64_t folders_ms;    /* when the directory was last looked at for folders that came or went */
	int64_t folders_at_ms; /* when it will be; 0: when somebody asks */
	unsigned rebuilding;   /* folders still to be read; requests wait in `waiting` */
	VEC(struct rpc_request *) waiting;
	int64_t rebuild_failed_ms; /* 0: never; not tried again at once */
	bool rebuild_broken;	   /* while rebuilding: a folder could not be read or taken over */
	unsigned rebuild_tries;	   /* so many ended so, one after the other */
	bool was_rebuilt;	   /* or was tried to */
	struct map *rebuilt;	   /* while rebuilding: message id to its first place */
	VEC(struct fsck *) fscks;  /* wait for the rebuild */
	VEC(struct given_up) given_up;
	uint64_t given_up_serial;
};

/* A request that waits for a grant: directory has not repeated it yet to a new store process. */
struct parked {
	struct rpc_request *req;
	int64_t until_ms;
};

/* A delivery of this life: who made it, and whether he has told that his own answer went out. Its notes are struck
 * off then, with the next commit that passes. Kept apart from the accounts, whose cache may be dropped any time. */
struct confirmation {
	uint64_t peer; /* who may confirm */
	uint64_t tag, session;
	int64_t confirmed_ms; /* 0: not yet */
	bool unheard;	      /* and it never will be: the session has ended */
	VEC(uint64_t) accounts;
};

struct post {
	void (*fn)(void *arg);
	void *arg;
};
struct post_list {
	struct post *v;
	size_t n, cap;
};

enum {
	TIMER_PARKED,
	TIMER_CONFIRM,
	TIMER_PROJECT,
	TIMER_SCAN,
	TIMER_PURGE,
	TIMER_FOLDERS,
	TIMER_RECOVER,
	TIMER_TIDY,
	TIMERS
};

struct store_service {
	struct conf *conf;
	struct store_engine *engine;
	struct rpc_server *server;
	bool start_anew;
	struct map *accounts;	 /* id: struct account */
	struct map *runtimes;	 /* id: struct runtime */
	struct map *grants;	 /* tag, session, account: struct grant */
	struct map *sessions;	 /* tag, session: the accounts it was granted (grant.c) */
	struct map *peers;	 /* rpc peer id: struct peer */
	struct map *followed;	 /* account, mailbox: struct followed */
	struct map *blobs;	 /* blob: struct blob_ref */
	struct map *delivered;	 /* delivery id: struct confirmation, until its notes are struck off */
	size_t told_accounts;	 /* in all of these together */
	VEC(uint64_t) to_strike; /* accounts with notes to be struck off */
	bool strike_failed;	 /* the last time */
	size_t chunk_count;
	VEC(struct parked) parked;
	VEC(uint64_t) to_project; /* accounts whose file names lag */
	int64_t started_ms, trimmed_ms, chunks_trimmed_ms;
	struct timer {
		struct store_service *svc;
		int64_t due_ms; /* 0: not set */
		void (*fn)(void *ctx);
	} timers[TIMERS];
	uint64_t tidy_from;  /* the same of tidy.c */
	uint64_t purge_from; /* account at which the next look for expunged files begins */
	char host[256];
	pthread_mutex_t posts_lock;
	struct post_list posts; /* under posts_lock: what the engine's threads hand to the loop */
	struct jobs *jobs;
	struct watcher *watcher;
};

struct uidlist;
struct fsck;

struct runtime *runtime_get(struct store_service *svc, uint64_t account);

/* ---- transactions (txn.c) -------------------------------------------------------------------------------- */

/* The news of one mailbox that a commit makes. */
struct change_set {
	uint64_t account;
	uint32_t mailbox;
	uint64_t modseq, since; /* HIGHESTMODSEQ after and before it; 0: nothing of it changed */
	bool deleted, keywords;
	VEC(struct message_change) changes;
	struct store_name names[STORE_KEYWORDS_MAX];
	size_t name_count;
};

struct held_answer {
	struct rpc_request *req;
	void *reply; /* in req->arena */
	int fd;	     /* closed afterwards; -1 */
};

struct uidlist_lines {
	uint64_t account;
	uint32_t mailbox;
	struct buf lines;
};

struct txn {
	struct store_service *svc;
	struct arena arena;
	struct buf scratch;
	VEC(struct store_kv_op) kv;
	VEC(struct store_file_op) files;
	VEC(struct str) bodies;
	VEC(struct account *) accounts; /* touched */
	VEC(uint64_t) account_ids;	/* the same, for when they are forgotten */
	VEC(struct change_set *) events;
	VEC(struct uidlist_lines *) lines;
	VEC(struct held_answer) answers;
	struct map *events_of, *lines_of; /* {account, mailbox} to one of these */
	struct map *places;		  /* R values written so far: index in kv, plus one */
	size_t bytes;			  /* of what has been added, about */
};

/* When a transaction has grown past this it is committed and another begun (txn_roll). */
#define TXN_ROLL_BYTES (3u << 20)

struct txn *txn_new(struct store_service *svc);
/* The account belongs to the transaction: its header is written, and forgotten if all fails. */
void txn_touch(struct txn *t, struct account *a);
void txn_put(struct txn *t, struct str key, struct str value); /* both in the arena, or living as long */
void txn_del(struct txn *t, struct str key);
/* What was encoded into t->scratch, moved to the arena. */
struct str txn_value(struct txn *t);
struct store_file_op *txn_file(struct txn *t, struct account *a, enum store_file_kind kind, struct str folder);
/* The next modseq, now also the mailbox's highest. */
uint64_t txn_modseq(struct txn *t, struct account *a, struct mailbox *m);
struct change_set *txn_changes(struct txn *t, uint64_t account, uint32_t mailbox);
void txn_change(struct txn *t, struct account *a, struct mailbox *m, enum change_kind kind, uint32_t uid,
		const struct hot_entry *h);
/* Lines for the mailbox's uidlist. */
struct buf *txn_lines(struct txn *t, struct account *a, struct mailbox *m);
/* Gives everything to the engine. On success the answer (req may be NULL) leaves when it is durable, *tp is NULL.
 * On failure nothing was done, the accounts are forgotten, *tp is NULL, req is still the caller's. */
int txn_commit(struct txn **tp, struct rpc_request *req, void *reply, struct err *err) WARN_UNUSED;
void txn_abort(struct txn **tp);
/* Commits what has gathered and goes on with an empty transaction, when it has become large. */
int txn_roll(struct txn **tp, struct err *err) WARN_UNUSED;
/* Answers when everything that the account has committed so far is durable. Takes fd (-1: none). */
void answer_when_durable(struct store_service *svc, uint64_t account, struct rpc_request *req, void *reply, int fd);

/* ---- messages (message.c) -------------------------------------------------------------------------------- */

struct placing {
	uint32_t uid; /* 0: the next one */
	uint64_t modseq;
	struct hot_entry hot; /* modseq is set from above */
	struct static_entry fixed;
};
/* Puts an entry into a mailbox: counts, quota, change, uidlist. The file is the caller's. */
int message_place(struct txn *t, struct account *a, struct mailbox *m, const struct placing *p, uint32_t *uid_r,
		  struct err *err) WARN_UNUSED;
/* Takes it out. `file_gone`: there is no file to keep for views that still show it. */
int message_remove(struct txn *t, struct account *a, struct mailbox *m, uint32_t uid, struct chunk *c, uint64_t modseq,
		   bool file_gone, bool moved, struct err *err) WARN_UNUSED;
int message_set(struct txn *t, struct account *a, struct mailbox *m, uint32_t uid, struct chunk *c, unsigned flags,
		uint64_t keywords, uint64_t modseq, struct err *err) WARN_UNUSED;
/* Renames the file so that it says what the flags say. */
int message_project(struct txn *t, struct account *a, struct mailbox *m, uint32_t uid, struct chunk *c,
		    struct err *err) WARN_UNUSED;
/* The message's places: one more; one less (the summary goes with the last). */
int message_ref(struct txn *t, struct account *a, uint64_t message, struct place first, struct place more,
		struct err *err) WARN_UNUSED;
int message_unref(struct txn *t, struct account *a, uint64_t message, struct place gone, struct err *err) WARN_UNUSED;
/* The bit of a keyword in the mailbox, made if there is room. */
int keyword_bit(struct txn *t, struct account *a, struct mailbox *m, struct str name, unsigned *bit_r,
		struct err *err) WARN_UNUSED;
int keyword_check(struct str name, struct err *err) WARN_UNUSED;

struct appending {
	unsigned flags;
	uint64_t keywords, modseq; /* modseq 0: a new one */
	uint64_t date;
	uint64_t size;	    /* with CRLF, without prefix */
	uint64_t file_size; /* without prefix */
	bool as_is;
	struct str prefix, summary;
	int body; /* index in the transaction's bodies, or -1 */
	uint64_t blob;
};
/* A new message with its file. */
int message_append(struct txn *t, struct account *a, struct mailbox *m, const struct appending *in, uint32_t *uid_r,
		   struct err *err) WARN_UNUSED;
/* Moves every message of one mailbox into another (commit.c). */
int messages_move_all(struct txn **t, struct account *a, struct mailbox *from, struct mailbox *to,
		      struct err *err) WARN_UNUSED;

/* ---- mailboxes (mailboxes.c) ----------------------------------------------------------------------------- */
void mailbox_info_fill(struct account *a, struct mailbox *m, struct arena *arena, struct mailbox_info *info_r);
/* What a mailbox of this name is used for, if no other is: ROLE_SENT of "Sent Items". */
unsigned mailbox_role(struct account *a, struct str name);
struct mailbox *mailbox_make(struct txn *t, struct account *a, struct str name, unsigned role, bool subscribed,
			     struct str folder);
/* With missing parents. */
int mailbox_make_path(struct txn *t, struct account *a, struct str name, unsigned role, struct mailbox **m_r,
		      struct err *err) WARN_UNUSED;
void mailbox_uidlist_head(struct txn *t, struct account *a, struct mailbox *m);

/* ---- followers (follow.c) -------------------------------------------------------------------------------- */
void follow_open(struct store_service *svc, struct peer *p, uint64_t session, uint64_t account, uint32_t mailbox,
		 bool claim);
void follow_close(struct store_service *svc, struct peer *p, uint64_t session, uint64_t account, uint32_t mailbox);
/* The peer has what it missed: events go on. */
void follow_snapshot_taken(struct store_service *svc, struct peer *p, uint64_t account, uint32_t mailbox);
void follow_session_end(struct store_service *svc, uint64_t peer, uint64_t session); /* session 0 with all: */
void follow_peer_end(struct store_service *svc, uint64_t peer);
void follow_revoke(struct store_service *svc, uint64_t account);
bool follow_claimed(struct store_service *svc, uint64_t account, uint32_t mailbox);
struct followed *follow_get(struct store_service *svc, uint64_t account, uint32_t mailbox);
void follow_announce(struct store_service *svc, const struct change_set *set);

/* ---- grants (grant.c) ------------------------------------------------------------------------------------ */
struct grant *grant_find(struct store_service *svc, const struct peer *p, uint64_t session, uint64_t account);
void grants_handle_grant(struct store_service *svc, struct peer *p, struct rpc_request *req);
void grants_handle_release(struct store_service *svc, struct peer *p, struct rpc_request *req);
void grants_handle_revoke(struct store_service *svc, struct peer *p, struct rpc_request *req);
void grants_handle_list(struct store_service *svc, struct rpc_request *req);
void grants_peer_end(struct store_service *svc, uint64_t tag);
void grants_session_free(struct store_service *svc, struct str session_key);

/* ---- calls: each answers or refuses req ------------------------------------------------------------------ */
/* What most calls need: the peer, its grant, the account (NULL when there is none yet and make is false). */
struct call {
	struct store_service *svc;
	struct peer *peer;
	struct rpc_request *req;
	struct grant *grant;
	struct account *account;
};
void call_mailboxes(struct call *c);
void call_mailbox(struct call *c);
void call_mailbox_change(struct call *c);
int mailbox_delete(struct txn **tp, struct account *a, struct mailbox *m, struct err *err) WARN_UNUSED;
void call_view_open(struct call *c);
void call_view_close(struct call *c);
void call_meta(struct call *c);
void call_body(struct call *c);
void call_bodies(struct call *c);
struct message_meta message_meta_of(uint32_t uid, const struct static_entry *e);
void call_summary_put(struct call *c);
void call_commit(struct call *c);
void call_deliver(struct call *c);
void call_confirm(struct call *c);
void call_blob_begin(struct call *c);
void call_blob_finish(struct call *c);
void call_blob_drop(struct call *c);
void call_quota(struct call *c);
void call_admit(struct call *c);
void call_fsck(struct call *c);
void call_check(struct call *c); /* check.c: the same call, when it asks to compare only */
void call_status(struct call *c);
void service_handle(void *ctx, struct rpc_request *req);
/* Tries requests again that waited for a grant. */
void parked_retry(struct store_service *svc);

void refuse(struct rpc_request *req, struct err *err);
/* True, with err, for what the engine calls while it is being closed: nothing can be read any more. */
bool store_stopping(const struct store_service *svc, struct err *err);
/* The answer to a commit id that was seen before: true when req has been taken care of. */
bool answer_repeat(struct call *c, struct str commit_id, const struct rpc_type *type);
void answer_remember(struct txn *t, struct account *a, struct str commit_id, const struct rpc_call *call,
		     const void *reply);
int quota_check(const struct grant *g, const struct account *a, uint64_t bytes, uint64_t messages,
		struct err *err) WARN_UNUSED;
/* A finished blob of this peer. */
struct blob_ref *blob_find(struct store_service *svc, const struct peer *p, uint64_t blob, struct err *err);
void blob_used(struct store_service *svc, uint64_t blob);
void blobs_peer_end(struct store_service *svc, uint64_t peer);
uint64_t body_file_size(struct str body, const struct blob_ref *blob);
uint64_t crlf_size(struct str text, bool as_is);
/* Of a message with CRLF, and the file it is to be. */
bool size_is_possible(uint64_t size, uint64_t file_size);

/* ---- delivery notes (deliver.c) -------------------------------------------------------------------------- */
struct confirmation;
void confirmation_free(struct store_service *svc, struct confirmation *d);
/* Quota as the sender is told of it: try again, or not (RFC 3463 3.3, X.2.2). */
int delivery_quota(struct store_service *svc, const struct grant *g, const struct account *a, uint64_t bytes,
		   struct err *err) WARN_UNUSED;
void delivery_notes_strike(struct txn *t, struct account *a); /* strikes confirmed ones off, with this transaction */
void delivery_notes_strike_all(struct store_service *svc);

/* ---- the directory on disk (scan.c, scan_merge.c, rebuild.c, watch.c) ------------------------------------- */
/* Looks whether other tools changed the folder, then calls fn (soon, or at once when nothing changed). */
void folder_look(struct store_service *svc, uint64_t account, uint32_t mailbox, void (*fn)(void *ctx), void *ctx);
void folder_scan_soon(struct store_service *svc, uint64_t account, uint32_t mailbox);
/* Folders that other tools made. */
void folders_look(struct store_service *svc, struct account *a);
void folders_look_soon(struct store_service *svc, uint64_t account, int64_t delay_ms);
/* Nothing changed since the folder was read. */
bool folder_unchanged(struct store_service *svc, struct account *a, struct mailbox *m, struct folder_state *fs);
/* The same, told by the times alone, once it is watched: from here on the watch tells. */
bool folder_stands(struct store_service *svc, const struct account *a, const struct mailbox *m);
/* At the end: which folders stand as they were read, so that the next start need not read them again. */
void folders_save(struct store_service *svc);
struct folder_state *folder_state_get(struct store_service *svc, uint64_t account, uint32_t mailbox);
void folder_state_drop(struct store_service *svc, uint64_t account, uint32_t mailbox);
void account_damaged(struct store_service *svc, uint64_t id, struct str path);
/* Makes the account anew from its files and uidlists; requests for it wait meanwhile. */
int account_rebuild(struct store_service *svc, uint64_t id, struct str path, struct err *err) WARN_UNUSED;
/* Scan of one folder for a rebuild: files get the UIDs that the uidlist gives them. */
void folder_rebuild(struct store_service *svc, struct account *a, struct mailbox *m, struct uidlist *list,
		    struct arena *arena);
void folder_rebuilt(struct store_service *svc, uint64_t account);
/* What is in memory of these accounts is written to the names of the files; more is found when folders are read. */
bool account_has_files(struct store_service *svc, struct str path);
/* The account with the lowest id above this one. */
bool account_after(struct store_service *svc, uint64_t id, struct arena *arena, uint64_t *id_r, struct str *path_r);
void project_soon(struct store_service *svc, uint64_t account);
/* At the end: what was claimed as \Recent a moment ago is written. */
void claims_save(struct store_service *svc);
/* The uidlist says much that is no longer so: project.c writes it anew. */
bool uidlist_is_long(const struct mailbox *m);
void purge_soon(struct store_service *svc);
/* What a killed store left unfinished goes, in the background (tidy.c). */
void tidy_start(struct store_service *svc);
void watch_start(struct store_service *svc);
void watch_stop(struct store_service *svc);
void watch_follow(struct store_service *svc, uint64_t account, uint32_t mailbox);
/* Another number after each change of the folder's files that is not ours; what happened before the call counts. 0:
 * that cannot be told, the folder's times have to be looked at. */
uint64_t watch_mark(struct store_service *svc, const struct account *a, const struct mailbox *m);
void watch_unfollow(struct store_service *svc, uint64_t account, uint32_t mailbox);
/* Watches what is followed and was not there before. False: something still is not. */
bool watch_again(struct store_service *svc, uint64_t account);
/* We are about to make this name appear or vanish ourselves. */
void watch_expect(struct store_service *svc, uint64_t account, const struct store_file_op *op);

/* ---- upkeep (service.c) ---------------------------------------------------------------------------------- */
/* fn(svc) after ms at the latest; one at a time of each sort. */
void timer_once(struct store_service *svc, unsigned timer, int64_t ms, void (*fn)(void *ctx));

/* ---- jobs (jobs.c): work on other threads ------------------------------------------------------------------ */
struct job {
	void (*work)(struct job *j); /* on a thread of its own kind */
	void (*done)(struct job *j); /* on the loop; frees */
	struct store_service *svc;
	struct job *next;
};
struct jobs *jobs_new(struct store_service *svc, unsigned threads);
void jobs_add(struct jobs *jobs, struct job *j);
void jobs_free(struct jobs **jobs); /* waits for what is under way; what has not begun is done() */

#endif
