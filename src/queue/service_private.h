/* Shared by the files of src/queue/ only. */
#ifndef QUEUE_SERVICE_PRIVATE_H
#define QUEUE_SERVICE_PRIVATE_H

#include "base/map.h"
#include "base/mem.h"
#include "base/vec.h"
#include "engine/rpc.h"
#include "journal/kvlog.h"
#include "journal/pool.h"
#include "journal/spool.h"
#include "queue/service.h"
#include <pthread.h>
#include <stdatomic.h>

#define QUEUE_ID_MAX	 32
#define QUEUE_INLINE_MAX (64u << 10)
#define QUEUE_RCPTS_MAX	 50000u
#define QUEUE_KEY_MAX	 400
#define DESTINATION_MAX	 255
/* Numbers of parts from here on are records of what the sender must be told; the last is their QUEUE_PART_REPORT. */
#define PART_TOLD 0x80000000u

/* What the index knows of a message. */
struct queued {
	uint64_t due;		/* message_decode(): seconds */
	uint32_t parts, nrcpt;	/* when it came */
	struct queue_message m; /* without contents; points into the arena it was decoded to */
};

struct spread;
struct schedule;
struct gone;

/* The bytes of a message that are not in a file yet. */
struct contents {
	char id[QUEUE_ID_MAX];
	uint64_t lsn;
	uint64_t blob, size;
	char *body;	/* inline, if blob is 0 */
	char *envelope; /* encoded queue_message */
	size_t envelope_len;
	bool gone;  /* the message has ended */
	bool filed; /* the file is written, not yet known to be synced */
	unsigned refs;
};

struct waiting_claim { /* a long poll */
	struct rpc_request *req;
	int64_t deadline_ms;
};

/* A part that could not be read when it was due. */
struct put_off {
	char *key;
	size_t len;
	int64_t until_ms;
};

/* What was taken, and whether its sender knows: see taken.c. */
struct taken {
	uint8_t delivery_id[16];
	uint64_t peer; /* the front end that answers, plus one; 0: nobody does any more */
	struct arena arena;
	struct queue_taken rec;
};
struct delivery_key {
	uint8_t id[16];
};

/* A delivery whose message has ended. Its key stays for a while: see repeat.c. */
struct ended {
	uint8_t delivery_id[16];
	int64_t at_ms;
};

struct released {
	char id[QUEUE_ID_MAX];
	uint64_t lsn;
};
struct queue_room {
	int64_t asked_ms;
	uint64_t bytes, inodes;
};
struct acting;	     /* by_hand.c */
struct claim_answer; /* claim.c */

struct queue_service {
	struct queue_options o;
	struct rpc_service service;
	struct rpc_server *server;
	bool start_anew; /* the loop's */
	struct kvlog *k;
	struct spool *spool;
	struct pool *pool;    /* finishes blobs */
	struct pool *readers; /* of files of what is claimed */
	int msgs;	      /* directory of contents */
	bool rebuild;	      /* the index was lost: take it from msgs */

	/* The loop's. */
	struct map *unread; /* keys of parts that could not be read the last time */
	struct schedule *schedule;
	uint32_t asked;			/* as in struct queue_claimed */
	struct map *etrn;		/* destination -> when it may be asked for again (clock_ms()), as a pointer */
	struct map *spreads;		/* id -> struct spread: of messages of several parts that are worked on */
	struct map *claims;		/* part's key -> struct holding */
	struct map *taken;		/* delivery id -> struct taken */
	VEC(struct delivery_key) heard; /* to be written */
	bool striking, striking_now, strike_failed;
	struct map *blobs; /* begun and not used yet: id -> peer id + 1 */
	VEC(struct waiting_claim) polls;
	VEC(struct claim_answer *) reading; /* wait for files */
	VEC(struct put_off) put_offs;
	int64_t timer_ms;	 /* when the earliest timer fires; 0: none is set */
	uint64_t last_us;	 /* of queue ids */
	VEC(struct ended) ended; /* oldest first, from ended_first on */
	size_t ended_first;

	struct queue_room room; /* free space as last asked for, less what was admitted since */
	VEC(struct acting *) acting;
	struct tidy *tidy; /* NULL: done */
	struct gone *gone;

