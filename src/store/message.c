/* message - the few ways in which a message's entry may change. Everything that counts (UIDs, modseq, totals,
 * quota, change log, uidlist) is kept right here and nowhere else.
 *
 * Invariants, per mailbox: a UID is given once, in ascending order; uidnext is above every UID ever given;
 * messages, unseen, deleted and size are the sums over the entries; each change has a modseq above all before. */
#include "base/clock.h"
#include "base/fatal.h"
#include "store/maildir.h"
#include "store/service_private.h"

static void count_flags(struct mailbox *m, unsigned flags, int sign)
{
	if (!(flags & FLAG_SEEN))
		m->rec.unseen += (uint32_t)sign;
	if (flags & FLAG_DELETED)
		m->rec.deleted += (uint32_t)sign;
}

static struct hot_entry *hot_dirty(struct mailbox *m, struct chunk *c, uint32_t uid)
{
	c->hot_dirty = true;
	m->dirty = true;
	return &c->hot[chunk_slot(uid)];
}

/* ---- coming ---- */

int message_place(struct txn *t, struct account *a, struct mailbox *m, const struct placing *p, uint32_t *uid_r,
		  struct err *err)
{
	uint32_t uid = p->uid ? p->uid : m->rec.uidnext;
	struct hot_entry *h;
	struct chunk *c;
	unsigned slot = chunk_slot(uid);

	invariant(uid >= m->rec.uidnext);
	if (uid >= UINT32_MAX - 1)
		return err_set(err, ERR_LIMIT, "5.2.2", "the mailbox has given out all its UIDs");
	if (chunk_get(a, m, uid >> 6, true, true, &c, err) < 0)
		return -1;
	txn_touch(t, a);
	h = hot_dirty(m, c, uid);
	*h = p->hot;
	h->modseq = p->modseq;
	c->fixed[slot] = p->fixed;
	if (p->fixed.base.len > 0)
		c->fixed[slot].base = arena_str(&c->names, p->fixed.base);
	c->fixed_dirty = true;
	c->present |= 1ULL << slot;
	m->rec.uidnext = uid + 1;
	m->rec.messages++;
	m->rec.size += p->fixed.size;
	count_flags(m, h->flags, 1);
	a->header.used_bytes += p->fixed.size;
	a->header.used_messages++;
	a->dirty = true;
	if (follow_claimed(t->svc, a->id, m->id))
		m->rec.recent_from = uid + 1;
	txn_change(t, a, m, CHANGE_NEW, uid, h);
	mailbox_uidlist_head(t, a, m);
	uidlist_message(txn_lines(t, a, m), uid, p->fixed.message, p->fixed.date, p->fixed.prefix_len, p->fixed.as_is,
			h->keywords, entry_base(&t->arena, a, &c->fixed[slot]));
	t->bytes += 160;
	*uid_r = uid;
	return 0;
}

/* ---- going ---- */

static void keep_expunged(struct txn *t, struct account *a, struct mailbox *m, uint32_t uid,
			  const struct static_entry *e)
{
	struct expunged_record x = {.entry = *e, .time = (uint64_t)clock_wall()};

	expunged_record_encode(&x, &t->scratch);
	txn_put(t, key_u32_u32(&t->arena, a->id, 'X', m->id, uid), txn_value(t));
	if (a->header.oldest_expunged == 0 || a->header.oldest_expunged > x.time)
		a->header.oldest_expunged = x.time;
}

static void letters_now(struct txn *t, unsigned projected, bool *cur, struct str *flags)
{
	char letters[8];

	*cur = projected & PROJECTED_CUR;
	*flags = arena_str(&t->arena, str_from(maildir_letters(projected, letters)));
}

int message_remove(struct txn *t, struct account *a, struct mailbox *m, uint32_t uid, struct chunk *c, uint64_t modseq,
		   bool file_gone, bool moved, struct err *err)
{
	unsigned slot = chunk_slot(uid);
	struct hot_entry *h;

	if (chunk_load_fixed(a, m, c, err) < 0)
		return -1;
	txn_touch(t, a);
	h = hot_dirty(m, c, uid);
	h->modseq = modseq;
	c->fixed_dirty = true;
	c->present &= ~(1ULL << slot);
	m->rec.messages--;
	m->rec.size -= c->fixed[slot].size;
	count_flags(m, h->flags, -1);
	a->header.used_bytes -= c->fixed[slot].size;
	a->header.used_messages--;
	a->dirty = true;
	txn_change(t, a, m, CHANGE_EXPUNGE, uid, h);
	mailbox_uidlist_head(t, a, m);
	uidlist_expunge(txn_lines(t, a, m), uid);
	t->bytes += 32;
	if (moved)
		return 0;
	if (file_gone)
		return message_unref(t, a, c->fixed[slot].message, (struct place){m->id, uid}, err);
	struct store_file_op *op = txn_file(t, a, FILE_REMOVE, m->rec.folder);
	op->base = entry_base(&t->arena, a, &c->fixed[slot]);
	letters_now(t, h->projected, &op->cur, &op->flags);
	op->was_cur = op->cur;
	op->was_flags = op->flags;
	keep_expunged(t, a, m, uid, &c->fixed[slot]);
	return 0;
}

/* ---- changing ---- */

int message_set(struct txn *t, struct account *a, struct mailbox *m, uint32_t uid, struct chunk *c, unsigned flags,
		uint64_t keywords, uint64_t modseq, struct err *err)
{
	struct hot_entry *h;

	txn_touch(t, a);
	h = hot_dirty(m, c, uid);
	count_flags(m, h->flags, -1);
	if (h->keywords != keywords) {
		mailbox_uidlist_head(t, a, m);
		uidlist_keywords(txn_lines(t, a, m), uid, keywords);
	}
	h->flags = (uint8_t)(flags & FLAG_SYSTEM);
	h->keywords = keywords;
	h->modseq = modseq;
	count_flags(m, h->flags, 1);
	txn_change(t, a, m, CHANGE_FLAGS, uid, h);
	(void)err;
	return 0;
}

