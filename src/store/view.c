/* view - one session's stable picture of a mailbox. See view.h; what is shared stands in shared.h.
 *
 * What the view shows is its base without the entries named in `gone`, those in `changed` put in the place of
 * the base's, and `added` behind them:
 *
 *	base     1 2 3 4 5 6        gone = {1, 3} (indexes)     changed = {5'}     added = {7}
 *	shown    1   3   5' 6 7
 *
 * `held` names uids that are still shown though the store has expunged them: nobody told the client yet.
 * The deltas are kept short: past DELTA_MAX entries the view takes the newest shared base when it shows just
 * that, else a base of its own. */
#include "base/fatal.h"
#include "store/shared.h"
#include <unistd.h>

#define DELTA_MAX 256

struct view {
	struct shared *shared;
	struct store_client *client;
	uint64_t session;
	struct session_ref wake;
	bool claims;
	uint32_t recent_from; /* UIDs from here are \Recent here */
	uint64_t generation;  /* of the channel, when the store was last told of this view; 0: it may not know it */
	uint32_t uidvalidity;
	char *name;
	atomic_bool pending;
	atomic_bool gone_for_good;
	/* Below: only the session's thread. */
	struct view_base *base;
	VEC(uint32_t) gone;
	VEC(struct view_entry) changed;
	VEC(struct view_entry) added;
	VEC(struct message_change) held; /* ascending uid */
	struct keyword_list *keywords;
	uint64_t epoch, seen; /* place in the shared log */
	uint64_t modseq;
	bool synced;	   /* the last view_sync() has seen all that was there */
	uint32_t last_uid; /* highest ever shown: what is below and not shown is gone */
};

/* ---- what is shown ---- */

#define LOWER(vec, key) uid_lower_bound((vec).v, (vec).n, sizeof((vec).v[0]), (key))

static size_t base_shown(const struct view *v)
{
	return v->base->count - v->gone.n;
}

/* Index in the base of the pos-th shown entry: the gone ones before it are counted by bisection. */
static size_t base_index(const struct view *v, size_t pos)
{
	size_t lo = 0, hi = v->gone.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (v->gone.v[mid] - mid > pos)
			hi = mid;
		else
			lo = mid + 1;
	}
	return pos + lo;
}

size_t view_count(const struct view *v)
{
	return base_shown(v) + v->added.n;
}

static struct view_entry entry_at(const struct view *v, size_t pos)
{
	struct view_entry e;
	size_t at;

	if (pos >= base_shown(v))
		return v->added.v[pos - base_shown(v)];
	e = view_base_entries(v->base)[base_index(v, pos)];
	at = LOWER(v->changed, e.uid);
	return at < v->changed.n && v->changed.v[at].uid == e.uid ? v->changed.v[at] : e;
}

struct view_entry view_at(const struct view *v, size_t seq)
{
	invariant(seq >= 1 && seq <= view_count(v));
	return entry_at(v, seq - 1);
}

/* Position of the first shown uid >= the one given, or the count. */
static size_t position(const struct view *v, uint32_t uid)
{
	size_t index = view_base_find(v->base, uid);
	size_t gone = LOWER(v->gone, (uint32_t)index);
	size_t pos = index - gone;

	if (index < v->base->count) {
		/* A gone entry at the index itself: the next shown one stands at the same position. */
		return pos;
	}
	return base_shown(v) + LOWER(v->added, uid);
}

static size_t find(const struct view *v, uint32_t uid, bool *found_r)
{
	size_t pos = position(v, uid);

	/* Behind the base's shown end the added ones go on: position() covers both. */
	*found_r = pos < view_count(v) && entry_at(v, pos).uid == uid;
	return pos;
}

size_t view_seq(const struct view *v, uint32_t uid, bool or_next)
{
	bool found;
	size_t pos = find(v, uid, &found);

	if (found || (or_next && pos < view_count(v)))
		return pos + 1;
	return 0;
}

/* In what is mostly read this looks at nearly all: as long as nothing hides the base, at the base alone. */
size_t view_first_unseen(const struct view *v)
{
	size_t pos = 0, count = view_count(v);

	if (v->gone.n == 0 && v->changed.n == 0) {
		pos = view_base_first_unseen(v->base);
		if (pos < v->base->count)
			return pos + 1;
	}
	for (; pos < count; pos++)
		if (!(entry_at(v, pos).flags & FLAG_SEEN))
			return pos + 1;
	return 0;
}

/* ---- changing what is shown ---- */

