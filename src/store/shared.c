/* shared - the half of a view that is common to all sessions of the process. See shared.h. */
#include "store/shared.h"
#include <stddef.h>

/* Past this many changes the log is folded into a new base, and whoever lags compares instead. */
#define LOG_MAX 4096

struct shared_key {
	uint64_t account;
	uint64_t mailbox;
};

struct keyword_list *keyword_list_ref(struct keyword_list *k)
{
	if (k)
		atomic_fetch_add(&k->refs, 1);
	return k;
}

void keyword_list_unref(struct keyword_list **kp)
{
	struct keyword_list *k = *kp;

	*kp = NULL;
	if (k && atomic_fetch_sub(&k->refs, 1) == 1)
		free(k);
}

/* The list and its names are one allocation. */
static struct keyword_list *keyword_list_new(const struct store_name *names, size_t count)
{
	size_t bytes = 0;
	struct keyword_list *k;
	char *at;

	if (count > STORE_KEYWORDS_MAX)
		count = STORE_KEYWORDS_MAX;
	for (size_t i = 0; i < count; i++)
		bytes += names[i].name.len;
	k = mem_alloc(sizeof(*k) + bytes);
	atomic_init(&k->refs, 1);
	k->count = count;
	at = (char *)(k + 1);
	for (size_t i = 0; i < count; i++) {
		if (names[i].name.len > 0)
			memcpy(at, names[i].name.ptr, names[i].name.len);
		k->names[i] = str_of(at, names[i].name.len);
		at += names[i].name.len;
	}
	return k;
}

void shared_set_keywords(struct shared *s, const struct store_name *names, size_t count)
{
	/* The list only grows; a shorter one was overtaken on the way. */
	if (s->keywords && count <= s->keywords->count)
		return;
	keyword_list_unref(&s->keywords);
	s->keywords = keyword_list_new(names, count);
}

static void shared_free(struct shared *s)
{
	view_base_unref(&s->base);
	keyword_list_unref(&s->keywords);
	vec_release(&s->log);
	vec_release(&s->views);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct shared *shared_join(struct store_client *c, uint64_t account, uint32_t mailbox)
{
	struct shared_key key = {account, mailbox};
	struct shared *s;

	pthread_mutex_lock(&c->lock);
	s = map_get(c->shared, str_of(&key, sizeof(key)));
	if (!s) {
		s = NEW(struct shared);
		s->client = c;
		s->account = account;
		s->mailbox = mailbox;
		pthread_mutex_init(&s->lock, NULL);
		map_set(c->shared, str_of(&key, sizeof(key)), s);
	}
	s->users++;
	pthread_mutex_unlock(&c->lock);
	return s;
}

void shared_leave(struct shared **sp)
{
	struct shared *s = *sp;
	struct store_client *c = s->client;
	struct shared_key key = {s->account, s->mailbox};

	*sp = NULL;
	pthread_mutex_lock(&c->lock);
	if (--s->users == 0) {
		map_remove(c->shared, str_of(&key, sizeof(key)));
		shared_free(s);
	}
	pthread_mutex_unlock(&c->lock);
}

/* ---- folding changes into a base ---- */

static void fold_one(struct view_entry *e, size_t *count, const struct message_change *m)
{
	size_t lo = 0, hi = *count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (e[mid].uid < m->uid)
			lo = mid + 1;
		else
			hi = mid;
	}
	bool found = lo < *count && e[lo].uid == m->uid;
	struct view_entry now = {m->uid, m->flags, m->keywords, m->modseq};

	if (m->kind == CHANGE_EXPUNGE) {
		/* Marked only: taken out by the caller in one pass, so that many expunges cost one move. */
		if (found)
			e[lo].flags = UINT32_MAX;
	} else if (found) {
		if (m->modseq > e[lo].modseq && e[lo].flags != UINT32_MAX)
			e[lo] = now;
	} else if (m->kind == CHANGE_NEW && lo == *count) {
		e[(*count)++] = now;
	}
}

static struct view_base *fold(struct view_base *old, const struct message_change *m, size_t n)
{
	struct view_entry *e = mem_alloc(sizeof(*e) * ((size_t)old->count + n + 1));
	size_t count = old->count, kept = 0;