int message_project(struct txn *t, struct account *a, struct mailbox *m, uint32_t uid, struct chunk *c, struct err *err)
{
	struct hot_entry *h = &c->hot[chunk_slot(uid)];
	unsigned wanted = entry_projection(m, h);
	struct store_file_op *op;

	if (uid < m->rec.recent_from)
		wanted |= PROJECTED_CUR; /* a client has seen it: it leaves new/ */
	if (wanted == h->projected)
		return 0;
	if (chunk_load_fixed(a, m, c, err) < 0)
		return -1;
	txn_touch(t, a);
	h = hot_dirty(m, c, uid);
	op = txn_file(t, a, FILE_MOVE, m->rec.folder);
	op->base = entry_base(&t->arena, a, &c->fixed[chunk_slot(uid)]);
	op->to_folder = op->folder;
	op->to_base = op->base;
	letters_now(t, h->projected, &op->was_cur, &op->was_flags);
	letters_now(t, wanted, &op->cur, &op->flags);
	h->projected = (uint8_t)wanted;
	return 0;
}

/* ---- places of a message ---- */

static int places_get(struct txn *t, struct account *a, uint64_t message, struct place **places_r, size_t *n_r,
		      struct err *err)
{
	struct str value;
	int rc = 0;

	*n_r = 0;
	/* What this transaction has written is not in the engine yet. */
	if (t->places && map_get_u64(t->places, message ^ a->id << 32)) {
		const struct store_kv_op *op = &t->kv.v[(uintptr_t)map_get_u64(t->places, message ^ a->id << 32) - 1];

		if (op->del)
			return 0;
		value = op->value;
		rc = 1;
	}
	if (rc == 0)
		rc = store_engine_get(t->svc->engine, key_u64(&t->arena, a->id, 'R', message), &t->arena, &value, err);
	if (rc > 0 && !places_decode(value, &t->arena, places_r, n_r))
		return 0; /* damaged: the summary is kept for good, nothing else is lost */
	return rc;
}

static void places_put(struct txn *t, struct account *a, uint64_t message, const struct place *places, size_t n)
{
	struct str key = key_u64(&t->arena, a->id, 'R', message);

	if (!t->places)
		t->places = map_new();
	map_set_u64(t->places, message ^ a->id << 32, (void *)(uintptr_t)(t->kv.n + 1));
	if (n < 2) {
		txn_del(t, key);
		return;
	}
	places_encode(places, n, &t->scratch);
	txn_put(t, key, txn_value(t));
}

int message_ref(struct txn *t, struct account *a, uint64_t message, struct place first, struct place more,
		struct err *err)
{
	struct place *old, *now;
	size_t n;

	if (places_get(t, a, message, &old, &n, err) < 0)
		return -1;
	now = ARENA_ARRAY(&t->arena, struct place, n + 2);
	if (n > 0)
		memcpy(now, old, n * sizeof(*now));
	else
		now[n++] = first;
	now[n++] = more;
	places_put(t, a, message, now, n);
	return 0;
}

int message_unref(struct txn *t, struct account *a, uint64_t message, struct place gone, struct err *err)
{
	struct place *places;
	size_t n, kept = 0;

	if (places_get(t, a, message, &places, &n, err) < 0)
		return -1;
	if (n == 0) {
		txn_del(t, key_u64(&t->arena, a->id, 'M', message));
		return 0;
	}
	for (size_t i = 0; i < n; i++)
		if (places[i].mailbox != gone.mailbox || places[i].uid != gone.uid)
			places[kept++] = places[i];
	places_put(t, a, message, places, kept);
	if (kept == 0)
		txn_del(t, key_u64(&t->arena, a->id, 'M', message));
	return 0;
}

/* ---- keywords ---- */

/* RFC 3501 9: flag-keyword = atom. */
int keyword_check(struct str name, struct err *err)
{
	if (name.len == 0 || name.len > STORE_KEYWORD_LEN_MAX)
		return err_set(err, ERR_LIMIT, "", "a keyword is empty or too long");
	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.ptr[i];

		if (c <= ' ' || c >= 0x7f || memchr("(){%*\"\\]", c, 8))
			return err_set(err, ERR_SYNTAX, "", "a keyword holds a character that is not allowed");
	}
	return 0;
}

int keyword_bit(struct txn *t, struct account *a, struct mailbox *m, struct str name, unsigned *bit_r, struct err *err)
{
	int bit = mailbox_keyword(m, name);

	if (bit < 0) {
		struct str names[STORE_KEYWORDS_MAX];

		if (keyword_check(name, err) < 0)
			return -1;
		if (m->keyword_count >= STORE_KEYWORDS_MAX)
			return err_set(err, ERR_LIMIT, "", "the mailbox has no room for another keyword");
		memcpy(names, m->keywords, sizeof(names));
		names[m->keyword_count] = name;
		bit = (int)m->keyword_count;
		mailbox_keywords_set(m, names, m->keyword_count + 1);
		m->dirty = m->keywords_dirty = true;
		txn_touch(t, a);
		txn_changes(t, a->id, m->id)->keywords = true;
		mailbox_uidlist_head(t, a, m);
		uidlist_keyword(txn_lines(t, a, m), (unsigned)bit, name);
	}
	*bit_r = (unsigned)bit;
	return 0;
}
