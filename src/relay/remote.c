/* One job: its destinations, their hosts, their connections. See remote.h.
 *
 * A destination is each of the nexthop's, then each smtp_fallback_relay. Its hosts are tried in order until every
 * recipient has an outcome; a host that greets uses up one session of smtp_mx_session_limit. What a host says to one
 * recipient for now (4xx) leaves him for the next host; what the last of all says counts. */
#include "relay/remote.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/params.h"
#include "os/fd.h"
#include "relay/cache.h"
#include "relay/hosts.h"
#include "relay/refused_logins.h"
#include "relay/settings.h"
#include "relay/smtp_sts.h"
#include "relay/smtp_tls.h"
#include "relay/tls_files.h"
#include "relay/tls_sessions.h"
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct remote {
	struct remote_env env;
	struct mx_self *self;
	struct conn_cache *cache;
	struct mx_dns dns;
	struct sts *sts; /* or NULL */
	struct tls_sessions *sessions;
	struct refused_logins *refused;
	pthread_mutex_t lock; /* the three below */
	struct tls_files *tls;
	struct conf *lmtp_base, *lmtp; /* remote_conf_lmtp(lmtp_base) == lmtp */
	int stop_fd;		       /* eventfd: readable once remote_stop() was called */
};

static int ask_dns(void *ctx, struct str name, enum dns_type type, struct arena *arena, struct dns_answer *answer_r,
		   struct err *err)
{
	return dns_lookup(ctx, name, type, arena, answer_r, err);
}

struct remote *remote_new(const struct remote_env *env)
{
	struct remote *r = NEW(struct remote);

	r->env = *env;
	r->self = mx_self_new();
	pthread_mutex_init(&r->lock, NULL);
	r->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->cache = conn_cache_new();
	if (env->dns_lookup != NULL)
		r->dns = (struct mx_dns){.lookup = env->dns_lookup, .ctx = env->dns_ctx};
	else if (env->dns != NULL)
		r->dns = (struct mx_dns){.lookup = ask_dns, .ctx = env->dns};
	if (env->directory != NULL && r->dns.lookup != NULL)
		r->sts = sts_new(&r->dns, env->directory, r->stop_fd);
	r->tls = tls_files_new(&(struct remote_tls_files){0});
	r->sessions = tls_sessions_new();
	r->refused = refused_logins_new();
	return r;
}

void remote_free(struct remote **r)
{
	if (*r == NULL)
		return;
	sts_free(&(*r)->sts);
	conn_cache_free(&(*r)->cache);
	mx_self_free(&(*r)->self);
	conf_unref(&(*r)->lmtp_base);
	conf_unref(&(*r)->lmtp);
	tls_files_unref(&(*r)->tls);
	tls_sessions_free(&(*r)->sessions);
	refused_logins_free(&(*r)->refused);
	pthread_mutex_destroy(&(*r)->lock);
	fd_close(&(*r)->stop_fd);
	free(*r);
	*r = NULL;
}

void remote_stop(struct remote *r)
{
	uint64_t one = 1;

	(void)!write(r->stop_fd, &one, sizeof(one));
	if (r->sts != NULL)
		sts_stop(r->sts);
	conn_cache_clear(r->cache);
}

void remote_start(struct remote *r)
{
	if (r->sts != NULL)
		sts_start(r->sts);
}

int remote_sts_fetch(struct remote *r, struct str domain, struct err *err)
{
	if (r->sts == NULL)
		return err_set(err, ERR_TEMP, "", "smtp_mta_sts = no: policies are not fetched");
	return sts_fetch_now(r->sts, domain, err);
}

/* Each configuration that deliveries will come with. */
static int check_conf(struct tls_files *files, const struct conf *conf, struct err *err)
{
	SSL_CTX *ctx;

	if (relay_settings_check(conf, err) < 0 || tls_parameters_check(conf, err) < 0 ||
	    (ctx = tls_files_context(files, conf, false, err)) == NULL)
		return -1;
	SSL_CTX_free(ctx);
	return 0;
}

