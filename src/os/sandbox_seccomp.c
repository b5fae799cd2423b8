/* sandbox_seccomp - which system calls a process may make (seccomp(2), by libseccomp).
 *
 * Three answers: allowed; killed, for calls that only an intruder makes; EPERM, for everything else, so that
 * a library that tries something optional goes on without it. What is allowed is what a load was seen to use
 * (strace of the whole test suite, each process by itself), and what libc does in its place on a bad day; doc/jails.md
 * has the list a process. Names are not addresses: calls that take a path are allowed only with SANDBOX_FILES and
 * SANDBOX_DATABASE, where Landlock decides which paths. What Landlock cannot decide (mode, owner, times and links of
 * a path) has no call here. */
#include "base/fatal.h"
#include "os/fd.h"
#include "os/sandbox_private.h"
#include <asm/ioctls.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

/* A sock_fprog counts in 16 bits. */
#define PROGRAM_MAX (65535 * sizeof(struct sock_filter))

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

/* Every process: memory, threads, time, its channels. */
static const int allowed_always[] = {
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(close),
	SCMP_SYS(lseek),
	SCMP_SYS(fstat),
	SCMP_SYS(eventfd2),
	/* channels: descriptors come with the messages */
	SCMP_SYS(recvmsg),
	SCMP_SYS(shutdown),
	/* waiting */
	SCMP_SYS(poll),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(restart_syscall),
	/* memory */
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	/* threads, and what libc does when one begins, ends or aborts */
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	/* about ourselves */
	SCMP_SYS(getrandom),
	SCMP_SYS(sysinfo),
#ifdef SANITIZED
	SCMP_SYS(sigaltstack),
	SCMP_SYS(sched_yield),
	SCMP_SYS(getrlimit),
	SCMP_SYS(getppid),
#endif
};

/* Those who speak with the network: connections that come over the listening sockets they were given. */
static const int allowed_accept[] = {
	SCMP_SYS(accept4),     SCMP_SYS(recvfrom),	 SCMP_SYS(getpeername),
	SCMP_SYS(getsockname), SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime),
};

/* Those who own directories, and open what is in them from their descriptors. */
static const int allowed_files[] = {
	SCMP_SYS(openat),  SCMP_SYS(newfstatat), SCMP_SYS(getdents64),	 SCMP_SYS(fchdir),
	SCMP_SYS(mkdirat), SCMP_SYS(unlinkat),	 SCMP_SYS(renameat),	 SCMP_SYS(linkat),
	SCMP_SYS(flock),   SCMP_SYS(fsync),	 SCMP_SYS(fdatasync),	 SCMP_SYS(syncfs),
	SCMP_SYS(fstatfs), SCMP_SYS(ftruncate),	 SCMP_SYS(fallocate),	 SCMP_SYS(copy_file_range),
	SCMP_SYS(pwritev), SCMP_SYS(uname),	 SCMP_SYS(memfd_create),
};

/* A database that is opened by name, with the files that SQLite puts beside it. */
static const int allowed_database[] = {
	SCMP_SYS(openat),    SCMP_SYS(newfstatat), SCMP_SYS(access),	SCMP_SYS(readlink), SCMP_SYS(unlink),
	SCMP_SYS(ftruncate), SCMP_SYS(fsync),	   SCMP_SYS(fdatasync), SCMP_SYS(geteuid),
};

static const int allowed_watch[] = {SCMP_SYS(inotify_init1), SCMP_SYS(inotify_add_watch), SCMP_SYS(inotify_rm_watch)};

/* Questions to DNS servers, by libunbound and libevent. No listen: what is bound is a UDP port, or leads nowhere. */
static const int allowed_resolve[] = {SCMP_SYS(recvfrom), SCMP_SYS(getsockopt), SCMP_SYS(pipe2)};

static const int allowed_curl[] = {SCMP_SYS(recvfrom), SCMP_SYS(getsockname), SCMP_SYS(getpeername)};

