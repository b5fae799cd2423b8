/* progress - a bar on stderr for who watches and waits: only on a terminal, only when it takes longer than a second. */
#ifndef CMD_PROGRESS_H
#define CMD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *what; /* "deleting" */
	int64_t started_ms, drawn_ms;
	bool watched, drawn;
};

void progress_begin(struct progress *p, const char *what);
/* total 0: not known yet. */
void progress_step(struct progress *p, uint64_t done, uint64_t total);
void progress_end(struct progress *p); /* the line is empty again */

#endif
