/* grants - see grants.h. */
#include "directory/grants.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/vec.h"
#include "store/schema.h"
#include <pthread.h>

#define CALL_MS	 5000	    /* a store that is there answers at once */
#define NONE_YET UINT64_MAX /* a generation that no store has */
#define AWAY_MS	 5000	    /* a store that is away for longer is not waited for */

struct grant {
	uint64_t account, serial;
	uint8_t rights;
	uint64_t quota_bytes, quota_messages;
	char *path;
	uint64_t told; /* generation of the store's channel at which the store has acknowledged it; 0: none */
};

struct session {
	uint64_t peer, tag, session;
	VEC(struct grant) grants;
};

struct grants {
	pthread_mutex_t lock;
	struct rpc_channel *store;
	struct map *sessions; /* {peer, session} to struct session */
	struct map *peers;    /* peer to a malloc'ed tag */
	size_t count;
	VEC(uint64_t) unsettled; /* accounts, see grants_settle() */
	uint64_t epoch;
	bool store_up;
	int64_t store_down_ms; /* since when */
	struct map *ended;     /* {tag, session} of sessions that ended while others are taken over; else NULL */
};

struct key {
	uint64_t peer, session;
};
#define KEY_STR(k) str_of(&(k), sizeof(k))

struct grants *grants_new(struct rpc_channel *store)
{
	struct grants *g = NEW(struct grants);

	pthread_mutex_init(&g->lock, NULL);
	g->store = store;
	g->sessions = map_new();
	g->peers = map_new();
	g->epoch = 1;
	g->store_down_ms = clock_ms();
	return g;
}

static void session_free(struct grants *g, struct session *s)
{
	for (size_t i = 0; i < s->grants.n; i++)
		free(s->grants.v[i].path);
	g->count -= s->grants.n;
	vec_release(&s->grants);
	free(s);
}

