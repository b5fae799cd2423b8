/* probe - which verb is tried by whom; and the single attempts, of which some end the process. See probe.h. */
#include "proc/probe.h"

#ifdef POSTRIDER_TEST

#include "base/encode.h"
#include "proc/wire.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static long try_open(const char *path)
{
	return open(path, O_RDONLY | O_CLOEXEC);
}

static long try_write(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

static long try_connect(const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((uint16_t)atoi(port)),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? fd : connect(fd, (struct sockaddr *)&a, sizeof(a));
}

static long try_exec(const char *path)
{
	return execl(path, path, NULL);
}

static long try_fork(const char *unused)
{
	long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	(void)unused;
	if (pid == 0)
		_exit(0);
	return pid;
}

static long try_ptrace(const char *pid)
{
	return ptrace(PTRACE_ATTACH, atoi(pid), 0, 0);
}

static long try_kill(const char *pid)
{
	return kill(atoi(pid), 0);
}

static long try_setuid(const char *unused)
{
	(void)unused;
	return syscall(SYS_setuid, 0);
}

static long try_code(const char *unused)
{
	(void)unused;
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
}

/* A line that claims to be another's, and bytes that a terminal would obey. */
static long try_log(const char *line)
{
	static const char clear[] = "\x1b[2Jescape\n";

	return write(4, line, strlen(line)) < 0 || write(4, "\n", 1) < 0 ? -1 : write(4, clear, sizeof(clear) - 1);
}

/* A packet to master. */
static long try_tell(const char *hex)
{
	struct buf packet;
	long sent = -1;

	buf_init(&packet, 4096);
	if (hex_decode(&packet, str_from(hex)))
		sent = send(PROC_CONTROL_FD, packet.ptr, packet.len, MSG_NOSIGNAL);
	buf_release(&packet);
	return sent;
}

static const struct {
	const char *name;
	long (*fn)(const char *arg);
} single[] = {
	{"open", try_open}, {"write", try_write},   {"connect", try_connect}, {"exec", try_exec},
	{"fork", try_fork}, {"ptrace", try_ptrace}, {"kill", try_kill},	      {"setuid", try_setuid},
	{"code", try_code}, {"log", try_log},	    {"tell", try_tell},
};

static const struct {
	const char *name;
	void (*fn)(struct str words, struct buf *out);
} batteries[] = {{"paths", probe_paths},
		 {"jail", probe_jail},
		 {"row", probe_row},
		 {"listeners", probe_listeners},
		 {"network", probe_network}};

static const struct {
	const char *name;
	void (*fn)(struct str words, struct rpc_channel *const *callees, struct buf *out);
} calls[] = {
	{"call", probe_call}, {"frame", probe_frame}, {"flood", probe_flood}, {"descriptors", probe_descriptors},
	{"blob", probe_blob},
};

void proc_probe(struct str what, struct rpc_channel *const *callees, struct buf *out)
{
	struct str name, arg;
	char *argz;

	str_split(what, ' ', &name, &arg);
	argz = str_dup(arg);
	for (size_t i = 0; i < ARRAY_SIZE(single); i++)
		if (str_eq(name, str_from(single[i].name)))
			buf_addz(out, single[i].fn(argz) < 0 ? strerrorname_np(errno) : "allowed");
	for (size_t i = 0; i < ARRAY_SIZE(batteries); i++)
		if (str_eq(name, str_from(batteries[i].name)))
			batteries[i].fn(arg, out);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if (str_eq(name, str_from(calls[i].name)))
			calls[i].fn(arg, callees, out);
	if (out->len == 0)
		buf_addz(out, "unknown probe");
	free(argz);
}

#endif
