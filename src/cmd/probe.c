/* postrider probe: makes a running process try what its jail forbids, and prints what came of it. Test builds only. */
#include "cmd/control.h"

#ifdef POSTRIDER_TEST

int cmd_probe(struct cmd *c)
{
	struct control_probe request = {0};
	struct proc_note reply;
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	struct buf what;
	int status;

	if (c->argc < 2)
		return cmd_usage(c);
	buf_init(&what, 60000);
	for (int i = 1; i < c->argc; i++)
		buf_addf(&what, "%s%s", i > 1 ? " " : "", c->argv[i]);
	request.process = str_from(c->argv[0]);
	request.what = buf_str(&what);
	if (control_call(c->dir, &CONTROL_PROBE, &request, &reply, &hold, 120000, &err) < 0) {
		status = cmd_error(cmd_status_of(&err), "%s", err.text);
	} else {
		printf("%.*s\n", STR_ARG(reply.text));
		status = EX_OK;
	}
	rpc_reply_release(&hold);
	buf_release(&what);
	return status;
}

#endif
