/* watch - inotify on new/ and cur/ of the folders that somebody looks at. What we do ourselves is expected by name
 * and ignored; anything else makes the folder be read. The account's directory is watched, too: folders come, go, and
 * are replaced there, and then their directories are others. Where the kernel has no inotify to give, folders are
 * still looked at whenever a view is opened.
 *
 * A folder that nobody looks at any more stays watched for a while, and one that was read since it is watched, and of
 * which nothing strange was heard since, need not be read to be opened: all that happened there are deliveries of ours.
 * That holds only where no other machine can change files. The mark of a watch says so: it changes with everything
 * that is not ours. */
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
#define GONE_MASK   (IN_MOVE_SELF | IN_DELETE_SELF | IN_UNMOUNT)
#define AGAIN_MS    200
#define EXPECT_MS   10000
#define LINGER_MAX  1024 /* folders; each costs the kernel three watches */
#define APPEAR_MASK (IN_CREATE | IN_MOVED_TO)

struct watch {
	uint64_t account;
	uint32_t mailbox;
	bool cur;
	int wd;
	struct watch *other; /* of the same folder */
	bool home;	     /* of the account's directory; mailbox 0 */
	dev_t dev;	     /* what is watched */
	ino_t ino;
	uint64_t mark; /* of new/: another one after each change that is not ours; 0: nothing is known for sure */
};

/* One for each account with something followed; `watch` is NULL while the directory is missing. */
struct home {
	struct watch *watch;
	unsigned followed;
};

struct watch_key {
	uint64_t account, mailbox;
};

struct watcher {
	int fd;
	struct map *by_wd;	 /* struct watch */
	struct map *by_mailbox;	 /* account, mailbox: the watch of new/ */
	struct map *homes;	 /* account: struct home */
	struct map *expected[2]; /* young and old: names that we make appear or vanish, and how often */
	int64_t turned_ms;
	uint64_t marks;			 /* given */
	VEC(struct watch_key) lingering; /* watched, and followed by nobody; the oldest first */
	bool told;
};

static void expect_key(struct buf *out, uint64_t account, struct str folder, bool cur, bool appears, struct str name)
{
	buf_addf(out, "%llu/%.*s/%d%d/%.*s", (unsigned long long)account, STR_ARG(folder), cur, appears, STR_ARG(name));
}

static void expect(struct watcher *w, uint64_t account, struct str folder, struct str base, bool cur, struct str flags,
		   bool appears)
{
	struct buf name, key;
	uintptr_t count;

	buf_init(&name, 1024);
	buf_init(&key, 2048);
	buf_add_str(&name, base);
	if (cur)
		buf_addf(&name, ":2,%.*s", STR_ARG(flags));
	expect_key(&key, account, folder, cur, appears, buf_str(&name));
	count = (uintptr_t)map_get(w->expected[0], buf_str(&key)) + 1;
	map_set(w->expected[0], buf_str(&key), (void *)count);
	buf_release(&key);
	buf_release(&name);
}

void watch_expect(struct store_service *svc, uint64_t account, const struct store_file_op *op)
{
	struct watcher *w = svc->watcher;

	if (!w || !map_get_u64(w->homes, account))
		return;
	if (clock_ms() - w->turned_ms > EXPECT_MS) {
		map_free(&w->expected[1]);
		w->expected[1] = w->expected[0];
		w->expected[0] = map_new();
		w->turned_ms = clock_ms();
	}
	if (op->kind == FILE_PUT)
		expect(w, account, op->folder, op->base, op->cur, op->flags, true);
	if (op->kind == FILE_MOVE || op->kind == FILE_REMOVE)
		expect(w, account, op->folder, op->base, op->was_cur, op->was_flags, false);
	if (op->kind == FILE_MOVE || op->kind == FILE_COPY)
		expect(w, account, op->to_folder, op->to_base, op->cur, op->flags, true);
}

/* Once for each time that it was expected: a second one is somebody else's. */
static bool take_expected(struct map *names, struct str key)
{
	uintptr_t count = (uintptr_t)map_get(names, key);

	if (count > 1)
		map_set(names, key, (void *)(count - 1));
	else if (count == 1)
		map_remove(names, key);
	return count > 0;
}

