/* See sts_cache.h. */
#include "directory/sts_cache.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "directory/db.h"
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <unistd.h>

#define BUSY_MS 5000

struct sts_cache {
	pthread_mutex_t lock; /* the database */
	char *path;
	sqlite3 *sq;
};

static const char schema[] = "PRAGMA journal_mode = TRUNCATE; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; "
			     "PRAGMA cache_size = -256;"
			     "CREATE TABLE IF NOT EXISTS policies("
			     " domain TEXT PRIMARY KEY,"
			     " id TEXT NOT NULL,"
			     " policy TEXT NOT NULL,"
			     " fetched INTEGER NOT NULL,"
			     " expires INTEGER NOT NULL,"
			     " due INTEGER NOT NULL,"
			     " used INTEGER NOT NULL);"
			     "CREATE INDEX IF NOT EXISTS by_due ON policies(due, used);"
			     "CREATE INDEX IF NOT EXISTS by_use ON policies(used);";

struct sts_cache *sts_cache_new(const char *path)
{
	struct sts_cache *c = NEW(struct sts_cache);

	pthread_mutex_init(&c->lock, NULL);
	c->path = mem_strdup(path);
	return c;
}

void sts_cache_free(struct sts_cache **c)
{
	if (*c == NULL)
		return;
	sqlite3_close((*c)->sq);
	pthread_mutex_destroy(&(*c)->lock);
	free((*c)->path);
	free(*c);
	*c = NULL;
}

/* ---- the file, under the lock ---- */

static int open_file(struct sts_cache *c)
{
	char limit[64];
	/* Made here and not by SQLite, so that it never has another mode. */
	int fd = open(c->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int rc;

	if (fd >= 0)
		close(fd);
	rc = sqlite3_open_v2(c->path, &c->sq, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
	if (rc != SQLITE_OK)
		return rc;
	sqlite3_busy_timeout(c->sq, BUSY_MS);
	snprintf(limit, sizeof(limit), "PRAGMA max_page_count = %d", STS_CACHE_PAGES_MAX);
	rc = sqlite3_exec(c->sq, limit, NULL, NULL, NULL);
	return rc == SQLITE_OK ? sqlite3_exec(c->sq, schema, NULL, NULL, NULL) : rc;
}

static bool is_damage(int rc)
{
	return (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB;
}

static int failed(struct sts_cache *c, int rc, struct err *err)
{
	return err_set(err, ERR_TEMP, "4.3.0", "%s: %s", c->path, c->sq ? sqlite3_errmsg(c->sq) : sqlite3_errstr(rc));
}

static void close_file(struct sts_cache *c)
{
	sqlite3_close(c->sq);
	c->sq = NULL;
}

/* Nothing in it cannot be fetched again. */
static void discard(struct sts_cache *c)
{
	char *journal = mem_printf("%s-journal", c->path);

	log_warning("%s is damaged, and is made anew: MTA-STS policies are fetched again", c->path);
	close_file(c);
	(void)!unlink(c->path);
	(void)!unlink(journal);
	free(journal);
}

/* Runs fn; on a damaged file once more, on a new one. */
static int run(struct sts_cache *c, int (*fn)(sqlite3 *sq, void *ctx), void *ctx, struct err *err)
{
	int rc = SQLITE_OK;

	pthread_mutex_lock(&c->lock);
	for (int attempt = 0; attempt < 2; attempt++) {
		rc = c->sq ? SQLITE_OK : open_file(c);
		if (rc == SQLITE_OK)
			rc = fn(c->sq, ctx);
		if (!is_damage(rc))
			break;
		discard(c);
	}
	if (rc != SQLITE_OK) {
		failed(c, rc, err);
		close_file(c);
	}
	pthread_mutex_unlock(&c->lock);
	return rc == SQLITE_OK ? 0 : -1;
}

/* ---- statements ---- */

static void bind_text(sqlite3_stmt *st, int at, struct str s)
{
	sqlite3_bind_text(st, at, s.len ? s.ptr : "", (int)s.len, SQLITE_STATIC);
}

static struct str column_text(sqlite3_stmt *st, int at, struct arena *arena)
{
	const unsigned char *text = sqlite3_column_text(st, at);

	db_check_column(st, text);
	return arena_str(arena, str_of(text, (size_t)sqlite3_column_bytes(st, at)));
}

static int finish(sqlite3_stmt *st, int rc)
{
	int end = sqlite3_finalize(st);

	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : end != SQLITE_OK ? end : rc;
}

struct get {
	struct str domain;
	struct arena *arena;
	struct dir_sts *policy;
	bool use;
};

static int note_use(sqlite3 *sq, struct str domain)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(sq, "UPDATE policies SET used = ?2 WHERE domain = ?1", -1, &st, NULL);

	if (rc != SQLITE_OK)
		return rc;
	bind_text(st, 1, domain);
	sqlite3_bind_int64(st, 2, clock_wall());
	return finish(st, sqlite3_step(st));
}

static int do_get(sqlite3 *sq, void *ctx)
{
	struct get *g = ctx;
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(
		sq, "SELECT id, policy, fetched, expires, due, used FROM policies WHERE domain = ?1", -1, &st, NULL);
	uint64_t used = 0;

	*g->policy = (struct dir_sts){.domain = g->domain};
	if (rc != SQLITE_OK)
		return rc;
	bind_text(st, 1, g->domain);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		g->policy->found = 1;
		g->policy->id = column_text(st, 0, g->arena);
		g->policy->policy = column_text(st, 1, g->arena);
		g->policy->fetched = (uint64_t)sqlite3_column_int64(st, 2);
		g->policy->expires = (uint64_t)sqlite3_column_int64(st, 3);
		g->policy->due = (uint64_t)sqlite3_column_int64(st, 4);
		used = (uint64_t)sqlite3_column_int64(st, 5);
	}
	rc = finish(st, rc);
	if (rc == SQLITE_OK && g->policy->found && g->use && used + 86400 < (uint64_t)clock_wall())
		rc = note_use(sq, g->domain);
	return rc;
}

int sts_cache_get(struct sts_cache *c, struct str domain, bool use, struct arena *arena, struct dir_sts *policy_r,
		  struct err *err)
{
	struct get g = {.domain = domain, .arena = arena, .policy = policy_r, .use = use};

	return run(c, do_get, &g, err) < 0 ? -1 : policy_r->found;
}

/* Makes room: what is over, and of the rest those whose domains got no mail for longest. */
static int make_room(sqlite3 *sq, bool full)
{
	char sql[300];

	snprintf(sql, sizeof(sql),
		 "DELETE FROM policies WHERE expires < %lld;"
		 "DELETE FROM policies WHERE rowid IN (SELECT rowid FROM policies ORDER BY used LIMIT"
		 " max(0, (SELECT count(*) FROM policies) - %d))",
		 (long long)clock_wall(), STS_CACHE_ROWS_MAX);
	if (full)
		snprintf(sql, sizeof(sql),
			 "DELETE FROM policies WHERE rowid IN (SELECT rowid FROM policies ORDER BY used LIMIT"
			 " (SELECT 1 + count(*) / 2 FROM policies))");
	return sqlite3_exec(sq, sql, NULL, NULL, NULL);
}

static int put(sqlite3 *sq, const struct dir_sts *p)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(
		sq,
		"INSERT INTO policies(domain, id, policy, fetched, expires, due, used) VALUES(?1, ?2, ?3, ?4, ?5, ?6, "
		"?7)"
		" ON CONFLICT(domain) DO UPDATE SET id = ?2, policy = ?3, fetched = ?4, expires = ?5, due = ?6,"
		" used = CASE WHEN ?8 THEN ?7 ELSE used END",
		-1, &st, NULL);

	if (rc != SQLITE_OK)
		return rc;
	bind_text(st, 1, p->domain);
	bind_text(st, 2, p->id);
	bind_text(st, 3, p->policy);
	sqlite3_bind_int64(st, 4, (int64_t)p->fetched);
	sqlite3_bind_int64(st, 5, (int64_t)p->expires);
	sqlite3_bind_int64(st, 6, (int64_t)p->due);
	sqlite3_bind_int64(st, 7, clock_wall());
	sqlite3_bind_int(st, 8, p->used);
	return finish(st, sqlite3_step(st));
}

