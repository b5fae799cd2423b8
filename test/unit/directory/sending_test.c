/* A surge is what is far more than ever, is told once, and is known again after a restart; what was learned fades. */
#include "base/mem.h"
#include "directory/accounts.h"
#include "directory/sending.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define START 1700000000
#define HOUR  3600
#define DAY   86400

struct fixture {
	char dir[64], path[96];
	struct db *db;
	struct sending *s;
	struct err err;
};

static const struct sending_rules rules = {.factor = 5, .hour_floor = 100, .day_floor = 300};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/sending-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/directory.sqlite", f->dir);
	*state = f;
	f->s = sending_new(100);
	return db_open(f->path, DB_CREATE, &f->db, &f->err) < 0 ? -1 : sending_open(f->s, f->db, &f->err);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char cmd[128];

	sending_free(&f->s);
	db_close(&f->db);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", f->dir);
	free(f);
	return system(cmd);
}

/* As the service does it. */
static int add_with(struct fixture *f, const struct sending_rules *r, const char *who, uint64_t n, int64_t now)
{
	int result = sending_add(f->s, str_from(who), n, r, now);

	if (result < 0) {
		assert_int_equal(sending_load(f->s, f->db, str_from(who), now, &f->err), 0);
		result = sending_add(f->s, str_from(who), n, r, now);
	}
	return result;
}

static int add(struct fixture *f, const char *who, uint64_t n, int64_t now)
{
	return add_with(f, &rules, who, n, now);
}

/* Directory ends in order, or by a crash, and begins anew. */
static void restart(struct fixture *f, bool save, int64_t now)
{
	if (save)
		assert_int_equal(sending_save(f->s, f->db, now, &f->err), 0);
	sending_free(&f->s);
	f->s = sending_new(100);
	assert_int_equal(sending_open(f->s, f->db, &f->err), 0);
}

static void far_more_than_ever_is_a_surge_and_told_once(void **state)
{
	struct fixture *f = *state;
	struct surge list[4];

	for (int day = 0; day < 20; day++)
		assert_int_equal(add(f, "alice@example.test", 40, START + day * DAY), 0);
	/* Up to five times of what was usual is not. */
	assert_int_equal(add(f, "Alice@Example.Test", 150, START + 20 * DAY), 0);
	assert_int_equal(add(f, "alice@example.test", 100, START + 20 * DAY + 60), 1);
	assert_int_equal(add(f, "alice@example.test", 5000, START + 20 * DAY + 120), 0);
	assert_int_equal(sending_untold(f->s, list, 4, START + 20 * DAY + 120), 1);
	assert_string_equal(list[0].who, "alice@example.test");
	assert_int_equal(list[0].hour, 5250);
	assert_in_range(list[0].hour_top, 39, 40);
	assert_int_equal(list[0].since, START + 20 * DAY + 60);
	sending_told(f->s, list[0].seq);
	assert_int_equal(sending_untold(f->s, list, 4, START + 20 * DAY), 0);
	/* As long as it goes on it is the same. */
	assert_int_equal(add(f, "alice@example.test", 90000, START + 21 * DAY), 0);
}

static void little_is_never_a_surge(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(add(f, "new@example.test", 100, START), 0);
	assert_int_equal(add(f, "new@example.test", 100, START + HOUR), 0);
	assert_int_equal(add(f, "new@example.test", 100, START + 2 * HOUR), 0);
	assert_int_equal(add(f, "new@example.test", 1, START + 3 * HOUR), 1); /* 301 within a day */
	assert_int_equal(add(f, "other@example.test", 101, START), 1);
}

static void off_is_off(void **state)
{
	static const struct sending_rules off = {.factor = 0, .hour_floor = 1, .day_floor = 1};

	assert_int_equal(add_with(*state, &off, "alice@example.test", 1000000, START), 0);
}