static const int killed[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(kcmp),
	SCMP_SYS(pidfd_open),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(pidfd_send_signal),
	SCMP_SYS(process_madvise),
	SCMP_SYS(bpf),
	SCMP_SYS(keyctl),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(move_mount),
	SCMP_SYS(open_tree),
	SCMP_SYS(fsopen),
	SCMP_SYS(fsmount),
	SCMP_SYS(fsconfig),
	SCMP_SYS(mount_setattr),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(unshare),
	SCMP_SYS(setns),
	SCMP_SYS(setuid),
	SCMP_SYS(setgid),
	SCMP_SYS(setreuid),
	SCMP_SYS(setregid),
	SCMP_SYS(setresuid),
	SCMP_SYS(setresgid),
	SCMP_SYS(setgroups),
	SCMP_SYS(setfsuid),
	SCMP_SYS(setfsgid),
	SCMP_SYS(capset),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(reboot),
	SCMP_SYS(swapon),
	SCMP_SYS(swapoff),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(name_to_handle_at),
	SCMP_SYS(personality),
	SCMP_SYS(modify_ldt),
	SCMP_SYS(mknod),
	SCMP_SYS(mknodat),
	SCMP_SYS(iopl),
	SCMP_SYS(ioperm),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(io_uring_register),
	SCMP_SYS(settimeofday),
	SCMP_SYS(clock_settime),
	SCMP_SYS(sethostname),
	SCMP_SYS(acct),
};

/* A call that this machine does not have needs no rule. */
static int ignore_unknown(int result)
{
	return result == -EDOM || result == -EFAULT ? 0 : result;
}

static int add_list(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t count)
{
	int result = 0;

	for (size_t i = 0; i < count && result == 0; i++)
		if (calls[i] != __NR_SCMP_ERROR)
			result = ignore_unknown(seccomp_rule_add(filter, action, calls[i], 0));
	return result;
}

/* One argument compared; for calls where the name says too little. */
static int add_if(scmp_filter_ctx filter, int call, unsigned arg, enum scmp_compare op, uint64_t a, uint64_t b)
{
	struct scmp_arg_cmp compare = {.arg = arg, .op = op, .datum_a = a, .datum_b = b};

	return ignore_unknown(seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, 1, &compare));
}

/* Two arguments with these values. */
static int add_if_both(scmp_filter_ctx filter, int call, unsigned arg, uint64_t a, unsigned arg2, uint64_t a2)
{
	struct scmp_arg_cmp compare[] = {{.arg = arg, .op = SCMP_CMP_EQ, .datum_a = a},
					 {.arg = arg2, .op = SCMP_CMP_EQ, .datum_a = a2}};

	return ignore_unknown(seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, 2, compare));
}

#define TRY(call)                                                                                                      \
	do {                                                                                                           \
		int result_ = (call);                                                                                  \
		if (result_ < 0)                                                                                       \
			return result_;                                                                                \
	} while (0)

/* Not F_SETOWN and F_SETSIG, which send signals to others, nor leases and notifications. */
static int add_fcntl(scmp_filter_ctx filter, unsigned allow)
{
	static const uint64_t always[] = {F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL};
	static const uint64_t files[] = {F_ADD_SEALS, F_GETLK, F_SETLK, F_SETLKW};

	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		TRY(add_if(filter, SCMP_SYS(fcntl), 1, SCMP_CMP_EQ, always[i], 0));
	for (size_t i = 0; i < ARRAY_SIZE(files) && (allow & (SANDBOX_FILES | SANDBOX_DATABASE)); i++)
		TRY(add_if(filter, SCMP_SYS(fcntl), 1, SCMP_CMP_EQ, files[i], 0));
	return 0;
}

