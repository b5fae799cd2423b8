/* sending - see sending.h. A map for finding, a list ordered by the last message for forgetting. */
#include "directory/sending.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/vec.h"
#include <pthread.h>

#define HOUR_S	      3600
#define DAY_S	      86400
#define UNTOLD_MAX    1000 /* taken up at the start; the others when they send again */
#define SURGE_QUIET_S DAY_S
#define SWEEP_WRITES  10000 /* rows written, after which too many are looked for */

struct window {
	int64_t began;
	uint64_t count;
	uint64_t top; /* the most before this window, as of top_at */
	int64_t top_at;
};

struct record {
	char who[SENDING_WHO_MAX + 1];
	struct window hour, day;
	uint64_t surge;	    /* seq; 0: none yet */
	int64_t surge_at;   /* when it began */
	int64_t surge_over; /* when it was last too much */
	bool told;
};

struct entry {
	struct entry *newer, *older;
	bool dirty;
	struct record r;
};

struct sending {
	pthread_mutex_t lock;
	struct map *map;
	struct entry *newest, *oldest;
	size_t entries_max;
	uint64_t last_seq;
	/* Of who has the database. */
	pthread_mutex_t sweep_lock;
	int64_t swept; /* when old rows were last looked for */
	unsigned writes;
};

struct sending *sending_new(size_t entries_max)
{
	struct sending *s = NEW(struct sending);

	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->sweep_lock, NULL);
	s->map = map_new();
	s->entries_max = entries_max;
	return s;
}

/* ---- entries ---- */

static void entry_unlink(struct sending *s, struct entry *e)
{
	*(e->newer ? &e->newer->older : &s->newest) = e->older;
	*(e->older ? &e->older->newer : &s->oldest) = e->newer;
	e->newer = e->older = NULL;
}

static void entry_link(struct sending *s, struct entry *e)
{
	e->older = s->newest;
	*(s->newest ? &s->newest->newer : &s->oldest) = e;
	s->newest = e;
}

static void entry_drop(struct sending *s, struct entry *e)
{
	entry_unlink(s, e);
	map_remove(s->map, str_from(e->r.who));
	free(e);
}

void sending_free(struct sending **sp)
{
	struct sending *s = *sp;

	if (!s)
		return;
	*sp = NULL;
	while (s->oldest)
		entry_drop(s, s->oldest);
	map_free(&s->map);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->sweep_lock);
	free(s);
}

static struct str key_of(struct str who, char out[SENDING_WHO_MAX + 1])
{
	size_t n = who.len < SENDING_WHO_MAX ? who.len : SENDING_WHO_MAX;

	for (size_t i = 0; i < n; i++)
		out[i] = (char)ascii_lower(who.ptr[i]);
	out[n] = 0;
	return str_from(out);
}

/* Puts it into memory, unless somebody else just did. What has to go for it, and is not written, goes to *evicted_r. */
static bool entry_put(struct sending *s, const struct record *r, struct record *evicted_r)
{
	bool evicted = false;
	struct entry *e;

	if (map_get(s->map, str_from(r->who)))
		return false;
	if (map_count(s->map) >= s->entries_max && s->oldest) {
		evicted = s->oldest->dirty;
		*evicted_r = s->oldest->r;
		entry_drop(s, s->oldest);
	}
	e = NEW(struct entry);
	e->r = *r;
	map_set(s->map, str_from(e->r.who), e);
	entry_link(s, e);
	if (r->surge > s->last_seq)
		s->last_seq = r->surge;
	return evicted;
}

/* ---- counting ---- */

/* Half after each half-life, in a straight line between. */
static uint64_t top_now(const struct window *w, int64_t now)
{
	int64_t age = now > w->top_at ? now - w->top_at : 0, halves = age / SENDING_HALF_LIFE_S;
	uint64_t top = halves < 64 ? w->top >> halves : 0;

	return top - top * (uint64_t)(age % SENDING_HALF_LIFE_S) / (2 * (uint64_t)SENDING_HALF_LIFE_S);
}

static void window_add(struct window *w, uint64_t n, int64_t length, int64_t now)
{
	if (now - w->began >= length || now < w->began) {
		/* It fades from when it was sent, not from when that is noticed. */
		int64_t at = w->began < now ? w->began : now;
		uint64_t top = top_now(w, at);

		w->top = w->count > top ? w->count : top;
		w->top_at = at;
		w->began = now;
		w->count = 0;
	}
	w->count += n;
}