static void who_did_it_once_did_it_before_until_it_fades(void **state)
{
	struct fixture *f = *state;
	int64_t month = 28 * DAY;

	assert_int_equal(add(f, "list@example.test", 10000, START), 1);
	assert_int_equal(add(f, "list@example.test", 20000, START + 7 * DAY), 0);
	assert_int_equal(add(f, "list@example.test", 30000, START + 14 * DAY), 0);
	/* Two half-lives of silence: 7,500 times 5 is still more; after four more 1,875 times 5 is not. */
	assert_int_equal(add(f, "list@example.test", 30000, START + 14 * DAY + 2 * month), 0);
	assert_int_equal(add(f, "list@example.test", 30000, START + 14 * DAY + 6 * month), 1);
}

static void another_episode_begins_after_a_quiet_day(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(add(f, "alice@example.test", 200, START), 1);
	assert_int_equal(add(f, "alice@example.test", 5000, START + DAY - 1), 0); /* the same day */
	assert_int_equal(add(f, "alice@example.test", 1, START + 3 * DAY), 0);
	assert_int_equal(add(f, "alice@example.test", 60000, START + 3 * DAY + 60), 1);
}

static void a_restart_forgets_nothing_and_a_crash_little(void **state)
{
	struct fixture *f = *state;
	struct surge list[4];
	uint64_t seq;

	assert_int_equal(add(f, "alice@example.test", 1000, START), 1);
	assert_int_equal(add(f, "bob@example.test", 50, START), 0);
	restart(f, true, START);
	assert_int_equal(sending_untold(f->s, list, 4, START), 1);
	assert_int_equal(list[0].hour, 1000);
	seq = list[0].seq;
	sending_told(f->s, seq);
	assert_int_equal(add(f, "bob@example.test", 49, START + 1), 0);
	restart(f, true, START + 1);
	assert_int_equal(sending_untold(f->s, list, 4, START), 0);
	assert_int_equal(add(f, "bob@example.test", 1, START + 2), 0);
	restart(f, false, START + 2); /* the one is lost, no more */
	assert_int_equal(add(f, "bob@example.test", 2, START + 3), 1);
	assert_int_equal(sending_untold(f->s, list, 4, START), 1);
	assert_true(list[0].seq > seq);
}

static size_t rows(struct fixture *f)
{
	sqlite3_stmt *st = db_prepare(f->db, "SELECT count(*) FROM sending", &f->err);
	size_t n;

	assert_int_equal(db_step(f->db, st, &f->err), 1);
	n = db_u64(st, 0);
	db_done(st);
	return n;
}

static void memory_and_table_stay_bounded(void **state)
{
	struct fixture *f = *state;
	char who[40];

	for (int i = 0; i < 1000; i++) {
		snprintf(who, sizeof(who), "user%d@example.test", i);
		assert_int_equal(add(f, who, 60, START), 0);
	}
	/* What had to go was written, and comes back. */
	assert_int_equal(rows(f), 900);
	assert_int_equal(add(f, "user0@example.test", 41, START), 1);
	assert_int_equal(sending_save(f->s, f->db, START, &f->err), 0);
	assert_int_equal(rows(f), 1000);
	/* Who is silent for half a year is forgotten. */
	assert_int_equal(add(f, "user1@example.test", 1, START + SENDING_KEPT_S + 1), 0);
	assert_int_equal(sending_save(f->s, f->db, START + SENDING_KEPT_S + 1, &f->err), 0);
	assert_in_range(rows(f), 1, 101);
}

static void a_message_costs_no_write(void **state)
{
	struct fixture *f = *state;
	uint64_t before, after;
	struct db *watch;

	assert_int_equal(add(f, "alice@example.test", 1, START), 0);
	assert_int_equal(db_open(f->path, 0, &watch, &f->err), 0);
	assert_int_equal(db_data_version(watch, &before, &f->err), 0);
	for (int i = 0; i < 5000; i++)
		(void)add(f, "alice@example.test", 1, START + i);
	assert_int_equal(db_data_version(watch, &after, &f->err), 0);
	assert_int_equal(before, after);
	assert_int_equal(sending_save(f->s, f->db, START, &f->err), 0);
	assert_int_equal(db_data_version(watch, &after, &f->err), 0);
	assert_int_not_equal(before, after);
	db_close(&watch);
}