static int add_memory(scmp_filter_ctx filter)
{
	/* Nothing becomes executable any more. */
	TRY(add_if(filter, SCMP_SYS(mmap), 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	return add_if(filter, SCMP_SYS(mprotect), 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
}

static int add_threads(scmp_filter_ctx filter)
{
	static const uint64_t thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
				       CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;

	/* Threads as libc makes them, and no process. clone3 hides its flags behind a pointer: libc falls back to
	 * clone. */
	TRY(add_if(filter, SCMP_SYS(clone), 0, SCMP_CMP_EQ, thread, 0));
	TRY(ignore_unknown(seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0)));
	/* Signals only to ourselves: abort(). */
	TRY(add_if(filter, SCMP_SYS(tgkill), 0, SCMP_CMP_EQ, (uint64_t)getpid(), 0));
	TRY(add_if(filter, SCMP_SYS(prctl), 0, SCMP_CMP_EQ, PR_SET_NAME, 0));
	/* Limits are looked at, never set. */
	return add_if_both(filter, SCMP_SYS(prlimit64), 0, 0, 2, 0);
}

static int add_sockets(scmp_filter_ctx filter, unsigned allow)
{
	static const uint64_t times[] = {SO_RCVTIMEO, SO_SNDTIMEO};
	/* On a listening socket these two would outlive us: engine_listen() sets them back. */
	static const uint64_t ends[] = {SO_LINGER, SO_RCVLOWAT};

	/* MSG_FASTOPEN is a connect() in disguise: on a listening socket that was shut down it leads anywhere. */
	TRY(add_if(filter, SCMP_SYS(sendmsg), 2, SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, 0));
	/* Nor filters, marks and what else an option does to a socket that master shares with our successor. */
	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		TRY(add_if_both(filter, SCMP_SYS(setsockopt), 1, SOL_SOCKET, 2, times[i]));
	if (!(allow & SANDBOX_ACCEPT))
		return 0;
	TRY(add_if(filter, SCMP_SYS(sendto), 3, SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, 0));
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		TRY(add_if_both(filter, SCMP_SYS(setsockopt), 1, SOL_SOCKET, 2, ends[i]));
	/* Who is at the other end of a UNIX socket. */
	TRY(add_if_both(filter, SCMP_SYS(getsockopt), 1, SOL_SOCKET, 2, SO_PEERCRED));
	return add_if_both(filter, SCMP_SYS(setsockopt), 1, IPPROTO_TCP, 2, TCP_NODELAY);
}

/* UDP and TCP, whatever flags come with the type. */
static int add_inet_sockets(scmp_filter_ctx filter)
{
	static const struct {
		uint64_t type, protocol;
	} kinds[] = {{SOCK_DGRAM, 0}, {SOCK_DGRAM, IPPROTO_UDP}, {SOCK_STREAM, 0}, {SOCK_STREAM, IPPROTO_TCP}};
	static const uint64_t families[] = {AF_INET, AF_INET6}, flags = SOCK_CLOEXEC | SOCK_NONBLOCK;

	for (size_t i = 0; i < ARRAY_SIZE(families) * ARRAY_SIZE(kinds); i++) {
		const size_t k = i % ARRAY_SIZE(kinds);
		struct scmp_arg_cmp compare[] = {
			{.arg = 0, .op = SCMP_CMP_EQ, .datum_a = families[i / ARRAY_SIZE(kinds)]},
			{.arg = 1, .op = SCMP_CMP_MASKED_EQ, .datum_a = ~flags, .datum_b = kinds[k].type},
			{.arg = 2, .op = SCMP_CMP_EQ, .datum_a = kinds[k].protocol}};

		TRY(ignore_unknown(seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 3, compare)));
	}
	return 0;
}

/* What libunbound sets on the sockets it makes. */
static int add_resolve(scmp_filter_ctx filter)
{
	/* libunbound tries it first, and goes on without it when told that there is none. */
	static const struct scmp_arg_cmp fast_open = {
		.arg = 2, .op = SCMP_CMP_MASKED_EQ, .datum_a = MSG_FASTOPEN, .datum_b = MSG_FASTOPEN};
	static const struct {
		uint64_t level, option;
	} options[] = {
		{SOL_SOCKET, SO_REUSEADDR},
		{SOL_SOCKET, SO_RCVBUF},
		{SOL_SOCKET, SO_SNDBUF},
		{IPPROTO_IP, IP_MTU_DISCOVER},
		{IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT},
		{IPPROTO_IPV6, IPV6_V6ONLY},
		{IPPROTO_IPV6, IPV6_MTU_DISCOVER},
		{IPPROTO_IPV6, IPV6_UNICAST_HOPS},
		{IPPROTO_TCP, TCP_NODELAY},
	};
	static const uint64_t lengths[] = {sizeof(struct sockaddr_in), sizeof(struct sockaddr_in6)};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		TRY(add_if_both(filter, SCMP_SYS(setsockopt), 1, options[i].level, 2, options[i].option));
	TRY(add_inet_sockets(filter));
	TRY(ignore_unknown(
		seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EOPNOTSUPP), SCMP_SYS(sendmsg), 1, &fast_open)));
	/* By the length of an address, which is not that of a UNIX socket's path. */
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		TRY(add_if(filter, SCMP_SYS(connect), 2, SCMP_CMP_EQ, lengths[i], 0));
		TRY(add_if(filter, SCMP_SYS(bind), 2, SCMP_CMP_EQ, lengths[i], 0));
	}
	return add_if(filter, SCMP_SYS(sendto), 3, SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, 0);
}

