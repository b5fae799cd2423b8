/* DIR_RESOLVE.
 *
 * The usual question is answered on the loop: the cache knows where the address leads, the store is told of the grant
 * without anybody waiting, and its word brings the answer on the way. Everything else, and every failure, is a
 * thread's: it asks the database, tells the store of each target in turn, and puts the answer into the cache. */
#include "base/log.h"
#include "directory/service_private.h"
#include "msg/address.h"

struct resolve_rules resolve_rules_of(const struct conf *conf, const struct finder *finder)
{
	struct resolve_rules rules = {
		.delimiter = conf->recipient_delimiter,
		.recursion_limit = (unsigned)conf->virtual_alias_recursion_limit,
		.expansion_limit = (unsigned)conf->virtual_alias_expansion_limit,
		.default_domain = conf->auth_default_domain,
		.local_domains = conf->mydestination,
		.finder = finder,
	};
	struct str propagate = conf->propagate_unmatched_extensions;

	rules.propagate = conf_list_ihas(propagate, STR("virtual"));
	rules.propagate_aliases = conf_list_ihas(propagate, STR("alias"));
	rules.propagate_lists = conf_list_ihas(propagate, STR("include"));
	return rules;
}

/* What the store thought of the message's size. */
static void answer_full(struct dir_resolved *answer, struct arena *arena, const struct err *verdict)
{
	if (!grants_is_verdict(verdict))
		return;
	answer->full = (uint8_t)verdict->kind;
	answer->full_code = arena_str(arena, str_from(verdict->code));
	answer->full_text = arena_str(arena, str_from(verdict->text));
}

static struct dir_target target_of(const struct resolved_target *t)
{
	return (struct dir_target){.account = t->account, .address = t->address, .extension = t->extension};
}

static struct grant_ask grant_for(const struct dir_resolve *ask, uint64_t peer, uint64_t epoch)
{
	return (struct grant_ask){.peer = peer,
				  .session = ask->session,
				  .rights = RIGHT_DELIVER,
				  .epoch = epoch,
				  .admit = ask->admit != 0,
				  .size = ask->size};
}

/* ---- on the loop ---- */

struct early {
	struct directory_service *service;
	struct rpc_request *req;
	struct dir_resolved answer;
	struct dir_target target;
};

static void early_done(void *ctx, bool told, bool settle, const struct err *verdict)
{
	struct early *e = ctx; /* lives as long as the request */

	if (settle)
		service_settle_soon(e->service);
	if (!told) {
		rpc_defer(e->req);
		return;
	}
	if (verdict)
		answer_full(&e->answer, &e->req->arena, verdict);
	rpc_answer(e->req, &e->answer);
}

bool service_cache_ready(struct directory_service *s)
{
	uint64_t version, reload;

	/* First: what a look-up made of an older configuration finds no state to be kept for. */
	pthread_mutex_lock(&s->lock);
	reload = s->reloads;
	pthread_mutex_unlock(&s->lock);
	if (db_data_version(s->cache_db, &version, NULL) < 0)
		return false;
	resolve_cache_renew(s->cache, version, reload);
	return true;
}

/* An address of a domain that is known to be nobody's here. */
static bool foreign_early(struct directory_service *s, struct rpc_request *req)
{
	const struct dir_resolve *ask = req->msg;
	struct dir_target target = {.address = ask->address, .extension = STR("")};
	struct dir_resolved answer = {
		.class = RCPT_REMOTE, .everybody = 1, .full_code = STR(""), .full_text = STR(""), .owner = STR("")};
	struct str domain;

	if (!domain_normalize(address_split(ask->address).domain, &req->arena, &domain) ||
	    !(resolve_cache_domain(s->cache, domain) & DOMAIN_FOREIGN))
		return false;
	answer.targets.v = &target;
	answer.targets.n = 1;
	rpc_answer(req, &answer);
	return true;
}

