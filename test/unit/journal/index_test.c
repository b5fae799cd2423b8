/* The index: whatever happens to its file, it is read right, or the damage is found before LMDB meets it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/encode.h"
#include "journal/index.h"
#include "journal/index_check.h"
#include "testdir.h"
#include <errno.h>

#define KEYS 3000

static uint64_t seed;

static unsigned pick(unsigned below)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)((seed >> 33) % below);
}

static struct index *open_at(int dir)
{
	struct index *ix;
	struct err err = ERR_NONE;

	if (index_open(dir, false, &ix, &err) < 0)
		fail_msg("%s", err.text);
	return ix;
}

static int checked(int dir, struct err *err)
{
	int fd = openat(dir, "index.mdb", O_RDONLY | O_CLOEXEC), rc;

	assert_true(fd >= 0);
	rc = index_check(fd, NULL, NULL, err);
	close(fd);
	return rc;
}

/* Short and long keys; values on overflow pages now and then. */
static void change(struct overlay *o, unsigned i)
{
	static char bytes[20000];
	char key[300];
	size_t len = (size_t)snprintf(key, sizeof(key), "%08u", i * 2654435761u);

	memset(key + len, 'k', sizeof(key) - len);
	len += i % 7 ? i % 40 : i % 250;
	memset(bytes, (int)i, sizeof(bytes));
	if (pick(4) == 0)
		overlay_del(o, str_of(key, len));
	else
		overlay_put(o, str_of(key, len), str_of(bytes, pick(30) ? pick(300) : pick(20000)));
}

static void fill(int dir, unsigned rounds, unsigned changes)
{
	struct index *ix = open_at(dir);
	struct err err = ERR_NONE;

	for (unsigned r = 1; r <= rounds; r++) {
		struct overlay *o = overlay_new();
		for (unsigned i = 0; i < changes; i++)
			change(o, pick(KEYS));
		assert_int_equal(index_apply(ix, o, index_lsn(ix) + 1, true, &err), 0);
		overlay_free(&o);
		if (checked(dir, &err) != 1)
			fail_msg("round %u, seed %llu: %s", r, (unsigned long long)seed, err.text);
	}
	index_close(&ix);
}

/* All keys and values as one number; *bad_r: values that were found damaged. */
static uint32_t sum_of(struct index *ix, unsigned *count_r, unsigned *bad_r)
{
	struct index_cursor *c;
	struct err err = ERR_NONE;
	struct str key, value;
	uint32_t sum = 0;
	int rc;

	*count_r = *bad_r = 0;
	assert_int_equal(index_cursor_open(ix, STR_NULL, false, &c, &err), 0);
	while ((rc = index_cursor_at(c, &key, &value, &err)) != 0 && ++*count_r < 2 * KEYS) {
		if (rc < 0)
			++*bad_r;
		else
			sum += crc32c(crc32c(0, key.ptr, key.len), value.ptr, value.len);
		index_cursor_step(c);
	}
	index_cursor_close(&c);
	return sum;
}

static void every_index_that_lmdb_writes_passes(void **state)
{
	char path[64];
	int dir;

	(void)state;
	for (unsigned shape = 0; shape < 3; shape++) {
		dir = testdir_make(path);
		fill(dir, shape == 0 ? 60 : 25, shape == 0 ? 20 : shape == 1 ? 400 : 3000);
		close(dir);
		testdir_remove(path);
	}
}

static char *bytes;
static size_t length;

static void load(int dir)
{
	int fd = openat(dir, "index.mdb", O_RDONLY | O_CLOEXEC);
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	length = (size_t)st.st_size;
	bytes = mem_alloc(length);
	assert_int_equal(pread(fd, bytes, length, 0), (ssize_t)length);
	close(fd);
}

