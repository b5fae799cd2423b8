/* master_child - one process: starting it, talking to it, hearing of its end. */
#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "os/fd.h"
#include "proc/master.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096
/* A busy process writes a few lines a message: what gathers in this time is taken with one read and one write. Its pipe
 * has room for what comes meanwhile, or whoever deletes a great queue waits longer for it than for the disk. */
#define LOG_GATHER_MS  10
#define LOG_READ_BYTES (64u << 10)
#define LOG_PIPE_BYTES (512u << 10)
/* What looks at a descriptor again when the kernel had no memory to do it at once. */
#define WATCH_AGAIN_MS 1000
/* Who had no room for a descriptor may have some then. */
#define SEND_AGAIN_MS  1000
#define AGAINS_MAX     256 /* more than a process has sockets and peers: it does not mean it */
#define AGAIN_TEXT_MAX 256
/* For the sessions of a process that lost a channel: what is under way may have to wait for time-outs. */
#define CHANNEL_LOST_GRACE_MS 10000

/* Who may talk to whom. The caller asks, the callee answers. */
static const struct {
	enum process_role caller, callee;
} graph[] = {
	{PROCESS_SMTPD, PROCESS_STORE},	 {PROCESS_SMTPD, PROCESS_DIRECTORY},  {PROCESS_SMTPD, PROCESS_QUEUE},
	{PROCESS_ACCESS, PROCESS_STORE}, {PROCESS_ACCESS, PROCESS_DIRECTORY}, {PROCESS_RELAY, PROCESS_STORE},
	{PROCESS_SMTPD, PROCESS_DNS},	 {PROCESS_RELAY, PROCESS_DNS},	      {PROCESS_RELAY, PROCESS_DIRECTORY},
	{PROCESS_RELAY, PROCESS_QUEUE},	 {PROCESS_DIRECTORY, PROCESS_STORE},
};

static bool may_ask(enum process_role caller, enum process_role callee)
{
	for (size_t i = 0; i < ARRAY_SIZE(graph); i++)
		if (graph[i].caller == caller && graph[i].callee == callee)
			return true;
	return false;
}

void child_init(struct master *m, enum process_role role, const char *name, unsigned phase)
{
	struct child *c = &m->children[role];

	*c = (struct child){.master = m, .name = name, .role = role, .phase = phase, .control = -1, .log_fd = -1};
	buf_init(&c->log_line, LINE_MAX_BYTES + LOG_READ_BYTES);
}

/* ---- packets ---- */

void child_send(struct child *c, enum proc_message number, const struct rpc_type *type, const void *msg)
{
	if (c->pid == 0 || c->control < 0)
		return;
	if (proc_send(c->control, number, type, msg) == 0 || errno == EPIPE || errno == ECONNRESET)
		return; /* its end is noticed by itself */
	log_error("process %s[%d] does not read its control channel (%s); killing it", c->name, (int)c->pid,
		  strerror(errno));
	kill(c->pid, SIGKILL);
}

/* The limit that a front end's files have follows message_size_limit. The process has set it for itself, and cannot any
 * more; a master without CAP_SYS_RESOURCE (many containers) cannot either: then the process begins anew. A limit that
 * is too large for a while does no harm. */
static void follow_file_size(struct child *c)
{
	uint64_t most = bundle_file_size_max(c->master->bundle);
	bool grows = c->file_size_max && (most == 0 || most > c->file_size_max);
	struct proc_stop stop = {.grace_ms = (uint64_t)c->master->bundle->conf->shutdown_grace_time};
	struct rlimit size;

	if (most == c->file_size_max || !c->ready)
		return;
	if (prlimit(c->pid, RLIMIT_FSIZE, NULL, &size) == 0) {
		size.rlim_cur = most && most < size.rlim_max ? most : size.rlim_max;
		if (prlimit(c->pid, RLIMIT_FSIZE, &size, NULL) == 0) {
			c->file_size_max = most;
			return;
		}
	}
	if (!grows)
		return;
	log_info("process %s[%d] begins anew, for a larger message_size_limit", c->name, (int)c->pid);
	c->told_to_stop = true;
	child_send(c, PROC_STOP, &proc_stop_type, &stop);
}

