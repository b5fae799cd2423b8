/* master_tables - the files that look-up tables are made of: watched, and read again when they change.
 *
 * An administrator who edits /etc/postfix/transport expects it to count soon, with or without postmap: the directories
 * of all files named are watched by inotify, by name and by what a symbolic link leads to. Half a second after a change
 * all tables are read anew. What cannot be used (an editor's half-written file, a rule with a fault) is told and
 * changes nothing. Between reloads only the tables change: main.cf and master.cf are those of the last reload. */
#include "base/log.h"
#include "os/fd.h"
#include "proc/master.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#define SETTLE_MS 500

struct watched {
	int wd;
	char *name; /* in that directory */
};

struct tables_watch {
	int fd;
	bool pending; /* a re-reading is due */
	VEC(struct watched) files;
};

/* ---- reading again ---- */

int master_tables(struct master *m, struct err *err)
{
	struct table_files *files;
	struct buf warnings;
	int fd = -1;

	buf_init(&warnings, 100000);
	files = bundle_read_tables(m->bundle, m->dir, &warnings, err);
	if (files)
		fd = table_files_seal(files, err);
	if (fd >= 0) {
		fd_close(&m->tables_full);
		m->tables_full = fd;
		master_tables_watch(m, files);
		master_tell_warnings(&warnings);
		child_send_config(&m->children[PROCESS_DIRECTORY]);
		log_info("look-up tables were read again");
	} else {
		log_warning("the changed look-up tables are not used, the old ones stay: %s", err->text);
	}
	table_files_free(&files);
	buf_release(&warnings);
	return fd < 0 ? -1 : 0;
}

static void read_again(void *ctx)
{
	struct master *m = ctx;
	struct err err = ERR_NONE;

	m->tables_watch->pending = false;
	if (m->phase != MASTER_STOPPING)
		(void)!master_tables(m, &err); /* it has told why not */
}

/* ---- the watch ---- */

static bool is_watched(const struct tables_watch *w, const struct inotify_event *e)
{
	for (size_t i = 0; i < w->files.n; i++)
		if (w->files.v[i].wd == e->wd && e->len > 0 && strcmp(w->files.v[i].name, e->name) == 0)
			return true;
	return false;
}

static void on_change(void *ctx, int fd)
{
	struct master *m = ctx;
	struct tables_watch *w = m->tables_watch;
	_Alignas(struct inotify_event) char events[4096];
	ssize_t len;

	while ((len = read(fd, events, sizeof(events))) > 0)
		for (char *at = events; at < events + len;) {
			const struct inotify_event *e = (const void *)at;

			at += sizeof(*e) + e->len;
			if (w->pending || !((e->mask & IN_Q_OVERFLOW) || is_watched(w, e)))
				continue;
			w->pending = true;
			rpc_server_after(m->server, SETTLE_MS, read_again, m);
		}
}

static void watch_path(struct tables_watch *w, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = str_dup(str_of(path, slash == path ? 1 : (size_t)(slash - path)));
	struct watched file = {.wd = inotify_add_watch(w->fd, dir, IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE)};

	if (file.wd < 0) {
		log_warning("cannot watch %s for changes of look-up tables: %s", dir, strerror(errno));
	} else {
		file.name = mem_strdup(slash + 1);
		vec_push(&w->files, file);
	}
	free(dir);
}

static void forget(struct master *m)
{
	struct tables_watch *w = m->tables_watch;

	if (w->fd >= 0)
		rpc_server_unwatch_fd(m->server, w->fd);
	fd_close(&w->fd);
	for (size_t i = 0; i < w->files.n; i++)
		free(w->files.v[i].name);
	vec_clear(&w->files);
}

void master_tables_watch(struct master *m, const struct table_files *files)
{
	struct tables_watch *w = m->tables_watch;
	char real[PATH_MAX];
	struct str path;

	if (w == NULL) {
		w = m->tables_watch = NEW(struct tables_watch);
		w->fd = -1;
	}
	forget(m);
	for (size_t at = 0; table_files_next(files, &at, &path);) {
		char *name = path.ptr[0] == '/' ? str_dup(path) : mem_printf("%s/%.*s", m->dir, STR_ARG(path));

		if (w->fd < 0)
			w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
		if (w->fd >= 0)
			watch_path(w, name);
		if (w->fd >= 0 && realpath(name, real) && strcmp(real, name) != 0)
			watch_path(w, real);
		free(name);
	}
	if (w->fd >= 0 && rpc_server_watch_fd(m->server, w->fd, on_change, m) < 0)
		log_warning("changes of look-up tables will be seen at a reload: %s", strerror(errno));
}
