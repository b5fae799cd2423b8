/* probe_jail - what the kernel must refuse to a process of ours, tried from inside. Calls are made by number, so that
 * no library stands between. What kills the process at once is not here: test/unit/os/sandbox_calls_test.c. */
#include "proc/probe.h"

#ifdef POSTRIDER_TEST

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FDS_END 4096

struct battery {
	struct buf *out;
	bool hidden;
	unsigned tried;
};

/* Refused by the jail: EPERM by seccomp, EACCES by Landlock or permissions, ENOENT where a chroot hides it. Nobody
 * writes a directory: EISDIR comes before the question who asks. */
static void judge(struct battery *b, const char *what, const char *which, long result)
{
	b->tried++;
	if (result < 0 && (errno == EPERM || errno == EACCES || errno == EISDIR ||
			   ((errno == ENOENT || errno == ENOTDIR) && b->hidden)))
		return;
	if (result >= 0)
		buf_addf(b->out, "allowed %s %s\n", what, which);
	else
		buf_addf(b->out, "%s %s %s\n", strerrorname_np(errno), what, which);
}

static void judge_open(struct battery *b, const char *what, const char *which, long fd)
{
	judge(b, what, which, fd);
	if (fd >= 0)
		close((int)fd);
}

/* ---- paths ---- */

static void try_to_change(struct battery *b, const char *path)
{
	static const struct timespec times[2];
	char other[512];

	snprintf(other, sizeof(other), "%s.probe", path);
	judge(b, "mkdir", path, syscall(SYS_mkdirat, AT_FDCWD, other, 0700));
	judge(b, "rename", path, syscall(SYS_renameat, AT_FDCWD, path, AT_FDCWD, other));
	judge(b, "rename over", path, syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, other, 2));
	judge(b, "link", path, syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, other, 0));
	judge(b, "symlink", path, syscall(SYS_symlinkat, "/etc/passwd", AT_FDCWD, other));
	judge(b, "unlink", path, syscall(SYS_unlinkat, AT_FDCWD, path, 0));
	judge(b, "rmdir", path, syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
	judge(b, "truncate", path, syscall(SYS_truncate, path, 0));
	judge(b, "chmod", path, syscall(SYS_chmod, path, 0777));
	judge(b, "fchmodat", path, syscall(SYS_fchmodat, AT_FDCWD, path, 0777));
	judge(b, "chown", path, syscall(SYS_fchownat, AT_FDCWD, path, getuid(), getgid(), 0));
	judge(b, "utimes", path, syscall(SYS_utimensat, AT_FDCWD, path, times, 0));
	judge(b, "setxattr", path, syscall(SYS_setxattr, path, "user.probe", "x", 1, 0));
}

/* As far as one can find out from inside: what is none says ENOTDIR. */
static bool is_directory(int fd)
{
	int dot = (int)syscall(SYS_openat, fd, ".", O_PATH | O_CLOEXEC);

	if (dot >= 0)
		close(dot);
	return dot >= 0;
}

static void try_path(struct battery *b, const char *path)
{
	char up[600];

	judge_open(b, "read", path, syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	judge_open(b, "append", path,
		   syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC));
	judge_open(b, "update", path, syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_NONBLOCK | O_CLOEXEC));
	/* From every directory that is open, upwards: past the chroot. */
	snprintf(up, sizeof(up), "../../../../../../../../../../../..%s", path);
	for (int fd = 0; fd < FDS_END; fd++) {
		if (syscall(SYS_fcntl, fd, F_GETFD) < 0 || !is_directory(fd))
			continue;
		judge_open(b, "read upwards", path, syscall(SYS_openat, fd, up, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
		judge_open(b, "write upwards", path, syscall(SYS_openat, fd, up, O_WRONLY | O_NONBLOCK | O_CLOEXEC));
	}
	/* The machine's own files are left alone, should the jail leak. */
	if (!str_starts(str_from(path), STR("/etc/")) && !str_starts(str_from(path), STR("/dev/")) &&
	    !str_starts(str_from(path), STR("/proc/")) && !str_starts(str_from(path), STR("/sys/")))
		try_to_change(b, path);
}

/* ---- other processes ---- */

static void try_process(struct battery *b, const char *pid)
{
	int p = atoi(pid);
	siginfo_t info = {.si_code = -60};
	struct rlimit limit;

	judge(b, "kill", pid, syscall(SYS_kill, p, 0));
	judge(b, "tkill", pid, syscall(SYS_tkill, p, 0));
	judge(b, "tgkill", pid, syscall(SYS_tgkill, p, p, 0));
	judge(b, "sigqueue", pid, syscall(SYS_rt_sigqueueinfo, p, SIGUSR1, &info));
	judge(b, "prlimit", pid, syscall(SYS_prlimit64, p, RLIMIT_NOFILE, NULL, &limit));
	judge(b, "priority", pid, syscall(SYS_setpriority, PRIO_PROCESS, p, 10));
	judge(b, "affinity", pid, syscall(SYS_sched_setaffinity, p, 8, "\1\0\0\0\0\0\0\0"));
	judge(b, "scheduler", pid, syscall(SYS_sched_setscheduler, p, SCHED_OTHER, &(struct sched_param){0}));
	judge(b, "session", pid, syscall(SYS_getsid, p));
	for (int fd = 0; fd < 24; fd++) {
		char name[64];

		judge(b, "owner of signals", pid, syscall(SYS_fcntl, fd, F_SETOWN, p));
		/* What is behind such a link has no path that Landlock could judge. */
		snprintf(name, sizeof(name), "/proc/%s/fd/%d", pid, fd);
		judge_open(b, "open of another", name, syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_NONBLOCK));
		judge_open(b, "read of another", name, syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_NONBLOCK));
	}
}

