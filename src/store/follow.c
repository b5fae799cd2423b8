/* follow - which peer watches which mailbox, and telling them.
 *
 * A peer that does not read gets one gap instead of events, in the place of the first that it missed: so the answers
 * behind it find a view that knows it is old. No more is told until the peer has taken a snapshot. */
#include "base/fatal.h"
#include "store/service_private.h"

struct follow_key {
	uint64_t account, mailbox;
};

struct followed *follow_get(struct store_service *svc, uint64_t account, uint32_t mailbox)
{
	struct follow_key key = {account, mailbox};

	return map_get(svc->followed, str_of(&key, sizeof(key)));
}

void follow_open(struct store_service *svc, struct peer *p, uint64_t session, uint64_t account, uint32_t mailbox,
		 bool claim)
{
	struct follow_key key = {account, mailbox};
	struct followed *f = follow_get(svc, account, mailbox);
	struct follower new = {.peer = p->id, .session = session};
	size_t i;

	if (!f) {
		f = NEW(struct followed);
		f->account = account;
		f->mailbox = mailbox;
		map_set(svc->followed, str_of(&key, sizeof(key)), f);
		watch_follow(svc, account, mailbox);
	}
	for (i = 0; i < f->followers.n; i++)
		if (f->followers.v[i].peer == p->id && f->followers.v[i].session == session)
			break;
	if (i == f->followers.n)
		vec_push(&f->followers, new);
	f->followers.v[i].opens++;
	f->followers.v[i].claims += claim;
}

static void followed_free(struct store_service *svc, struct followed *f)
{
	struct follow_key key = {f->account, f->mailbox};

	map_remove(svc->followed, str_of(&key, sizeof(key)));
	watch_unfollow(svc, f->account, f->mailbox);
	vec_release(&f->followers);
	vec_release(&f->gaps);
	free(f);
}

static bool peer_follows(const struct followed *f, uint64_t peer)
{
	for (size_t i = 0; i < f->followers.n; i++)
		if (f->followers.v[i].peer == peer)
			return true;
	return false;
}

static void gaps_tidy(struct followed *f)
{
	for (size_t i = f->gaps.n; i-- > 0;)
		if (!peer_follows(f, f->gaps.v[i]))
			vec_remove(&f->gaps, i);
}

void follow_close(struct store_service *svc, struct peer *p, uint64_t session, uint64_t account, uint32_t mailbox)
{
	struct followed *f = follow_get(svc, account, mailbox);

	for (size_t i = 0; f && i < f->followers.n; i++) {
		struct follower *w = &f->followers.v[i];

		if (w->peer != p->id || w->session != session)
			continue;
		/* A claim ends with the last view of the session: which of two closed is not told. */
		if (--w->opens == 0) {
			vec_remove(&f->followers, i);
			gaps_tidy(f);
		}
		if (f->followers.n == 0)
			followed_free(svc, f);
		return;
	}
}

/* Takes away whom `gone` names; account 0: of every account. */
static void follow_drop(struct store_service *svc, bool (*gone)(const struct follower *w, uint64_t a, uint64_t b),
			uint64_t a, uint64_t b)
{
	struct str key;
	void *value;

	if (map_count(svc->followed) == 0)
		return;
	for (size_t at = 0; map_next(svc->followed, &at, &key, &value);) {
		struct followed *f = value;

		for (size_t i = f->followers.n; i-- > 0;)
			if (gone(&f->followers.v[i], a, b))
				vec_remove(&f->followers, i);
		gaps_tidy(f);
		if (f->followers.n == 0)
			followed_free(svc, f);
	}
}

static bool of_session(const struct follower *w, uint64_t peer, uint64_t session)
{
	return w->peer == peer && w->session == session;
}

static bool of_peer(const struct follower *w, uint64_t peer, uint64_t unused)
{
	(void)unused;
	return w->peer == peer;
}

void follow_session_end(struct store_service *svc, uint64_t peer, uint64_t session)
{
	follow_drop(svc, of_session, peer, session);
}

void follow_peer_end(struct store_service *svc, uint64_t peer)
{
	follow_drop(svc, of_peer, peer, 0);
}

bool follow_claimed(struct store_service *svc, uint64_t account, uint32_t mailbox)
{
	struct followed *f = follow_get(svc, account, mailbox);

	for (size_t i = 0; f && i < f->followers.n; i++)
		if (f->followers.v[i].claims > 0)
			return true;
	return false;
}

/* ---- telling ---- */

static bool has_gap(const struct followed *f, uint64_t peer)
{
	for (size_t i = 0; i < f->gaps.n; i++)
		if (f->gaps.v[i] == peer)
			return true;
	return false;
}

static void tell_peer(struct store_service *svc, struct followed *f, uint64_t peer, const struct store_changes *msg)
{
	const struct store_changes gap = {.account = f->account, .mailbox = f->mailbox, .gap = 1};
	struct peer *p = map_get_u64(svc->peers, peer);

	if (!p || rpc_event(p->rpc, &STORE_CHANGES, msg) == 0)
		return;
	vec_push(&f->gaps, peer);
	rpc_event_anyway(p->rpc, &STORE_CHANGES, &gap);
}

void follow_snapshot_taken(struct store_service *svc, struct peer *p, uint64_t account, uint32_t mailbox)
{
	struct followed *f = follow_get(svc, account, mailbox);

	if (f)
		vec_remove_item(&f->gaps, p->id);
}

static void tell(struct store_service *svc, struct followed *f, const struct store_changes *msg)
{
	for (size_t i = 0; i < f->followers.n; i++) {
		uint64_t peer = f->followers.v[i].peer;
		bool told = false;

		for (size_t j = 0; j < i && !told; j++)
			told = f->followers.v[j].peer == peer;
		if (!told && !has_gap(f, peer))
			tell_peer(svc, f, peer, msg);
	}
}

/* Changes an event carries at most: more are told as a gap, which costs the peer one snapshot. */
#define EVENT_CHANGES_MAX 5000

void follow_announce(struct store_service *svc, const struct change_set *set)
{
	struct followed *f = follow_get(svc, set->account, set->mailbox);
	struct store_changes msg = {.account = set->account,
				    .mailbox = set->mailbox,
				    .modseq = set->modseq,
				    .since = set->since,
				    .deleted = set->deleted};

	if (!f)
		return;
	if (set->changes.n > EVENT_CHANGES_MAX) {
		msg.gap = 1;
	} else {
		msg.changes.v = set->changes.v;
		msg.changes.n = set->changes.n;
	}
	msg.keywords.v = (struct store_name *)(uintptr_t)set->names;
	msg.keywords.n = set->name_count;
	tell(svc, f, &msg);
}

void follow_revoke(struct store_service *svc, uint64_t account)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(svc->followed, &at, &key, &value);) {
		struct followed *f = value;
		struct store_changes msg = {.account = account, .mailbox = f->mailbox, .deleted = 1};

		if (f->account != account)
			continue;
		for (size_t i = 0; i < f->followers.n; i++) {
			struct peer *p = map_get_u64(svc->peers, f->followers.v[i].peer);

			if (p)
				rpc_event_anyway(p->rpc, &STORE_CHANGES, &msg);
		}
		followed_free(svc, f);
	}
}