static void show_new(struct view *v, struct view_entry e)
{
	vec_push(&v->added, e);
	v->last_uid = e.uid;
}

static void show_flags(struct view *v, size_t pos, struct view_entry e)
{
	size_t at;

	if (pos >= base_shown(v)) {
		v->added.v[pos - base_shown(v)] = e;
		return;
	}
	at = LOWER(v->changed, e.uid);
	if (at < v->changed.n && v->changed.v[at].uid == e.uid) {
		v->changed.v[at] = e;
		return;
	}
	vec_reserve(&v->changed, v->changed.n + 1);
	memmove(v->changed.v + at + 1, v->changed.v + at, (v->changed.n - at) * sizeof(e));
	v->changed.v[at] = e;
	v->changed.n++;
}

static void hide(struct view *v, size_t pos)
{
	uint32_t index, uid;
	size_t at;

	if (pos >= base_shown(v)) {
		vec_remove(&v->added, pos - base_shown(v));
		return;
	}
	index = (uint32_t)base_index(v, pos);
	uid = view_base_entries(v->base)[index].uid;
	at = LOWER(v->changed, uid);
	if (at < v->changed.n && v->changed.v[at].uid == uid)
		vec_remove(&v->changed, at);
	at = LOWER(v->gone, index);
	vec_reserve(&v->gone, v->gone.n + 1);
	memmove(v->gone.v + at + 1, v->gone.v + at, (v->gone.n - at) * sizeof(index));
	v->gone.v[at] = index;
	v->gone.n++;
}

static void deltas_clear(struct view *v)
{
	vec_clear(&v->gone);
	vec_clear(&v->changed);
	vec_clear(&v->added);
}

/* A base of the view's own that is just what it shows. */
static void rebase_private(struct view *v)
{
	size_t n = view_count(v);
	struct view_entry *e = mem_alloc(sizeof(*e) * (n + 1));

	for (size_t i = 0; i < n; i++)
		e[i] = entry_at(v, i);
	view_base_unref(&v->base);
	v->base = view_base_from(e, n);
	deltas_clear(v);
}

static void rebase(struct view *v)
{
	struct shared *s = v->shared;

	if (v->gone.n + v->changed.n + v->added.n <= DELTA_MAX)
		return;
	pthread_mutex_lock(&s->lock);
	if (v->held.n == 0 && shared_whole(s) && v->epoch == s->epoch && v->seen == s->log_first + s->log.n) {
		shared_renew(s, 0);
		view_base_unref(&v->base);
		v->base = view_base_ref(s->base);
		deltas_clear(v);
	}
	pthread_mutex_unlock(&s->lock);
	if (v->gone.n + v->changed.n + v->added.n > DELTA_MAX)
		rebase_private(v);
}

/* ---- opening and closing ---- */

/* The store knows the view now. It counts opens: one too many goes back at once. Which process answered is only known
 * when there was but one meanwhile: else the next sync tells it again. */
static void note_told(struct view *v, uint64_t generation)
{
	struct store_view_close extra = {v->session, v->shared->account, v->shared->mailbox};

	if (rpc_channel_generation(v->client->channel) != generation)
		generation = 0;
	else if (v->generation == generation)
		(void)rpc_send(v->client->channel, &STORE_VIEW_CLOSE, &extra);
	v->generation = generation;
}

/* Tells the store of this view (again), and takes a snapshot unless the process follows the mailbox already and
 * has missed nothing. */
static int follow(struct view *v, bool claim, struct mailbox_info *info_r, uint32_t *recent_r, struct err *err)
{
	struct shared *s = v->shared;

	for (int attempt = 0; attempt < 8; attempt++) {
		struct store_view_open req = {.session = v->session, .account = s->account, .mailbox = s->mailbox};
		struct store_view reply;
		struct rpc_reply hold;
		uint64_t generation = rpc_channel_generation(v->client->channel);
		bool complete;
		unsigned lost;
		int rc = 0;

		pthread_mutex_lock(&s->lock);
		lost = s->lost;
		req.want_snapshot = !shared_whole(s);
		pthread_mutex_unlock(&s->lock);
		req.claim_recent = claim && attempt == 0;
		rpc_reply_init(&hold);
		if (store_call(v->client, &STORE_VIEW_OPEN, &req, &reply, &hold, err) < 0) {
			rpc_reply_release(&hold);
			return -1;
		}
		note_told(v, generation);
		if (req.want_snapshot)
			rc = shared_install(s, &reply, lost, err);
		if (reply.snapshot_fd >= 0)
			close(reply.snapshot_fd);
		pthread_mutex_lock(&s->lock);
		shared_set_keywords(s, reply.keywords.v, reply.keywords.n);
		s->deleted = false;
		complete = shared_whole(s) && s->modseq >= reply.info.highestmodseq;
		/* Nobody followed for a moment, and something happened in it. */
		if (shared_whole(s) && !complete)
			s->lost++;
		pthread_mutex_unlock(&s->lock);
		v->uidvalidity = reply.info.uidvalidity;
		if (info_r && attempt == 0) {
			*info_r = reply.info;
			free(v->name);
			v->name = str_dup(reply.info.name);
			info_r->name = str_from(v->name);
			*recent_r = reply.first_recent;
		}
		rpc_reply_release(&hold);
		if (rc < 0)
			return -1;
		if (complete)
			return 0;
	}
	return err_set(err, ERR_TEMP, "4.3.0", "the mailbox changes faster than it can be read");
}

