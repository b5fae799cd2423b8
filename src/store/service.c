/* service - who may ask what, and the loop. See service.h. */
#include "store/service.h"
#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "config/roles.h"
#include "store/maildir.h"
#include "store/service_private.h"
#include <unistd.h>

/* So long a new store process waits for directory to repeat the grants of the living sessions. */
#define GRANT_GRACE_MS 10000
/* And so long, later on, for a grant that is on its way over another channel. */
#define GRANT_WAIT_MS	 500
#define REBUILD_AGAIN_MS 10000
#define RECOVER_MS	 3000
/* Enough for the index to grow by some thousand expunges on a full disk. */
#define BALLAST_BYTES ((uint64_t)4 << 20)

/* ---- small things ---- */

void refuse(struct rpc_request *req, struct err *err)
{
	if (err->kind == ERR_OK)
		err_set(err, ERR_TEMP, "4.3.0", "the request failed");
	rpc_refuse(req, err);
}

bool store_stopping(const struct store_service *svc, struct err *err)
{
	if (svc->engine)
		return false;
	err_set(err, ERR_TEMP, "4.3.0", "the store is being stopped");
	return true;
}

struct runtime *runtime_get(struct store_service *svc, uint64_t account)
{
	struct runtime *rt = map_get_u64(svc->runtimes, account);

	if (!rt) {
		rt = NEW(struct runtime);
		rt->account = account;
		map_set_u64(svc->runtimes, account, rt);
	}
	return rt;
}

static void timer_fire(void *ctx)
{
	struct timer *t = ctx;

	/* One that was set anew for an earlier time leaves its elder behind. */
	if (!t->due_ms || clock_ms() < t->due_ms)
		return;
	t->due_ms = 0;
	t->fn(t->svc);
}

void timer_once(struct store_service *svc, unsigned timer, int64_t ms, void (*fn)(void *ctx))
{
	struct timer *t = &svc->timers[timer];
	int64_t due = clock_ms() + ms;

	if (t->due_ms && t->due_ms <= due)
		return;
	t->svc = svc;
	t->due_ms = due;
	t->fn = fn;
	rpc_server_after(svc->server, ms + 1, timer_fire, t);
}

/* ---- the table ---- */

/* Who may ask what. A process that was taken over asks for no more than its own work: what a session may read and
 * change is for the one that serves mailboxes, rights are for directory to give. Master has an administrator's. */
enum {
	SMTPD = 1 << PROCESS_SMTPD,
	ACCESS = 1 << PROCESS_ACCESS,
	RELAY = 1 << PROCESS_RELAY,
	FRONT = SMTPD | ACCESS | RELAY,
	DIRECTORY = 1 << PROCESS_DIRECTORY,
	ADMIN = 1 << PROCESS_MASTER,
};
enum needs { NO_GRANT, GRANT, ACCOUNT_IF_THERE, ACCOUNT };

struct handler {
	const struct rpc_call *call;
	void (*fn)(struct call *c);
	unsigned who;
	enum needs needs;
	unsigned rights; /* any of them */
};

static void call_grant(struct call *c)
{
	grants_handle_grant(c->svc, c->peer, c->req);
}

static void call_release(struct call *c)
{
	grants_handle_release(c->svc, c->peer, c->req);
}

static void call_revoke(struct call *c)
{
	grants_handle_revoke(c->svc, c->peer, c->req);
}

static void call_grants(struct call *c)
{
	grants_handle_list(c->svc, c->req);
}

void call_status(struct call *c)
{
	struct store_report *r = ARENA_NEW(&c->req->arena, struct store_report);
	struct store_engine_stats s;

	store_engine_stats(c->svc->engine, &s);
	r->text = arena_printf(&c->req->arena,
			       "accounts %zu, grants %zu, followed mailboxes %zu, commits %llu, flushes %llu, "
			       "checkpoints %llu, journal %llu bytes"
			       "%s, files not yet in place %llu (%llu failed and tried again)\n",
			       map_count(c->svc->accounts), map_count(c->svc->grants), map_count(c->svc->followed),
			       (unsigned long long)s.commits, (unsigned long long)s.flushes,
			       (unsigned long long)s.checkpoints, (unsigned long long)s.journal_bytes,
			       store_engine_read_only(c->svc->engine) ? ", READ ONLY" : "",
			       (unsigned long long)s.unapplied_files, (unsigned long long)s.failed_files);
	rpc_answer(c->req, r);
}

