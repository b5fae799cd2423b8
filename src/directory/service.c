/* service - see service.h. */
#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"
#include "directory/resolve.h"
#include "directory/service_private.h"
#include "msg/address.h"
#include "os/fault.h"
#include "os/fd.h"
#include <errno.h>
#include <time.h>
#include <unistd.h>

#define RATES_MAX	50000 /* about 10 MB */
#define PENALTY_ENTRIES 20000
#define SENDING_MAX	20000 /* about 10 MB */
#define LOGIN_WAIT_MS	25000 /* callers give up after 30 s */
#define WATCH_MS	3000  /* between questions whether the database has changed */

/* ---- one request ---- */

static struct db *db_take(struct directory_service *s, struct err *err)
{
	struct db *db = NULL;

	pthread_mutex_lock(&s->lock);
	if (s->idle.n > 0)
		db = s->idle.v[--s->idle.n];
	pthread_mutex_unlock(&s->lock);
	if (!db && db_open(s->database, 0, &db, err) < 0) {
		/* Not there or not ours: for a client that is a failure of the moment, never "no such user". */
		if (err->kind != ERR_TEMP) {
			log_error("%s", err->text);
			err->kind = ERR_TEMP;
		}
		return NULL;
	}
	return db;
}

static void db_give(struct directory_service *s, struct db *db)
{
	pthread_mutex_lock(&s->lock);
	vec_push(&s->idle, db);
	pthread_mutex_unlock(&s->lock);
}

struct str work_login_name(const struct work *w, struct str user)
{
	if (str_chr(user, '@') >= 0 || w->conf->auth_default_domain.len == 0)
		return user;
	return arena_printf(&w->req->arena, "%.*s@%.*s", STR_ARG(user), STR_ARG(w->conf->auth_default_domain));
}

void service_granted(struct directory_service *s, bool stale)
{
	pthread_mutex_lock(&s->watch_lock);
	s->check_wanted |= stale;
	if (stale || s->watch_asleep)
		pthread_cond_signal(&s->watch_cond);
	pthread_mutex_unlock(&s->watch_lock);
}

int work_grant(struct work *w, const struct grant_ask *ask, const struct account *account, struct err *verdict_r,
	       struct err *err)
{
	int added = grants_add(w->service->grants, ask, account, verdict_r, err);

	if (added < 0)
		return -1;
	FAULT_POINT("directory.granted");
	service_granted(w->service, added > 0);
	return 0;
}

struct finder work_finder(const struct work *w)
{
	return (struct finder){.set = w->tables, .conf = w->conf, .arena = &w->req->arena};
}

/* smtpd_sender_login_maps: who owns the address, log-in names with commas or blanks between. 1: somebody does. */
static int sender_owners(const struct finder *f, struct str address, const struct account *account, bool *owned_r,
			 struct err *err)
{
	struct address login = address_split(account->address);
	struct str owners, owner;
	int rc = find_address(f, f->conf->smtpd_sender_login_maps, address, FIND_DEFAULT, 0, &owners, NULL, err);

	while (rc > 0 && str_token(&owners, ", \t\r\n", &owner))
		*owned_r |= account->active &&
			    (str_ieq(owner, account->address) ||
			     (str_ieq(owner, login.local) && str_ieq(login.domain, f->conf->auth_default_domain)));
	return rc;
}

/* May the account send as the address? A table says so, or mail to it reaches that account and nobody else. */
static void handle_sender(struct work *w)
{
	const struct dir_sender *ask = w->req->msg;
	struct finder finder = work_finder(w);
	struct resolve_rules rules = resolve_rules_of(w->conf, &finder);
	struct dir_allowed answer = {0};
	struct err err = ERR_NONE;
	struct account account = {0};
	struct resolved r;
	int found = user_get(w->db, ask->account, &w->req->arena, &account, &err);

	if (found < 0 || (ask->address.len > 0 && resolve(w->db, &rules, ask->address, &w->req->arena, &r, &err) < 0)) {
		rpc_refuse(w->req, &err);
		return;
	}
	if (ask->address.len == 0) {
		answer.allowed = found > 0 && account.active;
	} else {
		bool owned = false;
		int listed = sender_owners(&finder, ask->address, &account, &owned, &err);

		if (listed < 0) {
			rpc_refuse(w->req, &err);
			return;
		}
		answer.known =
			listed > 0 || (r.class != RCPT_REMOTE && r.class != RCPT_UNKNOWN && r.class != RCPT_RELAY);
		answer.allowed = owned || (found > 0 && account.active && r.class == RCPT_LOCAL && r.targets.n == 1 &&
					   r.targets.v[0].account == ask->account);
	}
	rpc_answer(w->req, &answer);
}

