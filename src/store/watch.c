/* watch - inotify on new/ and cur/ of the folders that somebody looks at. What we do ourselves is expected by name
 * and ignored; anything else makes the folder be read. The account's directory is watched, too: folders come, go, and
 * are replaced there, and then their directories are others. Where the kernel has no inotify to give, folders are
 * still looked at whenever a view is opened. */
#include "base/clock.h"
#include "base/log.h"
#include "os/io.h"
#include "store/maildir.h"
#include "store/service_private.h"
#include <errno.h>
#include <sys/inotify.h>
#include <unistd.h>

#define WATCH_MASK (IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR | IN_MOVE_SELF | IN_DELETE_SELF)
/* The directory itself is another one, or none, by now. */
#define GONE_MASK (IN_MOVE_SELF | IN_DELETE_SELF | IN_UNMOUNT)
#define AGAIN_MS  200
#define EXPECT_MS 10000

struct watch {
	uint64_t account;
	uint32_t mailbox;
	bool cur;
	int wd;
	struct watch *other; /* of the same folder */
	bool home;	     /* of the account's directory; mailbox 0 */
};

/* One for each account with something followed; `watch` is NULL while the directory is missing. */
struct home {
	struct watch *watch;
	unsigned followed;
};

struct watcher {
	int fd;
	struct map *by_wd;	 /* struct watch */
	struct map *by_mailbox;	 /* account, mailbox: the watch of new/ */
	struct map *homes;	 /* account: struct home */
	struct map *expected[2]; /* young and old: names that we make appear or vanish */
	int64_t turned_ms;
	bool told;
};

struct watch_key {
	uint64_t account, mailbox;
};

static void expect_key(struct buf *out, uint64_t account, struct str folder, bool cur, struct str name)
{
	buf_addf(out, "%llu/%.*s/%d/%.*s", (unsigned long long)account, STR_ARG(folder), cur, STR_ARG(name));
}

static void expect(struct watcher *w, uint64_t account, struct str folder, struct str base, bool cur, struct str flags)
{
	struct buf name, key;

	buf_init(&name, 1024);
	buf_init(&key, 2048);
	buf_add_str(&name, base);
	if (cur)
		buf_addf(&name, ":2,%.*s", STR_ARG(flags));
	expect_key(&key, account, folder, cur, buf_str(&name));
	map_set(w->expected[0], buf_str(&key), w);
	buf_release(&key);
	buf_release(&name);
}

void watch_expect(struct store_service *svc, uint64_t account, const struct store_file_op *op)
{
	struct watcher *w = svc->watcher;

	if (!w || map_count(w->by_wd) == 0)
		return;
	if (clock_ms() - w->turned_ms > EXPECT_MS) {
		map_free(&w->expected[1]);
		w->expected[1] = w->expected[0];
		w->expected[0] = map_new();
		w->turned_ms = clock_ms();
	}
	if (op->kind == FILE_PUT)
		expect(w, account, op->folder, op->base, op->cur, op->flags);
	if (op->kind == FILE_MOVE || op->kind == FILE_REMOVE)
		expect(w, account, op->folder, op->base, op->was_cur, op->was_flags);
	if (op->kind == FILE_MOVE || op->kind == FILE_COPY)
		expect(w, account, op->to_folder, op->to_base, op->cur, op->flags);
}

static bool expected(struct store_service *svc, const struct watch *watch, struct str name)
{
	struct watcher *w = svc->watcher;
	struct account *a;
	struct mailbox *m;
	struct buf key;
	bool is;

	if (account_get(svc, watch->account, &a, NULL) <= 0 || !(m = account_mailbox(a, watch->mailbox)))
		return true;
	buf_init(&key, 2048);
	expect_key(&key, watch->account, m->rec.folder, watch->cur, name);
	is = map_get(w->expected[0], buf_str(&key)) || map_get(w->expected[1], buf_str(&key));
	buf_release(&key);
	return is;
}

static void scan_all(struct store_service *svc)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(svc->watcher->by_mailbox, &at, &key, &value);) {
		struct watch *watch = value;

		folder_scan_soon(svc, watch->account, watch->mailbox);
	}
}

static void watch_drop(struct watcher *w, struct watch *watch)
{
	if (!watch)
		return;
	inotify_rm_watch(w->fd, watch->wd);
	if (map_get_u64(w->by_wd, (uint64_t)watch->wd) == watch)
		map_remove_u64(w->by_wd, (uint64_t)watch->wd);
	free(watch);
}

