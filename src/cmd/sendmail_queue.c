/* What sendmail(1) hands on: mailq, sendmail -bd. */
#include "base/mem.h"
#include "cmd/cmd.h"
#include "cmd/sendmail.h"

int sendmail_queue(const char *dir, const char *verb)
{
	char *argv[] = {mem_strdup("queue"), mem_strdup(verb), NULL};
	bool start = strcmp(verb, "start") == 0;
	int status = cmd_do(dir, start ? 1 : 2, start ? argv + 1 : argv);

	free(argv[0]);
	free(argv[1]);
	return status;
}
