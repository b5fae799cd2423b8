/* master_alert - the conditions of alarm mail (policy/alarm.h): gathering their numbers, and having the mail sent.
 *
 *	every alert_check_interval --> PROC_ASK to all; a thread asks the queue and the file systems, which may hang
 *	the thread is done --> compare, keep the state in DIR/run/alarms, compose
 *	there is something to say --> `postrider alert`, as an administrator would call it: it knows both paths
 *
 * All that comes from other processes is numbers. When the thread does not come back, that is a condition itself. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/instance.h"
#include "os/fd.h"
#include "proc/master.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define QUEUE_WAIT_MS  10000
#define DEATHS_MS      (10 * 60 * 1000)
#define UNREADY_MS     (2 * 60 * 1000)
#define STATE_MAX      65536
#define GATHER_HANG_MS 30000
#define PLACES	       4

struct gathering {
	struct master *master;
	char *places[PLACES];
	size_t place_count;
	uint32_t count_max;
	struct alarm_number numbers[ALARM_COUNT];
};

static void set_number(struct alarm_number *n, int64_t value, const char *where)
{
	n->known = true;
	n->value = value;
	snprintf(n->where, sizeof(n->where), "%s", where);
}

/* ---- on the thread ---- */

static int64_t percent(uint64_t part, uint64_t whole)
{
	return whole ? (int64_t)((long double)part * 100 / (long double)whole) : 100;
}

static void look_at_place(struct gathering *g, const char *path)
{
	struct alarm_number *space = &g->numbers[ALARM_DISK_SPACE], *inodes = &g->numbers[ALARM_DISK_INODES];
	struct statvfs st;
	int64_t free_space, free_inodes;

	if (statvfs(path, &st) < 0)
		return;
	free_space = percent(st.f_bavail, st.f_blocks);
	free_inodes = percent(st.f_favail, st.f_files); /* file systems that do not count them say 0 of 0 */
	if (!space->known || free_space < space->value)
		set_number(space, free_space, path);
	if (!inodes->known || free_inodes < inodes->value)
		set_number(inodes, free_inodes, path);
}

static void ask_queue(struct gathering *g)
{
	struct queue_summary_ask ask = {.max = g->count_max};
	struct queue_summary sum;
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	int64_t age;

	rpc_reply_init(&hold);
	if (rpc_call(g->master->callees[PROCESS_QUEUE], &QUEUE_SUMMARY, &ask, &sum, &hold, true, QUEUE_WAIT_MS, &err) <
	    0) {
		log_warning("alert: the queue does not say what waits: %s", err.text);
		set_number(&g->numbers[ALARM_NO_ANSWER], 1, "process queue");
	} else {
		age = sum.oldest ? clock_wall() - (int64_t)sum.oldest : 0;
		set_number(&g->numbers[ALARM_QUEUE_MESSAGES], (int64_t)sum.messages, "");
		set_number(&g->numbers[ALARM_QUEUE_AGE], age > 0 ? age : 0, "");
	}
	rpc_reply_release(&hold);
}

static void gathered(void *ctx);

static void *gather_thread(void *arg)
{
	struct gathering *g = arg;

	for (size_t i = 0; i < g->place_count; i++)
		look_at_place(g, g->places[i]);
	ask_queue(g);
	rpc_server_after(g->master->server, 0, gathered, g);
	return NULL;
}

/* ---- what master knows itself ---- */

static unsigned deaths_of(const struct child *c)
{
	unsigned n = c->death_count < ALERT_DEATHS_MAX ? c->death_count : ALERT_DEATHS_MAX, recent = 0;

	for (unsigned i = 0; i < n; i++)
		recent += clock_ms() - c->deaths[i] < DEATHS_MS;
	return recent;
}

void alert_child_ended(struct child *c)
{
	if (!c->told_to_stop)
		c->deaths[c->death_count++ % ALERT_DEATHS_MAX] = clock_ms();
}

