/* master_pickup - the maildrop directory: what sendmail(1) keeps there while nobody answers it.
 *
 * Anybody may make files in it (mode 1733: write, but not look). So nothing about them is believed that the kernel
 * does not say: only a regular file with one link is opened, without following links and without waiting; its owner is
 * who submits; its size has a limit. Whatever else somebody put there is set aside at once, by its name alone, so that
 * it is told of once and keeps no later mail from being seen. Master reads none of its bytes: it hands the descriptor
 *to smtpd, which is jailed, and removes the file when smtpd says that the message is safe elsewhere. Should one of the
 *two die in between, the same file comes again, and is known by the token in it (smtp/local.c).
 *
 *	maildrop/NAME --descriptor--> smtpd --taken--> removed
 *	                                    --later--> looked at again in LATER_MS
 *	                                    --never--> corrupt/NAME, logged
 *	what is no such file ------------------------> the same
 *
 * sendmail writes "tmp..." first and renames when the bytes are safe. */
#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "config/instance.h"
#include "os/fd.h"
#include "os/net.h"
#include "proc/master.h"
#include "smtp/submit.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNDER_WAY_MAX 4
#define SCAN_MAX      100000
#define NAME_MAX_LEN  64
#define LATER_MS      60000
#define SOON_MS	      20
#define TMP_MAX_S     86400
#define ENVELOPE_MAX  ((uint64_t)32 << 20) /* 50,000 recipients, beside the message */

struct pickup {
	struct master *master;
	int dir, corrupt, notify;
	char *socket;
	VEC(char *) names;	    /* of the last look, from the end on */
	struct map *under_way;	    /* name: smtpd has it */
	struct map *told;	    /* name: cannot be taken, and that was said */
	struct map *removed;	    /* name: taken, but it could not be removed */
	bool look_due, soon, dirty; /* dirty: removals are not synced yet */
};

static void pump(struct pickup *p);

static bool is_name(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < len; i++)
		if (!ascii_alnum(name[i]))
			return false;
	return len > 0 && len <= NAME_MAX_LEN;
}

/* ---- looking ---- */

