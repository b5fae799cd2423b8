/* master_control - DIR/run/control: what administrators' commands ask of the running system.
 *
 * Who can open the socket (mode 0600) may do everything. What another process must answer is passed on from a
 * thread of its own, because master's loop never waits. */
#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/instance.h"
#include "directory/schema.h"
#include "os/fd.h"
#include "os/net.h"
#include "proc/master.h"
#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#define STATUS_WAIT_MS	  300 /* for the children's numbers */
#define RELAY_TIMEOUT_MS  60000
#define DNS_TIMEOUT_MS	  330000 /* beyond any dns_timeout */
#define STS_TIMEOUT_MS	  700000 /* beyond any smtp_mta_sts_timeout */
#define FSCK_TIMEOUT_MS	  3600000
#define COMMIT_TIMEOUT_MS 15000 /* of a command's message: it has another way */

static const struct control_ok ok;

/* ---- status ---- */

void control_answer_status(struct master *m)
{
	struct control_process list[PROCESS_ROLES] = {0};
	struct control_status status = {.pid = (uint64_t)getpid(),
					.version = m->bundle->conf->mail_version,
					.privileged = m->privileged,
					.stopping = m->phase == MASTER_STOPPING,
					.reloads = m->reloads,
					.processes.v = list};
	int64_t now = clock_ms();

	status.uptime_s = (uint64_t)(now - m->started_ms) / 1000;
	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++) {
		const struct child *c = &m->children[role];

		list[status.processes.n++] =
			(struct control_process){.name = str_from(c->name),
						 .pid = (uint64_t)c->pid,
						 .restarts = c->restarts,
						 .ready = c->ready,
						 .uptime_s = c->pid ? (uint64_t)(now - c->started_ms) / 1000 : 0,
						 .jail = str_from(c->jail),
						 .sessions = c->sessions};
	}
	for (size_t i = 0; i < m->status_waiters.n; i++)
		rpc_answer(m->status_waiters.v[i], &status);
	vec_clear(&m->status_waiters);
}

static void status_due(void *ctx)
{
	control_answer_status(ctx);
}

static void on_status(struct master *m, struct rpc_request *req)
{
	bool asked = m->status_waiters.n > 0;

	vec_push(&m->status_waiters, req);
	if (asked)
		return;
	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++)
		child_send(&m->children[role], PROC_ASK, &control_ok_type, &ok);
	rpc_server_after(m->server, STATUS_WAIT_MS, status_due, m);
}

/* ---- stop, reload, restart ---- */

void control_answer_stopped(struct master *m)
{
	for (size_t i = 0; i < m->stop_waiters.n; i++)
		rpc_answer(m->stop_waiters.v[i], &ok);
	vec_clear(&m->stop_waiters);
}

static void on_stop(struct master *m, struct rpc_request *req)
{
	vec_push(&m->stop_waiters, req);
	master_stop(m, EX_OK);
}

static void answer(struct rpc_request *req, int result, const struct err *err)
{
	if (result < 0)
		rpc_refuse(req, err);
	else
		rpc_answer(req, &ok);
}

static void answer_taken(struct master *m, struct rpc_request *req, int result, enum process_role only,
			 const struct err *err)
{
	if (result < 0)
		rpc_refuse(req, err);
	else
		reload_answer(m, req, only);
}

/* ---- passed on ---- */

struct passed {
	struct rpc_request *req;
	struct rpc_channel *channel;
	const struct rpc_call *call;
	int64_t timeout_ms;
	bool repeatable;
};

static void *pass_thread(void *arg)
{
	struct passed *p = arg;
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	void *reply = mem_alloc(p->call->reply->size);

	rpc_reply_init(&hold);
	if (rpc_call(p->channel, p->call, p->req->msg, reply, &hold, p->repeatable, p->timeout_ms, &err) < 0)
		rpc_refuse(p->req, &err);
	else
		rpc_answer(p->req, reply);
	if (p->call == &QUEUE_READ && err.kind == ERR_OK)
		fd_close(&((struct queue_message *)reply)->body_fd);
	rpc_reply_release(&hold);
	free(reply);
	free(p);
	return NULL;
}

static void pass_on(struct master *m, struct rpc_request *req, enum process_role role, const struct rpc_call *call,
		    int64_t timeout_ms)
{
	struct passed *p = NEW(struct passed);
	struct err err = ERR_NONE;
	pthread_attr_t attr;
	pthread_t thread;

	/* Who only asks may be asked again by a process that was started anew. */
	*p = (struct passed){req, m->callees[role], call, timeout_ms, call == &DNS_LOOKUP || call == &DIR_STS_GET};
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attr, pass_thread, p) != 0) {
		err_errno(&err, "cannot start a thread");
		rpc_refuse(req, &err);
		free(p);
	}
	pthread_attr_destroy(&attr);
}