	if (old->count > 0)
		memcpy(e, view_base_entries(old), sizeof(*e) * old->count);
	for (size_t i = 0; i < n; i++)
		fold_one(e, &count, &m[i]);
	for (size_t i = 0; i < count; i++)
		if (e[i].flags != UINT32_MAX)
			e[kept++] = e[i];
	return view_base_from(e, kept);
}

void shared_renew(struct shared *s, size_t behind)
{
	uint64_t end = s->log_first + s->log.n;
	size_t from = (size_t)(s->base_pos - s->log_first);
	struct view_base *base;

	if (!s->base || end - s->base_pos <= behind)
		return;
	base = fold(s->base, s->log.v + from, s->log.n - from);
	view_base_unref(&s->base);
	s->base = base;
	s->base_pos = end;
}

/* ---- the snapshot ---- */

int shared_install(struct shared *s, const struct store_view *reply, unsigned lost, struct err *err)
{
	struct view_base *b = view_base_from_reply(reply, err);
	size_t kept = 0;

	if (!b)
		return -1;
	pthread_mutex_lock(&s->lock);
	if (s->base && s->covered >= lost && s->modseq >= reply->info.highestmodseq) {
		pthread_mutex_unlock(&s->lock);
		view_base_unref(&b); /* another thread was first, and events went on from there */
		return 0;
	}
	view_base_unref(&s->base);
	s->base = b;
	/* What came in between the snapshot and now goes on top of it. */
	for (size_t i = 0; i < s->log.n; i++)
		if (s->log.v[i].modseq > reply->info.highestmodseq)
			s->log.v[kept++] = s->log.v[i];
	s->log_first += s->log.n;
	s->log.n = kept;
	s->base_pos = s->log_first;
	s->epoch++;
	if (s->modseq < reply->info.highestmodseq)
		s->modseq = reply->info.highestmodseq;
	s->uidvalidity = reply->info.uidvalidity;
	if (s->covered < lost)
		s->covered = lost;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

/* ---- events ---- */

/* Under the lock. */
static void wake_all(struct shared *s)
{
	for (size_t i = 0; i < s->views.n; i++)
		view_wake(s->views.v[i]);
}

/* Under the lock. Drops what every view has seen; a view that lags too far loses its place instead. */
static void log_trim(struct shared *s)
{
	if (s->log.n <= LOG_MAX)
		return;
	if (s->base) {
		shared_renew(s, 0);
		s->epoch++;
	} else {
		s->lost++;
	}
	s->log_first += s->log.n;
	s->log.n = 0;
}

static void apply_event(struct shared *s, const struct store_changes *event)
{
	/* Nobody of this process followed for a moment, as when the only view that a new store had been told of closed,
	 * and something happened in it. Without a whole base a snapshot is on its way, or will be asked for. */
	if (shared_whole(s) && event->since > s->modseq)
		s->lost++;
	for (size_t i = 0; i < event->changes.n; i++)
		vec_push(&s->log, event->changes.v[i]);
	if (event->keywords.n > 0)
		shared_set_keywords(s, event->keywords.v, event->keywords.n);
	if (event->modseq > s->modseq)
		s->modseq = event->modseq;
	if (event->gap)
		s->lost++;
	if (event->deleted)
		s->deleted = true;
	log_trim(s);
	wake_all(s);
}

void shared_changes(struct store_client *c, const struct store_changes *event)
{
	struct shared_key key = {event->account, event->mailbox};
	struct shared *s;

	pthread_mutex_lock(&c->lock);
	s = map_get(c->shared, str_of(&key, sizeof(key)));
	if (s) {
		pthread_mutex_lock(&s->lock);
		apply_event(s, event);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&c->lock);
}

void shared_all_stale(struct store_client *c)
{
	struct str key;
	void *value;

	pthread_mutex_lock(&c->lock);
	for (size_t at = 0; map_next(c->shared, &at, &key, &value);) {
		struct shared *s = value;

		pthread_mutex_lock(&s->lock);
		s->lost++;
		wake_all(s);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&c->lock);
}
