/* control - a command's connection to the running master of its instance. */
#ifndef CMD_CONTROL_H
#define CMD_CONTROL_H

#include "cmd/cmd.h"
#include "proc/schema.h"

/* One call (CONTROL_* of proc/schema.h). What reply_r points at lives in `hold` until rpc_reply_release().
 * Returns 0, or -1 with err: ERR_NOT_FOUND when no master runs there. */
int control_call(const char *dir, const struct rpc_call *call, const void *request, void *reply_r,
		 struct rpc_reply *hold, int64_t timeout_ms, struct err *err) WARN_UNUSED;
/* The same over one connection, for many calls, also at once from several threads. */
struct control {
	struct rpc_channel *channel;
};
int control_begin(struct control *c, const char *dir, struct err *err) WARN_UNUSED;
int control_ask(struct control *c, const struct rpc_call *call, const void *request, void *reply_r,
		struct rpc_reply *hold, int64_t timeout_ms, struct err *err) WARN_UNUSED;
void control_end(struct control *c);
/* The pid of the running master, 0 if none runs (the lock of the pid file decides). */
int64_t control_master_pid(const char *dir);
/* Waits until no master runs. False when timeout_ms passed. */
bool control_wait_stopped(const char *dir, int64_t timeout_ms);
/* Tells a running master that the account database has changed; no error when none runs. */
void control_directory_changed(const char *dir);

#endif