	atomic_bool unsynced; /* files were written or removed since the last sync */
	pthread_mutex_t lock;
	VEC(struct contents *) contents; /* in LSN order */
	struct map *contents_by_id;	 /* the latest of each id */
	VEC(struct released) released;	 /* their files do not say so yet */
};

/* message.c: keys and values */
void queue_id_new(struct queue_service *q, char out[QUEUE_ID_MAX]);
bool queue_id_ok(struct str id);
struct str message_key(struct str id, char out[QUEUE_KEY_MAX]);
bool queue_id_is_given(struct str id);
/* The message without contents, as the trailer of a file holds it (and the index of older versions did). False: too
 * large. */
bool message_encode(uint64_t due, const struct queue_message *m, struct buf *out) WARN_UNUSED;
int message_decode(struct str value, struct arena *a, struct queued *q_r, struct err *err) WARN_UNUSED;
/* The same without recipients, as the index holds it. */
bool message_head_encode(const struct queue_message *m, uint32_t parts, uint32_t nrcpt, struct buf *out) WARN_UNUSED;
int message_head_decode(struct str value, struct arena *a, struct queued *q_r, struct err *err) WARN_UNUSED;
/* 1, 0 no such message, -1. */
int message_get(struct queue_service *q, struct str id, struct arena *a, struct queued *q_r,
		struct err *err) WARN_UNUSED;

/* part.c */
struct part_id { /* a part's name */
	struct str id;
	uint32_t part;
};
struct str part_key(struct part_id p, char out[QUEUE_KEY_MAX]);
bool part_key_parse(struct str key, struct part_id *p_r);
/* All parts of a message: from first to before the returned end, both in `out`. */
void part_range(struct str id, char first[QUEUE_KEY_MAX], char end[QUEUE_KEY_MAX], struct str *first_r,
		struct str *end_r);
/* bulk: as in the part. */
struct str schedule_key(struct str destination, unsigned bulk, uint64_t due, struct part_id p, char out[QUEUE_KEY_MAX]);
enum schedule_class { CLASS_SMALL, CLASS_BULK, CLASS_LATER, SCHEDULE_CLASSES };
struct schedule_entry {
	struct str destination;
	unsigned class; /* enum schedule_class */
	uint64_t due;
	struct part_id p;
};
bool schedule_parse(struct str key, struct schedule_entry *e_r);
bool part_encode(const struct queue_part *p, struct buf *out) WARN_UNUSED;
int part_decode(struct str value, struct arena *a, struct queue_part *p_r, struct err *err) WARN_UNUSED;
/* 1, 0 no such part, -1. */
int part_get(struct queue_service *q, struct part_id p, struct arena *a, struct queue_part *p_r,
	     struct err *err) WARN_UNUSED;
/* Where a recipient's part goes. In the arena, in lower case. */
struct str part_destination(const struct queue_rcpt *rcpt, struct arena *a);
/* The recipients of a message in parts, by destination, at most `limit` in each. */
struct queue_part *part_split(const struct queue_message *m, uint64_t due, size_t limit, struct arena *a,
			      size_t *count_r);

/* Gives messages (ascending in id, without recipients) those of all their parts; how they stand. *n: how many there
 * are; on return those that are whole, at least one: no more are begun when they take max_bytes. */
int messages_recipients(struct queue_service *q, struct arena *a, struct queue_message *messages,
			struct queue_state *states_r, size_t *n, size_t max_bytes, struct err *err) WARN_UNUSED;

/* spread.c: how far a message of several parts is. Counts, kept while it is worked on. */
struct spread {
	uint32_t left;	  /* parts of recipients */
	uint32_t untried; /* of them */
	uint32_t claimed; /* of them */
	uint64_t report;  /* when the report is due; 0: there is none */
};
/* NULL with err. */
struct spread *spread_of(struct queue_service *q, struct str id, bool *is_new_r, struct err *err);
void spread_drop(struct queue_service *q, struct str id);
/* Nothing goes on with it: what is known of it can be found again. */
void spread_rest(struct queue_service *q, struct str id);
void spread_free_all(struct queue_service *q);

