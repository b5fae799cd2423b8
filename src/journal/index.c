#include "journal/index.h"
#include "journal/index_check.h"
#include "journal/record.h"

#include "base/encode.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/io.h"
#include <errno.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define INDEX_NAME    "index.mdb"
#define INDEX_DAMAGED "index.damaged"
#define MAP_INITIAL   ((size_t)256 << 20)
#define VALUE_VERSION 1
#define VALUE_HEADER  5u
#define NUMBER_SIZE   12u
/* Each page that was looked at stays mapped and counts as this process's memory: of a large index, gigabytes. After so
 * many looks they are let go (a search maps up to 64 KB around a page; a step to the next key little); they stay in the
 * kernel's cache, from where they come back at the price of a page fault. */
#define LET_GO_AFTER 16384u
#define SEARCH_COSTS 16u

struct index {
	MDB_env *env;
	MDB_dbi kv, meta;
	MDB_txn *read;		 /* reset between uses; the loop's */
	pthread_rwlock_t map;	 /* read: a read transaction is active; write: the map is being replaced */
	pthread_mutex_t writing; /* a write transaction is active, or the map is being replaced; taken before map */
	size_t touched;		 /* the loop's: how much it has read since the map was last let go */
	atomic_ullong lsn;
	bool whole;
	uint64_t journal;
};

struct index_cursor {
	struct index *ix;
	MDB_cursor *cursor;
	MDB_val key, value;
	bool reverse;
	int rc;
};

static int index_err(struct err *err, int rc, const char *what)
{
	return err_set(err, rc == ENOSPC || rc == EDQUOT ? ERR_FULL : ERR_TEMP,
		       rc == ENOSPC || rc == EDQUOT ? "4.3.1" : "4.3.0", "%s the index: %s", what, mdb_strerror(rc));
}

/* Keys of the table "meta". */
static MDB_val lsn_key(void)
{
	static char name[] = "lsn";

	return (MDB_val){sizeof(name), name};
}

static MDB_val journal_key(void)
{
	static char name[] = "journal";

	return (MDB_val){sizeof(name), name};
}

static MDB_val whole_key(void)
{
	static char name[] = "whole";

	return (MDB_val){sizeof(name), name};
}

/* {u64, CRC32C}; in an index that an older version wrote the number alone. */
static bool number_read(struct str value, uint64_t *lsn_r)
{
	if (value.len != 8 && value.len != NUMBER_SIZE)
		return false;
	*lsn_r = le64_get(value.ptr);
	return value.len == 8 || le32_get(value.ptr + 8) == crc32c(0, value.ptr, 8);
}

/* ---- opening ------------------------------------------------------------------------------------------ */

static int open_tables(struct index *ix)
{
	MDB_val key = lsn_key(), value;
	uint64_t lsn;
	MDB_txn *txn;
	int rc = mdb_txn_begin(ix->env, NULL, 0, &txn);

	if (rc)
		return rc;
	if ((rc = mdb_dbi_open(txn, "kv", MDB_CREATE, &ix->kv)) ||
	    (rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &ix->meta))) {
		mdb_txn_abort(txn);
		return rc;
	}
	rc = mdb_get(txn, ix->meta, &key, &value);
	if (rc == 0 && number_read(str_of(value.mv_data, value.mv_size), &lsn))
		ix->lsn = lsn;
	else if (rc == 0)
		rc = MDB_CORRUPTED;
	if (rc && rc != MDB_NOTFOUND) {
		mdb_txn_abort(txn);
		return rc;
	}
	key = whole_key();
	ix->whole = mdb_get(txn, ix->meta, &key, &value) == 0;
	key = journal_key();
	if (mdb_get(txn, ix->meta, &key, &value) == 0 && number_read(str_of(value.mv_data, value.mv_size), &lsn))
		ix->journal = lsn;
	return mdb_txn_commit(txn);
}

