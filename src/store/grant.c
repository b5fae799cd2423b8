/* grant - what directory has allowed: (front end's channel, its session, account) to rights, path and quota. */
#include "base/clock.h"
#include "store/service_private.h"

struct grant_key {
	uint64_t tag, session, account;
};

struct session_key {
	uint64_t tag, session;
};

/* The accounts that a session was granted. */
struct session_grants {
	VEC(uint64_t) accounts;
};

struct grant *grant_find(struct store_service *svc, const struct peer *p, uint64_t session, uint64_t account)
{
	struct grant_key key = {p->tag, session, account};

	return map_get(svc->grants, str_of(&key, sizeof(key)));
}

static void grant_free(struct store_service *svc, struct grant *g)
{
	struct grant_key key = {g->tag, g->session, g->account};

	map_remove(svc->grants, str_of(&key, sizeof(key)));
	free((void *)(uintptr_t)g->path.ptr);
	free(g);
}

/* Relative, without "..": where an account may be is directory's word, but never outside of the root. */
static bool path_ok(struct str path)
{
	struct str rest = path, part;
	bool more = true;

	if (path.len == 0 || path.len > 1024 || str_has_control(path))
		return false;
	while (more) {
		more = str_split(rest, '/', &part, &rest);
		if (part.len == 0 || part.len > 255 || str_eq(part, STR(".")) || str_eq(part, STR("..")))
			return more ? false : part.len == 0; /* one '/' at the end is fine */
	}
	return true;
}

static struct str without_slash(struct str path)
{
	return path.len > 0 && path.ptr[path.len - 1] == '/' ? str_sub(path, 0, path.len - 1) : path;
}

/* An account that has moved says so in its header, so that fsck and the purge find it. */
static void account_path_set(struct store_service *svc, uint64_t id, struct str path)
{
	struct account *a = map_get_u64(svc->accounts, id);

	if (!a || str_eq(a->header.path, path))
		return;
	free((void *)(uintptr_t)a->header.path.ptr);
	a->header.path = str_own(path);
	a->dirty = true;
}

static void session_add(struct store_service *svc, uint64_t tag, uint64_t session, uint64_t account);

/* Would the account take so much now? One that cannot be opened at the moment is judged when the message is there:
 * directory is not kept waiting for a rebuild. */
static int grant_admit(struct store_service *svc, struct grant *g, uint64_t size, struct err *err)
{
	struct runtime *rt = runtime_get(svc, g->account);
	struct account *a = NULL;

	if (!rt->rebuilding && account_get(svc, g->account, &a, NULL) < 0)
		a = NULL;
	if (delivery_quota(svc, g, a, size, err) < 0)
		return -1;
	if (store_engine_admit(svc->engine, g->path, size, err) == 0)
		return 0;
	return err->kind == ERR_FULL ? -1 : 0;
}

void grants_handle_grant(struct store_service *svc, struct peer *p, struct rpc_request *req)
{
	const struct store_grant *msg = req->msg;
	struct grant_key key = {msg->peer_tag, msg->session, msg->account};
	struct store_ok *ok = ARENA_NEW(&req->arena, struct store_ok);
	struct str path = without_slash(msg->path);
	struct err err = ERR_NONE;
	struct grant *g;

	(void)p;
	if (msg->account == 0 || !path_ok(path)) {
		err_set(&err, ERR_PERM, "5.2.0", "the account's path is not one below the mail directory");
		refuse(req, &err);
		return;
	}
	g = map_get(svc->grants, str_of(&key, sizeof(key)));
	if (!g) {
		g = NEW(struct grant);
		map_set(svc->grants, str_of(&key, sizeof(key)), g);
		session_add(svc, msg->peer_tag, msg->session, msg->account);
	} else {
		free((void *)(uintptr_t)g->path.ptr);
	}
	*g = (struct grant){.tag = msg->peer_tag,
			    .session = msg->session,
			    .account = msg->account,
			    .rights = msg->rights,
			    .quota_bytes = msg->quota_bytes,
			    .quota_messages = msg->quota_messages,
			    .serial = msg->serial,
			    .path = str_own(path)};
	account_path_set(svc, g->account, g->path);
	if (msg->admit && grant_admit(svc, g, msg->size, &err) < 0)
		refuse(req, &err);
	else
		rpc_answer(req, ok);
	parked_retry(svc);
}

