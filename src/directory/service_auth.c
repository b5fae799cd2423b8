/* The log-in calls of the service: see directory/schema.h. */
#include "base/clock.h"
#include "base/mem.h"
#include "directory/accounts.h"
#include "directory/service_private.h"

#define EXCHANGES_MAX 16384

struct key {
	uint64_t peer, session;
};
#define KEY_STR(k) str_of(&(k), sizeof(k))

/* ---- exchanges under way ---- */

static struct sasl *exchange_take(struct directory_service *s, uint64_t peer, uint64_t session)
{
	struct key key = {peer, session};
	struct sasl *sasl;

	pthread_mutex_lock(&s->lock);
	sasl = map_remove(s->exchanges, KEY_STR(key));
	pthread_mutex_unlock(&s->lock);
	return sasl;
}

/* False: too many are under way. Takes sasl over in any case. */
static bool exchange_put(struct directory_service *s, uint64_t peer, uint64_t session, struct sasl *sasl)
{
	struct key key = {peer, session};
	struct sasl *old = NULL;
	bool room;

	pthread_mutex_lock(&s->lock);
	room = map_count(s->exchanges) < EXCHANGES_MAX;
	/* The peer may have gone while the step ran: peer_closed will not come again. */
	if (room && grants_peer_live(s->grants, peer))
		old = map_set(s->exchanges, KEY_STR(key), sasl);
	else
		old = sasl;
	pthread_mutex_unlock(&s->lock);
	sasl_free(&old);
	return room;
}

void service_exchange_drop(struct directory_service *s, uint64_t peer, const uint64_t *session)
{
	struct sasl *one;
	struct str key;
	void *value;

	if (session) {
		one = exchange_take(s, peer, *session);
		sasl_free(&one);
		return;
	}
	pthread_mutex_lock(&s->lock);
	for (size_t at = 0; map_next(s->exchanges, &at, &key, &value);) {
		struct key k;

		memcpy(&k, key.ptr, sizeof(k));
		if (k.peer != peer)
			continue;
		one = map_remove(s->exchanges, key);
		sasl_free(&one);
	}
	pthread_mutex_unlock(&s->lock);
}

void service_exchanges_free(struct directory_service *s)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(s->exchanges, &at, &key, &value);) {
		struct sasl *sasl = value;

		sasl_free(&sasl);
	}
	map_free(&s->exchanges);
}

/* ---- what is offered ---- */

static bool needs_tls(struct str mechanism)
{
	return str_iends(mechanism, STR("-PLUS"));
}

void service_mechanisms(struct work *w)
{
	const struct dir_mechanisms *ask = w->req->msg;
	struct dir_mechanism_list list;
	struct str rest = w->conf->auth_mechanisms, name;
	struct buf names;

	buf_init(&names, 1024);
	while (conf_list_next(&rest, &name))
		if (ask->tls || !needs_tls(name))
			buf_addf(&names, "%s%.*s", names.len ? " " : "", STR_ARG(name));
	list.names = arena_str(&w->req->arena, buf_str(&names));
	buf_release(&names);
	rpc_answer(w->req, &list);
}

static bool mechanism_offered(const struct work *w, struct str mechanism, bool tls)
{
	struct str rest = w->conf->auth_mechanisms, name;

	while (conf_list_next(&rest, &name))
		if (str_ieq(name, mechanism))
			return tls || !needs_tls(mechanism);
	return false;
}

/* ---- users ---- */

static int find_user(void *ctx, struct str user, struct arena *arena, struct account *user_r, struct err *err)
{
	const struct work *w = ctx;

	return user_find(w->db, work_login_name(w, user), arena, user_r, err);
}

static struct sasl_env env_of(struct work *w)
{
	struct sasl_env env = {.find = find_user,
			       .ctx = w,
			       .scram_iterations = (uint32_t)w->conf->auth_scram_iterations,
			       .verified = w->service->verified,
			       .verified_ms = w->conf->auth_cache_time};

	memcpy(env.secret, w->service->secret, sizeof(env.secret));
	return env;
}

/* ---- answering ---- */

/* The name that failures are counted under. A domain can be spelled in many ways; whether there is such a user must not
 * make a difference. */
static struct str name_counted(struct work *w, struct str user)
{
	struct arena *arena = &w->req->arena;
	struct address_key key;

	return address_key(user, false, arena, &key)
		       ? arena_printf(arena, "%.*s@%.*s", STR_ARG(key.local_key), STR_ARG(key.domain))
		       : user;
}

static void answer_refusal(struct work *w, enum dir_auth_status status, struct str user, struct str client,
			   const struct err *why)
{
	struct dir_auth answer = {.status = (uint8_t)status, .text = str_from(why->text)};

	if (user.len > 0 && user.len <= SASL_USER_MAX)
		answer.user = work_login_name(w, user);
	if (status == AUTH_FAILED)
		answer.delay_ms = penalty_failed(w->service->penalty, client, name_counted(w, answer.user), clock_ms(),
						 w->conf->auth_failure_delay, w->conf->auth_failure_delay_max);
	rpc_answer(w->req, &answer);
}

/* SMTP may deliver and nothing more: resolving gives it that. Only the process that serves mailboxes gets one opened,
 * whatever service another one claims to speak. */
