/* relay/private - what the files of the relay share. */
#ifndef RELAY_PRIVATE_H
#define RELAY_PRIVATE_H

#include "base/vec.h"
#include "relay/relay.h"
#include <pthread.h>
#include <stdatomic.h>

struct relay {
	struct deliver_env env;
	struct rpc_channel *directory;
	pthread_mutex_t lock; /* conf */
	struct conf *conf;
	uint64_t sessions; /* numbers for grants */
	atomic_bool stopping;
	int wake_fd; /* eventfd: relay_stop() */
};

/* One recipient of a queued message, and what became of it in this attempt. */
struct attempt_rcpt {
	const struct queue_rcpt *rcpt;
	enum queue_outcome outcome;
	struct str code, text;
};

/* One claimed message while it is tried. */
struct attempt {
	struct relay *relay;
	struct conf *conf;
	const struct queue_message *message;
	struct arena *arena;
	uint64_t session;
	struct content content;
	struct attempt_rcpt *rcpts; /* as many as the message has */
	struct delivery_done done;
	struct str fingerprint; /* of the message as it came, or "" */
	int64_t started_us;
};

/* The name of a log line: $syslog_name/program. Lives in a's arena. */
const char *relay_log_name(const struct attempt *a, const char *program);
/* The sender of notices to the postmaster; what bounces to it is dropped (Postfix's double_bounce_sender). */
struct str bounce_double_sender(const struct attempt *a);
/* Makes what must be told of the failed (and, where asked for, the delivered) recipients: fills the bounces
 * of result. Their strings live in a's arena. */
void bounce_add(struct attempt *a, struct queue_result *result);

/* Class and targets of an address, under the attempt's session; reply strings live in `hold`. */
int relay_resolve(struct attempt *a, struct str address, struct dir_resolved *found_r, struct rpc_reply *hold,
		  struct err *err) WARN_UNUSED;

#endif
