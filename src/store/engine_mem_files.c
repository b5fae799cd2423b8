/* The Maildir of the engine in memory: what file operations do to it. */
#include "store/engine_mem_private.h"

#include "base/clock.h"
#include "base/fatal.h"
#include "os/io.h"

struct mem_folders *mem_account(struct mem *m, struct str path, bool make)
{
	struct mem_folders *account;

	pthread_mutex_lock(&m->lock);
	account = map_get(m->accounts, path);
	if (account == NULL && make) {
		account = NEW(struct mem_folders);
		map_set(m->accounts, path, account);
	}
	pthread_mutex_unlock(&m->lock);
	return account;
}

struct mem_folder *mem_folder_get(struct mem *m, struct str path, struct str folder, bool make)
{
	struct mem_folders *account = mem_account(m, path, make);
	struct mem_folder *f;

	for (size_t i = 0; account != NULL && i < account->all.n; i++)
		if (str_eq(str_from(account->all.v[i]->folder), folder))
			return account->all.v[i];
	if (!make)
		return NULL;
	f = NEW(struct mem_folder);
	f->folder = str_dup(folder);
	f->stamp = ++m->stamp;
	buf_init(&f->uidlist, (size_t)64 << 20);
	vec_push(&account->all, f);
	return f;
}

void mem_file_release(struct mem_file *f)
{
	free(f->base);
	free(f->flags);
	free(f->bytes);
}

void mem_folder_drop(struct mem_folders *account, struct mem_folder *f)
{
	for (size_t i = 0; i < f->files.n; i++)
		mem_file_release(&f->files.v[i]);
	vec_release(&f->files);
	buf_release(&f->uidlist);
	free(f->folder);
	vec_remove_item(&account->all, f);
	free(f);
}

ptrdiff_t mem_file_index(const struct mem_folder *f, struct str base)
{
	for (size_t i = 0; f && i < f->files.n; i++)
		if (str_eq(str_from(f->files.v[i].base), base))
			return (ptrdiff_t)i;
	return -1;
}

/* Takes over bytes; replaces a file of the same base name. */
void mem_file_set(struct mem *m, struct mem_folder *f, struct str base, bool cur, struct str flags, char *bytes,
		  size_t len, uint64_t mtime)
{
	struct mem_file file = {.base = str_dup(base),
				.flags = str_dup(cur ? flags : STR_NULL),
				.bytes = bytes,
				.len = len,
				.cur = cur,
				.mtime = mtime,
				.ctime = (uint64_t)clock_wall()};
	ptrdiff_t i = mem_file_index(f, base);

	f->stamp = ++m->stamp;
	if (i < 0) {
		vec_push(&f->files, file);
		return;
	}
	mem_file_release(&f->files.v[i]);
	f->files.v[i] = file;
}

void mem_file_take(struct mem *m, struct mem_folder *f, size_t i, struct mem_file *file_r)
{
	*file_r = f->files.v[i];
	vec_remove(&f->files, i);
	f->stamp = ++m->stamp;
}

struct mem_blob *mem_blob_get(struct mem *m, uint64_t id)
{
	for (size_t i = 0; i < m->blobs.n; i++)
		if (m->blobs.v[i].id == id)
			return &m->blobs.v[i];
	return NULL;
}

char *mem_put_bytes(struct mem *m, const struct file_work *w, size_t *len_r)
{
	struct mem_blob *b = w->op.blob ? mem_blob_get(m, w->op.blob) : NULL;
	size_t body = w->op.blob ? (size_t)w->blob_size : w->body.len;
	char *bytes = mem_alloc(w->op.prefix.len + body + 1);

	if (w->op.prefix.len)
		memcpy(bytes, w->op.prefix.ptr, w->op.prefix.len);
	if (w->op.blob) {
		if (b && io_pread(b->fd, bytes + w->op.prefix.len, body, 0) != (ssize_t)body)
			bug("a blob in memory changed its length");
	} else if (body) {
		memcpy(bytes + w->op.prefix.len, w->body.ptr, body);
	}
	*len_r = w->op.prefix.len + body;
	return bytes;
}