static int open_env(struct index *ix)
{
	unsigned flags = MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS;
	int rc = mdb_env_create(&ix->env);

	if (rc)
		return rc;
	if ((rc = mdb_env_set_maxdbs(ix->env, 4)) || (rc = mdb_env_set_mapsize(ix->env, MAP_INITIAL)) ||
	    (rc = mdb_env_open(ix->env, INDEX_NAME, flags, 0600)) || (rc = open_tables(ix)) ||
	    (rc = mdb_txn_begin(ix->env, NULL, MDB_RDONLY, &ix->read))) {
		mdb_env_close(ix->env);
		ix->env = NULL;
		return rc;
	}
	mdb_txn_reset(ix->read);
	return 0;
}

static bool is_damage(int rc)
{
	return rc == MDB_INVALID || rc == MDB_CORRUPTED || rc == MDB_VERSION_MISMATCH || rc == MDB_PAGE_NOTFOUND ||
	       rc == MDB_PANIC || rc == MDB_INCOMPATIBLE || rc == MDB_BAD_TXN;
}

/* LMDB trusts the number of pages that its meta pages tell and would be killed by SIGBUS in a file cut short.
 * Zeros behind the end turn that into an error it can report. Pages at the very end that a transaction gave
 * back were never written, so a shorter file alone is not damage. Returns false when it cannot be an index. */
static bool pad_to_pages(int dirfd)
{
	uint8_t page[4096];
	uint64_t last = 0;
	struct stat st;
	int fd, rc = 0;

	if (io_fstatat(dirfd, INDEX_NAME, &st, 0) < 0 || st.st_size == 0)
		return true;
	if (st.st_size < 2 * (off_t)sizeof(page))
		return false;
	fd = io_open(dirfd, INDEX_NAME, O_RDWR, 0);
	if (fd < 0)
		return true;
	for (int i = 0; i < 2; i++) {
		/* Page header 16; meta: magic 4, version 4, address 8, map size 8, two tables of 48, last page. */
		uint64_t n;
		if (io_pread(fd, page, sizeof(page), (off_t)i * (off_t)sizeof(page)) != (ssize_t)sizeof(page))
			continue;
		memcpy(&n, page + 16 + 24 + 96, sizeof(n));
		last = n > last ? n : last;
	}
	if (last < ((uint64_t)1 << 40) && (last + 1) * sizeof(page) > (uint64_t)st.st_size)
		rc = io_ftruncate(fd, (off_t)((last + 1) * sizeof(page)));
	io_close(fd);
	return rc == 0;
}

static int unwrap(struct str key, struct str stored, struct str *value_r, struct err *err);

static bool check_value(void *ctx, struct str table, struct str key, struct str stored)
{
	const bool *values = ctx;
	struct str value;
	uint64_t lsn;

	if (str_eq(table, STR("meta")))
		return number_read(stored, &lsn);
	return !*values || unwrap(key, stored, &value, NULL) > 0;
}

/* 1, 0 damaged (why says how), -1 err. */
static int check_file(int dirfd, bool values, struct err *why, struct err *err)
{
	int fd, rc;

	if (!pad_to_pages(dirfd)) {
		err_set(why, ERR_PERM, "5.3.0", "the file is cut short");
		return 0;
	}
	fd = io_open(dirfd, INDEX_NAME, O_RDONLY, 0);
	if (fd < 0)
		return errno == ENOENT ? 1 : err_errno(err, "cannot open the index");
	rc = index_check(fd, check_value, &values, why);
	io_close(fd);
	return rc;
}

bool index_damaged(int dirfd, bool values, struct err *why)
{
	struct err err = ERR_NONE;

	return check_file(dirfd, values, why, &err) == 0;
}

