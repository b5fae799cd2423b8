/* The filter, asked call by call: every system call that this kernel could know is made once inside each jail, and
 * answered as the tables here say. A call that is allowed and stands in no table fails the test, so that each has to
 * be thought of twice; doc/jails.md says what needs it. */
#include "base/attr.h"
#include "os/sandbox.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CALLS_END  480
#define EVERYTHING (SANDBOX_ACCEPT | SANDBOX_FILES | SANDBOX_CONNECT | SANDBOX_UNIX | SANDBOX_DATABASE | SANDBOX_WATCH)

/* What any process may do, whatever the arguments. */
static const int for_all[] = {SYS_read,
			      SYS_write,
			      SYS_writev,
			      SYS_pread64,
			      SYS_pwrite64,
			      SYS_close,
			      SYS_lseek,
			      SYS_fstat,
			      SYS_eventfd2,
			      SYS_recvmsg,
			      SYS_shutdown,
			      SYS_poll,
			      SYS_epoll_create1,
			      SYS_epoll_ctl,
			      SYS_epoll_wait,
			      SYS_clock_nanosleep,
			      SYS_clock_gettime,
			      SYS_gettimeofday,
			      SYS_time,
			      SYS_restart_syscall,
			      SYS_munmap,
			      SYS_mremap,
			      SYS_madvise,
			      SYS_brk,
			      SYS_futex,
			      SYS_set_robust_list,
			      SYS_rseq,
			      SYS_exit,
			      SYS_exit_group,
			      SYS_rt_sigaction,
			      SYS_rt_sigprocmask,
			      SYS_rt_sigreturn,
			      SYS_sched_getaffinity,
			      SYS_getpid,
			      SYS_gettid,
			      SYS_getrandom,
			      SYS_sysinfo,
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
			      SYS_sigaltstack,
			      SYS_sched_yield,
			      SYS_getrlimit,
			      SYS_getppid
#endif
};
/* Allowed with some arguments: tried one by one below. */
static const int compared[] = {SYS_mmap,  SYS_mprotect, SYS_clone,	SYS_tgkill,	SYS_prctl, SYS_prlimit64,
			       SYS_fcntl, SYS_sendmsg,	SYS_setsockopt, SYS_getsockopt, SYS_clone3};
/* Of these the first four and sendto are compared, too. */
static const int for_connect[] = {SYS_connect, SYS_socket,   SYS_bind,	      SYS_getsockopt,
				  SYS_sendto,  SYS_recvfrom, SYS_getsockname, SYS_getpeername};
static const int for_accept[] = {SYS_accept4,	  SYS_recvfrom,	      SYS_sendto,	  SYS_getpeername,
				 SYS_getsockname, SYS_timerfd_create, SYS_timerfd_settime};
static const int for_files[] = {SYS_openat,    SYS_newfstatat, SYS_getdents64,	    SYS_fchdir,	      SYS_mkdirat,
				SYS_unlinkat,  SYS_renameat,   SYS_linkat,	    SYS_flock,	      SYS_fsync,
				SYS_fdatasync, SYS_syncfs,     SYS_fstatfs,	    SYS_ftruncate,    SYS_fallocate,
				SYS_pwritev,   SYS_uname,      SYS_copy_file_range, SYS_memfd_create, SYS_utimensat,
				SYS_ioctl};
static const int for_database[] = {SYS_openat,	  SYS_newfstatat, SYS_access,	 SYS_readlink, SYS_unlink,
				   SYS_ftruncate, SYS_fsync,	  SYS_fdatasync, SYS_geteuid};
static const int for_watch[] = {SYS_inotify_init1, SYS_inotify_add_watch, SYS_inotify_rm_watch};