void child_send_config(struct child *c)
{
	const struct master *m = c->master;
	bool keys = c->role == PROCESS_SMTPD || c->role == PROCESS_ACCESS;
	struct proc_config config = {.serial = c->serial,
				     .generation = ++c->master->generation,
				     .dir = str_from(m->dir),
				     .bundle = keys			  ? m->bundle_full
					       : c->role == PROCESS_RELAY ? m->bundle_relay
									  : m->bundle_plain,
				     .tables = c->role == PROCESS_DIRECTORY ? m->tables_full : m->tables_none};

	c->config_sent = config.generation;
	child_send(c, PROC_CONFIG, &proc_config_type, &config);
	if (keys)
		follow_file_size(c);
}

void child_send_listening(struct child *c, const struct listening *l)
{
	struct proc_listen listener = {.name = str_from(l->service), .address = str_from(l->address), .fd = l->fd};

	child_send(c, PROC_LISTEN, &proc_listen_type, &listener);
}

static void send_peer(struct child *to, uint64_t tag, int fd)
{
	struct proc_peer peer = {.tag = tag, .fd = fd};

	child_send(to, PROC_PEER, &proc_peer_type, &peer);
}

/* The callee first: it knows the tag before the caller's first request can arrive anywhere. */
static void connect_pair(struct child *caller, struct child *callee)
{
	int pair[2];

	if (fd_socketpair(pair) < 0) {
		log_error("cannot connect %s with %s: %s", caller->name, callee->name, strerror(errno));
		return;
	}
	send_peer(callee, process_tag(caller->serial, caller->role), pair[0]);
	send_peer(caller, process_tag(callee->serial, callee->role), pair[1]);
	caller->connected[callee->role]++;
	close(pair[0]);
	close(pair[1]);
}

void child_connect_master(struct child *c)
{
	struct master *m = c->master;
	int pair[2];

	if (c->pid == 0 || m->callees[c->role] == NULL || rpc_channel_connected(m->callees[c->role]))
		return;
	if (fd_socketpair(pair) < 0) {
		log_error("cannot connect master with %s: %s", c->name, strerror(errno));
		return;
	}
	send_peer(c, process_tag(0, PROCESS_MASTER), pair[0]);
	close(pair[0]);
	rpc_channel_attach(m->callees[c->role], pair[1]);
}

static void connect_all(struct child *c)
{
	struct child *children = c->master->children;

	child_connect_master(c);
	for (size_t i = 0; i < ARRAY_SIZE(graph); i++) {
		struct child *caller = &children[graph[i].caller], *callee = &children[graph[i].callee];

		if ((caller == c || callee == c) && caller->pid && callee->pid)
			connect_pair(caller, callee);
	}
}

/* ---- what it tells us ----
 *
 * A captured one tells what it likes, so what it says is about itself, or about who may ask it. */

static void on_ready(struct child *c, struct proc_packet *packet)
{
	struct proc_note note;

	if (proc_unpack(packet, &proc_note_type, &note, NULL) < 0)
		return;
	free(c->jail);
	c->jail = str_dup(note.text);
	utf8_hide_controls(c->jail, strlen(c->jail)); /* it goes to a terminal */
	c->ready = true;
	log_info("process %s[%d] is ready: %s; other processes call it %s#%llu", c->name, (int)c->pid, c->jail, c->name,
		 (unsigned long long)c->serial);
	if (c->role == PROCESS_SMTPD || c->role == PROCESS_ACCESS)
		follow_file_size(c); /* of a reload while it started */
	master_child_ready(c);
	reload_look(c->master);
	if (c->role == PROCESS_SMTPD)
		pickup_again(c->master);
}

