/* Users: see accounts.h. */
#include "base/clock.h"
#include "base/utf8.h"
#include "base/vec.h"
#include "directory/accounts.h"
#include "msg/address.h"

#define USER_SELECT                                                                                                    \
	"SELECT u.id, p.local || '@' || d.name, d.name, u.name, u.path, u.enabled, u.enabled AND d.enabled, u.admin,"  \
	" u.quota_bytes, u.quota_messages, u.serial, u.created, u.password, u.scram_iterations, u.scram_salt,"         \
	" u.scram_stored, u.scram_server FROM users u JOIN addresses p ON p.user_id = u.id AND p.kind = 1"             \
	" JOIN domains d ON d.id = p.domain_id "

static void scram_read(sqlite3_stmt *st, int column, struct scram_keys *keys)
{
	int salt_len = sqlite3_column_bytes(st, column + 1);

	*keys = (struct scram_keys){0};
	if (salt_len <= 0 || salt_len > SCRAM_SALT_MAX || sqlite3_column_bytes(st, column + 2) != SCRAM_KEY_LEN ||
	    sqlite3_column_bytes(st, column + 3) != SCRAM_KEY_LEN)
		return;
	keys->iterations = (uint32_t)db_u64(st, column);
	keys->salt_len = (size_t)salt_len;
	memcpy(keys->salt, sqlite3_column_blob(st, column + 1), keys->salt_len);
	memcpy(keys->stored, sqlite3_column_blob(st, column + 2), SCRAM_KEY_LEN);
	memcpy(keys->server, sqlite3_column_blob(st, column + 3), SCRAM_KEY_LEN);
}

static void user_read(sqlite3_stmt *st, struct arena *arena, struct account *user)
{
	*user = (struct account){
		.id = db_u64(st, 0),
		.address = db_str(st, 1, arena),
		.domain = db_str(st, 2, arena),
		.name = db_str(st, 3, arena),
		.path = db_str(st, 4, arena),
		.enabled = db_u64(st, 5) != 0,
		.active = db_u64(st, 6) != 0,
		.admin = db_u64(st, 7) != 0,
		.quota_bytes = db_u64(st, 8),
		.quota_messages = db_u64(st, 9),
		.serial = db_u64(st, 10),
		.created = (int64_t)db_u64(st, 11),
		.password = db_str(st, 12, arena),
	};
	scram_read(st, 13, &user->scram);
}

static int user_one(struct db *db, sqlite3_stmt *st, struct arena *arena, struct account *user_r, struct err *err)
{
	int rc = db_step(db, st, err);

	if (rc > 0) {
		user_read(st, arena, user_r);
		db_done(st);
	}
	return rc;
}

int user_get(struct db *db, uint64_t id, struct arena *arena, struct account *user_r, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db, USER_SELECT "WHERE u.id = ?1", err);

	if (!st)
		return -1;
	db_bind_u64(st, 1, id);
	return user_one(db, st, arena, user_r, err);
}

int user_find(struct db *db, struct str address, struct arena *arena, struct account *user_r, struct err *err)
{
	struct address_key key;
	sqlite3_stmt *st;

	if (!address_key(address, false, arena, &key))
		return 0;
	st = db_prepare(db,
			USER_SELECT
			"WHERE u.id = (SELECT a.user_id FROM addresses a JOIN domains ad ON ad.id = a.domain_id"
			" WHERE ad.name = ?1 AND a.local_key = ?2)",
			err);
	if (!st)
		return -1;
	db_bind_str(st, 1, key.domain);
	db_bind_str(st, 2, key.local_key);
	return user_one(db, st, arena, user_r, err);
}

int user_postmaster(struct db *db, struct str domain, struct arena *arena, struct account *user_r, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db,
				      USER_SELECT "WHERE (?1 = '' OR d.name = ?1) AND u.enabled AND d.enabled"
						  " ORDER BY u.admin DESC, u.id LIMIT 1",
				      err);

	if (!st)
		return -1;
	db_bind_str(st, 1, domain);
	return user_one(db, st, arena, user_r, err);
}

