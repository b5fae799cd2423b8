/* relay/sleepers - threads that have nothing to do, each with a semaphore of its own: who wakes one says which, need
 * not hold the lock, and takes the one that lay down last, whose memory is still warm.
 *
 * A list, of which only the lock's holder takes anything or adds to it. */
#ifndef RELAY_SLEEPERS_H
#define RELAY_SLEEPERS_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

struct sleeper;

/* Under the lock. Off the list, for sleeper_wake(), which must follow; NULL: nobody sleeps. */
struct sleeper *sleeper_take(struct sleeper **list);
/* With or without the lock, on which the woken thread waits first. s may be NULL. */
void sleeper_wake(struct sleeper *s);
/* Under the lock. */
void sleepers_wake_all(struct sleeper **list);
/* Gives the lock up meanwhile. False: nobody woke this thread until then. */
bool sleeper_sleep(struct sleeper **list, pthread_mutex_t *lock, const struct timespec *monotonic);

#endif