static const int killed[] = {SYS_execve,
			     SYS_execveat,
			     SYS_ptrace,
			     SYS_process_vm_readv,
			     SYS_process_vm_writev,
			     SYS_kcmp,
			     SYS_pidfd_open,
			     SYS_pidfd_getfd,
			     SYS_pidfd_send_signal,
			     SYS_process_madvise,
			     SYS_bpf,
			     SYS_keyctl,
			     SYS_add_key,
			     SYS_request_key,
			     SYS_mount,
			     SYS_umount2,
			     SYS_move_mount,
			     SYS_open_tree,
			     SYS_fsopen,
			     SYS_fsmount,
			     SYS_fsconfig,
			     SYS_mount_setattr,
			     SYS_pivot_root,
			     SYS_chroot,
			     SYS_unshare,
			     SYS_setns,
			     SYS_setuid,
			     SYS_setgid,
			     SYS_setreuid,
			     SYS_setregid,
			     SYS_setresuid,
			     SYS_setresgid,
			     SYS_setgroups,
			     SYS_setfsuid,
			     SYS_setfsgid,
			     SYS_capset,
			     SYS_init_module,
			     SYS_finit_module,
			     SYS_delete_module,
			     SYS_kexec_load,
			     SYS_kexec_file_load,
			     SYS_reboot,
			     SYS_swapon,
			     SYS_swapoff,
			     SYS_perf_event_open,
			     SYS_userfaultfd,
			     SYS_open_by_handle_at,
			     SYS_name_to_handle_at,
			     SYS_personality,
			     SYS_modify_ldt,
			     SYS_mknod,
			     SYS_mknodat,
			     SYS_iopl,
			     SYS_ioperm,
			     SYS_io_uring_setup,
			     SYS_io_uring_enter,
			     SYS_io_uring_register,
			     SYS_settimeofday,
			     SYS_clock_settime,
			     SYS_sethostname,
			     SYS_acct};

/* uretprobe, uprobe: the kernel makes them itself, filters none of them, and ends whoever calls one in vain. */
static const int never_filtered[] = {335, 336};

static bool in(const int *list, size_t n, long nr)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == nr)
			return true;
	return false;
}
#define IN(list, nr) in(list, ARRAY_SIZE(list), nr)

static bool expected(unsigned allow, long nr)
{
	return IN(for_all, nr) || IN(compared, nr) || ((allow & SANDBOX_ACCEPT) && IN(for_accept, nr)) ||
	       ((allow & SANDBOX_FILES) && IN(for_files, nr)) || ((allow & SANDBOX_DATABASE) && IN(for_database, nr)) ||
	       ((allow & SANDBOX_WATCH) && IN(for_watch, nr)) || ((allow & SANDBOX_CONNECT) && IN(for_connect, nr));
}

/* Runs fn in a jail of its own; 0, what fn said, or 1000 + the signal. */
static int in_jail(unsigned allow, int (*fn)(unsigned allow, long arg), long arg)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		sandbox_enter(&(struct sandbox){.process = "test", .allow = allow});
		_exit(fn(allow, arg));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Arguments that no call can do anything with, should it be let through. */
static long call(long nr)
{
	return syscall(nr, -1L, -1L, -1L, -1L, -1L, -1L);
}

static int call_all(unsigned allow, long unused)
{
	pid_t me = getpid();
	int wrong = 0;

	(void)unused;
	for (long nr = 0; nr < CALLS_END; nr++) {
		long result;

		if (expected(allow, nr) || IN(killed, nr) || IN(never_filtered, nr))
			continue;
		errno = 0;
		result = call(nr);
		if (getpid() != me)
			_exit(0);
		if (result == -1 && errno == EPERM)
			continue;
		dprintf(2, "call %ld in jail %u: %ld %s\n", nr, allow, result, strerror(errno));
		wrong = 1;
	}
	return wrong;
}

static int call_one(unsigned allow, long nr)
{
	(void)allow;
	call(nr);
	return 1;
}

static void whatever_stands_in_no_table_is_refused(void **state)
{
	static const unsigned jails[] = {
		0, SANDBOX_ACCEPT, SANDBOX_FILES, SANDBOX_FILES | SANDBOX_WATCH, SANDBOX_DATABASE, SANDBOX_CONNECT};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(jails); i++)
		assert_int_equal(in_jail(jails[i], call_all, 0), 0);
}

static void what_only_an_intruder_calls_kills_in_any_jail(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(killed); i++) {
		int end = in_jail(EVERYTHING, call_one, killed[i]);

		if (end != 1000 + SIGSYS)
			fail_msg("call %d: %d", killed[i], end);
	}
}

/* ---- arguments ---- */

