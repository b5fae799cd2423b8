/* relay/downs - destinations that nothing reaches while mail waits for them: for alarm mail.
 *
 * A destination is down from its first failure to connect, or to be greeted, until somebody there speaks with us. Mail
 * waits for it while messages fail or are put off because of it: each is tried at least every maximal_backoff_time, so
 * one not heard of for longer is delivered elsewhere, bounced or deleted. Alarm mail itself does not count.
 *
 * Bounded: DOWNS_MAX destinations, DOWN_MESSAGES messages each told apart. In memory: a new relay process begins anew.
 * No lock of its own: the dispatcher's. */
#ifndef RELAY_DOWNS_H
#define RELAY_DOWNS_H

#include "base/str.h"

#define DOWNS_MAX     1000
#define DOWN_MESSAGES 16 /* bounds alert_destination_messages */

struct downs;

struct downs *downs_new(void);
void downs_free(struct downs **d);
/* The message with this queue id waits because of the destination. why: a sentence. message "": one that does not
 * count. now_ms: monotonic. */
void downs_failed(struct downs *d, struct str nexthop, struct str why, struct str message, int64_t now_ms);
void downs_good(struct downs *d, struct str nexthop);

struct downs_report {
	size_t count;	   /* down for long, with enough messages */
	int64_t oldest_ms; /* how long the one longest down has been, with enough messages */
	char where[160];   /* that one, and why */
};
/* long_ms: what counts as long; messages: how many have to wait; forget_ms: messages not heard of for so long wait no
 * more. */
void downs_look(struct downs *d, int64_t long_ms, size_t messages, int64_t forget_ms, int64_t now_ms,
		struct downs_report *report_r);

#endif
