/* See journalctl.h. Its lines are read several times, and the journal is slow: what journalctl prints is kept,
 * compressed, as far as the file system of $TMPDIR has room. The program is started without a shell, and no word of its
 * command line comes from outside. */
#include "cmd/journalctl.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "os/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

extern char **environ;

#define WORDS_MAX 4096 /* of what it complains about */

struct reading {
	pid_t pid;
	int out, err; /* pipes */
	gzFile kept;
	struct buf words;
	int64_t until;
};

static int file_without_name(struct err *err)
{
	const char *dir = getenv("TMPDIR");
	int fd;

	dir = dir && *dir ? dir : "/tmp";
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		err_errno(err, "cannot keep the lines of the journal in %s", dir);
	return fd;
}

static int there_is_none(struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "", "there is no journalctl on this machine");
}

/* _COMM is what the journal itself knows of the sender, not what the sender says. */
static int begin(struct reading *r, struct err *err)
{
	static const char *const argv[] = {"journalctl", "--no-pager", "--output=short-iso", "_COMM=postrider", NULL};
	posix_spawn_file_actions_t actions;
	int out[2] = {-1, -1}, words[2] = {-1, -1}, rc;

	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(words, O_CLOEXEC) < 0) {
		err_errno(err, "cannot make a pipe");
		fd_close(&out[0]);
		fd_close(&out[1]);
		return -1;
	}
	setenv("LC_ALL", "C.UTF-8", 1); /* its sentences are looked at */
	setenv("SYSTEMD_COLORS", "0", 1);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, words[1], STDERR_FILENO);
	rc = posix_spawnp(&r->pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	fd_close(&out[1]);
	fd_close(&words[1]);
	r->out = out[0];
	r->err = words[0];
	if (rc != 0) {
		errno = rc;
		return rc == ENOENT ? there_is_none(err) : err_errno(err, "cannot run journalctl");
	}
	return 0;
}

/* Takes what one of the pipes has. */
static int take(struct reading *r, int *fd, struct err *err)
{
	char bytes[65536];
	ssize_t n = read(*fd, bytes, sizeof(bytes));

	if (n < 0 && errno != EINTR)
		return err_errno(err, "cannot read what journalctl says");
	if (n == 0) {
		fd_close(fd);
	} else if (n > 0 && fd == &r->err) {
		buf_add_str(&r->words, str_sub(str_of(bytes, (size_t)n), 0, WORDS_MAX - r->words.len));
	} else if (n > 0 && gzwrite(r->kept, bytes, (unsigned)n) != (int)n) {
		return err_set(err, ERR_FULL, "", "no room in $TMPDIR to keep the lines of the journal");
	}
	return 0;
}

static int take_all(struct reading *r, int64_t timeout_ms, struct err *err)
{
	while (r->out >= 0 || r->err >= 0) {
		struct pollfd fds[2] = {{.fd = r->out, .events = POLLIN}, {.fd = r->err, .events = POLLIN}};
		int64_t left = r->until - clock_ms();

		if (left <= 0)
			return err_set(err, ERR_TEMP, "", "journalctl has not ended within %lld s",
				       (long long)(timeout_ms / 1000));
		if (poll(fds, 2, (int)left) < 0 && errno != EINTR)
			return err_errno(err, "cannot wait for journalctl");
		if (fds[0].revents && take(r, &r->out, err) < 0)
			return -1;
		if (fds[1].revents && take(r, &r->err, err) < 0)
			return -1;
	}
	return 0;
}

/* Its last word, or that it had none. */
static int end(struct reading *r, struct err *err)
{
	struct str rest = str_trim(buf_str(&r->words)), line = STR(""), last = STR("");
	int status = 0;

	while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127) /* posix_spawn(3): known too late to be its own error */
		return there_is_none(err);
	while (str_token(&rest, "\n", &line))
		last = line;
	while (str_ends(last, STR(".")))
		last.len--;
	if (last.len == 0)
		return err_set(err, ERR_PERM, "", "journalctl failed");
	return err_set(err, ERR_PERM, "", "journalctl: %.*s", STR_ARG(str_sub(last, 0, 200)));
}

int journalctl_read(struct journalctl *j, int64_t timeout_ms, struct err *err)
{
	struct reading r = {.out = -1, .err = -1, .until = clock_ms() + timeout_ms};
	int fd = file_without_name(err), own, rc = -1;

	*j = (struct journalctl){.fd = -1};
	if (fd < 0)
		return -1;
	buf_init(&r.words, WORDS_MAX);
	own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	r.kept = own < 0 ? NULL : gzdopen(own, "wb1");
	if (r.kept == NULL) {
		err_errno(err, "cannot keep the lines of the journal");
		fd_close(&own);
	} else if (begin(&r, err) == 0) {
		rc = take_all(&r, timeout_ms, err);
		if (rc < 0)
			kill(r.pid, SIGKILL);
		rc = end(&r, rc < 0 ? NULL : err) < 0 ? -1 : rc;
	}
	if (r.kept != NULL && gzclose(r.kept) != Z_OK && rc == 0)
		rc = err_set(err, ERR_FULL, "", "no room in $TMPDIR to keep the lines of the journal");
	fd_close(&r.out);
	fd_close(&r.err);
	if (rc == 0) {
		j->partly = str_find(buf_str(&r.words), STR("not seeing messages")) >= 0;
		j->path = mem_printf("/proc/self/fd/%d", fd);
		j->fd = fd;
	} else {
		fd_close(&fd);
	}
	buf_release(&r.words);
	return rc;
}

void journalctl_release(struct journalctl *j)
{
	fd_close(&j->fd);
	free(j->path);
	j->path = NULL;
}
