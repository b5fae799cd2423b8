/* Whose turn it is. The index has the parts by destination and due time; here is one struct for each destination that
 * has any, with the time at which its next part is due (a lower bound, corrected when it is looked at):
 *
 *	heap      destinations whose next part is due later, or that rest; by that time
 *	ring      destinations that may have something due: each gives one part, and goes to the end
 *	neither   those with as many claims as they may have, until one ends
 *
 * So what is found is found without walking over parts of a destination that is full, rests or is not due. At one
 * destination parts of messages that fit into one go in turn with those of larger ones (`bulk`): somebody who writes to
 * one waits for one part of a mailing to thousands, not for all.
 *
 * Times are the wall clock's, because the index outlives the process. When that is set back, what was to be due in
 * an hour would wait for as long as the clock was wrong. Nothing is ever put off beyond `horizon`: what seems to be
 * is due. What its sender asked to be sent later (RFC 4865) is a class of its own (`later`), which has no horizon: its
 * time is the clock's, and never too early.
 *
 * Memory: about 180 bytes and the name a destination, nothing a message. */
#include "queue/service_private.h"

#include "base/clock.h"
#include "base/log.h"

#define NEVER	      UINT64_MAX
#define HORIZON_MIN_S 3600
#define UNREAD_MS     5000 /* until it is looked at again, when the index could not be read */

struct dest {
	struct dest *ring_next;
	size_t heap_at; /* plus one; 0: not in the heap */
	bool in_ring, full;
	uint8_t last; /* class that had the last turn */
	uint32_t busy;
	uint64_t due[SCHEDULE_CLASSES];	  /* seconds; nothing of this class is due before */
	struct str low[SCHEDULE_CLASSES]; /* key from which on to look; nothing that is free lies before. Ours, or "" */
	uint64_t rest_until;		  /* wall clock, ms */
	uint64_t ready_at;		  /* the same; while in the heap */
	char name[];
};

struct schedule {
	struct map *dests;
	VEC(struct dest *) heap;
	struct dest *ring_first, *ring_last;
	uint64_t horizon; /* seconds */
	uint64_t seen_ms; /* the clock at the last look */
};

static uint64_t now_ms(void)
{
	return (uint64_t)(clock_wall_us() / 1000);
}

/* ---- heap ----------------------------------------------------------------------------------------------- */

static void heap_set(struct schedule *s, size_t at, struct dest *d)
{
	s->heap.v[at] = d;
	d->heap_at = at + 1;
}

static void heap_up(struct schedule *s, size_t at)
{
	struct dest *d = s->heap.v[at];

	for (; at > 0 && s->heap.v[(at - 1) / 2]->ready_at > d->ready_at; at = (at - 1) / 2)
		heap_set(s, at, s->heap.v[(at - 1) / 2]);
	heap_set(s, at, d);
}

static void heap_down(struct schedule *s, size_t at)
{
	struct dest *d = s->heap.v[at];

	for (;;) {
		size_t child = 2 * at + 1;

		if (child >= s->heap.n)
			break;
		child += child + 1 < s->heap.n && s->heap.v[child + 1]->ready_at < s->heap.v[child]->ready_at;
		if (s->heap.v[child]->ready_at >= d->ready_at)
			break;
		heap_set(s, at, s->heap.v[child]);
		at = child;
	}
	heap_set(s, at, d);
}

static void heap_remove(struct schedule *s, struct dest *d)
{
	size_t at = d->heap_at - 1;
	struct dest *last = s->heap.v[--s->heap.n];

	d->heap_at = 0;
	if (last == d)
		return;
	heap_set(s, at, last);
	heap_up(s, at);
	heap_down(s, last->heap_at - 1);
}

static void heap_add(struct schedule *s, struct dest *d, uint64_t at_ms)
{
	d->ready_at = at_ms;
	vec_push(&s->heap, d);
	d->heap_at = s->heap.n;
	heap_up(s, s->heap.n - 1);
}

/* ---- destinations --------------------------------------------------------------------------------------- */

static void low_clear(struct dest *d, unsigned class)
{
	free((void *)(uintptr_t)d->low[class].ptr);
	d->low[class] = STR_NULL;
}

static void low_clear_all(struct dest *d)
{
	for (unsigned i = 0; i < SCHEDULE_CLASSES; i++)
		low_clear(d, i);
}

static void low_set(struct dest *d, unsigned class, struct str key)
{
	low_clear(d, class);
	d->low[class] = str_of(str_dup(key), key.len);
}

static void dest_free(struct schedule *s, struct dest *d)
{
	map_remove(s->dests, str_from(d->name));
	low_clear_all(d);
	free(d);
}

static struct dest *dest_of(struct schedule *s, struct str name)
{
	struct dest *d = map_get(s->dests, name);

	if (d)
		return d;
	d = mem_alloc(sizeof(*d) + name.len + 1);
	memcpy(d->name, name.ptr, name.len);
	for (unsigned i = 0; i < SCHEDULE_CLASSES; i++)
		d->due[i] = NEVER;
	d->last = CLASS_LATER;
	map_set(s->dests, name, d);
	return d;
}

