/* sandbox - giving up rights, once, before the first foreign byte.
 *
 * Call order in a process file: open everything, sandbox_enter(), serve. As root: chroot, drop groups and
 * uid/gid to the pseudo-account, no_new_privs, Landlock, seccomp. Without root: no_new_privs, Landlock and
 * seccomp only. Anything that the kernel lacks is logged once and told by sandbox_status(); with root, a
 * chroot or setuid that fails is die(). Landlock binds threads: start none before. Directories that a jailed
 * process uses are opened before and reached through their descriptors (openat), because a chroot hides
 * their names. */
#ifndef OS_SANDBOX_H
#define OS_SANDBOX_H

#include "base/err.h"
#include <sys/types.h>

/* System calls beyond the common base (memory, futex, epoll, read/write on open descriptors, clock, threads,
 * sendmsg/recvmsg, exit). The filter's default action is EPERM; execve, ptrace, process_vm_*, bpf, keyctl,
 * mount, setuid and friends are always killed. What each allows, call by call: os/sandbox_seccomp.c. */
enum sandbox_allow {
	SANDBOX_ACCEPT = 1 << 0,   /* accept4 on listening sockets it was given */
	SANDBOX_FILES = 1 << 1,	   /* openat, renameat, unlinkat, mkdirat, fsync ... below `paths` */
	SANDBOX_CONNECT = 1 << 2,  /* socket, connect: AF_INET and AF_INET6; TCP limited by Landlock where it can */
	SANDBOX_UNIX = 1 << 3,	   /* socket and connect for AF_UNIX only */
	SANDBOX_DATABASE = 1 << 4, /* files opened by name below `paths`, with locks: SQLite */
	SANDBOX_WATCH = 1 << 5,	   /* inotify */
	SANDBOX_RESOLVE = 1 << 6,  /* questions to DNS servers: UDP, and TCP to connect_ports (by Landlock) */
};

struct sandbox_path {
	const char *path; /* outside view, before chroot */
	bool writable;
};

struct sandbox {
	const char *process;	/* "smtpd", for log and status */
	const char *account;	/* pseudo-account, or NULL to keep the uid (a root process without a jail is none) */
	const char *chroot_dir; /* NULL: no chroot. Must be owned by root and empty or not writable */
	unsigned allow;		/* enum sandbox_allow */
	const struct sandbox_path *paths;
	size_t path_count;
	const uint16_t *connect_ports; /* with SANDBOX_RESOLVE */
	size_t connect_port_count;
	/* The largest file it may make, where it is given files of others to write (spool blobs). 0: no limit. */
	uint64_t file_size_max;
};

/* Returns after all that the kernel can do is in force, for every later thread too. */
void sandbox_enter(const struct sandbox *box);
/* One line for `postrider status`: "chroot seccomp landlock(7)" or what is missing. Static storage. */
const char *sandbox_status(void);

/* Raises the soft limit of open files to the hard one. Returns the limit in force. */
uint64_t sandbox_raise_nofile(void);

#endif