static bool expected(struct store_service *svc, const struct watch *watch, bool appears, struct str name)
{
	struct watcher *w = svc->watcher;
	struct account *a;
	struct mailbox *m;
	struct buf key;
	bool is;

	if (account_get(svc, watch->account, &a, NULL) <= 0 || !(m = account_mailbox(a, watch->mailbox)))
		return true;
	buf_init(&key, 2048);
	expect_key(&key, watch->account, m->rec.folder, watch->cur, appears, name);
	is = take_expected(w->expected[0], buf_str(&key)) || take_expected(w->expected[1], buf_str(&key));
	buf_release(&key);
	return is;
}

/* Somebody else was at work in the folder. */
static void strange(struct store_service *svc, struct watch *watch)
{
	struct watch *first = watch->cur ? watch->other : watch;

	if (first && first->mark)
		first->mark = ++svc->watcher->marks;
	if (follow_get(svc, watch->account, watch->mailbox))
		folder_scan_soon(svc, watch->account, watch->mailbox);
}

static void scan_all(struct store_service *svc)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(svc->watcher->by_mailbox, &at, &key, &value);)
		strange(svc, value);
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

static void unfollow_home(struct watcher *w, uint64_t account)
{
	struct home *h = map_get_u64(w->homes, account);

	if (!h || --h->followed > 0)
		return;
	watch_drop(w, h->watch);
	map_remove_u64(w->homes, account);
	free(h);
}

static void unwatch(struct watcher *w, struct watch_key key)
{
	struct watch *watch = map_remove(w->by_mailbox, str_of(&key, sizeof(key)));

	if (watch) {
		watch_drop(w, watch->other);
		watch_drop(w, watch);
	}
	unfollow_home(w, key.account);
}

static void linger_end(struct watcher *w, size_t i)
{
	struct watch_key key = w->lingering.v[i];

	vec_remove(&w->lingering, i);
	unwatch(w, key);
}

/* False: it was not lingering. Its watches stay. */
static bool linger_take(struct watcher *w, struct watch_key key)
{
	for (size_t i = 0; i < w->lingering.n; i++)
		if (memcmp(&w->lingering.v[i], &key, sizeof(key)) == 0) {
			vec_remove(&w->lingering, i);
			return true;
		}
	return false;
}