static int set_aside(struct index *ix, int dirfd, const char *why, struct err *err)
{
	log_error("the index is damaged (%s): it is set aside as %s, a new one is made from the files and the journal",
		  why, INDEX_DAMAGED);
	if (io_rename(dirfd, INDEX_NAME, dirfd, INDEX_DAMAGED) < 0)
		return err_errno(err, "cannot set the damaged index aside");
	ix->lsn = 0;
	ix->whole = false;
	return 0;
}

static int open_in_cwd(struct index *ix, int dirfd, bool values, struct err *err)
{
	struct err why = ERR_NONE;
	int rc = check_file(dirfd, values, &why, err);

	if (rc < 0 || (rc == 0 && set_aside(ix, dirfd, why.text, err) < 0))
		return -1;
	rc = open_env(ix);
	if (is_damage(rc)) {
		if (set_aside(ix, dirfd, mdb_strerror(rc), err) < 0)
			return -1;
		rc = open_env(ix);
	}
	if (rc)
		return index_err(err, rc, "cannot open");
	if (io_fsync(dirfd) < 0)
		return err_errno(err, "cannot sync the directory of the index");
	return 0;
}

/* The working directory is the index's while fn runs: LMDB takes names only. */
static int in_cwd(struct index *ix, int dirfd, bool values,
		  int (*fn)(struct index *ix, int dirfd, bool values, struct err *err), struct err *err)
{
	static pthread_mutex_t cwd_lock = PTHREAD_MUTEX_INITIALIZER;
	int rc = -1, back;

	pthread_mutex_lock(&cwd_lock);
	back = io_open(AT_FDCWD, ".", O_PATH | O_DIRECTORY, 0);
	if (fchdir(dirfd) < 0)
		err_errno(err, "cannot enter the directory of the index");
	else
		rc = fn(ix, dirfd, values, err);
	if (back >= 0) {
		if (fchdir(back) < 0)
			log_warning("cannot return to the working directory: %s", strerror(errno));
		io_close(back);
	}
	pthread_mutex_unlock(&cwd_lock);
	return rc;
}

int index_open(int dirfd, bool values, struct index **ix_r, struct err *err)
{
	struct index *ix = NEW(struct index);

	pthread_rwlock_init(&ix->map, NULL);
	pthread_mutex_init(&ix->writing, NULL);
	if (in_cwd(ix, dirfd, values, open_in_cwd, err) < 0) {
		index_close(&ix);
		return -1;
	}
	*ix_r = ix;
	return 0;
}

static int start_anew(struct index *ix, int dirfd, bool values, struct err *err)
{
	return set_aside(ix, dirfd, "it is older than the journal", err) < 0 ? -1 : open_in_cwd(ix, dirfd, values, err);
}

int index_discard(struct index *ix, int dirfd, struct err *err)
{
	mdb_txn_abort(ix->read);
	mdb_env_close(ix->env);
	ix->read = NULL;
	ix->env = NULL;
	return in_cwd(ix, dirfd, false, start_anew, err);
}

void index_close(struct index **ixp)
{
	struct index *ix = *ixp;

	*ixp = NULL;
	if (!ix)
		return;
	if (ix->read)
		mdb_txn_abort(ix->read);
	if (ix->env)
		mdb_env_close(ix->env);
	pthread_rwlock_destroy(&ix->map);
	pthread_mutex_destroy(&ix->writing);
	free(ix);
}

uint64_t index_lsn(const struct index *ix)
{
	return ix->lsn;
}

uint64_t index_journal(const struct index *ix)
{
	return ix->journal;
}

void index_journal_set(struct index *ix, uint64_t id)
{
	ix->journal = id;
}

