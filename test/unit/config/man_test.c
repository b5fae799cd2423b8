#include "config/man.h"
#include "config/params.h"
#include "os/fd.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Tests run at the root of the source tree. */
static void test_the_checked_in_page_is_the_table(void **state)
{
	struct buf page;
	struct err err = ERR_NONE;
	char *file = NULL;
	int fd = open("man/main.cf.5", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	assert_true(fd_read_all(fd, 1 << 20, &file, &err) > 0);
	fd_close(&fd);
	buf_init(&page, 1 << 20);
	params_man(&page);
	if (strcmp(page.ptr, file) != 0)
		fail_msg("man/main.cf.5 is older than src/config/params.def: run make man");
	buf_release(&page);
	free(file);
}

static void test_every_parameter_is_explained(void **state)
{
	struct buf page, item;

	(void)state;
	buf_init(&page, 1 << 20);
	buf_init(&item, 1000);
	params_man(&page);
	for (size_t i = 0; i < PARAM_COUNT; i++) {
		buf_clear(&item);
		buf_addf(&item, "\n.It Cm %s No ", PARAMS[i].name);
		assert_true(str_find(buf_str(&page), buf_str(&item)) >= 0);
	}
	buf_release(&page);
	buf_release(&item);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_checked_in_page_is_the_table),
		cmocka_unit_test(test_every_parameter_is_explained),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
