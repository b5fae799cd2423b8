/* postrider reload: the configuration and certificates are read again, and it returns when they count; no connection
 * is dropped. */
#include "cmd/control.h"

#define RELOAD_TIMEOUT_MS 60000

int cmd_reload(struct cmd *c)
{
	struct control_ok request = {0};
	struct control_reloaded reply;
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	int result;

	if (c->argc > 0)
		return cmd_usage(c);
	result = control_call(c->dir, &CONTROL_RELOAD, &request, &reply, &hold, RELOAD_TIMEOUT_MS, &err);
	result = result < 0	      ? -1
		 : reply.but.len == 0 ? EX_OK
				      : cmd_error(EX_TEMPFAIL, "reloaded, but %.*s", STR_ARG(reply.but));
	rpc_reply_release(&hold);
	if (result >= 0)
		return result;
	if (err.kind == ERR_NOT_FOUND || err.kind == ERR_DENIED)
		return cmd_error(cmd_status_of(&err), "%s", err.text);
	return cmd_error(EX_CONFIG, "not reloaded, everything stays as it was: %s", err.text);
}
