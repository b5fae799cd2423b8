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

#define DOMAIN_KEY_MAX 260

struct entry {
	unsigned domain; /* enum resolve_domain: what is known of one; nothing else is set. 0: of an address */
	struct account user;
	struct resolved_target target;
	char text[];
};

struct resolve_cache {
	pthread_mutex_t lock;
	struct map *young, *old; /* address, or "@" and domain -> struct entry */
	uint64_t version, reload, state;
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
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void resolve_cache_renew(struct resolve_cache *c, uint64_t version, uint64_t reload)
{
	pthread_mutex_lock(&c->lock);
	if (version != c->version || reload != c->reload || c->state == 0) {
		drop(&c->young);
		drop(&c->old);
		c->young = map_new();
		c->old = map_new();
		c->version = version;
		c->reload = reload;
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

static void put(struct resolve_cache *c, uint64_t state, struct str key, struct entry *e)
{
	const struct entry *there;

	pthread_mutex_lock(&c->lock);
	if (state == c->state && state > 0) {
		if (e->domain && ((there = map_get(c->young, key)) != NULL || (there = map_get(c->old, key)) != NULL))
			e->domain |= there->domain;
		free(map_remove(c->old, key));
		add(c, key, e);
		e = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	free(e);
}

void resolve_cache_put(struct resolve_cache *c, uint64_t state, struct str address, const struct resolved *found)
{
	const struct resolved_target *t = found->targets.v;
	struct entry *e;
	char *at;
	size_t len;

	if (found->class != RCPT_LOCAL || found->targets.n != 1 || found->owner.len > 0 || !t->user)
		return;
	len = t->address.len + t->extension.len + t->user->path.len;
	if (len + address.len > CACHE_TEXT_MAX)
		return;
	e = mem_alloc(sizeof(*e) + len + 1);
	at = e->text;
	e->domain = 0;
	e->user = (struct account){.id = t->user->id,
				   .enabled = true,
				   .active = true,
				   .quota_bytes = t->user->quota_bytes,
				   .quota_messages = t->user->quota_messages,
				   .serial = t->user->serial,
				   .path = keep(&at, t->user->path)};
	e->target = (struct resolved_target){
		.account = t->account, .address = keep(&at, t->address), .extension = keep(&at, t->extension)};
	put(c, state, address, e);
}

/* No address that was accepted looks like it: the local part is missing. */
static struct str domain_key(struct str domain, char out[DOMAIN_KEY_MAX])
{
	if (domain.len == 0 || domain.len >= DOMAIN_KEY_MAX)
		return STR_NULL;
	out[0] = '@';
	memcpy(out + 1, domain.ptr, domain.len);
	return str_of(out, domain.len + 1);
}

void resolve_cache_put_domain(struct resolve_cache *c, uint64_t state, struct str domain, unsigned known)
{
	char out[DOMAIN_KEY_MAX];
	struct str key = domain_key(domain, out);
	struct entry *e;

	if (key.len == 0)
		return;
	e = mem_alloc(sizeof(*e));
	*e = (struct entry){.domain = known};
	put(c, state, key, e);
}

/* Under the lock: the entry, which is young from now on. */
static struct entry *take(struct resolve_cache *c, struct str key)
{
	struct entry *e = map_get(c->young, key);

	if (!e && (e = map_remove(c->old, key)) != NULL)
		add(c, key, e);
	return e;
}

unsigned resolve_cache_domain(struct resolve_cache *c, struct str domain)
{
	char out[DOMAIN_KEY_MAX];
	struct str key = domain_key(domain, out);
	struct entry *e;
	unsigned known = 0;

	pthread_mutex_lock(&c->lock);
	if (key.len > 0 && (e = take(c, key)) != NULL)
		known = e->domain;
	pthread_mutex_unlock(&c->lock);
	return known;
}

bool resolve_cache_find(struct resolve_cache *c, struct str address, struct arena *arena, struct resolved_target *t_r)
{
	struct entry *e;

	pthread_mutex_lock(&c->lock);
	e = take(c, address);
	if (e && e->domain)
		e = NULL;
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
