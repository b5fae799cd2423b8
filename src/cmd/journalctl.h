/* journalctl - what postrider wrote into the systemd journal, as lines of a log. */
#ifndef CMD_JOURNALCTL_H
#define CMD_JOURNALCTL_H

#include "base/err.h"

struct journalctl {
	int fd;	     /* the lines, compressed, in a file without a name; -1: none */
	char *path;  /* by which it can be opened as long as fd is */
	bool partly; /* this user may not see all of it */
};

/* Asks journalctl(1), which is found in PATH and runs timeout_ms at most. -1: it is not there, may not, or fails; err
 * says so in a sentence. */
int journalctl_read(struct journalctl *j, int64_t timeout_ms, struct err *err) WARN_UNUSED;
void journalctl_release(struct journalctl *j);

#endif
