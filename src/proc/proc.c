/* proc - see proc/proc.h. */
#include "proc/proc.h"
#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/instance.h"
#include "os/fault.h"
#include "os/fd.h"
#include "os/nth.h"
#include "proc/probe.h"
#include "proc/wire.h"
#include "smtp/submit.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* How long a process may take to end after its grace, before it ends itself. Only a last resort. */
#define END_MS 20000
/* Until the kernel may have memory again. */
#define RECV_PAUSE_MS 100
/* Grace for sessions when master is gone: nobody waits for them. */
#define ORPHAN_GRACE_MS 500

static const struct {
	const char *name;
	enum process_role role;
	int (*run)(struct proc *p);
	bool patient; /* see be_patient() */
} processes[] = {
	{"smtpd", PROCESS_SMTPD, proc_smtpd},
	{"access", PROCESS_ACCESS, proc_access},
	{"relay", PROCESS_RELAY, proc_relay, .patient = true},
	{"directory", PROCESS_DIRECTORY, proc_directory},
	{"queue", PROCESS_QUEUE, proc_queue, .patient = true},
	{"store", PROCESS_STORE, proc_store},
	{"dns", PROCESS_DNS, proc_dns},
};

/* Written before the control thread starts, read by it alone afterwards. */
static struct rpc_channel *callees[PROCESS_ROLES];
static struct proc_hooks hooks;

/* ---- before the jail ---- */

const char *proc_text(const struct proc *p, struct str value)
{
	(void)p;
	return value.len ? str_dup(value) : NULL;
}

int proc_open_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		die(EX_NOINPUT, "cannot open the directory %s: %s", path, strerror(errno));
	return fd;
}

/* mkdir -p; parents get the ordinary mode. */
static void make_directory(const char *path)
{
	char *copy = mem_strdup(path);

	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(copy, 0755); /* what cannot be made is found out below */
		*slash = '/';
	}
	free(copy);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		die(EX_CANTCREAT, "cannot make the directory %s: %s", path, strerror(errno));
}

/* Only what is not right yet: a file system may be read-only, and mail on it can still be read. */
static int give(int dirfd, const char *name, const struct passwd *pw)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	if (st.st_uid == pw->pw_uid && st.st_gid == pw->pw_gid)
		return 0;
	return fchownat(dirfd, name, pw->pw_uid, pw->pw_gid, AT_SYMLINK_NOFOLLOW);
}

