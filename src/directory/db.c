/* db - see db.h.
 *
 * Schema. An address is one row whatever it leads to, so that UNIQUE holds between users and aliases:
 *
 *   domains    name is the A-label form in lower case
 *   users      an account; id is never reused (AUTOINCREMENT), nor is path; `serial` grows with whatever must
 *              end its sessions (password, disabled)
 *   addresses  kind 1: a user's primary address, 2: another one of his, 3: an alias; local_key is local folded;
 *              local_key "" is the catch-all
 *   targets    where an alias leads
 *   retired    paths of deleted users: their mail may still lie there
 *   sending    how much each account usually sends (directory/sending.h) */
#include "directory/db.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define BUSY_MS	       5000
#define STATEMENTS_MAX 64

static const char *const migrations[DB_SCHEMA_VERSION] = {
	"CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
	"INSERT INTO meta VALUES('secret', randomblob(32));"
	"CREATE TABLE domains("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" name TEXT NOT NULL UNIQUE,"
	" enabled INTEGER NOT NULL DEFAULT 1,"
	" description TEXT NOT NULL DEFAULT '',"
	" created INTEGER NOT NULL);"
	"CREATE TABLE users("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" name TEXT NOT NULL DEFAULT '',"
	" enabled INTEGER NOT NULL DEFAULT 1,"
	" admin INTEGER NOT NULL DEFAULT 0,"
	" quota_bytes INTEGER NOT NULL DEFAULT 0,"
	" quota_messages INTEGER NOT NULL DEFAULT 0,"
	" path TEXT NOT NULL UNIQUE,"
	" serial INTEGER NOT NULL DEFAULT 1,"
	" password TEXT NOT NULL DEFAULT '',"
	" scram_iterations INTEGER NOT NULL DEFAULT 0,"
	" scram_salt BLOB, scram_stored BLOB, scram_server BLOB,"
	" created INTEGER NOT NULL);"
	"CREATE TABLE addresses("
	" id INTEGER PRIMARY KEY,"
	" domain_id INTEGER NOT NULL REFERENCES domains(id),"
	" local TEXT NOT NULL,"
	" local_key TEXT NOT NULL,"
	" kind INTEGER NOT NULL CHECK(kind IN (1, 2, 3)),"
	" user_id INTEGER REFERENCES users(id) ON DELETE CASCADE,"
	" enabled INTEGER NOT NULL DEFAULT 1,"
	" UNIQUE(domain_id, local_key),"
	" CHECK((kind = 3) = (user_id IS NULL)));"
	"CREATE UNIQUE INDEX primary_address ON addresses(user_id) WHERE kind = 1;"
	"CREATE INDEX user_addresses ON addresses(user_id) WHERE user_id IS NOT NULL;"
	"CREATE TABLE targets("
	" address_id INTEGER NOT NULL REFERENCES addresses(id) ON DELETE CASCADE,"
	" position INTEGER NOT NULL,"
	" target TEXT NOT NULL,"
	" PRIMARY KEY(address_id, position)) WITHOUT ROWID;"
	"CREATE TABLE retired(path TEXT PRIMARY KEY) WITHOUT ROWID;",
	"CREATE TABLE sending("
	" who TEXT PRIMARY KEY,"
	" hour_began INTEGER NOT NULL, hour_count INTEGER NOT NULL,"
	" hour_top INTEGER NOT NULL, hour_top_at INTEGER NOT NULL,"
	" day_began INTEGER NOT NULL, day_count INTEGER NOT NULL,"
	" day_top INTEGER NOT NULL, day_top_at INTEGER NOT NULL,"
	" surge INTEGER NOT NULL, surge_at INTEGER NOT NULL, surge_over INTEGER NOT NULL,"
	" told INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX sending_surges ON sending(surge) WHERE surge > 0;",
};

struct db {
	sqlite3 *sq;
	char *path;
	struct {
		const char *sql;
		sqlite3_stmt *st;
	} statements[STATEMENTS_MAX];
	size_t statement_count;
};

