/* penalty - see penalty.h. A map for finding, a list ordered by the last failure for forgetting. */
#include "directory/penalty.h"
#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "os/net.h"
#include <pthread.h>

#define PEACE_MS     (10 * 60 * 1000)
#define FAILURES_MAX 32
#define KEY_MAX	     340
#define STEPS	     12
#define STEP_MS	     (5 * 60 * 1000)

struct entry {
	struct entry *newer, *older;
	unsigned failures;
	int64_t last_ms;
	size_t key_len;
	char key[];
};

struct penalty {
	pthread_mutex_t lock;
	struct map *map;
	struct entry *newest, *oldest;
	size_t entries_max;
	uint64_t recent[STEPS]; /* failures by step of time */
	int64_t step;		/* the newest */
};

struct penalty *penalty_new(size_t entries_max)
{
	struct penalty *p = NEW(struct penalty);

	pthread_mutex_init(&p->lock, NULL);
	p->map = map_new();
	p->entries_max = entries_max;
	return p;
}

static void entry_unlink(struct penalty *p, struct entry *e)
{
	*(e->newer ? &e->newer->older : &p->newest) = e->older;
	*(e->older ? &e->older->newer : &p->oldest) = e->newer;
	e->newer = e->older = NULL;
}

static void entry_link(struct penalty *p, struct entry *e)
{
	e->older = p->newest;
	*(p->newest ? &p->newest->newer : &p->oldest) = e;
	p->newest = e;
}

static void entry_drop(struct penalty *p, struct entry *e)
{
	entry_unlink(p, e);
	map_remove(p->map, str_of(e->key, e->key_len));
	free(e);
}

void penalty_free(struct penalty **pp)
{
	struct penalty *p = *pp;

	if (!p)
		return;
	*pp = NULL;
	while (p->oldest)
		entry_drop(p, p->oldest);
	map_free(&p->map);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* "u" and the folded name; "c" and the address, for IPv6 the network that one customer has. */
static void user_key(struct buf *key, struct str user)
{
	buf_addc(key, 'u');
	for (size_t i = 0; i < user.len && key->len < KEY_MAX; i++)
		buf_addc(key, ascii_lower(user.ptr[i]));
}

static void client_key(struct buf *key, struct str client)
{
	struct net_addr a;

	buf_addc(key, 'c');
	if (net_addr_parse(client, 0, &a) && a.any.sa_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&a.v6.sin6_addr))
		buf_add(key, a.v6.sin6_addr.s6_addr, 8);
	else
		buf_add_str(key, str_sub(client, 0, KEY_MAX - 1));
}

/* Counts one failure under the key; returns how many there are now. */
static unsigned count_failure(struct penalty *p, struct str key, int64_t now_ms)
{
	struct entry *e = map_get(p->map, key);

	if (!e) {
		if (map_count(p->map) >= p->entries_max && p->oldest)
			entry_drop(p, p->oldest);
		e = mem_alloc(sizeof(*e) + key.len);
		e->key_len = key.len;
		memcpy(e->key, key.ptr, key.len);
		map_set(p->map, key, e);
	} else {
		int64_t halvings = (now_ms - e->last_ms) / PEACE_MS;

		e->failures = halvings > 16 ? 0 : e->failures >> halvings;
		entry_unlink(p, e);
	}
	e->last_ms = now_ms;
	if (e->failures < FAILURES_MAX)
		e->failures++;
	entry_link(p, e);
	return e->failures;
}

/* Forgets the steps that are over. */
static void recent_move(struct penalty *p, int64_t now_ms)
{
	int64_t step = now_ms / STEP_MS;

	for (int i = 0; i < STEPS && p->step < step; i++)
		p->recent[++p->step % STEPS] = 0;
	p->step = step;
}

uint64_t penalty_recent(struct penalty *p, int64_t now_ms)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&p->lock);
	recent_move(p, now_ms);
	for (int i = 0; i < STEPS; i++)
		sum += p->recent[i];
	pthread_mutex_unlock(&p->lock);
	return sum;
}

uint32_t penalty_failed(struct penalty *p, struct str client, struct str user, int64_t now_ms, int64_t first_ms,
			int64_t max_ms)
{
	unsigned worse, other;
	struct buf by_user, by_client;
	int64_t delay = first_ms;

	buf_init(&by_user, 1024);
	buf_init(&by_client, 1024);
	user_key(&by_user, user);
	client_key(&by_client, client);
	pthread_mutex_lock(&p->lock);
	recent_move(p, now_ms);
	p->recent[p->step % STEPS]++;
	worse = count_failure(p, buf_str(&by_client), now_ms);
	other = user.len > 0 ? count_failure(p, buf_str(&by_user), now_ms) : 0;
	pthread_mutex_unlock(&p->lock);
	buf_release(&by_user);
	buf_release(&by_client);
	if (other > worse)
		worse = other;
	for (unsigned i = 1; i < worse && delay < max_ms; i++)
		delay *= 2;
	return (uint32_t)(delay < max_ms ? delay : max_ms);
}

void penalty_passed(struct penalty *p, struct str user)
{
	struct entry *e;
	struct buf key;

	buf_init(&key, 1024);
	user_key(&key, user);
	pthread_mutex_lock(&p->lock);
	e = map_get(p->map, buf_str(&key));
	if (e)
		entry_drop(p, e);
	pthread_mutex_unlock(&p->lock);
	buf_release(&key);
}

size_t penalty_count(struct penalty *p)
{
	size_t count;

	pthread_mutex_lock(&p->lock);
	count = map_count(p->map);
	pthread_mutex_unlock(&p->lock);
	return count;
}
