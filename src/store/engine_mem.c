/* The engine in memory: what the local engine promises, without a disk, with failures on order.
 *
 * Every commit is kept as it was encoded, so that a "power loss" is a second engine that repeats the durable
 * ones. Commits become durable when the loop next looks, unless they are held. */
#include "store/engine_mem_private.h"

#include "base/clock.h"
#include "base/encode.h"
#include "base/fatal.h"
#include "os/io.h"
#include <sys/mman.h>
#include <unistd.h>

static struct mem *mem_of(struct store_engine *e)
{
	return (struct mem *)e;
}

static bool injected(struct mem *m, struct err *err)
{
	if (m->fail_nth == 0 || --m->fail_nth > 0)
		return false;
	if (err)
		*err = m->fail;
	return true;
}

/* ---- committing --------------------------------------------------------------------------------------- */

static void apply_kv(struct mem *m, const struct mem_commit *c)
{
	for (size_t i = 0; i < c->kv_count; i++) {
		if (c->kv[i].del)
			overlay_del(m->kv, c->kv[i].key);
		else
			overlay_put(m->kv, c->kv[i].key, c->kv[i].value);
	}
}

static void make_durable(struct mem *m)
{
	struct mem_commit *c = m->commits.v[m->durable];

	if (c->record && file_record_parse(str_of(c->record->bytes, c->record->len), mem_work_do, m) < 0)
		bug("a file record of our own does not parse");
	m->durable++;
	if (c->done)
		c->done(c->ctx);
	c->done = NULL;
}

static void look(void *ctx)
{
	struct mem *m = ctx;

	while ((!m->hold || m->closing) && m->durable < m->commits.n)
		make_durable(m);
	for (size_t i = 0; i < m->waits.n;) {
		struct mem_wait w = m->waits.v[i];
		if (w.commits > m->durable) {
			i++;
			continue;
		}
		vec_remove(&m->waits, i);
		w.fn(w.ctx);
		i = 0;
	}
}

static struct mem_commit *commit_copy(struct store_engine *e, const struct store_batch *b)
{
	struct mem_commit *c = NEW(struct mem_commit);

	arena_init(&c->arena);
	c->kv = ARENA_ARRAY(&c->arena, struct kvlog_op, b->kv_count + 1);
	c->kv_count = b->kv_count;
	for (size_t i = 0; i < b->kv_count; i++)
		c->kv[i] = (struct kvlog_op){arena_str(&c->arena, b->kv[i].key), arena_str(&c->arena, b->kv[i].value),
					     b->kv[i].del};
	if (b->file_count)
		c->record = file_record_new(e, b);
	c->done = b->done;
	c->ctx = b->ctx;
	return c;
}

static int mem_commit(struct store_engine *e, const struct store_batch *b, struct err *err)
{
	struct mem *m = mem_of(e);
	struct mem_commit *c;

	if (injected(m, err))
		return -1;
	c = commit_copy(e, b);
	for (size_t i = 0; i < b->file_count; i++) {
		struct mem_blob *blob =
			b->files[i].kind == FILE_PUT && b->files[i].body < 0 ? mem_blob_get(m, b->files[i].blob) : NULL;
		if (blob)
			blob->used = true;
	}
	vec_push(&m->commits, c);
	apply_kv(m, c);
	step_post(m->step);
	return 0;
}

static void wait_for(struct mem *m, size_t commits, void (*fn)(void *ctx), void *ctx)
{
	struct mem_wait w = {commits, fn, ctx};

	if (m->durable >= commits)
		fn(ctx);
	else
		vec_push(&m->waits, w);
}

static void mem_barrier(struct store_engine *e, void (*fn)(void *ctx), void *ctx)
{
	wait_for(mem_of(e), mem_of(e)->commits.n, fn, ctx);
}

static void mem_checkpoint(struct store_engine *e, void (*fn)(void *ctx), void *ctx)
{
	if (fn)
		mem_barrier(e, fn, ctx);
}

static int mem_admit(struct store_engine *e, struct str path, uint64_t bytes, struct err *err)
{
	(void)e, (void)path, (void)bytes, (void)err;
	return 0;
}

