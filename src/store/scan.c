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
#include "store/maildir.h"
#include "store/service_private.h"
#include <unistd.h>

#define GRACE_MS  1000
#define RETRY_MS  250
#define SETTLE_MS 50 /* changes within one tick of the file system's clock leave its times alike */
/* A folder that last changed so long ago has settled, even if the file system's clock is another machine's. */
#define SETTLED_S 2

struct known {
	uint64_t file;
	uint32_t uid;
	uint8_t projected;
	bool seen;
};

struct found {
	struct str base;
	unsigned mask; /* letters, and PROJECTED_CUR */
	uint64_t file_size, size, mtime;
	struct maildir_name name;
	const struct uidlist_entry *listed;
};

struct scan {
	struct job job;
	uint64_t account;
	uint32_t mailbox;
	struct arena arena;
	struct str path, folder, host;
	uint64_t serial, stamp;
	uint64_t mark; /* watch_mark() before the folder was read */
	int64_t begun_ms;
	bool settled;
	int root;
	struct known *known; /* by file id; then foreign ones */
	size_t own_count, known_count;
	struct map *foreign; /* base: index in known behind own_count, plus one */
	struct map *fresh_bases;
	VEC(struct found) fresh;	    /* by age */
	VEC(struct message_change) renamed; /* uid, and in flags the mask that stands there */
	VEC(uint32_t) vanished;
	struct uidlist *list; /* rebuilding */
	struct map *listed;   /* base: entry */
	bool rebuild, missing;
	int rc;
	struct err err;
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
	struct found f = {.mask = mask};

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
	f.base = arena_str(&s->arena, entry->base);
	maildir_name_parse(f.base, &f.name);
	vec_push(&s->fresh, f);
}

