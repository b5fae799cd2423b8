/* directory/tables/files - the files that tables are made of: read by who may open them (master, a command), carried to
 * who must not (the process `directory`) in one sealed memory file.
 *
 * One thread. Contents live until table_files_free(). */
#ifndef DIRECTORY_TABLES_FILES_H
#define DIRECTORY_TABLES_FILES_H

#include "directory/tables/table.h"

struct table_files;

/* base: the directory that relative names are meant from. */
struct table_files *table_files_new(const char *base);
void table_files_free(struct table_files **f);

/* The contents of a path: read from the disk the first time, unless the files came by table_files_open(). A file that
 * others than root may write is read all the same, as Postfix does: its directory says who may. */
int table_files_read(struct table_files *f, struct str path, struct str *contents_r, struct err *err) WARN_UNUSED;
/* The same of a list of addresses, which an alias names by :include:. It is refused when everybody may write it, and
 * when symbolic links lead to what not everybody may read: who sets them need not be somebody who may. *nests_r: it is
 * root's or ours, so that it may name other lists. */
int table_files_read_list(struct table_files *f, struct str path, struct str *contents_r, bool *nests_r,
			  struct err *err) WARN_UNUSED;
/* `for (size_t at = 0; table_files_next(f, &at, &path);)`: every path that was asked for, also what could not be read.
 */
bool table_files_next(const struct table_files *f, size_t *at, struct str *path_r);
/* Gives the memory of the contents back; what was read can be named, and no longer read. */
void table_files_drop(struct table_files *f);

/* All that was read as a sealed memory file; the descriptor, or -1. f may be NULL: none. */
int table_files_seal(const struct table_files *f, struct err *err) WARN_UNUSED;
/* From that descriptor, which stays the caller's. NULL with err when it is not what it should be. */
struct table_files *table_files_open(int fd, struct err *err);

#endif