/* The watches of an account; what is followed stays so, and is watched anew by watch_again(). */
static void forget_places(struct store_service *svc, uint64_t account)
{
	struct watcher *w = svc->watcher;
	struct home *h;
	struct str key;
	void *value;

	for (size_t i = w->lingering.n; i-- > 0;)
		if (w->lingering.v[i].account == account)
			linger_end(w, i);
	h = map_get_u64(w->homes, account);
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

static void take_event(struct store_service *svc, const struct inotify_event *e)
{
	struct watch *watch = map_get_u64(svc->watcher->by_wd, (uint64_t)e->wd);

	if (e->mask & IN_Q_OVERFLOW)
		scan_all(svc);
	else if (watch && (watch->home || (e->mask & GONE_MASK)))
		on_place(svc, watch, e);
	else if (watch && e->len > 0 && !(e->mask & IN_IGNORED) &&
		 !expected(svc, watch, e->mask & APPEAR_MASK, str_from(e->name)))
		strange(svc, watch);
}

static void on_event(void *ctx, int fd)
{
	struct store_service *svc = ctx;
	char bytes[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n;

	while ((n = read(fd, bytes, sizeof(bytes))) > 0)
		for (char *at = bytes; at < bytes + n;) {
			const struct inotify_event *e = (const struct inotify_event *)(const void *)at;

			at += sizeof(*e) + e->len;
			take_event(svc, e);
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

/* The kernel gives no more: those that nobody looks at give way. */
static int add_watch_first(struct store_service *svc, const char *path)
{
	struct watcher *w = svc->watcher;
	int wd = add_watch(svc, path);

	if (wd >= 0 || errno != ENOSPC || w->lingering.n == 0)
		return wd;
	while (w->lingering.n > 0)
		linger_end(w, w->lingering.n - 1);
	return add_watch(svc, path);
}

static char *place_of(const struct account *a, const struct mailbox *m, bool cur)
{
	return mem_printf("%.*s/%.*s%s%s", STR_ARG(a->header.path), STR_ARG(m->rec.folder),
			  m->rec.folder.len ? "/" : "", cur ? "cur" : "new");
}

/* Notes what is watched. True: only this machine changes what is there, so that nothing goes unheard. */
static bool look_at_place(struct store_service *svc, struct watch *watch, const char *path)
{
	int fd = io_open(store_engine_root(svc->engine), path, O_PATH | O_DIRECTORY, 0);
	bool local = fd >= 0 && io_is_local(fd);
	struct stat st = {0};

	if (fd >= 0 && io_fstat(fd, &st) == 0) {
		watch->dev = st.st_dev;
		watch->ino = st.st_ino;
	}
	if (fd >= 0)
		io_close(fd);
	return local && st.st_ino != 0;
}

/* A directory above may be another one by now, or something may be mounted there: nobody tells of that. */
static bool is_at_place(struct store_service *svc, const struct account *a, const struct mailbox *m,
			const struct watch *watch)
{
	char *path = place_of(a, m, watch->cur);
	struct stat st;
	bool is = io_fstatat(store_engine_root(svc->engine), path, &st, 0) == 0 && st.st_dev == watch->dev &&
		  st.st_ino == watch->ino;

	free(path);
	return is;
}

uint64_t watch_mark(struct store_service *svc, const struct account *a, const struct mailbox *m)
{
	struct watch_key key = {a->id, m->id};
	struct watcher *w = svc->watcher;
	struct watch *watch;

	if (!w || !map_get(w->by_mailbox, str_of(&key, sizeof(key))))
		return 0;
	on_event(svc, w->fd); /* what happened before this question */
	watch = map_get(w->by_mailbox, str_of(&key, sizeof(key)));
	return watch && watch->mark && is_at_place(svc, a, m, watch) && is_at_place(svc, a, m, watch->other)
		       ? watch->mark
		       : 0;
}

static struct watch *watch_dir(struct store_service *svc, const struct account *a, const struct mailbox *m, bool cur)
{
	struct watch *watch;
	char *path = place_of(a, m, cur);
	struct stat before = {0};
	int looked = io_fstatat(store_engine_root(svc->engine), path, &before, 0), wd = add_watch_first(svc, path);

	if (wd < 0 && errno != ENOENT && !svc->watcher->told) {
		log_warning("watching %s: %m; changes that other programs make are seen when a folder is opened", path);
		svc->watcher->told = true;
	}
	if (wd < 0) {
		free(path);
		return NULL;
	}
	watch = NEW(struct watch);
	*watch = (struct watch){.account = a->id, .mailbox = m->id, .cur = cur, .wd = wd};
	/* The same before and behind: it is what the kernel watches. */
	if (look_at_place(svc, watch, path) && looked == 0 && watch->ino == before.st_ino &&
	    watch->dev == before.st_dev)
		watch->mark = ++svc->watcher->marks;
	free(path);
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
		second->other = first;
		if (!second->mark)
			first->mark = 0;
		map_set(w->by_mailbox, str_of(&key, sizeof(key)), first);
		/* What came between the look and the watch. */
		if (!folder_stands(svc, a, m))
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
	if (!linger_take(svc->watcher, (struct watch_key){account, mailbox}))
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
	struct watch *watch = w ? map_get(w->by_mailbox, str_of(&key, sizeof(key))) : NULL;

	if (!w)
		return;
	if (!watch || !watch->mark) {
		unwatch(w, key);
		return;
	}
	vec_push(&w->lingering, key);
	if (w->lingering.n > LINGER_MAX)
		linger_end(w, 0);
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
	vec_release(&w->lingering);
	close(w->fd);
	free(w);
	svc->watcher = NULL;
}
