/* relay/smtp_sts - MTA-STS in the dialogue with a host (RFC 8461 4, 5): which policy counts, and what it demands.
 *
 * enforce: the policy has to name the host, TLS is required, the certificate is trusted and carries the host's name;
 * what fails is put off, and the next host is tried. testing: what would have failed is logged, and the mail goes. */
#ifndef RELAY_SMTP_STS_H
#define RELAY_SMTP_STS_H

#include "relay/smtp_tls.h"
#include "relay/sts.h"

/* In the order of smtp_mta_sts' words. */
enum { MTA_STS_NO, MTA_STS_TESTING_ONLY, MTA_STS_YES };

/* The policy of the try's destination, behind smtpc_tls_policy_find(). -1: noted; it cannot be tried now. */
int smtpc_sts_find(struct smtpc_try *t) WARN_UNUSED;
/* What it means for t->host, behind the question for TLSA records. -1: noted; not this host. */
int smtpc_sts_host(struct smtpc_try *t) WARN_UNUSED;
/* Something is wrong with the host's TLS. What is to be noted: the sentence with the policy's name, where the policy
 * asks for what is missing; `problem` otherwise. */
struct str smtpc_sts_says(const struct smtpc_try *t, struct str problem);
/* A policy is being tested: logs what it would have refused at this host. problem NULL: nothing. */
void smtpc_sts_tested(const struct smtpc_try *t, const struct smtpc_conn *c, const char *problem);

/* remote.c; NULL: none. */
struct sts *smtpc_sts(const struct smtpc_try *t);

#endif
