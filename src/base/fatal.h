/* fatal - the three ways a process ends itself. Each logs one line first.
 *
 * bug(): our own invariant is broken; never reachable from bytes, disk or peers. Aborts.
 * die(): start-up and environment; never once a process serves clients. Exits with a sysexits status.
 * storage_failed(): a sync failed, so that nobody knows what is on the disk. Only journal, store and
 * queue may call it. Exits at once without touching the disk; master restarts the process, and recovery
 * decides. */
#ifndef BASE_FATAL_H
#define BASE_FATAL_H

#include "base/attr.h"

void bug_at(const char *file, int line, const char *fmt, ...) NORETURN PRINTF_LIKE(3, 4);
#define bug(...)	bug_at(__FILE__, __LINE__, __VA_ARGS__)
#define invariant(cond) ((cond) ? (void)0 : bug("invariant broken: %s", #cond))

void die(int sysexit, const char *fmt, ...) NORETURN PRINTF_LIKE(2, 3);
void storage_failed(const char *fmt, ...) NORETURN PRINTF_LIKE(1, 2);

#endif