static const struct handler HANDLERS[] = {
	{&STORE_MAILBOXES, call_mailboxes, ACCESS, ACCOUNT, RIGHT_READ | RIGHT_ADMIN},
	{&STORE_MAILBOX, call_mailbox, ACCESS, ACCOUNT, RIGHT_READ | RIGHT_ADMIN},
	{&STORE_MAILBOX_CHANGE, call_mailbox_change, ACCESS, ACCOUNT, RIGHT_WRITE | RIGHT_ADMIN},
	{&STORE_VIEW_OPEN, call_view_open, ACCESS, ACCOUNT, RIGHT_READ},
	{&STORE_VIEW_CLOSE, call_view_close, ACCESS, NO_GRANT, 0},
	{&STORE_META, call_meta, ACCESS, ACCOUNT, RIGHT_READ},
	{&STORE_BODY, call_body, ACCESS, ACCOUNT, RIGHT_READ},
	{&STORE_BODIES, call_bodies, ACCESS, ACCOUNT, RIGHT_READ},
	{&STORE_SUMMARY_PUT, call_summary_put, ACCESS, ACCOUNT, RIGHT_READ},
	{&STORE_COMMIT, call_commit, ACCESS, ACCOUNT, RIGHT_WRITE},
	{&STORE_DELIVER, call_deliver, SMTPD | RELAY, NO_GRANT, 0},
	{&STORE_CONFIRM, call_confirm, SMTPD | RELAY, NO_GRANT, 0},
	{&STORE_BLOB_BEGIN, call_blob_begin, FRONT, NO_GRANT, 0},
	{&STORE_BLOB_FINISH, call_blob_finish, FRONT, NO_GRANT, 0},
	{&STORE_BLOB_DROP, call_blob_drop, FRONT, NO_GRANT, 0},
	{&STORE_QUOTA, call_quota, ACCESS, ACCOUNT_IF_THERE, RIGHT_READ | RIGHT_ADMIN},
	{&STORE_ADMIT, call_admit, ACCESS, ACCOUNT_IF_THERE, RIGHT_WRITE | RIGHT_ADMIN},
	{&STORE_GRANT, call_grant, DIRECTORY, NO_GRANT, 0},
	{&STORE_RELEASE, call_release, DIRECTORY, NO_GRANT, 0},
	{&STORE_REVOKE, call_revoke, DIRECTORY, NO_GRANT, 0},
	{&STORE_GRANTS, call_grants, DIRECTORY, NO_GRANT, 0},
	{&STORE_FSCK, call_fsck, ADMIN, NO_GRANT, 0},
	{&STORE_STATUS, call_status, ADMIN, NO_GRANT, 0},
};

static const struct handler *handler_find(uint16_t number)
{
	for (size_t i = 0; i < ARRAY_SIZE(HANDLERS); i++)
		if (HANDLERS[i].call->number == number)
			return &HANDLERS[i];
	return NULL;
}

/* ---- waiting for a grant ---- */

static void parked_timer(void *ctx);

/* Directory tells of a grant before it answers the front end; only a new store process may be asked earlier. */
static void park(struct store_service *svc, struct rpc_request *req)
{
	int64_t now = clock_ms();
	struct parked p = {req, svc->started_ms + GRANT_GRACE_MS};

	if (p.until_ms < now + GRANT_WAIT_MS)
		p.until_ms = now + GRANT_WAIT_MS;
	vec_push(&svc->parked, p);
	timer_once(svc, TIMER_PARKED, GRANT_WAIT_MS, parked_timer);
}