int user_list(struct db *db, struct str domain, struct arena *arena, struct account_list *list_r, struct err *err)
{
	struct str key = STR_NULL;
	sqlite3_stmt *st;
	int rc;

	*list_r = (struct account_list){0};
	if (domain.len > 0 && !domain_normalize(domain, arena, &key))
		return err_set(err, ERR_SYNTAX, "", "\"%.*s\" is no domain name", STR_ARG(domain));
	st = db_prepare(db, USER_SELECT "WHERE ?1 = '' OR d.name = ?1 ORDER BY d.name, p.local_key", err);
	if (!st)
		return -1;
	db_bind_str(st, 1, key);
	while ((rc = db_step(db, st, err)) > 0) {
		struct account user;

		user_read(st, arena, &user);
		vec_push_arena(arena, list_r, user);
	}
	return rc;
}

int user_addresses(struct db *db, uint64_t id, struct arena *arena, struct str_list *list_r, struct err *err)
{
	sqlite3_stmt *st =
		db_prepare(db,
			   "SELECT a.local || '@' || d.name FROM addresses a JOIN domains d ON d.id = a.domain_id"
			   " WHERE a.user_id = ?1 AND a.kind = 2 ORDER BY d.name, a.local_key",
			   err);
	int rc;

	*list_r = (struct str_list){0};
	if (!st)
		return -1;
	db_bind_u64(st, 1, id);
	while ((rc = db_step(db, st, err)) > 0)
		vec_push_arena(arena, list_r, db_str(st, 0, arena));
	return rc;
}

/* ---- paths ---- */

/* Letters that no file system and no shell takes amiss; everything else as %XX. A long one ends in a hash. */
static void path_component(struct buf *out, struct str s)
{
	struct buf b;

	buf_init(&b, 4096);
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if (ascii_alnum(c) || c == '_' || c == '+' || ((c == '-' || c == '.') && i > 0))
			buf_addc(&b, c);
		else
			buf_addf(&b, "%%%02X", (unsigned char)c);
	}
	if (b.len > 200) {
		buf_truncate(&b, 180);
		buf_addf(&b, "%%%016llx", (unsigned long long)str_hash(s, 0));
	}
	buf_add_str(out, buf_str(&b));
	buf_release(&b);
}

/* Paths differ in more than case: their letters are small ones (address_key), those of %XX large. */
static int path_taken(struct db *db, struct str path, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db,
				      "SELECT 1 FROM users WHERE path = ?1"
				      " UNION ALL SELECT 1 FROM retired WHERE path = ?1",
				      err);
	int rc;

	if (!st)
		return -1;
	db_bind_str(st, 1, path);
	rc = db_step(db, st, err);
	if (rc > 0)
		db_done(st);
	return rc;
}

/* domain/local, with a number behind it when a user of that name was here before: his mail is not his heir's. */
static int path_choose(struct db *db, const struct address_key *key, struct buf *path, struct err *err)
{
	for (unsigned n = 1;; n++) {
		int taken;

		buf_clear(path);
		path_component(path, key->domain);
		buf_addc(path, '/');
		path_component(path, key->local_key);
		if (n > 1)
			buf_addf(path, "%%%u", n);
		taken = path_taken(db, buf_str(path), err);
		if (taken <= 0)
			return taken;
	}
}

/* ---- changing ---- */

static int name_check(struct str name, struct err *err)
{
	if (name.len > ACCOUNT_NAME_MAX || !utf8_valid(name) || str_has_control(name))
		return err_set(err, ERR_SYNTAX, "", "the name is no line of UTF-8 of at most %d bytes",
			       ACCOUNT_NAME_MAX);
	return 0;
}

static int quota_check(uint64_t bytes, uint64_t messages, struct err *err)
{
	if (bytes > INT64_MAX || messages > INT64_MAX)
		return err_set(err, ERR_SYNTAX, "", "the quota is out of bounds");
	return 0;
}

static int address_insert(struct db *db, struct str address, enum address_kind kind, uint64_t user, struct err *err)
{
	struct arena arena;
	struct address_key key;
	struct err why = ERR_NONE;
	uint64_t domain_id = 0;
	sqlite3_stmt *st;
	bool enabled;
	int rc = -1;

	arena_init(&arena);
	if (!address_key(address, false, &arena, &key)) {
		err_set(&why, ERR_SYNTAX, "", "\"%.*s\" is no mail address", STR_ARG(address));
		goto out;
	}
	rc = domain_row(db, key.domain, &domain_id, &enabled, &why);
	if (rc == 0)
		rc = err_set(&why, ERR_NOT_FOUND, "", "there is no domain %.*s here: \"postrider domain add\" adds it",
			     STR_ARG(key.domain));
	if (rc < 0)
		goto out;
	st = db_prepare(db,
			"INSERT INTO addresses(domain_id, local, local_key, kind, user_id) VALUES(?1, ?2, ?3, ?4, ?5)",
			&why);
	if (!st) {
		rc = -1;
		goto out;
	}
	db_bind_u64(st, 1, domain_id);
	db_bind_str(st, 2, key.local);
	db_bind_str(st, 3, key.local_key);
	db_bind_u64(st, 4, kind);
	db_bind_u64(st, 5, user);
	rc = db_run(db, st, &why);
	if (rc < 0 && why.kind == ERR_EXISTS)
		err_set(&why, ERR_EXISTS, "", "the address %.*s is already taken by a user or an alias",
			STR_ARG(address));
out:
	if (rc < 0 && err)
		*err = why;
	arena_release(&arena);
	return rc;
}

