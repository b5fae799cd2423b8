/* scan - what other tools did to a folder: new files, removed files, renamed files.
 *
 * A thread reads the directory and compares it with a copy of what the index knows; the loop merges the
 * difference, if no file operation of ours was given in between (the `serial` tells), else the folder is read again.
 *   - a file that nobody knows gets a UID;
 *   - a known file whose letters are not those we wrote last was renamed: the difference is applied to the flags
 *     (three ways: what we wrote, what stands there, what the index says now);
 *   - a known file that is missing twice, a second apart, is an expunge. A missing folder or root is none. */
#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "os/io.h"
#include "store/scan_private.h"
#include <unistd.h>

#define RETRY_MS     250
#define KEYWORDS_MAX (64u << 10)
/* A folder that last changed so long ago has settled, even if the file system's clock is another machine's. */
#define SETTLED_S 2

struct known {
	uint64_t file;
	uint32_t uid;
	uint8_t projected;
	bool seen;
};

/* ---- on the thread ---- */

static struct known *known_find(struct scan *s, struct str base)
{
	struct maildir_name n;
	uintptr_t at = (uintptr_t)map_get(s->foreign, base);

	if (at)
		return &s->known[s->own_count + at - 1];
	maildir_name_parse(base, &n);
	if (!n.ours || !str_eq(n.host, s->host))
		return NULL;
	for (size_t lo = 0, hi = s->own_count; lo < hi;) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->known[mid].file == n.file)
			return &s->known[mid];
		if (s->known[mid].file < n.file)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static void see_known(struct scan *s, struct known *k, unsigned mask)
{
	struct message_change m = {.kind = CHANGE_FLAGS, .uid = k->uid, .flags = mask};

	if (k->seen)
		return;
	k->seen = true;
	if (mask != k->projected)
		vec_push(&s->renamed, m);
}

static void see_file(void *ctx, const struct store_entry *entry)
{
	struct scan *s = ctx;
	unsigned mask = maildir_mask(entry->flags) | (entry->cur ? PROJECTED_CUR : 0);
	struct known *k;
	struct found f = {.mask = mask, .letters = maildir_keyword_letters(entry->flags)};

	if (entry->base.len == 0 || entry->name.ptr[0] == '.')
		return;
	k = known_find(s, entry->base);
	if (k) {
		see_known(s, k, mask);
		return;
	}
	if (map_get(s->fresh_bases, entry->base))
		return; /* seen on its way from new/ to cur/ */
	map_set(s->fresh_bases, entry->base, s);
	f.file = arena_str(&s->arena, entry->name);
	f.base = str_sub(f.file, 0, entry->base.len);
	maildir_name_parse(f.base, &f.name);
	vec_push(&s->fresh, f);
}

/* Length with CRLF line ends. */
static int measure(struct scan *s, struct found *f)
{
	char block[65536], last = 0;
	struct buf path;
	ssize_t n;
	off_t at = 0;
	int fd;

	buf_init(&path, 4096);
	buf_addf(&path, "%.*s/%.*s%s%s/%.*s", STR_ARG(s->path), STR_ARG(s->folder), s->folder.len ? "/" : "",
		 f->mask & PROJECTED_CUR ? "cur" : "new", STR_ARG(f->file));
	fd = io_open(s->root, path.ptr, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	buf_release(&path);
	if (fd < 0)
		return -1;
	while ((n = io_pread(fd, block, sizeof(block), at)) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (block[i] == '\n' && last != '\r')
				f->size++;
			last = block[i];
		}
		at += n;
		f->size += (uint64_t)n;
	}
	f->file_size = (uint64_t)at;
	io_close(fd);
	return n < 0 ? -1 : 0;
}

