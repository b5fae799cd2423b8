/* downs - see downs.h. */
#include "relay/downs.h"
#include "base/map.h"
#include "base/mem.h"

struct waiting {
	uint64_t message; /* hash of its queue id; 0: none */
	int64_t last_ms;
};

struct down {
	int64_t since_ms, last_ms;
	struct waiting messages[DOWN_MESSAGES];
	char why[100];
	char nexthop[];
};

struct downs {
	struct map *map;
};

struct downs *downs_new(void)
{
	struct downs *d = NEW(struct downs);

	d->map = map_new();
	return d;
}

static void drop(struct downs *d, struct down *down)
{
	map_remove(d->map, str_from(down->nexthop));
	free(down);
}

void downs_free(struct downs **dp)
{
	struct downs *d = *dp;
	struct str key;
	void *value;

	if (!d)
		return;
	*dp = NULL;
	for (size_t at = 0; map_next(d->map, &at, &key, &value);)
		drop(d, value);
	map_free(&d->map);
	free(d);
}

/* FNV-1a; never 0. */
static uint64_t hash_of(struct str text)
{
	uint64_t h = 14695981039346656037ull;

	for (size_t i = 0; i < text.len; i++)
		h = (h ^ (uint8_t)text.ptr[i]) * 1099511628211ull;
	return h ? h : 1;
}

static struct down *get(struct downs *d, struct str nexthop, int64_t now_ms)
{
	struct down *down = map_get(d->map, nexthop);

	if (down || map_count(d->map) >= DOWNS_MAX)
		return down;
	down = mem_alloc(sizeof(*down) + nexthop.len + 1);
	*down = (struct down){.since_ms = now_ms};
	memcpy(down->nexthop, nexthop.ptr, nexthop.len);
	down->nexthop[nexthop.len] = 0;
	map_set(d->map, nexthop, down);
	return down;
}

/* In the place that it has, or that of the one longest not heard of. */
static void note_message(struct down *down, struct str message, int64_t now_ms)
{
	uint64_t hash = hash_of(message);
	struct waiting *w = &down->messages[0];

	for (size_t i = 0; i < DOWN_MESSAGES; i++) {
		if (down->messages[i].message == hash) {
			w = &down->messages[i];
			break;
		}
		if (down->messages[i].message == 0 || (w->message && down->messages[i].last_ms < w->last_ms))
			w = w->message ? &down->messages[i] : w;
	}
	*w = (struct waiting){.message = hash, .last_ms = now_ms};
}

void downs_failed(struct downs *d, struct str nexthop, struct str why, struct str message, int64_t now_ms)
{
	struct down *down;

	/* Alarm mail that waits keeps nothing down, and begins nothing. */
	if (nexthop.len == 0 || message.len == 0)
		return;
	down = get(d, nexthop, now_ms);
	if (!down)
		return;
	down->last_ms = now_ms;
	snprintf(down->why, sizeof(down->why), "%.*s", STR_ARG(why));
	note_message(down, message, now_ms);
}

void downs_good(struct downs *d, struct str nexthop)
{
	struct down *down = map_get(d->map, nexthop);

	if (down)
		drop(d, down);
}

static size_t waiting(const struct down *down, int64_t forget_ms, int64_t now_ms)
{
	size_t n = 0;

	for (size_t i = 0; i < DOWN_MESSAGES; i++)
		n += down->messages[i].message && now_ms - down->messages[i].last_ms < forget_ms;
	return n;
}

void downs_look(struct downs *d, int64_t long_ms, size_t messages, int64_t forget_ms, int64_t now_ms,
		struct downs_report *report_r)
{
	struct str key;
	void *value;

	*report_r = (struct downs_report){0};
	for (size_t at = 0; map_next(d->map, &at, &key, &value);) {
		struct down *down = value;
		int64_t age = now_ms - down->since_ms;

		if (now_ms - down->last_ms >= forget_ms) {
			drop(d, down);
			continue;
		}
		if (waiting(down, forget_ms, now_ms) < (messages < DOWN_MESSAGES ? messages : DOWN_MESSAGES))
			continue;
		report_r->count += age >= long_ms;
		if (report_r->where[0] == 0 || age > report_r->oldest_ms) {
			report_r->oldest_ms = age;
			snprintf(report_r->where, sizeof(report_r->where), "%.50s%s%s%s", down->nexthop,
				 down->why[0] ? " (" : "", down->why, down->why[0] ? ")" : "");
		}
	}
}
