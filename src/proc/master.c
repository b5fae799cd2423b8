/* master - see proc/master.h. Here: start, reload, restart of what ends, orderly stop.
 *
 *	STARTING --store, queue, directory, dns ready--> relay, smtpd, access --ready--> SERVING
 *	SERVING  --a child ends--> started again: at once, then after 100 ms, 200 ms, ... 5 s
 *	any      --stop--> STOPPING: sessions, relay, queue, directory and dns, store; each phase begins when the one
 *	                   before has ended */
#include "proc/master.h"
#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/instance.h"
#include "config/params.h"
#include "directory/schema.h"
#include "engine/tls.h"
#include "os/fd.h"
#include "os/net.h"
#include "os/nth.h"
#include "os/sandbox.h"
#include "proc/run.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define BACKOFF_FIRST_MS   100
#define BACKOFF_MAX_MS	   5000
#define QUICK_END_MS	   2000	 /* ending sooner than this counts as going wrong again */
#define START_PATIENCE_MS  30000 /* how long a predecessor may take to let go of its directories */
#define LISTEN_PATIENCE_MS 3000	 /* how long the processes of a master that was killed may hold its sockets */
#define START_CRASHES_MAX  5
#define KILL_AFTER_MS	   30000 /* beyond the grace, before a phase of the stop is forced */

/* ---- start of the children ---- */

static bool all_ready(const struct master *m, enum process_role first, enum process_role last)
{
	for (int role = first; role <= (int)last; role++)
		if (!m->children[role].ready)
			return false;
	return true;
}

static void schedule_start(struct child *c);

/* Whoever started us waits for the end of our stderr; from now on what goes there belongs in the log. */
void master_leave_terminal(const struct master *m)
{
	int null;

	if (!m->detached)
		return;
	if (m->log_fd >= 0) {
		dup2(m->log_fd, STDERR_FILENO);
	} else if ((null = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0) {
		dup2(null, STDERR_FILENO);
		close(null);
	}
}

static void serving(struct master *m)
{
	char byte = 0;

	m->phase = MASTER_SERVING;
	log_info("started -- version %.*s, instance %s%s", STR_ARG(m->bundle->conf->mail_version), m->dir,
		 m->privileged ? "" : "; without root: one account for all processes, no chroot");
	master_leave_terminal(m);
	pickup_open(m);
	alert_begin(m);
	if (m->ready_fd >= 0 && write(m->ready_fd, &byte, 1) < 0)
		log_debug("nobody waits for the start");
	fd_close(&m->ready_fd);
}

void master_child_ready(struct child *c)
{
	struct master *m = c->master;

	if (m->phase != MASTER_STARTING)
		return;
	if (all_ready(m, PROCESS_DNS, PROCESS_STORE))
		for (int role = PROCESS_SMTPD; role <= PROCESS_RELAY; role++)
			if (m->children[role].pid == 0 && child_start(&m->children[role]) < 0)
				schedule_start(&m->children[role]);
	if (all_ready(m, PROCESS_SMTPD, PROCESS_STORE))
		serving(m);
}

static void start_again(void *ctx)
{
	struct child *c = ctx;

	if (c->master->phase != MASTER_STOPPING && c->pid == 0 && child_start(c) < 0)
		schedule_start(c);
}

/* Whoever lets processes end by the thousand does not wait for each. */
static int64_t backoff_max_ms(void)
{
#ifdef POSTRIDER_TEST
	const char *given = getenv("POSTRIDER_BACKOFF_MS");

	if (given)
		return strtoll(given, NULL, 10);
#endif
	return BACKOFF_MAX_MS;
}

static void schedule_start(struct child *c)
{
	int64_t delay = 0, most = backoff_max_ms();

	if (clock_ms() - c->started_ms > QUICK_END_MS)
		c->quick_ends = 0;
	if (c->quick_ends > 0)
		delay = (int64_t)BACKOFF_FIRST_MS << (c->quick_ends > 6 ? 6 : c->quick_ends - 1);
	if (delay > most)
		delay = most;
	c->quick_ends++;
	c->restarts++;
	rpc_server_after(c->master->server, delay, start_again, c);
}

/* ---- stop ---- */

static void stop_phase_begin(struct master *m);

static bool phase_ended(const struct master *m)
{
	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++)
		if (m->children[role].phase == m->stop_phase && m->children[role].pid)
			return false;
	return true;
}

