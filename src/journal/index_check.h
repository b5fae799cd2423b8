/* index_check - is a file a whole LMDB environment? LMDB itself trusts what it maps: on garbage it reads or writes
 * anywhere, or finds nothing where something is. So a file is walked before it is opened, through os/io.h and with
 * every number checked.
 *
 * What holds when the check is passed: every page that can be reached is of its kind, where it says it is, and reached
 * once; nodes lie inside their page and do not overlap; keys ascend, and lie between those of the branches above, so
 * that a search finds every key; free pages are not in use; the counts agree. Values are not looked at, but for
 * `value`. One read of each page in use: about half a second a gigabyte. */
#ifndef JOURNAL_INDEX_CHECK_H
#define JOURNAL_INDEX_CHECK_H

#include "base/err.h"
#include "base/str.h"

/* Looks at a value of the table `name`; false: it is damaged. */
typedef bool index_check_fn(void *ctx, struct str name, struct str key, struct str value);

/* 1 whole (or empty), 0 damaged or unreadable: err says in one sentence what was found. value may be NULL. */
int index_check(int fd, index_check_fn *value, void *ctx, struct err *err) WARN_UNUSED;

#endif
