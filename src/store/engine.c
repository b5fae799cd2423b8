/* What all engines have in common: checking what comes in, and finding the function. */
#include "store/engine_private.h"

#include "base/fatal.h"

void store_file_name(char out[STORE_NAME_MAX], struct str base, bool cur, struct str flags)
{
	if (cur)
		snprintf(out, STORE_NAME_MAX, "%.*s:2,%.*s", STR_ARG(base), STR_ARG(flags));
	else
		snprintf(out, STORE_NAME_MAX, "%.*s", STR_ARG(base));
}

struct store_entry store_entry_parse(struct str name, bool cur)
{
	struct store_entry e = {.name = name, .base = name, .cur = cur};
	ptrdiff_t colon = str_chr(name, ':');

	if (colon < 0)
		return e;
	e.base = str_sub(name, 0, (size_t)colon);
	if (str_starts(str_skip(name, (size_t)colon), STR(":2,")))
		e.flags = str_skip(name, (size_t)colon + 3);
	return e;
}

/* ---- checks ------------------------------------------------------------------------------------------- */

static bool name_ok(struct str s)
{
	return s.len > 0 && s.len <= 200 && !memchr(s.ptr, 0, s.len) && !memchr(s.ptr, '/', s.len) &&
	       !str_eq(s, STR(".")) && !str_eq(s, STR(".."));
}

static bool base_ok(struct str s)
{
	return name_ok(s) && !memchr(s.ptr, ':', s.len) && s.ptr[0] != '.';
}

/* "" or a Maildir++ name: never a directory of Maildir itself. */
static bool folder_ok(struct str s)
{
	return s.len == 0 || (name_ok(s) && s.len > 1 && s.ptr[0] == '.');
}

static bool path_ok(struct str path)
{
	struct str part;

	if (path.len == 0 || path.len > 1024 || memchr(path.ptr, 0, path.len) || path.ptr[0] == '/')
		return false;
	while (str_token(&path, "/", &part))
		if (str_eq(part, STR(".")) || str_eq(part, STR("..")))
			return false;
	return true;
}

static bool flags_ok(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!ascii_alpha(s.ptr[i]))
			return false;
	return s.len <= 52;
}

static bool op_ok(struct store_engine *e, const struct store_batch *c, const struct store_file_op *f)
{
	bool to = f->kind == FILE_MOVE || f->kind == FILE_COPY;
	bool message = to || f->kind == FILE_PUT || f->kind == FILE_REMOVE;
	uint64_t size;

	if (f->kind < FILE_PUT || f->kind > FILE_NOTE_REPLACE || !path_ok(f->path) || !folder_ok(f->folder))
		return false;
	if ((message && !base_ok(f->base)) || (to && !base_ok(f->to_base)) || !flags_ok(f->flags) ||
	    !flags_ok(f->was_flags))
		return false;
	if ((to || f->kind == FILE_FOLDER_RENAME) && !folder_ok(f->to_folder))
		return false;
	if ((f->kind == FILE_FOLDER_RENAME || f->kind == FILE_FOLDER_REMOVE) && f->folder.len == 0)
		return false;
	if (f->kind == FILE_FOLDER_RENAME && f->to_folder.len == 0)
		return false;
	if (f->kind != FILE_PUT)
		return true;
	if (f->body >= 0)
		return (size_t)f->body < c->body_count;
	return f->blob == 0 || e->ops->blob_finished(e, f->blob, &size);
}

static int check_commit(struct store_engine *e, const struct store_batch *c, struct err *err)
{
	size_t total = 0;

	for (size_t i = 0; i < c->kv_count; i++) {
		if (c->kv[i].key.len < 8 || c->kv[i].key.len > STORE_KEY_MAX || c->kv[i].value.len > STORE_VALUE_MAX)
			return err_set(err, ERR_LIMIT, "5.3.0", "a key of %zu or a value of %zu bytes",
				       c->kv[i].key.len, c->kv[i].value.len);
		total += c->kv[i].key.len + c->kv[i].value.len;
	}
	for (size_t i = 0; i < c->file_count; i++) {
		const struct store_file_op *f = &c->files[i];
		if (!op_ok(e, c, f))
			return err_set(err, ERR_PERM, "5.3.0", "a file operation (%d) with a bad name or body",
				       (int)f->kind);
		total += f->path.len + f->folder.len + f->base.len + f->prefix.len + f->to_folder.len + f->to_base.len +
			 64;
	}
	for (size_t i = 0; i < c->body_count; i++)
		total += c->bodies[i].len;
	if (total > STORE_COMMIT_MAX)
		return err_set(err, ERR_LIMIT, "5.3.4", "a commit of %zu bytes", total);
	return 0;
}

/* ---- finding the function ----------------------------------------------------------------------------- */

int store_engine_get(struct store_engine *e, struct str key, struct arena *a, struct str *value_r, struct err *err)
{
	return e->ops->get(e, key, a, value_r, err);
}

int store_engine_keys(struct store_engine *e, struct str first, struct str end, store_range_fn *fn, void *ctx,
		      struct err *err)
{
	return e->ops->keys(e, first, end, fn, ctx, err);
}

int store_engine_range(struct store_engine *e, struct str first, struct str end, bool reverse, store_range_fn *fn,
		       void *ctx, struct err *err)
{
	return e->ops->range(e, first, end, reverse, fn, ctx, err);
}

int store_engine_commit(struct store_engine *e, const struct store_batch *c, struct err *err)
{
	if (check_commit(e, c, err) < 0)
		return -1;
	return e->ops->commit(e, c, err);
}

