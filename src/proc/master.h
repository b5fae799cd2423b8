/* master - starts, connects, watches and stops the processes of one instance. Private to proc/master*.c; the
 * commands use master_run() and the control socket (cmd/control.h).
 *
 * One thread runs everything on one rpc_server loop: the control socket's requests, packets and log lines of
 * children, signals (signalfd), timers. Only requests relayed to another process (store, queue) wait on threads
 * of their own. Nothing from outside is read here.
 *
 * Invariants:
 *   1. At most one process a role; a child is running exactly while its pid is not 0.
 *   2. Two running processes that may talk (master_graph) have exactly one channel, made when the second of them
 *      started. Master holds no end of it. When it breaks although both live, the caller says so (PROC_MISSING) and is
 *      ended in order and started again.
 *   3. `bundle` is the last configuration that was found without fault; every running child was given it.
 *   4. A listening socket is open from the first moment its service is configured until it no longer is, through
 *      restarts of its process and of master itself. */
#ifndef PROC_MASTER_H
#define PROC_MASTER_H

#include "base/vec.h"
#include "config/roles.h"
#include "directory/sending.h"
#include "policy/alarm.h"
#include "proc/bundle.h"
#include "proc/wire.h"
#include <sys/types.h>

struct master;

#define ALERT_DEATHS_MAX 1000

struct child {
	struct master *master;
	const char *name;
	enum process_role role;
	unsigned phase; /* of the stop: lower ends first */
	pid_t pid;	/* 0: not running */
	uint64_t serial;
	int control, log_fd;
	struct buf log_line; /* what came of an unfinished line */
	bool log_paused;     /* not looked at for a moment, so that lines gather */
	bool ready, told_to_stop;
	uint64_t file_size_max;		    /* what it was started with, or was set since; 0: none */
	uint64_t config_sent, config_taken; /* generations of proc_config */
	char *config_refused;		    /* why the one that it took last is not used; NULL: it is */
	int64_t started_ms;
	bool ending;			   /* told to, because a channel of its was lost; it is started again */
	uint64_t connected[PROCESS_ROLES]; /* channels to each callee that this process was given */
	unsigned agains;		   /* messages that it shall get once more, in a moment */
	unsigned restarts;		   /* in master's life */
	unsigned quick_ends;		   /* in a row, for the back-off */
	char *jail;			   /* sandbox_status() */
	uint64_t sessions;
	uint64_t login_failures; /* as it said last, like all of struct proc_state */
	bool read_only;
	uint64_t downs, down_s; /* relay's: destinations not reached */
	char down_where[160];
	int64_t deaths[ALERT_DEATHS_MAX]; /* clock_ms() of its latest ends that nobody had asked for, in a ring */
	unsigned death_count;
	int64_t unready_since;	   /* clock_ms(); 0: ready */
	struct rpc_request *probe; /* test builds: who waits for PROC_PROBED */
};

#define LISTEN_BACKLOG 1024

struct listening {
	char *service; /* master_service.name */
	char *address; /* "127.0.0.1:10025": what a restart finds it by */
	char *kind;    /* what it is called, how a connection begins, "smtpd submission/smtpd tls": another one takes
			* another socket; NULL: not known yet */
	enum process_role role;
	int fd;
	bool wanted; /* by the configuration being taken */
};

enum master_phase { MASTER_STARTING, MASTER_SERVING, MASTER_STOPPING };

struct reload_waiter;

struct told_surge {
	struct surge surge;
	bool user_told, admin_told;
};

/* Alarm mail: see master_alert.c. */
struct master_alert {
	struct alarms alarms;
	int64_t looked;	       /* wall clock; 0: not yet */
	int64_t gathering_ms;  /* since when a thread gathers numbers; 0: none does */
	pid_t mailer;	       /* the command that sends a mail; 0: none runs */
	int mailer_words;      /* what it says on stderr: a memory file */
	int64_t mailer_mailed; /* the moment that its mail was composed for */
	void (*mailer_done)(struct master *m, int exit_status);
	struct told_surge surges[PROC_SURGES_MAX]; /* master_surge.c's: being told */
	size_t surge_count;
	uint64_t surges_told[4 * PROC_SURGES_MAX]; /* the latest, in a ring: directory may not have heard yet */
	size_t surges_told_count;
};

struct master {
	char *dir;
	struct bundle *bundle;
	int bundle_full, bundle_plain, bundle_relay; /* sealed: with keys, without, with those of the SMTP client */
	int tables_full, tables_none;		     /* sealed, the files of look-up tables, and no files */
	bool privileged, detached, foreground_log;
	enum master_phase phase;
	unsigned stop_phase;
	bool restart; /* begin anew, by exec, after the stop */
	int exit_status;
	int ready_fd; /* a byte goes there once everything serves; -1 */
	struct rpc_server *server;
	int signal_fd, control_fd, pid_fd, exe_fd, log_fd;
	char *exe_path;
	struct tables_watch *tables_watch; /* master_tables.c's */
	struct child children[PROCESS_ROLES];
	struct rpc_channel *callees[PROCESS_ROLES]; /* store, queue, directory: master's own calls */
	VEC(struct listening *) sockets;
	struct pickup *pickup; /* NULL until everything serves */
	VEC(struct rpc_request *) stop_waiters;
	VEC(struct rpc_request *) status_waiters;
	VEC(struct reload_waiter *) reload_waiters;
	uint64_t next_serial, reloads, generation;
	struct master_alert alert;
	int64_t started_ms;
};

