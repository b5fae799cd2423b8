/* Shared by the files engine_local*.c only. See engine_local.c for the picture. */
#ifndef STORE_ENGINE_LOCAL_PRIVATE_H
#define STORE_ENGINE_LOCAL_PRIVATE_H

#include "store/engine_private.h"

#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/vec.h"
#include "journal/kvlog.h"
#include "journal/pool.h"
#include "journal/spool.h"
#include "journal/step.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

/* ---- records: what stands in `extra` of a commit ---- */

/* One file operation; its strings point into the record. */
struct file_work {
	struct store_file_op op;
	struct str body; /* of op.body */
	uint64_t blob_size;
	bool again; /* from before a recovery: it, and what came after it, may have been done already */
};

/* The bytes of one commit's file operations, shared by its jobs. */
struct file_record {
	atomic_uint refs;
	size_t len;
	char bytes[];
};
struct file_record *file_record_new(struct store_engine *e, const struct store_batch *c);
/* A record of this one alone. */
struct file_record *file_record_of(const struct file_work *w);
void file_record_unref(struct file_record *r);
/* Calls fn for every operation until it returns non-zero, and returns that; -1 also for bytes that are none. */
int file_record_parse(struct str bytes, int (*fn)(void *ctx, const struct file_work *w), void *ctx) WARN_UNUSED;
/* Length of the file that a PUT makes. */
uint64_t file_work_size(const struct file_work *w);

/* ---- jobs and lanes: the order of file work ---- */

struct file_job {
	struct local *l;
	struct file_work work;
	struct file_record *record;
	uint64_t lsn;
	struct lane *lane;
	struct file_job *next, *prev; /* of all unfinished, in LSN order */
	struct file_job *lane_next, *lane_prev;
	unsigned refs;	   /* the lane, and who reads its bytes */
	bool failed, full; /* full: for want of room on the root's file system */
	bool kept;	   /* stands in the file of what waits */
};

/* The unfinished jobs of one account. At most one thread works in a lane. */
struct lane {
	struct local *l;
	uint64_t account;
	struct file_job *head, *tail;
	size_t count;
	bool scheduled;
};

struct device {
	dev_t dev;
	int fd;
	bool dirty;
};

struct used_blob {
	uint64_t lsn, id;
};

/* What a file system had to give when it was asked last; the loop's. */
struct room {
	int64_t asked_ms;
	dev_t dev; /* learnt once */
	bool known;
	uint64_t bytes, inodes;		    /* free then, less what was unapplied then */
	uint64_t taken_bytes, taken_inodes; /* admitted since */
};

/* Accounts seen lately on the root's file system: a delivery asks twice within milliseconds. The loop's. */
#define HOMES 64
struct home {
	char path[120];
	int64_t seen_ms;
};

struct blob_task {
	struct blob_task *next;
	struct local *l;
	uint64_t id, size;
	uint32_t crc;
	int rc;
	struct err err;
	void (*fn)(void *ctx, const struct err *err);
	void *ctx;
};

struct files_waiter {
	uint64_t account, lsn;
	void (*fn)(void *ctx);
	void *ctx;
};

struct note {
	char *path, *folder;
	struct buf text;
	uint64_t account;
	bool replace, home;
};

#define STORE_PATH_MAX 1800

struct local {
	struct store_engine e;
	struct store_local_options o;
	struct timespec opened;
	struct kvlog *k;
	struct spool *spool;
	struct pool *pool;
	struct step *step;
	VEC(struct files_waiter) waiters; /* the loop's */
	atomic_uint waiting;		  /* how many there are, or are about to be */
	struct room room_dir, room_root;  /* the loop's */
	struct home homes[HOMES];	  /* the loop's */

