/* queue/client - for those that take messages from outside (smtpd): is this the second try of a client that never heard
 * that its first was taken? Cheap: the fingerprints of such messages are fetched once for each life of the queue, and
 * again when a session of this process ends without having been heard; the queue is asked only when one fits.
 *
 * There is one process of the kind that can leave orphans. Were there more, each had to tell the others. */
#ifndef QUEUE_CLIENT_H
#define QUEUE_CLIENT_H

#include "queue/schema.h"

struct queue_client;

struct queue_client *queue_client_new(void);
void queue_client_free(struct queue_client **c);
struct rpc_channel *queue_client_channel(struct queue_client *c);

/* The messages with this fingerprint that were taken and whose sender may not know. 0 with *known_r (in `hold`, which
 * the caller has made and releases), or -1 with err: the queue did not answer in time. Blocks. */
int queue_known_find(struct queue_client *c, struct str fingerprint, struct queue_known *known_r,
		     struct rpc_reply *hold, struct err *err) WARN_UNUSED;
/* The 250 to a message that the queue has (or to its second try) has left; or its session ended and it had not. Does
 * not block. What was heard is told again to a queue that was started anew. */
void queue_heard(struct queue_client *c, const uint8_t delivery_id[16], bool heard);
/* For rpc_channel_on_late() of any channel to the queue: a blob that nobody knows of goes. */
void queue_came_late(struct rpc_channel *c, uint16_t number, const void *reply);

#endif
