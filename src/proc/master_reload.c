/* master_reload - a new configuration: read whole, given to every process, and the answer to who asked for it once it
 * counts everywhere.
 *
 *	bundle_read() --a fault--> refused, nothing has changed
 *	--> new sockets opened, PROC_CONFIG to all, sockets of before closed
 *	--PROC_TAKEN of all--> answered
 *
 * A process that begins anew instead (with a new resolver, or where its limits cannot be raised) has taken it when its
 * successor is ready. Who has not within RELOAD_WAIT_MS is named in the answer. */
#include "base/log.h"
#include "base/mem.h"
#include "config/params.h"
#include "os/fd.h"
#include "proc/master.h"
#include <stdlib.h>

#define RELOAD_WAIT_MS 10000

/* ---- a new configuration ---- */

static void replace_fd(int *fd, int with)
{
	fd_close(fd);
	*fd = with;
}

/* Makes b the configuration: sealed first, because that can fail. */
static int adopt(struct master *m, struct bundle *b, struct err *err)
{
	int full = bundle_seal(b, BUNDLE_LISTENERS, err), plain = full < 0 ? -1 : bundle_seal(b, BUNDLE_PLAIN, err);
	int client = plain < 0 ? -1 : bundle_seal(b, BUNDLE_RELAY, err);
	int tables = client < 0 ? -1 : table_files_seal(b->files, err);

	if (tables >= 0 && m->tables_none < 0)
		m->tables_none = table_files_seal(NULL, err);
	if (tables < 0 || m->tables_none < 0) {
		fd_close(&full);
		fd_close(&plain);
		fd_close(&client);
		fd_close(&tables);
		return -1;
	}
	replace_fd(&m->bundle_full, full);
	replace_fd(&m->bundle_plain, plain);
	replace_fd(&m->bundle_relay, client);
	replace_fd(&m->tables_full, tables);
	table_files_drop(b->files);
	bundle_unref(&m->bundle);
	m->bundle = b;
	if (m->server) /* not before the first start's */
		master_tables_watch(m, b->files);
	return 0;
}

/* Services of Postfix that no process of ours offers are legal and do nothing; files that name parameters
 * nobody knows, too. Told once a start and reload. */
void master_tell_warnings(struct buf *warnings)
{
	struct str rest = buf_str(warnings), line;

	while (str_token(&rest, "\n", &line))
		log_warning("%.*s", STR_ARG(line));
	buf_release(warnings);
}

int master_take_configuration(struct master *m, struct bundle *b, size_t *fresh_r, struct err *err)
{
	if (listening_open(m, b, fresh_r, err) < 0)
		return -1;
	if (master_log_open(m, b->conf, err) < 0 || adopt(m, b, err) < 0) {
		listening_close_from(m, *fresh_r);
		return -1;
	}
	return 0;
}

static void pass_on(struct master *m, size_t fresh)
{
	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++)
		child_send_config(&m->children[role]);
	for (size_t i = fresh; i < m->sockets.n; i++)
		child_send_listening(&m->children[m->sockets.v[i]->role], m->sockets.v[i]);
	listening_close_unwanted(m);
}

/* A process that dies after the reload would be started with the new value while its peers have the old one. */
static int check_changes(const struct master *m, const struct bundle *b, struct err *err)
{
	struct buf before, after;
	int result = 0;

	buf_init(&before, 100000);
	buf_init(&after, 100000);
	for (size_t i = 0; i < PARAM_COUNT && result == 0; i++) {
		struct str name = str_from(PARAMS[i].name);

		buf_clear(&before);
		buf_clear(&after);
		if (PARAMS[i].when == PARAM_RESTART && conf_text(m->bundle->conf, name, &before) &&
		    conf_text(b->conf, name, &after) && !str_eq(buf_str(&before), buf_str(&after)))
			result = err_set(err, ERR_PERM, "", "%s was changed, which takes `postrider -c %s restart`",
					 PARAMS[i].name, m->dir);
	}
	buf_release(&before);
	buf_release(&after);
	return result;
}