static void examine(struct scan *s, struct found *f)
{
	f->mtime = 0;
	if (store_engine_stat(s->job.svc->engine, s->path, s->folder, f->mask & PROJECTED_CUR, f->file, &f->file_size,
			      &f->mtime, NULL) <= 0)
		f->file_size = f->name.file_size == UINT64_MAX ? 0 : f->name.file_size;
	if (f->name.file_size == f->file_size && f->name.size != UINT64_MAX && f->name.size >= f->file_size)
		f->size = f->name.size;
	else if (s->root < 0 || measure(s, f) < 0)
		f->size = f->file_size;
}

static int by_age(const void *a, const void *b)
{
	const struct found *x = a, *y = b;
	uint64_t t = x->name.ours ? x->name.date : x->mtime, u = y->name.ours ? y->name.date : y->mtime;

	/* In a rebuild the uidlist's order comes first; what it does not know comes behind. */
	if (!x->listed != !y->listed)
		return x->listed ? -1 : 1;
	if (x->listed && x->listed->uid != y->listed->uid)
		return x->listed->uid < y->listed->uid ? -1 : 1;
	if (t != u)
		return t < u ? -1 : 1;
	return str_cmp(x->base, y->base);
}

/* Of a mailbox that comes from Dovecot. Without the file the letters mean nothing. */
static void read_keywords(struct scan *s)
{
	struct err err = ERR_NONE;
	struct str text;
	int rc = store_engine_read_file(s->job.svc->engine, s->path, s->folder, MAILDIR_KEYWORDS_NAME, KEYWORDS_MAX,
					&s->arena, &text, &err);

	if (rc < 0)
		log_warning("account %llu: reading the keywords of \"%.*s\": %s", (unsigned long long)s->account,
			    STR_ARG(s->folder), err.text);
	else if (rc > 0)
		maildir_keyword_names(text, s->keywords);
}

static void scan_work(struct job *j)
{
	struct scan *s = (struct scan *)j;
	uint32_t letters = 0;

	s->rc = store_engine_scan(j->svc->engine, s->path, s->folder, see_file, s, &s->missing, &s->err);
	if (s->rc < 0 || s->missing)
		return;
	for (size_t i = 0; i < s->known_count; i++)
		if (!s->known[i].seen)
			vec_push(&s->vanished, s->known[i].uid);
	for (size_t i = 0; i < s->fresh.n; i++) {
		struct found *f = &s->fresh.v[i];

		examine(s, f);
		if (s->listed)
			f->listed = map_get(s->listed, f->base);
		letters |= f->letters;
	}
	if (letters != 0)
		read_keywords(s);
	if (s->fresh.n > 1)
		qsort(s->fresh.v, s->fresh.n, sizeof(s->fresh.v[0]), by_age);
}

/* ---- making a scan ---- */

static int by_file(const void *a, const void *b)
{
	const struct known *x = a, *y = b;

	return x->file < y->file ? -1 : x->file > y->file;
}

static int copy_known(struct scan *s, struct account *a, struct mailbox *m, struct err *err)
{
	VEC(struct known) foreign = {0};
	struct chunk *c;
	uint32_t uid = 1;
	int rc;

	if (mailbox_load(a, m, err) < 0)
		return -1;
	s->known = mem_alloc(sizeof(*s->known) * ((size_t)m->rec.messages + 1));
	for (; (rc = message_next(a, m, uid, UINT32_MAX, &uid, &c, err)) > 0; uid++) {
		unsigned slot = chunk_slot(uid);
		struct known k = {.uid = uid, .projected = c->hot[slot].projected};

		if (s->known_count + foreign.n >= m->rec.messages)
			break;
		if (chunk_load_fixed(a, m, c, err) < 0) {
			rc = -1;
			break;
		}
		k.file = c->fixed[slot].file;
		if (entry_projection(m, &c->hot[slot]) != c->hot[slot].projected)
			project_soon(a->svc, a->id);
		if (c->fixed[slot].base.len == 0) {
			s->known[s->known_count++] = k;
			continue;
		}
		vec_push(&foreign, k);
		map_set(s->foreign, c->fixed[slot].base, (void *)(uintptr_t)foreign.n);
	}
	if (s->known_count > 1)
		qsort(s->known, s->known_count, sizeof(*s->known), by_file);
	s->own_count = s->known_count;
	if (foreign.n > 0)
		memcpy(s->known + s->own_count, foreign.v, foreign.n * sizeof(*s->known));
	s->known_count += foreign.n;
	vec_release(&foreign);
	return rc < 0 ? -1 : 0;
}

