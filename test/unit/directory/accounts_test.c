/* Domains, users and aliases in the database: what is unique, what is kept, what is refused. */
#include "base/vec.h"
#include "directory/accounts.h"
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
	char dir[64], path[96];
	struct db *db;
	struct arena arena;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/accounts-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/directory.sqlite", f->dir);
	arena_init(&f->arena);
	*state = f;
	return db_open(f->path, DB_CREATE, &f->db, &f->err);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char cmd[128];

	db_close(&f->db);
	arena_release(&f->arena);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", f->dir);
	free(f);
	return system(cmd);
}

static uint64_t add_user(struct fixture *f, const char *address)
{
	struct user_new user = {.address = str_from(address)};
	uint64_t id = 0;

	if (user_add(f->db, &user, &id, &f->err) < 0)
		return 0;
	return id;
}

static void add_domain(struct fixture *f, const char *name)
{
	assert_int_equal(domain_add(f->db, str_from(name), STR_NULL, &f->err), 0);
}

static void assert_str(struct str s, const char *want)
{
	char *got = str_dup(s);

	assert_string_equal(got, want);
	free(got);
}

static void a_database_is_for_its_owner_alone(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_missing_database_is_told_with_what_to_do(void **state)
{
	struct fixture *f = *state;
	struct db *db;

	assert_int_equal(db_open("/nonexistent/directory.sqlite", 0, &db, &f->err), -1);
	assert_int_equal(f->err.kind, ERR_NOT_FOUND);
	assert_non_null(strstr(f->err.text, "postrider init"));
	assert_null(db);
}

static void a_newer_schema_is_refused(void **state)
{
	struct fixture *f = *state;
	sqlite3 *sq;
	struct db *db;

	assert_int_equal(sqlite3_open(f->path, &sq), SQLITE_OK);
	assert_int_equal(sqlite3_exec(sq, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(sq);
	assert_int_equal(db_open(f->path, 0, &db, &f->err), -1);
	assert_int_equal(f->err.kind, ERR_PERM);
	assert_non_null(strstr(f->err.text, "99"));
	assert_non_null(strstr(f->err.text, "newer"));
}

static void reopening_keeps_the_secret(void **state)
{
	struct fixture *f = *state;
	uint8_t one[DB_SECRET_LEN], two[DB_SECRET_LEN];
	struct db *db;

	assert_int_equal(db_secret(f->db, one, &f->err), 0);
	assert_int_equal(db_open(f->path, DB_CREATE, &db, &f->err), 0);
	assert_int_equal(db_secret(db, two, &f->err), 0);
	assert_memory_equal(one, two, sizeof(one));
	db_close(&db);
}

static void another_connections_change_is_noticed(void **state)
{
	struct fixture *f = *state;
	uint64_t before, after;
	struct db *other;

	assert_int_equal(db_open(f->path, 0, &other, &f->err), 0);
	assert_int_equal(db_data_version(f->db, &before, &f->err), 0);
	assert_int_equal(domain_add(other, STR("example.test"), STR_NULL, &f->err), 0);
	assert_int_equal(db_data_version(f->db, &after, &f->err), 0);
	assert_true(before != after);
	db_close(&other);
}

static void a_broken_database_is_a_failure_of_the_moment(void **state)
{
	struct fixture *f = *state;
	struct account user;
	sqlite3 *sq;

	assert_int_equal(sqlite3_open(f->path, &sq), SQLITE_OK);
	assert_int_equal(sqlite3_exec(sq, "PRAGMA foreign_keys = OFF; DROP TABLE addresses", NULL, NULL, NULL),
			 SQLITE_OK);
	sqlite3_close(sq);
	assert_int_equal(user_find(f->db, STR("alice@example.test"), &f->arena, &user, &f->err), -1);
	assert_int_equal(f->err.kind, ERR_TEMP);
}

static void domains_compare_as_a_labels(void **state)
{
	struct fixture *f = *state;
	struct domain d;

	add_domain(f, "B\xc3\xbc"
		      "cher.Example");
	assert_int_equal(domain_get(f->db, STR("xn--bcher-kva.EXAMPLE"), &f->arena, &d, &f->err), 1);
	assert_str(d.name, "xn--bcher-kva.example");
	assert_int_equal(domain_add(f->db, STR("xn--bcher-kva.example"), STR_NULL, &f->err), -1);
	assert_int_equal(f->err.kind, ERR_EXISTS);
	assert_int_equal(domain_add(f->db, STR("no domain"), STR_NULL, &f->err), -1);
	assert_int_equal(f->err.kind, ERR_SYNTAX);
}

static void a_domain_with_users_is_not_deleted(void **state)
{
	struct fixture *f = *state;
	uint64_t id;

	add_domain(f, "example.test");
	id = add_user(f, "alice@example.test");
	assert_int_equal(
		alias_add(f->db, STR("team@example.test"), (struct str[]){STR("alice@example.test")}, 1, &f->err), 0);
	assert_int_equal(domain_delete(f->db, STR("example.test"), &f->err), -1);
	assert_int_equal(f->err.kind, ERR_EXISTS);
	assert_int_equal(user_delete(f->db, id, &f->err), 0);
	assert_int_equal(domain_delete(f->db, STR("example.test"), &f->err), 0);
	assert_int_equal(domain_delete(f->db, STR("example.test"), &f->err), -1);
	assert_int_equal(f->err.kind, ERR_NOT_FOUND);
}

static void users_are_found_whatever_the_case_and_kept_as_written(void **state)
{
	struct fixture *f = *state;
	struct account user;

	add_domain(f, "example.test");
	assert_true(add_user(f, "Alice@Example.Test") > 0);
	assert_int_equal(user_find(f->db, STR("aLICE@EXAMPLE.test"), &f->arena, &user, &f->err), 1);
	assert_str(user.address, "Alice@example.test");
	assert_true(user.active);
	assert_int_equal(user_find(f->db, STR("bob@example.test"), &f->arena, &user, &f->err), 0);
	assert_int_equal(user_find(f->db, STR("alice"), &f->arena, &user, &f->err), 0);
	assert_int_equal(user_find(f->db, STR("alice\0x@example.test"), &f->arena, &user, &f->err), 0);
	assert_int_equal(user_find(f->db, STR("' OR 1=1 --@example.test"), &f->arena, &user, &f->err), 0);
}

static void an_address_leads_to_one_user_or_alias(void **state)
{
	struct fixture *f = *state;
	struct str team[] = {STR("alice@example.test")};

	add_domain(f, "example.test");
	assert_true(add_user(f, "alice@example.test") > 0);
	assert_int_equal(add_user(f, "ALICE@example.test"), 0);
	assert_int_equal(f->err.kind, ERR_EXISTS);
	assert_int_equal(alias_add(f->db, STR("alice@example.test"), team, 1, &f->err), -1);
	assert_int_equal(f->err.kind, ERR_EXISTS);
	assert_int_equal(alias_add(f->db, STR("team@example.test"), team, 1, &f->err), 0);
	assert_int_equal(add_user(f, "team@example.test"), 0);
	assert_int_equal(f->err.kind, ERR_EXISTS);
	assert_int_equal(add_user(f, "x@elsewhere.test"), 0);
	assert_int_equal(f->err.kind, ERR_NOT_FOUND);
}

static void ids_and_paths_are_never_given_again(void **state)
{
	struct fixture *f = *state;
	struct account user;
	uint64_t first, second;

	add_domain(f, "example.test");
	first = add_user(f, "alice@example.test");
	assert_int_equal(user_get(f->db, first, &f->arena, &user, &f->err), 1);
	assert_str(user.path, "example.test/alice");
	assert_int_equal(user_delete(f->db, first, &f->err), 0);
	second = add_user(f, "alice@example.test");
	assert_true(second > first);
	assert_int_equal(user_get(f->db, second, &f->arena, &user, &f->err), 1);
	assert_str(user.path, "example.test/alice%2");
	assert_int_equal(user_get(f->db, first, &f->arena, &user, &f->err), 0);
}

static void paths_hold_only_harmless_characters(void **state)
{
	struct fixture *f = *state;
	struct account user;
	static const struct {
		const char *address, *path;
	} cases[] = {
		{"a/../../b@example.test", "example.test/a%2F..%2F..%2Fb"},
		{"..@example.test", "example.test/%2E."},
		{".@example.test", "example.test/%2E"},
		{"-rf@example.test", "example.test/%2Drf"},
		{"a b@example.test", "example.test/a%20b"},
		{"a%20b@example.test", "example.test/a%2520b"},
		{"Gr\xc3\xbc\xc3\x9f@example.test", "example.test/gr%C3%BC%C3%9F"},
		{"o'neil+x@example.test", "example.test/o%27neil+x"},
	};

	add_domain(f, "example.test");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t id = add_user(f, cases[i].address);

		assert_true(id > 0);
		assert_int_equal(user_get(f->db, id, &f->arena, &user, &f->err), 1);
		assert_str(user.path, cases[i].path);
	}
}

static void users_change_and_their_serial_tells(void **state)
{
	struct fixture *f = *state;
	struct account user;
	struct str name = STR("Alice A."), more = STR("a.liddell@example.test");
	uint64_t quota = 1 << 30, id, serial;
	bool no = false, yes = true;
	struct str_list list;
	struct password_set password = {.hash = STR("x"), .scram = {.iterations = 4096, .salt_len = 3, .salt = "abc"}};
	struct user_change c = {.name = &name, .quota_bytes = &quota, .add_addresses = &more, .add_count = 1};

	add_domain(f, "example.test");
	id = add_user(f, "alice@example.test");
	assert_int_equal(user_get(f->db, id, &f->arena, &user, &f->err), 1);
	serial = user.serial;
	assert_int_equal(user_set(f->db, id, &c, &f->err), 0);
	assert_int_equal(user_find(f->db, more, &f->arena, &user, &f->err), 1);
	assert_int_equal(user.id, id);
	assert_str(user.address, "alice@example.test");
	assert_str(user.name, "Alice A.");
	assert_int_equal(user.quota_bytes, quota);
	assert_int_equal(user.serial, serial);
	assert_int_equal(user_addresses(f->db, id, &f->arena, &list, &f->err), 0);
	assert_int_equal(list.n, 1);

	assert_int_equal(user_set(f->db, id, &(struct user_change){.password = &password}, &f->err), 0);
	assert_int_equal(user_get(f->db, id, &f->arena, &user, &f->err), 1);
	assert_int_equal(user.serial, serial + 1);
	assert_int_equal(user.scram.iterations, 4096);
	assert_memory_equal(user.scram.salt, "abc", 3);
	assert_int_equal(user_set(f->db, id, &(struct user_change){.enabled = &no}, &f->err), 0);
	assert_int_equal(user_set(f->db, id, &(struct user_change){.enabled = &yes}, &f->err), 0);
	assert_int_equal(user_get(f->db, id, &f->arena, &user, &f->err), 1);
	assert_int_equal(user.serial, serial + 2);

	assert_int_equal(
		user_set(f->db, id, &(struct user_change){.remove_addresses = &more, .remove_count = 1}, &f->err), 0);
	assert_int_equal(user_find(f->db, more, &f->arena, &user, &f->err), 0);
	assert_int_equal(
		user_set(f->db, id, &(struct user_change){.remove_addresses = &more, .remove_count = 1}, &f->err), -1);
	assert_int_equal(f->err.kind, ERR_NOT_FOUND);
	assert_int_equal(user_set(f->db, 12345, &(struct user_change){.name = &name}, &f->err), -1);
	assert_int_equal(f->err.kind, ERR_NOT_FOUND);
}

static void a_change_happens_whole_or_not_at_all(void **state)
{
	struct fixture *f = *state;
	struct str name = STR("New"), bad = STR("x@elsewhere.test");
	struct account user;
	uint64_t id;

	add_domain(f, "example.test");
	id = add_user(f, "alice@example.test");
	assert_int_equal(user_set(f->db, id,
				  &(struct user_change){.name = &name, .add_addresses = &bad, .add_count = 1}, &f->err),
			 -1);
	assert_int_equal(user_get(f->db, id, &f->arena, &user, &f->err), 1);
	assert_str(user.name, "");
}

static void users_of_a_disabled_domain_are_not_active(void **state)
{
	struct fixture *f = *state;
	struct account user;
	bool no = false;

	add_domain(f, "example.test");
	assert_true(add_user(f, "alice@example.test") > 0);
	assert_int_equal(domain_set(f->db, STR("example.test"), &no, NULL, &f->err), 0);
	assert_int_equal(user_find(f->db, STR("alice@example.test"), &f->arena, &user, &f->err), 1);
	assert_true(user.enabled);
	assert_false(user.active);
}

static void aliases_lead_to_addresses_that_exist(void **state)
{
	struct fixture *f = *state;
	struct str targets[] = {STR("alice@example.test"), STR("someone@remote.example"),
				STR("alice+tag@example.test")};
	struct str nowhere[] = {STR("nobody@example.test")}, broken[] = {STR("no address")};
	struct alias alias;
	struct alias_list list;

	add_domain(f, "example.test");
	assert_true(add_user(f, "alice@example.test") > 0);
	assert_int_equal(alias_add(f->db, STR("team@example.test"), targets, 3, &f->err), 0);
	assert_int_equal(alias_get(f->db, STR("TEAM@example.test"), &f->arena, &alias, &f->err), 1);
	assert_int_equal(alias.targets.n, 3);
	assert_str(alias.targets.v[1], "someone@remote.example");
	assert_int_equal(alias_add(f->db, STR("x@example.test"), nowhere, 1, &f->err), -1);
	assert_int_equal(f->err.kind, ERR_NOT_FOUND);
	assert_int_equal(alias_get(f->db, STR("x@example.test"), &f->arena, &alias, &f->err), 0);
	assert_int_equal(alias_add(f->db, STR("x@example.test"), broken, 1, &f->err), -1);
	assert_int_equal(f->err.kind, ERR_SYNTAX);
	assert_int_equal(alias_add(f->db, STR("x@example.test"), NULL, 0, &f->err), -1);
	assert_int_equal(alias_set(f->db, STR("team@example.test"), targets, 1, NULL, &f->err), 0);
	assert_int_equal(alias_add(f->db, STR("@example.test"), targets, 1, &f->err), 0);
	assert_int_equal(alias_list(f->db, STR("example.test"), &f->arena, &list, &f->err), 0);
	assert_int_equal(list.n, 2);
	assert_str(list.v[0].address, "@example.test");
	assert_int_equal(list.v[1].targets.n, 1);
	assert_int_equal(alias_delete(f->db, STR("team@example.test"), &f->err), 0);
	assert_int_equal(alias_delete(f->db, STR("team@example.test"), &f->err), -1);
	assert_int_equal(f->err.kind, ERR_NOT_FOUND);
	assert_int_equal(alias_delete(f->db, STR("alice@example.test"), &f->err), -1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_database_is_for_its_owner_alone),
		T(a_missing_database_is_told_with_what_to_do),
		T(a_newer_schema_is_refused),
		T(reopening_keeps_the_secret),
		T(another_connections_change_is_noticed),
		T(a_broken_database_is_a_failure_of_the_moment),
		T(domains_compare_as_a_labels),
		T(a_domain_with_users_is_not_deleted),
		T(users_are_found_whatever_the_case_and_kept_as_written),
		T(an_address_leads_to_one_user_or_alias),
		T(ids_and_paths_are_never_given_again),
		T(paths_hold_only_harmless_characters),
		T(users_change_and_their_serial_tells),
		T(a_change_happens_whole_or_not_at_all),
		T(users_of_a_disabled_domain_are_not_active),
		T(aliases_lead_to_addresses_that_exist),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