static void look_at_children(struct master *m, struct alarm_number *numbers)
{
	struct alarm_number *deaths = &numbers[ALARM_PROCESS_DEATHS], *away = &numbers[ALARM_NO_ANSWER];
	const char *read_only = "";
	char name[40];

	set_number(deaths, 0, "");
	if (!away->known)
		set_number(away, 0, "");
	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++) {
		struct child *c = &m->children[role];

		if (c->ready)
			c->unready_since = 0;
		else if (c->unready_since == 0)
			c->unready_since = clock_ms();
		snprintf(name, sizeof(name), "process %s", c->name);
		if (!c->ready && clock_ms() - c->unready_since >= UNREADY_MS)
			set_number(away, 1, name);
		if (c->read_only)
			read_only = c->name;
		if (deaths_of(c) > deaths->value)
			set_number(deaths, deaths_of(c), c->name);
	}
	set_number(&numbers[ALARM_READ_ONLY], read_only[0] != 0, read_only);
	set_number(&numbers[ALARM_LOGIN_FAILURES], (int64_t)m->children[PROCESS_DIRECTORY].login_failures, "");
	numbers[ALARM_LOGIN_FAILURES].known = m->children[PROCESS_DIRECTORY].ready;
}

/* One condition for all: a mail for each would be a flood. */
static void look_at_destinations(const struct child *relay, struct alarm_number *n)
{
	if (!relay->ready)
		return;
	set_number(n, (int64_t)relay->down_s, relay->down_where);
	if (relay->downs > 1)
		snprintf(n->where, sizeof(n->where), "%.*s and %llu more", (int)sizeof(relay->down_where),
			 relay->down_where, (unsigned long long)relay->downs - 1);
}

static void look_at_certificates(const struct master *m, struct alarm_number *n)
{
	struct str path;
	int64_t end;
	char *text;

	if (!bundle_certificates_end(m->bundle, &end, &path))
		return;
	text = str_dup(path);
	set_number(n, end > clock_wall() ? end - clock_wall() : 0, text);
	free(text);
}

/* ---- the state ---- */

static char *state_path(const struct master *m, const char *suffix)
{
	return mem_printf("%s/%s%s", m->dir, INSTANCE_ALARMS, suffix);
}

static void state_save(const struct master *m)
{
	char *path = state_path(m, ""), *fresh = state_path(m, ".new");
	int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	struct buf out;

	buf_init(&out, STATE_MAX);
	alarms_write(&m->alert.alarms, &out);
	/* Of use to the next master only: a disk that takes nothing is told of by other means. */
	if (fd < 0 || write(fd, out.ptr, out.len) != (ssize_t)out.len || rename(fresh, path) < 0)
		log_debug("alert: cannot write %s: %s", path, strerror(errno));
	fd_close(&fd);
	buf_release(&out);
	free(path);
	free(fresh);
}

static void state_load(struct master *m)
{
	char *path = state_path(m, ""), *text = mem_alloc(STATE_MAX);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? 0 : read(fd, text, STATE_MAX);

	alarms_read(&m->alert.alarms, str_of(text, n > 0 ? (size_t)n : 0));
	fd_close(&fd);
	free(path);
	free(text);
}

void alert_answer_list(struct master *m, struct rpc_request *req)
{
	struct control_alarms reply = {.looked = (uint64_t)m->alert.looked};
	struct control_alarm list[ALARM_COUNT];

	reply.alarms.v = list;
	for (int a = 0; a < ALARM_COUNT; a++) {
		const struct alarm_state *st = &m->alert.alarms.v[a];

		if (st->holds || st->told)
			list[reply.alarms.n++] = (struct control_alarm){.name = str_from(alarm_name(a)),
									.text = str_from(st->text),
									.holds = st->holds,
									.told = st->told,
									.since = (uint64_t)st->since,
									.last_mail = (uint64_t)st->last_mail};
	}
	rpc_answer(req, &reply);
}

/* ---- the mail ---- */

static int memory_file(const char *name, struct str text)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd >= 0 && (write(fd, text.ptr, text.len) != (ssize_t)text.len || lseek(fd, 0, SEEK_SET) != 0))
		fd_close(&fd);
	return fd;
}

static pid_t spawn(const struct master *m, char *const argv[], int input, int words)
{
	char *exe = mem_printf("/proc/self/fd/%d", m->exe_fd);
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none;
	pid_t pid = 0;

	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, input, STDIN_FILENO);
	posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&files, words, STDERR_FILENO);
	errno = posix_spawn(&pid, exe, &files, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	if (errno)
		pid = 0;
	free(exe);
	return pid;
}

#define ARG(text) ((char *)(uintptr_t)(text))