/* Later than anything is put off: written before the clock was set back. */
static bool is_beyond(const struct schedule *s, unsigned class, uint64_t due)
{
	return class != CLASS_LATER && due < QUEUE_HELD && due > (uint64_t)clock_wall() + s->horizon;
}

static bool is_later(const struct schedule *s, unsigned class, uint64_t due)
{
	return due > (uint64_t)clock_wall() && !is_beyond(s, class, due);
}

static uint64_t dest_ready_at(const struct schedule *s, const struct dest *d)
{
	uint64_t due = NEVER;

	for (unsigned i = 0; i < SCHEDULE_CLASSES; i++) {
		uint64_t one = d->due[i] != NEVER && is_beyond(s, i, d->due[i]) ? 0 : d->due[i];

		due = one < due ? one : due;
	}
	if (due == NEVER)
		return NEVER;
	due = due > NEVER / 1000 - 1 ? NEVER - 1 : due * 1000;
	return due > d->rest_until ? due : d->rest_until;
}

/* Into the heap, where it belongs by what is known; or away, when nothing is. */
static void dest_place(struct schedule *s, struct dest *d)
{
	uint64_t at = dest_ready_at(s, d);

	if (d->in_ring || d->full)
		return;
	if (d->heap_at && d->ready_at == at)
		return;
	if (d->heap_at)
		heap_remove(s, d);
	if (at != NEVER)
		heap_add(s, d, at);
	else if (d->busy == 0)
		dest_free(s, d);
}

static void ring_add(struct schedule *s, struct dest *d)
{
	d->in_ring = true;
	d->ring_next = NULL;
	if (s->ring_last)
		s->ring_last->ring_next = d;
	else
		s->ring_first = d;
	s->ring_last = d;
}

static struct dest *ring_take(struct schedule *s)
{
	struct dest *d = s->ring_first;

	if (!d)
		return NULL;
	s->ring_first = d->ring_next;
	if (!s->ring_first)
		s->ring_last = NULL;
	d->in_ring = false;
	return d;
}

/* ---- what changes --------------------------------------------------------------------------------------- */

void schedule_put(struct queue_service *q, struct str key)
{
	struct schedule_entry e;
	struct dest *d;

	if (!schedule_parse(key, &e))
		return;
	d = dest_of(q->schedule, e.destination);
	/* Looking begins at it, and not where its second does: what was delivered in that second would be walked over.
	 */
	if (d->due[e.class] == NEVER || (d->low[e.class].len && str_cmp(key, d->low[e.class]) < 0))
		low_set(d, e.class, key);
	if (e.due < d->due[e.class])
		d->due[e.class] = e.due;
	dest_place(q->schedule, d);
}

void schedule_claimed(struct queue_service *q, struct str destination)
{
	dest_of(q->schedule, destination)->busy++;
}

void schedule_released(struct queue_service *q, struct str destination, bool again)
{
	struct dest *d = dest_of(q->schedule, destination);

	if (d->busy)
		d->busy--;
	if (again) {
		for (unsigned i = 0; i < SCHEDULE_CLASSES; i++)
			d->due[i] = 0;
		low_clear_all(d);
	}
	d->full = false;
	dest_place(q->schedule, d);
}

void schedule_pause(struct queue_service *q, struct str destination, int64_t pause_ms)
{
	struct dest *d = map_get(q->schedule->dests, destination);

	if (!d || pause_ms <= 0)
		return;
	d->rest_until = now_ms() + (uint64_t)pause_ms;
	dest_place(q->schedule, d);
}

/* ---- looking -------------------------------------------------------------------------------------------- */

struct looking {
	struct queue_service *q;
	char *out;
	struct str key; /* of the first that is free */
	uint64_t due;
};

static int look_at(void *ctx, struct str key, struct str value)
{
	struct looking *l = ctx;
	struct schedule_entry e;
	char claim[QUEUE_KEY_MAX];

	(void)value;
	if (!schedule_parse(key, &e) || part_is_claimed(l->q, part_key(e.p, claim)))
		return 0;
	memcpy(l->out, key.ptr, key.len);
	l->key = str_of(l->out, key.len);
	l->due = e.due;
	return 1;
}

/* The first part of the class that is due and free. */
static bool find_due(struct queue_service *q, struct dest *d, unsigned class, char out[QUEUE_KEY_MAX],
		     struct str *key_r)
{
	char first[QUEUE_KEY_MAX], end[QUEUE_KEY_MAX];
	struct part_id none = {STR_NULL, 0};
	struct looking l = {.q = q, .out = out};
	struct err err = ERR_NONE;
	struct str name = str_from(d->name), from = d->low[class], to;

