/* A log that strangers had a say in, read by an administrator's command: it ends, and prints nothing that a terminal
 * obeys. The first byte chooses what is asked for, and JSON.
 *
 * Covers: src/cmd/trace.c */
#include "base/fatal.h"
#include "base/log.h"
#include "base/utf8.h"
#include "cmd/cmd.h"
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int in = -1, out = -1;

static void start(void)
{
	in = memfd_create("in", MFD_CLOEXEC);
	out = memfd_create("out", MFD_CLOEXEC);
	invariant(in >= 0 && out >= 0 && dup2(out, STDOUT_FILENO) >= 0);
	stderr = fopen("/dev/null", "w"); /* not the descriptor, which sanitizers need */
	invariant(stderr != NULL);
}

static void check_output(void)
{
	char text[1 << 16];
	ssize_t n;

	fflush(stdout);
	n = pread(out, text, sizeof(text), 0);
	for (ssize_t i = 0; i < n; i++)
		if (text[i] == '\n')
			text[i] = ' ';
	invariant(n <= 0 || !utf8_has_control(str_of(text, (size_t)n)));
	invariant(ftruncate(out, 0) == 0 && lseek(out, 0, SEEK_SET) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const wanted[] = {"4jYQYy2MqFz6wvK1", "alice@example.test"};
	char path[64];
	char *argv[] = {(char *)(uintptr_t) "--log", path, NULL, NULL};
	struct cmd c = {.dir = "/nonexistent", .argc = 3, .argv = argv, .name = "trace"};

	if (in < 0)
		start();
	if (size < 1)
		return 0;
	c.json = data[0] & 1;
	argv[2] = (char *)(uintptr_t)wanted[data[0] >> 1 & 1];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", in);
	invariant(ftruncate(in, 0) == 0 && pwrite(in, data + 1, size - 1, 0) == (ssize_t)(size - 1));
	(void)!cmd_trace(&c);
	if (!c.json)
		check_output();
	else
		invariant(fflush(stdout) == 0 && ftruncate(out, 0) == 0 && lseek(out, 0, SEEK_SET) == 0);
	return 0;
}