static void take_state(struct child *c, const struct proc_state *state)
{
	c->sessions = state->sessions;
	c->login_failures = state->login_failures;
	c->read_only = state->read_only != 0;
	c->downs = state->downs;
	c->down_s = state->down_s;
	snprintf(c->down_where, sizeof(c->down_where), "%.*s", STR_ARG(state->down_where));
	/* It goes into a file of lines, and into mail. */
	utf8_hide_controls(c->down_where, strlen(c->down_where));
	if (c->role == PROCESS_DIRECTORY)
		surge_take(c->master, state);
}

static void on_state(struct child *c, struct proc_packet *packet)
{
	struct proc_state state;

	if (proc_unpack(packet, &proc_state_type, &state, NULL) == 0)
		take_state(c, &state);
}

/* Not about to end, nor at its end with nobody having heard of it yet. */
static bool alive(const struct child *c)
{
	siginfo_t info = {0};

	return c->pid != 0 && !c->ending && !c->told_to_stop &&
	       waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

/* It has no channel to a callee. Either none could be made: here is one; or one broke although both live, for which
 * the kernel must have been out of memory, and what was told over it (grants, sessions, claims) is lost at one end:
 * the caller ends in order and begins anew. What is on its way already needs nothing. A channel that is not its to have
 * it does not get. */
static void on_missing(struct child *c, struct proc_packet *packet)
{
	struct proc_stop stop = {.grace_ms = CHANNEL_LOST_GRACE_MS};
	struct proc_missing missing;
	struct child *callee;

	if (proc_unpack(packet, &proc_missing_type, &missing, NULL) < 0 || missing.role >= PROCESS_ROLES)
		return;
	callee = &c->master->children[missing.role];
	if (!may_ask(c->role, callee->role)) {
		log_warning("process %s[%d] asks for a channel to %s, which it has no business with", c->name,
			    (int)c->pid, callee->name);
		return;
	}
	if (!alive(c) || !alive(callee) || missing.count != c->connected[missing.role])
		return;
	if (missing.count == 0) {
		connect_pair(c, callee);
		return;
	}
	log_warning("process %s[%d] lost its channel to %s[%d]; starting it again", c->name, (int)c->pid, callee->name,
		    (int)callee->pid);
	c->ending = true;
	child_send(c, PROC_STOP, &proc_stop_type, &stop);
}

/* ---- what it had no room for ---- */

/* A message to a child whose descriptors it could not take: sent once more when a moment has gone by. */
struct again {
	struct master *master;
	enum process_role role;
	uint64_t serial;
	uint16_t number;
	uint64_t tag;
	char *text;
};

/* The channel is made anew: the first one's end that was lost is closed, and so the other side has let go of it, or
 * will. Unless it is about another process by now, which has a channel of its own. */
static void peer_again(struct child *c, uint64_t tag)
{
	struct child *other = &c->master->children[process_tag_role(tag)];

	if (process_tag_role(tag) == PROCESS_MASTER) {
		child_connect_master(c);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(graph); i++)
		if (graph[i].caller == c->role && graph[i].callee == other->role)
			c->connected[other->role]--; /* that one never came */
	if (other->pid == 0 || process_tag(other->serial, other->role) != tag)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(graph); i++) {
		if (graph[i].caller == c->role && graph[i].callee == other->role) {
			connect_pair(c, other);
		} else if (graph[i].caller == other->role && graph[i].callee == c->role) {
			connect_pair(other, c);
		}
	}
}

static void listening_again(struct child *c, const char *address)
{
	const struct master *m = c->master;

	for (size_t i = 0; i < m->sockets.n; i++)
		if (m->sockets.v[i]->role == c->role && strcmp(m->sockets.v[i]->address, address) == 0)
			child_send_listening(c, m->sockets.v[i]);
}

static void send_again(void *ctx)
{
	struct again *a = ctx;
	struct child *c = &a->master->children[a->role];

	if (c->pid != 0 && c->serial == a->serial) {
		c->agains--;
		if (a->number == PROC_CONFIG)
			child_send_config(c);
		else if (a->number == PROC_LISTEN)
			listening_again(c, a->text);
		else if (a->number == PROC_PEER && process_tag_role(a->tag) < PROCESS_ROLES)
			peer_again(c, a->tag);
	}
	free(a->text);
	free(a);
}

