/* sandbox_private - the two halves that os/sandbox.c puts together. */
#ifndef OS_SANDBOX_PRIVATE_H
#define OS_SANDBOX_PRIVATE_H

#include "os/sandbox.h"

/* A Landlock rule set, made while the paths can still be seen. Descriptor, or -1 when the kernel has none.
 * *abi_r: the version of the kernel's Landlock, 0 for none. A path that does not exist is die(). */
int sandbox_landlock_prepare(const struct sandbox *box, int *abi_r) WARN_UNUSED;
/* Puts the rule set (closed afterwards) in force for this thread and its children. 0 or -1 with errno. */
int sandbox_landlock_enter(int ruleset) WARN_UNUSED;

/* Loads the filter for every thread of the process. 0, or a negative errno: the kernel has none. Without the memory to
 * make one it dies. */
int sandbox_seccomp_enter(unsigned allow) WARN_UNUSED;

#endif