static void what_could_not_be_written_is_written_later(void **state)
{
	struct fixture *f = *state;
	struct db *other;

	assert_int_equal(add(f, "alice@example.test", 99, START), 0);
	db_close(&f->db);
	assert_int_equal(db_open(f->path, DB_NO_WAIT, &f->db, &f->err), 0);
	assert_int_equal(db_open(f->path, 0, &other, &f->err), 0);
	assert_int_equal(db_begin(other, &f->err), 0);
	assert_int_equal(sending_save(f->s, f->db, START, &f->err), -1);
	db_rollback(other);
	db_close(&other);
	assert_int_equal(rows(f), 0);
	assert_int_equal(sending_save(f->s, f->db, START, &f->err), 0);
	assert_int_equal(rows(f), 1);
}

static void a_database_of_before_is_migrated(void **state)
{
	struct fixture *f = *state;
	uint64_t version;

	assert_int_equal(domain_add(f->db, STR("example.test"), STR_NULL, &f->err), 0);
	db_close(&f->db);
	/* As version 1 left it. */
	{
		sqlite3 *sq;

		assert_int_equal(sqlite3_open(f->path, &sq), SQLITE_OK);
		assert_int_equal(sqlite3_exec(sq, "DROP TABLE sending; PRAGMA user_version = 1", NULL, NULL, NULL),
				 SQLITE_OK);
		sqlite3_close(sq);
	}
	assert_int_equal(db_open(f->path, 0, &f->db, &f->err), 0);
	assert_int_equal(rows(f), 0);
	assert_int_equal(domain_add(f->db, STR("example.test"), STR_NULL, &f->err), -1); /* it is still there */
	assert_int_equal(db_data_version(f->db, &version, &f->err), 0);
	restart(f, true, START);
	assert_int_equal(add(f, "alice@example.test", 101, START), 1);
}

static void the_mails_have_the_figures_and_say_what_to_do(void **state)
{
	struct surge list[] = {
		{.who = "alice@example.test", .since = START, .hour = 340, .hour_top = 20, .day = 900, .day_top = 35},
		{.who = "bob@example.test", .since = START, .hour = 101, .day = 102}};
	struct conf *conf;
	struct buf subject, text;
	struct err err = ERR_NONE;

	(void)state;
	conf = conf_parse(STR("myhostname = mx.example.test\n"), "main.cf", NULL, &err);
	assert_non_null(conf);
	buf_init(&subject, 1000);
	buf_init(&text, 10000);
	surge_compose_admin(list, 2, conf, &subject, &text);
	assert_string_equal(
		subject.ptr,
		"ALARM: alice@example.test and 1 more suddenly send much more than ever on mx.example.test");
	assert_non_null(strstr(text.ptr, "within the last hour: 340, the most of an hour before: 20\n"));
	assert_non_null(strstr(text.ptr, "within the last day: 102, the most of a day before: 0\n"));
	assert_non_null(strstr(text.ptr, "postrider user set ADDRESS --disable"));
	buf_clear(&subject);
	buf_clear(&text);
	surge_compose_user(list, conf, &subject, &text);
	assert_string_equal(subject.ptr, "Your account alice@example.test suddenly sends much more mail than ever");
	assert_non_null(strstr(text.ptr, "900"));
	assert_non_null(strstr(text.ptr, "change it now"));
	buf_release(&subject);
	buf_release(&text);
	conf_unref(&conf);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(far_more_than_ever_is_a_surge_and_told_once),
		TEST(little_is_never_a_surge),
		TEST(off_is_off),
		TEST(who_did_it_once_did_it_before_until_it_fades),
		TEST(another_episode_begins_after_a_quiet_day),
		TEST(a_restart_forgets_nothing_and_a_crash_little),
		TEST(memory_and_table_stay_bounded),
		TEST(a_message_costs_no_write),
		TEST(what_could_not_be_written_is_written_later),
		TEST(a_database_of_before_is_migrated),
		cmocka_unit_test(the_mails_have_the_figures_and_say_what_to_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