	pthread_mutex_t lock; /* all below */
	pthread_cond_t cond;  /* a job ended or failed, or closing */
	bool closing;
	uint64_t durable;
	struct file_job *head, *tail, *undurable; /* undurable: the first of the list above `durable` */
	struct map *lanes;
	uint64_t unapplied_files, unapplied_bytes, failed_files, full_files;
	bool kept_done;	   /* something that stands in the file of what waits is done */
	bool refresh_due;  /* a task will write that file anew */
	bool serving;	   /* recovery is over, and went well */
	uint64_t kept_lsn; /* up to where records are in the index: what waits of them must stand in that file */
	VEC(struct device) devices;
	VEC(struct used_blob) used;
	VEC(uint64_t) listed; /* blobs that the file of what waits may name */
	struct blob_task *blobs_done;
	bool ballast;
	uint64_t message_limit;

	pthread_mutex_t notes_lock; /* recursive; taken before `lock`, never after it */
	struct map *notes;	    /* "path\0folder" to struct note */

	pthread_mutex_t settle_lock; /* one at a time writes what waits; taken before all others */
	bool waiting_there;	     /* the file of what waits exists. Under settle_lock */
	bool loaded;		     /* and was read. Recovery only */

	pthread_mutex_t odd_lock; /* the next three; taken behind all others */
	struct map *odd;	  /* base to "cur/name": see engine_local_find.c; or NULL */
	char odd_folder[STORE_PATH_MAX];
	int64_t odd_used_ms;

	struct map *cache; /* recovery only: see engine_local_find.c */
	VEC(struct pending_copy *) pending;
	bool recovering;
	bool root_there;		 /* root_look() has found it so */
	VEC(struct file_record *) stuck; /* recovery only: what could not be done, and what came after it */
	struct map *stuck_accounts;
};

static inline struct local *local_of(struct store_engine *e)
{
	return (struct local *)e;
}

/* lanes */
void lanes_add(struct local *l, struct file_record *record, uint64_t lsn);
void lanes_durable(struct local *l, uint64_t lsn);
void lanes_wait(struct local *l, uint64_t lsn);
bool lanes_done(struct local *l, uint64_t account, uint64_t lsn);
/* Something of the account was tried and failed, and is tried again. */
bool lanes_stuck(struct local *l, uint64_t account);
void lanes_free(struct local *l);

/* doing (file threads, and recovery) */
int file_work_do(struct local *l, const struct file_work *w, struct err *err) WARN_UNUSED;
int file_put_redo(struct local *l, const struct file_work *w, struct err *err) WARN_UNUSED;
void folder_sweep_tmp(struct local *l, struct str path, struct str folder, bool all); /* any thread */

/* recovery: copies that wait for their source (engine_local_pending.c) */
void pending_add(struct local *l, const struct store_file_op *op);
int pending_follow(struct local *l, const struct store_file_op *op, struct err *err) WARN_UNUSED;
void pending_end(struct local *l);

/* names and finding */
/* path/folder/name at out ("" parts left out). Returns out. */
const char *local_path(char out[STORE_PATH_MAX], struct str path, struct str folder, const char *name);
#define FOUND_MAX (STORE_NAME_MAX + 4)
/* Where the file is: "new/..." or "cur/...". 1, 0 nowhere, -1 err. */
int file_find(struct local *l, struct str path, struct str folder, struct str base, bool hint_cur,
	      struct str hint_flags, char found_r[FOUND_MAX], struct err *err) WARN_UNUSED;
/* Names that were remembered and that nobody asked for lately, or (at_once) all. */
void odd_forget(struct local *l, bool at_once);
/* what engine_local_files.c does for engine_local_folders.c, and the other way */
/* Renames within an account, making the directory it goes to if that is missing. 1, 0 no source, -1. */
int file_rename_into(struct local *l, const char *from, struct str path, struct str to_folder, const char *to,
		     struct err *err) WARN_UNUSED;
/* Into the hidden directory, under the base name. found: as file_find() gives it. */
int file_expunge(struct local *l, struct str path, struct str folder, const char *found, struct str base,
		 struct err *err) WARN_UNUSED;
