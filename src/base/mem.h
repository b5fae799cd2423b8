/* mem - allocation that does not fail: when memory ends, the process dies and is restarted.
 * Only for sizes that are bounded by a limit of ours; what a peer may grow has a budget (see buf.h). */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include "base/attr.h"

void *mem_alloc(size_t size); /* zeroed */
void *mem_realloc(void *ptr, size_t size);
void *mem_dup(const void *ptr, size_t size);
char *mem_strdup(const char *text);
char *mem_printf(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* The end for what a library could not allocate, where its failure would look like another answer. */
void mem_exhausted(size_t size) NORETURN;
void mem_wipe(void *ptr, size_t size); /* not optimised away; for secrets */

#define NEW(type) ((type *)mem_alloc(sizeof(type)))

#endif