void grants_free(struct grants **gp)
{
	struct grants *g = *gp;
	struct str key;
	void *value;

	if (!g)
		return;
	*gp = NULL;
	for (size_t at = 0; map_next(g->sessions, &at, &key, &value);)
		session_free(g, value);
	for (size_t at = 0; map_next(g->peers, &at, &key, &value);)
		free(value);
	map_free(&g->sessions);
	map_free(&g->peers);
	vec_release(&g->unsettled);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

/* ---- peers ---- */

/* Sessions that were taken over stand under this until their front end is connected: no peer has such a number. */
static uint64_t peer_to_come(uint64_t tag)
{
	return tag | 1ULL << 63;
}

/* Under the lock. */
static void sessions_claim(struct grants *g, uint64_t peer, uint64_t tag)
{
	VEC(struct session *) found = {0};
	struct str at_key;
	void *value;

	for (size_t at = 0; map_next(g->sessions, &at, &at_key, &value);) {
		struct session *s = value;

		if (s->peer == peer_to_come(tag))
			vec_push(&found, s);
	}
	for (size_t i = 0; i < found.n; i++) {
		struct session *s = found.v[i];
		struct key key = {s->peer, s->session};

		map_remove(g->sessions, KEY_STR(key));
		key.peer = s->peer = peer;
		map_set(g->sessions, KEY_STR(key), s);
	}
	vec_release(&found);
}

void grants_peer_open(struct grants *g, uint64_t peer, uint64_t tag)
{
	pthread_mutex_lock(&g->lock);
	free(map_set_u64(g->peers, peer, mem_dup(&tag, sizeof(tag))));
	sessions_claim(g, peer, tag);
	pthread_mutex_unlock(&g->lock);
}

bool grants_peer_live(struct grants *g, uint64_t peer)
{
	bool live;

	pthread_mutex_lock(&g->lock);
	live = map_get_u64(g->peers, peer) != NULL;
	pthread_mutex_unlock(&g->lock);
	return live;
}

static void release_send(struct grants *g, uint64_t tag, uint64_t session)
{
	struct store_release release = {.peer_tag = tag, .session = session};

	/* Without a connection there is nothing to release: the store forgets with the channel. */
	(void)rpc_send_gather(g->store, &STORE_RELEASE, &release);
}

void grants_peer_closed(struct grants *g, uint64_t peer)
{
	VEC(struct key) ended = {0};
	struct str key;
	void *value;

	pthread_mutex_lock(&g->lock);
	free(map_remove_u64(g->peers, peer));
	for (size_t at = 0; map_next(g->sessions, &at, &key, &value);) {
		struct session *s = value;

		if (s->peer != peer)
			continue;
		vec_push(&ended, ((struct key){s->tag, s->session}));
		map_remove(g->sessions, key);
		session_free(g, s);
	}
	pthread_mutex_unlock(&g->lock);
	for (size_t i = 0; i < ended.n; i++)
		release_send(g, ended.v[i].peer, ended.v[i].session);
	vec_release(&ended);
}

void grants_session_end(struct grants *g, uint64_t peer, uint64_t session)
{
	struct key key = {peer, session};
	const uint64_t *known;
	struct session *s;
	uint64_t tag = 0;

	pthread_mutex_lock(&g->lock);
	known = map_get_u64(g->peers, peer);
	if (known)
		tag = *known;
	if (g->ended) {
		struct key gone = {tag, session};

		map_set(g->ended, KEY_STR(gone), g);
	}
	s = map_remove(g->sessions, KEY_STR(key));
	if (s)
		session_free(g, s);
	pthread_mutex_unlock(&g->lock);
	/* A session unknown here may have been granted something by the process that was `directory` before. */
	if (tag)
		release_send(g, tag, session);
}

/* ---- telling the store ---- */

void grants_store_link(struct grants *g, bool up)
{
	pthread_mutex_lock(&g->lock);
	g->store_up = up;
	if (!up)
		g->store_down_ms = clock_ms();
	pthread_mutex_unlock(&g->lock);
}

/* How long a call may take now. */
static int64_t patience(struct grants *g)
{
	int64_t left = CALL_MS;

	pthread_mutex_lock(&g->lock);
	if (!g->store_up)
		left = AWAY_MS - (clock_ms() - g->store_down_ms);
	pthread_mutex_unlock(&g->lock);
	return left;
}

/* One grant, copied so that it can be sent without the lock. */
struct message {
	struct key key;
	struct store_grant grant;
	char *path;
};

static struct message message_of(const struct session *s, const struct grant *grant)
{
	char *path = mem_strdup(grant->path);

	return (struct message){
		.key = {s->peer, s->session},
		.path = path,
		.grant = {.peer_tag = s->tag,
			  .session = s->session,
			  .account = grant->account,
			  .rights = grant->rights,
			  .quota_bytes = grant->quota_bytes,
			  .quota_messages = grant->quota_messages,
			  .serial = grant->serial,
			  .path = str_from(path)},
	};
}

static struct grant *grant_of(struct session *s, uint64_t account)
{
	for (size_t i = 0; s && i < s->grants.n; i++)
		if (s->grants.v[i].account == account)
			return &s->grants.v[i];
	return NULL;
}

static struct grant *find_grant(struct grants *g, struct key key, uint64_t account)
{
	return grant_of(map_get(g->sessions, KEY_STR(key)), account);
}

static void account_tell_anew(struct grants *g, uint64_t account);
static uint64_t peer_of(struct grants *g, uint64_t tag);

/* Under the lock. The session of a message on its way; its front end may have come meanwhile (sessions_claim). */
static struct session *session_of(struct grants *g, const struct message *m)
{
	struct session *s = map_get(g->sessions, KEY_STR(m->key));
	struct key key = {0, m->key.session};

	if (s)
		return s;
	key.peer = peer_of(g, m->grant.peer_tag);
	return map_get(g->sessions, KEY_STR(key));
}

enum standing { STANDS, ENDED, TAKEN_BACK };

/* The store has acknowledged it: the grant is marked. If it is gone meanwhile, the store must not keep it: with a
 * session that has ended it is released again, which touches nobody else; what was taken back is the caller's to undo.
 */
static enum standing told(struct grants *g, const struct message *m, uint64_t generation)
{
	struct session *s;
	struct grant *grant;

	pthread_mutex_lock(&g->lock);
	s = session_of(g, m);
	grant = grant_of(s, m->grant.account);
	if (grant && grant->rights == m->grant.rights)
		grant->told = generation;
	pthread_mutex_unlock(&g->lock);
	if (!s)
		release_send(g, m->grant.peer_tag, m->grant.session);
	return grant ? STANDS : s ? TAKEN_BACK : ENDED;
}

/* Sends and frees the message. verdict_r (or NULL): as grants_add(). */
static void tell(struct grants *g, struct message *m, struct err *verdict_r)
{
	uint64_t generation = rpc_channel_generation(g->store), account = m->grant.account;
	int64_t timeout_ms = patience(g);
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	struct store_ok ok;
	int rc = -1;

	rpc_reply_init(&hold);
	if (timeout_ms > 0)
		rc = rpc_call(g->store, &STORE_GRANT, &m->grant, &ok, &hold, true, timeout_ms, &err);
	rpc_reply_release(&hold);
	if (rc < 0 && m->grant.admit && grants_is_verdict(&err)) {
		rc = 0;
		if (verdict_r)
			*verdict_r = err;
	}
	if (rc < 0 && timeout_ms > 0)
		log_warning("cannot tell the store about account %llu: %s", (unsigned long long)account, err.text);
	if (rc < 0 && verdict_r)
		err_set(verdict_r, ERR_TEMP, "4.3.0", "the store did not say");
	if (rc == 0 && told(g, m, generation) == TAKEN_BACK)
		account_tell_anew(g, account);
	free(m->path);
	m->path = NULL;
}

struct messages {
	struct message *v;
	size_t n, cap;
};

/* Every grant of the account (0: of all), but for those that the store of this `generation` has acknowledged. */
static void collect(struct grants *g, uint64_t account, uint64_t generation, struct messages *out)
{
	struct str key;
	void *value;

	pthread_mutex_lock(&g->lock);
	for (size_t at = 0; map_next(g->sessions, &at, &key, &value);) {
		struct session *s = value;

		for (size_t i = 0; i < s->grants.n; i++)
			if ((account == 0 || s->grants.v[i].account == account) && s->grants.v[i].told != generation)
				vec_push(out, message_of(s, &s->grants.v[i]));
	}
	pthread_mutex_unlock(&g->lock);
}

static void tell_all(struct grants *g, struct messages *messages)
{
	for (size_t i = 0; i < messages->n; i++)
		tell(g, &messages->v[i], NULL);
	vec_release(messages);
}

/* Takes every right on the account back, then gives again those that stand. */
static void account_tell_anew(struct grants *g, uint64_t account)
{
	struct store_revoke revoke = {.account = account};
	struct messages messages = {0};
	int64_t timeout_ms = patience(g);
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	struct store_ok ok;

	rpc_reply_init(&hold);
	if (timeout_ms > 0 && rpc_call(g->store, &STORE_REVOKE, &revoke, &ok, &hold, true, timeout_ms, &err) < 0)
		log_warning("cannot revoke account %llu in the store: %s", (unsigned long long)account, err.text);
	rpc_reply_release(&hold);
	collect(g, account, NONE_YET, &messages);
	tell_all(g, &messages);
}

void grants_repeat(struct grants *g)
{
	struct messages messages = {0};

	collect(g, 0, rpc_channel_generation(g->store), &messages);
	tell_all(g, &messages);
}

/* ---- taking over ---- */

/* Under the lock: the peer that has the tag. */
static uint64_t peer_of(struct grants *g, uint64_t tag)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(g->peers, &at, &key, &value);)
		if (*(const uint64_t *)value == tag)
			return map_key_u64(key);
	return peer_to_come(tag);
}

