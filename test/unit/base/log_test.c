/* What must hold of base/err and base/log. */
#include "base/err.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static void err_text_cannot_forge_a_line(void **state)
{
	struct err err = ERR_NONE;

	(void)state;
	assert_int_equal(err_set(&err, ERR_PERM, "5.1.1", "no user \"%s\"", "x\r\n250 ok\x7f"), -1);
	assert_string_equal(err.text, "no user \"x??250 ok?\"");
	assert_string_equal(err.code, "5.1.1");
	assert_int_equal(err_set(NULL, ERR_PERM, "5.1.1", "ignored"), -1);
	err_context(&err, "%s", "RCPT\n");
	assert_string_equal(err.text, "RCPT?: no user \"x??250 ok?\"");
	for (int i = 0; i < 100; i++)
		err_context(&err, "long context %d", i);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void err_errno_tells_a_full_disk_from_the_rest(void **state)
{
	struct err err = ERR_NONE;

	(void)state;
	errno = ENOSPC;
	err_errno(&err, "write");
	assert_int_equal(err.kind, ERR_FULL);
	assert_int_equal(err.sys, ENOSPC);
	assert_string_equal(err.text, "write: No space left on device");
	errno = EIO;
	err_errno(&err, "write");
	assert_int_equal(err.kind, ERR_TEMP);
	assert_true(err_is_temp(&err));
	err_set(&err, ERR_PERM, "", "x");
	assert_false(err_is_temp(&err));
}

static char *logged(int fd, char *line, size_t size)
{
	ssize_t n = read(fd, line, size - 1);

	assert_true(n > 0);
	line[n] = '\0';
	return line;
}

static void lines_have_postfix_form_and_one_newline(void **state)
{
	char line[8192], expect[64], big[6000];
	int pair[2];

	(void)state;
	assert_int_equal(pipe(pair), 0);
	log_init("postrider/smtpd");
	log_to_fd(pair[1]);
	log_warning("a%sb", "\r\nc");
	snprintf(expect, sizeof(expect), " postrider/smtpd[%d]: warning: a??cb\n", (int)getpid());
	assert_non_null(strstr(logged(pair[0], line, sizeof(line)), expect));
	log_as("dovecot", "imap-login: x");
	assert_non_null(strstr(logged(pair[0], line, sizeof(line)), " dovecot["));
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	log_info("%s", big);
	assert_int_equal(strlen(logged(pair[0], line, sizeof(line))), 4095);
	assert_int_equal(line[4094], '\n');
	log_debug("not seen");
	log_line(STR("Jan  1 00:00:00 h postrider/store[1]: whole"));
	assert_string_equal(logged(pair[0], line, sizeof(line)), "Jan  1 00:00:00 h postrider/store[1]: whole\n");
	log_whole_lines(STR("one\ntwo\n"));
	assert_string_equal(logged(pair[0], line, sizeof(line)), "one\ntwo\n");
	log_to_stderr();
	close(pair[0]);
	close(pair[1]);
}

static void gathered_lines_leave_in_order_and_no_write_is_longer_than_a_pipe_keeps_whole(void **state)
{
	char line[8192], *second;
	struct log_gather gather;
	int pair[2];

	(void)state;
	assert_int_equal(pipe2(pair, O_DIRECT), 0); /* a read is a write */
	log_init("postrider/smtpd");
	log_to_fd(pair[1]);
	log_gather(&gather);
	log_info("one");
	log_info("two");
	log_gathered(&gather);
	logged(pair[0], line, sizeof(line));
	second = strchr(line, '\n') + 1;
	assert_non_null(strstr(line, "]: one\n"));
	assert_non_null(strstr(second, "]: two\n"));
	assert_string_equal(strchr(second, '\n'), "\n");

	log_gather(&gather);
	for (int i = 0; i < 100; i++)
		log_info("%03d%060d", i, 0);
	log_gathered(&gather);
	for (int i = 0; i < 100;) {
		char *at = logged(pair[0], line, sizeof(line));

		assert_int_equal(at[strlen(at) - 1], '\n');
		assert_true(strlen(at) <= LOG_GATHER_MAX);
		for (at = line; *at; at = strchr(at, '\n') + 1, i++) {
			char want[24];

			snprintf(want, sizeof(want), "]: %03d000", i);
			assert_non_null(strstr(at, want));
		}
	}
	log_info("alone");
	assert_non_null(strstr(logged(pair[0], line, sizeof(line)), "]: alone\n"));
	log_to_stderr();
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(err_text_cannot_forge_a_line),
		cmocka_unit_test(err_errno_tells_a_full_disk_from_the_rest),
		cmocka_unit_test(lines_have_postfix_form_and_one_newline),
		cmocka_unit_test(gathered_lines_leave_in_order_and_no_write_is_longer_than_a_pipe_keeps_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
