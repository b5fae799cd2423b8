/* Files of messages that were deleted by the thousand: nobody waits for their removal, and none comes back. */
#include "stand.h"

#include "journal/record.h"

#define MANY 300 /* more than a checkpoint removes by itself */

static void fill(struct fixture *f)
{
	char id[64];

	for (unsigned i = 0; i < MANY; i++) {
		struct queue_message m = message("body\n");

		commit(f, &m, id);
	}
	/* From here on each is a file. */
	stop(f);
	start(f);
	assert_int_equal(files(f), MANY);
}

static void delete_all(struct fixture *f)
{
	struct queue_act ask = {.action = QUEUE_DELETE};
	struct queue_acted acted;
	struct queue_listed l;

	assert_int_equal(call(f->admin, f, &QUEUE_ACT, &ask, &acted), 0);
	assert_int_equal(acted.count, MANY);
	assert_int_equal(listed(f, "", &l), 0);
}

static bool list_is_there(struct fixture *f)
{
	return faccessat(f->dir, "gone", F_OK, 0) == 0;
}

/* The list goes last of all. */
static void wait_removed(struct fixture *f, size_t left)
{
	int64_t deadline = clock_ms() + 60000;

	while ((files(f) != left || list_is_there(f)) && clock_ms() < deadline)
		usleep(10000);
	assert_int_equal(files(f), left);
	assert_false(list_is_there(f));
}

static void the_next_process_removes_what_is_left(void **state)
{
	struct fixture *f = *state;
	struct queue_listed l;

	fill(f);
	delete_all(f);
	stop(f);
	start(f);
	assert_int_equal(listed(f, "", &l), 0);
	wait_removed(f, 0);
}

static void without_an_index_none_comes_back(void **state)
{
	struct fixture *f = *state;
	struct queue_message kept;
	struct queue_claimed got;
	struct queue_listed l;
	char id[64];

	fill(f);
	delete_all(f);
	kept = message("kept\n");
	commit(f, &kept, id);
	stop(f);
	assert_int_equal(unlinkat(f->dir, "index.mdb", 0), 0);
	start(f);
	assert_int_equal(listed(f, "", &l), 1);
	assert_int_equal(files(f), 1);
	assert_false(list_is_there(f));
	assert_int_equal(claim(f->c, f, 5000, &got), 1);
	assert_true(str_eq(got.messages.v[0].body, STR("kept\n")));
}

static void write_list(struct fixture *f, const char *id, bool good)
{
	uint8_t record[36] = {0};
	int fd = openat(f->dir, "gone", O_WRONLY | O_CREAT | O_APPEND, 0600);

	snprintf((char *)record, 32, "%s", id);
	le32_put(record + 32, crc32c(0, record, 32) + !good);
	assert_int_equal(write(fd, record, sizeof(record)), sizeof(record));
	close(fd);
}

static void a_file_whose_message_is_there_stays(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("kept\n");
	struct queue_claimed got;
	char id[64];

	commit(f, &m, id);
	stop(f);
	write_list(f, id, true);
	write_list(f, id, false);
	start(f);
	wait_removed(f, 1);
	assert_int_equal(claim(f->c, f, 5000, &got), 1);
	assert_true(str_eq(got.messages.v[0].body, STR("kept\n")));
}

/* What a crash left half written is no name; what is behind it is written over. */
static void a_list_cut_short_is_read_as_far_as_it_goes(void **state)
{
	struct fixture *f = *state;
	int fd;

	fill(f);
	delete_all(f);
	stop(f);
	fd = openat(f->dir, "gone", O_WRONLY | O_CREAT | O_APPEND, 0600);
	assert_int_equal(write(fd, "4abcd", 5), 5);
	close(fd);
	start(f);
	wait_removed(f, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_next_process_removes_what_is_left, setup, teardown),
		cmocka_unit_test_setup_teardown(without_an_index_none_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(a_file_whose_message_is_there_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(a_list_cut_short_is_read_as_far_as_it_goes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
