/* control - see cmd/control.h. */
#include "cmd/control.h"
#include "base/clock.h"
#include "base/mem.h"
#include "config/instance.h"
#include "os/net.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static int connect_master(const char *dir, struct err *err)
{
	char *path = mem_printf("%s/%s", dir, INSTANCE_CONTROL);
	struct err why = ERR_NONE;
	int fd = net_connect_unix(path, &why);

	if (fd < 0 && (why.sys == ENOENT || why.sys == ECONNREFUSED))
		err_set(err, ERR_NOT_FOUND, "", "%s is not running; start it: postrider -c %s start", dir, dir);
	else if (fd < 0 && why.sys == EACCES)
		err_set(err, ERR_DENIED, "", "%s does not answer to everybody: ask as root, or as whom it belongs to",
			dir);
	else if (fd < 0 && err) {
		*err = why;
		(void)err_context(err, "cannot reach the running system");
	}
	free(path);
	return fd;
}

int control_begin(struct control *c, const char *dir, struct err *err)
{
	int fd = connect_master(dir, err);

	c->channel = NULL;
	if (fd < 0)
		return -1;
	signal(SIGPIPE, SIG_IGN);
	c->channel = rpc_channel_new("master", CONTROL_CALLS);
	rpc_channel_attach(c->channel, fd);
	return 0;
}

int control_ask(struct control *c, const struct rpc_call *call, const void *request, void *reply_r,
		struct rpc_reply *hold, int64_t timeout_ms, struct err *err)
{
	rpc_reply_init(hold);
	return rpc_call(c->channel, call, request, reply_r, hold, false, timeout_ms, err);
}

void control_end(struct control *c)
{
	if (c->channel)
		rpc_channel_free(&c->channel);
}

int control_call(const char *dir, const struct rpc_call *call, const void *request, void *reply_r,
		 struct rpc_reply *hold, int64_t timeout_ms, struct err *err)
{
	struct control c;
	int result;

	rpc_reply_init(hold);
	if (control_begin(&c, dir, err) < 0)
		return -1;
	result = control_ask(&c, call, request, reply_r, hold, timeout_ms, err);
	control_end(&c);
	return result;
}

int64_t control_master_pid(const char *dir)
{
	char *path = mem_printf("%s/%s", dir, INSTANCE_PID_FILE), text[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int64_t pid = 0;

	free(path);
	if (fd < 0)
		return 0;
	if (flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK && pread(fd, text, sizeof(text) - 1, 0) > 0)
		pid = strtoll(text, NULL, 10);
	close(fd);
	return pid;
}

bool control_wait_stopped(const char *dir, int64_t timeout_ms)
{
	int64_t until = clock_ms() + timeout_ms;
	struct timespec pause = {.tv_nsec = 20000000};

	/* The lock announces nothing when it goes. */
	while (control_master_pid(dir) != 0) {
		if (clock_ms() > until)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

void control_directory_changed(const char *dir)
{
	struct control_ok request = {0}, reply;
	struct rpc_reply hold;

	if (control_master_pid(dir) == 0)
		return;
	/* Not told is not lost: directory looks for itself every few seconds. */
	(void)!control_call(dir, &CONTROL_DIR_CHANGED, &request, &reply, &hold, 5000, NULL);
	rpc_reply_release(&hold);
}