static bool is_damage(int rc)
{
	return (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB;
}

static int db_err(struct db *db, int rc, struct err *err)
{
	if ((rc & 0xff) == SQLITE_CONSTRAINT && (sqlite3_extended_errcode(db->sq) == SQLITE_CONSTRAINT_UNIQUE ||
						 sqlite3_extended_errcode(db->sq) == SQLITE_CONSTRAINT_PRIMARYKEY))
		return err_set(err, ERR_EXISTS, "", "that name is already taken");
	if (is_damage(rc))
		return err_set(
			err, ERR_TEMP, "4.3.0",
			"account database %s is damaged (%s): restore it from a copy, or save what can be read with "
			"\"sqlite3 %s .recover\"",
			db->path, sqlite3_errmsg(db->sq), db->path);
	return err_set(err, ERR_TEMP, "4.3.0", "account database %s: %s", db->path, sqlite3_errmsg(db->sq));
}

static int db_exec(struct db *db, const char *sql, struct err *err)
{
	int rc = sqlite3_exec(db->sq, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : db_err(db, rc, err);
}

/* The value of a pragma. Not kept as a statement: pragmas may change when they are prepared. */
static int pragma_get(struct db *db, const char *sql, uint64_t *value_r, struct err *err)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db->sq, sql, -1, &st, NULL);

	*value_r = 0;
	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		*value_r = (uint64_t)sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? 0 : db_err(db, rc, err);
}

static int migrate_in_transaction(struct db *db, struct err *err)
{
	uint64_t version;

	/* Read again: another process may have migrated while this one waited for the lock. */
	if (pragma_get(db, "PRAGMA user_version", &version, err) < 0)
		return -1;
	for (; version < DB_SCHEMA_VERSION; version++) {
		char set[64];

		snprintf(set, sizeof(set), "PRAGMA user_version = %u", (unsigned)version + 1);
		if (db_exec(db, migrations[version], err) < 0 || db_exec(db, set, err) < 0)
			return -1;
	}
	return db_commit(db, err);
}

static int db_migrate(struct db *db, struct err *err)
{
	uint64_t version;

	if (pragma_get(db, "PRAGMA user_version", &version, err) < 0)
		return -1;
	if (version > DB_SCHEMA_VERSION)
		return err_set(
			err, ERR_PERM, "5.3.5",
			"account database %s has schema version %u, but this program knows versions up to %u: it was "
			"written by a newer Postrider, install that one",
			db->path, (unsigned)version, DB_SCHEMA_VERSION);
	if (version == DB_SCHEMA_VERSION)
		return 0;
	if (db_begin(db, err) < 0)
		return -1;
	if (migrate_in_transaction(db, err) < 0) {
		db_rollback(db);
		return -1;
	}
	return 0;
}