static bool may_park(struct store_service *svc, const struct rpc_request *req)
{
	(void)req;
	return svc->parked.n < 100000 && clock_ms() - svc->started_ms < GRANT_GRACE_MS;
}

void parked_retry(struct store_service *svc)
{
	VEC(struct parked) list;

	if (svc->parked.n == 0)
		return;
	memcpy(&list, &svc->parked, sizeof(list));
	memset(&svc->parked, 0, sizeof(svc->parked));
	for (size_t i = 0; i < list.n; i++) {
		size_t before = svc->parked.n;

		service_handle(svc, list.v[i].req);
		/* Still without a grant: with the deadline that it had. */
		if (svc->parked.n > before)
			svc->parked.v[svc->parked.n - 1].until_ms = list.v[i].until_ms;
	}
	vec_release(&list);
}

static void parked_timer(void *ctx)
{
	struct store_service *svc = ctx;
	struct err err = ERR_NONE;
	size_t kept = 0;

	err_set(&err, ERR_DENIED, "4.7.0", "this session has no right to the account (any more)");
	for (size_t i = 0; i < svc->parked.n; i++) {
		if (svc->parked.v[i].until_ms > clock_ms())
			svc->parked.v[kept++] = svc->parked.v[i];
		else
			rpc_refuse(svc->parked.v[i].req, &err);
	}
	svc->parked.n = kept;
	if (kept > 0)
		timer_once(svc, TIMER_PARKED, GRANT_WAIT_MS, parked_timer);
}

/* ---- getting the account ---- */

/* True when the request waits now, for a rebuild or because it was refused. */
static bool account_busy(struct store_service *svc, uint64_t id, struct str path, struct rpc_request *req)
{
	struct runtime *rt = runtime_get(svc, id);
	struct account *a;
	struct err err = ERR_NONE;
	int rc;

	if (!rt->rebuilding) {
		rc = account_get(svc, id, &a, &err);
		if (rc > 0 || (rc == 0 && !account_has_files(svc, path)))
			return false;
		if (rc == 0)
			log_info("account %llu: has files but no index", (unsigned long long)id);
		else
			log_error("account %llu: %s", (unsigned long long)id, err.text);
		if (rt->rebuild_failed_ms && clock_ms() - rt->rebuild_failed_ms < REBUILD_AGAIN_MS) {
			err_set(&err, ERR_TEMP, "4.3.0", "the account cannot be opened for the moment");
			refuse(req, &err);
			return true;
		}
		if (account_rebuild(svc, id, path, &err) < 0) {
			refuse(req, &err);
			return true;
		}
		/* With nothing to wait for it is over already: nobody would wake what waits now. */
		if (!rt->rebuilding) {
			if (account_get(svc, id, &a, &err) > 0)
				return false;
			err_set(&err, ERR_TEMP, "4.3.0", "the account cannot be opened for the moment");
			refuse(req, &err);
			return true;
		}
	}
	vec_push(&rt->waiting, req);
	return true;
}

static struct account *account_ready(struct store_service *svc, struct grant *g, bool make, struct err *err)
{
	struct account *a = NULL;
	struct txn *t;
	int rc = account_get(svc, g->account, &a, err);

	if (rc != 0 || !make)
		return rc > 0 ? a : NULL;
	t = txn_new(svc);
	if (account_create(t, g->account, g->path, true, &a, err) < 0) {
		txn_abort(&t);
		return NULL;
	}
	return txn_commit(&t, NULL, NULL, err) < 0 ? NULL : a;
}

/* ---- a request ---- */

/* Deliveries name many accounts: each must be granted and whole before the first is touched. */
static bool deliver_busy(struct store_service *svc, struct peer *p, struct rpc_request *req)
{
	const struct store_deliver *msg = req->msg;

	for (size_t i = 0; i < msg->targets.n; i++) {
		struct grant *g = grant_find(svc, p, msg->session, msg->targets.v[i].account);

		if (!g && may_park(svc, req)) {
			park(svc, req);
			return true;
		}
		if (g && account_busy(svc, g->account, g->path, req))
			return true;
	}
	return false;
}

