/* Domains: see accounts.h. */
#include "base/clock.h"
#include "base/utf8.h"
#include "base/vec.h"
#include "directory/accounts.h"
#include "msg/address.h"

#define DESCRIPTION_MAX 1000

static int domain_key(struct str name, struct arena *arena, struct str *key_r, struct err *err)
{
	if (!domain_is_valid(name) || !domain_normalize(name, arena, key_r))
		return err_set(err, ERR_SYNTAX, "", "\"%.*s\" is no domain name", STR_ARG(name));
	return 0;
}

static int no_domain(struct str name, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "", "there is no domain %.*s here", STR_ARG(name));
}

int domain_row(struct db *db, struct str domain, uint64_t *id_r, bool *enabled_r, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db, "SELECT id, enabled FROM domains WHERE name = ?1", err);
	int rc;

	if (!st)
		return -1;
	db_bind_str(st, 1, domain);
	rc = db_step(db, st, err);
	if (rc > 0) {
		*id_r = db_u64(st, 0);
		*enabled_r = db_u64(st, 1) != 0;
		db_done(st);
	}
	return rc;
}

static int description_check(struct str text, struct err *err)
{
	if (text.len > DESCRIPTION_MAX || !utf8_valid(text) || str_has_control(text))
		return err_set(err, ERR_SYNTAX, "", "the description is no line of UTF-8 of at most %d bytes",
			       DESCRIPTION_MAX);
	return 0;
}

static int domain_insert(struct db *db, struct str key, struct str description, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db, "INSERT INTO domains(name, description, created) VALUES(?1, ?2, ?3)", err);

	if (!st)
		return -1;
	db_bind_str(st, 1, key);
	db_bind_str(st, 2, description);
	db_bind_u64(st, 3, (uint64_t)clock_wall());
	return db_run(db, st, err);
}

int domain_add(struct db *db, struct str name, struct str description, struct err *err)
{
	struct arena arena;
	struct str key;
	struct err why = ERR_NONE;
	int rc = -1;

	arena_init(&arena);
	if (domain_key(name, &arena, &key, err) == 0 && description_check(description, err) == 0) {
		rc = domain_insert(db, key, description, &why);
		if (rc < 0 && why.kind == ERR_EXISTS)
			err_set(err, ERR_EXISTS, "", "the domain %.*s is already there", STR_ARG(key));
		else if (rc < 0 && err)
			*err = why;
	}
	arena_release(&arena);
	return rc;
}

#define DOMAIN_SELECT                                                                                                  \
	"SELECT d.name, d.enabled, d.description, d.created,"                                                          \
	" (SELECT count(*) FROM addresses a WHERE a.domain_id = d.id AND a.kind = 1),"                                 \
	" (SELECT count(*) FROM addresses a WHERE a.domain_id = d.id AND a.kind = 3) FROM domains d "

static struct domain domain_read(sqlite3_stmt *st, struct arena *arena)
{
	return (struct domain){
		.name = db_str(st, 0, arena),
		.enabled = db_u64(st, 1) != 0,
		.description = db_str(st, 2, arena),
		.created = (int64_t)db_u64(st, 3),
		.users = db_u64(st, 4),
		.aliases = db_u64(st, 5),
	};
}

int domain_get(struct db *db, struct str name, struct arena *arena, struct domain *domain_r, struct err *err)
{
	sqlite3_stmt *st;
	struct str key;
	int rc;

	if (domain_key(name, arena, &key, err) < 0)
		return -1;
	st = db_prepare(db, DOMAIN_SELECT "WHERE d.name = ?1", err);
	if (!st)
		return -1;
	db_bind_str(st, 1, key);
	rc = db_step(db, st, err);
	if (rc > 0) {
		*domain_r = domain_read(st, arena);
		db_done(st);
	}
	return rc;
}

int domain_list(struct db *db, struct arena *arena, struct domain_list *list_r, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db, DOMAIN_SELECT "ORDER BY d.name", err);
	int rc;

	*list_r = (struct domain_list){0};
	if (!st)
		return -1;
	while ((rc = db_step(db, st, err)) > 0)
		vec_push_arena(arena, list_r, domain_read(st, arena));
	return rc;
}

static int domain_change(struct db *db, struct str key, const bool *enabled, const struct str *description,
			 struct err *err)
{
	sqlite3_stmt *st = db_prepare(db,
				      "UPDATE domains SET enabled = coalesce(?2, enabled),"
				      " description = coalesce(?3, description) WHERE name = ?1",
				      err);

	if (!st)
		return -1;
	db_bind_str(st, 1, key);
	if (enabled)
		db_bind_u64(st, 2, *enabled);
	if (description)
		db_bind_str(st, 3, *description);
	if (db_run(db, st, err) < 0)
		return -1;
	return db_changes(db) ? 0 : no_domain(key, err);
}

int domain_set(struct db *db, struct str name, const bool *enabled, const struct str *description, struct err *err)
{
	struct arena arena;
	struct str key;
	int rc = -1;

	arena_init(&arena);
	if (domain_key(name, &arena, &key, err) == 0 && (!description || description_check(*description, err) == 0))
		rc = domain_change(db, key, enabled, description, err);
	arena_release(&arena);
	return rc;
}

static int domain_remove(struct db *db, struct str key, struct err *err)
{
	sqlite3_stmt *st = db_prepare(db,
				      "SELECT count(*) FROM addresses a JOIN domains d ON d.id = a.domain_id"
				      " WHERE d.name = ?1 AND a.kind <> 3",
				      err);
	uint64_t users;

	if (!st)
		return -1;
	db_bind_str(st, 1, key);
	if (db_step(db, st, err) < 0)
		return -1;
	users = db_u64(st, 0);
	db_done(st);
	if (users > 0)
		return err_set(err, ERR_EXISTS, "",
			       "the domain %.*s still has %u addresses of users: delete those first", STR_ARG(key),
			       (unsigned)users);
	st = db_prepare(db, "DELETE FROM addresses WHERE domain_id = (SELECT id FROM domains WHERE name = ?1)", err);
	if (!st)
		return -1;
	db_bind_str(st, 1, key);
	if (db_run(db, st, err) < 0)
		return -1;
	st = db_prepare(db, "DELETE FROM domains WHERE name = ?1", err);
	if (!st)
		return -1;
	db_bind_str(st, 1, key);
	if (db_run(db, st, err) < 0)
		return -1;
	return db_changes(db) ? 0 : no_domain(key, err);
}

int domain_delete(struct db *db, struct str name, struct err *err)
{
	struct arena arena;
	struct str key;
	int rc = -1;

	arena_init(&arena);
	if (domain_key(name, &arena, &key, err) == 0 && db_begin(db, err) == 0) {
		rc = domain_remove(db, key, err) < 0 ? -1 : db_commit(db, err);
		if (rc < 0)
			db_rollback(db);
	}
	arena_release(&arena);
	return rc;
}
