/* store/engine - where the mailbox store keeps its things: ordered keys and values, and Maildir files.
 *
 * The mailbox layer builds on this interface alone; `local` (journal + LMDB + Maildir) and `mem` (the same in
 * memory, with fault injection) implement it, and one conformance suite runs against both.
 *
 * What every engine promises:
 *  1. A commit is atomic: after any crash all of its key and file operations are there, or none.
 *  2. Commits are durable in the order in which they were given; done() is called in that order, only when the
 *     commit and everything before it is durable. An engine that cannot make a commit durable never calls
 *     done(): the process ends by storage_failed().
 *  3. Key operations are visible to reads on the loop thread as soon as store_engine_commit() returned; nobody
 *     outside may be told of them before done() (store_engine_barrier() waits for it).
 *  4. File operations of one account are done in the order of commits, after the commit is durable. Until then
 *     store_engine_body() gives the bytes from the journal: a reader does not see the difference.
 *  5. A commit that would not fit (disk, journal) is refused before anything was done.
 *
 * Threads: every function is called from one thread (the store's loop) unless it says otherwise, and every
 * callback runs there, handed over by the `post` hook. Nothing here blocks on a sync, except open and close. */
#ifndef STORE_ENGINE_H
#define STORE_ENGINE_H

#include "base/arena.h"
#include "base/err.h"
#include "journal/step.h"

struct store_engine;

/* Keys begin with the account id, 8 bytes big-endian. */
#define STORE_KEY_MAX	500
#define STORE_VALUE_MAX (1u << 20)
/* Bodies up to this length go through the journal, larger ones through a blob. */
#define STORE_INLINE_MAX (64u << 10)
/* The sum of keys, values, prefixes, names and bodies of one commit. */
#define STORE_COMMIT_MAX (6u << 20)
/* Files and directories that the engine keeps inside an account's Maildir. */
#define STORE_EXPUNGED_DIR "postrider-expunged"
#define STORE_UIDLIST_NAME "postrider-uidlist"

/* `post` hands fn(arg) to the loop thread, to be called once, soon. Called from any thread, and never reentered:
 * rpc_server_after(server, 0, fn, arg) is one. */
#define store_loop step_loop

/* ---- keys and values ---------------------------------------------------------------------------------- */

/* The value of key, copied into the arena (NUL behind it). 1 found, 0 absent, -1 err (index damaged: CRC). */
int store_engine_get(struct store_engine *e, struct str key, struct arena *a, struct str *value_r,
		     struct err *err) WARN_UNUSED;

/* Visits first <= key < end in order (`reverse`: from the highest down). key and value live during the call of
 * fn only; fn returns 0 to go on, anything else to stop. fn must not commit. end STR_NULL: to the end of all.
 * Returns what fn returned last (0: all visited), or -1 with err. */
typedef int store_range_fn(void *ctx, struct str key, struct str value);
/* Only the keys, forward: no value is looked at, so that damaged ones can be dropped. fn's value means nothing. */
int store_engine_keys(struct store_engine *e, struct str first, struct str end, store_range_fn *fn, void *ctx,
		      struct err *err) WARN_UNUSED;
int store_engine_range(struct store_engine *e, struct str first, struct str end, bool reverse, store_range_fn *fn,
		       void *ctx, struct err *err) WARN_UNUSED;

/* ---- committing --------------------------------------------------------------------------------------- */

struct store_kv_op {
	struct str key;
	struct str value;
	bool del;
};

enum store_file_kind {
	FILE_PUT = 1,	  /* a new message: prefix + body */
	FILE_MOVE,	  /* to to_folder/to_base with cur and flags; a change of flags is a move within the folder */
	FILE_COPY,	  /* a hard link to_folder/to_base with cur and flags */
	FILE_REMOVE,	  /* into STORE_EXPUNGED_DIR, under its base name */
	FILE_PURGE,	  /* unlinks what has been in STORE_EXPUNGED_DIR since before `time` */
	FILE_FOLDER_MAKE, /* folder with cur, new, tmp (and maildirfolder); the account's directory too. No error if it
			     is there */
	FILE_FOLDER_RENAME, /* to to_folder */
	FILE_FOLDER_REMOVE, /* its messages go to STORE_EXPUNGED_DIR */
	FILE_NOTE, /* appends `prefix` to the folder's STORE_UIDLIST_NAME at the next checkpoint. After a crash a note
		    * may be appended twice; it is never lost and never out of order */
	FILE_NOTE_REPLACE, /* the same, but the file is replaced by `prefix`; later notes are appended to that */
};

/* Names: `path` is the account's Maildir relative to the root; `folder` is "" (INBOX) or the Maildir++ name
 * (".Work.2024"); `base` is the file name without ":2,...". None of the names may hold '/' (but path) or NUL or
 * be "." or "..": refused. A file is found by its base name in new/ and cur/, whatever its flags are by now. */