static bool prepare(struct call *c, const struct handler *h, struct err *err)
{
	const struct store_account *who = c->req->msg; /* each of these messages begins so */

	c->grant = grant_find(c->svc, c->peer, who->session, who->account);
	if (!c->grant && may_park(c->svc, c->req)) {
		park(c->svc, c->req);
		return false;
	}
	if (!c->grant) {
		err_set(err, ERR_DENIED, "4.7.0", "this session has no right to the account (any more)");
		refuse(c->req, err);
		return false;
	}
	if (!(c->grant->rights & h->rights)) {
		err_set(err, ERR_DENIED, "5.7.0", "this session has no right to do that to the account");
		refuse(c->req, err);
		return false;
	}
	if (h->needs == GRANT)
		return true;
	if (account_busy(c->svc, c->grant->account, c->grant->path, c->req))
		return false;
	c->account = account_ready(c->svc, c->grant, h->needs == ACCOUNT, err);
	if (!c->account && (h->needs == ACCOUNT || err->kind != ERR_OK)) {
		refuse(c->req, err);
		return false;
	}
	return true;
}

static bool may_ask(const struct peer *p, const struct handler *h)
{
	enum process_role role = process_tag_role(p->tag);
	unsigned is = p->directory ? DIRECTORY : role < PROCESS_ROLES ? 1u << role : 0;

	return (h->who & is) || (p->admin && !(h->who & DIRECTORY));
}

void service_handle(void *ctx, struct rpc_request *req)
{
	struct store_service *svc = ctx;
	struct peer *p = map_get_u64(svc->peers, rpc_peer_id(req->peer));
	const struct handler *h = handler_find(req->number);
	struct call c = {.svc = svc, .peer = p, .req = req};
	struct err err = ERR_NONE;

	if (!p || !h || !may_ask(p, h)) {
		err_set(&err, ERR_DENIED, "", "that is not for this process to ask");
		refuse(req, &err);
		return;
	}
	if (h->needs != NO_GRANT && !prepare(&c, h, &err))
		return;
	if (req->number == STORE_DELIVER.number && deliver_busy(svc, p, req))
		return;
	if (req->number == STORE_MAILBOXES.number)
		folders_look(svc, c.account);
	/* Looking may have committed, and with it forgotten, what was looked up before. */
	invariant(h->needs != ACCOUNT || c.grant);
	if (h->needs == ACCOUNT && !(c.account = account_ready(svc, c.grant, false, &err))) {
		refuse(req, &err);
		return;
	}
	h->fn(&c);
}

/* ---- peers ---- */

static void peer_closed(void *ctx, struct rpc_peer *rpc)
{
	struct store_service *svc = ctx;
	struct peer *p = map_remove_u64(svc->peers, rpc_peer_id(rpc));
	bool last = true;
	struct str key;
	void *value;

	if (!p)
		return;
	follow_peer_end(svc, p->id);
	blobs_peer_end(svc, p->id);
	for (size_t at = 0; map_next(svc->peers, &at, &key, &value);)
		if (((struct peer *)value)->tag == p->tag)
			last = false;
	if (last)
		grants_peer_end(svc, p->tag);
	for (size_t at = 0; map_next(svc->delivered, &at, &key, &value);)
		if (((struct confirmation *)value)->peer == p->id && !((struct confirmation *)value)->confirmed_ms) {
			map_remove(svc->delivered, key);
			confirmation_free(svc, value);
		}
	free(p);
}

struct new_peer {
	struct store_service *svc;
	int fd;
	uint64_t tag;
	bool directory, admin;
};

static void peer_add(void *ctx)
{
	struct new_peer *n = ctx;
	struct rpc_peer *rpc = rpc_server_add_peer(n->svc->server, n->fd, n->tag);
	struct peer *p;

	if (rpc) {
		p = NEW(struct peer);
		*p = (struct peer){.rpc = rpc, .id = rpc_peer_id(rpc), .tag = n->tag, .directory = n->directory};
		p->admin = n->admin;
		map_set_u64(n->svc->peers, p->id, p);
	}
	free(n);
}

