/* A server whose handlers block runs them on threads of its own. The peers that have requests waiting get the threads
 * in turn, one request each, so that one that asks without end takes no more than its share. */
#include "engine/rpc_server_private.h"

#include "base/mem.h"

/* Under work_lock. The next request of the peer whose turn it is. */
static struct rpc_request *work_take(struct rpc_server *s, struct rpc_peer **done_r)
{
	struct rpc_peer *p = s->busy.v[0];
	struct rpc_request *req = p->work.v[p->work_at++];

	vec_remove(&s->busy, 0);
	*done_r = NULL;
	if (p->work_at < p->work.n) {
		vec_push(&s->busy, p);
	} else {
		vec_clear(&p->work);
		p->work_at = 0;
		*done_r = p;
	}
	return req;
}

static void *worker(void *arg)
{
	struct rpc_server *s = arg;
	struct rpc_request *req;
	struct rpc_peer *done;

	pthread_mutex_lock(&s->work_lock);
	for (;;) {
		while (s->busy.n == 0 && !s->work_end) {
			s->threads_idle++;
			pthread_cond_wait(&s->work_cond, &s->work_lock);
			s->threads_idle--;
		}
		if (s->busy.n == 0)
			break;
		req = work_take(s, &done);
		pthread_mutex_unlock(&s->work_lock);
		if (done)
			rpc_peer_unref(done);
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
	if (req->peer->work.n == 0) {
		atomic_fetch_add(&req->peer->refs, 1);
		vec_push(&s->busy, req->peer);
	}
	vec_push(&req->peer->work, req);
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

void rpc_defer(struct rpc_request *req)
{
	rpc_server_work_push(req->peer->server, req);
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
	vec_release(&s->busy);
}