struct store_file_op {
	enum store_file_kind kind;
	uint64_t account; /* what file work is ordered by */
	struct str path;
	struct str folder;
	struct str base;
	bool cur;	  /* PUT, MOVE, COPY: in cur/ as base:2,flags; else in new/ as base */
	struct str flags; /* letters in ASCII order: "FS". REMOVE: cur and flags are where it was, as a hint */
	bool was_cur;	  /* MOVE, COPY: where it is, as the caller last knew: a wrong hint costs a directory scan */
	struct str was_flags;
	bool home; /* the account's Maildir was made by an earlier commit and must be there: while it is missing
		    * (its file system is not mounted?) the operation waits, and is not done to an empty place */
	struct str to_folder;
	struct str to_base;
	struct str prefix; /* PUT: first bytes of the file. NOTE: the lines */
	int body;	   /* PUT: index in bodies, or -1 */
	uint64_t blob;	   /* PUT: a finished blob, if body is -1; 0: the prefix is all */
	uint64_t time;	   /* PUT: mtime of the file (INTERNALDATE), 0: now. PURGE: the limit */
};

struct store_batch {
	const struct store_kv_op *kv;
	size_t kv_count;
	const struct store_file_op *files;
	size_t file_count;
	const struct str *bodies; /* each used by any number of PUTs */
	size_t body_count;
	void (*done)(void *ctx); /* durable. May be NULL */
	void *ctx;
};

/* Takes the commit (copying all of it) and applies its key operations in order. A blob that it names is used
 * up: it belongs to the engine from now on. Returns 0, or -1 with err and nothing done: ERR_FULL 4.3.1 (only
 * for commits with PUT or COPY as long as the journal has room), ERR_TEMP when the engine is read-only. */
int store_engine_commit(struct store_engine *e, const struct store_batch *c, struct err *err) WARN_UNUSED;
/* Calls fn when everything committed so far is durable; at once, before returning, if it is. */
void store_engine_barrier(struct store_engine *e, void (*fn)(void *ctx), void *ctx);

/* Would a commit that writes `bytes` of files for the account at `path` be taken now? 0, or -1 ERR_FULL 4.3.1:
 * free bytes and inodes must exceed what unapplied commits still need, one message_size_limit and the worst
 * case of the index. store_engine_commit() asks by itself. */
int store_engine_admit(struct store_engine *e, struct str path, uint64_t bytes, struct err *err) WARN_UNUSED;
/* Recovery could not finish, or the last checkpoint failed for good: reads only. */
bool store_engine_read_only(const struct store_engine *e);
/* Read-only, and what stood in the way of recovery seems to be gone: opening it anew is worth a try. May block
 * for a moment. */
bool store_engine_may_recover(struct store_engine *e);
/* A reload: the greatest message that room is kept for; 0: 10 MB. */
void store_engine_message_limit(struct store_engine *e, uint64_t bytes);

/* ---- files -------------------------------------------------------------------------------------------- */

struct store_file {
	int fd;		  /* read-only, the file, prefix included (offset 0); or -1 */
	struct str bytes; /* all of it, in the arena, when fd is -1 */
	uint64_t size;
};

/* The file `base` of a folder, with `cur` and `flags` as the caller last knew them (a wrong guess costs a
 * directory scan). Expunged ones are found too. Returns 1 (fd is the caller's to close), 0 no such file, -1 err. */
int store_engine_body(struct store_engine *e, uint64_t account, struct str path, struct str folder, struct str base,
		      bool cur, struct str flags, struct arena *a, struct store_file *body_r,
		      struct err *err) WARN_UNUSED;

/* The bytes of the file that has just this name, if it is there and not longer than max: what a thread may ask, while
 * the loop goes on. Any thread. 1, or 0: ask store_engine_body(), which knows better where it is. */
int store_engine_message(struct store_engine *e, struct str path, struct str folder, struct str base, bool cur,
			 struct str flags, size_t max, struct arena *a, struct str *bytes_r) WARN_UNUSED;

/* File operations of the account that are not done yet. A directory scan means something only at 0. */
size_t store_engine_files_pending(struct store_engine *e, uint64_t account);
/* Calls fn when the file operations that the account has pending now are done; at once if there are none. */
void store_engine_files_wait(struct store_engine *e, uint64_t account, void (*fn)(void *ctx), void *ctx);

struct store_entry {
	struct str name;  /* as in the directory */
	struct str base;  /* without ":2,..." */
	struct str flags; /* the letters behind ":2,", or "" */
	bool cur;
};
/* Every message file of a folder, new/ first, in no order; names live during the call of fn only. Any thread.
 * Returns the count, 0 with *missing_r when the folder is not there, or -1 with err. */
int store_engine_scan(struct store_engine *e, struct str path, struct str folder,
		      void (*fn)(void *ctx, const struct store_entry *entry), void *ctx, bool *missing_r,
		      struct err *err) WARN_UNUSED;
/* The folders of an account, "" first if it is there; in no order. Any thread. Count, or -1 with err. */
int store_engine_folders(struct store_engine *e, struct str path, void (*fn)(void *ctx, struct str folder), void *ctx,
			 struct err *err) WARN_UNUSED;
/* A number that changes when new/ or cur/ of the folder changed (from their times, and the same in the next life); 0:
 * no such folder. newest_r (may be NULL): seconds since 1970 of the last change, INT64_MAX unknown. Any thread. */