static void on_again(struct child *c, struct proc_packet *packet)
{
	struct proc_again msg;
	struct again *a;

	if (proc_unpack(packet, &proc_again_type, &msg, NULL) < 0 || c->agains >= AGAINS_MAX ||
	    msg.text.len > AGAIN_TEXT_MAX)
		return;
	c->agains++;
	a = NEW(struct again);
	*a = (struct again){.master = c->master,
			    .role = c->role,
			    .serial = c->serial,
			    .number = msg.number,
			    .tag = msg.tag,
			    .text = str_dup(msg.text)};
	rpc_server_after(c->master->server, SEND_AGAIN_MS, send_again, a);
}

static void on_taken(struct child *c, struct proc_packet *packet)
{
	struct proc_taken taken;

	if (proc_unpack(packet, &proc_taken_type, &taken, NULL) == 0)
		reload_taken(c, &taken);
}

static void on_probed(struct child *c, struct proc_packet *packet)
{
	struct proc_note note;

	if (proc_unpack(packet, &proc_note_type, &note, NULL) < 0)
		return;
	if (c->probe) {
		rpc_answer(c->probe, &note);
		c->probe = NULL;
	}
}

/* Whom strangers speak to may be theirs by now, and would have others ended. */
static bool is_believed(const struct child *c)
{
	return c->role == PROCESS_STORE || c->role == PROCESS_QUEUE || c->role == PROCESS_DIRECTORY;
}

/* Another process says that one broke the rules of the channel between them. None of ours does while it is ours. */
static void on_report(struct child *c, struct proc_packet *packet)
{
	struct child *children = c->master->children;
	struct proc_report report;

	if (proc_unpack(packet, &proc_report_type, &report, NULL) < 0)
		return;
	if (!is_believed(c) || !may_ask(process_tag_role(report.tag), c->role)) {
		char name[64];

		process_tag_name(report.tag, name, sizeof(name));
		log_warning("process %s[%d] says that %s broke the rules of a channel (%.*s): nobody is ended for that",
			    c->name, (int)c->pid, name, STR_ARG(str_sub(report.text, 0, 200)));
		return;
	}
	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++) {
		struct child *accused = &children[role];

		if (accused->pid == 0 || process_tag(accused->serial, accused->role) != report.tag)
			continue;
		log_error("process %s[%d] broke the rules of its channel to %s (%.*s): ending it", accused->name,
			  (int)accused->pid, c->name, STR_ARG(report.text));
		kill(accused->pid, SIGKILL);
	}
}

static void on_dropped(struct child *c, struct proc_packet *packet)
{
	struct proc_dropped d;

	if (c->role == PROCESS_SMTPD && proc_unpack(packet, &proc_dropped_type, &d, NULL) == 0)
		pickup_dropped(c->master, &d);
}

static void on_control(void *ctx, int fd)
{
	struct child *c = ctx;
	struct proc_packet packet;
	int n = proc_recv(fd, &packet);

	if (n == 0) {
		/* Closed: it is ending, and SIGCHLD tells the rest. If only we cannot hear it any more, this ends it.
		 */
		rpc_server_unwatch_fd(c->master->server, fd);
		shutdown(fd, SHUT_RDWR);
		return;
	}
	if (n < 0)
		return;
	if (packet.number == PROC_READY)
		on_ready(c, &packet);
	else if (packet.number == PROC_STATE)
		on_state(c, &packet);
	else if (packet.number == PROC_MISSING)
		on_missing(c, &packet);
	else if (packet.number == PROC_AGAIN)
		on_again(c, &packet);
	else if (packet.number == PROC_TAKEN)
		on_taken(c, &packet);
	else if (packet.number == PROC_PROBED)
		on_probed(c, &packet);
	else if (packet.number == PROC_REPORT)
		on_report(c, &packet);
	else if (packet.number == PROC_DROPPED)
		on_dropped(c, &packet);
	else if (packet.number == PROC_CONNECT)
		child_wants_connection(c, &packet);
	proc_packet_release(&packet);
}