void store_engine_barrier(struct store_engine *e, void (*fn)(void *ctx), void *ctx)
{
	e->ops->barrier(e, fn, ctx);
}

int store_engine_admit(struct store_engine *e, struct str path, uint64_t bytes, struct err *err)
{
	return e->ops->admit(e, path, bytes, err);
}

bool store_engine_read_only(const struct store_engine *e)
{
	return e->ops->read_only(e);
}

bool store_engine_may_recover(struct store_engine *e)
{
	return e->ops->may_recover && e->ops->may_recover(e);
}

void store_engine_message_limit(struct store_engine *e, uint64_t bytes)
{
	if (e->ops->message_limit)
		e->ops->message_limit(e, bytes);
}

int store_engine_body(struct store_engine *e, uint64_t account, struct str path, struct str folder, struct str base,
		      bool cur, struct str flags, struct arena *a, struct store_file *body_r, struct err *err)
{
	*body_r = (struct store_file){.fd = -1};
	if (!path_ok(path) || !folder_ok(folder) || !base_ok(base) || !flags_ok(flags))
		return 0;
	return e->ops->body(e, account, path, folder, base, cur, flags, a, body_r, err);
}

int store_engine_message(struct store_engine *e, struct str path, struct str folder, struct str base, bool cur,
			 struct str flags, size_t max, struct arena *a, struct str *bytes_r)
{
	char name[STORE_NAME_MAX];

	if (!e->ops->message || !path_ok(path) || !folder_ok(folder) || !name_ok(base))
		return 0;
	store_file_name(name, base, cur, flags);
	return e->ops->message(e, path, folder, str_from(name), cur, max, a, bytes_r);
}

size_t store_engine_files_pending(struct store_engine *e, uint64_t account)
{
	return e->ops->files_pending(e, account);
}

void store_engine_files_wait(struct store_engine *e, uint64_t account, void (*fn)(void *ctx), void *ctx)
{
	e->ops->files_wait(e, account, fn, ctx);
}

int store_engine_scan(struct store_engine *e, struct str path, struct str folder,
		      void (*fn)(void *ctx, const struct store_entry *entry), void *ctx, bool *missing_r,
		      struct err *err)
{
	bool missing = false;
	int rc;

	if (!path_ok(path) || !folder_ok(folder))
		return err_set(err, ERR_PERM, "5.3.0", "a folder with a bad name");
	rc = e->ops->scan(e, path, folder, fn, ctx, &missing, err);
	if (missing_r)
		*missing_r = missing;
	return rc;
}

int store_engine_folders(struct store_engine *e, struct str path, void (*fn)(void *ctx, struct str folder), void *ctx,
			 struct err *err)
{
	if (!path_ok(path))
		return err_set(err, ERR_PERM, "5.3.0", "an account with a bad path");
	return e->ops->folders(e, path, fn, ctx, err);
}

uint64_t store_engine_folder_stamp(struct store_engine *e, struct str path, struct str folder, int64_t *newest_r)
{
	int64_t newest = INT64_MAX;

	return path_ok(path) && folder_ok(folder) ? e->ops->folder_stamp(e, path, folder, newest_r ? newest_r : &newest)
						  : 0;
}

void store_engine_sweep(struct store_engine *e, struct str path, struct str folder)
{
	if (e->ops->sweep && path_ok(path) && folder_ok(folder))
		e->ops->sweep(e, path, folder);
}

int store_engine_read_file(struct store_engine *e, struct str path, struct str folder, const char *name, size_t max,
			   struct arena *a, struct str *bytes_r, struct err *err)
{
	invariant(name_ok(str_from(name)));
	if (!path_ok(path) || !folder_ok(folder))
		return 0;
	return e->ops->read_file(e, path, folder, name, max, a, bytes_r, err);
}

int store_engine_stat(struct store_engine *e, struct str path, struct str folder, bool cur, struct str name,
		      uint64_t *size_r, uint64_t *mtime_r, struct err *err)
{
	if (!path_ok(path) || !folder_ok(folder) || !name_ok(name))
		return 0;
	return e->ops->stat(e, path, folder, cur, name, size_r, mtime_r, err);
}

int store_engine_root(const struct store_engine *e)
{
	return e->ops->root(e);
}

int store_engine_blob_begin(struct store_engine *e, uint64_t size_hint, uint64_t *blob_r, int *fd_r, struct err *err)
{
	return e->ops->blob_begin(e, size_hint, blob_r, fd_r, err);
}

void store_engine_blob_finish(struct store_engine *e, uint64_t blob, uint64_t size, uint32_t crc,
			      void (*fn)(void *ctx, const struct err *err), void *ctx)
{
	e->ops->blob_finish(e, blob, size, crc, fn, ctx);
}

int store_engine_blob_open(struct store_engine *e, uint64_t blob, struct err *err)
{
	return e->ops->blob_open(e, blob, err);
}

void store_engine_blob_drop(struct store_engine *e, uint64_t blob)
{
	e->ops->blob_drop(e, blob);
}

void store_engine_doubt(struct store_engine *e)
{
	if (e->ops->doubt)
		e->ops->doubt(e);
}

void store_engine_checkpoint(struct store_engine *e, void (*fn)(void *ctx), void *ctx)
{
	e->ops->checkpoint(e, fn, ctx);
}

void store_engine_stats(struct store_engine *e, struct store_engine_stats *stats_r)
{
	e->ops->stats(e, stats_r);
}

void store_engine_close(struct store_engine **e)
{
	struct store_engine *engine = *e;

	*e = NULL;
	if (engine)
		engine->ops->close(engine);
}