/* A sendmail that was killed while it wrote. */
static void sweep(const struct pickup *p, const char *name)
{
	struct stat st;

	if (fstatat(p->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	    st.st_mtime + TMP_MAX_S < clock_wall())
		unlinkat(p->dir, name, 0);
}

static void look(struct pickup *p)
{
	int fd = openat(p->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;

	p->look_due = false;
	if (dir == NULL) {
		log_warning("cannot read the maildrop directory: %s", strerror(errno));
		fd_close(&fd);
		return;
	}
	while (p->names.n < SCAN_MAX && (entry = readdir(dir)) != NULL) {
		struct str name = str_from(entry->d_name);

		if (str_starts(name, STR("tmp")))
			sweep(p, entry->d_name);
		else if (!str_eq(name, STR(".")) && !str_eq(name, STR("..")) && map_get(p->under_way, name) == NULL)
			vec_push(&p->names, mem_strdup(entry->d_name));
	}
	closedir(dir);
}

/* ---- one file ---- */

static void told_once(struct pickup *p, const char *name, const char *why)
{
	if (map_get(p->told, str_from(name)) != NULL)
		return;
	log_warning("maildrop/%s: %s", name, why);
	if (map_count(p->told) < SCAN_MAX)
		map_set(p->told, str_from(name), p);
}

/* Out of the way, whatever it is; under another name where there is one of that name already. */
static void set_aside(struct pickup *p, const char *name, struct str why)
{
	char other[NAME_MAX + 1];

	snprintf(other, sizeof(other), "%s", name);
	if (renameat2(p->dir, name, p->corrupt, other, RENAME_NOREPLACE) < 0 && errno == EEXIST) {
		snprintf(other, sizeof(other), "%.200s.%08x", name, (unsigned)random_below(UINT32_MAX));
		(void)!renameat2(p->dir, name, p->corrupt, other, RENAME_NOREPLACE);
	}
	if (faccessat(p->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		told_once(p, name, "cannot be taken, nor set aside");
	else
		log_error("maildrop/%s cannot be taken: %.*s; kept as " INSTANCE_CORRUPT "/%s", name, STR_ARG(why),
			  other);
}

/* Without following, waiting or becoming anybody's terminal. -1: not to be taken. */
static int open_file(struct pickup *p, const char *name, uint32_t *uid_r)
{
	uint64_t most = (uint64_t)p->master->bundle->conf->message_size_limit;
	struct stat st;
	int fd = openat(p->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0) {
		if (errno == ELOOP)
			set_aside(p, name, STR("it is a symbolic link"));
		else if (errno == ENXIO)
			set_aside(p, name, STR("it is no regular file"));
		else if (errno != ENOENT)
			told_once(p, name, strerror(errno));
		return -1;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		set_aside(p, name, STR("it is no regular file"));
	else if (!is_name(name))
		set_aside(p, name, STR("no name that sendmail gives"));
	else if (st.st_nlink != 1)
		set_aside(p, name, STR("it has other names"));
	else if (most > 0 && (uint64_t)st.st_size > most + ENVELOPE_MAX)
		set_aside(p, name, STR("it is larger than message_size_limit"));
	else {
		*uid_r = (uint32_t)st.st_uid;
		return fd;
	}
	close(fd);
	return -1;
}

static void remove_file(struct pickup *p, const char *name)
{
	if (unlinkat(p->dir, name, 0) == 0 || errno == ENOENT) {
		map_remove(p->removed, str_from(name));
		p->dirty = true;
		return;
	}
	if (map_set(p->removed, str_from(name), p) == NULL)
		log_error("maildrop/%s is taken, but cannot be removed: %s", name, strerror(errno));
}

static void hand_over(struct pickup *p, const char *name)
{
	struct child *smtpd = &p->master->children[PROCESS_SMTPD];
	struct proc_drop drop = {.name = str_from(name), .file = -1, .conn = -1};
	struct err err = ERR_NONE;

	if (map_get(p->removed, drop.name) != NULL) {
		remove_file(p, name);
		return;
	}
	drop.file = open_file(p, name, &drop.uid);
	if (drop.file < 0)
		return;
	drop.conn = net_connect_unix_now(p->socket, &err);
	if (drop.conn < 0) {
		told_once(p, name, err.text);
	} else {
		map_set(p->under_way, drop.name, p);
		child_send(smtpd, PROC_DROP, &proc_drop_type, &drop);
	}
	fd_close(&drop.file);
	fd_close(&drop.conn);
}

/* ---- the answer ---- */

void pickup_dropped(struct master *m, const struct proc_dropped *d)
{
	struct pickup *p = m->pickup;
	char *name;

	/* Of a file that we did not hand over nothing is believed. */
	if (p == NULL || map_remove(p->under_way, d->name) == NULL)
		return;
	name = str_dup(d->name);
	if (d->result == SUBMIT_TAKEN)
		remove_file(p, name);
	else if (d->result == SUBMIT_NEVER)
		set_aside(p, name, d->text);
	else
		log_info("maildrop/%s: not taken now: %.*s", name, STR_ARG(d->text));
	free(name);
	pump(p);
}

/* ---- when ---- */

static void pump(struct pickup *p)
{
	if (!p->master->children[PROCESS_SMTPD].ready || p->master->phase == MASTER_STOPPING)
		return;
	if (p->names.n == 0 && p->look_due)
		look(p);
	while (p->names.n > 0 && map_count(p->under_way) < UNDER_WAY_MAX) {
		char *name = p->names.v[--p->names.n];

		hand_over(p, name);
		free(name);
	}
	/* A removal that a power failure undoes would bring the message back. */
	if (p->dirty && p->names.n == 0 && map_count(p->under_way) == 0) {
		p->dirty = fsync(p->dir) < 0;
		if (p->look_due)
			pump(p);
	}
}

static void pump_soon(void *ctx)
{
	struct pickup *p = ctx;

	p->soon = false;
	pump(p);
}

static void on_notify(void *ctx, int fd)
{
	struct pickup *p = ctx;
	char events[16384];

	while (read(fd, events, sizeof(events)) > 0)
		;
	p->look_due = true;
	if (!p->soon) {
		p->soon = true;
		rpc_server_after(p->master->server, SOON_MS, pump_soon, p);
	}
}

static void on_timer(void *ctx)
{
	struct pickup *p = ctx;

	p->look_due = true;
	pump(p);
	rpc_server_after(p->master->server, LATER_MS, on_timer, p);
}

static int open_directory(const char *spool, const char *name)
{
	char *path = mem_printf("%s/%s", spool, name);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		log_error("cannot open %s: %s", path, strerror(errno));
	free(path);
	return fd;
}

static void watch(struct pickup *p, const char *spool)
{
	char *path = mem_printf("%s/" INSTANCE_MAILDROP, spool);

	p->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (p->notify < 0 || inotify_add_watch(p->notify, path, IN_MOVED_TO | IN_ONLYDIR) < 0 ||
	    rpc_server_watch_fd(p->master->server, p->notify, on_notify, p) < 0)
		log_warning("cannot watch %s, looking every %d s: %s", path, LATER_MS / 1000, strerror(errno));
	free(path);
}

void pickup_open(struct master *m)
{
	struct pickup *p;
	char *spool;

	if (m->pickup != NULL)
		return;
	p = NEW(struct pickup);
	spool = bundle_queue_directory(m->bundle, m->dir);
	*p = (struct pickup){.master = m,
			     .dir = open_directory(spool, INSTANCE_MAILDROP),
			     .corrupt = open_directory(spool, INSTANCE_CORRUPT),
			     .socket = mem_printf("%s/" INSTANCE_PICKUP, spool),
			     .under_way = map_new(),
			     .told = map_new(),
			     .removed = map_new()};
	m->pickup = p;
	if (p->dir >= 0 && p->corrupt >= 0) {
		watch(p, spool);
		on_timer(p);
	}
	free(spool);
}

void pickup_lost(struct master *m)
{
	struct str key;
	void *value;

	for (size_t at = 0; m->pickup && map_next(m->pickup->under_way, &at, &key, &value);)
		map_remove(m->pickup->under_way, key);
}

void pickup_again(struct master *m)
{
	if (m->pickup == NULL || m->pickup->dir < 0)
		return;
	m->pickup->look_due = true;
	pump(m->pickup);
}