static int check_confs(struct tls_files *files, const struct remote_tls_files *from, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; i < from->conf_count && rc == 0; i++)
		rc = check_conf(files, from->confs[i], err);
	return rc;
}

int remote_tls_files(struct remote *r, const struct remote_tls_files *from, struct err *err)
{
	struct tls_files *files = tls_files_new(from), *before;
	SSL_CTX *sts = NULL;

	if (check_confs(files, from, err) < 0 ||
	    (r->sts != NULL && (sts = tls_files_context(files, from->confs[0], true, err)) == NULL)) {
		tls_files_unref(&files);
		return -1;
	}
	if (sts != NULL)
		sts_configure(r->sts, from->confs[0], SSL_CTX_get_cert_store(sts));
	SSL_CTX_free(sts);
	pthread_mutex_lock(&r->lock);
	before = r->tls;
	r->tls = files;
	pthread_mutex_unlock(&r->lock);
	tls_files_unref(&before);
	return 0;
}

struct sts *smtpc_sts(const struct smtpc_try *t)
{
	return t->remote->sts;
}

struct tls_files *smtpc_tls_files(const struct smtpc_try *t)
{
	struct tls_files *files;

	pthread_mutex_lock(&t->remote->lock);
	files = tls_files_ref(t->remote->tls);
	pthread_mutex_unlock(&t->remote->lock);
	return files;
}

struct tls_sessions *smtpc_tls_sessions(const struct smtpc_try *t)
{
	return t->remote->sessions;
}

struct refused_logins *smtpc_refused_logins(const struct smtpc_try *t)
{
	return t->remote->refused;
}

const struct mx_dns *smtpc_dns(const struct smtpc_try *t)
{
	return &t->remote->dns;
}

const struct remote_env *smtpc_env(const struct smtpc_try *t)
{
	return &t->remote->env;
}

/* ---- the configuration of LMTP ---- */

struct conf *remote_conf_lmtp(const struct conf *c, struct err *err)
{
	struct str *settings = mem_alloc((PARAM_COUNT + 1) * sizeof(*settings));
	struct conf *lmtp;
	struct arena arena;
	struct buf value;
	size_t n = 0;

	arena_init(&arena);
	buf_init(&value, 1 << 20);
	for (size_t i = 0; i < PARAM_COUNT; i++) {
		struct str name = str_from(PARAMS[i].name), twin;

		if (!str_starts(name, STR("smtp_")))
			continue;
		twin = arena_printf(&arena, "lmtp_%s", PARAMS[i].name + 5);
		buf_clear(&value);
		if (!conf_is_set(c, twin) || !conf_text(c, twin, &value))
			continue;
		settings[n++] = arena_printf(&arena, "%s=%s", PARAMS[i].name, value.ptr);
	}
	lmtp = conf_override(c, settings, n, err);
	buf_release(&value);
	arena_release(&arena);
	free(settings);
	return lmtp;
}

/* Made once for each configuration that jobs come with. */
static struct conf *conf_of(struct remote *r, const struct remote_job *job, struct err *err)
{
	struct conf *made, *result;

	if (!job->lmtp)
		return conf_ref(job->conf);
	pthread_mutex_lock(&r->lock);
	result = r->lmtp_base == job->conf ? conf_ref(r->lmtp) : NULL;
	pthread_mutex_unlock(&r->lock);
	if (result != NULL || (made = remote_conf_lmtp(job->conf, err)) == NULL)
		return result;
	result = conf_ref(made);
	pthread_mutex_lock(&r->lock);
	conf_unref(&r->lmtp_base);
	conf_unref(&r->lmtp);
	r->lmtp_base = conf_ref(job->conf);
	r->lmtp = made;
	pthread_mutex_unlock(&r->lock);
	return result;
}

/* ---- one host ---- */

static size_t pending(const struct remote_job *job)
{
	size_t n = 0;

	for (size_t i = 0; i < job->rcpt_count; i++)
		n += job->rcpts[i].outcome == 0;
	return n;
}

#define UNIX_PATH_SIZE 108 /* of sun_path */

