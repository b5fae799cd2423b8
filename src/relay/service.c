/* See service.h. */
#include "relay/service.h"
#include "base/fatal.h"
#include "base/mem.h"
#include "config/roles.h"
#include "relay/schema.h"
#include <errno.h>
#include <pthread.h>
#include <sysexits.h>

#define THREADS 4

struct relay_service {
	struct remote *remote;
	struct rpc_server *server;
	struct rpc_service table;
	pthread_t thread;
	bool started;
};

static void handle(void *ctx, struct rpc_request *req)
{
	static const struct relay_ok ok = {0};
	struct relay_service *s = ctx;
	const struct relay_sts *ask = req->msg;
	struct err err = ERR_NONE;

	if (remote_sts_fetch(s->remote, ask->domain, &err) < 0)
		rpc_refuse(req, &err);
	else
		rpc_answer(req, &ok);
}

struct relay_service *relay_service_new(struct remote *remote)
{
	struct relay_service *s = NEW(struct relay_service);

	s->remote = remote;
	s->table = (struct rpc_service){
		.name = "relay", .table = RELAY_CALLS, .handle = handle, .peer_name = process_tag_name, .ctx = s};
	s->server = rpc_server_new(&s->table);
	rpc_server_use_threads(s->server, THREADS);
	return s;
}

static void *run(void *arg)
{
	rpc_server_run(arg);
	return NULL;
}

void relay_service_start(struct relay_service *s)
{
	int rc = pthread_create(&s->thread, NULL, run, s->server);

	if (rc != 0)
		die(EX_OSERR, "cannot start a thread: %s", strerror(rc));
	s->started = true;
}

void relay_service_add_peer(struct relay_service *s, int fd, uint64_t tag)
{
	rpc_server_add_peer(s->server, fd, tag);
}

void relay_service_stop(struct relay_service *s)
{
	rpc_server_stop(s->server);
}

void relay_service_free(struct relay_service **s)
{
	if ((*s)->started)
		pthread_join((*s)->thread, NULL);
	rpc_server_free(&(*s)->server);
	free(*s);
	*s = NULL;
}