static struct scan *scan_new(struct store_service *svc, struct account *a, struct mailbox *m)
{
	struct scan *s = NEW(struct scan);
	int64_t newest = INT64_MAX;

	s->account = a->id;
	s->mailbox = m->id;
	arena_init(&s->arena);
	s->path = arena_str(&s->arena, a->header.path);
	s->folder = arena_str(&s->arena, m->rec.folder);
	s->host = arena_str(&s->arena, a->header.host);
	s->foreign = map_new();
	s->fresh_bases = map_new();
	s->root = store_engine_root(svc->engine);
	s->mark = watch_mark(svc, a, m);
	s->serial = runtime_get(svc, a->id)->serial;
	s->stamp = store_engine_folder_stamp(svc->engine, s->path, s->folder, &newest);
	s->settled = newest <= clock_wall() - SETTLED_S;
	s->begun_ms = clock_ms();
	s->job.work = scan_work;
	return s;
}

static void scan_free(struct scan *s)
{
	map_free(&s->foreign);
	map_free(&s->fresh_bases);
	map_free(&s->listed);
	free(s->known);
	vec_release(&s->fresh);
	vec_release(&s->renamed);
	vec_release(&s->vanished);
	arena_release(&s->arena);
	free(s);
}

/* ---- folders ---- */

struct folder_state *folder_state_get(struct store_service *svc, uint64_t account, uint32_t mailbox)
{
	struct runtime *rt = runtime_get(svc, account);
	struct folder_state *fs;

	for (size_t i = 0; i < rt->folders.n; i++)
		if (rt->folders.v[i]->mailbox == mailbox)
			return rt->folders.v[i];
	fs = NEW(struct folder_state);
	fs->mailbox = mailbox;
	vec_push(&rt->folders, fs);
	return fs;
}

static void run_waiters(struct folder_state *fs)
{
	struct look_waiter *w = fs->waiters.v;
	size_t n = fs->waiters.n;

	fs->waiters.v = NULL;
	fs->waiters.n = fs->waiters.cap = 0;
	for (size_t i = 0; i < n; i++)
		w[i].fn(w[i].ctx);
	free(w);
}

void folder_state_drop(struct store_service *svc, uint64_t account, uint32_t mailbox)
{
	struct runtime *rt = runtime_get(svc, account);

	for (size_t i = 0; i < rt->folders.n; i++) {
		struct folder_state *fs = rt->folders.v[i];

		if (fs->mailbox != mailbox || fs->scanning || fs->waiters.n > 0)
			continue;
		vec_remove(&rt->folders, i);
		vec_release(&fs->suspects);
		free(fs);
		return;
	}
}

static void scan_timer(void *ctx);

static void scan_at(struct store_service *svc, struct folder_state *fs, int64_t delay_ms)
{
	int64_t at = clock_ms() + delay_ms;

	if (!fs->scan_at_ms || fs->scan_at_ms > at)
		fs->scan_at_ms = at;
	timer_once(svc, TIMER_SCAN, delay_ms > 20 ? delay_ms : 20, scan_timer);
}

static void remember_stamp(struct folder_state *fs, const struct scan *s)
{
	fs->mark = s->mark;
	if (fs->stamp == s->stamp) {
		fs->trusted = s->begun_ms - fs->stamp_ms >= SCAN_SETTLE_MS;
		return;
	}
	fs->stamp = s->stamp;
	fs->stamp_ms = s->begun_ms;
	fs->trusted = s->settled;
}