static void conn_name(struct smtpc_conn *c, const struct mx_host *host, const struct nexthop *n)
{
	char text[NET_ADDR_TEXT];
	struct str place = n->path ? str_sub(n->host, 0, UNIX_PATH_SIZE) : str_from(net_addr_text(&host->addr, text));

	c->addr = host->addr;
	snprintf(c->host, sizeof(c->host), "%.*s", STR_ARG(host->name));
	snprintf(c->peer, sizeof(c->peer), "%.*s[%.*s]", STR_ARG(str_sub(host->name, 0, 255)), STR_ARG(place));
	if (!n->path)
		snprintf(c->relay, sizeof(c->relay), "%s:%u", c->peer, n->port);
	else
		snprintf(c->relay, sizeof(c->relay), "%s", c->peer);
}

/* The address to send from, or NULL: any. */
static int bind_address(const struct conf *conf, const struct net_addr *to, struct net_addr *from,
			const struct net_addr **from_r, struct err *err)
{
	bool v4 = to->any.sa_family == AF_INET;
	struct str text = v4 ? conf->smtp_bind_address : conf->smtp_bind_address6;
	const char *name = v4 ? "smtp_bind_address" : "smtp_bind_address6";

	*from_r = NULL;
	if (text.len == 0)
		return 0;
	if (net_addr_parse(text, 0, from) && from->any.sa_family == to->any.sa_family)
		*from_r = from;
	else if (conf->smtp_bind_address_enforce)
		return err_set(err, ERR_TEMP, "4.3.5", "%s = %.*s is no such address", name, STR_ARG(text));
	else
		log_warning("%s = %.*s is no such address: mail leaves from any", name, STR_ARG(text));
	return 0;
}

static int connect_from(struct smtpc_try *t, const struct net_addr *to, struct err *err)
{
	const struct net_addr *from;
	struct net_addr hold;

	if (bind_address(t->conf, to, &hold, &from, err) < 0)
		return -1;
	return smtpc_connect(to, from, t->conf->smtp_bind_address_enforce, t->remote->stop_fd,
			     t->conf->smtp_connect_timeout, err);
}

static struct smtpc_conn *conn_open(struct smtpc_try *t, const struct nexthop *n)
{
	const struct mx_host *host = t->host;
	struct arena *arena = t->job->arena;
	struct smtpc_conn *c;
	struct err err = ERR_NONE;
	struct str text;
	int fd;

	if (n->path && t->remote->env.connect_path != NULL)
		fd = t->remote->env.connect_path(t->remote->env.connect_ctx, n->host, t->conf->smtp_connect_timeout,
						 &err);
	else if (n->path)
		fd = smtpc_connect_path(arena_strz(arena, n->host), &err);
	else
		fd = connect_from(t, &host->addr, &err);
	c = smtpc_conn_new(fd, t->remote->stop_fd);
	c->conf = t->conf;
	c->lmtp = t->job->lmtp;
	c->env = &t->remote->env;
	smtpc_record(c, t->job->record);
	conn_name(c, host, n);
	t->tls_failed = false;
	if (fd >= 0)
		return c;
	text = n->path ? arena_str(arena, str_from(err.text))
		       : arena_printf(arena, "connect to %s: %s", c->relay, err.text);
	smtpc_note(t, false, STR("4.4.1"), text, NULL, false);
	/* Which host it was is else not seen where another one takes the mail. */
	log_as(arena_printf(arena, "%.*s/%.*s", STR_ARG(t->conf->syslog_name),
			    STR_ARG(t->job->lmtp ? STR("lmtp") : t->job->transport))
		       .ptr,
	       "%.*s", STR_ARG(text));
	smtpc_conn_free(&c);
	return NULL;
}

/* What connections may be shared by: everything that makes one different from another. */
static struct str cache_key(const struct smtpc_try *t, const struct nexthop *n)
{
	char text[NET_ADDR_TEXT];
	struct remote_job *job = t->job;