/* Under the lock. What is known here already is newer. */
static void adopt(struct grants *g, const struct store_grant *from, uint64_t generation)
{
	struct key key = {peer_of(g, from->peer_tag), from->session}, gone = {from->peer_tag, from->session};
	struct session *s = map_get(g->sessions, KEY_STR(key));
	struct grant grant = {.account = from->account,
			      .serial = from->serial,
			      .rights = from->rights,
			      .quota_bytes = from->quota_bytes,
			      .quota_messages = from->quota_messages,
			      .told = generation};

	if (map_get(g->ended, KEY_STR(gone)) || find_grant(g, key, from->account) ||
	    (s && s->grants.n >= GRANTS_SESSION_MAX))
		return;
	if (!s) {
		s = NEW(struct session);
		s->peer = key.peer;
		s->tag = from->peer_tag;
		s->session = key.session;
		map_set(g->sessions, KEY_STR(key), s);
	}
	grant.path = str_dup(from->path);
	vec_push(&s->grants, grant);
	g->count++;
}

static void adopting(struct grants *g, bool on)
{
	pthread_mutex_lock(&g->lock);
	if (on && !g->ended)
		g->ended = map_new();
	else if (!on)
		map_free(&g->ended);
	pthread_mutex_unlock(&g->lock);
}

