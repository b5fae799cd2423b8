/* DIR_ROUTE: by which transport mail travels. DIR_LOOKUP: what a table says. */
#include "directory/route.h"
#include "directory/service_private.h"

void service_route(struct work *w)
{
	const struct dir_route *ask = w->req->msg;
	struct router router = {.db = w->db, .finder = {.set = w->tables, .conf = w->conf, .arena = &w->req->arena}};
	struct dir_routed answer = {0};
	struct err err = ERR_NONE;
	struct route found;

	if (route(&router, ask->sender, ask->recipient, &found, &err) < 0) {
		rpc_refuse(w->req, &err);
		return;
	}
	answer.class = (uint8_t)found.class;
	answer.transport = found.transport;
	answer.nexthop = found.nexthop;
	answer.recipient = found.recipient;
	rpc_answer(w->req, &answer);
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
