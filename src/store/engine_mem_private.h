/* Inside of the engine in memory (engine_mem.c, engine_mem_files.c). */
#ifndef STORE_ENGINE_MEM_PRIVATE_H
#define STORE_ENGINE_MEM_PRIVATE_H

#include "base/map.h"
#include "journal/overlay.h"
#include "store/engine_local_private.h"
#include <pthread.h>

struct mem_commit {
	struct kvlog_op *kv;
	size_t kv_count;
	struct arena arena; /* keys and values */
	struct file_record *record;
	void (*done)(void *ctx); /* NULL: a barrier's or nothing */
	void *ctx;
};

struct mem_file {
	char *base, *flags, *bytes;
	size_t len;
	bool cur;
	uint64_t mtime, ctime;
};

struct mem_folder {
	char *folder;
	VEC(struct mem_file) files;
	struct buf uidlist;
	uint64_t stamp;
};

struct mem_folders {
	VEC(struct mem_folder *) all;
};

struct mem_blob {
	uint64_t id, size;
	int fd;
	bool finished, used;
};

struct mem_wait {
	size_t commits; /* when so many are durable */
	void (*fn)(void *ctx);
	void *ctx;
};

struct mem {
	struct store_engine e;
	struct step *step;
	struct overlay *kv;
	VEC(struct mem_commit *) commits;
	size_t durable;
	struct map *accounts; /* path: struct mem_folders */
	pthread_mutex_t lock; /* of that map: scans run on other threads */
	VEC(struct mem_blob) blobs;
	VEC(struct mem_wait) waits;
	bool hold, closing;
	unsigned fail_nth;
	struct err fail;
	uint64_t stamp, next_blob;
};

struct mem_folders *mem_account(struct mem *m, struct str path, bool make); /* NULL: it has no folder */
struct mem_folder *mem_folder_get(struct mem *m, struct str path, struct str folder, bool make);
void mem_folder_drop(struct mem_folders *account, struct mem_folder *f);
ptrdiff_t mem_file_index(const struct mem_folder *f, struct str base); /* f may be NULL; -1: not there */
void mem_file_set(struct mem *m, struct mem_folder *f, struct str base, bool cur, struct str flags, char *bytes,
		  size_t len, uint64_t mtime);
void mem_file_take(struct mem *m, struct mem_folder *f, size_t i, struct mem_file *file_r); /* release it */
void mem_file_release(struct mem_file *f);
/* What a PUT writes, its prefix first; the caller frees it. */
char *mem_put_bytes(struct mem *m, const struct file_work *w, size_t *len_r);
struct mem_blob *mem_blob_get(struct mem *m, uint64_t id);
int mem_work_do(void *ctx, const struct file_work *w); /* ctx: the struct mem */

#endif
