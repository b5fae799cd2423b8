/* relay/cache - idle connections, kept for the next message to the same host under the same rules. Thread-safe. */
#ifndef RELAY_CACHE_H
#define RELAY_CACHE_H

#include "relay/smtp.h"

struct conn_cache;

struct conn_cache *conn_cache_new(void);
/* Ends its thread; connections are closed. */
void conn_cache_free(struct conn_cache **cache);
void conn_cache_clear(struct conn_cache *cache); /* nothing is kept from now on, either */
/* Takes over *c (leaves NULL). Gone by QUIT after conf's smtp_connection_cache_time_limit. */
void conn_cache_put(struct conn_cache *cache, struct str key, struct smtpc_conn **c, const struct conf *conf);
/* The one put last under that key which is still silent, or NULL. The caller's. */
struct smtpc_conn *conn_cache_take(struct conn_cache *cache, struct str key);

#endif