/* The address that mail leaves from; its port is the kernel's choice (Landlock), and nothing listens. */
static int add_source(scmp_filter_ctx filter)
{
	/* By the length of an address, which is not that of a UNIX socket's path. */
	TRY(add_if(filter, SCMP_SYS(connect), 2, SCMP_CMP_EQ, sizeof(struct sockaddr_in), 0));
	TRY(add_if(filter, SCMP_SYS(connect), 2, SCMP_CMP_EQ, sizeof(struct sockaddr_in6), 0));
	TRY(add_if(filter, SCMP_SYS(bind), 2, SCMP_CMP_EQ, sizeof(struct sockaddr_in), 0));
	TRY(add_if(filter, SCMP_SYS(bind), 2, SCMP_CMP_EQ, sizeof(struct sockaddr_in6), 0));
	/* What libcurl speaks by, on a connection that it was given. */
	TRY(add_list(filter, SCMP_ACT_ALLOW, allowed_curl, ARRAY_SIZE(allowed_curl)));
	return add_if(filter, SCMP_SYS(sendto), 3, SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, 0);
}

static int add_compared(scmp_filter_ctx filter, unsigned allow)
{
	TRY(add_memory(filter));
	TRY(add_threads(filter));
	TRY(add_fcntl(filter, allow));
	TRY(add_sockets(filter, allow));
	if (allow & SANDBOX_RESOLVE)
		TRY(add_resolve(filter));
	if ((allow & (SANDBOX_CONNECT | SANDBOX_UNIX)) == SANDBOX_CONNECT)
		TRY(add_source(filter));
	/* What libc makes of fstat(); anything else with SANDBOX_FILES. */
	if (!(allow & (SANDBOX_FILES | SANDBOX_DATABASE)))
		TRY(add_if(filter, SCMP_SYS(newfstatat), 3, SCMP_CMP_EQ, AT_EMPTY_PATH, 0));
	if (allow & SANDBOX_FILES) {
		/* Times of what is open, not of a path. */
		TRY(add_if(filter, SCMP_SYS(utimensat), 1, SCMP_CMP_EQ, 0, 0));
		TRY(add_if(filter, SCMP_SYS(ioctl), 1, SCMP_CMP_EQ, FICLONERANGE, 0));
	}
	return 0;
}

