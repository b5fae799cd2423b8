/* Timers: a heap of slots by the time at which to look at them, and one timerfd for its root.
 *
 * Moving a session's deadline later, as each unit does, touches only slot.deadline; the heap finds out when
 * it looks and puts the slot back. Only an earlier deadline moves it in the heap. */
#include "engine/private.h"

#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* ---- the heap; under timer_lock ---- */

static void heap_place(struct engine *e, size_t pos, uint32_t index)
{
	e->heap.v[pos] = index;
	slot_at(e, index)->heap_pos = (uint32_t)pos + 1;
}

static int64_t heap_key(struct engine *e, size_t pos)
{
	return slot_at(e, e->heap.v[pos])->heap_at;
}

static void heap_up(struct engine *e, size_t pos)
{
	uint32_t index = e->heap.v[pos];
	int64_t at = slot_at(e, index)->heap_at;

	while (pos > 0 && heap_key(e, (pos - 1) / 2) > at) {
		heap_place(e, pos, e->heap.v[(pos - 1) / 2]);
		pos = (pos - 1) / 2;
	}
	heap_place(e, pos, index);
}

static void heap_down(struct engine *e, size_t pos)
{
	uint32_t index = e->heap.v[pos];
	int64_t at = slot_at(e, index)->heap_at;
	size_t child;

	while ((child = 2 * pos + 1) < e->heap.n) {
		if (child + 1 < e->heap.n && heap_key(e, child + 1) < heap_key(e, child))
			child++;
		if (heap_key(e, child) >= at)
			break;
		heap_place(e, pos, e->heap.v[child]);
		pos = child;
	}
	heap_place(e, pos, index);
}

static void heap_remove(struct engine *e, struct slot *slot)
{
	size_t pos = slot->heap_pos - 1;
	uint32_t last = e->heap.v[--e->heap.n];

	slot->heap_pos = 0;
	if (pos == e->heap.n)
		return;
	heap_place(e, pos, last);
	heap_up(e, pos);
	heap_down(e, slot_at(e, last)->heap_pos - 1);
}

/* Under timer_lock. The timerfd is set only when it must ring earlier than it would. */
static void timerfd_update(struct engine *e)
{
	int64_t at = e->heap.n > 0 ? heap_key(e, 0) : NEVER;
	struct itimerspec spec = {0};

	if (e->resume_at < at)
		at = e->resume_at;
	if (e->kill_at < at)
		at = e->kill_at;
	if (at >= e->timer_set)
		return;
	e->timer_set = at;
	if (at < 1)
		at = 1;
	spec.it_value.tv_sec = at / 1000;
	spec.it_value.tv_nsec = at % 1000 * 1000000;
	if (timerfd_settime(e->timerfd, TFD_TIMER_ABSTIME, &spec, NULL) < 0)
		log_error("timerfd_settime: %m");
}

void timer_session(struct engine *e, struct slot *slot, int64_t deadline)
{
	int64_t before = atomic_exchange(&slot->deadline, deadline);

	/* heap_at <= the old deadline while the slot is in the heap, so a later one needs nothing now. */
	if (deadline == NEVER || (before != NEVER && deadline >= before))
		return;
	pthread_mutex_lock(&e->timer_lock);
	if (slot->heap_pos == 0) {
		slot->heap_at = deadline;
		vec_push(&e->heap, slot->index);
		heap_up(e, e->heap.n - 1);
	} else if (deadline < slot->heap_at) {
		slot->heap_at = deadline;
		heap_up(e, slot->heap_pos - 1);
	}
	timerfd_update(e);
	pthread_mutex_unlock(&e->timer_lock);
}

void timer_forget(struct engine *e, struct slot *slot)
{
	pthread_mutex_lock(&e->timer_lock);
	if (slot->heap_pos > 0)
		heap_remove(e, slot);
	pthread_mutex_unlock(&e->timer_lock);
}

void timer_resume_listeners_at(struct engine *e, struct listener *l, int64_t at)
{
	pthread_mutex_lock(&e->timer_lock);
	l->paused = true;
	if (at < e->resume_at)
		e->resume_at = at;
	timerfd_update(e);
	pthread_mutex_unlock(&e->timer_lock);
}

void timer_kill_at(struct engine *e, int64_t at)
{
	pthread_mutex_lock(&e->timer_lock);
	e->kill_at = at;
	timerfd_update(e);
	pthread_mutex_unlock(&e->timer_lock);
}

static void listeners_resume(struct engine *e)
{
	struct listener *l;

	for (size_t i = 0; (l = listener_at(e, i)) != NULL; i++) {
		bool paused;

		pthread_mutex_lock(&e->timer_lock);
		paused = l->paused;
		l->paused = false;
		pthread_mutex_unlock(&e->timer_lock);
		if (paused)
			listener_arm(l);
	}
}

static void sessions_kill(struct engine *e)
{
	uint32_t count;

	pthread_mutex_lock(&e->lock);
	count = e->slot_count;
	pthread_mutex_unlock(&e->lock);
	for (uint32_t i = 0; i < count; i++)
		slot_post(e, i, slot_generation(slot_at(e, i)), BIT_KILL);
}

void timers_fire(struct engine *e)
{
	int64_t now = clock_ms();
	uint64_t rings;
	bool resume, kill;

	if (read(e->timerfd, &rings, sizeof(rings)) < 0 && errno != EAGAIN)
		log_error("timerfd: %m");
	pthread_mutex_lock(&e->timer_lock);
	e->timer_set = NEVER;
	while (e->heap.n > 0 && heap_key(e, 0) <= now) {
		struct slot *slot = slot_at(e, e->heap.v[0]);
		int64_t deadline = atomic_load(&slot->deadline);

		if (deadline <= now) {
			/* If the owner moved it meanwhile, look again: he relies on the heap. */
			if (!atomic_compare_exchange_strong(&slot->deadline, &deadline, NEVER))
				continue;
			heap_remove(e, slot);
			slot_post(e, slot->index, slot_generation(slot), BIT_TIMEOUT);
		} else if (deadline == NEVER) {
			heap_remove(e, slot);
		} else {
			slot->heap_at = deadline;
			heap_down(e, 0);
		}
	}
	resume = e->resume_at <= now;
	if (resume)
		e->resume_at = NEVER;
	kill = e->kill_at <= now;
	if (kill)
		e->kill_at = now + 1000; /* again, for those that were busy */
	timerfd_update(e);
	pthread_mutex_unlock(&e->timer_lock);
	if (resume)
		listeners_resume(e);
	if (kill)
		sessions_kill(e);
}
