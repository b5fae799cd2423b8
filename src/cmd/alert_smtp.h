/* alert_smtp - the second path of alarm mail: one message to one SMTP server, within a deadline, from a process of its
 * own that gives up its rights before the first byte. Needs no part of the running system, and no resolver. */
#ifndef CMD_ALERT_SMTP_H
#define CMD_ALERT_SMTP_H

#include "config/conf.h"

struct alert_mail {
	struct str sender; /* of the envelope */
	const struct str *recipients;
	size_t recipient_count;
	struct str text; /* the whole message, LF, 7-bit */
};

/* Hands it to alert_relayhost, with TLS and log-in as alert_relayhost_NAME has them. 0 once the server has said 250 to
 * it for one of the recipients; -1 with a sentence. Blocks for alert_relayhost_timeout. dir: the instance. empty_dir:
 * for the chroot, when root. */
int alert_smtp_send(const struct conf *conf, const char *dir, const char *empty_dir, const struct alert_mail *mail,
		    struct err *err) WARN_UNUSED;
/* "address:port", "[address]:port", "[address]"; port 25 if there is none. */
int alert_relayhost_parse(struct str text, struct net_addr *a_r, struct err *err) WARN_UNUSED;

#endif
