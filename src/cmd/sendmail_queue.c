/* What sendmail(1) hands on: mailq, sendmail -bd. */
#include "base/mem.h"
#include "cmd/sendmail.h"

int sendmail_queue(const char *dir, const char *verb)
{
	char *argv[] = {mem_strdup(verb), NULL};
	struct cmd c = {.dir = dir, .argc = 1, .argv = argv, .name = "queue"};
	int status;

	if (strcmp(verb, "start") == 0) {
		c.argc = 0;
		c.name = verb;
		status = cmd_start(&c);
	} else {
		status = cmd_queue(&c);
	}
	free(argv[0]);
	return status;
}
