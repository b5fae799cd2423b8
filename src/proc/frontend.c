/* frontend - see proc/frontend.h. Everything but frontend_run() happens on the control thread. */
#include "proc/frontend.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/vec.h"
#include "config/service.h"
#include "os/fd.h"
#include "os/sandbox.h"

/* Descriptors that are not sessions: channels, listeners, files being sent, a margin. */
#define FDS_RESERVED 256

struct listener {
	struct str name; /* of the master.cf service */
	const struct frontend_protocol *protocol;
	struct service *service;
	bool wrapper, proxy;
	bool retired; /* another command stands behind the name: its sessions go on, new sockets are not its own */
};

struct frontend {
	struct engine *engine;
	const struct frontend_protocol *protocols;
	struct bundle *bundle; /* newest */
	VEC(struct listener *) listeners;
};

struct frontend *frontend_new(struct proc *p, int64_t threads, const struct frontend_protocol *protocols)
{
	struct frontend *f = NEW(struct frontend);
	uint64_t fds = sandbox_raise_nofile(),
		 sessions = fds > 2 * FDS_RESERVED ? (fds - FDS_RESERVED) / 2 : FDS_RESERVED;
	struct engine_limits limits = {.threads = (unsigned)threads,
				       .sessions = sessions > 200000 ? 200000 : (unsigned)sessions};

	f->engine = engine_new(&limits);
	f->protocols = protocols;
	f->bundle = bundle_ref(p->bundle);
	return f;
}

struct engine *frontend_engine(struct frontend *f)
{
	return f->engine;
}

static const struct frontend_protocol *protocol_for(const struct frontend *f, struct str command)
{
	for (const struct frontend_protocol *p = f->protocols; p->command; p++)
		if (str_eq(command, str_from(p->command)))
			return p;
	return NULL;
}

/* The configuration and certificates of one service, as the bundle has them. References are the caller's. */
static int load(const struct bundle *b, struct str name, struct conf **conf_r, struct tls_context **tls_r,
		struct err *err)
{
	const struct master_service *s = bundle_service(b, name);

	if (s == NULL)
		return err_set(err, ERR_NOT_FOUND, "", "master.cf has no service %.*s", STR_ARG(name));
	*conf_r = bundle_service_conf(b, s, err);
	if (*conf_r == NULL)
		return -1;
	if (bundle_tls(b, *conf_r, tls_r, err) < 0) {
		conf_unref(conf_r);
		return -1;
	}
	return 0;
}

/* What holds from the first byte of a connection. */
static void listener_take(struct listener *l, const struct conf *conf)
{
	l->wrapper = l->protocol->wrapper(conf);
	l->proxy = l->protocol->proxy && conf->smtpd_upstream_proxy_protocol != 0;
}

static struct listener *listener_new(struct frontend *f, struct str name, struct err *err)
{
	struct listener *l = NEW(struct listener);
	struct conf *conf = NULL;
	struct tls_context *tls = NULL;
	char *full_name;

	if (load(f->bundle, name, &conf, &tls, err) < 0) {
		free(l);
		return NULL;
	}
	l->name = str_from(str_dup(name));
	l->protocol = protocol_for(f, bundle_service(f->bundle, name)->command);
	if (l->protocol == NULL) {
		err_set(err, ERR_PERM, "", "service %.*s is not served by this process", STR_ARG(name));
		conf_unref(&conf);
		tls_context_unref(&tls);
		free((char *)(uintptr_t)l->name.ptr);
		free(l);
		return NULL;
	}
	listener_take(l, conf);
	if (l->wrapper && tls == NULL)
		log_warning("service %.*s wants TLS from the first byte, but smtpd_tls_cert_file names no certificate",
			    STR_ARG(name));
	full_name = bundle_log_name(conf, l->protocol->command);
	l->service = service_new(full_name, l->protocol->server, conf, tls);
	free(full_name);
	vec_push(&f->listeners, l);
	return l;
}

static struct listener *listener_find(struct frontend *f, struct str name)
{
	for (size_t i = 0; i < f->listeners.n; i++)
		if (!f->listeners.v[i]->retired && str_eq(f->listeners.v[i]->name, name))
			return f->listeners.v[i];
	return NULL;
}

static void on_listen(void *ctx, struct str name, int fd)
{
	struct frontend *f = ctx;
	struct err err = ERR_NONE;
	struct listener *l = listener_find(f, name);

	if (l == NULL)
		l = listener_new(f, name, &err);
	if (l == NULL) {
		log_error("cannot listen: %s", err.text);
		fd_close(&fd);
		return;
	}
	engine_listen(f->engine, &(struct engine_listener){.fd = fd,
							   .protocol = l->protocol->protocol,
							   .service = l->service,
							   .tls_wrapper = l->wrapper,
							   .proxy_protocol = l->proxy});
}

/* Master opens new sockets for a service whose command, name in the log or beginning of a connection was changed. */
static void listener_update(struct frontend *f, struct listener *l, struct bundle *b, struct conf *conf,
			    struct tls_context *tls)
{
	char *name = bundle_log_name(conf, l->protocol->command);

	if (protocol_for(f, bundle_service(b, l->name)->command) == l->protocol && strcmp(l->service->name, name) == 0)
		listener_take(l, conf);
	else
		l->retired = true;
	free(name);
	service_update(l->service, conf, tls);
}

/* All services first, then the change: a configuration is used whole or not at all. */
static int on_reload(void *ctx, struct bundle *b, struct err *err)
{
	struct frontend *f = ctx;
	size_t n = f->listeners.n, done = 0;
	struct conf **confs = mem_alloc((n + 1) * sizeof(*confs));
	struct tls_context **tls = mem_alloc((n + 1) * sizeof(struct tls_context *));
	int result = 0;

	for (; done < n && result == 0; done++)
		if (bundle_service(b,
				   f->listeners.v[done]->name)) /* else removed: serves as before until it is closed */
			result = load(b, f->listeners.v[done]->name, &confs[done], &tls[done], err);
	for (size_t i = 0; i < n; i++) {
		if (result == 0 && confs[i]) {
			listener_update(f, f->listeners.v[i], b, confs[i], tls[i]);
		} else {
			conf_unref(&confs[i]);
			tls_context_unref(&tls[i]);
		}
	}
	if (result == 0) {
		bundle_unref(&f->bundle);
		f->bundle = bundle_ref(b);
	}
	free(confs);
	free(tls);
	return result;
}

static uint64_t on_sessions(void *ctx)
{
	return engine_session_count(((struct frontend *)ctx)->engine);
}

static void on_stop(void *ctx, int64_t grace_ms)
{
	engine_stop(((struct frontend *)ctx)->engine, grace_ms);
}

struct proc_hooks frontend_hooks(struct frontend *f)
{
	return (struct proc_hooks){
		.listen = on_listen, .reload = on_reload, .sessions = on_sessions, .stop = on_stop, .ctx = f};
}

void frontend_run(struct frontend **fp)
{
	struct frontend *f = *fp;

	/* The control thread may still look at *f: what it holds goes with the process. */
	engine_run(f->engine);
	*fp = NULL;
}