/* Makes a directory whose name is safe when it returns. 1 made, 0 it was there, -1. */
int dir_make_safe(struct local *l, const char *path, struct err *err) WARN_UNUSED;
int folder_make(struct local *l, struct str path, struct str folder, struct err *err) WARN_UNUSED;
int folder_remove(struct local *l, const struct store_file_op *op, struct err *err) WARN_UNUSED;
int folder_rename_dirs(struct local *l, const struct file_work *w, struct err *err) WARN_UNUSED;

/* Recovery's memory of directories: told of what changed. name NULL: it is gone. */
void cache_note(struct local *l, struct str path, struct str folder, struct str base, const char *name);
void cache_forget_folder(struct local *l, struct str path, struct str folder);
void cache_free(struct local *l);
/* Every entry of a directory but those beginning with '.'; -1 errno when it cannot be read. */
int dir_each(int rootfd, const char *path, int (*fn)(void *ctx, const char *name), void *ctx) WARN_UNUSED;

/* Fails, with a sentence, when there is nothing at all where mail was at the last checkpoint: its file system is not
 * mounted. What was made there now would be hidden once it is. */
int root_look(struct local *l, struct err *err) WARN_UNUSED;

/* what waits (engine_local_waiting.c) */
int waiting_load(struct local *l, struct err *err) WARN_UNUSED;
/* Does what a record says once more; what cannot be done is added to what waits. engine_local.c */
int redo_record(struct local *l, uint64_t lsn, struct str record, struct err *err) WARN_UNUSED;
int waiting_settle(struct local *l, uint64_t lsn, struct err *err) WARN_UNUSED;
/* The file that says what waits may name it. */
bool waiting_blob(struct local *l, uint64_t blob);
void waiting_add(struct local *l, const struct file_work *w);
bool waiting_has(const struct local *l, uint64_t account);
void waiting_begin(struct local *l);
void waiting_refresh_soon(struct local *l);
void waiting_end(struct local *l);
void waiting_free(struct local *l);

/* Is the Maildir there: any of cur, new, tmp or a uidlist? -1 with err (ERR_TEMP) if not. */
int home_check(struct local *l, struct str path, struct err *err) WARN_UNUSED;

/* notes and syncing */
int device_touch(struct local *l, struct str path, dev_t *dev_r, struct err *err) WARN_UNUSED; /* dev_r: or NULL */
void device_dirty(struct local *l, dev_t dev);
int devices_sync(struct local *l, struct err *err) WARN_UNUSED;
void notes_add(struct local *l, const struct file_work *w);
int notes_rename(struct local *l, const struct file_work *w,
		 int (*fn)(struct local *l, const struct file_work *w, struct err *err), struct err *err) WARN_UNUSED;
void notes_drop(struct local *l, struct str path, struct str folder);
/* Writes what can be written; the rest stays. The count of these, with err of the last. */
size_t notes_flush(struct local *l, struct err *err);
/* Calls fn for each that could not be written, as the operation that it came from. */
void notes_each(struct local *l, void (*fn)(void *ctx, const struct file_work *w), void *ctx);
void notes_free(struct local *l);

/* reading: entries of the table */
int local_body(struct store_engine *e, uint64_t account, struct str path, struct str folder, struct str base, bool cur,
	       struct str flags, struct arena *a, struct store_file *body_r, struct err *err);
int local_scan(struct store_engine *e, struct str path, struct str folder,
	       void (*fn)(void *ctx, const struct store_entry *entry), void *ctx, bool *missing_r, struct err *err);
int local_folders(struct store_engine *e, struct str path, void (*fn)(void *ctx, struct str folder), void *ctx,
		  struct err *err);
int local_message(struct store_engine *e, struct str path, struct str folder, struct str name, bool cur, size_t max,
		  struct arena *a, struct str *bytes_r);
uint64_t local_folder_stamp(struct store_engine *e, struct str path, struct str folder, int64_t *newest_r);
int local_read_file(struct store_engine *e, struct str path, struct str folder, const char *name, size_t max,
		    struct arena *a, struct str *bytes_r, struct err *err);
int local_stat(struct store_engine *e, struct str path, struct str folder, bool cur, struct str name, uint64_t *size_r,
	       uint64_t *mtime_r, struct err *err);

#endif
