/* directory/db - one connection to the account database (SQLite), and its schema.
 *
 * The schema has a version (PRAGMA user_version). An older one is migrated at opening, a newer one refused.
 * WAL mode: readers never wait for the writer; foreign keys are enforced. A connection belongs to one thread
 * at a time. Statements are prepared once a connection and kept.
 *
 * Whatever SQLite reports is ERR_TEMP for the caller (a busy, full or unreadable database is never "not
 * found"), except a broken UNIQUE rule, which is ERR_EXISTS. */
#ifndef DIRECTORY_DB_H
#define DIRECTORY_DB_H

#include "base/arena.h"
#include "base/err.h"
#include <sqlite3.h>

#define DB_SCHEMA_VERSION 2
#define DB_SECRET_LEN	  32

struct db;

enum {
	DB_CREATE = 1,	/* make the file (mode 0600) if there is none */
	DB_NO_WAIT = 2, /* what another connection stands in the way of fails at once */
};

/* Opens and, if need be, migrates. ERR_NOT_FOUND without a file, ERR_PERM for a newer schema; text says what to do. */
int db_open(const char *path, unsigned flags, struct db **db_r, struct err *err) WARN_UNUSED;
void db_close(struct db **db);

/* A statement for the literal `sql`, reset and with nothing bound, or NULL with err. The connection keeps it; a
 * statement must not be asked for again while rows of it are being read. */
sqlite3_stmt *db_prepare(struct db *db, const char *sql, struct err *err) WARN_UNUSED;
/* Parameters are numbered from 1. */
void db_bind_u64(sqlite3_stmt *st, int at, uint64_t value);
void db_bind_str(sqlite3_stmt *st, int at, struct str text);
void db_bind_blob(sqlite3_stmt *st, int at, const void *data, size_t len);
/* 1: a row, 0: the end (and the statement is reset), -1: err. */
int db_step(struct db *db, sqlite3_stmt *st, struct err *err) WARN_UNUSED;
/* Columns are numbered from 0. */
uint64_t db_u64(sqlite3_stmt *st, int column);
struct str db_str(sqlite3_stmt *st, int column, struct arena *arena);
/* `value` is what sqlite3_column_text() or _blob() just gave: ends the process when NULL means that there was no
 * memory. */
void db_check_column(sqlite3_stmt *st, const void *value);
/* For one row at most: steps, and on a row leaves it to be read until the next db_prepare(). */
void db_done(sqlite3_stmt *st);
/* A statement without rows: prepared, bound by the caller, run. Returns 0 or -1. */
int db_run(struct db *db, sqlite3_stmt *st, struct err *err) WARN_UNUSED;
uint64_t db_last_id(struct db *db);
uint64_t db_changes(struct db *db);

/* A write transaction. Commands take it for a whole change; end with commit, or rollback on any error. */
int db_begin(struct db *db, struct err *err) WARN_UNUSED;
int db_commit(struct db *db, struct err *err) WARN_UNUSED;
void db_rollback(struct db *db);

/* A number that differs from the last one given by this connection when another one has changed something. */
int db_data_version(struct db *db, uint64_t *version_r, struct err *err) WARN_UNUSED;
/* A secret made with the database: what answers about unknown users are derived from. */
int db_secret(struct db *db, uint8_t secret_r[DB_SECRET_LEN], struct err *err) WARN_UNUSED;

#endif