struct attempt {
	long nr, args[6];
	bool allowed;
};

/* Allowed: the answer is the kernel's, whatever it says, but not EPERM. */
static int arguments(const struct attempt *attempts, size_t n)
{
	int wrong = 0;

	for (size_t i = 0; i < n; i++) {
		const struct attempt *a = &attempts[i];
		long result = syscall(a->nr, a->args[0], a->args[1], a->args[2], a->args[3], a->args[4], a->args[5]);
		bool refused = result == -1 && errno == EPERM;

		if (refused != a->allowed)
			continue;
		dprintf(2, "attempt %zu, call %ld: %ld %s\n", i, a->nr, result, strerror(errno));
		wrong = 1;
	}
	return wrong;
}

static int try_arguments(unsigned allow, long unused)
{
	const bool files = allow & SANDBOX_FILES, locks = allow & (SANDBOX_FILES | SANDBOX_DATABASE),
		   serves = allow & SANDBOX_ACCEPT, connects = allow & SANDBOX_CONNECT;
	const long anon = MAP_PRIVATE | MAP_ANONYMOUS;
	const struct attempt attempts[] = {
		{SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, anon, -1, 0}, true},
		{SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, anon, -1, 0}, false},
		{SYS_mprotect, {4096, 4096, PROT_READ, 0, 0, 0}, true},
		{SYS_mprotect, {4096, 4096, PROT_EXEC, 0, 0, 0}, false},
		/* processes, namespaces, threads with more or less than libc's flags */
		{SYS_clone, {SIGCHLD, 0, 0, 0, 0, 0}, false},
		{SYS_clone, {CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0, 0}, false},
		{SYS_clone, {CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, 0, 0, 0, 0}, false},
		{SYS_clone, {CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0, 0}, false},
		/* signals to others */
		{SYS_tgkill, {getpid(), -1, 0, 0, 0, 0}, true},
		{SYS_tgkill, {getppid(), getppid(), 0, 0, 0, 0}, false},
		{SYS_fcntl, {0, F_SETOWN, getppid(), 0, 0, 0}, false},
		{SYS_fcntl, {0, F_SETSIG, SIGKILL, 0, 0, 0}, false},
		{SYS_fcntl, {0, F_SETLEASE, F_WRLCK, 0, 0, 0}, false},
		{SYS_fcntl, {0, F_NOTIFY, 1, 0, 0, 0}, false},
		{SYS_fcntl, {0, F_SETPIPE_SZ, 1 << 20, 0, 0, 0}, false},
		{SYS_fcntl, {0, F_GETFL, 0, 0, 0, 0}, true},
		{SYS_fcntl, {-1, F_SETLK, 0, 0, 0, 0}, locks},
		{SYS_fcntl, {-1, F_ADD_SEALS, 0, 0, 0, 0}, locks},
		/* undoing the jail */
		{SYS_prctl, {PR_SET_DUMPABLE, 1, 0, 0, 0, 0}, false},
		{SYS_prctl, {PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0, 0}, false},
		{SYS_prctl, {PR_SET_SECCOMP, 1, 0, 0, 0, 0}, false},
		{SYS_prctl, {PR_SET_PTRACER, -1, 0, 0, 0, 0}, false},
		{SYS_prctl, {PR_SET_NAME, (long)"name", 0, 0, 0, 0}, true},
		{SYS_prlimit64, {0, 4, 0, 0, 0, 0}, true},
		{SYS_prlimit64, {0, 4, 4096, 0, 0, 0}, false},
		{SYS_prlimit64, {getppid(), 4, 0, 0, 0, 0}, false},
		/* sockets: no connection without connect(), no option that outlives us on master's listening socket */
		{SYS_sendmsg, {-1, 0, MSG_NOSIGNAL, 0, 0, 0}, true},
		{SYS_sendmsg, {-1, 0, MSG_FASTOPEN, 0, 0, 0}, false},
		{SYS_sendto, {-1, 0, 0, 0, 0, 0}, serves || connects},
		{SYS_sendto, {-1, 0, 0, MSG_FASTOPEN, 0, 0}, false},
		{SYS_setsockopt, {-1, SOL_SOCKET, SO_RCVTIMEO, 0, 0, 0}, true},
		{SYS_setsockopt, {-1, SOL_SOCKET, SO_LINGER, 0, 0, 0}, serves},
		{SYS_setsockopt, {-1, SOL_SOCKET, SO_RCVLOWAT, 0, 0, 0}, serves},
		{SYS_setsockopt, {-1, SOL_SOCKET, SO_ATTACH_FILTER, 0, 0, 0}, false},
		{SYS_setsockopt, {-1, SOL_SOCKET, SO_LOCK_FILTER, 0, 0, 0}, false},
		{SYS_setsockopt, {-1, SOL_SOCKET, SO_MARK, 0, 0, 0}, false},
		{SYS_setsockopt, {-1, IPPROTO_TCP, TCP_NODELAY, 0, 0, 0}, serves || connects},
		{SYS_getsockopt, {-1, SOL_SOCKET, SO_ERROR, 0, 0, 0}, connects},
		{SYS_getsockopt, {-1, SOL_SOCKET, SO_PEERCRED, 0, 0, 0}, serves},
		{SYS_socket, {AF_INET, SOCK_STREAM, 0, 0, 0, 0}, connects},
		{SYS_socket, {AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, 0, 0, 0}, connects},
		{SYS_socket, {AF_INET, SOCK_DGRAM, 0, 0, 0, 0}, false},
		{SYS_socket, {AF_INET, SOCK_RAW, 0, 0, 0, 0}, false},
		{SYS_socket, {AF_UNIX, SOCK_STREAM, 0, 0, 0, 0}, false},
		{SYS_socket, {AF_PACKET, SOCK_RAW, 0, 0, 0, 0}, false},
		{SYS_bind, {-1, 0, sizeof(struct sockaddr_in), 0, 0, 0}, connects},
		{SYS_bind, {-1, 0, 110, 0, 0, 0}, false},
		{SYS_connect, {-1, 0, sizeof(struct sockaddr_in6), 0, 0, 0}, connects},
		{SYS_connect, {-1, 0, 110, 0, 0, 0}, false},
		{SYS_getsockopt, {-1, SOL_SOCKET, SO_PEERCRED, 0, 0, 0}, serves},
		{SYS_getsockopt, {-1, SOL_SOCKET, SO_PEERGROUPS, 0, 0, 0}, false},
		{SYS_setsockopt, {-1, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 0, 0, 0}, false},
		{SYS_setsockopt, {-1, IPPROTO_TCP, TCP_ULP, 0, 0, 0}, false},
		/* what is open, not what has a name */
		{SYS_utimensat, {-1, 0, 0, 0, 0, 0}, files},
		{SYS_utimensat, {AT_FDCWD, (long)"/", 0, 0, 0, 0}, false},
		{SYS_ioctl, {-1, FICLONERANGE, 0, 0, 0, 0}, files},
		{SYS_ioctl, {0, 0x5412 /* TIOCSTI */, 0, 0, 0, 0}, false},
		{SYS_ioctl, {0, 0x8901 /* FIOSETOWN */, 0, 0, 0, 0}, false},
	};

	(void)unused;
	return arguments(attempts, ARRAY_SIZE(attempts));
}

static void allowed_calls_are_allowed_with_some_arguments_only(void **state)
{
	static const unsigned jails[] = {0, SANDBOX_ACCEPT, SANDBOX_FILES | SANDBOX_WATCH, SANDBOX_DATABASE,
					 SANDBOX_CONNECT};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(jails); i++)
		assert_int_equal(in_jail(jails[i], try_arguments, 0), 0);
}

static int make_thread_flags(unsigned allow, long unused)
{
	(void)allow;
	(void)unused;
	return syscall(SYS_clone3, 0, 0) == -1 && errno == ENOSYS ? 0 : 1;
}

static void clone3_hides_its_flags_and_is_not_there(void **state)
{
	(void)state;
	assert_int_equal(in_jail(EVERYTHING, make_thread_flags, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_stands_in_no_table_is_refused),
		cmocka_unit_test(what_only_an_intruder_calls_kills_in_any_jail),
		cmocka_unit_test(allowed_calls_are_allowed_with_some_arguments_only),
		cmocka_unit_test(clone3_hides_its_flags_and_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