static uint8_t rights_of(const struct work *w, struct str service)
{
	if (process_tag_role(rpc_peer_tag(w->req->peer)) != PROCESS_ACCESS)
		return 0;
	return str_eq(service, STR("imap")) || str_eq(service, STR("pop3")) ? RIGHTS_FULL : 0;
}

static void answer_ok(struct work *w, uint64_t session, struct str service, const struct account *account,
		      uint64_t epoch)
{
	struct dir_auth answer = {
		.status = AUTH_OK, .account = account->id, .user = arena_str(&w->req->arena, account->address)};
	struct grant_ask grant = {.peer = w->peer, .session = session, .rights = rights_of(w, service), .epoch = epoch};
	struct err err = ERR_NONE;

	if (grant.rights && work_grant(w, &grant, account, NULL, &err) < 0) {
		answer_refusal(w, AUTH_TEMP, account->address, STR_NULL, &err);
		return;
	}
	penalty_passed(w->service->penalty, account->address);
	rpc_answer(w->req, &answer);
}

/* The request's bytes are this process's own by now; passwords do not stay in them. */
static void wipe(struct str secret)
{
	if (secret.len > 0)
		mem_wipe((void *)(uintptr_t)secret.ptr, secret.len);
}

/* ---- user and password in one command ---- */

void service_auth_plain(struct work *w)
{
	const struct dir_auth_plain *ask = w->req->msg;
	uint64_t epoch = grants_epoch(w->service->grants);
	struct sasl_env env = env_of(w);
	struct err why = ERR_NONE;
	struct account account;
	enum dir_auth_status status = sasl_verify(&env, ask->user, ask->password, &w->req->arena, &account, &why);

	wipe(ask->password);
	if (status == AUTH_OK)
		answer_ok(w, ask->session, ask->service, &account, epoch);
	else
		answer_refusal(w, status, ask->user, ask->client, &why);
}

/* ---- SASL ---- */

static void step(struct work *w, struct sasl *sasl, uint64_t session, const struct str *response)
{
	struct sasl_env env = env_of(w);
	struct err why = ERR_NONE;
	enum dir_auth_status status;
	struct dir_auth answer;
	struct buf challenge;

	buf_init(&challenge, SASL_RESPONSE_MAX);
	status = sasl_step(sasl, &env, response, &challenge, &why);
	wipe(response ? *response : STR_NULL);
	if (status == AUTH_CONTINUE && buf_failed(&challenge)) {
		status = AUTH_INVALID;
		err_set(&why, ERR_LIMIT, "5.5.2", "SASL message too long");
	}
	if (status == AUTH_CONTINUE) {
		answer = (struct dir_auth){.status = AUTH_CONTINUE,
					   .challenge = arena_str(&w->req->arena, buf_str(&challenge))};
		if (exchange_put(w->service, w->peer, session, sasl)) {
			rpc_answer(w->req, &answer);
		} else {
			err_set(&why, ERR_TEMP, "4.7.0", "too many log-ins under way");
			answer_refusal(w, AUTH_TEMP, STR_NULL, STR_NULL, &why);
		}
		buf_release(&challenge);
		return;
	}
	if (status == AUTH_OK)
		answer_ok(w, session, sasl_service(sasl), sasl_account(sasl), sasl_epoch(sasl));
	else
		answer_refusal(w, status, sasl_user(sasl), sasl_client(sasl), &why);
	sasl_free(&sasl);
	buf_release(&challenge);
}

void service_auth_start(struct work *w)
{
	const struct dir_auth_start *ask = w->req->msg;
	/* Who says that he could bind, and did not see that we can, is right where we do not say so (RFC 5802 6). */
	bool binds = ask->tls && mechanism_offered(w, STR("SCRAM-SHA-256-PLUS"), true);
	struct sasl_options options = {
		.mechanism = ask->mechanism,
		.binding_exporter = binds ? ask->binding_exporter : STR_NULL,
		.binding_unique = binds ? ask->binding_unique : STR_NULL,
		.service = ask->service,
		.client = ask->client,
		.epoch = grants_epoch(w->service->grants),
	};
	struct err why = ERR_NONE;
	struct sasl *sasl;

	service_exchange_drop(w->service, w->peer, &ask->session);
	sasl = mechanism_offered(w, ask->mechanism, ask->tls) ? sasl_new(&options) : NULL;
	if (!sasl) {
		err_set(&why, ERR_SYNTAX, "5.5.4", "no such mechanism");
		answer_refusal(w, AUTH_INVALID, STR_NULL, ask->client, &why);
		return;
	}
	step(w, sasl, ask->session, ask->has_initial ? &ask->initial : NULL);
}

void service_auth_step(struct work *w)
{
	const struct dir_auth_step *ask = w->req->msg;
	struct sasl *sasl = exchange_take(w->service, w->peer, ask->session);
	struct err why = ERR_NONE;

	if (!sasl) {
		err_set(&why, ERR_SYNTAX, "5.5.1", "no log-in is under way");
		answer_refusal(w, AUTH_INVALID, STR_NULL, STR_NULL, &why);
		return;
	}
	step(w, sasl, ask->session, &ask->response);
}
