/* mem - see base/mem.h. */
#include "base/mem.h"
#include "base/fatal.h"
#include "base/log.h"
#include <stdarg.h>
#include <sysexits.h>
#include <unistd.h>

/* Sizes are bounded by limits of ours; one beyond this is arithmetic gone wrong. */
#define MEM_SANE ((size_t)1 << 40)

/* Not exit(): its handlers allocate, and other threads may hold what they wait for. */
void mem_exhausted(size_t size)
{
	log_fatal("out of memory (%zu bytes)", size);
	_exit(EX_OSERR);
}

static void *checked(void *ptr, size_t size)
{
	if (ptr == NULL)
		mem_exhausted(size);
	return ptr;
}

void *mem_alloc(size_t size)
{
	invariant(size < MEM_SANE);
	return checked(calloc(1, size ? size : 1), size);
}

void *mem_realloc(void *ptr, size_t size)
{
	invariant(size < MEM_SANE);
	return checked(realloc(ptr, size ? size : 1), size);
}

void *mem_dup(const void *ptr, size_t size)
{
	void *copy = mem_realloc(NULL, size);

	if (size)
		memcpy(copy, ptr, size);
	return copy;
}

char *mem_strdup(const char *text)
{
	return mem_dup(text, strlen(text) + 1);
}

char *mem_printf(const char *fmt, ...)
{
	char *text = NULL;
	va_list args;
	int len;

	va_start(args, fmt);
	len = vasprintf(&text, fmt, args);
	va_end(args);
	if (len < 0)
		mem_exhausted(0);
	return text;
}

void mem_wipe(void *ptr, size_t size)
{
	if (size)
		explicit_bzero(ptr, size);
}
