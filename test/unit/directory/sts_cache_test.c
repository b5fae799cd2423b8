/* MTA-STS policies on disk: they come back after a restart, end, are due, and damage loses nothing but them. */
#include "base/clock.h"
#include "base/fatal.h"
#include "base/mem.h"
#include "directory/sts_cache.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[64], *path;
static struct arena arena;
static struct sts_cache *cache;

static int begin(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/sts-cache-XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	path = mem_printf("%s/" STS_CACHE_FILE, dir);
	arena_init(&arena);
	cache = sts_cache_new(path);
	return 0;
}

static int end(void **state)
{
	char *journal = mem_printf("%s-journal", path);

	(void)state;
	sts_cache_free(&cache);
	arena_release(&arena);
	(void)!unlink(path);
	(void)!unlink(journal);
	free(journal);
	rmdir(dir);
	free(path);
	return 0;
}

static void again(void)
{
	sts_cache_free(&cache);
	cache = sts_cache_new(path);
}

static void put(const char *domain, const char *id, int64_t holds, int64_t due)
{
	uint64_t now = (uint64_t)clock_wall();
	struct dir_sts p = {.domain = str_from(domain),
			    .id = str_from(id),
			    .policy = STR("version: STSv1\nmode: none\nmax_age: 1\n"),
			    .fetched = now,
			    .expires = now + (uint64_t)holds,
			    .due = now + (uint64_t)due,
			    .used = 1};

	assert_int_equal(sts_cache_put(cache, &p, NULL), 0);
}

static bool has(const char *domain, const char *id)
{
	struct dir_sts p;
	int rc = sts_cache_get(cache, str_from(domain), true, &arena, &p, NULL);

	assert_true(rc >= 0);
	return rc > 0 && str_eq(p.id, str_from(id));
}

static void a_policy_is_there_after_a_restart_and_the_last_one_counts(void **state)
{
	struct dir_sts p;

	(void)state;
	assert_false(has("a.test", "1"));
	put("a.test", "1", 1000, 500);
	put("b.test", "x", 1000, 500);
	put("a.test", "2", 2000, 500);
	again();
	assert_true(has("a.test", "2"));
	assert_true(has("b.test", "x"));
	assert_int_equal(sts_cache_get(cache, STR("a.test"), false, &arena, &p, NULL), 1);
	assert_true(str_eq(p.policy, STR("version: STSv1\nmode: none\nmax_age: 1\n")));
	assert_int_equal(p.expires, p.fetched + 2000);
}

static void what_is_due_is_named_and_then_when_the_next_one_is(void **state)
{
	uint64_t now = (uint64_t)clock_wall();
	struct dir_sts_due due;

	(void)state;
	assert_int_equal(sts_cache_due(cache, now, &arena, &due, NULL), 0);
	assert_true(due.domains.n == 0 && due.next == 0);
	put("later.test", "1", 100000, 5000);
	put("now.test", "1", 100000, -10);
	put("over.test", "1", -5, -10);
	assert_int_equal(sts_cache_due(cache, now, &arena, &due, NULL), 0);
	assert_int_equal(due.domains.n, 1);
	assert_true(str_eq(due.domains.v[0].domain, STR("now.test")));
	assert_true(due.next >= now + 5000);
	/* Nobody has sent mail there for a month. */
	assert_int_equal(sts_cache_due(cache, now + STS_CACHE_UNUSED_S + 1000, &arena, &due, NULL), 0);
	assert_true(due.domains.n == 0 && due.next == 0);
	/* What is over goes with the next one that comes. */
	assert_true(has("over.test", "1"));
	put("more.test", "1", 1000, 1000);
	assert_false(has("over.test", "1"));
}

static void a_damaged_file_is_made_anew(void **state)
{
	FILE *f;

	(void)state;
	put("a.test", "1", 1000, 500);
	sts_cache_free(&cache);
	f = fopen(path, "wb");
	for (int i = 0; i < 4096; i++)
		fputc('x', f);
	fclose(f);
	cache = sts_cache_new(path);
	assert_false(has("a.test", "1"));
	put("a.test", "2", 1000, 500);
	again();
	assert_true(has("a.test", "2"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_policy_is_there_after_a_restart_and_the_last_one_counts, begin, end),
		cmocka_unit_test_setup_teardown(what_is_due_is_named_and_then_when_the_next_one_is, begin, end),
		cmocka_unit_test_setup_teardown(a_damaged_file_is_made_anew, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
