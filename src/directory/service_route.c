/* DIR_ROUTE, DIR_ROUTE_ALL: by which transport mail travels. DIR_LOOKUP: what a table says. */
#include "directory/route.h"
#include "directory/service_private.h"
#include "msg/address.h"

static int route_one(const struct router *router, struct str sender, struct str recipient, struct dir_routed *to,
		     struct err *err)
{
	struct route found;

	if (route(router, sender, recipient, &found, err) < 0)
		return -1;
	to->class = (uint8_t)found.class;
	to->transport = found.transport;
	to->nexthop = found.nexthop;
	to->recipient = found.recipient;
	return 0;
}

static struct router work_router(const struct work *w)
{
	return (struct router){.db = w->db, .finder = work_finder(w)};
}

void service_route(struct work *w)
{
	const struct dir_route *ask = w->req->msg;
	struct router router = work_router(w);
	struct dir_routed answer = {0};
	struct err err = ERR_NONE;

	if (route_one(&router, ask->sender, ask->recipient, &answer, &err) < 0)
		rpc_refuse(w->req, &err);
	else
		rpc_answer(w->req, &answer);
}

/* ---- DIR_ROUTE_ALL ---- */

static bool domain_of(struct str address, struct arena *arena, struct str *domain_r)
{
	return domain_normalize(address_split(address).domain, arena, domain_r);
}

/* For the loop: mail to this domain goes elsewhere, whoever asks the database. */
static void note_domain(const struct work *w, struct str asked, const struct dir_routed *routed)
{
	struct arena *arena = &w->req->arena;
	struct str before, after;

	if ((routed->class == ROUTE_RELAY || routed->class == ROUTE_DEFAULT) && domain_of(asked, arena, &before) &&
	    domain_of(routed->recipient, arena, &after) && str_eq(before, after))
		resolve_cache_put_domain(w->service->cache, w->cache_state, after, DOMAIN_ELSEWHERE);
}

/* w: the thread's, whose look-up is noted; or NULL. */
static void answer_all(const struct router *router, struct rpc_request *req, const struct work *w)
{
	const struct dir_route_all *ask = req->msg;
	struct dir_routed_all answer = {0};
	struct err err = ERR_NONE;

	if (ask->recipients.n > DIR_ROUTE_ALL_MAX) {
		err_set(&err, ERR_LIMIT, "4.3.0", "%zu recipients at once", ask->recipients.n);
		rpc_refuse(req, &err);
		return;
	}
	answer.recipients.v = ARENA_ARRAY(&req->arena, struct dir_routed_one, ask->recipients.n + 1);
	answer.recipients.n = ask->recipients.n;
	for (size_t i = 0; i < ask->recipients.n; i++) {
		struct dir_routed_one *one = &answer.recipients.v[i];
		struct err why = ERR_NONE;

		if (route_one(router, ask->recipients.v[i].sender, ask->recipients.v[i].recipient, &one->routed,
			      &why) == 0) {
			if (w != NULL)
				note_domain(w, ask->recipients.v[i].recipient, &one->routed);
			continue;
		}
		one->kind = (uint8_t)why.kind;
		one->code = arena_str(&req->arena, str_from(why.code));
		one->text = arena_str(&req->arena, str_from(why.text));
	}
	rpc_answer(req, &answer);
}

void service_route_all(struct work *w)
{
	struct router router = work_router(w);

	answer_all(&router, w->req, w);
}

/* The database has nothing to say of any of them. */
static bool all_are_elsewhere(struct directory_service *s, struct rpc_request *req)
{
	const struct dir_route_all *ask = req->msg;
	struct str domain;

	for (size_t i = 0; i < ask->recipients.n; i++)
		if (!domain_of(ask->recipients.v[i].recipient, &req->arena, &domain) ||
		    !(resolve_cache_domain(s->cache, domain) & DOMAIN_ELSEWHERE))
			return false;
	return ask->recipients.n <= DIR_ROUTE_ALL_MAX;
}

