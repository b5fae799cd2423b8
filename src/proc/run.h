/* run - the running system, for the commands that start it. */
#ifndef PROC_RUN_H
#define PROC_RUN_H

#include "base/err.h"

/* Runs the instance in `dir` until it is told to stop; returns a sysexits status. detached: there is no
 * terminal, an unset maillog_file means syslog. ready_fd: gets one byte once everything serves, and is closed in
 * any case; -1 for none. */
int master_run(const char *dir, bool detached, int ready_fd);

#endif
