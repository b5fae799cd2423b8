/* directory/service_private - what service.c and service_auth.c share. */
#ifndef DIRECTORY_SERVICE_PRIVATE_H
#define DIRECTORY_SERVICE_PRIVATE_H

#include "base/map.h"
#include "base/vec.h"
#include "config/roles.h"
#include "directory/grants.h"
#include "directory/penalty.h"
#include "directory/rates.h"
#include "directory/resolve_cache.h"
#include "directory/sasl.h"
#include "directory/sending.h"
#include "directory/service.h"
#include "directory/sts_cache.h"
#include "store/schema.h"
#include <pthread.h>

struct login_waiting {
	struct rpc_request *req;
	int64_t since;
};

struct directory_service {
	char *database;
	uint8_t secret[DB_SECRET_LEN];
	struct rpc_server *server;
	struct rpc_channel *store;
	struct grants *grants;
	struct penalty *penalty;
	struct verified *verified;
	struct rates *clients, *users; /* the loop's: nobody who has no account can make a user's count be forgotten */
	struct sending *sending;
	bool save_armed; /* the loop's: a timer is set */
	struct resolve_cache *cache;
	struct sts_cache *sts;
	struct db *cache_db;	     /* the loop's; never writes */
	bool tending, calls_watched; /* the loop's: timers are set */

	pthread_mutex_t lock; /* conf, tables, idle, logins, waiting, exchanges */
	struct conf *conf;
	struct table_set *tables;
	uint64_t reloads;      /* counts them */
	VEC(struct db *) idle; /* connections nobody works with */
	/* Log-ins compute: more of them at a time than there are cores gain nothing, cost 16 MB each (yescrypt), and
	 * would leave no thread to those who ask where mail goes. */
	unsigned logins, logins_max;
	VEC(struct login_waiting) waiting; /* their turn comes; first in, first out */
	size_t waiting_at;		   /* the first */
	struct map *exchanges;		   /* {peer, session} to struct sasl; not there while a thread is at it */

	pthread_t watcher;
	pthread_mutex_t watch_lock; /* the flags */
	pthread_cond_t watch_cond;
	bool check_wanted, repeat_wanted, settle_wanted, save_wanted, watch_end;
	bool watch_asleep;   /* nothing was granted: it waits for the first grant */
	struct db *watch_db; /* the watcher's */
};

/* A request at work: connection, configuration and rules. */
struct work {
	struct directory_service *service;
	struct rpc_request *req;
	struct db *db;
	struct conf *conf;
	struct table_set *tables;
	uint64_t cache_state; /* from before all of these: resolve_cache_state() */
	uint64_t peer;
};

/* Adds $auth_default_domain where there is no '@'. */
struct str work_login_name(const struct work *w, struct str user);
void service_check_soon(struct directory_service *s);
void service_settle_soon(struct directory_service *s);
/* The loop's: what was gathered for the store leaves soon; calls under way that the store does not answer are ended. */
void service_tend_soon(struct directory_service *s);
void service_watch_calls(struct directory_service *s);
/* Something was granted; stale: the accounts have changed meanwhile. Tells the watcher. */
void service_granted(struct directory_service *s, bool stale);
/* grants_add(), and what the watcher must hear of it. */
int work_grant(struct work *w, const struct grant_ask *ask, const struct account *account, struct err *verdict_r,
	       struct err *err) WARN_UNUSED;

struct resolve_rules resolve_rules_of(const struct conf *conf, const struct finder *finder);
/* For look-ups of this request. */
struct finder work_finder(const struct work *w);
void service_resolve(struct work *w);
/* On the loop thread: true when it took the request. */
bool service_resolve_early(struct directory_service *s, struct rpc_request *req) WARN_UNUSED;
/* The cache's state is from now on that of the database and the configuration at this moment. The loop's. */
bool service_cache_ready(struct directory_service *s) WARN_UNUSED;
void service_route(struct work *w);
void service_route_all(struct work *w);
/* On the loop thread: true when it took the request. */
bool service_route_early(struct directory_service *s, struct rpc_request *req) WARN_UNUSED;
void service_lookup(struct work *w);
void service_rewrite(struct work *w);
/* DIR_SENT: on the loop thread, true when it took the request; else on another. */
bool service_sent_early(struct directory_service *s, struct rpc_request *req) WARN_UNUSED;
void service_sent(struct work *w);
void service_save_soon(struct directory_service *s);
void service_sts_get(struct work *w);
void service_sts_put(struct work *w);
void service_sts_due(struct work *w);
void service_mechanisms(struct work *w);
void service_auth_start(struct work *w);
void service_auth_plain(struct work *w);
void service_auth_step(struct work *w);
/* On the loop thread. session NULL: all of the peer. */
void service_exchange_drop(struct directory_service *s, uint64_t peer, const uint64_t *session);
void service_exchanges_free(struct directory_service *s);

#endif