uint64_t store_engine_folder_stamp(struct store_engine *e, struct str path, struct str folder, int64_t *newest_r);
/* Removes from tmp/ of the folder what another life of the engine left there unfinished. Any thread. */
void store_engine_sweep(struct store_engine *e, struct str path, struct str folder);
/* The bytes of a file beside cur, new, tmp ("postrider-uidlist", "dovecot-uidlist"), at most max. 1, 0 absent, -1 err.
 */
int store_engine_read_file(struct store_engine *e, struct str path, struct str folder, const char *name, size_t max,
			   struct arena *a, struct str *bytes_r, struct err *err) WARN_UNUSED;
/* Size and times of a message file. 1, 0 absent, -1 err. Any thread. */
int store_engine_stat(struct store_engine *e, struct str path, struct str folder, bool cur, struct str name,
		      uint64_t *size_r, uint64_t *mtime_r, struct err *err) WARN_UNUSED;
/* The directory that paths are relative to, or -1 (mem). For inotify only. */
int store_engine_root(const struct store_engine *e);

/* ---- blobs: bodies over STORE_INLINE_MAX -------------------------------------------------------------- */

/* A new blob in the spool and a descriptor to write it with (the caller's to close). ERR_FULL over the
 * spool's quota or when size_hint would not be admitted. */
int store_engine_blob_begin(struct store_engine *e, uint64_t size_hint, uint64_t *blob_r, int *fd_r,
			    struct err *err) WARN_UNUSED;
/* Checks size and CRC32C, syncs file and directory in a file thread, then calls fn on the loop (err NULL: safe). */
void store_engine_blob_finish(struct store_engine *e, uint64_t blob, uint64_t size, uint32_t crc,
			      void (*fn)(void *ctx, const struct err *err), void *ctx);
/* Read-only descriptor of a blob not used up yet, or -1. */
int store_engine_blob_open(struct store_engine *e, uint64_t blob, struct err *err) WARN_UNUSED;
/* Forgets a blob that no commit used. Unknown ones are ignored. */
void store_engine_blob_drop(struct store_engine *e, uint64_t blob);

/* ---- life --------------------------------------------------------------------------------------------- */

/* What the keys say cannot be so, though they were written anew: the engine looks behind its loop whether the whole of
 * its index is damaged, and ends the process if it is, which makes it anew at its next start. */
void store_engine_doubt(struct store_engine *e);
/* Starts a checkpoint if there is anything to write; fn (may be NULL) is called when all that was committed
 * before is in the index and the files are synced. */
void store_engine_checkpoint(struct store_engine *e, void (*fn)(void *ctx), void *ctx);
/* Waits for everything, makes a last checkpoint, frees. Callbacks still due are called from within. */
void store_engine_close(struct store_engine **e);

struct store_engine_stats {
	uint64_t commits, flushes, checkpoints;
	uint64_t journal_bytes, journal_segments;
	uint64_t unapplied_files, unapplied_bytes; /* committed, not yet in place */
	uint64_t failed_files;			   /* operations tried and failed, tried again */
};
void store_engine_stats(struct store_engine *e, struct store_engine_stats *stats_r);

struct store_local_options {
	int dirfd;  /* journal, index and spool; locked exclusively. Borrowed */
	int rootfd; /* virtual_mailbox_base. Borrowed */
	/* Keys stand for accounts that have Maildirs: an empty root beside them is a file system that is not mounted.
	 */
	bool root_in_use;
	struct store_loop loop;
	uint64_t journal_size_limit; /* bytes; 0: 256 MB */
	uint64_t message_size_limit; /* bytes; for admission; 0: 10 MB */
	uint64_t spool_limit;	     /* bytes of unused blobs at most; 0: 1 GB */
	uint64_t ballast;	     /* bytes given up when the disk is full; 0: none */
	unsigned file_threads;	     /* 0: 4 */
	uint32_t segment_size;	     /* tests only; 0: 16 MB */
	size_t overlay_limit;	     /* bytes; 0: 16 MB */
};
/* Takes the lock and recovers. Blocks. -1 with err: another process holds the directory, or it is unreadable. */
int store_engine_local_open(const struct store_local_options *options, struct store_engine **e_r,
			    struct err *err) WARN_UNUSED;

/* The engine in memory, for tests. */
int store_engine_mem_open(const struct store_loop *loop, struct store_engine **e_r, struct err *err) WARN_UNUSED;
/* Makes the n-th call from now (1: the next) of commit, blob_begin or get fail with err; 0: none. */
void store_engine_mem_fail(struct store_engine *e, unsigned nth, const struct err *err);
/* While held, nothing becomes durable: done() and file work wait. */
void store_engine_mem_hold(struct store_engine *e, bool hold);
/* What a power loss leaves: a second engine with all that was durable. The first may still be closed. */
struct store_engine *store_engine_mem_crash(struct store_engine *e, const struct store_loop *loop);
/* Puts, renames or (to NULL) removes a file behind the engine's back, as another mail tool would. */
void store_engine_mem_touch(struct store_engine *e, const char *path, const char *from, const char *to,
			    struct str bytes);

#endif