	return arena_printf(
		job->arena, "%.*s|%d|%.*s|%s|%u|%.*s|%.*s|%.*s|%.*s|%.*s|%.*s|%.*s", STR_ARG(job->transport), job->lmtp,
		STR_ARG(t->host->name), n->path ? "" : net_addr_text(&t->host->addr, text), n->port, STR_ARG(t->login),
		STR_ARG(t->discard), STR_ARG(t->conf->smtp_helo_name), STR_ARG(t->conf->smtp_bind_address),
		STR_ARG(t->conf->smtp_bind_address6), STR_ARG(n->path ? n->host : STR("")), STR_ARG(smtpc_tls_key(t)));
}

static bool may_keep(const struct smtpc_try *t, const struct smtpc_conn *c)
{
	const struct conf *conf = t->conf;
	bool keep = conf->smtp_connection_cache_on_demand ||
		    conf_list_ihas(conf->smtp_connection_cache_destinations, t->nexthop);

	if (c->ssl != NULL && !t->policy->reuse)
		return false;
	return keep && conf->smtp_connection_cache_time_limit > 0 &&
	       (conf->smtp_connection_reuse_count_limit == 0 ||
		c->messages < (uint64_t)conf->smtp_connection_reuse_count_limit) &&
	       clock_ms() - c->opened_ms < conf->smtp_connection_reuse_time_limit;
}

/* For who wants to know of protocol errors: the first dialogue with some. */
static void take_record(struct smtpc_try *t, const struct smtpc_conn *c)
{
	struct remote_job *job = t->job;

	if (!c->recording || !c->protocol_error || job->transcript.len > 0)
		return;
	job->transcript = arena_str(job->arena, buf_str(&c->record));
	job->transcript_with = arena_str(job->arena, str_from(c->peer));
}

static void conn_done(struct smtpc_try *t, struct smtpc_conn **c, struct str key)
{
	if (may_keep(t, *c))
		conn_cache_put(t->remote->cache, key, c, t->conf);
	else
		smtpc_conn_quit(c, t->conf);
}

/* A connection ready for mail, or NULL (noted). */
static struct smtpc_conn *conn_ready(struct smtpc_try *t, const struct nexthop *n, bool *greeted_r)
{
	struct smtpc_conn *c = conn_open(t, n);
	int rc;

	*greeted_r = false;
	if (c == NULL)
		return NULL;
	rc = smtpc_hello(t, c);
	*greeted_r = rc >= 0 || c->features != 0;
	if (rc == 1)
		return c;
	take_record(t, c);
	if (rc == 0)
		smtpc_conn_quit(&c, t->conf);
	else
		smtpc_conn_free(&c);
	return NULL;
}

static void mail_over(struct smtpc_try *t, struct smtpc_conn *c, struct str key)
{
	bool began;
	int rc;

	t->job->reused = c->reused;
	t->job->tls = arena_str(t->job->arena, str_from(c->tls_text));
	rc = smtpc_mail(t, c, &began);
	take_record(t, c);
	if (rc == 1)
		conn_done(t, &c, key);
	else if (rc == 0)
		smtpc_conn_quit(&c, t->conf);
	else {
		t->job->site = SITE_SLOW;
		t->job->site_text = t->text;
		smtpc_conn_free(&c);
	}
}

/* A kept connection may have died while it was idle: that says nothing about the host. True: the mail was tried. */
static bool mail_over_kept(struct smtpc_try *t, struct str key)
{
	struct smtpc_conn *c;

	while ((c = conn_cache_take(t->remote->cache, key)) != NULL) {
		bool began = false;
		int rc;

		c->conf = t->conf;
		smtpc_record(c, t->job->record);
		c->reused = t->job->reused = true;
		t->job->tls = arena_str(t->job->arena, str_from(c->tls_text));
		rc = smtpc_mail(t, c, &began);
		take_record(t, c);
		if (rc == 1)
			conn_done(t, &c, key);
		else
			smtpc_conn_free(&c);
		if (began)
			return true;
	}
	return false;
}