static bool is_too_much(const struct window *w, int64_t factor, int64_t floor, int64_t now)
{
	return factor > 0 && w->count > (uint64_t)floor && w->count > (uint64_t)factor * top_now(w, now);
}

static bool surge_begins(struct sending *s, struct record *r, const struct sending_rules *rules, int64_t now)
{
	bool was_under_way = r->surge && now >= r->surge_over && now - r->surge_over < SURGE_QUIET_S;

	if (!is_too_much(&r->hour, rules->factor, rules->hour_floor, now) &&
	    !is_too_much(&r->day, rules->factor, rules->day_floor, now))
		return false;
	r->surge_over = now;
	if (was_under_way)
		return false;
	r->surge = s->last_seq = s->last_seq + 1;
	r->surge_at = now;
	r->told = false;
	return true;
}

int sending_add(struct sending *s, struct str who, uint64_t n, const struct sending_rules *rules, int64_t now)
{
	char name[SENDING_WHO_MAX + 1];
	struct str key = key_of(who, name);
	struct entry *e;
	int result = -1;

	pthread_mutex_lock(&s->lock);
	e = map_get(s->map, key);
	if (e) {
		entry_unlink(s, e);
		entry_link(s, e);
		window_add(&e->r.hour, n, HOUR_S, now);
		window_add(&e->r.day, n, DAY_S, now);
		e->dirty = true;
		result = surge_begins(s, &e->r, rules, now);
	}
	pthread_mutex_unlock(&s->lock);
	return result;
}

/* ---- what is to be told ---- */

size_t sending_untold(struct sending *s, struct surge *list_r, size_t max, int64_t now)
{
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	for (struct entry *e = s->oldest; e && n < max; e = e->newer) {
		struct record *r = &e->r;

		if (r->surge == 0 || r->told)
			continue;
		list_r[n] = (struct surge){.seq = r->surge,
					   .since = r->surge_at,
					   .hour = r->hour.count,
					   .hour_top = top_now(&r->hour, now),
					   .day = r->day.count,
					   .day_top = top_now(&r->day, now)};
		memcpy(list_r[n++].who, r->who, sizeof(r->who));
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

void sending_told(struct sending *s, uint64_t seq)
{
	pthread_mutex_lock(&s->lock);
	for (struct entry *e = s->oldest; e; e = e->newer)
		if (e->r.surge == seq && !e->r.told)
			e->r.told = e->dirty = true;
	pthread_mutex_unlock(&s->lock);
}

/* ---- the table ---- */

#define COLUMNS                                                                                                        \
	"who, hour_began, hour_count, hour_top, hour_top_at, day_began, day_count, day_top, day_top_at, surge, "       \
	"surge_at, surge_over, told"

static void read_window(sqlite3_stmt *st, int at, struct window *w)
{
	w->began = (int64_t)db_u64(st, at);
	w->count = db_u64(st, at + 1);
	w->top = db_u64(st, at + 2);
	w->top_at = (int64_t)db_u64(st, at + 3);
}

static void read_record(sqlite3_stmt *st, struct record *r)
{
	const void *who = sqlite3_column_blob(st, 0);

	*r = (struct record){.surge = db_u64(st, 9),
			     .surge_at = (int64_t)db_u64(st, 10),
			     .surge_over = (int64_t)db_u64(st, 11),
			     .told = db_u64(st, 12) != 0};
	key_of(str_of(who, (size_t)sqlite3_column_bytes(st, 0)), r->who);
	read_window(st, 1, &r->hour);
	read_window(st, 5, &r->day);
}

static void bind_window(sqlite3_stmt *st, int at, const struct window *w)
{
	db_bind_u64(st, at, (uint64_t)w->began);
	db_bind_u64(st, at + 1, w->count);
	db_bind_u64(st, at + 2, w->top);
	db_bind_u64(st, at + 3, (uint64_t)w->top_at);
}

static int write_record(struct db *db, const struct record *r, struct err *err)
{
	sqlite3_stmt *st = db_prepare(
		db, "INSERT OR REPLACE INTO sending(" COLUMNS ") VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", err);

	if (!st)
		return -1;
	db_bind_str(st, 1, str_from(r->who));
	bind_window(st, 2, &r->hour);
	bind_window(st, 6, &r->day);
	db_bind_u64(st, 10, r->surge);
	db_bind_u64(st, 11, (uint64_t)r->surge_at);
	db_bind_u64(st, 12, (uint64_t)r->surge_over);
	db_bind_u64(st, 13, r->told);
	return db_run(db, st, err);
}

static bool sweep_is_due(struct sending *s, size_t written, int64_t now)
{
	bool due;

	pthread_mutex_lock(&s->sweep_lock);
	s->writes += (unsigned)written;
	due = s->writes >= SWEEP_WRITES || now - s->swept >= DAY_S || now < s->swept;
	if (due) {
		s->swept = now;
		s->writes = 0;
	}
	pthread_mutex_unlock(&s->sweep_lock);
	return due;
}

/* Rows of who is long silent, and of those longest silent when there are too many. */
static int sweep(struct db *db, int64_t now, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db, "DELETE FROM sending WHERE day_began < ?", err);

	if (!st)
		return -1;
	db_bind_u64(st, 1, (uint64_t)(now > SENDING_KEPT_S ? now - SENDING_KEPT_S : 0));
	if (db_run(db, st, err) < 0)
		return -1;
	st = db_prepare(db,
			"DELETE FROM sending WHERE who IN"
			" (SELECT who FROM sending ORDER BY day_began DESC LIMIT -1 OFFSET ?)",
			err);
	if (!st)
		return -1;
	db_bind_u64(st, 1, SENDING_ROWS_MAX);
	return db_run(db, st, err);
}

int sending_open(struct sending *s, struct db *db, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db, "SELECT max(surge) FROM sending", err);
	struct record r, unused;
	int rc = st ? db_step(db, st, err) : -1;

	if (rc > 0) {
		s->last_seq = db_u64(st, 0);
		db_done(st);
	}
	st = rc < 0 ? NULL
		    : db_prepare(db,
				 "SELECT " COLUMNS " FROM sending WHERE surge > 0 AND told = 0 ORDER BY surge LIMIT ?",
				 err);
	if (!st)
		return -1;
	db_bind_u64(st, 1, s->entries_max < UNTOLD_MAX ? s->entries_max : UNTOLD_MAX);
	while ((rc = db_step(db, st, err)) > 0) {
		read_record(st, &r);
		pthread_mutex_lock(&s->lock);
		(void)entry_put(s, &r, &unused);
		pthread_mutex_unlock(&s->lock);
	}
	return rc;
}

