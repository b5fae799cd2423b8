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

/* What the index knows of a message. */
struct queued {
	uint64_t due;		/* seconds; 0 while parsing fails */
	struct queue_message m; /* without contents; points into the arena it was decoded to */
};

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

/* A message that could not be read when it was due. */
struct put_off {
	char *id;
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

struct queue_service {
	struct queue_options o;
	struct rpc_service service;
	struct rpc_server *server;
	bool start_anew; /* the loop's */
	struct kvlog *k;
	struct spool *spool;
	struct pool *pool; /* finishes blobs */
	int msgs;	   /* directory of contents */
	bool rebuild;	   /* the index was lost: take it from msgs */

	/* The loop's. */
	struct map *unread;		/* id of a message that could not be read the last time */
	struct map *claims;		/* id -> peer id + 1 */
	struct map *taken;		/* delivery id -> struct taken */
	VEC(struct delivery_key) heard; /* to be written */
	bool striking;
	struct map *blobs; /* begun and not used yet: id -> peer id + 1 */
	VEC(struct waiting_claim) polls;
	VEC(struct put_off) put_offs;
	int64_t timer_ms;	 /* when the earliest timer fires; 0: none is set */
	uint64_t last_us;	 /* of queue ids */
	VEC(struct ended) ended; /* oldest first, from ended_first on */
	size_t ended_first;

	atomic_bool unlinked; /* files were removed since the last sync */
	pthread_mutex_t lock;
	VEC(struct contents *) contents; /* in LSN order */
};

/* message.c: keys and values */
void queue_id_new(struct queue_service *q, char out[QUEUE_ID_MAX]);
bool queue_id_ok(struct str id);
struct str message_key(struct str id, char out[QUEUE_KEY_MAX]);
/* Schedule: due time, destination, id. */
struct str schedule_key(uint64_t due, struct str destination, struct str id, char out[QUEUE_KEY_MAX]);
bool schedule_parse(struct str key, uint64_t *due_r, struct str *id_r);
struct str message_destination(const struct queue_message *m);
/* The message without contents, as the index and the trailer of a file hold it. False: too large. */
bool message_encode(uint64_t due, const struct queue_message *m, struct buf *out) WARN_UNUSED;
int message_decode(struct str value, struct arena *a, struct queued *q_r, struct err *err) WARN_UNUSED;
/* 1, 0 no such message, -1. */
int message_get(struct queue_service *q, struct str id, struct arena *a, struct queued *q_r,
		struct err *err) WARN_UNUSED;

/* repeat.c */
struct str repeat_key(struct str delivery_id, char out[QUEUE_KEY_MAX]);
/* 1: the delivery was committed before, as *id_r (in the arena). 0: not. -1. */
int repeat_find(struct queue_service *q, struct str delivery_id, struct arena *a, struct str *id_r,
		struct err *err) WARN_UNUSED;
void repeat_ended(struct queue_service *q, struct str delivery_id);
/* The next delivery that nobody will repeat any more. */
bool repeat_outdated(struct queue_service *q, uint8_t delivery_id_r[16]);
/* After recovery: deliveries whose messages have ended, as if they had right now. */
int repeat_load(struct queue_service *q, struct err *err) WARN_UNUSED;

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
void taken_free_all(struct queue_service *q);
void queue_handle_heard(struct queue_service *q, struct rpc_request *req);
void queue_handle_orphans(struct queue_service *q, struct rpc_request *req);
void queue_handle_known(struct queue_service *q, struct rpc_request *req);

/* contents.c */
/* The extra part of a commit: contents of new messages. */
void contents_encode(struct buf *out, struct str id, const struct queue_message *m, struct str envelope,
		     uint64_t blob_size);
void contents_encode_end(struct buf *out, struct str id);
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
/* The message's end is durable. */
void contents_end(struct queue_service *q, struct str id);
int contents_rebuild(struct queue_service *q, struct err *err) WARN_UNUSED;
void contents_free(struct queue_service *q);

/* change.c, claim.c, admin.c: handlers */
void queue_handle_commit(struct queue_service *q, struct rpc_request *req);
void queue_handle_result(struct queue_service *q, struct rpc_request *req);
void queue_handle_claim(struct queue_service *q, struct rpc_request *req);
void queue_handle_list(struct queue_service *q, struct rpc_request *req);
void queue_handle_act(struct queue_service *q, struct rpc_request *req);
void queue_handle_read(struct queue_service *q, struct rpc_request *req); /* read.c */
bool queue_is_claimed(struct queue_service *q, struct str id);
void queue_handle_summary(struct queue_service *q, struct rpc_request *req);
/* The peer began the blob: nobody else may finish, use or drop it. */
bool blob_is_of(const struct queue_service *q, uint64_t blob, const struct rpc_peer *peer);
void blobs_drop_of(struct queue_service *q, const struct rpc_peer *peer);
/* Something may be due now: answers long polls, sets the timer. */
void queue_pump(struct queue_service *q);
void queue_peer_closed(void *ctx, struct rpc_peer *peer);
/* The claim ends, if it is this peer's. */
/* A claim that a queue process of before gave is nobody's. */
bool claimed_by_another(struct queue_service *q, struct str id, const struct rpc_peer *peer);
void claim_drop_of(struct queue_service *q, struct str id, const struct rpc_peer *peer);
void queue_change_by_hand(struct queue_service *q, struct str id, enum queue_action action);

#endif