/* ---- sockets ---- */

static void try_sockets(struct battery *b, const char *port, const char *control)
{
	static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET};
	struct sockaddr_in in = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)atoi(port)),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un un = {.sun_family = AF_UNIX}, abstract = {.sun_family = AF_UNIX};
	int pair[2];
	char name[32];

	for (int family = 0; family < 46; family++)
		for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
			snprintf(name, sizeof(name), "%d,%d", family, types[t]);
			judge_open(b, "socket", name, syscall(SYS_socket, family, types[t], 0));
		}
	judge(b, "socketpair", "", syscall(SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, pair));
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", control);
	memcpy(abstract.sun_path + 1, "probe", 5);
	for (int fd = 0; fd < 32; fd++) {
		snprintf(name, sizeof(name), "%d", fd);
		judge(b, "connect", name, syscall(SYS_connect, fd, &in, sizeof(in)));
		judge(b, "connect control", name, syscall(SYS_connect, fd, &un, sizeof(un)));
		judge(b, "connect abstract", name, syscall(SYS_connect, fd, &abstract, 8));
		judge(b, "bind", name, syscall(SYS_bind, fd, &in, sizeof(in)));
		judge(b, "listen", name, syscall(SYS_listen, fd, 1));
		judge(b, "fast open", name, syscall(SYS_sendto, fd, "x", 1, MSG_FASTOPEN, &in, sizeof(in)));
	}
}

/* With sockets of its own making, where the jail lets it make any. */
void probe_network(struct str words, struct buf *out)
{
	struct battery b = {.out = out};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct str port;
	uint32_t number;
	int fd;

	while (str_token(&words, " ", &port) && str_to_u32(port, &number)) {
		char name[32];

		snprintf(name, sizeof(name), "%u", number);
		in.sin_port = htons((uint16_t)number);
		fd = (int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
		judge(&b, "connect to port", name, syscall(SYS_connect, fd, &in, sizeof(in)));
		close(fd);
		fd = (int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
		in.sin_port = htons((uint16_t)(number ^ 1));
		judge(&b, "bind to port", "", syscall(SYS_bind, fd, &in, sizeof(in)));
		judge(&b, "listen", "", syscall(SYS_listen, fd, 1));
		judge(&b, "accept", "", syscall(SYS_accept4, fd, NULL, NULL, 0));
		judge(&b, "bind to device", "", syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
		judge(&b, "mark", "", syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_MARK, &number, sizeof(number)));
		close(fd);
	}
	buf_addf(out, "tried %u", b.tried);
}

/* ---- descriptors that are open ---- */

static void try_descriptor(struct battery *b, int fd)
{
	char name[64], c = 'x';
	long flags = syscall(SYS_fcntl, fd, F_GETFL);

	snprintf(name, sizeof(name), "%d", fd);
	judge(b, "fchmod", name, syscall(SYS_fchmod, fd, 0777));
	judge(b, "fchown", name, syscall(SYS_fchown, fd, getuid(), getgid()));
	judge(b, "setsig", name, syscall(SYS_fcntl, fd, F_SETSIG, SIGKILL));
	judge(b, "lease", name, syscall(SYS_fcntl, fd, F_SETLEASE, F_RDLCK));
	judge(b, "notify", name, syscall(SYS_fcntl, fd, F_NOTIFY, 1));
	judge(b, "pipe size", name, syscall(SYS_fcntl, fd, F_SETPIPE_SZ, 4096));
	judge(b, "TIOCSTI", name, syscall(SYS_ioctl, fd, TIOCSTI, &c));
	judge(b, "TIOCSCTTY", name, syscall(SYS_ioctl, fd, TIOCSCTTY, 1));
	judge(b, "FIOSETOWN", name, syscall(SYS_ioctl, fd, FIOSETOWN, &fd));
	judge(b, "filter", name, syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, &c, 1));
	judge(b, "executable", name, syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0));
	/* Its own pipes, without a chroot, through /proc: nothing that it has not already. Files: as their paths say.
	 */
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	if (b->hidden || !is_directory(AT_FDCWD))
		judge_open(b, "open again", name, syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_NONBLOCK));
	/* F_SETFL changes no access mode. */
	(void)!syscall(SYS_fcntl, fd, F_SETFL, flags | O_RDWR);
	if ((syscall(SYS_fcntl, fd, F_GETFL) & O_ACCMODE) != (flags & O_ACCMODE))
		buf_addf(b->out, "allowed widen %d\n", fd);
}