bool service_resolve_early(struct directory_service *s, struct rpc_request *req)
{
	const struct dir_resolve *ask = req->msg;
	uint64_t epoch = grants_epoch(s->grants);
	struct resolved_target target;
	struct grant_ask grant = grant_for(ask, rpc_peer_id(req->peer), epoch);
	struct early *e;
	bool stale = false;
	int added;

	/* The cache knows addresses as they are. */
	if (ask->maps != 0 || !service_cache_ready(s))
		return false;
	if (!resolve_cache_find(s->cache, ask->address, &req->arena, &target))
		return foreign_early(s, req);
	e = ARENA_NEW(&req->arena, struct early);
	*e = (struct early){.service = s, .req = req, .target = target_of(&target)};
	e->answer = (struct dir_resolved){.class = RCPT_LOCAL};
	e->answer.targets.n = 1;
	e->answer.targets.v = &e->target;
	/* From here on the request may be gone whenever the store is asked. */
	added = grants_add_async(s->grants, &grant, target.user, &stale, early_done, e);
	if (added < 0)
		return false;
	service_granted(s, stale);
	if (added < 2)
		rpc_answer(req, &e->answer);
	else
		service_watch_calls(s);
	return true;
}

/* ---- on a thread ---- */

/* The grants stand before the answer goes out, so that the caller may use them at once. */
void service_resolve(struct work *w)
{
	const struct dir_resolve *ask = w->req->msg;
	struct grant_ask grant = grant_for(ask, w->peer, grants_epoch(w->service->grants));
	struct finder finder = work_finder(w);
	struct router router = {.db = w->db, .finder = finder};
	struct resolve_rules rules = resolve_rules_of(w->conf, &finder);
	struct dir_resolved answer = {0};
	struct err err = ERR_NONE, verdict = ERR_NONE;
	struct resolved r;

	rules.whole = ask->whole;
	rules.maps = ask->maps;
	if (!ask->here && route_matters(w->conf))
		rules.router = &router;
	if (resolve(w->db, &rules, ask->address, &w->req->arena, &r, &err) < 0) {
		if (err.sys == 0 && err.code[0] && strcmp(err.code, "4.3.0") != 0)
			log_warning("%.*s: %s", STR_ARG(ask->address), err.text);
		rpc_refuse(w->req, &err);
		return;
	}
	if (r.refused.kind != ERR_OK)
		r.foreign = STR("");
	if (ask->maps == 0 && !ask->here)
		resolve_cache_put(w->service->cache, w->cache_state, ask->address, &r);
	else
		r.foreign = STR("");
	answer.rewritten = r.rewritten;
	if (r.foreign.len > 0)
		resolve_cache_put_domain(w->service->cache, w->cache_state, r.foreign,
					 DOMAIN_ELSEWHERE | DOMAIN_FOREIGN);
	answer.everybody = r.foreign.len > 0;
	answer.class = (uint8_t)r.class;
	answer.owner = r.owner;
	answer.refused = (uint8_t)r.refused.kind;
	answer.refused_code = str_from(r.refused.code);
	answer.refused_text = str_from(r.refused.text);
	/* Of a list who cannot take it is its owner's to hear. */
	grant.admit = grant.admit && r.owner.len == 0;
	answer.targets.n = r.targets.n;
	answer.targets.v = ARENA_ARRAY(&w->req->arena, struct dir_target, r.targets.n ? r.targets.n : 1);
	for (size_t i = 0; i < r.targets.n; i++) {
		const struct resolved_target *t = &r.targets.v[i];

		answer.targets.v[i] = target_of(t);
		if (t->user && work_grant(w, &grant, t->user, &verdict, &err) < 0) {
			rpc_refuse(w->req, &err);
			return;
		}
		/* One that refuses speaks for all; and a store that does not answer is not asked for each. */
		if (verdict.kind != ERR_OK)
			grant.admit = false;
	}
	answer_full(&answer, &w->req->arena, &verdict);
	rpc_answer(w->req, &answer);
}
