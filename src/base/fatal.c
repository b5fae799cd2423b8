/* fatal - see base/fatal.h. */
#include "base/fatal.h"
#include "base/log.h"
#include <stdarg.h>
#include <sysexits.h>
#include <unistd.h>

#define TEXT_MAX 1024

void bug_at(const char *file, int line, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	log_write(LOG_LEVEL_FATAL, "panic: %s:%d: %s", file, line, text);
	abort();
}

void die(int sysexit, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	log_fatal("%s", text);
	/* Not exit(): its handlers would free what other threads use, and say that we left without giving back memory.
	 */
	fflush(NULL);
	_exit(sysexit);
}

void storage_failed(const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	log_fatal("storage failed: %s; ending so that recovery decides what is on the disk", text);
	_exit(EX_IOERR); /* no handlers, no flushing: nothing may touch the disk now */
}