/* ---- dispatch ---- */

/* Who may ask what. A process that was taken over asks for no more than its own work: one that speaks IMAP gets no
 * right to deliver into other people's mailboxes, one that makes bounces tries no passwords. */
enum {
	SMTPD = 1 << PROCESS_SMTPD,
	ACCESS = 1 << PROCESS_ACCESS,
	RELAY = 1 << PROCESS_RELAY,
	MASTER = 1 << PROCESS_MASTER
};

static const struct {
	const struct rpc_call *call;
	void (*handle)(struct work *w);
	unsigned callers;
} handlers[] = {
	{&DIR_RESOLVE, service_resolve, SMTPD | RELAY},
	{&DIR_SENDER, handle_sender, SMTPD},
	{&DIR_ROUTE, service_route, SMTPD | RELAY},
	{&DIR_ROUTE_ALL, service_route_all, RELAY},
	{&DIR_LOOKUP, service_lookup, SMTPD | RELAY},
	{&DIR_REWRITE, service_rewrite, SMTPD | RELAY},
	{&DIR_SENT, service_sent, SMTPD},
	{&DIR_STS_GET, service_sts_get, RELAY | MASTER},
	{&DIR_STS_PUT, service_sts_put, RELAY},
	{&DIR_STS_DUE, service_sts_due, RELAY},
	{&DIR_MECHANISMS, service_mechanisms, SMTPD | ACCESS},
	{&DIR_AUTH_START, service_auth_start, SMTPD | ACCESS},
	{&DIR_AUTH_PLAIN, service_auth_plain, SMTPD | ACCESS},
	{&DIR_AUTH_STEP, service_auth_step, SMTPD | ACCESS},
};

static enum process_role role_of(const struct rpc_request *req)
{
	return process_tag_role(rpc_peer_tag(req->peer));
}

static bool may_ask(const struct rpc_request *req, unsigned callers)
{
	enum process_role role = role_of(req);

	return role < PROCESS_ROLES && (callers & 1u << role);
}

static void work(struct directory_service *s, struct rpc_request *req)
{
	struct work w = {.service = s, .req = req, .peer = rpc_peer_id(req->peer)};
	struct err err = ERR_NONE;

	w.cache_state = resolve_cache_state(s->cache);
	w.db = db_take(s, &err);
	if (!w.db) {
		rpc_refuse(req, &err);
		return;
	}
	pthread_mutex_lock(&s->lock);
	w.conf = conf_ref(s->conf);
	w.tables = table_set_ref(s->tables);
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < ARRAY_SIZE(handlers); i++)
		if (handlers[i].call->number == req->number && may_ask(req, handlers[i].callers)) {
			handlers[i].handle(&w);
			req = NULL;
			break;
		}
	if (req) {
		err_set(&err, ERR_DENIED, "5.5.1", "directory does not answer call %u of this process", req->number);
		rpc_refuse(req, &err);
	}
	conf_unref(&w.conf);
	table_set_unref(&w.tables);
	db_give(s, w.db);
}

/* May this log-in be worked on now? If not, somebody who is at one will take it. */
static bool login_begin(struct directory_service *s, struct rpc_request *req)
{
	bool now;

	pthread_mutex_lock(&s->lock);
	now = s->logins < s->logins_max;
	if (now)
		s->logins++;
	else
		vec_push(&s->waiting, ((struct login_waiting){.req = req, .since = clock_ms()}));
	pthread_mutex_unlock(&s->lock);
	return now;
}

/* The next one that waits, or NULL: this thread is free for other things. Who has waited for longer than his caller
 * does is not computed for. */
static struct rpc_request *login_next(struct directory_service *s)
{
	struct err err = ERR_NONE;
	struct login_waiting w;

	for (;;) {
		pthread_mutex_lock(&s->lock);
		if (s->waiting_at == s->waiting.n) {
			vec_clear(&s->waiting);
			s->waiting_at = 0;
			s->logins--;
			pthread_mutex_unlock(&s->lock);
			return NULL;
		}
		w = s->waiting.v[s->waiting_at++];
		pthread_mutex_unlock(&s->lock);
		if (clock_ms() - w.since < LOGIN_WAIT_MS)
			return w.req;
		err_set(&err, ERR_TEMP, "4.7.0", "too many log-ins are under way");
		rpc_refuse(w.req, &err);
	}
}

static bool is_login(const struct rpc_request *req)
{
	return req->number == DIR_AUTH_START.number || req->number == DIR_AUTH_PLAIN.number ||
	       req->number == DIR_AUTH_STEP.number;
}