static bool mem_read_only(const struct store_engine *e)
{
	(void)e;
	return false;
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static int mem_get(struct store_engine *e, struct str key, struct arena *a, struct str *value_r, struct err *err)
{
	const struct overlay_node *n;
	struct str value;

	if (injected(mem_of(e), err))
		return -1;
	n = overlay_find(mem_of(e)->kv, key);
	if (!n || !overlay_value(n, &value))
		return 0;
	*value_r = arena_str(a, value);
	return 1;
}

static int mem_range(struct store_engine *e, struct str first, struct str end, bool reverse, store_range_fn *fn,
		     void *ctx, struct err *err)
{
	struct overlay *o = mem_of(e)->kv;
	const struct overlay_node *n = !reverse	 ? overlay_seek(o, first)
				       : end.ptr ? overlay_before(o, end)
						 : overlay_last(o);
	struct str value;
	int rc = 0;

	(void)err;
	for (; n && rc == 0; n = reverse ? overlay_prev(n) : overlay_next(n)) {
		if (reverse ? str_cmp(overlay_key(n), first) < 0 : end.ptr && str_cmp(overlay_key(n), end) >= 0)
			break;
		if (overlay_value(n, &value))
			rc = fn(ctx, overlay_key(n), value);
	}
	return rc;
}

static int mem_keys(struct store_engine *e, struct str first, struct str end, store_range_fn *fn, void *ctx,
		    struct err *err)
{
	return mem_range(e, first, end, false, fn, ctx, err);
}

struct trace {
	struct mem *m;
	struct str folder, base;
	uint64_t account;
	struct str path;
	VEC(struct file_work) works;
	size_t pending;
};

static int trace_one(void *ctx, const struct file_work *w)
{
	struct trace *t = ctx;

	if (w->op.account == t->account) {
		vec_push(&t->works, *w);
		t->pending++;
	}
	return 0;
}

static void trace_pending(struct mem *m, struct trace *t)
{
	for (size_t i = m->durable; i < m->commits.n; i++) {
		struct mem_commit *c = m->commits.v[i];
		if (c->record && file_record_parse(str_of(c->record->bytes, c->record->len), trace_one, t) < 0)
			bug("a file record of our own does not parse");
	}
}

static int give(struct arena *a, const char *bytes, size_t len, struct store_file *body_r)
{
	body_r->bytes = arena_str(a, str_of(bytes, len));
	body_r->size = len;
	return 1;
}

static int give_placed(struct mem *m, struct str path, struct str folder, struct str base, struct arena *a,
		       struct store_file *body_r)
{
	struct mem_folder *f = mem_folder_get(m, path, folder, false);
	ptrdiff_t i = mem_file_index(f, base);

	return i < 0 ? 0 : give(a, f->files.v[i].bytes, f->files.v[i].len, body_r);
}

static int mem_body(struct store_engine *e, uint64_t account, struct str path, struct str folder, struct str base,
		    bool cur, struct str flags, struct arena *a, struct store_file *body_r, struct err *err)
{
	struct trace t = {.m = mem_of(e), .folder = folder, .base = base, .account = account};
	int rc = 0;

	(void)cur, (void)flags, (void)err;
	trace_pending(t.m, &t);
	for (size_t i = t.works.n; i-- > 0 && rc == 0;) {
		const struct store_file_op *op = &t.works.v[i].op;
		bool to = op->kind == FILE_MOVE || op->kind == FILE_COPY;

		if (op->kind == FILE_FOLDER_RENAME && str_eq(op->to_folder, t.folder)) {
			t.folder = op->folder;
		} else if (to && str_eq(op->to_folder, t.folder) && str_eq(op->to_base, t.base)) {
			t.folder = op->folder;
			t.base = op->base;
		} else if (op->kind == FILE_PUT && str_eq(op->folder, t.folder) && str_eq(op->base, t.base)) {
			size_t len;
			char *bytes = mem_put_bytes(t.m, &t.works.v[i], &len);
			rc = give(a, bytes, len, body_r);
			free(bytes);
		}
	}
	vec_release(&t.works);
	if (rc == 0)
		rc = give_placed(t.m, path, t.folder, t.base, a, body_r);
	if (rc == 0)
		rc = give_placed(t.m, path, STR(STORE_EXPUNGED_DIR), base, a, body_r);
	return rc;
}

static size_t mem_files_pending(struct store_engine *e, uint64_t account)
{
	struct trace t = {.m = mem_of(e), .account = account};

	trace_pending(t.m, &t);
	vec_release(&t.works);
	return t.pending;
}

static void mem_files_wait(struct store_engine *e, uint64_t account, void (*fn)(void *ctx), void *ctx)
{
	if (mem_files_pending(e, account) == 0)
		fn(ctx);
	else
		wait_for(mem_of(e), mem_of(e)->commits.n, fn, ctx);
}

static int mem_scan(struct store_engine *e, struct str path, struct str folder,
		    void (*fn)(void *ctx, const struct store_entry *entry), void *ctx, bool *missing_r, struct err *err)
{
	struct mem_folder *f = mem_folder_get(mem_of(e), path, folder, false);

	(void)err;
	*missing_r = !f;
	for (int cur = 0; f && cur < 2; cur++) {
		for (size_t i = 0; i < f->files.n; i++) {
			struct mem_file *file = &f->files.v[i];
			char name[STORE_NAME_MAX];
			struct store_entry entry;
			if (file->cur != (cur == 1))
				continue;
			store_file_name(name, str_from(file->base), file->cur, str_from(file->flags));
			entry = store_entry_parse(str_from(name), file->cur);
			fn(ctx, &entry);
		}
	}
	return f ? (int)f->files.n : 0;
}

static int mem_folders(struct store_engine *e, struct str path, void (*fn)(void *ctx, struct str folder), void *ctx,
		       struct err *err)
{
	struct mem *m = mem_of(e);
	struct mem_folders *account = mem_account(m, path, false);
	int count = 0;

	(void)err;
	if (mem_folder_get(m, path, STR(""), false)) {
		fn(ctx, STR(""));
		count++;
	}
	for (size_t i = 0; account != NULL && i < account->all.n; i++) {
		struct mem_folder *f = account->all.v[i];
		if (f->folder[0] != '.')
			continue;
		fn(ctx, str_from(f->folder));
		count++;
	}
	return count;
}

static uint64_t mem_folder_stamp(struct store_engine *e, struct str path, struct str folder, int64_t *newest_r)
{
	struct mem_folder *f = mem_folder_get(mem_of(e), path, folder, false);

	*newest_r = INT64_MAX;
	return f ? f->stamp : 0;
}

static int mem_read_file(struct store_engine *e, struct str path, struct str folder, const char *name, size_t max,
			 struct arena *a, struct str *bytes_r, struct err *err)
{
	struct mem_folder *f = mem_folder_get(mem_of(e), path, folder, false);

	if (!f || strcmp(name, STORE_UIDLIST_NAME) != 0 || f->uidlist.len == 0)
		return 0;
	if (f->uidlist.len > max)
		return err_set(err, ERR_LIMIT, "5.3.0", "%s is too large", name);
	*bytes_r = arena_str(a, buf_str(&f->uidlist));
	return 1;
}

static int mem_stat(struct store_engine *e, struct str path, struct str folder, bool cur, struct str name,
		    uint64_t *size_r, uint64_t *mtime_r, struct err *err)
{
	struct mem_folder *f = mem_folder_get(mem_of(e), path, folder, false);
	struct store_entry entry = store_entry_parse(name, cur);
	ptrdiff_t i = mem_file_index(f, entry.base);

	(void)err;
	if (i < 0 || f->files.v[i].cur != cur || !str_eq(str_from(f->files.v[i].flags), entry.flags))
		return 0;
	*size_r = f->files.v[i].len;
	*mtime_r = f->files.v[i].mtime;
	return 1;
}

static int mem_root(const struct store_engine *e)
{
	(void)e;
	return -1;
}

/* ---- blobs -------------------------------------------------------------------------------------------- */

static int mem_blob_begin(struct store_engine *e, uint64_t size_hint, uint64_t *blob_r, int *fd_r, struct err *err)
{
	struct mem *m = mem_of(e);
	struct mem_blob b = {.id = ++m->next_blob};

	(void)size_hint;
	if (injected(m, err))
		return -1;
	b.fd = memfd_create("blob", MFD_CLOEXEC);
	*fd_r = b.fd < 0 ? -1 : dup(b.fd);
	if (*fd_r < 0)
		return err_errno(err, "cannot make a blob");
	vec_push(&m->blobs, b);
	*blob_r = b.id;
	return 0;
}

static int check_blob(struct mem_blob *b, uint64_t size, uint32_t crc, struct err *err)
{
	char *bytes;
	ssize_t n;

	if (!b || b->finished)
		return err_set(err, ERR_TEMP, "4.3.0", "no such blob");
	bytes = mem_alloc(size + 2);
	n = io_pread(b->fd, bytes, size + 1, 0);
	if (n != (ssize_t)size || crc32c(0, bytes, size) != crc)
		err_set(err, ERR_PERM, "5.6.0", "a blob is not what its writer said");
	free(bytes);
	b->finished = err->kind == ERR_OK;
	b->size = size;
	return b->finished ? 0 : -1;
}

static void mem_blob_finish(struct store_engine *e, uint64_t blob, uint64_t size, uint32_t crc,
			    void (*fn)(void *ctx, const struct err *err), void *ctx)
{
	struct err err = ERR_NONE;

	fn(ctx, check_blob(mem_blob_get(mem_of(e), blob), size, crc, &err) < 0 ? &err : NULL);
}

static bool mem_blob_finished(struct store_engine *e, uint64_t blob, uint64_t *size_r)
{
	struct mem_blob *b = mem_blob_get(mem_of(e), blob);

	if (!b || !b->finished || b->used)
		return false;
	*size_r = b->size;
	return true;
}

static int mem_blob_open(struct store_engine *e, uint64_t blob, struct err *err)
{
	struct mem_blob *b = mem_blob_get(mem_of(e), blob);
	char path[64];

	if (!b || !b->finished || b->used)
		return err_set(err, ERR_TEMP, "4.3.0", "no such blob");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", b->fd);
	return io_open(AT_FDCWD, path, O_RDONLY, 0);
}

static void mem_blob_drop(struct store_engine *e, uint64_t blob)
{
	struct mem *m = mem_of(e);

	for (size_t i = 0; i < m->blobs.n; i++) {
		if (m->blobs.v[i].id != blob || m->blobs.v[i].used)
			continue;
		close(m->blobs.v[i].fd);
		vec_remove(&m->blobs, i);
		return;
	}
}

/* ---- life --------------------------------------------------------------------------------------------- */

static void mem_stats(struct store_engine *e, struct store_engine_stats *stats_r)
{
	*stats_r = (struct store_engine_stats){.commits = mem_of(e)->commits.n, .flushes = mem_of(e)->durable};
}

static void accounts_free(struct mem *m)
{
	struct str path;
	void *value;

	for (size_t at = 0; map_next(m->accounts, &at, &path, &value);) {
		struct mem_folders *account = value;

		while (account->all.n > 0)
			mem_folder_drop(account, account->all.v[0]);
		vec_release(&account->all);
		free(account);
	}
	map_free(&m->accounts);
	pthread_mutex_destroy(&m->lock);
}

static void mem_close(struct store_engine *e)
{
	struct mem *m = mem_of(e);

	m->closing = true;
	look(m);
	for (size_t i = 0; i < m->commits.n; i++) {
		struct mem_commit *c = m->commits.v[i];
		arena_release(&c->arena);
		if (c->record)
			file_record_unref(c->record);
		free(c);
	}
	accounts_free(m);
	for (size_t i = 0; i < m->blobs.n; i++)
		close(m->blobs.v[i].fd);
	vec_release(&m->commits);
	vec_release(&m->blobs);
	vec_release(&m->waits);
	overlay_free(&m->kv);
	step_free(&m->step);
	free(m);
}

static const struct store_engine_ops MEM_OPS = {
	.get = mem_get,
	.keys = mem_keys,
	.range = mem_range,
	.commit = mem_commit,
	.barrier = mem_barrier,
	.admit = mem_admit,
	.read_only = mem_read_only,
	.body = mem_body,
	.files_pending = mem_files_pending,
	.files_wait = mem_files_wait,
	.scan = mem_scan,
	.folders = mem_folders,
	.folder_stamp = mem_folder_stamp,
	.read_file = mem_read_file,
	.stat = mem_stat,
	.root = mem_root,
	.blob_begin = mem_blob_begin,
	.blob_finish = mem_blob_finish,
	.blob_open = mem_blob_open,
	.blob_drop = mem_blob_drop,
	.blob_finished = mem_blob_finished,
	.checkpoint = mem_checkpoint,
	.stats = mem_stats,
	.close = mem_close,
};

int store_engine_mem_open(const struct store_loop *loop, struct store_engine **e_r, struct err *err)
{
	struct mem *m = NEW(struct mem);

	(void)err;
	m->e.ops = &MEM_OPS;
	m->kv = overlay_new();
	m->accounts = map_new();
	pthread_mutex_init(&m->lock, NULL);
	m->step = step_new(loop, look, m);
	*e_r = &m->e;
	return 0;
}

void store_engine_mem_fail(struct store_engine *e, unsigned nth, const struct err *err)
{
	mem_of(e)->fail_nth = nth;
	mem_of(e)->fail = *err;
}

void store_engine_mem_hold(struct store_engine *e, bool hold)
{
	mem_of(e)->hold = hold;
	step_post(mem_of(e)->step);
}

struct store_engine *store_engine_mem_crash(struct store_engine *e, const struct store_loop *loop)
{
	struct mem *from = mem_of(e), *m;
	struct store_engine *copy;

	if (store_engine_mem_open(loop, &copy, NULL) < 0)
		return NULL;
	m = mem_of(copy);
	for (size_t i = 0; i < from->blobs.n; i++) {
		struct mem_blob b = from->blobs.v[i];
		if (!b.used)
			continue;
		b.fd = dup(b.fd);
		vec_push(&m->blobs, b);
	}
	m->next_blob = from->next_blob;
	for (size_t i = 0; i < from->durable; i++) {
		struct mem_commit *c = NEW(struct mem_commit), *old = from->commits.v[i];

		arena_init(&c->arena);
		c->kv = ARENA_ARRAY(&c->arena, struct kvlog_op, old->kv_count + 1);
		c->kv_count = old->kv_count;
		for (size_t k = 0; k < old->kv_count; k++)
			c->kv[k] = (struct kvlog_op){arena_str(&c->arena, old->kv[k].key),
						     arena_str(&c->arena, old->kv[k].value), old->kv[k].del};
		c->record = old->record;
		if (c->record)
			atomic_fetch_add(&c->record->refs, 1);
		vec_push(&m->commits, c);
		apply_kv(m, c);
		make_durable(m);
	}
	return copy;
}

void store_engine_mem_touch(struct store_engine *e, const char *path, const char *from, const char *to,
			    struct str bytes)
{
	struct mem *m = mem_of(e);
	struct str folder = STR_NULL, sub, name;
	const char *given = from ? from : to;
	struct store_entry entry;
	ptrdiff_t i;
	struct mem_file old = {0};

	/* "new/base", "cur/base:2,S" or ".Folder/cur/base:2,S" */
	if (!str_split(str_from(given), '/', &sub, &name))
		bug("store_engine_mem_touch: %s", given);
	if (sub.ptr[0] == '.') {
		folder = sub;
		str_split(name, '/', &sub, &name);
	}
	if (from) {
		struct mem_folder *f = mem_folder_get(m, str_from(path), folder, true);
		entry = store_entry_parse(name, str_eq(sub, STR("cur")));
		i = mem_file_index(f, entry.base);
		if (i >= 0)
			mem_file_take(m, f, (size_t)i, &old);
		if (to) {
			store_engine_mem_touch(e, path, NULL, to, str_of(old.bytes, old.len));
		}
		mem_file_release(&old);
		return;
	}
	entry = store_entry_parse(name, str_eq(sub, STR("cur")));
	mem_file_set(m, mem_folder_get(m, str_from(path), folder, true), entry.base, entry.cur, entry.flags,
		     memcpy(mem_alloc(bytes.len + 1), bytes.len ? bytes.ptr : "", bytes.len), bytes.len,
		     (uint64_t)clock_wall());
}
