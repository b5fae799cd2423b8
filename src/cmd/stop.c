/* postrider stop: orderly; returns when everything has ended and every accepted message is safe. */
#include "cmd/control.h"

#define STOP_TIMEOUT_MS 180000

int cmd_stop(struct cmd *c)
{
	struct control_ok request = {0}, reply;
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	int result;

	if (c->argc > 0)
		return cmd_usage(c);
	result = control_call(c->dir, &CONTROL_STOP, &request, &reply, &hold, STOP_TIMEOUT_MS, &err);
	rpc_reply_release(&hold);
	if (result < 0 && err.kind != ERR_LOST) /* it may end before its answer is read */
		return cmd_error(cmd_status_of(&err), "%s", err.text);
	if (!control_wait_stopped(c->dir, STOP_TIMEOUT_MS))
		return cmd_error(EX_TEMPFAIL, "%s has not ended yet; `postrider -c %s status` tells what is left",
				 c->dir, c->dir);
	return EX_OK;
}