static void handle(void *ctx, struct rpc_request *req)
{
	struct directory_service *s = ctx;

	if (!is_login(req)) {
		work(s, req);
		return;
	}
	if (!login_begin(s, req))
		return;
	while (req) {
		work(s, req);
		req = login_next(s);
	}
}

#define HOUR_MS (3600 * (int64_t)1000)

static void count(struct directory_service *s, struct rpc_request *req)
{
	const struct dir_count *ask = req->msg;
	struct dir_counted counted = {0};
	char text[64], kind = (char)('0' + ask->event);
	int64_t unit;

	pthread_mutex_lock(&s->lock);
	unit = s->conf->anvil_rate_time_unit;
	pthread_mutex_unlock(&s->lock);
	if (ask->client.len)
		counted.client = rates_add(s->clients, kind, rates_client(ask->client, text), ask->n, unit, clock_ms());
	if (ask->user.len) {
		counted.user_hour = rates_add(s->users, kind, ask->user, ask->n, HOUR_MS, clock_ms());
		counted.user_day = rates_add(s->users, (char)(kind + 16), ask->user, ask->n, 24 * HOUR_MS, clock_ms());
	}
	rpc_answer(req, &counted);
}

/* On the loop thread: in memory only, and before the session's next request starts. */
static bool handle_early(void *ctx, struct rpc_request *req)
{
	struct directory_service *s = ctx;
	const struct dir_session_end *end = req->msg;
	uint64_t peer = rpc_peer_id(req->peer);

	if (req->number == DIR_SESSION_END.number) {
		service_exchange_drop(s, peer, &end->session);
		grants_session_end(s->grants, peer, end->session);
		service_tend_soon(s);
	} else if (req->number == DIR_AUTH_ABORT.number) {
		service_exchange_drop(s, peer, &end->session);
	} else if (req->number == DIR_CHANGED.number) {
		if (role_of(req) == PROCESS_MASTER)
			service_check_soon(s);
	} else if (req->number == DIR_COUNT.number && may_ask(req, SMTPD)) {
		count(s, req);
		return true;
	} else if (req->number == DIR_SURGE_TOLD.number) {
		if (role_of(req) == PROCESS_MASTER)
			sending_told(s->sending, ((const struct dir_surge_told *)req->msg)->seq);
		service_save_soon(s);
	} else if (req->number == DIR_SENT.number && may_ask(req, SMTPD)) {
		return service_sent_early(s, req);
	} else if (req->number == DIR_ROUTE_ALL.number && may_ask(req, RELAY)) {
		return service_route_early(s, req);
	} else {
		return req->number == DIR_RESOLVE.number && may_ask(req, SMTPD | RELAY) &&
		       service_resolve_early(s, req);
	}
	rpc_answer(req, NULL);
	return true;
}

static void peer_closed(void *ctx, struct rpc_peer *peer)
{
	struct directory_service *s = ctx;

	grants_peer_closed(s->grants, rpc_peer_id(peer));
	if (s->server) /* it is not just being freed */
		service_tend_soon(s);
	service_exchange_drop(s, rpc_peer_id(peer), NULL);
}

/* ---- the channel to the store ---- */

#define TEND_MS	      10   /* so long what nobody waits for may gather */
#define TEND_CALLS_MS 1000 /* between looks whether the store does not answer */

static void tend_calls(void *ctx);

void service_watch_calls(struct directory_service *s)
{
	if (!s->calls_watched)
		rpc_server_after(s->server, TEND_CALLS_MS, tend_calls, s);
	s->calls_watched = true;
}

static void tend_calls(void *ctx)
{
	struct directory_service *s = ctx;

	s->calls_watched = false;
	if (rpc_channel_tend(s->store))
		service_watch_calls(s);
}

static void tend(void *ctx)
{
	struct directory_service *s = ctx;

	s->tending = false;
	(void)rpc_channel_tend(s->store);
}

void service_tend_soon(struct directory_service *s)
{
	if (!s->tending)
		rpc_server_after(s->server, TEND_MS, tend, s);
	s->tending = true;
}

/* ---- the watcher ---- */

static void watch_set(struct directory_service *s, bool *flag)
{
	pthread_mutex_lock(&s->watch_lock);
	*flag = true;
	pthread_cond_signal(&s->watch_cond);
	pthread_mutex_unlock(&s->watch_lock);
}

void service_check_soon(struct directory_service *s)
{
	watch_set(s, &s->check_wanted);
}

void service_settle_soon(struct directory_service *s)
{
	watch_set(s, &s->settle_wanted);
}

void service_save_soon(struct directory_service *s)
{
	watch_set(s, &s->save_wanted);
}

