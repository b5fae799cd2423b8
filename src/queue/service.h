/* queue/service - the process `queue` as a library: accepted messages, safe until somebody took them.
 *
 * Invariants:
 *  1. A commit is answered when the message is durable; a result (with its bounces) when it is. One commit each.
 *  2. Each part of a message (recipients at one destination) is in the schedule exactly once, and gone when it has
 *     no recipients; the message is gone when it has neither parts nor anything to tell its sender.
 *  3. A part is claimed by at most one peer; the claim ends with its result or with the peer.
 *  4. Contents are in the journal until a checkpoint has written them to "msgs/ID" (body first, envelope
 *     behind, so that the index can be rebuilt), and are unlinked only after the message's end is durable.
 *
 * Each process may ask only what its work takes (by the role in its channel's tag): smtpd commits, relay commits,
 * claims and reports, master lists, acts, and commits alarm mail. A report may come without the claim: relay may have
 * lost its channel in between. */
#ifndef QUEUE_SERVICE_H
#define QUEUE_SERVICE_H

#include "base/err.h"
#include "queue/schema.h"

struct queue_service;

struct queue_parameters { /* of main.cf; times in milliseconds */
	int64_t minimal_backoff_time, maximal_backoff_time;
	int64_t maximal_queue_lifetime, bounce_queue_lifetime;
	int64_t message_size_limit;	      /* bytes; 0: none */
	uint64_t stays_free;		      /* bytes, behind each message that is taken */
	uint64_t later_messages, later_bytes; /* of one user, to be sent later; 0: any number */
	size_t recipients_together;	      /* of one destination in one part, at most; 0: 50 */
};

struct queue_options {
	int dirfd;		     /* <queue_directory>/queue. Borrowed */
	uint64_t journal_size_limit; /* bytes; 0: default */
	uint32_t segment_size;	     /* tests only; 0: default */
	struct queue_parameters parameters;
};

/* Takes the lock, recovers. Blocks. NULL with err. */
struct queue_service *queue_service_new(const struct queue_options *options, struct err *err);
/* A reload. The loop thread, or before run. */
void queue_service_configure(struct queue_service *q, const struct queue_parameters *parameters);
/* Adds a connection (now owned) of the process that the tag names (config/roles.h). Any thread. */
void queue_service_add_peer(struct queue_service *q, int fd, uint64_t tag);
/* Serves until queue_service_stop(). */
void queue_service_run(struct queue_service *q);
/* It ended by itself, because recovery could not finish when it began and a new process may get further. */
bool queue_service_starts_anew(const struct queue_service *q);
/* It takes nothing. Any thread. */
bool queue_service_read_only(const struct queue_service *q);
void queue_service_stop(struct queue_service *q); /* any thread */
/* Makes a last checkpoint and frees. */
void queue_service_free(struct queue_service **q);

/* The event loop, for descriptors and timers of the process's own. */
struct rpc_server *queue_service_server(struct queue_service *q);

#endif
