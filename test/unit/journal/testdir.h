/* A directory of a test's own, and a loop of a test's own: posted functions run when the test pumps. */
#ifndef TEST_JOURNAL_TESTDIR_H
#define TEST_JOURNAL_TESTDIR_H

#include "base/mem.h"
#include "journal/step.h"
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static inline int testdir_make(char path[64])
{
	const char *base = getenv("TMPDIR");
	int fd;

	snprintf(path, 64, "%s/postrider-XXXXXX", base && strlen(base) < 40 ? base : "/tmp");
	if (!mkdtemp(path) || (fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		abort();
	return fd;
}

static inline int testdir_rm(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static inline void testdir_remove(const char *path)
{
	nftw(path, testdir_rm, 16, FTW_DEPTH | FTW_PHYS);
}

struct testloop_item {
	struct testloop_item *next;
	void (*fn)(void *arg);
	void *arg;
};

struct testloop {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct testloop_item *head, **tail;
};

static inline void testloop_init(struct testloop *l)
{
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->cond, NULL);
	l->head = NULL;
	l->tail = &l->head;
}

static inline void testloop_post(void *ctx, void (*fn)(void *arg), void *arg)
{
	struct testloop *l = ctx;
	struct testloop_item *i = NEW(struct testloop_item);

	i->fn = fn;
	i->arg = arg;
	pthread_mutex_lock(&l->lock);
	*l->tail = i;
	l->tail = &i->next;
	pthread_cond_signal(&l->cond);
	pthread_mutex_unlock(&l->lock);
}

static inline struct step_loop testloop_hook(struct testloop *l)
{
	return (struct step_loop){testloop_post, l};
}

/* Runs one posted function; waits for it if `wait`. */
static inline bool testloop_one(struct testloop *l, bool wait)
{
	struct testloop_item *i;

	pthread_mutex_lock(&l->lock);
	while (!l->head && wait)
		pthread_cond_wait(&l->cond, &l->lock);
	i = l->head;
	if (i && !(l->head = i->next))
		l->tail = &l->head;
	pthread_mutex_unlock(&l->lock);
	if (!i)
		return false;
	i->fn(i->arg);
	free(i);
	return true;
}

/* Pumps until *flag reaches at least n. */
static inline void testloop_until(struct testloop *l, const unsigned *flag, unsigned n)
{
	while (*flag < n)
		testloop_one(l, true);
}

static inline void testloop_drain(struct testloop *l)
{
	while (testloop_one(l, false))
		;
}

static inline void testloop_count(void *ctx)
{
	++*(unsigned *)ctx;
}

#endif