/* Whole lines go to the log: as they are, when they say whose they are. */
static void pass_lines(struct child *c, bool all)
{
	struct str rest = buf_str(&c->log_line);
	const char *last = memrchr(rest.ptr, '\n', rest.len);
	size_t whole = last ? (size_t)(last - rest.ptr) + 1 : 0;

	if (whole)
		master_log_lines(c, str_sub(rest, 0, whole));
	rest = str_skip(rest, whole);
	if (rest.len && (all || rest.len >= LINE_MAX_BYTES)) {
		master_log_lines(c, rest);
		rest.len = 0;
	}
	buf_consume(&c->log_line, c->log_line.len - rest.len);
}

/* Between two reads at most an unfinished line is kept, so the buffer has room for the next. */
static ssize_t read_log(struct child *c)
{
	static char bytes[LOG_READ_BYTES];
	ssize_t n = read(c->log_fd, bytes, sizeof(bytes));

	if (n > 0) {
		buf_add(&c->log_line, bytes, (size_t)n);
		pass_lines(c, false);
	}
	return n;
}

/* What is in the pipe, and no more: who writes without end waits for us. 0: the other end is closed. */
static ssize_t read_gathered(struct child *c)
{
	size_t got = 0;
	ssize_t n;

	do {
		n = read_log(c);
		got += n > 0 ? (size_t)n : 0;
	} while (n > (ssize_t)LOG_READ_BYTES / 2 && got < LOG_PIPE_BYTES);
	return n;
}

static void on_log(void *ctx, int fd);

static void log_resume(void *ctx)
{
	struct child *c = ctx;

	if (!c->log_paused)
		return; /* it has ended meanwhile */
	c->log_paused = false;
	if (rpc_server_watch_fd(c->master->server, c->log_fd, on_log, c) < 0) {
		c->log_paused = true;
		rpc_server_after(c->master->server, WATCH_AGAIN_MS, log_resume, c);
	}
}

static void on_log(void *ctx, int fd)
{
	struct child *c = ctx;

	rpc_server_unwatch_fd(c->master->server, fd);
	if (read_gathered(c) == 0)
		return;
	c->log_paused = true;
	rpc_server_after(c->master->server, LOG_GATHER_MS, log_resume, c);
}

/* ---- start ---- */

/* Kept from our environment: the time zone, and what tests and sanitizers need. */
static bool wanted_variable(const char *variable)
{
	static const char *const prefixes[] = {"TZ=",		"POSTRIDER_",	      "ASAN_OPTIONS=", "UBSAN_OPTIONS=",
					       "TSAN_OPTIONS=", "LLVM_PROFILE_FILE=", "GCOV_PREFIX"};

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (str_starts(str_from(variable), str_from(prefixes[i])))
			return true;
	return false;
}

struct launch {
	int control, log, null, exe;
	char *argv[4];
	char *envp[32];
};

/* In the new process: only calls that are safe after fork() in a process with threads. Nothing of a terminal is left
 * to it: who holds one can read what is typed there. */
static void launch(const struct launch *l) NORETURN;
static void launch(const struct launch *l)
{
	if (dup2(l->control, PROC_CONTROL_FD) < 0 || dup2(l->log, PROC_LOG_FD) < 0 || dup2(l->null, STDIN_FILENO) < 0 ||
	    dup2(l->null, STDOUT_FILENO) < 0 || dup2(l->log, STDERR_FILENO) < 0)
		_exit(EX_OSERR);
	fexecve(l->exe, l->argv, l->envp);
	_exit(EX_OSERR);
}

/* Descriptors that dup2() to 0 .. 4 cannot hit. */
static int move_up(int fd)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, 10);

	close(fd);
	return moved;
}

