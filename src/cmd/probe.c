/* postrider probe: makes a running process try what its jail forbids, and prints what came of it. Test builds only. */
#include "cmd/control.h"

#ifdef POSTRIDER_TEST

int cmd_probe(struct cmd *c)
{
	struct control_probe request = {0};
	struct proc_note reply;
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	char what[256];

	if (c->argc < 2)
		return cmd_usage(c);
	snprintf(what, sizeof(what), "%s%s%s", c->argv[1], c->argc > 2 ? " " : "", c->argc > 2 ? c->argv[2] : "");
	request.process = str_from(c->argv[0]);
	request.what = str_from(what);
	if (control_call(c->dir, &CONTROL_PROBE, &request, &reply, &hold, 20000, &err) < 0) {
		rpc_reply_release(&hold);
		return cmd_error(cmd_status_of(&err), "%s", err.text);
	}
	printf("%.*s\n", STR_ARG(reply.text));
	rpc_reply_release(&hold);
	return EX_OK;
}

#endif
