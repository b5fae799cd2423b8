/* smtp/server - what a process needs to serve SMTP, submission and LMTP. One instance a process.
 * The protocol table goes into struct engine_listener, a struct service (config/service.h) into its `service`. */
#ifndef SMTP_SERVER_H
#define SMTP_SERVER_H

#include "deliver/notice.h"
#include "dns/client.h"
#include "engine/session.h"
#include "queue/client.h"
#include "store/view.h"

struct smtp_server {
	struct engine *engine;
	struct store_client *store;
	struct rpc_channel *directory; /* calls of directory/schema.h */
	struct queue_client *queue;
	struct dns_client *dns;
	struct notices *notices; /* NULL: none are made */
	struct foreign *foreign; /* smtp/foreign.h; NULL: directory is asked each time */
	uint32_t owner_uid;	 /* of the instance: who started it */
};

/* How many names of clients may be asked for at a time. Once, before the first session. */
void smtp_peername_limits(struct dns_client *dns);

extern const struct protocol smtp_protocol;  /* smtpd: 25, and with -o also 587 and 465 */
extern const struct protocol lmtp_protocol;  /* RFC 2033 */
extern const struct protocol local_protocol; /* sendmail(1) of this machine, over a UNIX socket: see smtp/local.c */

#endif