int master_reload(struct master *m, struct err *err)
{
	struct buf warnings;
	struct bundle *b;
	size_t fresh;

	if (m->phase == MASTER_STOPPING)
		return err_set(err, ERR_TEMP, "", "the system is being stopped");
	buf_init(&warnings, 100000);
	b = bundle_read(m->dir, &warnings, err);
	if (b == NULL || check_changes(m, b, err) < 0 || master_take_configuration(m, b, &fresh, err) < 0) {
		bundle_unref(&b);
		buf_release(&warnings);
		/* Who has moved the log away asks for a new file, whatever else is wrong. */
		(void)!master_log_open(m, m->bundle->conf, NULL);
		log_error("reload refused, everything stays as it was: %s", err->text);
		return -1;
	}
	master_leave_terminal(m);
	master_tell_warnings(&warnings);
	pass_on(m, fresh);
	m->reloads++;
	log_info("reload -- version %.*s, instance %s", STR_ARG(m->bundle->conf->mail_version), m->dir);
	return 0;
}

/* ---- who has taken it ---- */

/* Lives until its time is over; in master's list until it is answered. */
struct reload_waiter {
	struct master *master;
	struct rpc_request *req;
	enum process_role only; /* PROCESS_MASTER: all */
	bool late;
};

static void add_child(struct buf *text, const struct child *c, const char *what)
{
	if (text->len)
		buf_addz(text, "; ");
	buf_addf(text, "process %s[%d] %s", c->name, (int)c->pid, what);
}

/* True when it has taken its latest configuration, or said why not. Otherwise, and then, *but gains what there is to
 * tell. */
static bool settled(const struct child *c, struct buf *but)
{
	if (!c->ready)
		add_child(but, c, "is being started");
	else if (c->told_to_stop || c->ending)
		add_child(but, c, "ends its sessions before it begins anew");
	else if (c->config_taken != c->config_sent)
		add_child(but, c, "has not taken the new configuration yet");
	else if (c->config_refused == NULL)
		return true;
	else {
		add_child(but, c, "keeps its old configuration: ");
		buf_addz(but, c->config_refused);
		return true;
	}
	return false;
}

static bool answer(const struct reload_waiter *w)
{
	bool known = true;
	struct buf but;

	buf_init(&but, 100000);
	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++)
		if (w->only == PROCESS_MASTER || w->only == (enum process_role)role)
			known &= settled(&w->master->children[role], &but);
	known |= w->late || w->master->phase == MASTER_STOPPING;
	if (known)
		rpc_answer(w->req, &(struct control_reloaded){.but = buf_str(&but)});
	buf_release(&but);
	return known;
}

void reload_look(struct master *m)
{
	for (size_t i = m->reload_waiters.n; i-- > 0;)
		if (answer(m->reload_waiters.v[i]))
			vec_remove(&m->reload_waiters, i);
}

static void wait_over(void *ctx)
{
	struct reload_waiter *w = ctx;

	w->late = true;
	reload_look(w->master);
	free(w);
}

void reload_answer(struct master *m, struct rpc_request *req, enum process_role only)
{
	struct reload_waiter *w = NEW(struct reload_waiter);

	*w = (struct reload_waiter){.master = m, .req = req, .only = only};
	vec_push(&m->reload_waiters, w);
	rpc_server_after(m->server, RELOAD_WAIT_MS, wait_over, w);
	reload_look(m);
}

void reload_taken(struct child *c, const struct proc_taken *taken)
{
	c->config_taken = taken->generation;
	free(c->config_refused);
	c->config_refused = taken->why.len ? str_dup(taken->why) : NULL;
	if (c->config_refused)
		log_error("process %s[%d] keeps its old configuration: %s", c->name, (int)c->pid, c->config_refused);
	reload_look(c->master);
}