bool index_whole(const struct index *ix)
{
	return ix->whole;
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static int read_begin(struct index *ix, struct err *err)
{
	int rc;

	pthread_rwlock_rdlock(&ix->map);
	rc = mdb_txn_renew(ix->read);
	if (rc) {
		pthread_rwlock_unlock(&ix->map);
		return index_err(err, rc, "cannot read");
	}
	return 0;
}

/* Maps the file anew, as large or larger. Under `writing`. What cannot be mapped as large as it was is gone for LMDB.
 */
static int map_replace(struct index *ix, size_t times)
{
	MDB_envinfo info;
	int rc = mdb_env_info(ix->env, &info);

	if (rc)
		return rc;
	pthread_rwlock_wrlock(&ix->map);
	rc = mdb_env_set_mapsize(ix->env, info.me_mapsize * times);
	pthread_rwlock_unlock(&ix->map);
	if (rc && times == 1)
		storage_failed("cannot map the index: %s", mdb_strerror(rc));
	return rc;
}

/* While a checkpoint is written it cannot be done; that one does it at its end. */
static void map_let_go(struct index *ix)
{
	if (ix->touched < LET_GO_AFTER || pthread_mutex_trylock(&ix->writing) != 0)
		return;
	(void)map_replace(ix, 1);
	ix->touched = 0;
	pthread_mutex_unlock(&ix->writing);
}

static void read_end(struct index *ix)
{
	mdb_txn_reset(ix->read);
	pthread_rwlock_unlock(&ix->map);
	map_let_go(ix);
}

static uint32_t value_crc(struct str key, struct str value)
{
	return crc32c(crc32c(0, key.ptr, key.len), value.ptr, value.len);
}

static int unwrap(struct str key, struct str stored, struct str *value_r, struct err *err)
{
	const uint8_t *p = (const uint8_t *)stored.ptr;

	if (stored.len < VALUE_HEADER || p[0] != VALUE_VERSION)
		return err_set(err, ERR_PERM, "5.3.0", "the index holds a value of unknown form");
	*value_r = str_skip(stored, VALUE_HEADER);
	if (le32_get(p + 1) != value_crc(key, *value_r))
		return err_set(err, ERR_PERM, "5.3.0", "the index holds a damaged value");
	return 1;
}

int index_get(struct index *ix, struct str key, struct arena *a, struct str *value_r, struct err *err)
{
	MDB_val k = {key.len, (void *)key.ptr}, v;
	int rc;

	if (read_begin(ix, err) < 0)
		return -1;
	ix->touched += SEARCH_COSTS;
	rc = mdb_get(ix->read, ix->kv, &k, &v);
	if (rc == 0) {
		rc = unwrap(key, str_of(v.mv_data, v.mv_size), value_r, err);
		if (rc > 0)
			*value_r = arena_str(a, *value_r);
	} else {
		rc = rc == MDB_NOTFOUND ? 0 : index_err(err, rc, "cannot read");
	}
	read_end(ix);
	return rc;
}

int index_cursor_open(struct index *ix, struct str from, bool reverse, struct index_cursor **c_r, struct err *err)
{
	struct index_cursor *c;
	MDB_cursor *cursor;
	int rc;

	if (read_begin(ix, err) < 0)
		return -1;
	rc = mdb_cursor_open(ix->read, ix->kv, &cursor);
	if (rc) {
		read_end(ix);
		return index_err(err, rc, "cannot read");
	}
	c = NEW(struct index_cursor);
	c->ix = ix;
	c->cursor = cursor;
	c->reverse = reverse;
	c->key = (MDB_val){from.len, (void *)from.ptr};
	ix->touched += SEARCH_COSTS;
	if (from.len)
		c->rc = mdb_cursor_get(cursor, &c->key, &c->value, MDB_SET_RANGE);
	else
		c->rc = mdb_cursor_get(cursor, &c->key, &c->value, reverse ? MDB_LAST : MDB_FIRST);
	if (reverse && from.len)
		c->rc = mdb_cursor_get(cursor, &c->key, &c->value, c->rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
	*c_r = c;
	return 0;
}

int index_cursor_key(struct index_cursor *c, struct str *key_r, struct err *err)
{
	if (c->rc == MDB_NOTFOUND)
		return 0;
	if (c->rc)
		return index_err(err, c->rc, "cannot read");
	*key_r = str_of(c->key.mv_data, c->key.mv_size);
	return 1;
}

int index_cursor_value(struct index_cursor *c, struct str *value_r, struct err *err)
{
	return unwrap(str_of(c->key.mv_data, c->key.mv_size), str_of(c->value.mv_data, c->value.mv_size), value_r, err);
}

int index_cursor_at(struct index_cursor *c, struct str *key_r, struct str *value_r, struct err *err)
{
	int rc = index_cursor_key(c, key_r, err);

	return rc > 0 ? index_cursor_value(c, value_r, err) : rc;
}

void index_cursor_step(struct index_cursor *c)
{
	c->ix->touched++;
	if (c->rc == 0)
		c->rc = mdb_cursor_get(c->cursor, &c->key, &c->value, c->reverse ? MDB_PREV : MDB_NEXT);
}

void index_cursor_close(struct index_cursor **cp)
{
	struct index_cursor *c = *cp;

	*cp = NULL;
	mdb_cursor_close(c->cursor);
	read_end(c->ix);
	free(c);
}

/* ---- writing ------------------------------------------------------------------------------------------ */

static int apply_node(struct index *ix, MDB_txn *txn, const struct overlay_node *n)
{
	struct str key = overlay_key(n), value;
	MDB_val k = {key.len, (void *)key.ptr}, v;
	uint8_t *p;
	int rc;

	if (!overlay_value(n, &value)) {
		rc = mdb_del(txn, ix->kv, &k, NULL);
		return rc == MDB_NOTFOUND ? 0 : rc;
	}
	v = (MDB_val){VALUE_HEADER + value.len, NULL};
	rc = mdb_put(txn, ix->kv, &k, &v, MDB_RESERVE);
	if (rc)
		return rc;
	p = v.mv_data;
	p[0] = VALUE_VERSION;
	le32_put(p + 1, value_crc(key, value));
	if (value.len)
		memcpy(p + VALUE_HEADER, value.ptr, value.len);
	return 0;
}

static int put_number(struct index *ix, MDB_txn *txn, MDB_val key, uint64_t number)
{
	uint8_t bytes[NUMBER_SIZE];
	MDB_val v = {sizeof(bytes), bytes};

	le64_put(bytes, number);
	le32_put(bytes + 8, crc32c(0, bytes, 8));
	return mdb_put(txn, ix->meta, &key, &v, 0);
}

static int apply_once(struct index *ix, const struct overlay *o, uint64_t lsn, bool whole)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(ix->env, NULL, 0, &txn);

	if (rc)
		return rc;
	for (const struct overlay_node *n = overlay_first(o); n && !rc; n = overlay_next(n))
		rc = apply_node(ix, txn, n);
	if (!rc)
		rc = put_number(ix, txn, lsn_key(), lsn);
	if (!rc && ix->journal)
		rc = put_number(ix, txn, journal_key(), ix->journal);
	if (!rc && whole)
		rc = put_number(ix, txn, whole_key(), 1);
	if (rc) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);
}

int index_apply(struct index *ix, const struct overlay *o, uint64_t lsn, bool whole, struct err *err)
{
	int rc;

	pthread_mutex_lock(&ix->writing);
	while ((rc = apply_once(ix, o, lsn, whole)) == MDB_MAP_FULL)
		if ((rc = map_replace(ix, 2)) != 0)
			break;
	if (rc == 0)
		(void)map_replace(ix, 1);
	pthread_mutex_unlock(&ix->writing);
	/* The page that says which transaction counts could not be written: LMDB does nothing more, reading neither, in
	 * a process to which that has happened. */
	if (rc == MDB_PANIC)
		storage_failed("the index can be used no more since a write to it failed");
	if (rc)
		return index_err(err, rc, "cannot write");
	ix->whole = ix->whole || whole;
	ix->lsn = lsn;
	return 0;
}
