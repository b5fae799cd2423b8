/* proc - the life of a process of the running system, from its first packet to its exit.
 *
 * Master starts `postrider --process NAME` with a control channel on descriptor 3 and the log pipe on 4. The
 * process takes its configuration from the channel, opens what it needs, enters its jail, says READY, and from
 * then on a thread of its own takes what comes over the channel: listening sockets, channels to peers, new
 * configurations, the order to stop. When the channel closes, the process ends. Each process file shows, in
 * this order: account, jail, peers, services, loop. */
#ifndef PROC_PROC_H
#define PROC_PROC_H

#include "config/roles.h"
#include "os/sandbox.h"
#include "proc/bundle.h"

struct proc {
	const char *name; /* "smtpd" */
	enum process_role role;
	uint64_t serial;
	char *dir;	       /* the instance, outside view */
	struct bundle *bundle; /* the configuration it was started with */
	char *queue_directory, *mailbox_base, *empty_directory;
	bool privileged; /* started as root */
};

/* What a process does about the packets it is sent. Any may be NULL. All run on the control thread. */
struct proc_hooks {
	void (*listen)(void *ctx, struct str service, int fd); /* takes over fd */
	void (*peer)(void *ctx, int fd, uint64_t tag);	       /* takes over fd: somebody who will call us */
	/* 0: b counts from now on. 1: it will, and then proc_taken() says so, unless the process begins anew for it.
	 * -1 with err: it cannot be used. */
	int (*reload)(void *ctx, struct bundle *b, struct err *err);
	void (*drop)(void *ctx, const struct proc_drop *d); /* takes over the descriptors; proc_dropped() answers */
	uint64_t (*sessions)(void *ctx);
	void (*numbers)(void *ctx, struct proc_state *state); /* what else there is to tell (proc/schema.h) */
	void (*stop)(void *ctx, int64_t grace_ms);	      /* the loop returns soon */
	void *ctx;
};

/* Starts the process NAME; its exit status is returned. */
int proc_main(const char *name);

/* Gives a text parameter NUL-terminated; lives as long as the process. */
const char *proc_text(const struct proc *p, struct str value);
/* A directory of the account's own, made if it is missing (mode 0700), with what lies directly in it. Before
 * the jail. Dies with a sentence. */
void proc_own_directory(const struct proc *p, const char *path, const char *account);
/* An open descriptor of a directory, to be used from inside the jail. */
int proc_open_directory(const char *path);
/* sandbox_enter() with what all have in common: name, and only for root account and chroot. */
void proc_jail(const struct proc *p, struct sandbox box);
/* From now on channels to that role are attached to c. Before proc_serve(). */
void proc_calls(struct proc *p, enum process_role role, struct rpc_channel *c);
/* Starts the control thread and tells master READY. */
void proc_serve(struct proc *p, const struct proc_hooks *hooks);
/* The loop has returned: the process is about to end in good order. */
void proc_done(struct proc *p);

/* The configuration of that generation counts from now on; why: it cannot be used. Any thread. */
void proc_taken(uint64_t generation, struct str why);
/* What became of a file of the maildrop. Any thread. */
void proc_dropped(struct str name, uint8_t result, struct str text);

/* ---- connect.c ---- */
/* A connection to the UNIX socket of an LMTP server, made by master, if the configuration names it: remote_env's
 * connect_path. Blocks; any thread, behind proc_serve(). Descriptor (non-blocking), or -1 with err. */
int proc_connect(void *ctx, struct str path, int64_t timeout_ms, struct err *err) WARN_UNUSED;
/* The answer has come. Control thread. */
struct proc_packet;
int proc_connected(struct proc_packet *packet, struct err *err);

/* ---- pickup.c ---- */
/* The hook of smtpd: feeds the file through the socket of local submission, on a thread of its own. */
void pickup_drop(void *ctx, const struct proc_drop *d);

/* The process files. Each returns an exit status. */
int proc_smtpd(struct proc *p);
int proc_access(struct proc *p);
int proc_relay(struct proc *p);
int proc_directory(struct proc *p);
int proc_queue(struct proc *p);
int proc_store(struct proc *p);
int proc_dns(struct proc *p);

#endif