static void unfollow(struct view *v)
{
	struct store_view_close req = {v->session, v->shared->account, v->shared->mailbox};

	/* Of a mailbox that is gone the store has forgotten all views, and perhaps been told of a new one since. */
	if (!view_gone(v) && v->generation == rpc_channel_generation(v->client->channel))
		(void)rpc_send(v->client->channel, &STORE_VIEW_CLOSE, &req);
}

/* Under the shared lock: the shared base is what the view shows; the log goes on from there. */
static void start_at_base(struct view *v)
{
	struct shared *s = v->shared;

	view_base_unref(&v->base);
	v->base = view_base_ref(s->base);
	deltas_clear(v);
	v->seen = s->base_pos;
	v->epoch = s->epoch;
	v->last_uid = v->base->last_uid;
}

int view_open(struct store_client *c, uint64_t session, uint64_t account, uint32_t mailbox, bool claim_recent,
	      struct session_ref wake, struct view **view_r, struct mailbox_info *info_r, struct err *err)
{
	struct view *v = NEW(struct view);
	uint32_t recent = 0;

	v->client = c;
	v->session = session;
	v->wake = wake;
	v->claims = claim_recent;
	v->shared = shared_join(c, account, mailbox);
	v->recent_from = UINT32_MAX;
	pthread_mutex_lock(&v->shared->lock);
	vec_push(&v->shared->views, v);
	pthread_mutex_unlock(&v->shared->lock);
	if (follow(v, claim_recent, info_r, &recent, err) < 0) {
		view_close(&v);
		return -1;
	}
	pthread_mutex_lock(&v->shared->lock);
	shared_renew(v->shared, 64);
	start_at_base(v);
	pthread_mutex_unlock(&v->shared->lock);
	view_sync(v, true, NULL);
	if (!v->synced) {
		/* The store went away in between: what we have is a base without the news, and no modseq for it. */
		view_close(&v);
		return err_set(err, ERR_TEMP, "4.3.0", "the mailbox cannot be opened for the moment");
	}
	v->recent_from = recent ? recent : info_r->uidnext;
	info_r->messages = (uint32_t)view_count(v);
	info_r->recent = view_recent_count(v);
	info_r->highestmodseq = v->modseq;
	if (v->last_uid >= info_r->uidnext)
		info_r->uidnext = v->last_uid + 1;
	*view_r = v;
	return 0;
}

void view_close(struct view **vp)
{
	struct view *v = *vp;
	struct shared *s;

	*vp = NULL;
	if (!v)
		return;
	s = v->shared;
	if (v->generation)
		unfollow(v);
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->views.n; i++)
		if (s->views.v[i] == v) {
			s->views.v[i] = s->views.v[--s->views.n];
			break;
		}
	pthread_mutex_unlock(&s->lock);
	shared_leave(&v->shared);
	view_base_unref(&v->base);
	keyword_list_unref(&v->keywords);
	vec_release(&v->gone);
	vec_release(&v->changed);
	vec_release(&v->added);
	vec_release(&v->held);
	free(v->name);
	free(v);
}

/* ---- small questions ---- */

uint32_t view_mailbox(const struct view *v)
{
	return v->shared->mailbox;
}

uint32_t view_recent_count(const struct view *v)
{
	return (uint32_t)(view_count(v) - position(v, v->recent_from));
}

uint32_t view_first_recent(const struct view *v)
{
	return view_recent_count(v) > 0 ? v->recent_from : 0;
}

bool view_synced(const struct view *v)
{
	return v->synced;
}