/* schedule.c */
struct schedule *schedule_new(void);
void schedule_free(struct schedule **s);
int schedule_load(struct queue_service *q, struct err *err) WARN_UNUSED;
/* A key was put. */
void schedule_put(struct queue_service *q, struct str key);
/* One more, one less is claimed. The latter brings the destination back into turn. */
void schedule_claimed(struct queue_service *q, struct str destination);
/* `again`: the part is as due as before. */
void schedule_released(struct queue_service *q, struct str destination, bool again);
void schedule_pause(struct queue_service *q, struct str destination, int64_t pause_ms);
/* The next part in turn that is due and not claimed; its key in `out`. False: none; *next_ms_r: when there may be one
 * (wall clock; 0: nothing waits). A destination with `window` (0: any number) claims is left out. The caller claims it.
 */
bool schedule_next(struct queue_service *q, uint32_t window, char out[QUEUE_KEY_MAX], struct str *key_r,
		   uint64_t *next_ms_r);

/* upgrade.c: an index of before there were parts */
int queue_upgrade(struct queue_service *q, struct err *err) WARN_UNUSED;
/* What makes `m` known to the index: all its keys. */
int message_ops(struct queue_service *q, const struct queue_message *m, uint64_t due, struct arena *a,
		void (*add)(void *ctx, struct str key, struct str value), void *ctx, struct err *err) WARN_UNUSED;

/* later.c */
/* It has a key of its own, by which its user's are counted. */
bool later_is_counted(const struct queue_message *m);
struct str later_key(const struct queue_message *m, char out[QUEUE_KEY_MAX]);
struct str later_value(const struct queue_message *m, char out[16]);
/* One more of that size may wait for this user. -1 with err: ERR_DENIED, it may not. */
int later_admit(struct queue_service *q, struct str user, uint64_t size, struct err *err) WARN_UNUSED;

/* repeat.c */
struct str repeat_key(struct str delivery_id, char out[QUEUE_KEY_MAX]);
/* 1: the delivery was committed before, as *id_r (in the arena). 0: not. -1. */
int repeat_find(struct queue_service *q, struct str delivery_id, struct arena *a, struct str *id_r,
		struct err *err) WARN_UNUSED;
/* The message came so long ago that nobody repeats its delivery: its key may go with it. */
bool repeat_is_over(const struct queue_message *m);
void repeat_ended(struct queue_service *q, struct str delivery_id);
/* The next delivery that nobody will repeat any more. */
bool repeat_outdated(struct queue_service *q, uint8_t delivery_id_r[16]);
/* A key found after a start: if its message has ended, as if it had right now. */
void repeat_found(struct queue_service *q, struct str key, struct str id);

/* taken.c */
/* The key that notes a new message, for the commit that takes it; and once that was made. */
int taken_op(const struct queue_message *m, struct str fingerprint, struct arena *a, struct kvlog_op *op_r,
	     struct err *err) WARN_UNUSED;
void taken_committed(struct queue_service *q, const struct kvlog_op *op, const struct rpc_peer *peer);
/* The message ends: true, with the operation for the same commit, when nothing need be known of it any more. */
bool taken_ended(struct queue_service *q, struct str delivery_id, bool by_hand, struct arena *a, struct kvlog_op *op_r);
struct str taken_fingerprint(struct queue_service *q, struct str delivery_id, struct arena *a);
void taken_peer_closed(struct queue_service *q, const struct rpc_peer *peer);
int taken_load(struct queue_service *q, struct err *err) WARN_UNUSED;
/* A key found after a start: of no use any more when its sender heard and its message has ended. */
void taken_found(struct queue_service *q, struct str key, struct str value);
void taken_free_all(struct queue_service *q);

/* gone.c: files of messages that have ended */
struct gone *gone_new(struct queue_service *q);
void gone_free(struct gone **g);
/* What a process of before has left to do. */
int gone_open(struct gone *g, struct err *err) WARN_UNUSED;
/* The end of the message that has this file is durable. */
void gone_add(struct gone *g, struct str id);
/* A checkpoint, on its thread: from its sync on the journal need not tell of them any more. */
void gone_settle(struct gone *g);
/* The loop: goes on with removing, until all are. */
void gone_sweep(void *g);
bool gone_is_swept(const struct gone *g);
/* All at once, before the files are taken for what is in the queue. */
void gone_sweep_now(struct gone *g);

/* tidy.c: after a start, while others are served: what a crash left behind is looked for. */
void tidy_begin(struct queue_service *q);
void tidy_free(struct queue_service *q);
void queue_handle_heard(struct queue_service *q, struct rpc_request *req);
void queue_handle_orphans(struct queue_service *q, struct rpc_request *req);
void queue_handle_known(struct queue_service *q, struct rpc_request *req);

