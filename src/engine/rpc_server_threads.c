/* A server whose handlers block runs them on threads of its own. */
#include "engine/rpc_server_private.h"

#include "base/mem.h"

static void *worker(void *arg)
{
	struct rpc_server *s = arg;
	struct rpc_request *req;

	pthread_mutex_lock(&s->work_lock);
	for (;;) {
		while (s->work_at == s->work.n && !s->work_end) {
			s->threads_idle++;
			pthread_cond_wait(&s->work_cond, &s->work_lock);
			s->threads_idle--;
		}
		if (s->work_at == s->work.n)
			break;
		req = s->work.v[s->work_at++];
		if (s->work_at == s->work.n) {
			vec_clear(&s->work);
			s->work_at = 0;
		}
		pthread_mutex_unlock(&s->work_lock);
		s->service.handle(s->service.ctx, req);
		pthread_mutex_lock(&s->work_lock);
	}
	pthread_mutex_unlock(&s->work_lock);
	return NULL;
}

void rpc_server_work_push(struct rpc_server *s, struct rpc_request *req)
{
	bool wake = true;

	pthread_mutex_lock(&s->work_lock);
	vec_push(&s->work, req);
	if (s->threads_idle == 0 && s->threads < s->threads_max &&
	    pthread_create(&s->thread_ids[s->threads], NULL, worker, s) == 0) {
		s->threads++;
		wake = false;
	}
	pthread_mutex_unlock(&s->work_lock);
	/* Outside: who wakes must not have to wait for the lock. */
	if (wake)
		pthread_cond_signal(&s->work_cond);
}

void rpc_server_use_threads(struct rpc_server *s, unsigned threads)
{
	s->threads_max = threads;
	s->thread_ids = mem_alloc(threads * sizeof(*s->thread_ids));
}

void rpc_server_workers_end(struct rpc_server *s)
{
	pthread_mutex_lock(&s->work_lock);
	s->work_end = true;
	pthread_cond_broadcast(&s->work_cond);
	pthread_mutex_unlock(&s->work_lock);
	for (unsigned i = 0; i < s->threads; i++)
		pthread_join(s->thread_ids[i], NULL);
	free(s->thread_ids);
	vec_release(&s->work);
}