/* ---- what is left of the system ---- */

static void try_to_make_code(struct battery *b)
{
	static char page[8192] __attribute__((aligned(4096)));
	int fd = (int)syscall(SYS_memfd_create, "probe", 0);

	judge(b, "mmap exec", "",
	      syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	judge(b, "mprotect exec", "", syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC));
	judge(b, "pkey_mprotect exec", "", syscall(SYS_pkey_mprotect, page, 4096, PROT_EXEC, -1));
	judge(b, "shm exec", "", syscall(SYS_shmget, 0, 4096, 01700));
	if (fd < 0)
		return;
	judge(b, "memfd exec", "", syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0));
	close(fd);
}

static void try_processes(struct battery *b)
{
	long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	judge(b, "clone", "", pid);
	pid = syscall(SYS_fork);
	if (pid == 0)
		_exit(0);
	judge(b, "fork", "", pid);
	judge(b, "clone userns", "", syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0));
	judge(b, "setsid", "", syscall(SYS_setsid));
	judge(b, "setpgid", "", syscall(SYS_setpgid, 0, getppid()));
}

static void try_limits(struct battery *b)
{
	struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};
	static const int limits[] = {RLIMIT_CORE,  RLIMIT_NOFILE,  RLIMIT_FSIZE,
				     RLIMIT_NPROC, RLIMIT_MEMLOCK, RLIMIT_NICE};
	char name[32];

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		snprintf(name, sizeof(name), "%d", limits[i]);
		judge(b, "setrlimit", name, syscall(SYS_setrlimit, limits[i], &most));
		judge(b, "prlimit", name, syscall(SYS_prlimit64, 0, limits[i], &most, NULL));
	}
	judge(b, "nice", "", syscall(SYS_setpriority, PRIO_PROCESS, 0, -5));
	judge(b, "ioprio", "", syscall(SYS_ioprio_set, 1, 0, 1 << 13));
	judge(b, "scheduler", "", syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &(struct sched_param){1}));
	judge(b, "mlock", "", syscall(SYS_mlockall, 1));
}

