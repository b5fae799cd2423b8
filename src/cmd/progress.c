#include "cmd/progress.h"
#include "base/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 1000
#define REDRAW_MS   100
#define WIDTH	    40

void progress_begin(struct progress *p, const char *what)
{
	*p = (struct progress){.what = what, .started_ms = clock_ms(), .watched = isatty(STDERR_FILENO) == 1};
}

void progress_step(struct progress *p, uint64_t done, uint64_t total)
{
	char bar[WIDTH + 1];
	int64_t now;

	if (!p->watched)
		return;
	now = clock_ms();
	if (now - p->started_ms < PATIENCE_MS || now - p->drawn_ms < REDRAW_MS)
		return;
	p->drawn = true;
	p->drawn_ms = now;
	if (total == 0) {
		fprintf(stderr, "\r%s: %" PRIu64 "\033[K", p->what, done);
		return;
	}
	memset(bar, '.', WIDTH);
	memset(bar, '#', done < total ? done * WIDTH / total : WIDTH);
	bar[WIDTH] = '\0';
	fprintf(stderr, "\r%s: [%s] %" PRIu64 " of %" PRIu64 "\033[K", p->what, bar, done, total);
}

void progress_end(struct progress *p)
{
	if (p->drawn)
		fprintf(stderr, "\r\033[K");
}
