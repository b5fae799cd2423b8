/* sandbox_seccomp - which system calls a process may make (seccomp(2), by libseccomp).
 *
 * Three answers: allowed; killed, for calls that only an intruder makes; EPERM, for everything else, so that
 * a library that tries something optional goes on without it. Names are not addresses: calls that take a path
 * are allowed only with SANDBOX_FILES, where Landlock decides which paths. */
#include "os/sandbox_private.h"
#include <asm/ioctls.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const int allowed_always[] = {
	/* open descriptors */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(preadv),
	SCMP_SYS(pwritev),
	SCMP_SYS(preadv2),
	SCMP_SYS(pwritev2),
	SCMP_SYS(close),
	SCMP_SYS(close_range),
	SCMP_SYS(dup),
	SCMP_SYS(dup2),
	SCMP_SYS(dup3),
	SCMP_SYS(fcntl),
	SCMP_SYS(lseek),
	SCMP_SYS(fstat),
	SCMP_SYS(fstatfs),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(fallocate),
	SCMP_SYS(fadvise64),
	SCMP_SYS(copy_file_range),
	SCMP_SYS(sendfile),
	SCMP_SYS(splice),
	SCMP_SYS(pipe2),
	SCMP_SYS(memfd_create),
	SCMP_SYS(eventfd2),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(timerfd_gettime),
	SCMP_SYS(signalfd4),
	/* sockets that are there already */
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(recvmmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(sendmsg),
	SCMP_SYS(sendmmsg),
	SCMP_SYS(shutdown),
	SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	/* waiting */
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(select),
	SCMP_SYS(pselect6),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(nanosleep),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(restart_syscall),
	/* memory */
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(mlock),
	SCMP_SYS(munlock),
	SCMP_SYS(msync),
	SCMP_SYS(mincore),
	/* threads and signals */
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(get_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(membarrier),
	SCMP_SYS(set_tid_address),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigtimedwait),
	SCMP_SYS(rt_sigpending),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_getparam),
	SCMP_SYS(sched_getscheduler),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(getppid),
	/* about ourselves */
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(getrusage),
	SCMP_SYS(getrlimit),
	SCMP_SYS(sysinfo),
	SCMP_SYS(uname),
	SCMP_SYS(getrandom),
	SCMP_SYS(times),
};

static const int allowed_files[] = {
	SCMP_SYS(open),
	SCMP_SYS(openat),
	SCMP_SYS(creat),
	SCMP_SYS(stat),
	SCMP_SYS(lstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(statfs),
	SCMP_SYS(access),
	SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(getdents64),
	SCMP_SYS(getcwd),
	SCMP_SYS(fchdir),
	SCMP_SYS(mkdir),
	SCMP_SYS(mkdirat),
	SCMP_SYS(rmdir),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	SCMP_SYS(rename),
	SCMP_SYS(renameat),
	SCMP_SYS(renameat2),
	SCMP_SYS(link),
	SCMP_SYS(linkat),
	SCMP_SYS(truncate),
	SCMP_SYS(fchmod),
	SCMP_SYS(fchmodat),
	SCMP_SYS(chmod),
	SCMP_SYS(fchown),
	SCMP_SYS(utimensat),
	SCMP_SYS(flock),
	SCMP_SYS(syncfs),
	SCMP_SYS(sync_file_range),
	SCMP_SYS(inotify_init1),
	SCMP_SYS(inotify_add_watch),
	SCMP_SYS(inotify_rm_watch),
};

static const int killed[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(kcmp),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(bpf),
	SCMP_SYS(keyctl),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(move_mount),
	SCMP_SYS(open_tree),
	SCMP_SYS(fsopen),
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

static int add_compared(scmp_filter_ctx filter)
{
	static const uint64_t ioctls[] = {FIONREAD, FIONBIO, FICLONERANGE, FICLONE};
	int r = 0;

	/* Nothing becomes executable any more. */
	r = r ? r : add_if(filter, SCMP_SYS(mmap), 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	r = r ? r : add_if(filter, SCMP_SYS(mprotect), 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	/* Threads, not processes. clone3 hides its flags behind a pointer: libc falls back to clone. */
	r = r ? r : add_if(filter, SCMP_SYS(clone), 0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD);
	r = r ? r : ignore_unknown(seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0));
	/* Signals only to ourselves: abort(), thread libraries. */
	r = r ? r : add_if(filter, SCMP_SYS(tgkill), 0, SCMP_CMP_EQ, (uint64_t)getpid(), 0);
	r = r ? r : add_if(filter, SCMP_SYS(prctl), 0, SCMP_CMP_EQ, PR_SET_NAME, 0);
	r = r ? r : add_if(filter, SCMP_SYS(prlimit64), 2, SCMP_CMP_EQ, 0, 0);
	/* What libc makes of fstat(). */
	r = r ? r : add_if(filter, SCMP_SYS(newfstatat), 3, SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH);
	r = r ? r : add_if(filter, SCMP_SYS(socketpair), 0, SCMP_CMP_EQ, AF_UNIX, 0);
	for (size_t i = 0; i < ARRAY_SIZE(ioctls); i++)
		r = r ? r : add_if(filter, SCMP_SYS(ioctl), 1, SCMP_CMP_EQ, ioctls[i], 0);
	return r;
}

static int add_optional(scmp_filter_ctx filter, unsigned allow)
{
	static const int accepts[] = {SCMP_SYS(accept), SCMP_SYS(accept4)};
	static const int connects[] = {SCMP_SYS(connect)};
	int r = 0;

	if (allow & SANDBOX_ACCEPT)
		r = r ? r : add_list(filter, SCMP_ACT_ALLOW, accepts, ARRAY_SIZE(accepts));
	if (allow & SANDBOX_FILES)
		r = r ? r : add_list(filter, SCMP_ACT_ALLOW, allowed_files, ARRAY_SIZE(allowed_files));
	if (allow & (SANDBOX_CONNECT | SANDBOX_UNIX))
		r = r ? r : add_list(filter, SCMP_ACT_ALLOW, connects, ARRAY_SIZE(connects));
	if (allow & SANDBOX_UNIX)
		r = r ? r : add_if(filter, SCMP_SYS(socket), 0, SCMP_CMP_EQ, AF_UNIX, 0);
	if (allow & SANDBOX_CONNECT) {
		r = r ? r : add_if(filter, SCMP_SYS(socket), 0, SCMP_CMP_EQ, AF_INET, 0);
		r = r ? r : add_if(filter, SCMP_SYS(socket), 0, SCMP_CMP_EQ, AF_INET6, 0);
	}
	return r;
}

int sandbox_seccomp_enter(unsigned allow)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r;

	if (filter == NULL)
		return -ENOMEM;
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree instead of a list */
	r = add_list(filter, SCMP_ACT_ALLOW, allowed_always, ARRAY_SIZE(allowed_always));
	r = r ? r : add_list(filter, SCMP_ACT_KILL_PROCESS, killed, ARRAY_SIZE(killed));
	r = r ? r : add_compared(filter);
	r = r ? r : add_optional(filter, allow);
	r = r ? r : seccomp_load(filter);
	seccomp_release(filter);
	return r;
}
