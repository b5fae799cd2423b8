/* Aliases: see accounts.h. */
#include "base/vec.h"
#include "directory/accounts.h"
#include "msg/address.h"

static int bad_address(struct str address, struct err *err)
{
	return err_set(err, ERR_SYNTAX, "", "\"%.*s\" is no mail address", STR_ARG(address));
}

static int no_alias(struct str address, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "", "there is no alias %.*s", STR_ARG(address));
}

int address_row(struct db *db, struct str domain, struct str local_key, struct address_row *row_r, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db,
				      "SELECT a.id, a.kind, coalesce(a.user_id, 0), a.enabled FROM addresses a"
				      " JOIN domains d ON d.id = a.domain_id WHERE d.name = ?1 AND a.local_key = ?2",
				      err);
	int rc;

	if (!st)
		return -1;
	db_bind_str(st, 1, domain);
	db_bind_str(st, 2, local_key);
	rc = db_step(db, st, err);
	if (rc > 0) {
		*row_r = (struct address_row){.id = db_u64(st, 0),
					      .kind = (enum address_kind)db_u64(st, 1),
					      .user = db_u64(st, 2),
					      .enabled = db_u64(st, 3) != 0};
		db_done(st);
	}
	return rc;
}

int address_targets(struct db *db, uint64_t id, struct arena *arena, struct str_list *list_r, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db, "SELECT target FROM targets WHERE address_id = ?1 ORDER BY position", err);
	int rc;

	*list_r = (struct str_list){0};
	if (!st)
		return -1;
	db_bind_u64(st, 1, id);
	while ((rc = db_step(db, st, err)) > 0)
		vec_push_arena(arena, list_r, db_str(st, 0, arena));
	return rc;
}

/* ---- reading ---- */

#define ALIAS_SELECT                                                                                                   \
	"SELECT a.id, a.local || '@' || d.name, a.enabled FROM addresses a JOIN domains d ON d.id = a.domain_id "      \
	"WHERE a.kind = 3 "

/* Targets are read by a statement of their own, so the caller finishes his first. */
static int alias_find(struct db *db, const struct address_key *key, struct arena *arena, uint64_t *id_r,
		      struct alias *alias_r, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db, ALIAS_SELECT "AND d.name = ?1 AND a.local_key = ?2", err);
	int rc;

	if (!st)
		return -1;
	db_bind_str(st, 1, key->domain);
	db_bind_str(st, 2, key->local_key);
	rc = db_step(db, st, err);
	if (rc > 0) {
		*id_r = db_u64(st, 0);
		*alias_r = (struct alias){.address = db_str(st, 1, arena), .enabled = db_u64(st, 2) != 0};
		db_done(st);
	}
	return rc;
}

int alias_get(struct db *db, struct str address, struct arena *arena, struct alias *alias_r, struct err *err)
{
	struct address_key key;
	uint64_t id = 0;
	int rc;

	if (!address_key(address, true, arena, &key))
		return bad_address(address, err);
	rc = alias_find(db, &key, arena, &id, alias_r, err);
	if (rc > 0 && address_targets(db, id, arena, &alias_r->targets, err) < 0)
		return -1;
	return rc;
}

int alias_list(struct db *db, struct str domain, struct arena *arena, struct alias_list *list_r, struct err *err)
{
	struct str key = STR_NULL;
	VEC(uint64_t) ids = {0};
	sqlite3_stmt *st;
	int rc;

	*list_r = (struct alias_list){0};
	if (domain.len > 0 && !domain_normalize(domain, arena, &key))
		return err_set(err, ERR_SYNTAX, "", "\"%.*s\" is no domain name", STR_ARG(domain));
	st = db_prepare(db, ALIAS_SELECT "AND (?1 = '' OR d.name = ?1) ORDER BY d.name, a.local_key", err);
	if (!st)
		return -1;
	db_bind_str(st, 1, key);
	while ((rc = db_step(db, st, err)) > 0) {
		struct alias alias = {.address = db_str(st, 1, arena), .enabled = db_u64(st, 2) != 0};

		vec_push_arena(arena, &ids, db_u64(st, 0));
		vec_push_arena(arena, list_r, alias);
	}
	for (size_t i = 0; rc == 0 && i < ids.n; i++)
		rc = address_targets(db, ids.v[i], arena, &list_r->v[i].targets, err);
	return rc;
}

/* ---- changing; each called inside a transaction ---- */

/* Does the address lead somewhere, if its domain is ours? Postmaster and abuse always do. */
static int target_check(struct db *db, struct str target, struct arena *arena, struct err *err)
{
	struct address_key key;
	struct address_row row;
	bool enabled;
	uint64_t id;
	int rc;

	if (!address_key(target, true, arena, &key))
		return bad_address(target, err);
	rc = domain_row(db, key.domain, &id, &enabled, err);
	if (rc <= 0 || key.local.len == 0 || str_eq(key.local_key, STR("postmaster")) ||
	    str_eq(key.local_key, STR("abuse")))
		return rc < 0 ? -1 : 0;
	rc = address_row(db, key.domain, key.local_key, &row, err);
	if (rc == 0)
		rc = address_row(db, key.domain, STR_NULL, &row, err);
	/* user+extension is fit too, whatever the delimiter is. */
	for (size_t i = 1; rc == 0 && i < key.local_key.len; i++)
		if (!ascii_alnum(key.local_key.ptr[i]))
			rc = address_row(db, key.domain, str_sub(key.local_key, 0, i), &row, err);
	if (rc == 0)
		return err_set(err, ERR_NOT_FOUND, "", "there is no user or alias %.*s: add it first", STR_ARG(target));
	return rc < 0 ? -1 : 0;
}

