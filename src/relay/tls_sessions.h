/* relay/tls_sessions - TLS sessions of servers, kept in memory so that the next connection may resume one of them
 * (smtp_tls_session_cache_database, RFC 8446 2.2, RFC 5077).
 *
 * A session carries what was verified when it was made: the key says host, policy, server name and all else that this
 * depended on, and no other connection is given it. At most SESSIONS_MAX are kept, SESSIONS_A_KEY under one key; the
 * oldest go first. One of TLS 1.3 is used once (RFC 8446 C.4). Thread-safe. */
#ifndef RELAY_TLS_SESSIONS_H
#define RELAY_TLS_SESSIONS_H

#include "base/str.h"
#include <openssl/ssl.h>

#define SESSIONS_MAX   500
#define SESSIONS_A_KEY 4

struct tls_sessions;

struct tls_sessions *tls_sessions_new(void);
/* No connection that tls_sessions_use() prepared may be left. */
void tls_sessions_free(struct tls_sessions **s);
/* Connections of this context may be given to tls_sessions_use(). */
void tls_sessions_enable(SSL_CTX *ctx);
/* Before the hand-shake: gives the connection a session kept under the key, if there is one, and keeps those that the
 * server gives it, for keep_ms. */
void tls_sessions_use(struct tls_sessions *s, SSL *ssl, struct str key, int64_t keep_ms);
size_t tls_sessions_count(struct tls_sessions *s);

#endif