/* True: the host spoke with us (a session was used up). */
static bool try_host(struct smtpc_try *t, const struct nexthop *n)
{
	int64_t from = clock_us();
	struct smtpc_conn *c;
	struct str key;
	bool greeted;

	key = t->key = cache_key(t, n);
	if (mail_over_kept(t, key)) {
		t->job->site = SITE_OK;
		return true;
	}
	c = conn_ready(t, n, &greeted);
	/* Opportunistic: a server whose TLS does not work is spoken with as one that has none. */
	if (c == NULL && t->tls_failed && t->effective == TLS_LEVEL_MAY) {
		t->no_tls = true;
		c = conn_ready(t, n, &greeted);
		t->no_tls = false;
	}
	t->job->connect_us += clock_us() - from;
	if (greeted)
		t->job->site = SITE_OK;
	if (c == NULL)
		return greeted;
	mail_over(t, c, key);
	return true;
}

/* ---- one destination ---- */

static int find_by_name(struct smtpc_try *t, const struct nexthop *n, struct mx_list *list, struct err *err)
{
	struct tls_files *files = smtpc_tls_files(t);
	const struct str *hosts = mx_uses_hosts(t->conf) ? tls_files_find(files, STR(HOSTS_FILE)) : NULL;
	struct mx_dns dns = t->remote->dns;
	int rc;

	dns.hosts = hosts ? *hosts : STR("");
	rc = mx_find(&dns, t->remote->self, t->conf, n, t->loop_check, t->job->arena, list, err);
	tls_files_unref(&files);
	return rc;
}

static int find_hosts(struct smtpc_try *t, const struct nexthop *n, struct mx_list *list, struct err *err)
{
	struct arena *arena = t->job->arena;

	if (!n->path)
		return find_by_name(t, n, list, err);
	*list = (struct mx_list){.v = ARENA_NEW(arena, struct mx_host), .n = 1, .domain = n->host};
	list->v[0] = (struct mx_host){.name = t->conf->myhostname, .tlsa_base = STR("")};
	return 0;
}

static uint16_t default_port(const struct smtpc_try *t)
{
	uint16_t port = nexthop_port(t->job->lmtp ? t->conf->lmtp_tcp_port : t->conf->smtp_tcp_port);

	return port > 0 ? port : t->job->lmtp ? 24 : 25;
}

/* True: another destination may be tried, should somebody have no outcome yet. Not so where we are a host of this one:
 * who gets the mail next would send it here again. */
static bool try_destination(struct smtpc_try *t, struct str nexthop, bool last)
{
	size_t limit = (size_t)t->conf->smtp_mx_session_limit, sessions = 0;
	struct err err = ERR_NONE;
	struct mx_list list = {0};
	struct nexthop n;

	if (nexthop_parse(nexthop, default_port(t), t->job->lmtp, &n, &err) < 0) {
		smtpc_note(t, false, str_from(err.code), str_from(err.text), NULL, false);
		return true;
	}
	n.no_mx = n.no_mx || mx_is_disabled(t->conf);
	t->nexthop = n.host;
	t->nexthop_full = nexthop;
	t->by_mx = !n.no_mx && !n.literal && !n.path && !t->job->lmtp;
	t->loop_check = n.port == 25 && !t->job->lmtp;
	if (find_hosts(t, &n, &list, &err) < 0) {
		smtpc_note(t, err.kind == ERR_PERM, str_from(err.code), str_from(err.text), NULL, false);
		if (err.kind == ERR_PERM)
			t->job->site = SITE_OK;
		return !list.met_self;
	}
	last = last || list.met_self;
	t->domain = list.domain;
	if (smtpc_tls_policy_find(t) < 0 || smtpc_sts_find(t) < 0)
		return !list.met_self;
	for (size_t i = 0; i < list.n && pending(t->job) > 0; i++) {
		t->host = &list.v[i];
		if (smtpc_tls_host(t, n.port) < 0 || smtpc_sasl_find(t) < 0 || smtpc_discard_find(t) < 0)
			continue;
		t->final = last && (i + 1 == list.n || (limit > 0 && sessions + 1 >= limit));
		sessions += try_host(t, &n);
		if (limit > 0 && sessions >= limit)
			break;
	}
	return !list.met_self;
}

