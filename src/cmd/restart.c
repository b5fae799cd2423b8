/* postrider restart: an orderly stop, then the program file as it stands now, on the same listening sockets:
 * clients that connect meanwhile wait instead of being refused. This is how an upgrade takes effect. */
#include "base/clock.h"
#include "cmd/control.h"
#include <time.h>

#define RESTART_TIMEOUT_MS 180000

/* True once a master answers that is younger than the request. */
static bool begun(const char *dir, int64_t asked_ms)
{
	struct control_ok request = {0};
	struct control_status status;
	struct rpc_reply hold;
	bool young, ready = true;

	if (control_call(dir, &CONTROL_STATUS, &request, &status, &hold, 5000, NULL) < 0) {
		rpc_reply_release(&hold);
		return false;
	}
	young = !status.stopping && (int64_t)status.uptime_s * 1000 <= clock_ms() - asked_ms;
	for (size_t i = 0; i < status.processes.n; i++)
		ready = ready && status.processes.v[i].ready;
	rpc_reply_release(&hold);
	return young && ready;
}

int cmd_restart(struct cmd *c)
{
	struct control_ok request = {0}, reply;
	struct timespec pause = {.tv_nsec = 50000000};
	int64_t asked_ms = clock_ms();
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	int result;

	if (c->argc > 0)
		return cmd_usage(c);
	result = control_call(c->dir, &CONTROL_RESTART, &request, &reply, &hold, RESTART_TIMEOUT_MS, &err);
	rpc_reply_release(&hold);
	if (result < 0 && err.kind != ERR_LOST)
		return cmd_error(err.kind == ERR_NOT_FOUND || err.kind == ERR_DENIED ? cmd_status_of(&err) : EX_CONFIG,
				 "%s", err.text);
	while (!begun(c->dir, asked_ms)) {
		if (clock_ms() - asked_ms > RESTART_TIMEOUT_MS)
			return cmd_error(EX_TEMPFAIL, "%s does not serve again yet; the log says why", c->dir);
		nanosleep(&pause, NULL);
	}
	return EX_OK;
}
