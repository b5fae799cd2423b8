/* What other tools did to a folder becomes what the index knows: three ways, scan.c tells which. */
#include "base/clock.h"
#include "store/scan_private.h"

/* A name that maildir_base() would make of these fields is not kept: it is made. */
static void name_fields(struct txn *t, const struct account *a, const struct found *f, struct static_entry *e)
{
	e->base = f->base;
	if (!f->name.ours || !str_eq(f->name.host, a->header.host))
		return;
	struct static_entry made = *e;
	made.base = STR_NULL;
	made.file = f->name.file;
	made.date = f->name.date;
	if (made.file >= made.message && str_eq(entry_base(&t->arena, a, &made), f->base))
		*e = made;
}

/* What a file that nobody knew has by its name. Keywords for which the mailbox has no room are none. */
static uint64_t keywords_of(struct txn *t, struct account *a, struct mailbox *m, const struct scan *s,
			    const struct found *f)
{
	uint64_t keywords = 0;
	unsigned bit;

	for (unsigned i = 0; i < ARRAY_SIZE(s->keywords); i++)
		if ((f->letters & 1u << i) && s->keywords[i].len > 0 &&
		    keyword_bit(t, a, m, s->keywords[i], &bit, NULL) == 0)
			keywords |= 1ULL << bit;
	return keywords;
}

static int merge_new(struct txn **t, struct account *a, struct mailbox *m, const struct scan *s, const struct found *f,
		     uint64_t *modseq, struct err *err)
{
	struct placing p = {0};
	const struct uidlist_entry *l = f->listed;
	unsigned bit;
	uint32_t uid;

	if (f->name.ours && f->name.file >= a->header.next_message && f->name.file < UINT64_MAX / 2)
		a->header.next_message = f->name.file + 1;
	if (!*modseq)
		*modseq = txn_modseq(*t, a, m);
	p.modseq = *modseq;
	p.uid = l && l->uid >= m->rec.uidnext ? l->uid : 0;
	p.hot.flags = (uint8_t)(f->mask & FLAG_SYSTEM);
	p.hot.keywords = l && !s->list->foreign ? l->keywords : keywords_of(*t, a, m, s, f);
	if ((f->mask & PROJECTED_PASSED) && keyword_bit(*t, a, m, STR("$Forwarded"), &bit, NULL) == 0)
		p.hot.keywords |= 1ULL << bit;
	p.hot.projected = (uint8_t)f->mask;
	p.fixed.message = p.fixed.file = l && l->message ? l->message : a->header.next_message++;
	p.fixed.date = l && !s->list->foreign ? l->date : f->name.ours ? f->name.date : f->mtime;
	p.fixed.size = f->size;
	p.fixed.file_size = f->file_size;
	p.fixed.prefix_len = l && l->prefix_len <= f->file_size ? l->prefix_len : 0;
	p.fixed.as_is = l && l->as_is;
	name_fields(*t, a, f, &p.fixed);
	if (message_place(*t, a, m, &p, &uid, err) < 0)
		return -1;
	struct runtime *rt = runtime_get((*t)->svc, a->id);
	if (l && !s->list->foreign && rt->rebuilt) {
		struct place *first = map_get_u64(rt->rebuilt, p.fixed.message);

		if (first) {
			if (message_ref(*t, a, p.fixed.message, *first, (struct place){m->id, uid}, err) < 0)
				return -1;
		} else {
			first = NEW(struct place);
			*first = (struct place){m->id, uid};
			map_set_u64(rt->rebuilt, p.fixed.message, first);
		}
		if (p.fixed.message >= a->header.next_message)
			a->header.next_message = p.fixed.message + 1;
	}
	return txn_roll(t, err);
}