static void scan_done(struct job *j)
{
	struct scan *s = (struct scan *)j;
	struct store_service *svc = j->svc;
	struct folder_state *fs = folder_state_get(svc, s->account, s->mailbox);
	struct runtime *rt = runtime_get(svc, s->account);
	struct account *a = NULL;
	struct mailbox *m = NULL;
	struct err err = ERR_NONE;

	fs->scanning = false;
	if (account_get(svc, s->account, &a, &err) > 0)
		m = account_mailbox(a, s->mailbox);
	if (s->rc < 0) {
		log_warning("account %llu: reading the folder \"%.*s\": %s", (unsigned long long)s->account,
			    STR_ARG(s->folder), s->err.text);
	} else if (!m || s->missing || rt->rebuilding || !str_eq(m->rec.folder, s->folder)) {
		/* Gone, renamed, or its root is away: nothing is concluded from that. */
	} else if (rt->serial != s->serial || store_engine_files_pending(svc->engine, s->account) > 0) {
		scan_at(svc, fs, RETRY_MS);
	} else if (scan_merge(svc, a, m, fs, s, &err) < 0) {
		log_warning("account %llu: merging the folder \"%.*s\": %s", (unsigned long long)s->account,
			    STR_ARG(s->folder), err.text);
		scan_at(svc, fs, 4 * SCAN_GRACE_MS);
	} else {
		remember_stamp(fs, s);
	}
	if (fs->scan_at_ms)
		scan_at(svc, fs, fs->scan_at_ms - clock_ms());
	scan_free(s);
	run_waiters(fs);
}

static bool scan_start(struct store_service *svc, struct account *a, struct mailbox *m, struct folder_state *fs)
{
	struct scan *s = scan_new(svc, a, m);

	s->job.done = scan_done;
	fs->scan_at_ms = 0;
	if (copy_known(s, a, m, NULL) < 0) {
		scan_free(s);
		return false;
	}
	fs->scanning = true;
	jobs_add(svc->jobs, &s->job);
	return true;
}

struct due {
	uint64_t account;
	uint32_t mailbox;
};

/* What is due now and can be done, and when the next is (INT64_MAX: none). A due folder whose account is busy is put
 * off. */
static void scans_due(struct store_service *svc, int64_t now, int64_t *next_r, struct due **due_r, size_t *n_r)
{
	VEC(struct due) due = {0};
	struct str key;
	void *value;

	*next_r = INT64_MAX;
	for (size_t at = 0; map_next(svc->runtimes, &at, &key, &value);) {
		struct runtime *rt = value;

		for (size_t i = 0; i < rt->folders.n; i++) {
			struct folder_state *fs = rt->folders.v[i];
			bool busy = rt->rebuilding || store_engine_files_pending(svc->engine, rt->account) > 0;
			int64_t at_ms = fs->scan_at_ms > now ? fs->scan_at_ms : now + RETRY_MS;
			struct due d = {rt->account, fs->mailbox};

			if (!fs->scan_at_ms || fs->scanning)
				continue;
			if (fs->scan_at_ms > now || busy)
				*next_r = at_ms < *next_r ? at_ms : *next_r;
			else
				vec_push(&due, d);
		}
	}
	*due_r = due.v;
	*n_r = due.n;
}

static void scan_timer(void *ctx)
{
	struct store_service *svc = ctx;
	int64_t next, now = clock_ms();
	struct due *due;
	size_t n;

	scans_due(svc, now, &next, &due, &n);
	/* Beginning one may hear of other accounts, and add runtimes. */
	for (size_t i = 0; i < n; i++) {
		struct folder_state *fs = folder_state_get(svc, due[i].account, due[i].mailbox);
		struct account *a;
		struct mailbox *m;

		fs->scan_at_ms = 0;
		if (!fs->scanning && account_get(svc, due[i].account, &a, NULL) > 0 &&
		    (m = account_mailbox(a, due[i].mailbox)))
			(void)scan_start(svc, a, m, fs);
	}
	free(due);
	if (next < INT64_MAX)
		timer_once(svc, TIMER_SCAN, next - now + 1, scan_timer);
}

