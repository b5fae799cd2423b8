/* postrider start: the system in the background. Returns once everything serves, or with the reason why not. */
#include "cmd/control.h"
#include "proc/run.h"
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the new session; never returns to the command. */
static void become_master(const char *dir, int ready_fd)
{
	int null = open("/dev/null", O_RDWR);

	if (setsid() < 0 || null < 0 || chdir("/") < 0)
		_exit(EX_OSERR);
	/* stderr stays until the log is open: what goes wrong before is told to whoever started us. */
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	close(null);
	_exit(master_run(dir, true, ready_fd));
}

int cmd_start(struct cmd *c)
{
	int ready[2], status;
	int64_t running = control_master_pid(c->dir);
	char byte;
	pid_t pid;

	if (c->argc > 0)
		return cmd_usage(c);
	if (running)
		return cmd_error(EX_UNAVAILABLE, "%s is already running (pid %lld)", c->dir, (long long)running);
	if (pipe2(ready, O_CLOEXEC) < 0 || (pid = fork()) < 0)
		return cmd_error(EX_OSERR, "cannot start a process");
	if (pid == 0) {
		close(ready[0]);
		become_master(c->dir, ready[1]);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) == 1) {
		if (!c->json)
			printf("started, pid %d\n", (int)pid);
		else
			printf("{\"pid\": %d}\n", (int)pid);
		return EX_OK;
	}
	if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
		status = 0;
	return cmd_error(WEXITSTATUS(status) ? WEXITSTATUS(status) : EX_SOFTWARE,
			 "%s did not start; the log says why: see maillog_file in %s/main.cf, or the system log",
			 c->dir, c->dir);
}
