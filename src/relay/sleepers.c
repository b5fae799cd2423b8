#include "relay/sleepers.h"
#include <errno.h>
#include <semaphore.h>

struct sleeper { /* on its thread's stack */
	struct sleeper *next;
	sem_t wake;
	bool taken;
};

struct sleeper *sleeper_take(struct sleeper **list)
{
	struct sleeper *s = *list;

	if (s) {
		*list = s->next;
		s->taken = true;
	}
	return s;
}

void sleeper_wake(struct sleeper *s)
{
	if (s)
		sem_post(&s->wake);
}

void sleepers_wake_all(struct sleeper **list)
{
	while (*list)
		sleeper_wake(sleeper_take(list));
}

static void leave(struct sleeper **list, struct sleeper *s)
{
	while (*list != s)
		list = &(*list)->next;
	*list = s->next;
}

bool sleeper_sleep(struct sleeper **list, pthread_mutex_t *lock, const struct timespec *monotonic)
{
	struct sleeper s = {.next = *list};
	int rc;

	sem_init(&s.wake, 0, 0);
	*list = &s;
	pthread_mutex_unlock(lock);
	do
		rc = sem_clockwait(&s.wake, CLOCK_MONOTONIC, monotonic);
	while (rc < 0 && errno == EINTR);
	pthread_mutex_lock(lock);
	if (!s.taken)
		leave(list, &s);
	/* Who took it is about to wake it, and needs no lock for that. */
	while (s.taken && rc < 0)
		rc = sem_wait(&s.wake);
	sem_destroy(&s.wake);
	return s.taken;
}
