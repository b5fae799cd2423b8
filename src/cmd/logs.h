/* logs - a log and what was rotated away from it, oldest first, line by line; compressed with gzip or not. */
#ifndef CMD_LOGS_H
#define CMD_LOGS_H

#include "base/err.h"
#include "base/str.h"
#include "base/vec.h"

struct logs {
	VEC(char *) paths;
};

void logs_release(struct logs *l);
/* One more, behind the others. */
void logs_add(struct logs *l, const char *path);
/* The log, and in front of it those that logrotate(8) has made of it: path.2.gz, path.1, path-20261123.gz. */
void logs_add_rotated(struct logs *l, const char *path);
/* line(): each line, without its end; lives as long as the call. -1 with err, which names the file: one cannot be read.
 */
int logs_each(const struct logs *l, void (*line)(void *ctx, struct str line), void *ctx, struct err *err) WARN_UNUSED;

#endif