void store_service_add_peer(struct store_service *svc, int fd, uint64_t tag, bool directory, bool admin)
{
	struct new_peer *n = NEW(struct new_peer);

	*n = (struct new_peer){svc, fd, tag, directory, admin};
	/* On the loop, so that no request comes before its peer is known. */
	rpc_server_after(svc->server, 0, peer_add, n);
}

/* ---- life ---- */

/* Recovery could not finish, on a full disk perhaps: a new process tries again when files can be written. */
static void recover_timer(void *ctx)
{
	struct store_service *svc = ctx;

	if (store_engine_may_recover(svc->engine)) {
		log_info("trying to recover again: starting anew");
		svc->start_anew = true;
		rpc_server_stop(svc->server);
		return;
	}
	timer_once(svc, TIMER_RECOVER, RECOVER_MS, recover_timer);
}

bool store_service_starts_anew(const struct store_service *svc)
{
	return svc->start_anew;
}

static void on_idle(void *ctx)
{
	accounts_trim(ctx);
}

/* What the engine hands over is kept in a list of ours, so that nothing is lost between the loop's end and the
 * engine's. */
static void posts_run(void *ctx)
{
	struct store_service *svc = ctx;
	struct post_list list;

	pthread_mutex_lock(&svc->posts_lock);
	list = svc->posts;
	memset(&svc->posts, 0, sizeof(svc->posts));
	pthread_mutex_unlock(&svc->posts_lock);
	for (size_t i = 0; i < list.n; i++)
		list.v[i].fn(list.v[i].arg);
	vec_release(&list);
}

static void post(void *ctx, void (*fn)(void *arg), void *arg)
{
	struct store_service *svc = ctx;
	struct post p = {fn, arg};
	bool first;

	pthread_mutex_lock(&svc->posts_lock);
	first = svc->posts.n == 0;
	vec_push(&svc->posts, p);
	pthread_mutex_unlock(&svc->posts_lock);
	if (first)
		rpc_server_after(svc->server, 0, posts_run, svc);
}

/* The host in the names of files: no byte that means something in a name. Maildir wants '/' and ':' escaped. */
static void host_set(struct store_service *svc)
{
	struct str host = svc->conf->myhostname;
	size_t n = 0;

	for (size_t i = 0; i < host.len && n < 64; i++) {
		char c = host.ptr[i];

		svc->host[n++] = ascii_alnum(c) || c == '.' || c == '-' ? c : '_';
	}
	if (n == 0)
		memcpy(svc->host, "localhost", n = 9);
	svc->host[n] = '\0';
}

static int open_engine(struct store_service *svc, const struct store_options *o, struct err *err)
{
	struct store_loop loop = {post, svc};
	struct store_local_options local = {.dirfd = o->state_dirfd,
					    .root_in_use = true,
					    .rootfd = o->mail_dirfd,
					    .loop = loop,
					    .message_size_limit = conf_stays_free(svc->conf),
					    .journal_size_limit = (uint64_t)svc->conf->journal_size_limit,
					    .ballast = BALLAST_BYTES};

	if (o->open_engine)
		return o->open_engine(o->open_ctx, &loop, &svc->engine, err);
	return store_engine_local_open(&local, &svc->engine, err);
}

struct store_service *store_service_new(const struct store_options *o, struct err *err)
{
	struct store_service *svc = NEW(struct store_service);
	struct rpc_service rpc = {.name = "store",
				  .table = STORE_CALLS,
				  .handle = service_handle,
				  .peer_closed = peer_closed,
				  .peer_name = process_tag_name,
				  .ctx = svc};