void folder_scan_soon(struct store_service *svc, uint64_t account, uint32_t mailbox)
{
	struct folder_state *fs = folder_state_get(svc, account, mailbox);

	scan_at(svc, fs, SCAN_SETTLE_MS);
}

struct look {
	struct store_service *svc;
	uint64_t account;
	uint32_t mailbox;
	struct look_waiter then;
};

static void look(const struct look *l, bool wait);

/* What was on its way is in place; what came meanwhile is not waited for. */
static void look_settled(void *ctx)
{
	struct look *l = ctx;

	if (store_stopping(l->svc, NULL))
		l->then.fn(l->then.ctx);
	else
		look(l, false);
	free(l);
}

/* Our own files are on their way: a moment, unless the disk is full and they may be held up for long. */
static void look_later(const struct look *l, struct folder_state *fs, bool wait)
{
	struct store_engine_stats stats;

	store_engine_stats(l->svc->engine, &stats);
	if (wait && stats.failed_files == 0) {
		store_engine_files_wait(l->svc->engine, l->account, look_settled, mem_dup(l, sizeof(*l)));
		return;
	}
	scan_at(l->svc, fs, SCAN_SETTLE_MS);
	l->then.fn(l->then.ctx);
}

static void look(const struct look *l, bool wait)
{
	struct folder_state *fs = folder_state_get(l->svc, l->account, l->mailbox);
	struct account *a;
	struct mailbox *m;

	if (fs->scanning) {
		vec_push(&fs->waiters, l->then);
	} else if (account_get(l->svc, l->account, &a, NULL) <= 0 || !(m = account_mailbox(a, l->mailbox))) {
		l->then.fn(l->then.ctx);
	} else if (store_engine_files_pending(l->svc->engine, l->account) > 0) {
		look_later(l, fs, wait);
	} else if (folder_unchanged(l->svc, a, m, fs)) {
		l->then.fn(l->then.ctx);
	} else {
		vec_push(&fs->waiters, l->then);
		if (!scan_start(l->svc, a, m, fs))
			run_waiters(fs);
	}
}

void folder_look(struct store_service *svc, uint64_t account, uint32_t mailbox, void (*fn)(void *ctx), void *ctx)
{
	struct look l = {svc, account, mailbox, {fn, ctx}};

	look(&l, true);
}

/* ---- rebuilding ---- */

static void rebuild_done(struct job *j)
{
	struct scan *s = (struct scan *)j;
	struct store_service *svc = j->svc;
	struct folder_state none = {0};
	struct account *a = NULL;
	struct mailbox *m = NULL;
	struct err err = s->err;
	int rc = s->rc < 0 ? -1 : account_get(svc, s->account, &a, &err);

	if (rc > 0)
		m = account_mailbox(a, s->mailbox);
	if (m)
		rc = scan_merge(svc, a, m, &none, s, &err);
	if (rc < 0) {
		log_error("account %llu: rebuilding the folder \"%.*s\": %s", (unsigned long long)s->account,
			  STR_ARG(s->folder), err.text);
		runtime_get(svc, s->account)->rebuild_broken = true;
	}
	vec_release(&none.suspects);
	uint64_t account = s->account;
	scan_free(s);
	folder_rebuilt(svc, account);
}

void folder_rebuild(struct store_service *svc, struct account *a, struct mailbox *m, struct uidlist *list,
		    struct arena *arena)
{
	struct scan *s = scan_new(svc, a, m);

	arena_release(&s->arena);
	s->arena = *arena; /* the list lives in it */
	s->path = arena_str(&s->arena, a->header.path);
	s->folder = arena_str(&s->arena, m->rec.folder);
	s->host = arena_str(&s->arena, a->header.host);
	s->rebuild = true;
	s->list = list;
	s->listed = map_new();
	for (size_t i = 0; list && i < list->count; i++)
		map_set(s->listed, list->entries[i].base, &list->entries[i]);
	s->job.done = rebuild_done;
	jobs_add(svc->jobs, &s->job);
}