/* What an administrator's command left there as root. Not deeper: mail is many files, and has the right owner. */
static void own_entries(int dirfd, const struct passwd *pw)
{
	DIR *dir = fdopendir(dup(dirfd));
	const struct dirent *entry;

	if (dir == NULL)
		die(EX_OSERR, "cannot read a directory: %s", strerror(errno));
	while ((entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    give(dirfd, entry->d_name, pw) < 0)
			die(EX_NOPERM, "cannot give %s to %s: %s", entry->d_name, pw->pw_name, strerror(errno));
	closedir(dir);
}

void proc_own_directory(const struct proc *p, const char *path, const char *account)
{
	const struct passwd *pw;
	struct stat st;
	int fd;

	make_directory(path);
	if (!p->privileged)
		return;
	pw = getpwnam(account);
	if (pw == NULL)
		die(EX_NOUSER,
		    "there is no account \"%s\": run `postrider init` as root, or "
		    "useradd --system --shell /usr/sbin/nologin %s",
		    account, account);
	fd = proc_open_directory(path);
	own_entries(fd, pw);
	if (give(fd, ".", pw) < 0 || fstat(fd, &st) < 0 || ((st.st_mode & 07777) != 0700 && fchmod(fd, 0700) < 0))
		die(EX_NOPERM, "cannot give %s to %s: %s", path, account, strerror(errno));
	close(fd);
}

void proc_jail(const struct proc *p, struct sandbox box)
{
	box.process = p->name;
	if (!p->privileged) {
		box.account = NULL;
		box.chroot_dir = NULL;
	}
	sandbox_raise_nofile();
	fault_init();
	clock_shift_init();
	sandbox_enter(&box);
}

static bool tell_master(enum proc_message number, const struct rpc_type *type, const void *msg)
{
	if (proc_send(PROC_CONTROL_FD, number, type, msg) == 0)
		return true;
	log_warning("master does not listen: %s", strerror(errno));
	return false;
}

static void on_missing(void *ctx, uint64_t gone)
{
	struct rpc_channel **callee = ctx;
	struct proc_missing missing = {.role = (uint32_t)(callee - callees), .count = gone};

	(void)tell_master(PROC_MISSING, &proc_missing_type, &missing);
}

void proc_calls(struct proc *p, enum process_role role, struct rpc_channel *c)
{
	(void)p;
	callees[role] = c;
	rpc_channel_on_missing(c, on_missing, &callees[role]);
}

/* ---- the control thread ---- */

static bool reply(enum proc_message number, struct str text)
{
	struct proc_note note = {.text = text};

	return tell_master(number, &proc_note_type, &note);
}

void proc_taken(uint64_t generation, struct str why)
{
	struct proc_taken taken = {.generation = generation, .why = why};

	(void)tell_master(PROC_TAKEN, &proc_taken_type, &taken);
}

/* The message came, but not its descriptors: as many as may be are open. Who has room a moment later gets it then. */
static int ask_again(struct proc_packet *packet, uint64_t tag, struct str text)
{
	struct proc_again again = {.number = packet->number, .tag = tag, .text = text};

	log_warning("out of descriptors: asking master for message %u once more", packet->number);
	(void)tell_master(PROC_AGAIN, &proc_again_type, &again);
	return 0;
}

static struct bundle *open_bundle(const struct proc *p, struct proc_config *config, struct err *err)
{
	struct bundle *b = bundle_open(config->bundle, p->dir, err);

	if (b && p->role == PROCESS_DIRECTORY && bundle_take_tables(b, config->tables, err) < 0)
		bundle_unref(&b);
	fd_close(&config->bundle);
	fd_close(&config->tables);
	if (b)
		b->generation = config->generation;
	return b;
}

static int on_config(struct proc_packet *packet, const struct proc *p, struct err *err)
{
	struct proc_config config;
	struct err why = ERR_NONE;
	struct bundle *b;
	int result;

	if (proc_unpack(packet, &proc_config_type, &config, err) < 0)
		return -1;
	if (packet->fds_lost)
		return ask_again(packet, 0, STR_NULL);
	b = open_bundle(p, &config, &why);
	result = b == NULL ? -1 : hooks.reload ? hooks.reload(hooks.ctx, b, &why) : 0;
	bundle_unref(&b);
	if (result < 0)
		log_error("the new configuration is not used: %s", why.text);
	if (result <= 0)
		proc_taken(config.generation, str_from(result < 0 ? why.text : ""));
	return 0;
}

static int on_listen(struct proc_packet *packet, struct err *err)
{
	struct proc_listen listener;

	if (proc_unpack(packet, &proc_listen_type, &listener, err) < 0)
		return -1;
	if (packet->fds_lost)
		return ask_again(packet, 0, listener.address);
	if (hooks.listen)
		hooks.listen(hooks.ctx, listener.name, listener.fd);
	else
		fd_close(&listener.fd);
	return 0;
}

static int on_peer(struct proc_packet *packet, struct err *err)
{
	struct proc_peer peer;
	struct rpc_channel *c;

	if (proc_unpack(packet, &proc_peer_type, &peer, err) < 0)
		return -1;
	if (packet->fds_lost)
		return ask_again(packet, peer.tag, STR_NULL);
	c = process_tag_role(peer.tag) < PROCESS_ROLES ? callees[process_tag_role(peer.tag)] : NULL;
	if (c)
		rpc_channel_attach(c, peer.fd);
	else if (hooks.peer)
		hooks.peer(hooks.ctx, peer.fd, peer.tag);
	else
		fd_close(&peer.fd);
	return 0;
}

static int on_drop(struct proc_packet *packet, struct err *err)
{
	struct proc_drop d;

	if (proc_unpack(packet, &proc_drop_type, &d, err) < 0)
		return -1;
	if (packet->fds_lost) {
		proc_dropped(d.name, SUBMIT_LATER, STR("out of descriptors"));
	} else if (hooks.drop) {
		hooks.drop(hooks.ctx, &d);
	} else {
		fd_close(&d.file);
		fd_close(&d.conn);
	}
	return 0;
}

void proc_dropped(struct str name, uint8_t result, struct str text)
{
	struct proc_dropped d = {.name = name, .result = result, .text = text};

	(void)tell_master(PROC_DROPPED, &proc_dropped_type, &d);
}

static int on_ask(void)
{
	struct proc_state state = {.sessions = hooks.sessions ? hooks.sessions(hooks.ctx) : 0};

	if (hooks.numbers)
		hooks.numbers(hooks.ctx, &state);
	return proc_send(PROC_CONTROL_FD, PROC_STATE, &proc_state_type, &state);
}

#ifdef POSTRIDER_TEST
static int on_probe(struct proc_packet *packet, struct err *err)
{
	struct proc_note note;
	struct buf out;

	if (proc_unpack(packet, &proc_note_type, &note, err) < 0)
		return -1;
	buf_init(&out, 60000);
	proc_probe(note.text, callees, &out);
	reply(PROC_PROBED, buf_str(&out));
	buf_release(&out);
	return 0;
}
#endif

/* Orders the end and watches over it: a loop that does not return must not keep the process. */
static void order_end(int64_t grace_ms) NORETURN;
static void order_end(int64_t grace_ms)
{
	struct timespec wait = {.tv_sec = (grace_ms + END_MS) / 1000};

	/* Who is not there now will not be there for us again, and nobody shall wait for him. */
	for (size_t role = 0; role < PROCESS_ROLES; role++)
		if (callees[role])
			rpc_channel_give_up(callees[role]);
	if (hooks.stop)
		hooks.stop(hooks.ctx, grace_ms);
	else
		_exit(EX_OK);
	while (nanosleep(&wait, &wait) < 0 && errno == EINTR)
		;
	log_error("did not end within %d seconds of being told to; ending now", (int)((grace_ms + END_MS) / 1000));
	_exit(EX_TEMPFAIL);
}

static int on_stop(struct proc_packet *packet, struct err *err)
{
	struct proc_stop stop;

	if (proc_unpack(packet, &proc_stop_type, &stop, err) < 0)
		return -1;
	proc_packet_release(packet);
	order_end((int64_t)stop.grace_ms);
}

static int handle(struct proc_packet *packet, const struct proc *p, struct err *err)
{
	switch (packet->number) {
	case PROC_CONFIG:
		return on_config(packet, p, err);
	case PROC_LISTEN:
		return on_listen(packet, err);
	case PROC_PEER:
		return on_peer(packet, err);
	case PROC_STOP:
		return on_stop(packet, err);
	case PROC_ASK:
		return on_ask();
	case PROC_DROP:
		return on_drop(packet, err);
	case PROC_CONNECTED:
		return proc_connected(packet, err);
#ifdef POSTRIDER_TEST
	case PROC_PROBE:
		return on_probe(packet, err);
#endif
	default:
		return err_set(err, ERR_SYNTAX, "", "message %u of master is unknown", packet->number);
	}
}

/* Waits for the next message of master. False: master is gone. A kernel that is out of memory for a moment is not. */
static bool next_packet(struct proc_packet *packet)
{
	const struct timespec pause = {.tv_nsec = RECV_PAUSE_MS * 1000000L};
	int n;

	while ((n = proc_recv(PROC_CONTROL_FD, packet)) < 0 &&
	       (errno == ENOMEM || errno == ENOBUFS || errno == EBADMSG)) {
		log_warning("master's message: %s", strerror(errno));
		nanosleep(&pause, NULL);
	}
	return n > 0;
}

static void *control_thread(void *arg)
{
	const struct proc *p = arg;
	struct proc_packet packet;

	while (next_packet(&packet)) {
		struct err err = ERR_NONE;

		if (handle(&packet, p, &err) < 0 && err.kind != ERR_OK)
			log_error("master: %s", err.text);
		proc_packet_release(&packet);
	}
	log_warning("master is gone; ending");
	order_end(ORPHAN_GRACE_MS);
}

/* Master ends whoever it was and starts another: a channel that was closed is not made again otherwise. */
static void report_misconduct(uint64_t tag, const char *what)
{
	struct proc_report report = {.tag = tag, .text = str_from(what)};

	(void)tell_master(PROC_REPORT, &proc_report_type, &report);
}

void proc_serve(struct proc *p, const struct proc_hooks *h)
{
	pthread_attr_t attr;
	pthread_t thread;

	hooks = *h;
	rpc_on_misconduct(report_misconduct);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attr, control_thread, p) != 0)
		die(EX_OSERR, "cannot start a thread: %s", strerror(errno));
	pthread_attr_destroy(&attr);
	proc_taken(p->bundle->generation, STR(""));
	/* Master would wait for it for ever. */
	if (!reply(PROC_READY, str_from(sandbox_status())))
		die(EX_OSERR, "cannot tell master that we are ready");
}