static int merge_renamed(struct txn *t, struct account *a, struct mailbox *m, const struct message_change *r,
			 uint64_t *modseq, struct err *err)
{
	struct chunk *c;
	struct hot_entry *h;
	uint32_t uid;
	unsigned theirs = r->flags, changed, flags, bit;
	uint64_t keywords;
	int rc = message_next(a, m, r->uid, r->uid, &uid, &c, err);

	if (rc <= 0)
		return rc;
	h = &c->hot[chunk_slot(uid)];
	changed = (theirs ^ h->projected) & (FLAG_SYSTEM | PROJECTED_PASSED);
	flags = (h->flags & ~changed) | (theirs & changed);
	keywords = h->keywords;
	if ((changed & PROJECTED_PASSED) && keyword_bit(t, a, m, STR("$Forwarded"), &bit, NULL) == 0)
		keywords = theirs & PROJECTED_PASSED ? keywords | 1ULL << bit : keywords & ~(1ULL << bit);
	txn_touch(t, a);
	h->projected = (uint8_t)theirs;
	c->hot_dirty = true;
	m->dirty = true;
	if ((flags & FLAG_SYSTEM) != h->flags || keywords != h->keywords) {
		if (!*modseq)
			*modseq = txn_modseq(t, a, m);
		if (message_set(t, a, m, uid, c, flags, keywords, *modseq, err) < 0)
			return -1;
	}
	return message_project(t, a, m, uid, c, err);
}

static bool was_suspect(const struct folder_state *fs, uint32_t uid)
{
	for (size_t lo = 0, hi = fs->suspects.n; lo < hi;) {
		size_t mid = lo + (hi - lo) / 2;

		if (fs->suspects.v[mid] == uid)
			return true;
		if (fs->suspects.v[mid] < uid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

static int by_u32(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int merge_vanished(struct txn **t, struct account *a, struct mailbox *m, struct folder_state *fs, struct scan *s,
			  struct err *err)
{
	bool due = clock_ms() - fs->suspects_ms >= SCAN_GRACE_MS;
	uint64_t modseq = 0;
	VEC(uint32_t) still = {0};

	if (s->vanished.n > 1)
		qsort(s->vanished.v, s->vanished.n, sizeof(uint32_t), by_u32);
	for (size_t i = 0; i < s->vanished.n; i++) {
		uint32_t uid = s->vanished.v[i], at;
		struct chunk *c;
		int rc;

		if (!due || !was_suspect(fs, uid)) {
			vec_push(&still, uid);
			continue;
		}
		rc = message_next(a, m, uid, uid, &at, &c, err);
		if (rc > 0 && !modseq)
			modseq = txn_modseq(*t, a, m);
		if (rc < 0 || (rc > 0 && message_remove(*t, a, m, uid, c, modseq, true, false, err) < 0) ||
		    txn_roll(t, err) < 0) {
			vec_release(&still);
			return -1;
		}
	}
	if (due || fs->suspects.n == 0) {
		vec_release(&fs->suspects);
		fs->suspects.v = still.v;
		fs->suspects.n = still.n;
		fs->suspects.cap = still.cap;
		fs->suspects_ms = clock_ms();
	} else {
		vec_release(&still);
	}
	if (s->vanished.n > 0 && fs->suspects.n > 0)
		fs->scan_at_ms = clock_ms() + SCAN_GRACE_MS + SCAN_SETTLE_MS;
	return 0;
}

/* No UID below the ceiling of the uidlist is given to a file that it does not name. */
static void rebuild_ceiling(struct txn *t, struct account *a, struct mailbox *m, const struct scan *s)
{
	if (!s->rebuild)
		return;
	txn_touch(t, a);
	m->dirty = true;
	if (s->list && m->rec.uidnext < s->list->ceiling)
		m->rec.uidnext = s->list->ceiling;
	m->rec.recent_from = m->rec.uidnext;
}

int scan_merge(struct store_service *svc, struct account *a, struct mailbox *m, struct folder_state *fs, struct scan *s,
	       struct err *err)
{
	struct txn *t = txn_new(svc);
	uint64_t new_modseq = 0, flags_modseq = 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < s->fresh.n; i++) {
		if (!s->fresh.v[i].listed)
			rebuild_ceiling(t, a, m, s);
		rc = merge_new(&t, a, m, s, &s->fresh.v[i], &new_modseq, err);
	}
	if (rc == 0)
		rebuild_ceiling(t, a, m, s);
	for (size_t i = 0; rc == 0 && i < s->renamed.n; i++) {
		rc = merge_renamed(t, a, m, &s->renamed.v[i], &flags_modseq, err);
		if (rc == 0)
			rc = txn_roll(&t, err);
	}
	if (rc == 0)
		rc = merge_vanished(&t, a, m, fs, s, err);
	if (rc == 0 && t->accounts.n > 0)
		return txn_commit(&t, NULL, NULL, err);
	if (rc == 0 && t->accounts.n == 0) {
		txn_abort(&t);
		return 0;
	}
	txn_abort(&t);
	return -1;
}
