/* What sendmail(1) hands on: mailq, sendmail -q, sendmail -bd. */
#include "base/mem.h"
#include "cmd/sendmail.h"

int sendmail_queue(const char *dir, const char *verb, const char *id, const char *site)
{
	char *argv[] = {mem_strdup(verb), mem_strdup(id ? id : site ? site : ""), NULL};
	struct cmd c = {.dir = dir, .argc = id || site ? 2 : 1, .argv = argv, .name = "queue"};
	int status;

	if (strcmp(verb, "start") == 0) {
		c.argc = 0;
		c.name = verb;
		status = cmd_start(&c);
	} else {
		status = cmd_queue(&c);
	}
	free(argv[0]);
	free(argv[1]);
	return status;
}