void proc_done(struct proc *p)
{
	log_debug("%s ends", p->name);
}

/* ---- start ---- */

/* The first packet: who we are and what is configured. */
static void take_config(struct proc *p)
{
	struct err err = ERR_NONE;
	struct proc_packet packet;
	struct proc_config config;

	if (proc_recv(PROC_CONTROL_FD, &packet) <= 0)
		die(EX_USAGE, "--process is for master's use; say `postrider -c DIR run`");
	if (packet.fds_lost)
		die(EX_OSERR, "out of descriptors");
	if (packet.number != PROC_CONFIG || proc_unpack(&packet, &proc_config_type, &config, &err) < 0)
		die(EX_PROTOCOL, "master's first packet: %s", err.text);
	p->serial = config.serial;
	p->dir = str_dup(config.dir);
	p->bundle = open_bundle(p, &config, &err);
	if (p->bundle == NULL)
		die(EX_CONFIG, "%s", err.text);
	proc_packet_release(&packet);
	p->queue_directory = bundle_queue_directory(p->bundle, p->dir);
	p->mailbox_base = bundle_mailbox_base(p->bundle, p->dir);
	p->empty_directory = mem_printf("%s/%s", p->queue_directory, INSTANCE_SPOOL_EMPTY);
}

/* Threads share a few heaps instead of having one each, and a heap keeps half a megabyte that was used instead of
 * giving it back after each message, only to fault it in again for the next. Larger pieces are the kernel's, as ever.
 */