struct forced {
	struct master *master;
	unsigned phase;
};

static void force_phase(void *ctx)
{
	struct forced *f = ctx;

	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++) {
		struct child *c = &f->master->children[role];

		if (f->master->stop_phase == f->phase && c->phase == f->phase && c->pid) {
			log_warning("process %s[%d] does not end; killing it", c->name, (int)c->pid);
			kill(c->pid, SIGKILL);
		}
	}
	free(f);
}

static void stop_phase_begin(struct master *m)
{
	struct proc_stop stop = {.grace_ms = (uint64_t)m->bundle->conf->shutdown_grace_time};
	struct forced *f;

	while (m->stop_phase < PROCESS_ROLES && phase_ended(m))
		m->stop_phase++;
	if (m->stop_phase >= PROCESS_ROLES) {
		control_answer_stopped(m);
		rpc_server_stop(m->server);
		return;
	}
	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++) {
		struct child *c = &m->children[role];

		if (c->phase == m->stop_phase && c->pid) {
			c->told_to_stop = true;
			child_send(c, PROC_STOP, &proc_stop_type, &stop);
		}
	}
	f = NEW(struct forced);
	*f = (struct forced){m, m->stop_phase};
	rpc_server_after(m->server, (int64_t)stop.grace_ms + KILL_AFTER_MS, force_phase, f);
}

void master_stop(struct master *m, int exit_status)
{
	if (m->phase == MASTER_STOPPING)
		return;
	log_info(m->restart ? "restarting" : "stopping");
	m->phase = MASTER_STOPPING;
	m->exit_status = exit_status;
	m->stop_phase = 0;
	reload_look(m);
	stop_phase_begin(m);
}

int master_restart(struct master *m, struct err *err)
{
	struct bundle *b = bundle_read(m->dir, NULL, err);

	if (b == NULL)
		return err_context(err, "not restarted, because the new one would not start");
	bundle_unref(&b);
	if (access(m->exe_path, X_OK) < 0)
		return err_errno(err, "not restarted: %s", m->exe_path);
	m->restart = true;
	master_stop(m, EX_OK);
	return 0;
}

/* ---- children that end ---- */

/* During the start: a sentence of die() ends it; what may be different in a moment, or what we
 * told to end, does not. Who ends by storage_failed() has the next life decide. */
static bool worth_another_try(const struct child *c, int status)
{
	if (WIFSIGNALED(status) || WEXITSTATUS(status) == EX_IOERR)
		return c->quick_ends < START_CRASHES_MAX;
	return (WEXITSTATUS(status) == EX_TEMPFAIL || c->ending) &&
	       clock_ms() - c->master->started_ms < START_PATIENCE_MS;
}

static void on_child_end(struct child *c, int status)
{
	struct master *m = c->master;
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : EX_SOFTWARE;

	child_ended(c, status);
	if (m->phase == MASTER_STOPPING) {
		if (phase_ended(m))
			stop_phase_begin(m);
	} else if (m->phase == MASTER_STARTING && !worth_another_try(c, status)) {
		log_error("process %s cannot start; see above", c->name);
		master_stop(m, code ? code : EX_SOFTWARE);
	} else {
		alert_child_ended(c);
		schedule_start(c);
	}
}

static void reap_child(struct master *m, pid_t pid, int status)
{
	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++)
		if (m->children[role].pid == pid)
			on_child_end(&m->children[role], status);
}

static void reap(struct master *m)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (!alert_mailer_ended(m, pid, status))
			reap_child(m, pid, status);
}

/* ---- signals ---- */

static void on_signal(void *ctx, int fd)
{
	struct master *m = ctx;
	struct signalfd_siginfo info;
	struct err err = ERR_NONE;

	while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGCHLD:
			reap(m);
			break;
		case SIGHUP:
			(void)!master_reload(m, &err); /* it has logged why not */
			break;
		default:
			master_stop(m, EX_OK);
			break;
		}
	}
}

static void take_signals(struct master *m)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	signal(SIGPIPE, SIG_IGN);
	/* Before any thread exists: all inherit it, only the loop hears them. */
	sigprocmask(SIG_BLOCK, &set, NULL);
	m->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (m->signal_fd < 0)
		die(EX_OSERR, "signalfd: %s", strerror(errno));
}

