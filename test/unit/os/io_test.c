/* What must hold of os/io: operations work, and a hook sees and stops each of them. */
#include "os/io.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/postrider-io-XXXXXX";
static int dir;

static int open_dir(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(path));
	dir = open(path, O_RDONLY | O_DIRECTORY);
	return dir < 0;
}

static int close_dir(void **state)
{
	(void)state;
	close(dir);
	return rmdir(path);
}

static void bytes_come_back_as_they_were_written(void **state)
{
	char got[32] = {0};
	struct stat st;
	int fd = io_open(dir, "a", O_RDWR | O_CREAT, 0600), copy;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(io_write(fd, "hello ", 6), 0);
	assert_int_equal(io_pwrite(fd, "world", 5, 6), 0);
	assert_int_equal(io_fdatasync(fd), 0);
	assert_int_equal(io_pread(fd, got, sizeof(got), 0), 11);
	assert_string_equal(got, "hello world");
	copy = io_open(dir, "b", O_RDWR | O_CREAT, 0600);
	assert_int_equal(io_copy(fd, 6, copy, 2, 5), 0);
	assert_int_equal(io_pread(copy, got, sizeof(got), 0), 7);
	assert_memory_equal(got, "\0\0world", 7);
	assert_int_equal(io_fallocate_zero(copy, 0, 300000), 0);
	assert_int_equal(io_fstatat(dir, "b", &st, 0), 0);
	assert_int_equal(st.st_size, 300000);
	assert_int_equal(io_ftruncate(copy, 1), 0);
	assert_int_equal(io_close(copy), 0);
	assert_int_equal(io_close(fd), 0);
	assert_int_equal(io_rename(dir, "a", dir, "c"), 0);
	assert_int_equal(io_link(dir, "c", dir, "d"), 0);
	assert_int_equal(io_mkdir(dir, "e", 0700), 0);
	assert_int_equal(io_rmdir(dir, "e"), 0);
	assert_int_equal(io_unlink(dir, "b"), 0);
	assert_int_equal(io_unlink(dir, "c"), 0);
	assert_int_equal(io_unlink(dir, "d"), 0);
	assert_int_equal(io_fsync(dir), 0);
	assert_int_equal(io_unlink(dir, "d"), -1);
	assert_int_equal(errno, ENOENT);
}

static void a_copy_longer_than_its_source_fails(void **state)
{
	int from = io_open(dir, "from", O_RDWR | O_CREAT, 0600), to = io_open(dir, "to", O_RDWR | O_CREAT, 0600);

	(void)state;
	assert_int_equal(io_write(from, "abc", 3), 0);
	assert_int_equal(io_copy(from, 0, to, 0, 4), -1);
	assert_int_equal(errno, EIO);
	io_close(from);
	io_close(to);
	assert_int_equal(io_unlink(dir, "from"), 0);
	assert_int_equal(io_unlink(dir, "to"), 0);
}

static void free_space_is_told(void **state)
{
	uint64_t bytes = 0, inodes = 0;

	(void)state;
	assert_int_equal(io_free_space(dir, &bytes, &inodes), 0);
	assert_true(bytes > 0 && inodes > 0);
}

struct counter {
	int before, after, fail_at;
	enum io_op last;
};

static int count_before(void *ctx, const struct io_event *event)
{
	struct counter *c = ctx;

	c->last = event->op;
	return ++c->before == c->fail_at ? ENOSPC : 0;
}

static void count_after(void *ctx, const struct io_event *event)
{
	(void)event;
	((struct counter *)ctx)->after++;
}

static void a_hook_makes_the_nth_operation_fail(void **state)
{
	struct counter counter = {.fail_at = 2};
	struct io_hook hook = {count_before, count_after, &counter};
	struct stat st;
	int fd;

	(void)state;
	io_set_hook(&hook);
	fd = io_open(dir, "x", O_RDWR | O_CREAT, 0600);
	assert_int_equal(io_write(fd, "never", 5), -1);
	assert_int_equal(errno, ENOSPC);
	assert_int_equal(counter.last, IO_WRITE);
	io_close(fd);
	assert_int_equal(counter.before, 3);
	assert_int_equal(counter.after, 2);
	io_set_hook(NULL);
	assert_int_equal(io_fstatat(dir, "x", &st, 0), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(io_unlink(dir, "x"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_come_back_as_they_were_written),
		cmocka_unit_test(a_copy_longer_than_its_source_fails),
		cmocka_unit_test(free_space_is_told),
		cmocka_unit_test(a_hook_makes_the_nth_operation_fail),
	};

	return cmocka_run_group_tests(tests, open_dir, close_dir);
}
