/* What sendmail(1) hands on: mailq, sendmail -q, sendmail -bd. */
#include "base/mem.h"
#include "cmd/sendmail.h"

int sendmail_queue(const char *dir, const char *verb, const char *id, const char *site)
{
	char *argv[] = {mem_strdup(verb), mem_strdup(id ? id : "--destination"), mem_strdup(site ? site : ""), NULL};
	struct cmd c = {.dir = dir, .argc = id ? 2 : site ? 3 : 1, .argv = argv, .name = "queue"};
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
	free(argv[2]);
	return status;
}