	if (is_later(q->schedule, class, d->due[class]))
		return false;
	if (from.len == 0)
		from = schedule_key(name, class, d->due[class], none, first);
	if (from.ptr == first)
		from.len -= 5; /* before every id */
	to = schedule_key(name, class, NEVER, none, end);
	end[name.len + 2]++;
	if (kvlog_range(q->k, from, to, false, look_at, &l, &err) < 0) {
		/* Nothing is known: what is due stays so. */
		log_error("cannot read the schedule: %s", err.text);
		d->rest_until = now_ms() + UNREAD_MS;
		return false;
	}
	if (l.key.len == 0) {
		d->due[class] = NEVER;
		low_clear(d, class);
		return false;
	}
	d->due[class] = l.due;
	if (is_later(q->schedule, class, l.due)) {
		low_clear(d, class);
		return false;
	}
	low_set(d, class, l.key);
	*key_r = l.key;
	return true;
}

static bool dest_next(struct queue_service *q, struct dest *d, char out[QUEUE_KEY_MAX], struct str *key_r)
{
	for (unsigned i = 1; i <= SCHEDULE_CLASSES; i++) {
		unsigned class = (d->last + i) % SCHEDULE_CLASSES;

		if (find_due(q, d, class, out, key_r)) {
			d->last = (uint8_t) class;
			return true;
		}
	}
	return false;
}

/* Every destination is looked at anew when the clock was set back. */
static void follow_clock(struct queue_service *q, uint64_t now)
{
	struct schedule *s = q->schedule;
	const struct queue_parameters *p = &q->o.parameters;
	uint64_t backoff = (uint64_t)(p->maximal_backoff_time > p->minimal_backoff_time ? p->maximal_backoff_time
											: p->minimal_backoff_time) /
			   1000;

	s->horizon = backoff > HORIZON_MIN_S ? backoff : HORIZON_MIN_S;
	while (now + 1000 < s->seen_ms && s->heap.n) {
		struct dest *d = s->heap.v[0];

		heap_remove(s, d);
		d->rest_until = 0;
		ring_add(s, d);
	}
	s->seen_ms = now;
}

bool schedule_next(struct queue_service *q, uint32_t window, char out[QUEUE_KEY_MAX], struct str *key_r,
		   uint64_t *next_ms_r)
{
	struct schedule *s = q->schedule;
	uint64_t now = now_ms();
	struct dest *d;

	follow_clock(q, now);
	while (s->heap.n && s->heap.v[0]->ready_at <= now) {
		d = s->heap.v[0];
		heap_remove(s, d);
		ring_add(s, d);
	}
	while ((d = ring_take(s))) {
		if (d->rest_until > now) {
			dest_place(s, d);
		} else if (window && d->busy >= window) {
			d->full = true;
		} else if (dest_next(q, d, out, key_r)) {
			ring_add(s, d);
			return true;
		} else {
			dest_place(s, d);
		}
	}
	*next_ms_r = s->heap.n ? s->heap.v[0]->ready_at : 0;
	return false;
}

/* ---- life ----------------------------------------------------------------------------------------------- */

struct schedule *schedule_new(void)
{
	struct schedule *s = NEW(struct schedule);

	s->dests = map_new();
	s->horizon = HORIZON_MIN_S;
	return s;
}

void schedule_free(struct schedule **sp)
{
	struct schedule *s = *sp;
	struct str key;
	void *value;

	*sp = NULL;
	if (!s)
		return;
	for (size_t at = 0; map_next(s->dests, &at, &key, &value);) {
		struct dest *d = value;

		low_clear_all(d);
		free(d);
	}
	map_free(&s->dests);
	vec_release(&s->heap);
	free(s);
}

static int take_first(void *ctx, struct str key, struct str value)
{
	struct looking *l = ctx;

	(void)value;
	if (key.len > QUEUE_KEY_MAX)
		return 0;
	memcpy(l->out, key.ptr, key.len);
	l->key = str_of(l->out, key.len);
	return 1;
}

/* The first key of each class of each destination; what lies between is skipped. */
int schedule_load(struct queue_service *q, struct err *err)
{
	char from[QUEUE_KEY_MAX] = "S", found[QUEUE_KEY_MAX];
	struct str first = str_of(from, 1);
	struct schedule_entry e;

	for (;;) {
		struct looking l = {.q = q, .out = found};

		if (kvlog_range(q->k, first, STR("T"), false, take_first, &l, err) < 0)
			return -1;
		if (l.key.len == 0)
			return 0;
		if (!schedule_parse(l.key, &e)) { /* not ours: what stands right behind it */
			memcpy(from, l.key.ptr, l.key.len);
			from[l.key.len] = 0;
			first = str_of(from, l.key.len + 1);
			continue;
		}
		schedule_put(q, l.key);
		memcpy(from, l.key.ptr, e.destination.len + 3);
		from[e.destination.len + (e.class + 1 < SCHEDULE_CLASSES ? 2 : 1)]++;
		first = str_of(from, e.destination.len + (e.class + 1 < SCHEDULE_CLASSES ? 3 : 2));
	}
}