/* Hosts that the administrator names: that they cannot be found, refuse us or are ourselves says nothing of the
 * recipients, and a name mistyped must cost no mail. */
static void spare_configured(struct smtpc_try *t, bool fallback)
{
	bool relayhost = !t->job->lmtp && str_eq(t->job->nexthop, str_trim(t->conf->relayhost));

	if (!t->permanent || pending(t->job) == 0 || (!fallback && !relayhost))
		return;
	log_warning("%s configuration problem: %.*s", fallback ? "smtp_fallback_relay" : "relayhost", STR_ARG(t->text));
	t->permanent = false;
	t->code = STR("4.3.5");
}

/* Whoever has no outcome has what was last noted. */
static void settle_rest(struct smtpc_try *t)
{
	struct remote_job *job = t->job;

	for (size_t i = 0; i < job->rcpt_count; i++) {
		struct remote_rcpt *r = &job->rcpts[i];

		if (r->outcome != 0)
			continue;
		r->outcome = t->permanent ? OUTCOME_FAILED : OUTCOME_DEFERRED;
		r->code = t->code;
		r->text = t->text;
		r->mta = t->mta;
		r->said = t->said;
		r->relay = t->relay;
	}
	if (job->site != SITE_OK && job->site_text.len == 0)
		job->site_text = t->text;
}

static void job_clear(struct remote_job *job)
{
	job->site = SITE_DEAD;
	job->site_text = job->tls = job->transcript = job->transcript_with = STR("");
	job->connect_us = job->transmission_us = 0;
	job->reused = false;
	for (size_t i = 0; i < job->rcpt_count; i++) {
		struct remote_rcpt *r = &job->rcpts[i];

		r->outcome = 0;
		r->code = r->text = r->mta = r->said = STR("");
		r->relay = STR("none");
		r->dsn_by = false;
	}
}

/* The nexthop may be a list, as of Postfix 3.5 on. The path of a socket is none. */
static bool next_destination(const struct smtpc_try *t, struct str *rest, struct str *item_r)
{
	if (t->job->lmtp && str_istarts(*rest, STR("unix:"))) {
		*item_r = *rest;
		*rest = STR("");
		return true;
	}
	return str_token(rest, ", \t\r\n", item_r);
}

static void try_all(struct smtpc_try *t)
{
	struct str rest = t->job->nexthop, fallback = t->job->lmtp ? STR("") : t->conf->smtp_fallback_relay, item;
	bool used = false, more = true;

	fallback = str_trim(fallback);
	/* A nexthop of nothing is as malformed as any other. */
	if (!next_destination(t, &rest, &item))
		item = STR("");
	do {
		rest = str_trim(rest);
		more = try_destination(t, item, rest.len == 0 && fallback.len == 0);
	} while (more && pending(t->job) > 0 && next_destination(t, &rest, &item));
	while (more && pending(t->job) > 0 && conf_list_next(&fallback, &item)) {
		used = true;
		fallback = str_trim(fallback);
		more = try_destination(t, item, fallback.len == 0);
	}
	spare_configured(t, used);
}

void remote_deliver(struct remote *r, struct remote_job *job)
{
	struct err err = ERR_NONE;
	struct smtpc_message message;
	struct conf *conf = conf_of(r, job, &err);
	struct smtpc_try t = {
		.remote = r,
		.job = job,
		.conf = conf,
		.message = &message,
		.code = STR("4.4.0"),
		.text = STR("no host to deliver to"),
		.mta = STR(""),
		.said = STR(""),
		.relay = STR("none"),
		.login = STR(""),
		.password = STR(""),
		.key = STR(""),
		.discard = STR(""),
	};

	job_clear(job);
	smtpc_message_init(&message, job);
	if (conf != NULL)
		try_all(&t);
	else
		smtpc_note(&t, false, STR("4.3.5"), str_from(err.text), NULL, false);
	smtpc_sasl_forget(&t);
	settle_rest(&t);
	smtpc_message_release(&message);
	conf_unref(&conf);
}
