#include "base/clock.h"
#include "cmd/journalctl.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/journalctl-test.XXXXXX";

static void tool_is(const char *script)
{
	char path[100];
	FILE *f;

	snprintf(path, sizeof(path), "%s/journalctl", directory);
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "#!/bin/sh\n%s\n", script);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, 0755), 0);
}

static void test_it_has_its_time_and_no_more(void **state)
{
	struct journalctl j;
	struct err err = ERR_NONE;
	int64_t begun = clock_ms();

	(void)state;
	tool_is("echo line; exec sleep 1000");
	assert_int_equal(journalctl_read(&j, 300, &err), -1);
	if (strstr(err.text, "has not ended within") == NULL)
		fail_msg("%s", err.text);
	assert_true(clock_ms() - begun < 60000);
	assert_int_equal(j.fd, -1);
	journalctl_release(&j);
}

static void test_what_it_prints_is_kept(void **state)
{
	struct journalctl j;
	struct err err = ERR_NONE;

	(void)state;
	tool_is("i=0; while [ $i -lt 5000 ]; do echo a line of it, $i; echo complaint >&2; i=$((i + 1)); done");
	assert_int_equal(journalctl_read(&j, 60000, &err), 0);
	assert_true(j.fd >= 0 && !j.partly);
	assert_true(lseek(j.fd, 0, SEEK_END) > 0);
	journalctl_release(&j);
	tool_is("echo 'Hint: You are currently not seeing messages from other users and the system.' >&2");
	assert_int_equal(journalctl_read(&j, 60000, &err), 0);
	assert_true(j.partly);
	journalctl_release(&j);
}

static void test_one_that_is_not_there_is_said(void **state)
{
	struct journalctl j;
	struct err err = ERR_NONE;

	(void)state;
	setenv("PATH", "/nonexistent", 1);
	assert_int_equal(journalctl_read(&j, 1000, &err), -1);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
	assert_string_equal(err.text, "there is no journalctl on this machine");
	journalctl_release(&j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_has_its_time_and_no_more),
		cmocka_unit_test(test_what_it_prints_is_kept),
		cmocka_unit_test(test_one_that_is_not_there_is_said),
	};
	char path[4096];
	int failed;

	if (mkdtemp(directory) == NULL)
		return 1;
	snprintf(path, sizeof(path), "%s:%s", directory, getenv("PATH"));
	setenv("PATH", path, 1);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(path, sizeof(path), "%s/journalctl", directory);
	unlink(path);
	rmdir(directory);
	return failed;
}