static void bind_password(sqlite3_stmt *st, int at, const struct password_set *p)
{
	db_bind_str(st, at, p->hash);
	db_bind_u64(st, at + 1, p->scram.iterations);
	if (p->scram.iterations == 0)
		return;
	db_bind_blob(st, at + 2, p->scram.salt, p->scram.salt_len);
	db_bind_blob(st, at + 3, p->scram.stored, SCRAM_KEY_LEN);
	db_bind_blob(st, at + 4, p->scram.server, SCRAM_KEY_LEN);
}

static int user_insert(struct db *db, const struct user_new *user, struct str path, uint64_t *id_r, struct err *err)
{
	sqlite3_stmt *st =
		db_prepare(db,
			   "INSERT INTO users(name, admin, quota_bytes, quota_messages, path, created, password,"
			   " scram_iterations, scram_salt, scram_stored, scram_server)"
			   " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
			   err);

	if (!st)
		return -1;
	db_bind_str(st, 1, user->name);
	db_bind_u64(st, 2, user->admin);
	db_bind_u64(st, 3, user->quota_bytes);
	db_bind_u64(st, 4, user->quota_messages);
	db_bind_str(st, 5, path);
	db_bind_u64(st, 6, (uint64_t)clock_wall());
	bind_password(st, 7, &user->password);
	if (db_run(db, st, err) < 0)
		return -1;
	*id_r = db_last_id(db);
	return 0;
}

static int user_put(struct db *db, const struct user_new *user, uint64_t *id_r, struct err *err)
{
	struct arena arena;
	struct address_key key;
	struct buf path;
	int rc;

	if (name_check(user->name, err) < 0 || quota_check(user->quota_bytes, user->quota_messages, err) < 0)
		return -1;
	arena_init(&arena);
	buf_init(&path, 1024);
	if (!address_key(user->address, false, &arena, &key))
		rc = err_set(err, ERR_SYNTAX, "", "\"%.*s\" is no mail address", STR_ARG(user->address));
	else if ((rc = path_choose(db, &key, &path, err)) == 0 &&
		 (rc = user_insert(db, user, buf_str(&path), id_r, err)) == 0)
		rc = address_insert(db, user->address, ADDRESS_PRIMARY, *id_r, err);
	for (size_t i = 0; rc == 0 && i < user->add_count; i++)
		rc = address_insert(db, user->add_addresses[i], ADDRESS_OTHER, *id_r, err);
	buf_release(&path);
	arena_release(&arena);
	return rc;
}

int users_add(struct db *db, const struct user_new *users, size_t count, uint64_t *last_id_r, size_t *failed_r,
	      struct err *err)
{
	int rc = 0;

	*failed_r = 0;
	if (db_begin(db, err) < 0)
		return -1;
	for (size_t i = 0; rc == 0 && i < count; i++) {
		*failed_r = i;
		rc = user_put(db, &users[i], last_id_r, err);
	}
	if (rc == 0)
		rc = db_commit(db, err);
	if (rc < 0)
		db_rollback(db);
	return rc < 0 ? -1 : 0;
}

int user_add(struct db *db, const struct user_new *user, uint64_t *id_r, struct err *err)
{
	size_t unused;

	return users_add(db, user, 1, id_r, &unused, err);
}