static void on_directory_changed(struct master *m, struct rpc_request *req)
{
	struct dir_ok changed = {0};

	/* A directory that is just being started reads the database anew anyway. */
	if (rpc_send(m->callees[PROCESS_DIRECTORY], &DIR_CHANGED, &changed) < 0)
		log_debug("directory is not running at the moment");
	rpc_answer(req, &ok);
}

#ifdef POSTRIDER_TEST
static void on_probe(struct master *m, struct rpc_request *req)
{
	const struct control_probe *probe = req->msg;
	struct proc_note note = {.text = probe->what};
	struct err err = ERR_NONE;

	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++) {
		struct child *c = &m->children[role];

		if (str_eq(probe->process, str_from(c->name)) && c->ready && c->probe == NULL) {
			c->probe = req;
			child_send(c, PROC_PROBE, &proc_note_type, &note);
			return;
		}
	}
	err_set(&err, ERR_NOT_FOUND, "", "no such process is ready");
	rpc_refuse(req, &err);
}
#endif

/* ---- the socket ---- */

static void handle(void *ctx, struct rpc_request *req)
{
	struct master *m = ctx;
	struct err err = ERR_NONE;

	if (req->number == CONTROL_STATUS.number)
		on_status(m, req);
	else if (req->number == CONTROL_STOP.number)
		on_stop(m, req);
	else if (req->number == CONTROL_RELOAD.number)
		answer_taken(m, req, master_reload(m, &err), PROCESS_MASTER, &err);
	else if (req->number == CONTROL_RESTART.number)
		answer(req, master_restart(m, &err), &err);
	else if (req->number == CONTROL_TABLES.number)
		answer_taken(m, req, master_tables(m, &err), PROCESS_DIRECTORY, &err);
	else if (req->number == CONTROL_STORE_STATUS.number)
		pass_on(m, req, PROCESS_STORE, &STORE_STATUS, RELAY_TIMEOUT_MS);
	else if (req->number == CONTROL_STORE_FSCK.number)
		pass_on(m, req, PROCESS_STORE, &STORE_FSCK, FSCK_TIMEOUT_MS);
	else if (req->number == CONTROL_QUEUE_LIST.number)
		pass_on(m, req, PROCESS_QUEUE, &QUEUE_LIST, RELAY_TIMEOUT_MS);
	else if (req->number == CONTROL_QUEUE_ACT.number)
		pass_on(m, req, PROCESS_QUEUE, &QUEUE_ACT, RELAY_TIMEOUT_MS);
	else if (req->number == CONTROL_DNS_LOOKUP.number)
		pass_on(m, req, PROCESS_DNS, &DNS_LOOKUP, DNS_TIMEOUT_MS);
	else if (req->number == CONTROL_STS.number)
		pass_on(m, req, PROCESS_DIRECTORY, &DIR_STS_GET, RELAY_TIMEOUT_MS);
	else if (req->number == CONTROL_STS_FETCH.number)
		pass_on(m, req, PROCESS_RELAY, &RELAY_STS_FETCH, STS_TIMEOUT_MS);
	else if (req->number == CONTROL_QUEUE_READ.number)
		pass_on(m, req, PROCESS_QUEUE, &QUEUE_READ, RELAY_TIMEOUT_MS);
	else if (req->number == CONTROL_QUEUE_COMMIT.number)
		pass_on(m, req, PROCESS_QUEUE, &QUEUE_COMMIT, COMMIT_TIMEOUT_MS);
	else if (req->number == CONTROL_ALARMS.number)
		alert_answer_list(m, req);
	else if (req->number == CONTROL_DIR_CHANGED.number)
		on_directory_changed(m, req);
#ifdef POSTRIDER_TEST
	else if (req->number == CONTROL_PROBE.number)
		on_probe(m, req);
#endif
	else {
		err_set(&err, ERR_PERM, "", "this master does not know request %u", req->number);
		rpc_refuse(req, &err);
	}
}

static void on_connection(void *ctx, int fd)
{
	struct master *m = ctx;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	if (client >= 0)
		rpc_server_add_peer(m->server, client, 0);
	else if (errno != EAGAIN && errno != ECONNABORTED)
		log_warning("control socket: %s", strerror(errno));
}

void control_open(struct master *m)
{
	struct rpc_service service = {.name = "master", .table = CONTROL_CALLS, .handle = handle, .ctx = m};
	char *path = mem_printf("%s/%s", m->dir, INSTANCE_CONTROL);
	struct err err = ERR_NONE;

	m->server = rpc_server_new(&service);
	m->control_fd = net_listen_unix(path, 0600, 16, &err);
	if (m->control_fd < 0)
		die(EX_CANTCREAT, "%s", err.text);
	if (rpc_server_watch_fd(m->server, m->control_fd, on_connection, m) < 0)
		die(EX_OSERR, "control socket: %s", strerror(errno));
	free(path);
}