static void try_to_leave(struct battery *b)
{
	judge(b, "dumpable", "", syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0));
	judge(b, "no_new_privs", "", syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
	judge(b, "ptracer", "", syscall(SYS_prctl, PR_SET_PTRACER, -1L, 0, 0, 0));
	judge(b, "keepcaps", "", syscall(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0));
	judge(b, "securebits", "", syscall(SYS_prctl, PR_SET_SECUREBITS, 0, 0, 0, 0));
	judge(b, "subreaper", "", syscall(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
	judge(b, "seccomp", "", syscall(SYS_seccomp, 0, 0, NULL));
	judge(b, "chdir", "", syscall(SYS_chdir, "/etc"));
	judge(b, "syslog", "", syscall(SYS_syslog, 3, NULL, 0));
	judge(b, "quotactl", "", syscall(SYS_quotactl, 0, NULL, 0, NULL));
	judge(b, "fanotify", "", syscall(SYS_fanotify_init, 0, 0));
	judge(b, "mq_open", "", syscall(SYS_mq_open, "probe", O_CREAT | O_RDWR, 0600, NULL));
	judge(b, "msgget", "", syscall(SYS_msgget, 0, 01600));
	judge(b, "semget", "", syscall(SYS_semget, 0, 1, 01600));
	judge(b, "timer_create", "", syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, NULL));
	judge(b, "vmsplice", "", syscall(SYS_vmsplice, 1, NULL, 0, 0));
	judge(b, "splice", "", syscall(SYS_splice, 0, NULL, 1, NULL, 1, 0));
	judge(b, "adjtimex", "", syscall(SYS_adjtimex, NULL));
	judge(b, "vhangup", "", syscall(SYS_vhangup));
	judge(b, "getpgid", "", syscall(SYS_getpgid, getppid()));
	judge(b, "migrate", "", syscall(SYS_move_pages, getppid(), 0, NULL, NULL, NULL, 0));
}

/* ---- the words of the tester ---- */

static struct str word(struct str words, struct str key)
{
	struct str token, name, value;

	while (str_token(&words, " ", &token))
		if (str_split(token, '=', &name, &value) && str_eq(name, key))
			return value;
	return STR("");
}

static void for_each(struct battery *b, struct str list, void (*fn)(struct battery *b, const char *item))
{
	struct str item;

	while (str_token(&list, "|", &item)) {
		char *z = str_dup(item);

		fn(b, z);
		free(z);
	}
}

void probe_paths(struct str words, struct buf *out)
{
	struct battery b = {.out = out, .hidden = str_eq(word(words, STR("hidden")), STR("1"))};

	for_each(&b, word(words, STR("out")), try_path);
	buf_addf(out, "tried %u", b.tried);
}

void probe_jail(struct str words, struct buf *out)
{
	struct battery b = {.out = out, .hidden = str_eq(word(words, STR("hidden")), STR("1"))};
	char *port = str_dup(word(words, STR("port"))), *control = str_dup(word(words, STR("control")));
	unsigned open_fds = 0;

	for_each(&b, word(words, STR("pids")), try_process);
	b.hidden = false;
	try_sockets(&b, port, control);
	b.hidden = str_eq(word(words, STR("hidden")), STR("1"));
	for (int fd = 0; fd < FDS_END; fd++)
		if (syscall(SYS_fcntl, fd, F_GETFD) >= 0) {
			try_descriptor(&b, fd);
			open_fds++;
		}
	b.hidden = false;
	try_to_make_code(&b);
	try_processes(&b);
	try_limits(&b);
	try_to_leave(&b);
	buf_addf(out, "tried %u, descriptors %u", b.tried, open_fds);
	free(port);
	free(control);
}

/* ---- its own row ---- */

static void tell(struct buf *out, const char *what, long result)
{
	buf_addf(out, "%s %s\n", what, result >= 0 ? "allowed" : strerrorname_np(errno));
}

/* path: a directory of the process's own, as it sees it, or a number: a descriptor of it. */
void probe_row(struct str path, struct buf *out)
{
	char *name = str_dup(path);
	int dir = AT_FDCWD, fd;
	uint32_t number;

	if (str_to_u32(path, &number))
		dir = (int)number;
	else
		dir = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = (int)syscall(SYS_openat, dir, "probe", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	tell(out, "create", fd);
	if (fd >= 0)
		close(fd);
	tell(out, "mkdir", syscall(SYS_mkdirat, dir, "probe.d", 0700));
	tell(out, "rename", syscall(SYS_renameat, dir, "probe", dir, "probe.2"));
	tell(out, "symlink", syscall(SYS_symlinkat, "/etc/passwd", dir, "probe.l"));
	tell(out, "chmod", syscall(SYS_fchmodat, dir, "probe.2", 0777));
	tell(out, "chown", syscall(SYS_fchownat, dir, "probe.2", getuid(), getgid(), 0));
	tell(out, "setxattr", syscall(SYS_setxattr, "probe.2", "user.probe", "x", 1, 0));
	tell(out, "unlink", syscall(SYS_unlinkat, dir, "probe.2", 0));
	tell(out, "rmdir", syscall(SYS_unlinkat, dir, "probe.d", AT_REMOVEDIR));
	if (dir >= 0 && dir != (int)number)
		close(dir);
	free(name);
}

/* ---- listening sockets ---- */

void probe_listeners(struct str port, struct buf *out)
{
	char *z = str_dup(port);
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(z)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	unsigned found = 0;

	free(z);
	for (int fd = 5; fd < FDS_END; fd++) {
		struct sockaddr_in at;
		socklen_t len = sizeof(at);

		if (getsockname(fd, (struct sockaddr *)&at, &len) < 0 || at.sin_family != AF_INET)
			continue;
		found++;
		(void)!shutdown(fd, SHUT_RD);
		if (sendto(fd, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&to, sizeof(to)) >= 0 || errno != EPERM)
			buf_addf(out, "allowed fast open %s\n", strerrorname_np(errno));
		if (listen(fd, 1) >= 0 || errno != EPERM)
			buf_addf(out, "allowed listen\n");
	}
	buf_addf(out, "listeners %u", found);
}

#endif