/* contents.c */
/* The extra part of a commit: contents of new messages. */
void contents_encode(struct buf *out, struct str id, const struct queue_message *m, struct str envelope,
		     uint64_t blob_size);
void contents_encode_end(struct buf *out, struct str id);
void contents_encode_released(struct buf *out, struct str id); /* what MARK_HOLD says does not hold any more */
/* The bytes are such a part. */
bool contents_check(struct str extra) WARN_UNUSED;
/* Keeps the contents of a commit until a checkpoint has filed them. */
void contents_take(struct queue_service *q, uint64_t lsn, struct str extra);
/* The same in recovery, and removes the files of messages that ended. */
int contents_replay(struct queue_service *q, uint64_t lsn, struct str extra, struct err *err) WARN_UNUSED;
int contents_recovered(void *ctx, struct err *err);
int contents_settle(void *ctx, uint64_t lsn, struct err *err);
void contents_settled(void *ctx, uint64_t lsn);
/* Fills body or body_fd of a claimed message. 0, or -1. */
int contents_open(struct queue_service *q, struct str id, struct queue_message *m, struct arena *a,
		  struct err *err) WARN_UNUSED;
/* The same in two steps, of which the second may wait for the disk: 1, the contents are in no file yet; 0,
 * contents_read() is needed, on any thread; -1. */
int contents_here(struct queue_service *q, struct str id, struct queue_message *m, struct arena *a,
		  struct err *err) WARN_UNUSED;
int contents_read(struct queue_service *q, struct queue_message *m, struct arena *a, struct err *err) WARN_UNUSED;
/* A file of that name belongs to a message. One that cannot be looked up counts as such. */
bool contents_wanted(struct queue_service *q, struct str id);
void contents_unlink(struct queue_service *q, struct str id);
/* The message's end is durable. */
void contents_end(struct queue_service *q, struct str id);
int contents_rebuild(struct queue_service *q, struct err *err) WARN_UNUSED;
void contents_free(struct queue_service *q);

/* change.c, claim.c, admin.c, by_hand.c: handlers */
void queue_handle_commit(struct queue_service *q, struct rpc_request *req);
void queue_handle_result(struct queue_service *q, struct rpc_request *req);
void queue_handle_progress(struct queue_service *q, struct rpc_request *req);
void queue_handle_claim(struct queue_service *q, struct rpc_request *req);
void queue_handle_give_back(struct queue_service *q, struct rpc_request *req);
void queue_handle_admit(struct queue_service *q, struct rpc_request *req);
void queue_handle_list(struct queue_service *q, struct rpc_request *req);
void queue_handle_act(struct queue_service *q, struct rpc_request *req);  /* by_hand.c */
void queue_handle_read(struct queue_service *q, struct rpc_request *req); /* read.c */
void queue_handle_etrn(struct queue_service *q, struct rpc_request *req); /* by_hand.c */
void queue_handle_summary(struct queue_service *q, struct rpc_request *req);
/* The peer began the blob: nobody else may finish, use or drop it. */
bool blob_is_of(const struct queue_service *q, uint64_t blob, const struct rpc_peer *peer);
void blobs_drop_of(struct queue_service *q, const struct rpc_peer *peer);
/* Something may be due now: answers long polls, sets the timer. */
void queue_pump(struct queue_service *q);
void queue_peer_closed(void *ctx, struct rpc_peer *peer);
/* The service ends, its readers have ended: claims whose files were read are told so. */
void claims_refuse(struct queue_service *q, const struct err *err);
void claims_free_all(struct queue_service *q);
bool part_is_claimed(const struct queue_service *q, struct str part_key);
/* A claim that a queue process of before gave is nobody's. */
bool claimed_by_another(struct queue_service *q, struct part_id p, const struct rpc_peer *peer);
/* The claim ends, whoever had it. `again`: the part is as due as before. */
void claim_drop(struct queue_service *q, struct part_id p, bool again);
/* It was dropped, but the peer keeps it. */
void claim_return(struct queue_service *q, struct part_id p, const struct rpc_peer *peer);
/* The service ends: acts that are not finished are told so. */
void queue_acts_refuse(struct queue_service *q, const struct err *err);

#endif
