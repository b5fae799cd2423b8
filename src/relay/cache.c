/* Connections that wait. See cache.h.
 *
 * A list, newest first: what was used last is taken first, so that the others run out. One thread, begun with the first
 * connection, sleeps until the next one's time is over. QUIT is sent without the lock. */
#include "relay/cache.h"
#include "base/clock.h"
#include "base/mem.h"
#include <pthread.h>

#define KEPT_MAX 1000

struct kept {
	struct kept *next;
	struct smtpc_conn *conn;
	struct conf *conf; /* for the farewell */
	int64_t until_ms;
	char *key;
};

struct conn_cache {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	bool started, closing;
	int64_t wake_ms; /* when the thread looks again by itself */
	struct kept *first;
	size_t count;
};

struct conn_cache *conn_cache_new(void)
{
	struct conn_cache *cache = NEW(struct conn_cache);
	pthread_condattr_t attr;

	pthread_mutex_init(&cache->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&cache->changed, &attr);
	pthread_condattr_destroy(&attr);
	return cache;
}

static void kept_end(struct kept *k)
{
	smtpc_conn_quit(&k->conn, k->conf);
	conf_unref(&k->conf);
	free(k->key);
	free(k);
}

/* Takes off the list what is over at `now`, or all. The lock is held. */
static struct kept *take_old(struct conn_cache *cache, int64_t now)
{
	struct kept **at = &cache->first, *old = NULL;

	while (*at != NULL) {
		struct kept *k = *at;

		if (k->until_ms > now) {
			at = &k->next;
			continue;
		}
		*at = k->next;
		k->next = old;
		old = k;
		cache->count--;
	}
	return old;
}

static void end_all(struct kept *old)
{
	while (old != NULL) {
		struct kept *next = old->next;

		kept_end(old);
		old = next;
	}
}

static int64_t next_time(const struct conn_cache *cache)
{
	int64_t next = INT64_MAX;

	for (const struct kept *k = cache->first; k != NULL; k = k->next)
		if (k->until_ms < next)
			next = k->until_ms;
	return next;
}

static void *reap(void *arg)
{
	struct conn_cache *cache = arg;

	pthread_mutex_lock(&cache->lock);
	while (!cache->closing) {
		int64_t next = next_time(cache);
		struct kept *old = take_old(cache, clock_ms());

		if (old != NULL) {
			pthread_mutex_unlock(&cache->lock);
			end_all(old);
			pthread_mutex_lock(&cache->lock);
			continue;
		}
		cache->wake_ms = next;
		if (next == INT64_MAX) {
			pthread_cond_wait(&cache->changed, &cache->lock);
		} else {
			struct timespec until = {.tv_sec = next / 1000, .tv_nsec = next % 1000 * 1000000};

			pthread_cond_timedwait(&cache->changed, &cache->lock, &until);
		}
		cache->wake_ms = 0;
	}
	pthread_mutex_unlock(&cache->lock);
	return NULL;
}

void conn_cache_clear(struct conn_cache *cache)
{
	struct kept *old;
	bool join;

	pthread_mutex_lock(&cache->lock);
	cache->closing = true;
	old = take_old(cache, INT64_MAX);
	join = cache->started;
	cache->started = false;
	pthread_cond_broadcast(&cache->changed);
	pthread_mutex_unlock(&cache->lock);
	end_all(old);
	if (join)
		pthread_join(cache->thread, NULL);
}

void conn_cache_free(struct conn_cache **cache)
{
	conn_cache_clear(*cache);
	pthread_mutex_destroy(&(*cache)->lock);
	pthread_cond_destroy(&(*cache)->changed);
	free(*cache);
	*cache = NULL;
}

void conn_cache_put(struct conn_cache *cache, struct str key, struct smtpc_conn **c, const struct conf *conf)
{
	struct kept *k = NEW(struct kept);
	bool taken = false, wake = false;

	/* Shared, in spite of the const: only the count of references changes. */
	*k = (struct kept){.conn = *c, .conf = conf_ref((struct conf *)(uintptr_t)conf), .key = str_dup(key)};
	k->until_ms = clock_ms() + conf->smtp_connection_cache_time_limit;
	*c = NULL;
	k->conn->conf = k->conf;
	pthread_mutex_lock(&cache->lock);
	if (!cache->closing && cache->count < KEPT_MAX &&
	    (cache->started || pthread_create(&cache->thread, NULL, reap, cache) == 0)) {
		taken = cache->started = true;
		k->next = cache->first;
		cache->first = k;
		cache->count++;
		/* Nearly always another one's time is over before. */
		wake = k->until_ms < cache->wake_ms;
	}
	pthread_mutex_unlock(&cache->lock);
	if (wake)
		pthread_cond_signal(&cache->changed);
	if (!taken)
		kept_end(k);
}

static struct kept *take_key(struct conn_cache *cache, struct str key)
{
	struct kept *k = NULL;

	pthread_mutex_lock(&cache->lock);
	for (struct kept **at = &cache->first; *at != NULL; at = &(*at)->next) {
		if (!str_eq(str_from((*at)->key), key))
			continue;
		k = *at;
		*at = k->next;
		cache->count--;
		break;
	}
	pthread_mutex_unlock(&cache->lock);
	return k;
}

struct smtpc_conn *conn_cache_take(struct conn_cache *cache, struct str key)
{
	struct kept *k;

	while ((k = take_key(cache, key)) != NULL) {
		struct smtpc_conn *c = k->conn;

		if (!smtpc_conn_is_quiet(c) || clock_ms() >= k->until_ms) {
			kept_end(k);
			continue;
		}
		conf_unref(&k->conf);
		free(k->key);
		free(k);
		c->conf = NULL;
		return c;
	}
	return NULL;
}
