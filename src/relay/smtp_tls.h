/* relay/smtp_tls - TLS levels, and whether a server is who it has to be. See smtp_tls.c for the levels. */
#ifndef RELAY_SMTP_TLS_H
#define RELAY_SMTP_TLS_H

#include "relay/smtp.h"
#include "relay/tls_policy.h"

struct refused_logins;
struct tls_files;
struct tls_sessions;

/* The try's policy: smtp_tls_policy_maps, or the parameters. -1: noted; the destination cannot be tried now. */
int smtpc_tls_policy_find(struct smtpc_try *t) WARN_UNUSED;
/* Its effective level at t->host, TLSA records included. -1: noted; the host cannot be tried now. */
int smtpc_tls_host(struct smtpc_try *t, uint16_t port) WARN_UNUSED;
/* Are there TLSA records for this host that DNSSEC proves? Then they count, and no MTA-STS policy (RFC 8461 2). */
bool smtpc_is_dane(const struct smtpc_try *t);
/* STARTTLS (or, with smtp_tls_wrappermode, none), hand-shake, and the certificate. 1: go on (in TLS when c->ssl is
 * set); 0: not with this host (noted; t->tls_failed: the hand-shake was it); -1: I/O. */
int smtpc_tls_start(struct smtpc_try *t, struct smtpc_conn *c) WARN_UNUSED;

/* All of its TLS that makes one connection to t->host different from another. */
struct str smtpc_tls_key(const struct smtpc_try *t);

/* remote.c: the files in use (the caller's reference), sessions, refused log-ins, and what the remote was made with. */
struct tls_files *smtpc_tls_files(const struct smtpc_try *t);
struct tls_sessions *smtpc_tls_sessions(const struct smtpc_try *t);
struct refused_logins *smtpc_refused_logins(const struct smtpc_try *t);
const struct mx_dns *smtpc_dns(const struct smtpc_try *t);
const struct remote_env *smtpc_env(const struct smtpc_try *t);

#endif