static void grants_drop_account(struct store_service *svc, uint64_t account)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(svc->grants, &at, &key, &value);) {
		struct grant *g = value;

		if (g->account == account)
			grant_free(svc, g);
	}
}

/* Sessions end all the time: their own grants are looked up, never all walked through. */
static void session_drop(struct store_service *svc, uint64_t tag, uint64_t session)
{
	struct session_key key = {tag, session};
	struct session_grants *s = map_remove(svc->sessions, str_of(&key, sizeof(key)));

	if (!s)
		return;
	for (size_t i = 0; i < s->accounts.n; i++) {
		struct grant_key g = {tag, session, s->accounts.v[i]};
		struct grant *grant = map_get(svc->grants, str_of(&g, sizeof(g)));

		if (grant)
			grant_free(svc, grant);
	}
	vec_release(&s->accounts);
	free(s);
}

static void session_add(struct store_service *svc, uint64_t tag, uint64_t session, uint64_t account)
{
	struct session_key key = {tag, session};
	struct session_grants *s = map_get(svc->sessions, str_of(&key, sizeof(key)));

	if (!s) {
		s = NEW(struct session_grants);
		map_set(svc->sessions, str_of(&key, sizeof(key)), s);
	}
	vec_push(&s->accounts, account);
}

void grants_handle_release(struct store_service *svc, struct peer *p, struct rpc_request *req)
{
	const struct store_release *msg = req->msg;
	struct str key;
	void *value;

	(void)p;
	session_drop(svc, msg->peer_tag, msg->session);
	for (size_t at = 0; map_next(svc->peers, &at, &key, &value);) {
		struct peer *front = value;

		if (front->tag == msg->peer_tag)
			follow_session_end(svc, front->id, msg->session);
	}
	rpc_answer(req, NULL);
}

void grants_handle_revoke(struct store_service *svc, struct peer *p, struct rpc_request *req)
{
	const struct store_revoke *msg = req->msg;

	(void)p;
	grants_drop_account(svc, msg->account);
	follow_revoke(svc, msg->account);
	rpc_answer(req, ARENA_NEW(&req->arena, struct store_ok));
}

/* ---- for a directory that was started anew ---- */

#define LIST_MAX 5000

static int grant_compare(const void *one, const void *two)
{
	const struct grant *a = *(const struct grant *const *)one, *b = *(const struct grant *const *)two;

	if (a->tag != b->tag)
		return a->tag < b->tag ? -1 : 1;
	if (a->session != b->session)
		return a->session < b->session ? -1 : 1;
	return a->account < b->account ? -1 : a->account > b->account;
}

void grants_handle_list(struct store_service *svc, struct rpc_request *req)
{
	const struct store_grants *msg = req->msg;
	const struct grant begin = {.tag = msg->peer_tag, .session = msg->session, .account = msg->account};
	const struct grant *first = &begin;
	struct store_granted *out = ARENA_NEW(&req->arena, struct store_granted);
	const struct grant **all = ARENA_ARRAY(&req->arena, const struct grant *, map_count(svc->grants) + 1);
	size_t count = 0;
	struct str key;
	void *value;

	for (size_t at = 0; map_next(svc->grants, &at, &key, &value);) {
		all[count] = value;
		if (grant_compare(&all[count], &first) > 0)
			count++;
	}
	qsort(all, count, sizeof(struct grant *), grant_compare);
	count = count < LIST_MAX ? count : LIST_MAX;
	out->grants.v = ARENA_ARRAY(&req->arena, struct store_grant, count + 1);
	for (size_t i = 0; i < count; i++)
		out->grants.v[out->grants.n++] = (struct store_grant){.peer_tag = all[i]->tag,
								      .session = all[i]->session,
								      .account = all[i]->account,
								      .rights = all[i]->rights,
								      .quota_bytes = all[i]->quota_bytes,
								      .quota_messages = all[i]->quota_messages,
								      .serial = all[i]->serial,
								      .path = all[i]->path};
	rpc_answer(req, out);
}

void grants_session_free(struct store_service *svc, struct str key)
{
	struct session_key k;

	memcpy(&k, key.ptr, sizeof(k));
	session_drop(svc, k.tag, k.session);
}

void grants_peer_end(struct store_service *svc, uint64_t tag)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(svc->sessions, &at, &key, &value);) {
		struct session_key k;

		memcpy(&k, key.ptr, sizeof(k));
		if (k.tag == tag)
			session_drop(svc, k.tag, k.session);
	}
}