static int db_setup(struct db *db, struct err *err)
{
	uint64_t unused;
	int on = 1;

	sqlite3_busy_timeout(db->sq, BUSY_MS);
	sqlite3_extended_result_codes(db->sq, 1);
	/* The WAL stays when the last connection closes: its directory may belong to another account by then. */
	sqlite3_file_control(db->sq, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
	if (db_exec(db,
		    "PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;"
		    "PRAGMA cache_size = -512; PRAGMA synchronous = FULL",
		    err) < 0)
		return -1;
	if (pragma_get(db, "PRAGMA user_version", &unused, err) < 0)
		return -1;
	if (unused == 0 && db_exec(db, "PRAGMA journal_mode = WAL", err) < 0)
		return -1;
	return db_migrate(db, err);
}

/* The file is made here and not by SQLite, so that it never exists with another mode. */
static int db_create(const char *path, struct err *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return errno == EEXIST ? 0 : err_errno(err, "cannot create %s", path);
	close(fd);
	return 0;
}

int db_open(const char *path, unsigned flags, struct db **db_r, struct err *err)
{
	struct db *db;
	int rc;

	*db_r = NULL;
	if ((flags & DB_CREATE) && db_create(path, err) < 0)
		return -1;
	if (access(path, R_OK | W_OK) < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return err_set(
				err, ERR_NOT_FOUND, "4.3.0",
				"there is no account database %s: \"postrider init DIR --domain DOMAIN\" makes one",
				path);
		return err_errno(err, "cannot open the account database %s", path);
	}
	db = NEW(struct db);
	db->path = mem_strdup(path);
	rc = sqlite3_open_v2(path, &db->sq, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	if ((rc != SQLITE_OK ? db_err(db, rc, err) : db_setup(db, err)) < 0) {
		/* Nobody waits for it to get better. */
		if (is_damage(sqlite3_errcode(db->sq)))
			err->kind = ERR_PERM;
		db_close(&db);
		return -1;
	}
	if (flags & DB_NO_WAIT)
		sqlite3_busy_timeout(db->sq, 0);
	*db_r = db;
	return 0;
}

void db_close(struct db **dbp)
{
	struct db *db = *dbp;

	if (!db)
		return;
	*dbp = NULL;
	for (size_t i = 0; i < db->statement_count; i++)
		sqlite3_finalize(db->statements[i].st);
	sqlite3_close(db->sq);
	free(db->path);
	free(db);
}

sqlite3_stmt *db_prepare(struct db *db, const char *sql, struct err *err)
{
	sqlite3_stmt *st = NULL;
	int rc;

	for (size_t i = 0; i < db->statement_count; i++) {
		if (db->statements[i].sql == sql) {
			sqlite3_reset(db->statements[i].st);
			sqlite3_clear_bindings(db->statements[i].st);
			return db->statements[i].st;
		}
	}
	rc = sqlite3_prepare_v3(db->sq, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL);
	if (rc != SQLITE_OK) {
		db_err(db, rc, err);
		return NULL;
	}
	invariant(db->statement_count < STATEMENTS_MAX);
	db->statements[db->statement_count].sql = sql;
	db->statements[db->statement_count++].st = st;
	return st;
}

void db_bind_u64(sqlite3_stmt *st, int at, uint64_t value)
{
	sqlite3_bind_int64(st, at, (sqlite3_int64)value);
}

/* What could not be bound would be asked for as NULL, which nobody has: an unknown user. */
static void check_bound(int rc, size_t len)
{
	if (rc == SQLITE_NOMEM)
		mem_exhausted(len);
}

/* SQLITE_TRANSIENT: the statement outlives the caller's bytes. A NULL pointer would bind NULL. */
void db_bind_str(sqlite3_stmt *st, int at, struct str text)
{
	check_bound(sqlite3_bind_text64(st, at, text.ptr ? text.ptr : "", text.len, SQLITE_TRANSIENT, SQLITE_UTF8),
		    text.len);
}

void db_bind_blob(sqlite3_stmt *st, int at, const void *data, size_t len)
{
	check_bound(sqlite3_bind_blob64(st, at, data, len, SQLITE_TRANSIENT), len);
}

void db_check_column(sqlite3_stmt *st, const void *value)
{
	if (value == NULL && sqlite3_errcode(sqlite3_db_handle(st)) == SQLITE_NOMEM)
		mem_exhausted(0);
}

int db_step(struct db *db, sqlite3_stmt *st, struct err *err)
{
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW)
		return 1;
	if (rc == SQLITE_DONE) {
		sqlite3_reset(st);
		return 0;
	}
	db_err(db, rc, err);
	sqlite3_reset(st);
	return -1;
}

uint64_t db_u64(sqlite3_stmt *st, int column)
{
	return (uint64_t)sqlite3_column_int64(st, column);
}

struct str db_str(sqlite3_stmt *st, int column, struct arena *arena)
{
	const void *data = sqlite3_column_blob(st, column);
	size_t len;

	db_check_column(st, data);
	len = (size_t)sqlite3_column_bytes(st, column);
	return arena_str(arena, str_of(data, len));
}

void db_done(sqlite3_stmt *st)
{
	sqlite3_reset(st);
}

int db_run(struct db *db, sqlite3_stmt *st, struct err *err)
{
	int rc = db_step(db, st, err);

	if (rc > 0)
		db_done(st);
	return rc < 0 ? -1 : 0;
}

uint64_t db_last_id(struct db *db)
{
	return (uint64_t)sqlite3_last_insert_rowid(db->sq);
}

uint64_t db_changes(struct db *db)
{
	return (uint64_t)sqlite3_changes64(db->sq);
}

int db_begin(struct db *db, struct err *err)
{
	return db_exec(db, "BEGIN IMMEDIATE", err);
}

int db_commit(struct db *db, struct err *err)
{
	return db_exec(db, "COMMIT", err);
}

void db_rollback(struct db *db)
{
	if (!sqlite3_get_autocommit(db->sq) && db_exec(db, "ROLLBACK", NULL) < 0)
		log_warning("account database %s: cannot roll back: %s", db->path, sqlite3_errmsg(db->sq));
}

int db_data_version(struct db *db, uint64_t *version_r, struct err *err)
{
	/* Unlike pragmas that set something, this one does all when it is stepped, and may be kept. */
	sqlite3_stmt *st = db_prepare(db, "PRAGMA data_version", err);
	int rc = st ? db_step(db, st, err) : -1;

	if (rc <= 0)
		return -1;
	*version_r = db_u64(st, 0);
	db_done(st);
	return 0;
}

int db_secret(struct db *db, uint8_t secret_r[DB_SECRET_LEN], struct err *err)
{
	sqlite3_stmt *st = db_prepare(db, "SELECT value FROM meta WHERE name = 'secret'", err);
	int rc = st ? db_step(db, st, err) : -1;

	if (rc < 0)
		return -1;
	if (rc == 0 || sqlite3_column_bytes(st, 0) != DB_SECRET_LEN) {
		if (rc > 0)
			db_done(st);
		return err_set(err, ERR_TEMP, "4.3.0", "account database %s has lost its secret", db->path);
	}
	memcpy(secret_r, sqlite3_column_blob(st, 0), DB_SECRET_LEN);
	db_done(st);
	return 0;
}