int grants_adopt(struct grants *g, struct err *err)
{
	uint64_t generation = rpc_channel_generation(g->store);
	struct store_grants ask = {0};
	size_t count = 0, got;
	int rc;

	adopting(g, true);
	do {
		struct store_granted page;
		struct rpc_reply hold;

		got = 0;
		rpc_reply_init(&hold);
		rc = rpc_call(g->store, &STORE_GRANTS, &ask, &page, &hold, true, CALL_MS, err);
		pthread_mutex_lock(&g->lock);
		for (; rc == 0 && got < page.grants.n; got++) {
			const struct store_grant *grant = &page.grants.v[got];

			adopt(g, grant, generation);
			ask = (struct store_grants){grant->peer_tag, grant->session, grant->account};
		}
		pthread_mutex_unlock(&g->lock);
		rpc_reply_release(&hold);
		count += got;
	} while (got > 0);
	adopting(g, false);
	return rc < 0 ? -1 : (int)count;
}

/* ---- granting ---- */

uint64_t grants_epoch(struct grants *g)
{
	uint64_t epoch;

	pthread_mutex_lock(&g->lock);
	epoch = g->epoch;
	pthread_mutex_unlock(&g->lock);
	return epoch;
}

/* Takes over what the account says now. Returns whether the store must hear of it. */
static bool grant_update(struct grant *grant, const struct account *account, uint8_t rights)
{
	bool news = (grant->rights | rights) != grant->rights || grant->quota_bytes != account->quota_bytes ||
		    grant->quota_messages != account->quota_messages;

	grant->rights |= rights;
	grant->serial = account->serial;
	grant->quota_bytes = account->quota_bytes;
	grant->quota_messages = account->quota_messages;
	return news;
}

/* Under the lock. NULL: too many. */
static struct grant *note(struct grants *g, struct key key, uint64_t tag, const struct account *account, uint8_t rights)
{
	struct session *s = map_get(g->sessions, KEY_STR(key));
	struct grant *grant = find_grant(g, key, account->id), fresh = {0};

	if (grant) {
		if (grant_update(grant, account, rights))
			grant->told = 0;
		return grant;
	}
	if (!s) {
		s = NEW(struct session);
		s->peer = key.peer;
		s->tag = tag;
		s->session = key.session;
		map_set(g->sessions, KEY_STR(key), s);
	}
	if (s->grants.n >= GRANTS_SESSION_MAX)
		return NULL;
	fresh.account = account->id;
	fresh.path = str_dup(account->path);
	(void)grant_update(&fresh, account, rights);
	vec_push(&s->grants, fresh);
	g->count++;
	return &s->grants.v[s->grants.n - 1];
}

/* Notes the grant; *message_r is what the store must hear, if anything (path set). Returns as grants_add(). */
static int prepare(struct grants *g, const struct grant_ask *ask, const struct account *account,
		   struct message *message_r, struct err *err)
{
	struct key key = {ask->peer, ask->session};
	uint64_t generation = rpc_channel_generation(g->store);
	struct grant *grant = NULL;
	const uint64_t *tag;
	bool stale, live;

	message_r->path = NULL;
	pthread_mutex_lock(&g->lock);
	tag = map_get_u64(g->peers, ask->peer);
	live = tag != NULL;
	if (live)
		grant = note(g, key, *tag, account, ask->rights);
	if (grant && (ask->admit || grant->told != generation)) {
		*message_r = message_of(map_get(g->sessions, KEY_STR(key)), grant);
		message_r->grant.admit = ask->admit;
		message_r->grant.size = ask->size;
	}
	stale = g->epoch != ask->epoch;
	pthread_mutex_unlock(&g->lock);
	if (live && !grant)
		return err_set(err, ERR_LIMIT, "4.5.3", "too many recipients in one session");
	return stale;
}

int grants_add(struct grants *g, const struct grant_ask *ask, const struct account *account, struct err *verdict_r,
	       struct err *err)
{
	struct message message;
	int result = prepare(g, ask, account, &message, err);

	if (message.path)
		tell(g, &message, verdict_r);
	return result;
}

/* A message on its way without anybody waiting. */
struct errand {
	struct grants *g;
	struct message message;
	uint64_t generation;
	grants_done *done;
	void *ctx;
};

