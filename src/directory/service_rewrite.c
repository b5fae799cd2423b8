/* DIR_REWRITE: what tables make of the addresses of a message. */
#include "directory/rewrite.h"
#include "directory/service_private.h"

/* Who may have which maps asked: a client's message is rewritten as it comes in, another system's as it leaves. */
static bool may_have(struct work *w, const struct dir_rewrite *ask, struct err *err)
{
	enum process_role role = process_tag_role(rpc_peer_tag(w->req->peer));
	unsigned allowed = role == PROCESS_RELAY ? REWRITE_BY_GENERIC
						 : REWRITE_BY_SENDER_CANONICAL | REWRITE_BY_RECIPIENT_CANONICAL |
							   REWRITE_BY_CANONICAL | REWRITE_BY_MASQUERADE;

	for (size_t i = 0; i < ask->addresses.n; i++)
		if (ask->addresses.v[i].maps & ~allowed)
			return err_set(err, ERR_DENIED, "5.7.1", "this process does not ask for that rewriting"), false;
	if (!table_set_may_read(w->tables, ask->generic, role))
		return err_set(err, ERR_DENIED, "5.7.1", "this process does not look things up in %.*s",
			       STR_ARG(str_sub(ask->generic, 0, 100))),
		       false;
	if (ask->addresses.n > DIR_REWRITE_MAX)
		return err_set(err, ERR_LIMIT, "4.3.0", "%zu addresses at once", ask->addresses.n), false;
	return true;
}

void service_rewrite(struct work *w)
{
	const struct dir_rewrite *ask = w->req->msg;
	struct arena *arena = &w->req->arena;
	struct finder finder = {.set = w->tables, .conf = w->conf, .arena = arena};
	struct dir_rewritten answer = {0};
	struct err err = ERR_NONE;
	int rc = may_have(w, ask, &err) ? 0 : -1;

	answer.addresses.v = ARENA_ARRAY(arena, struct dir_rewritten_one, ask->addresses.n + 1);
	answer.addresses.n = ask->addresses.n;
	for (size_t i = 0; i < ask->addresses.n && rc >= 0; i++) {
		struct str to;

		rc = rewrite_address(&finder, ask->addresses.v[i].address, ask->addresses.v[i].maps, ask->generic, &to,
				     &err);
		answer.addresses.v[i].address = rc > 0 ? to : STR("");
	}
	if (rc < 0)
		rpc_refuse(w->req, &err);
	else
		rpc_answer(w->req, &answer);
}
