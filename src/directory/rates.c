/* rates - see rates.h. A map for finding, a list ordered by the last event for forgetting. */
#include "directory/rates.h"
#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "os/net.h"

#define KEY_MAX 340

struct entry {
	struct entry *newer, *older;
	uint64_t count;
	int64_t began_ms;
	size_t key_len;
	char key[];
};

struct rates {
	struct map *map;
	struct entry *newest, *oldest;
	size_t entries_max;
};

struct rates *rates_new(size_t entries_max)
{
	struct rates *r = NEW(struct rates);

	r->map = map_new();
	r->entries_max = entries_max;
	return r;
}

static void entry_unlink(struct rates *r, struct entry *e)
{
	*(e->newer ? &e->newer->older : &r->newest) = e->older;
	*(e->older ? &e->older->newer : &r->oldest) = e->newer;
	e->newer = e->older = NULL;
}

static void entry_link(struct rates *r, struct entry *e)
{
	e->older = r->newest;
	*(r->newest ? &r->newest->newer : &r->oldest) = e;
	r->newest = e;
}

static void entry_drop(struct rates *r, struct entry *e)
{
	entry_unlink(r, e);
	map_remove(r->map, str_of(e->key, e->key_len));
	free(e);
}

void rates_free(struct rates **rp)
{
	struct rates *r = *rp;

	if (!r)
		return;
	*rp = NULL;
	while (r->oldest)
		entry_drop(r, r->oldest);
	map_free(&r->map);
	free(r);
}

static struct entry *entry_get(struct rates *r, struct str key, int64_t now_ms)
{
	struct entry *e = map_get(r->map, key);

	if (e) {
		entry_unlink(r, e);
	} else {
		if (map_count(r->map) >= r->entries_max && r->oldest)
			entry_drop(r, r->oldest);
		e = mem_alloc(sizeof(*e) + key.len);
		memcpy(e->key, key.ptr, key.len);
		e->key_len = key.len;
		e->began_ms = now_ms;
		map_set(r->map, str_of(e->key, e->key_len), e);
	}
	entry_link(r, e);
	return e;
}

uint64_t rates_add(struct rates *r, char kind, struct str who, uint64_t n, int64_t period_ms, int64_t now_ms)
{
	struct entry *e;
	struct buf key;

	buf_init(&key, KEY_MAX + 16);
	buf_addc(&key, kind);
	for (size_t i = 0; i < who.len && key.len < KEY_MAX; i++)
		buf_addc(&key, ascii_lower(who.ptr[i]));
	e = entry_get(r, buf_str(&key), now_ms);
	buf_release(&key);
	if (now_ms - e->began_ms >= period_ms) {
		e->began_ms = now_ms;
		e->count = 0;
	}
	return e->count += n;
}

struct str rates_client(struct str address, char out[64])
{
	struct net_addr a;

	if (net_addr_parse(address, 0, &a) && a.any.sa_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&a.v6.sin6_addr)) {
		memset(a.v6.sin6_addr.s6_addr + 8, 0, 8);
		return str_from(net_addr_text(&a, out));
	}
	return address;
}
