/* relay/sts - which MTA-STS policy a domain has (RFC 8461): found by DNS, fetched from its web server, kept.
 *
 * What was fetched is kept in memory, and by `directory` on disk (DIR_STS_...): a policy holds until its max_age is
 * over, whatever DNS and web server say or do not say meanwhile. A thread fetches again before that (RFC 8461 10.2)
 * those of domains that mail goes to. sts_find() is for any thread and may block for dns_timeout and
 * smtp_mta_sts_timeout. */
#ifndef RELAY_STS_H
#define RELAY_STS_H

#include "config/conf.h"
#include "engine/rpc.h"
#include "relay/mx.h"
#include "relay/sts_policy.h"
#include <openssl/x509.h>

struct sts;

struct sts_found {
	struct sts_policy policy;
	struct str domain; /* whose policy it is */
};

/* dns and directory stay the caller's. stop_fd: readable when the system stops. */
struct sts *sts_new(const struct mx_dns *dns, struct rpc_channel *directory, int stop_fd);
void sts_free(struct sts **s);
/* What web servers are trusted by, and the numbers for the thread; references are taken. Any time. */
void sts_configure(struct sts *s, struct conf *conf, X509_STORE *trusted);
/* Inside the jail: begins to fetch again what is due. */
void sts_start(struct sts *s);
/* stop_fd is readable: the thread ends soon. sts_free() waits for it. */
void sts_stop(struct sts *s);
/* 1: the policy to be applied to the domain, in the arena; 0: it has none; -1 with err: who keeps policies cannot be
 * asked, and nobody knows. */
int sts_find(struct sts *s, struct str domain, struct arena *arena, struct sts_found *found_r,
	     struct err *err) WARN_UNUSED;
/* Fetches the domain's policy whatever is known of it (A-labels, lower case). 0; -1 with err: ERR_NOT_FOUND: it has
 * none; ERR_TEMP: it cannot be had now; what was known still holds. Any thread; blocks. */
int sts_fetch_now(struct sts *s, struct str domain, struct err *err) WARN_UNUSED;

#endif