/* The watches of an account; what is followed stays so, and is watched anew by watch_again(). */
static void forget_places(struct store_service *svc, uint64_t account)
{
	struct watcher *w = svc->watcher;
	struct home *h = map_get_u64(w->homes, account);
	struct str key;
	void *value;

	for (size_t at = 0; map_next(w->by_mailbox, &at, &key, &value);) {
		struct watch *watch = value;

		if (watch->account != account)
			continue;
		map_remove(w->by_mailbox, key);
		watch_drop(w, watch->other);
		watch_drop(w, watch);
	}
	if (h && h->watch) {
		watch_drop(w, h->watch);
		h->watch = NULL;
	}
}

/* Directories are not what they were: those of the account are watched anew. */
static void on_place(struct store_service *svc, const struct watch *watch, const struct inotify_event *e)
{
	uint64_t account = watch->account;
	struct str name = e->len > 0 ? str_from(e->name) : STR_NULL;

	if (!(e->mask & GONE_MASK) && !str_eq(name, STR("cur")) && !str_eq(name, STR("new")) &&
	    !str_starts(name, STR(".")))
		return;
	forget_places(svc, account);
	folders_look_soon(svc, account, AGAIN_MS);
}

static void on_event(void *ctx, int fd)
{
	struct store_service *svc = ctx;
	char bytes[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n;

	while ((n = read(fd, bytes, sizeof(bytes))) > 0)
		for (char *at = bytes; at < bytes + n;) {
			const struct inotify_event *e = (const struct inotify_event *)(const void *)at;
			struct watch *watch = map_get_u64(svc->watcher->by_wd, (uint64_t)e->wd);

			at += sizeof(*e) + e->len;
			if (e->mask & IN_Q_OVERFLOW)
				scan_all(svc);
			else if (watch && (watch->home || (e->mask & GONE_MASK)))
				on_place(svc, watch, e);
			else if (watch && e->len > 0 && !(e->mask & IN_IGNORED) &&
				 !expected(svc, watch, str_from(e->name)))
				folder_scan_soon(svc, watch->account, watch->mailbox);
		}
}

/* inotify wants a path: the working directory, which nothing else here uses, is lent for the moment. */
static int add_watch(struct store_service *svc, const char *path)
{
	int root = store_engine_root(svc->engine), here, wd = -1;

	here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC); /* O_PATH: a jail may forbid reading it */
	if (here >= 0 && fchdir(root) == 0) {
		wd = inotify_add_watch(svc->watcher->fd, path, WATCH_MASK);
		if (fchdir(here) < 0)
			log_warning("going back to the working directory: %m");
	}
	if (here >= 0)
		close(here);
	return wd;
}

static struct watch *watch_dir(struct store_service *svc, const struct account *a, const struct mailbox *m, bool cur)
{
	struct watch *watch;
	char *path = mem_printf("%.*s/%.*s%s%s", STR_ARG(a->header.path), STR_ARG(m->rec.folder),
				m->rec.folder.len ? "/" : "", cur ? "cur" : "new");
	int wd = add_watch(svc, path);

	if (wd < 0 && errno != ENOENT && !svc->watcher->told) {
		log_warning("watching %s: %m; changes that other programs make are seen when a folder is opened", path);
		svc->watcher->told = true;
	}
	free(path);
	if (wd < 0)
		return NULL;
	watch = NEW(struct watch);
	*watch = (struct watch){.account = a->id, .mailbox = m->id, .cur = cur, .wd = wd};
	map_set_u64(svc->watcher->by_wd, (uint64_t)wd, watch);
	return watch;
}

struct later {
	struct store_service *svc;
	uint64_t account;
	uint32_t mailbox;
};

static void follow(struct store_service *svc, uint64_t account, uint32_t mailbox, bool again);

/* The folder's directories, which were still to be made, are there now. */
static void follow_later(void *ctx)
{
	struct later *l = ctx;

	if (l->svc->watcher && follow_get(l->svc, l->account, l->mailbox))
		follow(l->svc, l->account, l->mailbox, false);
	free(l);
}