uint64_t view_highestmodseq(const struct view *v)
{
	uint64_t modseq = v->modseq;

	/* What the client was not told yet must not be covered by the number it may come back with. */
	for (size_t i = 0; i < v->held.n; i++)
		if (v->held.v[i].modseq <= modseq)
			modseq = v->held.v[i].modseq - 1;
	return modseq;
}

size_t view_keyword_count(const struct view *v)
{
	return v->keywords ? v->keywords->count : 0;
}

struct str view_keyword(const struct view *v, unsigned bit)
{
	return bit < view_keyword_count(v) ? v->keywords->names[bit] : STR_NULL;
}

bool view_pending(const struct view *v)
{
	return atomic_load(&v->pending) || v->held.n > 0;
}

bool view_gone(const struct view *v)
{
	return atomic_load(&v->gone_for_good);
}

/* Under the shared lock, any thread. */
void view_wake(struct view *v)
{
	if (v->shared->deleted)
		atomic_store(&v->gone_for_good, true);
	atomic_store(&v->pending, true);
	if (v->client->engine)
		session_wake(v->client->engine, v->wake);
}

/* ---- view_sync ---- */

struct sync {
	change_vec news;	       /* one a uid, ascending: the net effect of what came */
	struct keyword_list *keywords; /* or NULL: unchanged */
	uint64_t modseq;
};

static int by_uid(const void *a, const void *b)
{
	const struct message_change *x = a, *y = b;

	return x->uid < y->uid ? -1 : x->uid > y->uid;
}

/* qsort does not keep the order of equals: their place in the log does. */
static int by_uid_then_place(const void *a, const void *b)
{
	const struct message_change *const *x = a, *const *y = b;

	if ((*x)->uid != (*y)->uid)
		return (*x)->uid < (*y)->uid ? -1 : 1;
	return *x < *y ? -1 : *x > *y;
}

/* Leaves one change a uid: the last one, a message that came and changed being new. */
static void coalesce(change_vec *changes)
{
	change_vec out = {0};
	VEC(struct message_change *) order = {0};

	if (changes->n < 2)
		return;
	for (size_t i = 0; i < changes->n; i++)
		vec_push(&order, &changes->v[i]);
	qsort(order.v, order.n, sizeof(order.v[0]), by_uid_then_place);
	for (size_t i = 0; i < order.n; i++) {
		struct message_change *m = order.v[i], *last = out.n > 0 ? &out.v[out.n - 1] : NULL;

		if (!last || last->uid != m->uid) {
			vec_push(&out, *m);
		} else if (last->kind != CHANGE_EXPUNGE && (m->kind == CHANGE_EXPUNGE || m->modseq >= last->modseq)) {
			uint8_t kind = m->kind == CHANGE_FLAGS ? last->kind : m->kind;
			*last = *m;
			last->kind = kind;
		}
	}
	vec_release(&order);
	vec_release(changes);
	*changes = out;
}

/* The view has lost its place in the log: the shared base as it is now, against what is shown. */
static void compare(struct view *v, change_vec *out)
{
	const struct view_base *now = v->shared->base;
	const struct view_entry *entries = view_base_entries(v->shared->base);
	size_t shown = view_count(v), i = 0, j = 0;

	while (i < shown || j < now->count) {
		struct view_entry mine = i < shown ? entry_at(v, i) : (struct view_entry){.uid = UINT32_MAX};
		struct view_entry other = j < now->count ? entries[j] : (struct view_entry){.uid = UINT32_MAX};
		struct message_change m = {CHANGE_FLAGS, other.uid, other.flags, other.keywords, other.modseq};

		if (i < shown && (j >= now->count || mine.uid < other.uid)) {
			m = (struct message_change){CHANGE_EXPUNGE, mine.uid, 0, 0, v->shared->modseq};
			vec_push(out, m);
			i++;
			continue;
		}
		if (i >= shown || other.uid < mine.uid) {
			m.kind = CHANGE_NEW;
			vec_push(out, m);
			j++;
			continue;
		}
		if (mine.flags != other.flags || mine.keywords != other.keywords || mine.modseq != other.modseq)
			vec_push(out, m);
		i++, j++;
	}
}

/* Takes what came since from the shared log. Returns false when events were lost and a snapshot is needed. */
static bool collect(struct view *v, struct sync *sync)
{
	struct shared *s = v->shared;
	bool ok;

	atomic_store(&v->pending, false);
	pthread_mutex_lock(&s->lock);
	ok = shared_whole(s);
	if (ok) {
		if (v->epoch != s->epoch) {
			shared_renew(s, 0);
			compare(v, &sync->news);
			v->epoch = s->epoch;
		} else {
			for (uint64_t at = v->seen; at < s->log_first + s->log.n; at++)
				vec_push(&sync->news, s->log.v[at - s->log_first]);
		}
		v->seen = s->log_first + s->log.n;
		sync->modseq = s->modseq;
		if (s->keywords != v->keywords)
			sync->keywords = keyword_list_ref(s->keywords);
	}
	pthread_mutex_unlock(&s->lock);
	return ok;
}

