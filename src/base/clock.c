/* clock - see base/clock.h. */
#include "base/clock.h"
#include <time.h>
#ifdef POSTRIDER_TEST
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

static int64_t now_us(clockid_t which)
{
	struct timespec ts;

	clock_gettime(which, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_us(void)
{
	return now_us(CLOCK_MONOTONIC);
}

int64_t clock_ms(void)
{
	return clock_us() / 1000;
}

#ifdef POSTRIDER_TEST
static const volatile int64_t *shift_us;

void clock_shift_init(void)
{
	const char *path = getenv("POSTRIDER_CLOCK_SHIFT");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *map = fd >= 0 ? mmap(NULL, sizeof(*shift_us), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (fd >= 0)
		close(fd);
	if (map != MAP_FAILED)
		shift_us = map;
}

int64_t clock_wall_us(void)
{
	return now_us(CLOCK_REALTIME) + (shift_us ? *shift_us : 0);
}
#else
int64_t clock_wall_us(void)
{
	return now_us(CLOCK_REALTIME);
}
#endif

int64_t clock_wall(void)
{
	return clock_wall_us() / 1000000;
}