static int address_remove(struct db *db, uint64_t id, struct str address, struct err *err)
{
	struct arena arena;
	struct address_key key;
	sqlite3_stmt *st;
	int rc = -1;

	arena_init(&arena);
	if (!address_key(address, false, &arena, &key)) {
		err_set(err, ERR_SYNTAX, "", "\"%.*s\" is no mail address", STR_ARG(address));
		goto out;
	}
	st = db_prepare(db,
			"DELETE FROM addresses WHERE user_id = ?1 AND kind = 2 AND local_key = ?2"
			" AND domain_id = (SELECT id FROM domains WHERE name = ?3)",
			err);
	if (!st)
		goto out;
	db_bind_u64(st, 1, id);
	db_bind_str(st, 2, key.local_key);
	db_bind_str(st, 3, key.domain);
	rc = db_run(db, st, err);
	if (rc == 0 && db_changes(db) == 0)
		rc = err_set(err, ERR_NOT_FOUND, "", "%.*s is not one of the user's further addresses",
			     STR_ARG(address));
out:
	arena_release(&arena);
	return rc;
}

static int user_set_password(struct db *db, uint64_t id, const struct password_set *password, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db,
				      "UPDATE users SET serial = serial + 1, password = ?2, scram_iterations = ?3,"
				      " scram_salt = ?4, scram_stored = ?5, scram_server = ?6 WHERE id = ?1",
				      err);

	if (!st)
		return -1;
	db_bind_u64(st, 1, id);
	bind_password(st, 2, password);
	return db_run(db, st, err);
}

static int user_set_fields(struct db *db, uint64_t id, const struct user_change *c, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db,
				      "UPDATE users SET name = coalesce(?2, name), admin = coalesce(?3, admin),"
				      " quota_bytes = coalesce(?4, quota_bytes),"
				      " quota_messages = coalesce(?5, quota_messages),"
				      " serial = serial + (enabled AND NOT coalesce(?6, enabled)),"
				      " enabled = coalesce(?6, enabled) WHERE id = ?1",
				      err);

	if (!st)
		return -1;
	db_bind_u64(st, 1, id);
	if (c->name)
		db_bind_str(st, 2, *c->name);
	if (c->admin)
		db_bind_u64(st, 3, *c->admin);
	if (c->quota_bytes)
		db_bind_u64(st, 4, *c->quota_bytes);
	if (c->quota_messages)
		db_bind_u64(st, 5, *c->quota_messages);
	if (c->enabled)
		db_bind_u64(st, 6, *c->enabled);
	if (db_run(db, st, err) < 0)
		return -1;
	return db_changes(db) ? 0 : err_set(err, ERR_NOT_FOUND, "", "there is no such user");
}

static int user_change_apply(struct db *db, uint64_t id, const struct user_change *c, struct err *err)
{
	if (user_set_fields(db, id, c, err) < 0)
		return -1;
	if (c->password && user_set_password(db, id, c->password, err) < 0)
		return -1;
	for (size_t i = 0; i < c->remove_count; i++)
		if (address_remove(db, id, c->remove_addresses[i], err) < 0)
			return -1;
	for (size_t i = 0; i < c->add_count; i++)
		if (address_insert(db, c->add_addresses[i], ADDRESS_OTHER, id, err) < 0)
			return -1;
	return db_commit(db, err);
}

int user_set(struct db *db, uint64_t id, const struct user_change *change, struct err *err)
{
	if (change->name && name_check(*change->name, err) < 0)
		return -1;
	if (quota_check(change->quota_bytes ? *change->quota_bytes : 0,
			change->quota_messages ? *change->quota_messages : 0, err) < 0)
		return -1;
	if (db_begin(db, err) < 0)
		return -1;
	if (user_change_apply(db, id, change, err) < 0) {
		db_rollback(db);
		return -1;
	}
	return 0;
}

static int user_remove(struct db *db, uint64_t id, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db, "INSERT INTO retired SELECT path FROM users WHERE id = ?1", err);

	if (!st)
		return -1;
	db_bind_u64(st, 1, id);
	if (db_run(db, st, err) < 0)
		return -1;
	if (db_changes(db) == 0)
		return err_set(err, ERR_NOT_FOUND, "", "there is no such user");
	st = db_prepare(db, "DELETE FROM users WHERE id = ?1", err);
	if (!st)
		return -1;
	db_bind_u64(st, 1, id);
	return db_run(db, st, err) < 0 ? -1 : db_commit(db, err);
}

int user_delete(struct db *db, uint64_t id, struct err *err)
{
	if (db_begin(db, err) < 0)
		return -1;
	if (user_remove(db, id, err) < 0) {
		db_rollback(db);
		return -1;
	}
	return 0;
}
