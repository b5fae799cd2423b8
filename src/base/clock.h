/* clock - the two clocks, and the units they are told in. Thread-safe, never fails. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/attr.h"

/* Monotonic milliseconds, for time-outs: jumps of the wall clock do not touch it. */
int64_t clock_ms(void);
int64_t clock_us(void);
/* Wall clock, seconds and microseconds since 1970. For time stamps only. */
int64_t clock_wall(void);
int64_t clock_wall_us(void);

/* In a build with -DPOSTRIDER_TEST: from here on the wall clock is shifted by the microseconds (int64) at the beginning
 * of the file that the environment variable POSTRIDER_CLOCK_SHIFT names, as they are at each look. Before the jail. */
#ifdef POSTRIDER_TEST
void clock_shift_init(void);
#else
#define clock_shift_init() ((void)0)
#endif

#endif
