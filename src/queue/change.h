/* queue/change - a change of the queue under construction: key operations and contents, and what is to be said when it
 * is durable. One change is one commit. Shared by the files of src/queue/ only; the loop's. */
#ifndef QUEUE_CHANGE_H
#define QUEUE_CHANGE_H

#include "queue/service_private.h"

struct ended_message {		    /* in the change's arena */
	struct str id, delivery_id; /* the latter "": its key goes with the message */
};

struct change {
	struct queue_service *q;
	struct rpc_request *req; /* answered when it is durable; or NULL */
	VEC(struct kvlog_op) ops;
	VEC(uint64_t) blobs;
	struct kvlog_op taken; /* one of ops: QUEUE_COMMIT's note of the fingerprint; no key: none */
	struct arena arena;
	struct buf contents;
	char id[QUEUE_ID_MAX];		/* QUEUE_COMMIT: what is answered */
	VEC(struct ended_message) ends; /* messages that are gone; QUEUE_RESULT: at most the one reported on */
};

struct change *change_new(struct queue_service *q, struct rpc_request *req);
void change_free(struct change *c);
/* Copies both. */
void change_op(struct change *c, struct str key, struct str value, bool del);
/* A part as it is from now on. */
int part_put(struct change *c, struct part_id id, const struct queue_part *p, struct err *err) WARN_UNUSED;
void part_unschedule(struct change *c, struct part_id id, const struct queue_part *p);
void part_gone(struct change *c, struct part_id id);
/* What the index knows of a message, as it is from now on. */
int head_put(struct change *c, const struct queued *m, uint32_t parts, struct err *err) WARN_UNUSED;
/* The message leaves the queue. */
void change_end(struct change *c, const struct queue_message *m, bool by_hand);
/* The journal and the memory hold the same bytes: what a replay would make of the record. 0: the change frees itself
 * when it is durable. -1: it is still the caller's. */
int change_commit(struct change *c, struct err *err) WARN_UNUSED;

#endif