static void do_move(struct mem *m, const struct store_file_op *op)
{
	struct mem_folder *f = mem_folder_get(m, op->path, op->folder, false);
	ptrdiff_t i = mem_file_index(f, op->base);
	struct mem_file file;

	if (i < 0)
		return;
	if (op->kind == FILE_COPY) {
		file = f->files.v[i];
		mem_file_set(m, mem_folder_get(m, op->path, op->to_folder, true), op->to_base, op->cur, op->flags,
			     mem_dup(file.bytes, file.len + 1), file.len, file.mtime);
		return;
	}
	mem_file_take(m, f, (size_t)i, &file);
	mem_file_set(m, mem_folder_get(m, op->path, op->to_folder, true), op->to_base, op->cur, op->flags, file.bytes,
		     file.len, file.mtime);
	free(file.base);
	free(file.flags);
}

static void do_remove(struct mem *m, struct str path, struct str folder, struct str base)
{
	struct mem_folder *f = mem_folder_get(m, path, folder, false);
	ptrdiff_t i = mem_file_index(f, base);
	struct mem_file file;

	if (i < 0)
		return;
	mem_file_take(m, f, (size_t)i, &file);
	mem_file_set(m, mem_folder_get(m, path, STR(STORE_EXPUNGED_DIR), true), base, false, STR_NULL, file.bytes,
		     file.len, file.mtime);
	free(file.base);
	free(file.flags);
}

static void do_purge(struct mem *m, const struct store_file_op *op)
{
	struct mem_folder *f = mem_folder_get(m, op->path, STR(STORE_EXPUNGED_DIR), false);

	for (size_t i = f ? f->files.n : 0; i-- > 0;) {
		struct mem_file file;
		if (f->files.v[i].ctime >= op->time)
			continue;
		mem_file_take(m, f, i, &file);
		mem_file_release(&file);
	}
}

static void do_folder(struct mem *m, const struct store_file_op *op)
{
	struct mem_folder *f = mem_folder_get(m, op->path, op->folder, op->kind == FILE_FOLDER_MAKE), *to;

	if (op->kind == FILE_FOLDER_RENAME && !f) {
		mem_folder_get(m, op->path, op->to_folder, true);
	} else if (op->kind == FILE_FOLDER_RENAME && (to = mem_folder_get(m, op->path, op->to_folder, false))) {
		while (f->files.n) {
			struct mem_file file;
			mem_file_take(m, f, 0, &file);
			vec_push(&to->files, file);
		}
		mem_folder_drop(mem_account(m, op->path, false), f);
	} else if (op->kind == FILE_FOLDER_RENAME) {
		free(f->folder);
		f->folder = str_dup(op->to_folder);
	} else if (op->kind == FILE_FOLDER_REMOVE && f) {
		while (f->files.n)
			do_remove(m, op->path, op->folder, str_from(f->files.v[0].base));
		mem_folder_drop(mem_account(m, op->path, false), f);
	}
}

int mem_work_do(void *ctx, const struct file_work *w)
{
	struct mem *m = ctx;
	const struct store_file_op *op = &w->op;
	struct mem_folder *f;
	char *bytes;
	size_t len;

	switch (op->kind) {
	case FILE_PUT:
		bytes = mem_put_bytes(m, w, &len);
		mem_file_set(m, mem_folder_get(m, op->path, op->folder, true), op->base, op->cur, op->flags, bytes, len,
			     op->time ? op->time : (uint64_t)clock_wall());
		break;
	case FILE_MOVE:
	case FILE_COPY:
		do_move(m, op);
		break;
	case FILE_REMOVE:
		do_remove(m, op->path, op->folder, op->base);
		break;
	case FILE_PURGE:
		do_purge(m, op);
		break;
	case FILE_FOLDER_MAKE:
	case FILE_FOLDER_RENAME:
	case FILE_FOLDER_REMOVE:
		do_folder(m, op);
		break;
	case FILE_NOTE:
	case FILE_NOTE_REPLACE:
		f = mem_folder_get(m, op->path, op->folder, false);
		if (f && op->kind == FILE_NOTE_REPLACE)
			buf_clear(&f->uidlist);
		if (f)
			buf_add_str(&f->uidlist, op->prefix);
		break;
	}
	return 0;
}