/* Length with CRLF line ends. */
static int measure(struct scan *s, struct found *f)
{
	struct buf path;
	char block[65536], last = 0;
	ssize_t n;
	off_t at = 0;
	int fd;

	buf_init(&path, 4096);
	buf_addf(&path, "%.*s/%.*s%s%s/%.*s", STR_ARG(s->path), STR_ARG(s->folder), s->folder.len ? "/" : "",
		 f->mask & PROJECTED_CUR ? "cur" : "new", STR_ARG(f->base));
	if (f->mask & PROJECTED_CUR) {
		char letters[8];
		size_t plain = path.len;

		buf_addf(&path, ":2,%s", maildir_letters(f->mask, letters));
		fd = io_open(s->root, path.ptr, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
		if (fd < 0) {
			buf_truncate(&path, plain);
			fd = io_open(s->root, path.ptr, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
		}
	} else {
		fd = io_open(s->root, path.ptr, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	}
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
	char letters[8];
	struct str name = f->base;

	f->mtime = 0;
	if (f->mask & PROJECTED_CUR) {
		struct str full =
			arena_printf(&s->arena, "%.*s:2,%s", STR_ARG(f->base), maildir_letters(f->mask, letters));

		if (store_engine_stat(s->job.svc->engine, s->path, s->folder, true, full, &f->file_size, &f->mtime,
				      NULL) > 0)
			name = full;
	}
	if (name.ptr == f->base.ptr &&
	    store_engine_stat(s->job.svc->engine, s->path, s->folder, f->mask & PROJECTED_CUR, name, &f->file_size,
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

static void scan_work(struct job *j)
{
	struct scan *s = (struct scan *)j;

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
	}
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

/* ---- merging ---- */

/* A name that maildir_base() would make of these fields is not kept: it is made. */
static void name_fields(struct txn *t, const struct account *a, const struct found *f, struct static_entry *e)
{
	e->base = f->base;
	if (!f->name.ours || !str_eq(f->name.host, a->header.host))
		return;
	struct static_entry made = *e;
	made.base = STR_NULL;
	made.file = f->name.file;
	made.date = f->name.date;
	if (made.file >= made.message && str_eq(entry_base(&t->arena, a, &made), f->base))
		*e = made;
}

static int merge_new(struct txn **t, struct account *a, struct mailbox *m, const struct found *f, uint64_t *modseq,
		     struct err *err)
{
	struct placing p = {0};
	const struct uidlist_entry *l = f->listed;
	unsigned bit;
	uint32_t uid;

	if (f->name.ours && f->name.file >= a->header.next_message && f->name.file < UINT64_MAX / 2)
		a->header.next_message = f->name.file + 1;
	if (!*modseq)
		*modseq = txn_modseq(*t, a, m);
	p.modseq = *modseq;
	p.uid = l && l->uid >= m->rec.uidnext ? l->uid : 0;
	p.hot.flags = (uint8_t)(f->mask & FLAG_SYSTEM);
	p.hot.keywords = l ? l->keywords : 0;
	if ((f->mask & PROJECTED_PASSED) && keyword_bit(*t, a, m, STR("$Forwarded"), &bit, NULL) == 0)
		p.hot.keywords |= 1ULL << bit;
	p.hot.projected = (uint8_t)f->mask;
	p.fixed.message = p.fixed.file = l && l->message ? l->message : a->header.next_message++;
	p.fixed.date = l ? l->date : f->name.ours ? f->name.date : f->mtime;
	p.fixed.size = f->size;
	p.fixed.file_size = f->file_size;
	p.fixed.prefix_len = l && l->prefix_len <= f->file_size ? l->prefix_len : 0;
	p.fixed.as_is = l && l->as_is;
	name_fields(*t, a, f, &p.fixed);
	if (message_place(*t, a, m, &p, &uid, err) < 0)
		return -1;
	struct runtime *rt = runtime_get((*t)->svc, a->id);
	if (l && rt->rebuilt) {
		struct place *first = map_get_u64(rt->rebuilt, p.fixed.message);

		if (first) {
			if (message_ref(*t, a, p.fixed.message, *first, (struct place){m->id, uid}, err) < 0)
				return -1;
		} else {
			first = NEW(struct place);
			*first = (struct place){m->id, uid};
			map_set_u64(rt->rebuilt, p.fixed.message, first);
		}
		if (p.fixed.message >= a->header.next_message)
			a->header.next_message = p.fixed.message + 1;
	}
	return txn_roll(t, err);
}

static int merge_renamed(struct txn *t, struct account *a, struct mailbox *m, const struct message_change *r,
			 uint64_t *modseq, struct err *err)
{
	struct chunk *c;
	struct hot_entry *h;
	uint32_t uid;
	unsigned theirs = r->flags, changed, flags, bit;
	uint64_t keywords;
	int rc = message_next(a, m, r->uid, r->uid, &uid, &c, err);

	if (rc <= 0)
		return rc;
	h = &c->hot[chunk_slot(uid)];
	changed = (theirs ^ h->projected) & (FLAG_SYSTEM | PROJECTED_PASSED);
	flags = (h->flags & ~changed) | (theirs & changed);
	keywords = h->keywords;
	if ((changed & PROJECTED_PASSED) && keyword_bit(t, a, m, STR("$Forwarded"), &bit, NULL) == 0)
		keywords = theirs & PROJECTED_PASSED ? keywords | 1ULL << bit : keywords & ~(1ULL << bit);
	txn_touch(t, a);
	h->projected = (uint8_t)theirs;
	c->hot_dirty = true;
	m->dirty = true;
	if ((flags & FLAG_SYSTEM) != h->flags || keywords != h->keywords) {
		if (!*modseq)
			*modseq = txn_modseq(t, a, m);
		if (message_set(t, a, m, uid, c, flags, keywords, *modseq, err) < 0)
			return -1;
	}
	return message_project(t, a, m, uid, c, err);
}

static bool was_suspect(const struct folder_state *fs, uint32_t uid)
{
	for (size_t lo = 0, hi = fs->suspects.n; lo < hi;) {
		size_t mid = lo + (hi - lo) / 2;

		if (fs->suspects.v[mid] == uid)
			return true;
		if (fs->suspects.v[mid] < uid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

static int by_u32(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int merge_vanished(struct txn **t, struct account *a, struct mailbox *m, struct folder_state *fs, struct scan *s,
			  struct err *err)
{
	bool due = clock_ms() - fs->suspects_ms >= GRACE_MS;
	uint64_t modseq = 0;
	VEC(uint32_t) still = {0};

	if (s->vanished.n > 1)
		qsort(s->vanished.v, s->vanished.n, sizeof(uint32_t), by_u32);
	for (size_t i = 0; i < s->vanished.n; i++) {
		uint32_t uid = s->vanished.v[i], at;
		struct chunk *c;
		int rc;

		if (!due || !was_suspect(fs, uid)) {
			vec_push(&still, uid);
			continue;
		}
		rc = message_next(a, m, uid, uid, &at, &c, err);
		if (rc > 0 && !modseq)
			modseq = txn_modseq(*t, a, m);
		if (rc < 0 || (rc > 0 && message_remove(*t, a, m, uid, c, modseq, true, false, err) < 0) ||
		    txn_roll(t, err) < 0) {
			vec_release(&still);
			return -1;
		}
	}
	if (due || fs->suspects.n == 0) {
		vec_release(&fs->suspects);
		fs->suspects.v = still.v;
		fs->suspects.n = still.n;
		fs->suspects.cap = still.cap;
		fs->suspects_ms = clock_ms();
	} else {
		vec_release(&still);
	}
	if (s->vanished.n > 0 && fs->suspects.n > 0)
		fs->scan_at_ms = clock_ms() + GRACE_MS + SETTLE_MS;
	return 0;
}

/* No UID below the ceiling of the uidlist is given to a file that it does not name. */
static void rebuild_ceiling(struct txn *t, struct account *a, struct mailbox *m, const struct scan *s)
{
	if (!s->rebuild)
		return;
	txn_touch(t, a);
	m->dirty = true;
	if (s->list && m->rec.uidnext < s->list->ceiling)
		m->rec.uidnext = s->list->ceiling;
	m->rec.recent_from = m->rec.uidnext;
}

static int merge(struct store_service *svc, struct account *a, struct mailbox *m, struct folder_state *fs,
		 struct scan *s, struct err *err)
{
	struct txn *t = txn_new(svc);
	uint64_t new_modseq = 0, flags_modseq = 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < s->fresh.n; i++) {
		if (!s->fresh.v[i].listed)
			rebuild_ceiling(t, a, m, s);
		rc = merge_new(&t, a, m, &s->fresh.v[i], &new_modseq, err);
	}
	if (rc == 0)
		rebuild_ceiling(t, a, m, s);
	for (size_t i = 0; rc == 0 && i < s->renamed.n; i++) {
		rc = merge_renamed(t, a, m, &s->renamed.v[i], &flags_modseq, err);
		if (rc == 0)
			rc = txn_roll(&t, err);
	}
	if (rc == 0)
		rc = merge_vanished(&t, a, m, fs, s, err);
	if (rc == 0 && t->accounts.n > 0)
		return txn_commit(&t, NULL, NULL, err);
	if (rc == 0 && t->accounts.n == 0) {
		txn_abort(&t);
		return 0;
	}
	txn_abort(&t);
	return -1;
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
		fs->trusted = s->begun_ms - fs->stamp_ms >= SETTLE_MS;
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
	} else if (merge(svc, a, m, fs, s, &err) < 0) {
		log_warning("account %llu: merging the folder \"%.*s\": %s", (unsigned long long)s->account,
			    STR_ARG(s->folder), err.text);
		scan_at(svc, fs, 4 * GRACE_MS);
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

	scan_at(svc, fs, SETTLE_MS);
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
	scan_at(l->svc, fs, SETTLE_MS);
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
	struct err err = ERR_NONE;

	if (account_get(svc, s->account, &a, &err) > 0)
		m = account_mailbox(a, s->mailbox);
	if (s->rc < 0)
		log_error("account %llu: reading the folder \"%.*s\": %s", (unsigned long long)s->account,
			  STR_ARG(s->folder), s->err.text);
	else if (m && merge(svc, a, m, &none, s, &err) < 0)
		log_error("account %llu: rebuilding the folder \"%.*s\": %s", (unsigned long long)s->account,
			  STR_ARG(s->folder), err.text);
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
