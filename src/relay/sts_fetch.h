/* relay/sts_fetch - gets the policy of a domain from its own web server (RFC 8461 3.3), by libcurl.
 *
 * libcurl brings some thirty libraries along: only who fetches loads it (sts_fetch_init()), before the jail. It gets
 * a socket that is connected already, and the store of trusted certificates: it looks up no name and opens no file. */
#ifndef RELAY_STS_FETCH_H
#define RELAY_STS_FETCH_H

#include "base/buf.h"
#include "base/err.h"
#include "os/net.h"
#include <openssl/x509.h>

#define STS_HTTPS_PORT 443

/* Once a process, before its jail and its threads. -1 with err: there is no libcurl. */
int sts_fetch_init(struct err *err) WARN_UNUSED;

struct sts_fetch {
	struct str domain;	      /* in A-labels: mta-sts.DOMAIN is asked */
	const struct net_addr *addrs; /* of mta-sts.DOMAIN, to be tried in this order */
	size_t addr_count;
	X509_STORE *trusted;
	int stop_fd;	    /* readable: give up; -1: none */
	int64_t timeout_ms; /* for all of it */
};

/* The body as it came, at most STS_POLICY_SIZE_MAX bytes: of a 200 reply in text/plain, from a server whose certificate
 * is trusted and carries the name mta-sts.DOMAIN; redirects are not followed. -1 with err. Blocks. Thread-safe. */
int sts_fetch(const struct sts_fetch *f, struct buf *body, struct err *err) WARN_UNUSED;

#endif