/* Asks the store again after a gap or a new store process. */
static bool refill(struct view *v)
{
	struct mailbox_info info = {0};
	uint32_t recent, validity = v->uidvalidity;
	struct err err = ERR_NONE;

	if (follow(v, v->claims, &info, &recent, &err) == 0) {
		if (v->uidvalidity == validity)
			return true;
		atomic_store(&v->gone_for_good, true);
	} else if (err.kind == ERR_NOT_FOUND || err.kind == ERR_DENIED) {
		atomic_store(&v->gone_for_good, true);
	} else {
		atomic_store(&v->pending, true); /* the store is away: tried again at the next sync */
	}
	return false;
}

/* Each view must be known to the store process that is there now, also when another view has refilled. */
static bool place_is_good(struct view *v)
{
	return v->generation == rpc_channel_generation(v->client->channel);
}

static void hold(struct view *v, const struct message_change *m)
{
	size_t at = 0;
	bool shown;

	find(v, m->uid, &shown);
	if (!shown)
		return;
	while (at < v->held.n && v->held.v[at].uid < m->uid)
		at++;
	if (at < v->held.n && v->held.v[at].uid == m->uid)
		return;
	vec_push(&v->held, *m);
	if (at + 1 < v->held.n)
		qsort(v->held.v, v->held.n, sizeof(*m), by_uid);
}

static void tell_expunged(struct view *v, const struct view_events *ev)
{
	for (size_t i = v->held.n; i-- > 0;) {
		bool found;
		size_t pos = find(v, v->held.v[i].uid, &found);

		if (!found)
			continue;
		hide(v, pos);
		if (ev && ev->expunged)
			ev->expunged(ev->ctx, pos + 1, v->held.v[i].uid, v->held.v[i].modseq);
	}
	vec_clear(&v->held);
}

static void tell_flags(struct view *v, const struct sync *sync, const struct view_events *ev)
{
	for (size_t i = 0; i < sync->news.n; i++) {
		const struct message_change *m = &sync->news.v[i];
		struct view_entry now = {m->uid, m->flags, m->keywords, m->modseq}, before;
		bool found;
		size_t pos = find(v, m->uid, &found);

		if (m->kind == CHANGE_EXPUNGE || !found)
			continue;
		before = entry_at(v, pos);
		if (before.modseq >= m->modseq)
			continue;
		show_flags(v, pos, now);
		if (ev && ev->flags)
			ev->flags(ev->ctx, pos + 1, now, before);
	}
}

static void tell_new(struct view *v, const struct sync *sync, const struct view_events *ev)
{
	size_t before = view_count(v);

	for (size_t i = 0; i < sync->news.n; i++) {
		const struct message_change *m = &sync->news.v[i];
		struct view_entry e = {m->uid, m->flags, m->keywords, m->modseq};

		/* Sequence numbers only grow at the end: what is not behind the last one was there before. */
		if (m->kind == CHANGE_NEW && m->uid > v->last_uid)
			show_new(v, e);
	}
	if (view_count(v) > before && ev && ev->exists)
		ev->exists(ev->ctx, view_count(v), view_recent_count(v));
}

void view_sync(struct view *v, bool allow_expunge, const struct view_events *ev)
{
	struct sync sync = {0};

	v->synced = false;
	if (view_gone(v))
		return;
	if (!place_is_good(v) && !refill(v))
		return;
	while (!collect(v, &sync))
		if (!refill(v))
			return;
	coalesce(&sync.news);
	for (size_t i = 0; i < sync.news.n; i++)
		if (sync.news.v[i].kind == CHANGE_EXPUNGE)
			hold(v, &sync.news.v[i]);
	if (allow_expunge)
		tell_expunged(v, ev);
	if (sync.keywords) {
		keyword_list_unref(&v->keywords);
		v->keywords = sync.keywords;
		if (ev && ev->keywords)
			ev->keywords(ev->ctx);
	}
	tell_flags(v, &sync, ev);
	tell_new(v, &sync, ev);
	v->modseq = sync.modseq;
	v->synced = true;
	vec_release(&sync.news);
	rebase(v);
}