/* ---- start of master itself ---- */

static void make_spool(const char *spool, const char *name, mode_t mode)
{
	char *path = mem_printf("%s/%s", spool, name);
	struct stat st;

	/* mkdir() leaves out what the mask says, and the sticky bit is the point here. */
	if ((mkdir(path, mode) < 0 && errno != EEXIST) || lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) ||
	    ((st.st_mode & 07777) != mode && st.st_uid == geteuid() && chmod(path, mode) < 0))
		die(EX_CANTCREAT, "cannot make the directory %s: %s", path, strerror(errno));
	free(path);
}

static void make_directory(const char *path, mode_t mode)
{
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		die(EX_CANTCREAT, "cannot make the directory %s: %s", path, strerror(errno));
}

static void make_directories(const struct master *m, const struct bundle *b)
{
	char *run = mem_printf("%s/%s", m->dir, INSTANCE_RUN), *spool = bundle_queue_directory(b, m->dir);
	char *empty = mem_printf("%s/%s", spool, INSTANCE_SPOOL_EMPTY);

	make_directory(run, 0755);
	make_directory(spool, 0755);
	make_directory(empty, 0755);
	make_spool(spool, INSTANCE_PUBLIC, 0755);
	make_spool(spool, INSTANCE_MAILDROP, 01733);
	make_spool(spool, INSTANCE_CORRUPT, 0700);
	free(run);
	free(spool);
	free(empty);
}

/* The lock says whether a master runs; the number in the file only helps people and scripts. */
static void lock_pid_file(struct master *m)
{
	char *path = mem_printf("%s/%s", m->dir, INSTANCE_PID_FILE);
	char text[32] = "";

	m->pid_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (m->pid_fd < 0)
		die(EX_CANTCREAT, "cannot open %s: %s", path, strerror(errno));
	if (flock(m->pid_fd, LOCK_EX | LOCK_NB) < 0) {
		if (pread(m->pid_fd, text, sizeof(text) - 1, 0) < 0)
			text[0] = '\0';
		text[strcspn(text, "\n")] = '\0';
		die(EX_UNAVAILABLE, "%s is already running (pid %s); stop it first: postrider -c %s stop", m->dir, text,
		    m->dir);
	}
	snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(m->pid_fd, 0) < 0 || pwrite(m->pid_fd, text, strlen(text), 0) < 0)
		die(EX_IOERR, "cannot write %s: %s", path, strerror(errno));
	free(path);
}

/* A test build may be told of a program to start in our place: one that starts us under valgrind. */
static const char *child_program(void)
{
#ifdef POSTRIDER_TEST
	const char *given = getenv("POSTRIDER_CHILD_PROGRAM");

	if (given)
		return given;
#endif
	return "/proc/self/exe";
}

/* Children are made from the very file that master is, even while an upgrade replaces it; a restart takes
 * what stands under the name then. */
static void find_executable(struct master *m)
{
	char path[4096];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
	int fd = open(child_program(), O_RDONLY | O_CLOEXEC);

	/* Above what a new child's own descriptors replace. */
	m->exe_fd = fcntl(fd, F_DUPFD_CLOEXEC, 10);
	fd_close(&fd);
	if (len < 0 || m->exe_fd < 0)
		die(EX_OSERR, "cannot find the program file: %s", strerror(errno));
	m->exe_path = str_dup(str_of(path, (size_t)len));
}

static void connect_again(void *ctx)
{
	child_connect_master(ctx);
}

/* On the channel's thread. */
static void on_missing(void *ctx, uint64_t gone)
{
	struct child *c = ctx;

	(void)gone;
	rpc_server_after(c->master->server, 0, connect_again, c);
}

static void callee(struct master *m, enum process_role role, const char *name, const struct rpc_call *table)
{
	m->callees[role] = rpc_channel_new(name, table);
	rpc_channel_on_missing(m->callees[role], on_missing, &m->children[role]);
}

