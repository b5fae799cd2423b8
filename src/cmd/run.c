/* postrider run: the system in the foreground, until Ctrl-C. */
#include "proc/run.h"
#include "cmd/cmd.h"

int cmd_run(struct cmd *c)
{
	bool detached = false;

	for (int i = 0; i < c->argc; i++) {
		if (strcmp(c->argv[i], "--detached") != 0)
			return cmd_usage(c);
		detached = true;
	}
	return master_run(c->dir, detached, -1);
}