static void store_link(void *ctx, bool up)
{
	struct directory_service *s = ctx;

	grants_store_link(s->grants, up);
	if (up)
		watch_set(s, &s->repeat_wanted);
}

/* Sleeps until there is something to do. With nothing granted there is nothing to revoke: no polling. */
static void watch_wait(struct directory_service *s)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += WATCH_MS / 1000;
	while (!s->check_wanted && !s->repeat_wanted && !s->settle_wanted && !s->save_wanted && !s->watch_end) {
		s->watch_asleep = grants_count(s->grants) == 0;
		if (s->watch_asleep)
			pthread_cond_wait(&s->watch_cond, &s->watch_lock);
		else if (pthread_cond_timedwait(&s->watch_cond, &s->watch_lock, &until) == ETIMEDOUT)
			break;
	}
	s->watch_asleep = false;
}

/* Has another connection changed the database? Opens the watcher's connection when there is none. */
static bool watch_changed(struct directory_service *s, uint64_t *seen, struct err *err)
{
	uint64_t version;

	if (!s->watch_db && db_open(s->database, 0, &s->watch_db, err) < 0)
		return false;
	if (db_data_version(s->watch_db, &version, err) < 0)
		return false;
	if (version == *seen)
		return false;
	*seen = version;
	return true;
}

static void save(struct directory_service *s)
{
	struct err err = ERR_NONE;

	if ((!s->watch_db && db_open(s->database, 0, &s->watch_db, &err) < 0) ||
	    sending_save(s->sending, s->watch_db, clock_wall(), &err) < 0)
		log_warning("cannot note what accounts usually send, trying again: %s", err.text);
}

static void *watch(void *arg)
{
	struct directory_service *s = arg;
	uint64_t seen = 0;
	bool failed = false;

	pthread_mutex_lock(&s->watch_lock);
	for (;;) {
		struct err err = ERR_NONE;
		bool check, repeat, settle, save_now;
		int adopted = 0;

		watch_wait(s);
		if (s->watch_end)
			break;
		check = s->check_wanted;
		repeat = s->repeat_wanted;
		settle = s->settle_wanted;
		save_now = s->save_wanted;
		s->check_wanted = s->repeat_wanted = s->settle_wanted = s->save_wanted = false;
		pthread_mutex_unlock(&s->watch_lock);
		if (save_now)
			save(s);
		if (settle)
			grants_settle(s->grants);
		if (repeat) {
			grants_repeat(s->grants);
			adopted = grants_adopt(s->grants, &err);
			if (adopted > 0)
				log_info("took over %d grants that the store had from the process before", adopted);
			else if (adopted < 0)
				log_warning("cannot take over what the store was told before: %s", err.text);
			err = ERR_NONE;
		}
		check |= adopted > 0;
		check |= watch_changed(s, &seen, &err) || failed;
		failed = err.kind != ERR_OK || (check && grants_check(s->grants, s->watch_db, &err) < 0);
		if (failed)
			log_warning("cannot look for revoked accounts: %s", err.text);
		pthread_mutex_lock(&s->watch_lock);
	}
	pthread_mutex_unlock(&s->watch_lock);
	save(s);
	return NULL;
}

/* ---- life ---- */

static const struct rpc_service service_template = {.name = "directory",
						    .table = DIR_CALLS,
						    .handle = handle,
						    .handle_early = handle_early,
						    .peer_closed = peer_closed,
						    .peer_name = process_tag_name};

static unsigned logins_at_a_time(unsigned threads)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	return cores > 0 && (unsigned long)cores < threads / 2 ? (unsigned)cores : threads / 2;
}

static struct sts_cache *sts_cache_beside(const char *database)
{
	struct str path = str_from(database);
	ptrdiff_t slash = str_rchr(path, '/');
	char *file = mem_printf("%.*s" STS_CACHE_FILE, (int)(slash + 1), path.ptr);
	struct sts_cache *cache = sts_cache_new(file);

	free(file);
	return cache;
}

struct directory_service *directory_service_new(const struct directory_options *options, struct err *err)
{
	struct directory_service *s;
	struct rpc_service service = service_template;
	struct sending *sending;
	struct db *db, *cache_db;
	uint8_t secret[DB_SECRET_LEN];
	pthread_condattr_t attr;