/* ---- master_child.c ---- */
void child_init(struct master *m, enum process_role role, const char *name, unsigned phase);
/* Starts it, connects it with every running peer, gives it its listening sockets. -1, logged, when the kernel has
 * nothing left to make it from; it is not running then. */
int child_start(struct child *c) WARN_UNUSED;
/* Master's own channel to it, if it has none (any more). */
void child_connect_master(struct child *c);
/* Sends one packet; a child that does not take it is killed. */
void child_send(struct child *c, enum proc_message number, const struct rpc_type *type, const void *msg);
void child_send_config(struct child *c);
void child_send_listening(struct child *c, const struct listening *l);
/* The process is gone: reads its last words, closes its ends. */
void child_ended(struct child *c, int status);

/* ---- master_connect.c ---- */
/* A child's PROC_CONNECT. */
struct proc_packet;
void child_wants_connection(struct child *c, struct proc_packet *packet);
/* Whether the text, of a file of the configuration, has "lmtp...:unix:" and exactly this path. Pure. */
bool connect_is_named(struct str text, struct str path);

/* ---- master_listen.c ---- */
/* Opens what the bundle's services listen on and is not open; on error nothing has changed. *fresh_r: index of
 * the first socket that is new. */
int listening_open(struct master *m, const struct bundle *b, size_t *fresh_r, struct err *err) WARN_UNUSED;
/* Closes, for everybody, what the last listening_open() did not want. */
void listening_close_unwanted(struct master *m);
/* At the start: closes what came over from before a restart and is not in b, so that it is in nobody's way. */
void listening_drop_stale(struct master *m, const struct bundle *b);
void listening_close_from(struct master *m, size_t first);
/* For exec: the environment variable that hands the sockets over, and taking them back. */
void listening_export(struct master *m);
void listening_import(struct master *m);

/* ---- master_control.c ---- */
void control_open(struct master *m);
void control_answer_status(struct master *m);
void control_answer_stopped(struct master *m);

/* ---- master_pickup.c ---- */
/* The maildrop directory: what waits there is handed to smtpd, now and whenever something comes. */
void pickup_open(struct master *m);
void pickup_dropped(struct master *m, const struct proc_dropped *d);
/* smtpd is gone, and with it what it had under way; or is ready again. */
void pickup_lost(struct master *m);
void pickup_again(struct master *m);
/* ---- master_alert.c ---- */
/* Everything serves: from now on the conditions of alarm mail are looked at. */
void alert_begin(struct master *m);
/* Has `postrider alert` send a mail, when none is under way; done() learns its exit status. to NULL: to
 * alert_recipient. both: by both paths. */
void alert_send(struct master *m, const char *to, const struct buf *subject, const struct buf *text, bool both,
		void (*done)(struct master *m, int exit_status));
void alert_child_ended(struct child *c);
/* True: that was the command that sends a mail. */
bool alert_mailer_ended(struct master *m, pid_t pid, int status);
/* ---- master_surge.c ---- */
void surge_take(struct master *m, const struct proc_state *state);
/* Tells what there is to tell, a mail at a time. */
void surge_tell(struct master *m);

void alert_answer_list(struct master *m, struct rpc_request *req);

/* ---- master_log.c ---- */
int master_log_open(struct master *m, const struct conf *conf, struct err *err) WARN_UNUSED;
/* What a child wrote into its pipe, in lines. A line that does not carry the child's own pid, and a name that is for it
 * to use, is logged as what it is: something that this child said. Control characters are replaced. */
void master_log_lines(const struct child *c, struct str lines);

/* ---- master_tables.c ---- */
/* Reads the files of the look-up tables anew and gives them to directory. -1, logged, with what is wrong: nothing has
 * changed. */
int master_tables(struct master *m, struct err *err) WARN_UNUSED;
/* From now on a change of one of these files does that by itself. */
void master_tables_watch(struct master *m, const struct table_files *files);

/* ---- master_reload.c ---- */
/* Opens what b listens on and makes b master's configuration. *fresh_r: as of listening_open(). -1: all stays as it
 * was. */
int master_take_configuration(struct master *m, struct bundle *b, size_t *fresh_r, struct err *err) WARN_UNUSED;
int master_reload(struct master *m, struct err *err) WARN_UNUSED;
/* Answers (CONTROL_RELOAD, CONTROL_TABLES) when that process has taken its configuration; PROCESS_MASTER: when all
 * have. */
void reload_answer(struct master *m, struct rpc_request *req, enum process_role only);
void reload_taken(struct child *c, const struct proc_taken *taken);
/* Something of a child has changed that they may wait for who wait. */
void reload_look(struct master *m);
/* Logs them, a line each. Releases the buffer. */
void master_tell_warnings(struct buf *warnings);

/* ---- master.c ---- */
void master_child_ready(struct child *c);
/* From now on nothing of ours goes to the terminal of who started us. */
void master_leave_terminal(const struct master *m);
void master_stop(struct master *m, int exit_status);
int master_restart(struct master *m, struct err *err) WARN_UNUSED;

#endif
