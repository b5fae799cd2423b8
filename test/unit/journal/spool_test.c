/* What must hold of journal/spool: what a finished blob promises, and at what price. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/encode.h"
#include "journal/spool.h"
#include "os/io.h"
#include "testdir.h"

#include <unistd.h>

struct counts {
	unsigned file_syncs, name_syncs;
};

static void count(void *ctx, const struct io_event *event)
{
	struct counts *c = ctx;
	struct stat st;

	if (event->op != IO_FSYNC || fstat(event->fd, &st) < 0)
		return;
	if (S_ISDIR(st.st_mode))
		c->name_syncs++;
	else
		c->file_syncs++;
}

struct blob {
	uint64_t id;
	int fd;
};

static struct blob begun(struct spool *s, struct str text)
{
	struct blob b;

	assert_int_equal(spool_begin(s, text.len, &b.id, &b.fd, NULL), 0);
	assert_int_equal(io_pwrite(b.fd, text.ptr, text.len, 0), 0);
	return b;
}

static void finished(struct spool *s, struct blob *b, struct str text)
{
	uint64_t size;

	assert_int_equal(spool_finish(s, b->id, text.len, crc32c(0, text.ptr, text.len), NULL), 0);
	assert_true(spool_finished(s, b->id, &size));
	assert_int_equal(size, text.len);
	io_close(b->fd);
}

static void each_file_is_synced_and_a_name_unless_a_sync_since_covers_it(void **state)
{
	struct counts c = {0};
	struct io_hook hook = {.after = count, .ctx = &c};
	struct str text = STR("a large message");
	char path[64];
	int dir;
	struct blob blobs[10], late;
	struct spool *s;

	(void)state;
	dir = testdir_make(path);
	assert_int_equal(spool_open(dir, 1000, &s, NULL), 0);
	io_set_hook(&hook);
	for (size_t i = 0; i < 10; i++)
		blobs[i] = begun(s, text);
	for (size_t i = 0; i < 10; i++) {
		finished(s, &blobs[i], text);
		assert_int_equal(c.file_syncs, i + 1);
		assert_int_equal(c.name_syncs, 1);
	}
	late = begun(s, text);
	finished(s, &late, text);
	assert_int_equal(c.name_syncs, 2);
	io_set_hook(NULL);
	spool_close(&s);
	close(dir);
	testdir_remove(path);
}

static void no_more_is_begun_than_the_limit_allows_and_what_is_dropped_makes_room(void **state)
{
	char path[64];
	int dir;
	struct blob b, other;
	struct spool *s;
	struct err err = ERR_NONE;
	char bytes[100] = {0};
	uint64_t id;
	int fd, unused;

	(void)state;
	dir = testdir_make(path);
	assert_int_equal(spool_open(dir, 250, &s, NULL), 0);
	b = begun(s, str_of(bytes, 100));
	other = begun(s, str_of(bytes, 100));
	assert_int_equal(spool_begin(s, 51, &id, &fd, &err), -1);
	assert_int_equal(err.kind, ERR_FULL);
	spool_drop(s, b.id);
	close(b.fd);
	b = begun(s, str_of(bytes, 100));
	/* More than was announced counts as well. */
	spool_drop(s, b.id);
	close(b.fd);
	assert_int_equal(spool_begin(s, 0, &id, &fd, NULL), 0);
	assert_int_equal(io_pwrite(fd, bytes, 100, 0), 0);
	assert_int_equal(spool_begin(s, 51, &id, &unused, NULL), -1);
	close(fd);
	close(other.fd);
	spool_close(&s);
	close(dir);
	testdir_remove(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_file_is_synced_and_a_name_unless_a_sync_since_covers_it),
		cmocka_unit_test(no_more_is_begun_than_the_limit_allows_and_what_is_dropped_makes_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
