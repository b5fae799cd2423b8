/* master_log - the log's file belongs to master alone, so that it can be rotated and no jail needs it. */
#include "base/log.h"
#include "base/mem.h"
#include "os/fd.h"
#include "proc/master.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens the file, with the directory it is in. */
static int open_file(const char *path, struct err *err)
{
	char *slash = strrchr(path, '/'), *dir = slash ? str_dup(str_of(path, (size_t)(slash - path))) : NULL;
	int fd;

	if (dir && *dir)
		mkdir(dir, 0755);
	free(dir);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
	if (fd < 0)
		err_errno(err, "maillog_file: cannot open %s", path);
	return fd;
}

int master_log_open(struct master *m, const struct conf *conf, struct err *err)
{
	char *path = str_dup(conf->maillog_file);
	int fd = -1, result = 0;

	if (*path == '\0' && m->detached)
		log_to_syslog();
	else if (*path == '\0' || strcmp(path, "/dev/stderr") == 0)
		log_to_stderr();
	else if (strcmp(path, "/dev/stdout") == 0)
		log_to_fd(STDOUT_FILENO);
	else if ((fd = open_file(path, err)) >= 0)
		log_to_fd(fd);
	else
		result = -1;
	if (result == 0) {
		fd_close(&m->log_fd);
		m->log_fd = fd;
	}
	free(path);
	return result;
}