/* The lock comes before anything that a running master of the same instance would be disturbed by. */
static void read_configuration(struct master *m)
{
	struct err err = ERR_NONE;
	struct buf warnings;
	struct bundle *b;
	size_t fresh;
	int result;

	buf_init(&warnings, 100000);
	b = bundle_read(m->dir, &warnings, &err);
	if (b == NULL)
		die(err.sys == ENOENT ? EX_NOINPUT : EX_CONFIG, "%s", err.text);
	make_directories(m, b);
	lock_pid_file(m);
	listening_drop_stale(m, b);
	while ((result = master_take_configuration(m, b, &fresh, &err)) < 0 && err.sys == EADDRINUSE &&
	       clock_ms() - m->started_ms < LISTEN_PATIENCE_MS)
		nanosleep(&(struct timespec){.tv_nsec = 50 * 1000000}, NULL);
	if (result < 0)
		die(EX_UNAVAILABLE, "%s", err.text);
	listening_close_unwanted(m);
	master_tell_warnings(&warnings);
}

/* What whoever started us left open is none of our processes' business. What we open ourselves has the flag anyway. */
static void keep_descriptors_to_ourselves(void)
{
	if (close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		log_debug("close_range: %s", strerror(errno));
}

static void prepare(struct master *m)
{
	log_init("postrider/master");
	umask(022);
	keep_descriptors_to_ourselves();
	find_executable(m);
	take_signals(m);
	tls_init();
	sandbox_raise_nofile();
	listening_import(m);
	read_configuration(m);
	control_open(m);
	if (rpc_server_watch_fd(m->server, m->signal_fd, on_signal, m) < 0)
		die(EX_OSERR, "signals: %s", strerror(errno));
	master_tables_watch(m, m->bundle->files);
	child_init(m, PROCESS_SMTPD, "smtpd", 0);
	child_init(m, PROCESS_ACCESS, "access", 0);
	child_init(m, PROCESS_RELAY, "relay", 1);
	child_init(m, PROCESS_QUEUE, "queue", 2);
	child_init(m, PROCESS_DNS, "dns", 3);
	child_init(m, PROCESS_DIRECTORY, "directory", 3);
	child_init(m, PROCESS_STORE, "store", 4);
	callee(m, PROCESS_STORE, "store", STORE_CALLS);
	callee(m, PROCESS_QUEUE, "queue", QUEUE_CALLS);
	callee(m, PROCESS_DIRECTORY, "directory", DIR_CALLS);
	callee(m, PROCESS_DNS, "dns", DNS_CALLS);
	callee(m, PROCESS_RELAY, "relay", RELAY_CALLS);
}

/* The same process goes on as the new program; the sockets stay open, so that clients only wait. */
static void begin_anew(struct master *m)
{
	char *argv[] = {(char *)(uintptr_t) "postrider",
			(char *)(uintptr_t) "-c",
			m->dir,
			(char *)(uintptr_t) "run",
			m->detached ? (char *)(uintptr_t) "--detached" : NULL,
			NULL};
	sigset_t none;

	listening_export(m);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(m->exe_path, argv);
	log_fatal("cannot begin anew: %s: %s", m->exe_path, strerror(errno));
	m->exit_status = EX_OSERR;
}

static void clean_up(struct master *m)
{
	char *control = mem_printf("%s/%s", m->dir, INSTANCE_CONTROL),
	     *pid = mem_printf("%s/%s", m->dir, INSTANCE_PID_FILE);

	unlink(control);
	if (!m->restart)
		unlink(pid);
	free(control);
	free(pid);
}

int master_run(const char *dir, bool detached, int ready_fd)
{
	static struct master master;
	struct master *m = &master;

	*m = (struct master){.dir = mem_strdup(dir),
			     .bundle_full = -1,
			     .bundle_plain = -1,
			     .bundle_relay = -1,
			     .tables_full = -1,
			     .tables_none = -1,
			     .detached = detached,
			     .privileged = getuid() == 0,
			     .ready_fd = ready_fd,
			     .log_fd = -1,
			     .signal_fd = -1,
			     .control_fd = -1,
			     .pid_fd = -1,
			     .started_ms = clock_ms()};
	nth_init("master");
	prepare(m);
	for (int role = PROCESS_DNS; role <= PROCESS_STORE; role++)
		if (child_start(&m->children[role]) < 0)
			schedule_start(&m->children[role]);
	rpc_server_run(m->server);
	clean_up(m);
	log_info("stopped");
	if (m->restart)
		begin_anew(m);
	return m->exit_status;
}