void alert_send(struct master *m, const char *to, const struct buf *subject, const struct buf *text, bool both,
		void (*done)(struct master *m, int exit_status))
{
	char *argv[] = {ARG("postrider"), ARG("-c"),	m->dir,	      ARG("alert"),
			ARG("-s"),	  subject->ptr, ARG("--own"), both ? ARG("--both") : ARG("--"),
			ARG(to),	  NULL};
	int input = memory_file("alert", buf_str(text)), words = memory_file("words", STR(""));

	if (input >= 0 && words >= 0)
		m->alert.mailer = spawn(m, argv, input, words);
	if (m->alert.mailer) {
		m->alert.mailer_words = words;
		m->alert.mailer_done = done;
		words = -1;
	} else {
		log_error("alert: cannot start the command that sends mail: %s", strerror(errno));
	}
	fd_close(&input);
	fd_close(&words);
}

bool alert_mailer_ended(struct master *m, pid_t pid, int status)
{
	int exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : EX_SOFTWARE;
	char words[512] = "";
	ssize_t n;

	if (pid != m->alert.mailer || pid == 0)
		return false;
	n = pread(m->alert.mailer_words, words, sizeof(words) - 1, 0);
	words[n > 0 ? n : 0] = 0;
	words[strcspn(words, "\n")] = 0;
	fd_close(&m->alert.mailer_words);
	m->alert.mailer = 0;
	if (exit_status != EX_OK)
		log_error("alert: the mail did not leave, trying again with the next look: %s", words);
	m->alert.mailer_done(m, exit_status);
	return true;
}

static void conditions_told(struct master *m, int exit_status)
{
	if (exit_status != EX_OK)
		return;
	alarms_told(&m->alert.alarms, m->bundle->conf, m->alert.mailer_mailed);
	state_save(m);
	surge_tell(m);
}

static void tell(struct master *m)
{
	struct buf subject, text;
	bool broken;

	if (m->alert.mailer || m->bundle->conf->alert_recipient.len == 0)
		return;
	buf_init(&subject, 1000);
	buf_init(&text, STATE_MAX);
	m->alert.mailer_mailed = clock_wall();
	if (alarms_compose(&m->alert.alarms, m->bundle->conf, m->alert.mailer_mailed, &subject, &text, &broken)) {
		log_warning("alert: %s", subject.ptr);
		alert_send(m, NULL, &subject, &text, broken, conditions_told);
	}
	buf_release(&subject);
	buf_release(&text);
}

/* ---- a look ---- */

static void look(struct master *m, struct alarm_number *numbers)
{
	look_at_children(m, numbers);
	look_at_destinations(&m->children[PROCESS_RELAY], &numbers[ALARM_DESTINATION]);
	look_at_certificates(m, &numbers[ALARM_CERTIFICATE]);
	m->alert.looked = clock_wall();
	alarms_look(&m->alert.alarms, numbers, m->bundle->conf, m->alert.looked);
	state_save(m);
	tell(m);
	surge_tell(m);
}

static void gathered(void *ctx)
{
	struct gathering *g = ctx;

	g->master->alert.gathering_ms = 0;
	if (g->master->phase == MASTER_SERVING)
		look(g->master, g->numbers);
	for (size_t i = 0; i < g->place_count; i++)
		free(g->places[i]);
	free(g);
}

static void gather(struct master *m)
{
	struct gathering *g = NEW(struct gathering);
	int64_t max = m->bundle->conf->alert_queue_messages;
	pthread_attr_t attr;
	pthread_t thread;

	*g = (struct gathering){.master = m, .count_max = (uint32_t)(max ? max : 1)};
	g->places[g->place_count++] = bundle_queue_directory(m->bundle, m->dir);
	g->places[g->place_count++] = bundle_mailbox_base(m->bundle, m->dir);
	g->places[g->place_count++] = mem_strdup(m->dir);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	m->alert.gathering_ms = clock_ms();
	if (pthread_create(&thread, &attr, gather_thread, g) != 0)
		gathered(g);
	pthread_attr_destroy(&attr);
}

static void on_time(void *ctx)
{
	struct alarm_number numbers[ALARM_COUNT] = {0};
	struct master *m = ctx;
	struct control_ok ask = {0};

	if (m->phase != MASTER_SERVING)
		return;
	rpc_server_after(m->server, m->bundle->conf->alert_check_interval, on_time, m);
	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++)
		child_send(&m->children[role], PROC_ASK, &control_ok_type, &ask);
	if (m->alert.gathering_ms == 0) {
		gather(m);
	} else if (clock_ms() - m->alert.gathering_ms > GATHER_HANG_MS) {
		set_number(&numbers[ALARM_NO_ANSWER], 1, "a file system of the queue or the mail");
		look(m, numbers);
	}
}

void alert_begin(struct master *m)
{
	m->alert.mailer_words = -1;
	state_load(m);
	on_time(m);
}