static int do_put(sqlite3 *sq, void *ctx)
{
	int rc = make_room(sq, false);

	if (rc == SQLITE_OK)
		rc = put(sq, ctx);
	if ((rc & 0xff) == SQLITE_FULL && (rc = make_room(sq, true)) == SQLITE_OK)
		rc = put(sq, ctx);
	return rc;
}

int sts_cache_put(struct sts_cache *c, const struct dir_sts *policy, struct err *err)
{
	struct dir_sts copy = *policy;

	return run(c, do_put, &copy, err);
}

struct due {
	uint64_t now;
	struct arena *arena;
	struct dir_sts_due *due;
};

static int do_due(sqlite3 *sq, void *ctx)
{
	struct due *d = ctx;
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(
		sq, "SELECT domain, due FROM policies WHERE used > ?1 AND expires > ?2 ORDER BY due LIMIT ?3", -1, &st,
		NULL);

	*d->due = (struct dir_sts_due){.domains.v = ARENA_ARRAY(d->arena, struct dir_sts_name, STS_CACHE_DUE_MAX)};
	if (rc != SQLITE_OK)
		return rc;
	sqlite3_bind_int64(st, 1, d->now > STS_CACHE_UNUSED_S ? (int64_t)(d->now - STS_CACHE_UNUSED_S) : 0);
	sqlite3_bind_int64(st, 2, (int64_t)d->now);
	sqlite3_bind_int(st, 3, STS_CACHE_DUE_MAX);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW && d->due->next == 0) {
		uint64_t due = (uint64_t)sqlite3_column_int64(st, 1);

		if (due > d->now)
			d->due->next = due;
		else
			d->due->domains.v[d->due->domains.n++].domain = column_text(st, 0, d->arena);
	}
	/* More may be due than fit. */
	if (d->due->next == 0 && d->due->domains.n == STS_CACHE_DUE_MAX)
		d->due->next = d->now;
	return finish(st, rc);
}

int sts_cache_due(struct sts_cache *c, uint64_t now, struct arena *arena, struct dir_sts_due *due_r, struct err *err)
{
	struct due d = {.now = now, .arena = arena, .due = due_r};

	return run(c, do_due, &d, err);
}