static int add_connect(scmp_filter_ctx filter, unsigned allow)
{
	static const int families[] = {AF_INET, AF_INET6};

	if (allow & SANDBOX_UNIX)
		TRY(ignore_unknown(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(connect), 0)));
	if (allow & SANDBOX_UNIX)
		TRY(add_if(filter, SCMP_SYS(socket), 0, SCMP_CMP_EQ, AF_UNIX, 0));
	if (allow & SANDBOX_CONNECT) {
		TRY(add_if_both(filter, SCMP_SYS(getsockopt), 1, SOL_SOCKET, 2, SO_ERROR));
		TRY(add_if_both(filter, SCMP_SYS(setsockopt), 1, IPPROTO_TCP, 2, TCP_NODELAY));
	}
	for (size_t i = 0; i < ARRAY_SIZE(families) && (allow & SANDBOX_CONNECT); i++) {
		struct scmp_arg_cmp tcp[] = {{.arg = 0, .op = SCMP_CMP_EQ, .datum_a = (uint64_t)families[i]},
					     {.arg = 1,
					      .op = SCMP_CMP_MASKED_EQ,
					      .datum_a = ~(uint64_t)(SOCK_CLOEXEC | SOCK_NONBLOCK),
					      .datum_b = SOCK_STREAM}};

		TRY(ignore_unknown(seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, tcp)));
	}
	return 0;
}

static int add_groups(scmp_filter_ctx filter, unsigned allow)
{
	static const struct {
		unsigned allow;
		const int *calls;
		size_t count;
	} groups[] = {
		{SANDBOX_ACCEPT, allowed_accept, ARRAY_SIZE(allowed_accept)},
		{SANDBOX_FILES, allowed_files, ARRAY_SIZE(allowed_files)},
		{SANDBOX_DATABASE, allowed_database, ARRAY_SIZE(allowed_database)},
		{SANDBOX_WATCH, allowed_watch, ARRAY_SIZE(allowed_watch)},
		{SANDBOX_RESOLVE, allowed_resolve, ARRAY_SIZE(allowed_resolve)},
	};

	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		if (allow & groups[i].allow)
			TRY(add_list(filter, SCMP_ACT_ALLOW, groups[i].calls, groups[i].count));
	return 0;
}

static int add_all(scmp_filter_ctx filter, unsigned allow)
{
	TRY(seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2)); /* a binary tree instead of a list */
	TRY(add_list(filter, SCMP_ACT_ALLOW, allowed_always, ARRAY_SIZE(allowed_always)));
	TRY(add_list(filter, SCMP_ACT_KILL_PROCESS, killed, ARRAY_SIZE(killed)));
	TRY(add_groups(filter, allow));
	TRY(add_compared(filter, allow));
	return add_connect(filter, allow);
}

/* The program that the kernel is to run, malloc'ed. Its size, or a negative errno. */
static ssize_t make_program(unsigned allow, char **bytes_r)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int fd = memfd_create("filter", MFD_CLOEXEC);
	ssize_t size = -ENOMEM;
	struct err err = ERR_NONE;

	if (filter && fd >= 0) {
		size = add_all(filter, allow);
		size = size ? size : seccomp_export_bpf(filter, fd);
		if (size == 0 &&
		    (lseek(fd, 0, SEEK_SET) < 0 || (size = fd_read_all(fd, PROGRAM_MAX, bytes_r, &err)) < 0))
			size = -EIO;
	}
	if (filter)
		seccomp_release(filter);
	fd_close(&fd);
	return size;
}

/* libseccomp leaves out what it has no memory for, and does not say so: such a filter forbids calls that a process
 * needs. So the program is made twice, and taken only when both are the same. */
int sandbox_seccomp_enter(unsigned allow)
{
	char *program = NULL, *again = NULL;
	ssize_t size = make_program(allow, &program), size_again = make_program(allow, &again);
	struct sock_fprog prog = {.filter = (void *)program};
	long rc;

	if (size == -ENOMEM || size != size_again || (program && again && memcmp(program, again, (size_t)size) != 0))
		die(EX_OSERR, "no memory for the filter of system calls");
	if (size <= 0) /* the kernel knows no such filters */
		return size < 0 ? (int)size : -EINVAL;
	prog.len = (unsigned short)((size_t)size / sizeof(struct sock_filter));
	rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog);
	free(program);
	free(again);
	return rc == 0 ? 0 : rc > 0 ? -ESRCH : -errno; /* above 0: a thread that could not take it */
}