static pid_t fork_child(struct child *c, int control, int log)
{
	const struct master *m = c->master;
	struct launch l = {.control = move_up(control), .log = move_up(log), .exe = m->exe_fd};
	char name[32];
	size_t variables = 0;
	pid_t pid;

	l.null = move_up(open("/dev/null", O_RDWR | O_CLOEXEC));
	snprintf(name, sizeof(name), "%s", c->name);
	l.argv[0] = (char *)(uintptr_t) "postrider";
	l.argv[1] = (char *)(uintptr_t) "--process";
	l.argv[2] = name;
	for (char **v = environ; *v && variables + 1 < ARRAY_SIZE(l.envp); v++)
		if (wanted_variable(*v))
			l.envp[variables++] = *v;
	pid = fork();
	if (pid == 0)
		launch(&l);
	close(l.control);
	close(l.log);
	close(l.null);
	return pid;
}

static int make_pipes(int control[2], int log[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0)
		return -1;
	if (pipe2(log, O_CLOEXEC) < 0) {
		close(control[0]);
		close(control[1]);
		return -1;
	}
	fd_nonblocking(control[0], true);
	fd_nonblocking(log[0], true);
	(void)fcntl(log[1], F_SETPIPE_SZ, LOG_PIPE_BYTES); /* who may not have so much keeps what it is made with */
	return 0;
}

/* A process that is looked at neither by its control channel nor by its log is worth nothing: it ends when both
 * close, and its end starts the next. */
static void watch(struct child *c)
{
	struct rpc_server *s = c->master->server;

	if (rpc_server_watch_fd(s, c->control, on_control, c) == 0 && rpc_server_watch_fd(s, c->log_fd, on_log, c) == 0)
		return;
	log_error("cannot watch process %s[%d]: %s; killing it", c->name, (int)c->pid, strerror(errno));
	kill(c->pid, SIGKILL);
}

int child_start(struct child *c)
{
	struct master *m = c->master;
	int control[2], log[2];

	invariant(c->pid == 0);
	c->started_ms = clock_ms();
	c->file_size_max = bundle_file_size_max(m->bundle);
	if (make_pipes(control, log) < 0) {
		log_error("cannot make the channels of %s: %s", c->name, strerror(errno));
		return -1;
	}
	c->serial = ++m->next_serial;
	c->ready = c->told_to_stop = c->ending = false;
	c->agains = 0;
	memset(c->connected, 0, sizeof(c->connected));
	c->pid = fork_child(c, control[1], log[1]);
	if (c->pid < 0) {
		log_error("cannot start %s: %s", c->name, strerror(errno));
		c->pid = 0;
		close(control[0]);
		close(log[0]);
		return -1;
	}
	c->control = control[0];
	c->log_fd = log[0];
	watch(c);
	child_send_config(c);
	connect_all(c);
	for (size_t i = 0; i < m->sockets.n; i++)
		if (m->sockets.v[i]->role == c->role) {
			/* Its predecessor, if it was captured, may have shut down what both share. */
			if (listen(m->sockets.v[i]->fd, LISTEN_BACKLOG) < 0)
				log_warning("service %s: listen: %s", m->sockets.v[i]->service, strerror(errno));
			child_send_listening(c, m->sockets.v[i]);
		}
	return 0;
}

/* ---- end ---- */

void child_ended(struct child *c, int status)
{
	struct master *m = c->master;
	pid_t pid = c->pid;

	while (read_log(c) > 0)
		;
	pass_lines(c, true);
	rpc_server_unwatch_fd(m->server, c->control);
	rpc_server_unwatch_fd(m->server, c->log_fd);
	c->log_paused = false;
	fd_close(&c->control);
	fd_close(&c->log_fd);
	c->pid = 0;
	c->ready = false;
	c->sessions = 0;
	if (c->role == PROCESS_SMTPD)
		pickup_lost(m);
	c->read_only = false;
	if (c->probe) {
		struct proc_note note = {.text = STR("killed")};

		rpc_answer(c->probe, &note);
		c->probe = NULL;
	}
	if (WIFSIGNALED(status))
		log_warning("process %s pid %d killed by signal %d", c->name, (int)pid, WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0 || !c->told_to_stop)
		log_warning("process %s pid %d exit status %d", c->name, (int)pid, WEXITSTATUS(status));
}