static void settle_memory(void)
{
	mallopt(M_ARENA_MAX, 4);
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	mallopt(M_TRIM_THRESHOLD, 512 << 10);
}

/* Nobody looks on while a message waits to leave: a thread that is woken does not drive another from its processor,
 * but begins when that one has nothing more to do, and finds more to do at once. Where a processor is free nothing
 * changes (doc/decisions/0039). */
static void be_patient(void)
{
	if (sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}) < 0)
		log_debug("cannot be scheduled as a batch: %m");
}

static void settle(const char *name)
{
	char *log_name = mem_printf("postrider/%s", name), *title = mem_printf("pr-%s", name);
	sigset_t none;

	log_init(log_name);
	log_to_fd(PROC_LOG_FD);
	prctl(PR_SET_NAME, title);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* the terminal's; a reload comes from master */
	signal(SIGINT, SIG_IGN); /* Ctrl-C goes to the whole group; master decides the order */
	umask(077);
	free(log_name);
	free(title);
}

int proc_main(const char *name)
{
	struct proc p = {.name = name, .privileged = getuid() == 0};

	for (size_t i = 0; i < ARRAY_SIZE(processes); i++) {
		if (strcmp(processes[i].name, name) != 0)
			continue;
		nth_init(name);
		settle_memory();
		settle(name);
		if (processes[i].patient)
			be_patient();
		p.role = processes[i].role;
		take_config(&p);
		return processes[i].run(&p);
	}
	die(EX_USAGE, "there is no process \"%s\"", name);
}
