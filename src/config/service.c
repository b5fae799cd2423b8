#include "config/service.h"
#include "base/log.h"
#include "base/mem.h"
#include <pthread.h>

struct service_private {
	pthread_mutex_t lock; /* both pointers change together */
	struct conf *conf;
	struct tls_context *tls;
	char *name;
};

struct service *service_new(const char *name, void *server, struct conf *conf, struct tls_context *tls)
{
	struct service *s = NEW(struct service);

	s->p = NEW(struct service_private);
	pthread_mutex_init(&s->p->lock, NULL);
	s->p->name = mem_strdup(name);
	s->p->conf = conf;
	s->p->tls = tls;
	s->name = s->p->name;
	s->server = server;
	return s;
}

static void release(struct conf *conf, struct tls_context *tls)
{
	if (conf != NULL)
		conf_unref(&conf);
	if (tls != NULL)
		tls_context_unref(&tls);
}

void service_free(struct service **s)
{
	struct service *service = *s;

	*s = NULL;
	if (service == NULL)
		return;
	release(service->p->conf, service->p->tls);
	pthread_mutex_destroy(&service->p->lock);
	free(service->p->name);
	free(service->p);
	free(service);
}

void service_update(struct service *s, struct conf *conf, struct tls_context *tls)
{
	struct conf *old_conf;
	struct tls_context *old_tls;

	pthread_mutex_lock(&s->p->lock);
	old_conf = s->p->conf;
	old_tls = s->p->tls;
	s->p->conf = conf;
	s->p->tls = tls;
	pthread_mutex_unlock(&s->p->lock);
	release(old_conf, old_tls);
}

struct conf *service_conf(struct service *s)
{
	struct conf *conf;

	pthread_mutex_lock(&s->p->lock);
	conf = conf_ref(s->p->conf);
	pthread_mutex_unlock(&s->p->lock);
	return conf;
}

struct tls_context *service_tls(struct service *s)
{
	struct tls_context *tls;

	pthread_mutex_lock(&s->p->lock);
	tls = s->p->tls != NULL ? tls_context_ref(s->p->tls) : NULL;
	pthread_mutex_unlock(&s->p->lock);
	return tls;
}

bool service_admits(const struct conf *conf, struct session *session, int64_t limit)
{
	const struct service *s = session_service(session);
	unsigned count = session_client_count(session);

	if (limit == 0 || count <= limit ||
	    conf_in_networks(conf->smtpd_client_event_limit_exceptions, session_peer(session)))
		return true;
	log_warning("Connection concurrency limit exceeded: %u from unknown[%s] for service %s", count,
		    session_peer_text(session), s->name);
	return false;
}

bool service_admits_user(const struct conf *conf, struct session *session, uint64_t account, int64_t limit)
{
	const struct service *s = session_service(session);
	unsigned count = session_user_count(session, account);

	if (limit == 0 || count <= limit ||
	    conf_in_networks(conf->smtpd_client_event_limit_exceptions, session_peer(session)))
		return true;
	log_warning("Connection concurrency limit exceeded: %u of one user from unknown[%s] for service %s", count,
		    session_peer_text(session), s->name);
	return false;
}

void service_transcribe(const struct conf *conf, struct session *session)
{
	if (conf->debug_peer_list.len > 0 && conf_in_networks(conf->debug_peer_list, session_peer(session)))
		session_transcript(session, true);
}