	svc->conf = conf_ref(o->conf);
	pthread_mutex_init(&svc->posts_lock, NULL);
	svc->server = rpc_server_new(&rpc);
	svc->accounts = map_new();
	svc->runtimes = map_new();
	svc->grants = map_new();
	svc->sessions = map_new();
	svc->peers = map_new();
	svc->followed = map_new();
	svc->blobs = map_new();
	svc->delivered = map_new();
	svc->started_ms = clock_ms();
	host_set(svc);
	if (open_engine(svc, o, err) < 0) {
		store_service_free(&svc);
		return NULL;
	}
	svc->jobs = jobs_new(svc, 4);
	watch_start(svc);
	rpc_server_on_idle(svc->server, on_idle, svc);
	purge_soon(svc);
	if (store_engine_read_only(svc->engine))
		timer_once(svc, TIMER_RECOVER, RECOVER_MS, recover_timer);
	tidy_start(svc);
	return svc;
}

void store_service_configure(struct store_service *svc, struct conf *conf)
{
	conf_unref(&svc->conf);
	svc->conf = conf;
	host_set(svc);
	store_engine_message_limit(svc->engine, conf_stays_free(conf));
}

void store_service_run(struct store_service *svc)
{
	svc->started_ms = clock_ms();
	rpc_server_run(svc->server);
}

bool store_service_read_only(const struct store_service *svc)
{
	return store_engine_read_only(svc->engine);
}

void store_service_stop(struct store_service *svc)
{
	rpc_server_stop(svc->server);
}

struct rpc_server *store_service_server(struct store_service *svc)
{
	return svc->server;
}

static void free_values(struct map **m)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(*m, &at, &key, &value);)
		free(value);
	map_free(m);
}

static void runtimes_free(struct store_service *svc)
{
	struct err err = ERR_NONE;
	struct str key;
	void *value;

	err_set(&err, ERR_TEMP, "4.3.0", "the store is being stopped");
	for (size_t i = 0; i < svc->parked.n; i++)
		rpc_refuse(svc->parked.v[i].req, &err);
	vec_release(&svc->parked);
	for (size_t at = 0; map_next(svc->runtimes, &at, &key, &value);) {
		struct runtime *rt = value;

		for (size_t i = 0; i < rt->waiting.n; i++)
			rpc_refuse(rt->waiting.v[i], &err);
		vec_release(&rt->waiting);
		vec_release(&rt->fscks);
		for (size_t i = 0; i < rt->given_up.n; i++)
			free(rt->given_up.v[i].folder);
		vec_release(&rt->given_up);
		for (size_t i = 0; i < rt->folders.n; i++) {
			vec_release(&rt->folders.v[i]->suspects);
			vec_release(&rt->folders.v[i]->waiters);
			free(rt->folders.v[i]);
		}
		vec_release(&rt->folders);
	}
	free_values(&svc->runtimes);
}

static void maps_free(struct store_service *svc)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(svc->accounts, &at, &key, &value);)
		account_forget(svc, map_key_u64(key));
	map_free(&svc->accounts);
	for (size_t at = 0; map_next(svc->peers, &at, &key, &value);)
		follow_peer_end(svc, map_key_u64(key));
	free_values(&svc->peers);
	map_free(&svc->followed);
	for (size_t at = 0; map_next(svc->sessions, &at, &key, &value);)
		grants_session_free(svc, key);
	map_free(&svc->sessions);
	map_free(&svc->grants);
	free_values(&svc->blobs);
	for (size_t at = 0; map_next(svc->delivered, &at, &key, &value);)
		confirmation_free(svc, value);
	map_free(&svc->delivered);
	vec_release(&svc->to_strike);
	vec_release(&svc->to_project);
}

void store_service_free(struct store_service **sp)
{
	struct store_service *svc = *sp;

	*sp = NULL;
	if (!svc)
		return;
	jobs_free(&svc->jobs);
	if (svc->engine) {
		delivery_notes_strike_all(svc);
		claims_save(svc);
		folders_save(svc);
	}
	watch_stop(svc);
	store_engine_close(&svc->engine);
	while (svc->posts.n > 0)
		posts_run(svc);
	runtimes_free(svc);
	rpc_server_free(&svc->server); /* tells of each peer's end */
	maps_free(svc);
	conf_unref(&svc->conf);
	vec_release(&svc->posts);
	pthread_mutex_destroy(&svc->posts_lock);
	free(svc);
}