static void errand_over(void *ctx, const void *reply, const struct err *err)
{
	struct errand *e = ctx;
	struct grants *g = e->g;
	bool known = reply || (e->message.grant.admit && grants_is_verdict(err)), settle = false;

	if (known && told(g, &e->message, e->generation) == TAKEN_BACK) {
		pthread_mutex_lock(&g->lock);
		vec_push(&g->unsettled, e->message.grant.account);
		pthread_mutex_unlock(&g->lock);
		settle = true;
	}
	e->done(e->ctx, known && !settle, settle, err);
	free(e->message.path);
	free(e);
}

int grants_add_async(struct grants *g, const struct grant_ask *ask, const struct account *account, bool *stale_r,
		     grants_done *done, void *ctx)
{
	struct errand *e = NEW(struct errand);
	struct err err = ERR_NONE;
	int result;

	e->g = g;
	e->generation = rpc_channel_generation(g->store);
	e->done = done;
	e->ctx = ctx;
	result = prepare(g, ask, account, &e->message, &err);
	*stale_r = result > 0;
	if (result >= 0 && e->message.path) {
		if (rpc_call_async(g->store, &STORE_GRANT, &e->message.grant, CALL_MS, errand_over, e) == 0)
			return 2;
		result = -1;
	}
	free(e->message.path);
	free(e);
	return result;
}

void grants_settle(struct grants *g)
{
	for (;;) {
		uint64_t account = 0;

		pthread_mutex_lock(&g->lock);
		if (g->unsettled.n > 0)
			account = g->unsettled.v[--g->unsettled.n];
		pthread_mutex_unlock(&g->lock);
		if (account == 0)
			return;
		account_tell_anew(g, account);
	}
}

/* ---- looking for what has changed ---- */

struct ids {
	uint64_t *v;
	size_t n, cap;
};

static void accounts_granted(struct grants *g, struct ids *ids)
{
	struct map *seen = map_new();
	struct str key;
	void *value;

	pthread_mutex_lock(&g->lock);
	g->epoch++;
	for (size_t at = 0; map_next(g->sessions, &at, &key, &value);) {
		struct session *s = value;

		for (size_t i = 0; i < s->grants.n; i++)
			if (!map_set_u64(seen, s->grants.v[i].account, g))
				vec_push(ids, s->grants.v[i].account);
	}
	pthread_mutex_unlock(&g->lock);
	map_free(&seen);
}

/* What the account's grants are now: dropped when he is gone, or a log-in of an older serial; else brought up to date.
 * 2: some were dropped, 1: some have changed, 0: all is as it was. */
static int account_review(struct grants *g, uint64_t id, const struct account *now)
{
	struct str key;
	void *value;
	int result = 0;

	pthread_mutex_lock(&g->lock);
	for (size_t at = 0; map_next(g->sessions, &at, &key, &value);) {
		struct session *s = value;

		for (size_t i = s->grants.n; i-- > 0;) {
			struct grant *grant = &s->grants.v[i];
			bool login = grant->rights & (RIGHT_READ | RIGHT_WRITE | RIGHT_ADMIN);

			if (grant->account != id)
				continue;
			if (!now || (login && grant->serial != now->serial)) {
				free(grant->path);
				vec_remove(&s->grants, i);
				g->count--;
				result = 2;
			} else if (grant_update(grant, now, 0)) {
				grant->told = 0;
				if (result == 0)
					result = 1;
			}
		}
	}
	pthread_mutex_unlock(&g->lock);
	return result;
}

int grants_check(struct grants *g, struct db *db, struct err *err)
{
	struct ids ids = {0};
	struct arena arena;
	int revoked = 0;

	arena_init(&arena);
	accounts_granted(g, &ids);
	for (size_t i = 0; i < ids.n && revoked >= 0; i++) {
		struct account account;
		int found = user_get(db, ids.v[i], &arena, &account, err);
		int review = found < 0 ? 0 : account_review(g, ids.v[i], found > 0 && account.active ? &account : NULL);

		if (found < 0)
			revoked = -1;
		else if (review == 2) {
			log_info("account %llu: rights revoked", (unsigned long long)ids.v[i]);
			account_tell_anew(g, ids.v[i]);
			revoked++;
		} else if (review == 1) {
			struct messages messages = {0};

			collect(g, ids.v[i], NONE_YET, &messages);
			tell_all(g, &messages);
		}
		arena_clear(&arena);
	}
	vec_release(&ids);
	arena_release(&arena);
	return revoked;
}

size_t grants_count(struct grants *g)
{
	size_t count;

	pthread_mutex_lock(&g->lock);
	count = g->count;
	pthread_mutex_unlock(&g->lock);
	return count;
}