int sending_load(struct sending *s, struct db *db, struct str who, int64_t now, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db, "SELECT " COLUMNS " FROM sending WHERE who = ?", err);
	struct record r = {.hour.top_at = now, .day.top_at = now}, evicted;
	struct str key = key_of(who, r.who);
	bool write;
	int rc;

	if (!st)
		return -1;
	db_bind_str(st, 1, key);
	rc = db_step(db, st, err);
	if (rc < 0)
		return -1;
	if (rc > 0) {
		read_record(st, &r);
		db_done(st);
	}
	pthread_mutex_lock(&s->lock);
	write = entry_put(s, &r, &evicted);
	pthread_mutex_unlock(&s->lock);
	if (write && sweep_is_due(s, 1, now) && sweep(db, now, err) < 0)
		return -1;
	return write ? write_record(db, &evicted, err) : 0;
}

struct copies {
	VEC(struct record) v;
};

static void copy_dirty(struct sending *s, struct copies *c)
{
	pthread_mutex_lock(&s->lock);
	for (struct entry *e = s->oldest; e; e = e->newer)
		if (e->dirty) {
			vec_push(&c->v, e->r);
			e->dirty = false;
		}
	pthread_mutex_unlock(&s->lock);
}

static void mark_dirty(struct sending *s, const struct copies *c)
{
	struct entry *e;

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < c->v.n; i++)
		if ((e = map_get(s->map, str_from(c->v.v[i].who))) != NULL)
			e->dirty = true;
	pthread_mutex_unlock(&s->lock);
}

static int save_all(struct sending *s, struct db *db, const struct copies *c, int64_t now, struct err *err)
{
	if (db_begin(db, err) < 0)
		return -1;
	for (size_t i = 0; i < c->v.n; i++)
		if (write_record(db, &c->v.v[i], err) < 0)
			goto back;
	if ((!sweep_is_due(s, c->v.n, now) || sweep(db, now, err) == 0) && db_commit(db, err) == 0)
		return 0;
back:
	db_rollback(db);
	return -1;
}

int sending_save(struct sending *s, struct db *db, int64_t now, struct err *err)
{
	struct copies c = {0};
	int result = 0;

	copy_dirty(s, &c);
	if (c.v.n > 0 && (result = save_all(s, db, &c, now, err)) < 0)
		mark_dirty(s, &c);
	vec_release(&c.v);
	return result;
}
