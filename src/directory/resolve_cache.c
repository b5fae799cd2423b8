/* resolve_cache - see resolve_cache.h.
 *
 * Two maps: what is found in the elder moves to the younger; when the younger is full, the elder is dropped and they
 * change places.
 *
 * Why resolve_cache_put() keeps nothing stale: the look-up read the database after resolve_cache_state() was taken, so
 * it saw that state or a later one. Had a later one been committed, the next resolve_cache_renew() sees another version
 * and drops the entry before anybody finds it. */
#include "directory/resolve_cache.h"
#include "base/map.h"
#include "base/mem.h"
#include <pthread.h>

struct entry {
	struct account user;
	struct resolved_target target;
	char text[];
};

struct resolve_cache {
	pthread_mutex_t lock;
	struct map *young, *old;
	struct conf *conf;
	uint64_t version, state;
};

struct resolve_cache *resolve_cache_new(void)
{
	struct resolve_cache *c = NEW(struct resolve_cache);

	pthread_mutex_init(&c->lock, NULL);
	c->young = map_new();
	c->old = map_new();
	return c;
}

static void drop(struct map **m)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(*m, &at, &key, &value);)
		free(value);
	map_free(m);
}

void resolve_cache_free(struct resolve_cache **cp)
{
	struct resolve_cache *c = *cp;

	if (!c)
		return;
	*cp = NULL;
	drop(&c->young);
	drop(&c->old);
	conf_unref(&c->conf);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void resolve_cache_renew(struct resolve_cache *c, uint64_t version, struct conf *conf)
{
	pthread_mutex_lock(&c->lock);
	if (version != c->version || conf != c->conf) {
		drop(&c->young);
		drop(&c->old);
		c->young = map_new();
		c->old = map_new();
		conf_unref(&c->conf);
		c->conf = conf_ref(conf);
		c->version = version;
		c->state++;
	}
	pthread_mutex_unlock(&c->lock);
}

uint64_t resolve_cache_state(struct resolve_cache *c)
{
	uint64_t state;

	pthread_mutex_lock(&c->lock);
	state = c->state;
	pthread_mutex_unlock(&c->lock);
	return state;
}

/* Under the lock. */
static void add(struct resolve_cache *c, struct str address, struct entry *e)
{
	struct map *full;

	if (map_count(c->young) >= CACHE_MAX / 2) {
		drop(&c->old);
		full = c->young;
		c->young = map_new();
		c->old = full;
	}
	free(map_set(c->young, address, e));
}

static struct str keep(char **at, struct str s)
{
	struct str kept = str_of(*at, s.len);

	if (s.len > 0)
		memcpy(*at, s.ptr, s.len);
	*at += s.len;
	return kept;
}

void resolve_cache_put(struct resolve_cache *c, uint64_t state, struct str address, const struct resolved *found)
{
	const struct resolved_target *t = found->targets.v;
	struct entry *e;
	char *at;
	size_t len;

	if (found->class != RCPT_LOCAL || found->targets.n != 1 || !t->user)
		return;
	len = t->address.len + t->extension.len + t->user->path.len;
	if (len + address.len > CACHE_TEXT_MAX)
		return;
	e = mem_alloc(sizeof(*e) + len + 1);
	at = e->text;
	e->user = (struct account){.id = t->user->id,
				   .enabled = true,
				   .active = true,
				   .quota_bytes = t->user->quota_bytes,
				   .quota_messages = t->user->quota_messages,
				   .serial = t->user->serial,
				   .path = keep(&at, t->user->path)};
	e->target = (struct resolved_target){
		.account = t->account, .address = keep(&at, t->address), .extension = keep(&at, t->extension)};
	pthread_mutex_lock(&c->lock);
	if (state == c->state && state > 0) {
		free(map_remove(c->old, address));
		add(c, address, e);
		e = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	free(e);
}

bool resolve_cache_find(struct resolve_cache *c, struct str address, struct arena *arena, struct resolved_target *t_r)
{
	struct entry *e;

	pthread_mutex_lock(&c->lock);
	e = map_get(c->young, address);
	if (!e && (e = map_remove(c->old, address)) != NULL)
		add(c, address, e);
	if (e) {
		*t_r = e->target;
		t_r->user = ARENA_NEW(arena, struct account);
		*t_r->user = e->user;
		t_r->user->path = arena_str(arena, e->user.path);
		t_r->address = arena_str(arena, e->target.address);
		t_r->extension = arena_str(arena, e->target.extension);
	}
	pthread_mutex_unlock(&c->lock);
	return e != NULL;
}
