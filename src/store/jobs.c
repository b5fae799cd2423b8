/* jobs - reading directories takes time, and the loop must not wait: a few threads do it. */
#include "store/service_private.h"
#include <pthread.h>
#include <signal.h>

struct jobs {
	struct store_service *svc;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct job *first, **last;
	struct job *finished, **finished_last;
	bool stop;
	unsigned count;
	pthread_t threads[8];
};

/* On the loop. */
static void drain(void *ctx)
{
	struct jobs *jobs = ctx;
	struct job *j;

	pthread_mutex_lock(&jobs->lock);
	j = jobs->finished;
	jobs->finished = NULL;
	jobs->finished_last = &jobs->finished;
	pthread_mutex_unlock(&jobs->lock);
	while (j) {
		struct job *next = j->next;

		j->done(j);
		j = next;
	}
}

static void finish(struct jobs *jobs, struct job *j)
{
	bool first;

	j->next = NULL;
	pthread_mutex_lock(&jobs->lock);
	first = !jobs->finished;
	*jobs->finished_last = j;
	jobs->finished_last = &j->next;
	pthread_mutex_unlock(&jobs->lock);
	if (first)
		rpc_server_after(jobs->svc->server, 0, drain, jobs);
}

static void *jobs_thread(void *ctx)
{
	struct jobs *jobs = ctx;

	pthread_mutex_lock(&jobs->lock);
	while (!jobs->stop) {
		struct job *j = jobs->first;

		if (!j) {
			pthread_cond_wait(&jobs->wake, &jobs->lock);
			continue;
		}
		jobs->first = j->next;
		if (!jobs->first)
			jobs->last = &jobs->first;
		pthread_mutex_unlock(&jobs->lock);
		j->work(j);
		finish(jobs, j);
		pthread_mutex_lock(&jobs->lock);
	}
	pthread_mutex_unlock(&jobs->lock);
	return NULL;
}

struct jobs *jobs_new(struct store_service *svc, unsigned threads)
{
	struct jobs *jobs = NEW(struct jobs);
	sigset_t all, old;

	jobs->svc = svc;
	jobs->last = &jobs->first;
	jobs->finished_last = &jobs->finished;
	pthread_mutex_init(&jobs->lock, NULL);
	pthread_cond_init(&jobs->wake, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (unsigned i = 0; i < threads && i < ARRAY_SIZE(jobs->threads); i++)
		if (pthread_create(&jobs->threads[jobs->count], NULL, jobs_thread, jobs) == 0)
			jobs->count++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return jobs;
}

void jobs_add(struct jobs *jobs, struct job *j)
{
	j->svc = jobs->svc;
	j->next = NULL;
	if (jobs->count == 0) { /* no thread was to be had: slower, but the same */
		j->work(j);
		finish(jobs, j);
		return;
	}
	pthread_mutex_lock(&jobs->lock);
	*jobs->last = j;
	jobs->last = &j->next;
	pthread_cond_signal(&jobs->wake);
	pthread_mutex_unlock(&jobs->lock);
}

void jobs_free(struct jobs **jp)
{
	struct jobs *jobs = *jp;

	*jp = NULL;
	if (!jobs)
		return;
	pthread_mutex_lock(&jobs->lock);
	jobs->stop = true;
	pthread_cond_broadcast(&jobs->wake);
	pthread_mutex_unlock(&jobs->lock);
	for (unsigned i = 0; i < jobs->count; i++)
		pthread_join(jobs->threads[i], NULL);
	*jobs->finished_last = jobs->first;
	drain(jobs);
	pthread_cond_destroy(&jobs->wake);
	pthread_mutex_destroy(&jobs->lock);
	free(jobs);
}