/* What waits for no disk and walks no rules is answered here and now: a thread would have to be woken for it. */
bool service_route_early(struct directory_service *s, struct rpc_request *req)
{
	struct router router = {.finder = {.arena = &req->arena}};
	struct table_set *tables;
	struct conf *conf;
	bool quick;

	if (!service_cache_ready(s) || !all_are_elsewhere(s, req))
		return false;
	pthread_mutex_lock(&s->lock);
	conf = conf_ref(s->conf);
	tables = table_set_ref(s->tables);
	pthread_mutex_unlock(&s->lock);
	router.finder.conf = conf;
	router.finder.set = tables;
	quick = table_set_routes_quickly(tables);
	if (quick)
		answer_all(&router, req, NULL);
	conf_unref(&conf);
	table_set_unref(&tables);
	return quick;
}

/* ---- DIR_LOOKUP ---- */

static int look_up(const struct finder *f, const struct dir_lookup *ask, struct str list, struct str *value_r,
		   struct err *err)
{
	unsigned access = list_parent_style(f->conf, STR("smtpd_access_maps"));
	struct net_addr client;

	switch ((enum dir_lookup_how)ask->how) {
	case LOOKUP_KEY:
	case LOOKUP_PART:
		return maps_find(f->set, list, ask->key, ask->how == LOOKUP_PART, f->arena, value_r, err);
	case LOOKUP_ADDRESS:
		return find_address(f, list, ask->key, FIND_DEFAULT, 0, value_r, NULL, err);
	case LOOKUP_DOMAIN:
		return find_domain(f, list, ask->key, false, list_parent_style(f->conf, ask->parameter), value_r, err);
	case LOOKUP_ACCESS_ADDRESS:
		return find_address(f, list, ask->key, FIND_DOMAIN | FIND_LOCALPART_AT, access, value_r, NULL, err);
	case LOOKUP_ACCESS_NAME:
		return find_domain(f, list, ask->key, false, access, value_r, err);
	case LOOKUP_ACCESS_CLIENT:
		return find_client_address(f, list, ask->key, value_r, err);
	case LOOKUP_DOMAIN_LIST:
		*value_r = STR("");
		return list_match(f->set, list, ask->key, LIST_DOMAINS | list_parent_style(f->conf, ask->parameter),
				  f->arena, err);
	case LOOKUP_NETWORKS:
		*value_r = STR("");
		return net_addr_parse(ask->key, 0, &client) ? list_match_address(f->set, list, &client, f->arena, err)
							    : 0;
	}
	return err_set(err, ERR_SYNTAX, "", "there is no look-up of kind %u", ask->how);
}

void service_lookup(struct work *w)
{
	const struct dir_lookup *ask = w->req->msg;
	struct finder finder = {.set = w->tables, .conf = w->conf, .arena = &w->req->arena};
	enum process_role role = process_tag_role(rpc_peer_tag(w->req->peer));
	struct str list = ask->list;
	struct dir_found answer = {0};
	struct err err = ERR_NONE;
	struct buf value;
	int rc = -1;

	buf_init(&value, 1 << 20);
	if (list.len == 0 && conf_text(w->conf, ask->parameter, &value))
		list = buf_str(&value);
	/* A list of its own must not lead to tables that hold somebody else's secrets. */
	if (!table_set_may_ask(role, ask->parameter) || !table_set_may_read(w->tables, list, role))
		err_set(&err, ERR_DENIED, "5.7.1", "this process does not look things up in %.*s %.*s",
			STR_ARG(str_sub(ask->parameter, 0, 60)), STR_ARG(str_sub(list, 0, 100)));
	else
		rc = look_up(&finder, ask, list, &answer.value, &err);
	answer.found = rc > 0;
	if (rc < 0)
		rpc_refuse(w->req, &err);
	else
		rpc_answer(w->req, &answer);
	buf_release(&value);
}