static void store_file(int dir, size_t len)
{
	int fd = openat(dir, "index.mdb", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(pwrite(fd, bytes, len, 0), (ssize_t)len);
	close(fd);
}

struct truth {
	uint32_t sum;
	unsigned count;
	uint64_t lsn;
};

/* The file as it is in `bytes`: all there, or known not to be. Returns whether it was set aside. */
static bool look(int dir, const struct truth *t, const char *what)
{
	unsigned count, bad;
	struct index *ix = open_at(dir);
	bool aside = faccessat(dir, "index.damaged", F_OK, 0) == 0;
	uint32_t sum = sum_of(ix, &count, &bad);

	/* An older meta page was taken for the newer one: the journal knows what is missing. */
	if (!aside && index_lsn(ix) + 1 == t->lsn)
		bad = 1;
	else if (!aside && (count != t->count || (sum != t->sum && bad == 0) || index_lsn(ix) != t->lsn))
		fail_msg("%s: seed %llu: %u keys, not %u, LSN %llu, and nothing was said", what,
			 (unsigned long long)seed, count, t->count, (unsigned long long)index_lsn(ix));
	if (aside && (count != 0 || index_lsn(ix) != 0))
		fail_msg("%s: set aside, and something is there", what);
	/* It can be written all the same. */
	struct overlay *o = overlay_new();
	struct err err = ERR_NONE;
	overlay_put(o, STR("new"), STR("value"));
	assert_int_equal(index_apply(ix, o, 1000000, false, &err), 0);
	overlay_free(&o);
	index_close(&ix);
	if (aside)
		assert_int_equal(unlinkat(dir, "index.damaged", 0), 0);
	return aside;
}

/* LMDB's page flags: branch 1, leaf 2, overflow 4, meta 8. The later pages of a long value have no header. */
static unsigned page_kind(size_t page)
{
	return (unsigned char)bytes[page * 4096 + 10] & 15;
}

static size_t page_of_kind(unsigned kind)
{
	size_t page;

	do
		page = pick((unsigned)(length / 4096));
	while (page_kind(page) != kind || memcmp(bytes + page * 4096, &page, sizeof(page)) != 0);
	return page;
}

static void a_flipped_bit_is_found_or_does_no_harm(void **state)
{
	unsigned flips = getenv("DAMAGE_FLIPS") ? (unsigned)atoi(getenv("DAMAGE_FLIPS")) : 400, found = 0,
		 kinds[16] = {0};
	char path[64], what[100];
	int dir = testdir_make(path);
	struct truth t;
	unsigned bad;

	(void)state;
	fill(dir, 12, 700);
	struct index *ix = open_at(dir);
	t.sum = sum_of(ix, &t.count, &bad);
	t.lsn = index_lsn(ix);
	index_close(&ix);
	load(dir);
	for (unsigned i = 0; i < flips; i++) {
		size_t page = pick((unsigned)(length / 4096)), at = pick(3) ? pick(4096) : pick(120);
		unsigned bit = pick(8);
		if (i % 8 == 0)
			page = pick(2);
		/* Sure to come upon some: the headers of leaf and of overflow pages. */
		if (i % 8 == 1)
			page = page_of_kind(i % 16 == 1 ? 2 : 4), at = pick(8);
		unsigned kind = page_kind(page);
		bytes[page * 4096 + at] ^= (char)(1 << bit);
		snprintf(what, sizeof(what), "page %zu, byte %zu, bit %u", page, at, bit);
		store_file(dir, length);
		if (look(dir, &t, what)) {
			found++;
			kinds[kind]++;
		}
		bytes[page * 4096 + at] ^= (char)(1 << bit);
	}
	print_message(
		"%u bits flipped, %u found by the check (meta %u, branch %u, leaf %u, overflow %u), the others are in "
		"values and unused bytes\n",
		flips, found, kinds[8], kinds[1], kinds[2], kinds[4]);
	assert_true(found > 0 && kinds[2] > 0 && kinds[4] > 0);
	free(bytes);
	close(dir);
	testdir_remove(path);
}

static void a_file_cut_short_or_overwritten_is_found(void **state)
{
	char path[64], what[100];
	int dir = testdir_make(path);
	struct truth t;
	unsigned bad, aside = 0;

	(void)state;
	fill(dir, 8, 500);
	struct index *ix = open_at(dir);
	t.sum = sum_of(ix, &t.count, &bad);
	t.lsn = index_lsn(ix);
	index_close(&ix);
	load(dir);
	for (size_t len = 1; len < length; len += 1 + pick((unsigned)length / 40)) {
		snprintf(what, sizeof(what), "cut to %zu of %zu", len, length);
		store_file(dir, len);
		aside += look(dir, &t, what);
	}
	assert_true(aside > 20);
	for (unsigned i = 0; i < 200; i++) {
		size_t from = pick((unsigned)length), n = 1 + pick(8192);
		char *copy = mem_dup(bytes, length);
		snprintf(what, sizeof(what), "garbage at %zu, %zu bytes", from, n);
		for (size_t k = from; k < length && k < from + n; k++)
			bytes[k] = i % 3 == 0 ? 0 : (char)pick(256);
		store_file(dir, length);
		look(dir, &t, what);
		free(bytes);
		bytes = copy;
	}
	free(bytes);
	close(dir);
	testdir_remove(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_index_that_lmdb_writes_passes),
		cmocka_unit_test(a_flipped_bit_is_found_or_does_no_harm),
		cmocka_unit_test(a_file_cut_short_or_overwritten_is_found),
	};
	const char *given = getenv("DAMAGE_SEED");

	seed = given ? strtoull(given, NULL, 10) : random_u64();
	print_message("DAMAGE_SEED=%llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