static void follow(struct store_service *svc, uint64_t account, uint32_t mailbox, bool again)
{
	struct watch_key key = {account, mailbox};
	struct watcher *w = svc->watcher;
	struct account *a;
	struct mailbox *m;
	struct watch *first, *second;

	if (!w || map_get(w->by_mailbox, str_of(&key, sizeof(key))) || account_get(svc, account, &a, NULL) <= 0 ||
	    !(m = account_mailbox(a, mailbox)))
		return;
	first = watch_dir(svc, a, m, false);
	second = watch_dir(svc, a, m, true);
	if (first && second) {
		first->other = second;
		map_set(w->by_mailbox, str_of(&key, sizeof(key)), first);
		/* What came between the look and the watch. */
		folder_scan_soon(svc, account, mailbox);
		return;
	}
	watch_drop(w, first);
	watch_drop(w, second);
	if (again && store_engine_files_pending(svc->engine, account) > 0) {
		struct later *l = NEW(struct later);

		*l = (struct later){svc, account, mailbox};
		store_engine_files_wait(svc->engine, account, follow_later, l);
	}
}

static void home_watch(struct store_service *svc, uint64_t account, struct home *h)
{
	struct account *a;
	char *path;
	int wd;

	if (h->watch || account_get(svc, account, &a, NULL) <= 0)
		return;
	path = mem_printf("%.*s", STR_ARG(a->header.path));
	wd = add_watch(svc, path);
	free(path);
	if (wd < 0)
		return;
	h->watch = NEW(struct watch);
	*h->watch = (struct watch){.account = account, .wd = wd, .home = true};
	map_set_u64(svc->watcher->by_wd, (uint64_t)wd, h->watch);
}

void watch_follow(struct store_service *svc, uint64_t account, uint32_t mailbox)
{
	struct home *h;

	if (!svc->watcher)
		return;
	h = map_get_u64(svc->watcher->homes, account);
	if (!h) {
		h = NEW(struct home);
		map_set_u64(svc->watcher->homes, account, h);
	}
	h->followed++;
	follow(svc, account, mailbox, true);
	home_watch(svc, account, h);
}

bool watch_again(struct store_service *svc, uint64_t account)
{
	struct home *h = svc->watcher ? map_get_u64(svc->watcher->homes, account) : NULL;
	struct account *a;
	bool all = true;
	struct str key;
	void *value;

	if (!h || account_get(svc, account, &a, NULL) <= 0)
		return true;
	home_watch(svc, account, h);
	for (size_t at = 0; map_next(svc->followed, &at, &key, &value);) {
		const struct followed *f = value;
		struct watch_key k = {account, f->mailbox};

		if (f->account != account || !account_mailbox(a, f->mailbox))
			continue;
		follow(svc, account, f->mailbox, true);
		all = all && map_get(svc->watcher->by_mailbox, str_of(&k, sizeof(k)));
	}
	return all && h->watch;
}

void watch_unfollow(struct store_service *svc, uint64_t account, uint32_t mailbox)
{
	struct watch_key key = {account, mailbox};
	struct watcher *w = svc->watcher;
	struct home *h = w ? map_get_u64(w->homes, account) : NULL;
	struct watch *watch = w ? map_remove(w->by_mailbox, str_of(&key, sizeof(key))) : NULL;

	if (watch) {
		watch_drop(w, watch->other);
		watch_drop(w, watch);
	}
	if (h && --h->followed == 0) {
		watch_drop(w, h->watch);
		map_remove_u64(w->homes, account);
		free(h);
	}
}

void watch_start(struct store_service *svc)
{
	struct watcher *w;
	int fd;

	if (store_engine_root(svc->engine) < 0)
		return;
	fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (fd < 0) {
		log_warning("inotify: %m; changes that other programs make are seen when a folder is opened");
		return;
	}
	w = NEW(struct watcher);
	w->fd = fd;
	w->by_wd = map_new();
	w->by_mailbox = map_new();
	w->homes = map_new();
	w->expected[0] = map_new();
	w->expected[1] = map_new();
	w->turned_ms = clock_ms();
	svc->watcher = w;
	if (rpc_server_watch_fd(svc->server, fd, on_event, svc) < 0)
		log_warning("inotify: %m; changes that other programs make are seen when a folder is opened");
}

void watch_stop(struct store_service *svc)
{
	struct watcher *w = svc->watcher;
	struct str key;
	void *value;

	if (!w)
		return;
	rpc_server_unwatch_fd(svc->server, w->fd);
	for (size_t at = 0; map_next(w->by_wd, &at, &key, &value);)
		free(value);
	map_free(&w->by_wd);
	map_free(&w->by_mailbox);
	for (size_t at = 0; map_next(w->homes, &at, &key, &value);)
		free(value);
	map_free(&w->homes);
	map_free(&w->expected[0]);
	map_free(&w->expected[1]);
	close(w->fd);
	free(w);
	svc->watcher = NULL;
}