static int targets_write(struct db *db, uint64_t id, const struct str *targets, size_t count, struct arena *arena,
			 struct err *err)
{
	if (count == 0 || count > ALIAS_TARGETS_MAX)
		return err_set(err, ERR_SYNTAX, "", "an alias leads to 1 to %d addresses", ALIAS_TARGETS_MAX);
	for (size_t i = 0; i < count; i++) {
		sqlite3_stmt *st;

		if (target_check(db, targets[i], arena, err) < 0)
			return -1;
		st = db_prepare(db, "INSERT INTO targets(address_id, position, target) VALUES(?1, ?2, ?3)", err);
		if (!st)
			return -1;
		db_bind_u64(st, 1, id);
		db_bind_u64(st, 2, i);
		db_bind_str(st, 3, targets[i]);
		if (db_run(db, st, err) < 0)
			return -1;
	}
	return 0;
}

static int alias_insert(struct db *db, const struct address_key *key, uint64_t *id_r, struct err *err)
{
	uint64_t domain_id = 0;
	sqlite3_stmt *st;
	bool enabled;
	int rc = domain_row(db, key->domain, &domain_id, &enabled, err);

	if (rc == 0)
		return err_set(err, ERR_NOT_FOUND, "", "there is no domain %.*s here: \"postrider domain add\" adds it",
			       STR_ARG(key->domain));
	if (rc < 0)
		return -1;
	st = db_prepare(db, "INSERT INTO addresses(domain_id, local, local_key, kind) VALUES(?1, ?2, ?3, 3)", err);
	if (!st)
		return -1;
	db_bind_u64(st, 1, domain_id);
	db_bind_str(st, 2, key->local);
	db_bind_str(st, 3, key->local_key);
	if (db_run(db, st, err) < 0)
		return -1;
	*id_r = db_last_id(db);
	return 0;
}

static int alias_add_locked(struct db *db, const struct address_key *key, const struct str *targets, size_t count,
			    struct arena *arena, struct err *err)
{
	struct err why = ERR_NONE;
	uint64_t id = 0;

	if (alias_insert(db, key, &id, &why) < 0) {
		if (why.kind == ERR_EXISTS)
			return err_set(err, ERR_EXISTS, "",
				       "the address %.*s@%.*s is already taken by a user or an alias",
				       STR_ARG(key->local), STR_ARG(key->domain));
		if (err)
			*err = why;
		return -1;
	}
	return targets_write(db, id, targets, count, arena, err);
}

static int alias_set_locked(struct db *db, const struct address_key *key, const struct str *targets, size_t count,
			    const bool *enabled, struct arena *arena, struct err *err)
{
	struct alias alias;
	sqlite3_stmt *st;
	uint64_t id = 0;
	int rc = alias_find(db, key, arena, &id, &alias, err);

	if (rc == 0)
		return err_set(err, ERR_NOT_FOUND, "", "there is no alias %.*s@%.*s", STR_ARG(key->local),
			       STR_ARG(key->domain));
	if (rc < 0)
		return -1;
	if (enabled) {
		st = db_prepare(db, "UPDATE addresses SET enabled = ?2 WHERE id = ?1", err);
		if (!st)
			return -1;
		db_bind_u64(st, 1, id);
		db_bind_u64(st, 2, *enabled);
		if (db_run(db, st, err) < 0)
			return -1;
	}
	if (!targets)
		return 0;
	st = db_prepare(db, "DELETE FROM targets WHERE address_id = ?1", err);
	if (!st)
		return -1;
	db_bind_u64(st, 1, id);
	if (db_run(db, st, err) < 0)
		return -1;
	return targets_write(db, id, targets, count, arena, err);
}

static int alias_finish(struct db *db, int rc, struct err *err)
{
	if (rc == 0)
		rc = db_commit(db, err);
	if (rc < 0)
		db_rollback(db);
	return rc;
}

int alias_add(struct db *db, struct str address, const struct str *targets, size_t count, struct err *err)
{
	struct arena arena;
	struct address_key key;
	int rc = -1;

	arena_init(&arena);
	if (!address_key(address, true, &arena, &key))
		bad_address(address, err);
	else if (db_begin(db, err) == 0)
		rc = alias_finish(db, alias_add_locked(db, &key, targets, count, &arena, err), err);
	arena_release(&arena);
	return rc;
}

int alias_set(struct db *db, struct str address, const struct str *targets, size_t count, const bool *enabled,
	      struct err *err)
{
	struct arena arena;
	struct address_key key;
	int rc = -1;

	arena_init(&arena);
	if (!address_key(address, true, &arena, &key))
		bad_address(address, err);
	else if (db_begin(db, err) == 0)
		rc = alias_finish(db, alias_set_locked(db, &key, targets, count, enabled, &arena, err), err);
	arena_release(&arena);
	return rc;
}

static int alias_remove(struct db *db, const struct address_key *key, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db,
				      "DELETE FROM addresses WHERE kind = 3 AND local_key = ?2"
				      " AND domain_id = (SELECT id FROM domains WHERE name = ?1)",
				      err);

	if (!st)
		return -1;
	db_bind_str(st, 1, key->domain);
	db_bind_str(st, 2, key->local_key);
	if (db_run(db, st, err) < 0)
		return -1;
	return db_changes(db) > 0;
}

int alias_delete(struct db *db, struct str address, struct err *err)
{
	struct arena arena;
	struct address_key key;
	int rc = -1;

	arena_init(&arena);
	if (!address_key(address, true, &arena, &key))
		bad_address(address, err);
	else
		rc = alias_remove(db, &key, err);
	arena_release(&arena);
	return rc < 0 ? -1 : rc == 0 ? no_alias(address, err) : 0;
}