	if (db_open(options->database, 0, &db, err) < 0)
		return NULL;
	sending = sending_new(SENDING_MAX);
	if (db_secret(db, secret, err) < 0 || sending_open(sending, db, err) < 0 ||
	    db_open(options->database, DB_NO_WAIT, &cache_db, err) < 0) {
		sending_free(&sending);
		db_close(&db);
		return NULL;
	}
	s = NEW(struct directory_service);
	s->database = mem_strdup(options->database);
	memcpy(s->secret, secret, sizeof(secret));
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->watch_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->watch_cond, &attr);
	pthread_condattr_destroy(&attr);
	vec_push(&s->idle, db);
	s->cache_db = cache_db;
	s->sending = sending;
	s->conf = conf_ref(options->conf);
	s->tables = options->tables ? table_set_ref(options->tables) : table_set_new();
	s->exchanges = map_new();
	s->penalty = penalty_new(PENALTY_ENTRIES);
	s->verified = verified_new();
	s->clients = rates_new(RATES_MAX);
	s->users = rates_new(RATES_MAX);
	s->store = rpc_channel_new("store", STORE_CALLS);
	s->grants = grants_new(s->store);
	s->cache = resolve_cache_new();
	s->sts = sts_cache_beside(options->database);
	rpc_channel_on_link(s->store, store_link, s);
	service.ctx = s;
	s->server = rpc_server_new(&service);
	rpc_server_use_threads(s->server, (unsigned)options->conf->directory_thread_limit);
	s->logins_max = logins_at_a_time((unsigned)options->conf->directory_thread_limit);
	return s;
}

struct add_peer {
	struct directory_service *service;
	int fd;
	uint64_t tag;
};

/* On the loop thread, so that the peer is known before its first request is read. */
static void add_peer_now(void *ctx)
{
	struct add_peer *add = ctx;
	struct rpc_peer *peer = rpc_server_add_peer(add->service->server, add->fd, add->tag);

	if (peer)
		grants_peer_open(add->service->grants, rpc_peer_id(peer), add->tag);
	free(add);
}

void directory_service_add_peer(struct directory_service *s, int fd, uint64_t tag)
{
	struct add_peer *add = NEW(struct add_peer);

	*add = (struct add_peer){.service = s, .fd = fd, .tag = tag};
	rpc_server_after(s->server, 0, add_peer_now, add);
}

struct rpc_channel *directory_service_store(struct directory_service *s)
{
	return s->store;
}

void directory_service_reload(struct directory_service *s, struct conf *conf, struct table_set *tables)
{
	struct table_set *old_tables;
	struct conf *old;

	pthread_mutex_lock(&s->lock);
	old = s->conf;
	old_tables = s->tables;
	s->conf = conf_ref(conf);
	s->tables = tables ? table_set_ref(tables) : table_set_new();
	s->reloads++;
	pthread_mutex_unlock(&s->lock);
	if (conf->auth_cache_time == 0)
		verified_clear(s->verified);
	conf_unref(&old);
	table_set_unref(&old_tables);
}

uint64_t directory_service_login_failures(struct directory_service *s)
{
	return penalty_recent(s->penalty, clock_ms());
}

size_t directory_service_surges(struct directory_service *s, struct surge *list_r, size_t max)
{
	return sending_untold(s->sending, list_r, max, clock_wall());
}

struct rpc_server *directory_service_server(struct directory_service *s)
{
	return s->server;
}

void directory_service_run(struct directory_service *s)
{
	if (pthread_create(&s->watcher, NULL, watch, s) != 0)
		die(71, "directory: cannot start a thread");
	rpc_server_run(s->server);
	watch_set(s, &s->watch_end);
	pthread_join(s->watcher, NULL);
}

void directory_service_stop(struct directory_service *s)
{
	rpc_server_stop(s->server);
}

void directory_service_free(struct directory_service **sp)
{
	struct directory_service *s = *sp;

	if (!s)
		return;
	*sp = NULL;
	/* First: what it calls hands requests to the server. */
	rpc_channel_end(s->store);
	rpc_server_free(&s->server);
	rpc_channel_free(&s->store);
	service_exchanges_free(s);
	grants_free(&s->grants);
	penalty_free(&s->penalty);
	verified_free(&s->verified);
	rates_free(&s->clients);
	rates_free(&s->users);
	sending_free(&s->sending);
	for (size_t i = 0; i < s->idle.n; i++)
		db_close(&s->idle.v[i]);
	vec_release(&s->idle);
	vec_release(&s->waiting);
	db_close(&s->watch_db);
	db_close(&s->cache_db);
	resolve_cache_free(&s->cache);
	sts_cache_free(&s->sts);
	conf_unref(&s->conf);
	table_set_unref(&s->tables);
	mem_wipe(s->secret, sizeof(s->secret));
	pthread_cond_destroy(&s->watch_cond);
	pthread_mutex_destroy(&s->watch_lock);
	pthread_mutex_destroy(&s->lock);
	free(s->database);
	free(s);
}
