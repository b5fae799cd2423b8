/* txn - gathers what one commit does, gives it to the engine, and lets answers and events out when it is durable.
 *
 * The engine calls done() in the order of commits. Reads that saw what a commit did are held in that commit's
 * `answers`: nobody hears of a change that could still be lost, and everybody hears of changes in order. */
#include "base/fatal.h"
#include "base/log.h"
#include "os/fault.h"
#include "store/maildir.h"
#include "store/service_private.h"
#include <unistd.h>

#define SCRATCH_MAX (2u << 20)
/* Change log records kept an account; older ones go two for one. */
#define LOG_KEEP 50000

struct txn *txn_new(struct store_service *svc)
{
	struct txn *t = NEW(struct txn);

	t->svc = svc;
	arena_init(&t->arena);
	buf_init(&t->scratch, SCRATCH_MAX);
	return t;
}

static void txn_free(struct txn *t)
{
	for (size_t i = 0; i < t->events.n; i++) {
		vec_release(&t->events.v[i]->changes);
		free(t->events.v[i]);
	}
	for (size_t i = 0; i < t->lines.n; i++) {
		buf_release(&t->lines.v[i]->lines);
		free(t->lines.v[i]);
	}
	vec_release(&t->kv);
	vec_release(&t->files);
	vec_release(&t->bodies);
	vec_release(&t->accounts);
	vec_release(&t->account_ids);
	vec_release(&t->events);
	vec_release(&t->lines);
	vec_release(&t->answers);
	map_free(&t->places);
	map_free(&t->events_of);
	map_free(&t->lines_of);
	buf_release(&t->scratch);
	arena_release(&t->arena);
	free(t);
}

void txn_touch(struct txn *t, struct account *a)
{
	for (size_t i = 0; i < t->accounts.n; i++)
		if (t->accounts.v[i] == a)
			return;
	vec_push(&t->accounts, a);
	vec_push(&t->account_ids, a->id);
}

void txn_put(struct txn *t, struct str key, struct str value)
{
	struct store_kv_op op = {.key = key, .value = value};

	vec_push(&t->kv, op);
	t->bytes += key.len + value.len + 16;
}

void txn_del(struct txn *t, struct str key)
{
	struct store_kv_op op = {.key = key, .del = true};

	vec_push(&t->kv, op);
	t->bytes += key.len + 16;
}

struct str txn_value(struct txn *t)
{
	struct str value;

	invariant(!buf_failed(&t->scratch));
	value = arena_str(&t->arena, buf_str(&t->scratch));
	buf_clear(&t->scratch);
	return value;
}

struct store_file_op *txn_file(struct txn *t, struct account *a, enum store_file_kind kind, struct str folder)
{
	struct store_file_op op = {.kind = kind, .account = a->id, .body = -1, .home = !a->fresh};

	op.path = arena_str(&t->arena, a->header.path);
	op.folder = arena_str(&t->arena, folder);
	vec_push(&t->files, op);
	t->bytes += op.path.len + op.folder.len + 200;
	return &t->files.v[t->files.n - 1];
}

uint64_t txn_modseq(struct txn *t, struct account *a, struct mailbox *m)
{
	struct change_set *set = txn_changes(t, a->id, m->id);

	txn_touch(t, a);
	a->dirty = true;
	m->dirty = true;
	if (set->modseq == 0)
		set->since = m->rec.modseq;
	m->rec.modseq = ++a->header.modseq;
	set->modseq = m->rec.modseq;
	return m->rec.modseq;
}

struct mailbox_key {
	uint64_t account, mailbox;
};

/* What *m has of the mailbox. */
static void *of_mailbox(struct map **m, const struct mailbox_key *key)
{
	if (!*m)
		*m = map_new();
	return map_get(*m, str_of(key, sizeof(*key)));
}

struct change_set *txn_changes(struct txn *t, uint64_t account, uint32_t mailbox)
{
	struct mailbox_key key = {account, mailbox};
	struct change_set *set = of_mailbox(&t->events_of, &key);

	if (set)
		return set;
	set = NEW(struct change_set);
	set->account = account;
	set->mailbox = mailbox;
	vec_push(&t->events, set);
	map_set(t->events_of, str_of(&key, sizeof(key)), set);
	return set;
}

void txn_change(struct txn *t, struct account *a, struct mailbox *m, enum change_kind kind, uint32_t uid,
		const struct hot_entry *h)
{
	struct change_set *set = txn_changes(t, a->id, m->id);
	struct message_change change = {
		.kind = (uint8_t)kind, .uid = uid, .flags = h->flags, .keywords = h->keywords, .modseq = h->modseq};

	vec_push(&set->changes, change);
	t->bytes += 8;
}

struct buf *txn_lines(struct txn *t, struct account *a, struct mailbox *m)
{
	struct mailbox_key key = {a->id, m->id};
	struct uidlist_lines *l = of_mailbox(&t->lines_of, &key);

	if (l)
		return &l->lines;
	l = NEW(struct uidlist_lines);
	l->account = a->id;
	l->mailbox = m->id;
	buf_init(&l->lines, STORE_COMMIT_MAX);
	vec_push(&t->lines, l);
	map_set(t->lines_of, str_of(&key, sizeof(key)), l);
	return &l->lines;
}

/* ---- writing what is dirty ---- */

static void put_chunks(struct txn *t, struct account *a, struct mailbox *m)
{
	for (size_t i = 0; i < m->chunks.n; i++) {
		struct chunk *c = m->chunks.v[i];

		if (c->hot_dirty) {
			struct str key = key_u32_u32(&t->arena, a->id, 'H', m->id, c->number);

			if (c->present) {
				hot_chunk_encode(c->present, c->hot, &t->scratch);
				txn_put(t, key, txn_value(t));
			} else {
				txn_del(t, key);
			}
		}
		if (c->fixed_dirty) {
			struct str key = key_u32_u32(&t->arena, a->id, 'S', m->id, c->number);

			if (c->present) {
				static_chunk_encode(c->present, c->fixed, &t->scratch);
				txn_put(t, key, txn_value(t));
			} else {
				txn_del(t, key);
			}
		}
		c->hot_dirty = c->fixed_dirty = false;
	}
}

static void put_mailbox(struct txn *t, struct account *a, struct mailbox *m)
{
	if (m->deleted_now || !m->dirty)
		return;
	put_chunks(t, a, m);
	mailbox_record_encode(&m->rec, &t->scratch);
	txn_put(t, key_u32(&t->arena, a->id, 'B', m->id), txn_value(t));
	if (m->keywords_dirty) {
		names_encode(m->keywords, m->keyword_count, &t->scratch);
		txn_put(t, key_u32(&t->arena, a->id, 'K', m->id), txn_value(t));
	}
	m->dirty = m->keywords_dirty = m->claimed = false;
}

/* One record for each run of changes that share modseq and kind. */
static void put_log(struct txn *t, struct account *a, const struct change_set *set)
{
	for (size_t i = 0; i < set->changes.n;) {
		const struct message_change *first = &set->changes.v[i];
		VEC(struct uid_range) ranges = {0};
		struct log_record rec;

		for (; i < set->changes.n && set->changes.v[i].modseq == first->modseq &&
		       set->changes.v[i].kind == first->kind;
		     i++) {
			uint32_t uid = set->changes.v[i].uid;
			struct uid_range one = {uid, uid};

			if (ranges.n > 0 && ranges.v[ranges.n - 1].last + 1 == uid)
				ranges.v[ranges.n - 1].last = uid;
			else
				vec_push(&ranges, one);
		}
		rec = (struct log_record){set->mailbox, first->kind, ranges.v, ranges.n};
		log_record_encode(&rec, &t->scratch);
		vec_release(&ranges);
		txn_put(t, key_u64(&t->arena, a->id, 'L', first->modseq), txn_value(t));
		for (int n = 0; n < 2 && a->header.modseq - a->header.log_first > LOG_KEEP; n++)
			txn_del(t, key_u64(&t->arena, a->id, 'L', a->header.log_first++));
	}
}

static void put_account(struct txn *t, struct account *a)
{
	delivery_notes_strike(t, a);
	for (size_t i = 0; i < t->events.n; i++)
		if (t->events.v[i]->account == a->id)
			put_log(t, a, t->events.v[i]);
	for (size_t i = 0; i < a->mailboxes.n; i++)
		put_mailbox(t, a, a->mailboxes.v[i]);
	if (a->dirty) {
		account_header_encode(&a->header, &t->scratch);
		txn_put(t, key_plain(&t->arena, a->id, 'A'), txn_value(t));
		a->dirty = false;
	}
}

/* Raised in steps, so that a UID is never given again even if the journal is lost too. */
#define CEILING_STEP 1000

static void put_lines(struct txn *t)
{
	for (size_t i = 0; i < t->lines.n; i++) {
		struct uidlist_lines *l = t->lines.v[i];

		for (size_t j = 0; j < t->accounts.n; j++) {
			struct account *a = t->accounts.v[j];
			struct mailbox *m = a->id == l->account ? account_mailbox(a, l->mailbox) : NULL;

			if (!m)
				continue;
			if (m->rec.uidnext + CEILING_STEP / 2 >= m->rec.uid_ceiling) {
				m->rec.uid_ceiling = m->rec.uidnext + CEILING_STEP;
				m->dirty = true;
				uidlist_ceiling(&l->lines, m->rec.uid_ceiling, a->header.modseq);
			}
			txn_file(t, a, FILE_NOTE, m->rec.folder)->prefix = buf_str(&l->lines);
			t->bytes += l->lines.len;
			m->rec.uidlist_lines += 1 + l->lines.len / 64;
			m->dirty = true;
			if (uidlist_is_long(m))
				project_soon(t->svc, a->id);
		}
	}
}

/* ---- letting it out ---- */

static void answer_now(struct held_answer *h)
{
	if (h->req)
		rpc_answer(h->req, h->reply);
	if (h->fd >= 0)
		close(h->fd);
}

/* From the engine: this commit, and all before it, will survive everything. */
static void txn_durable(void *ctx)
{
	struct txn *t = ctx;

	if (t->answers.n > 0 && t->answers.v[0].req)
		FAULT_POINT("store.flushed");
	for (size_t i = 0; i < t->account_ids.n; i++) {
		struct runtime *rt = runtime_get(t->svc, t->account_ids.v[i]);

		if (rt->last == t)
			rt->last = NULL;
	}
	for (size_t i = 0; i < t->events.n; i++)
		follow_announce(t->svc, t->events.v[i]);
	for (size_t i = 0; i < t->answers.n; i++)
		answer_now(&t->answers.v[i]);
	txn_free(t);
}

void answer_when_durable(struct store_service *svc, uint64_t account, struct rpc_request *req, void *reply, int fd)
{
	struct held_answer h = {req, reply, fd};
	struct runtime *rt = runtime_get(svc, account);

	if (rt->last)
		vec_push(&rt->last->answers, h);
	else
		answer_now(&h);
}

/* What views need of the keyword list when it grew, kept until the events leave. */
static void copy_keywords(struct txn *t)
{
	for (size_t i = 0; i < t->events.n; i++) {
		struct change_set *set = t->events.v[i];

		for (size_t j = 0; set->keywords && j < t->accounts.n; j++) {
			struct mailbox *m = t->accounts.v[j]->id == set->account
						    ? account_mailbox(t->accounts.v[j], set->mailbox)
						    : NULL;

			for (size_t k = 0; m && k < m->keyword_count; k++)
				set->names[k].name = arena_str(&t->arena, m->keywords[k]);
			if (m)
				set->name_count = m->keyword_count;
		}
	}
}

static void mailboxes_drop_deleted(struct account *a)
{
	for (size_t i = 0; i < a->mailboxes.n; i++)
		if (a->mailboxes.v[i]->deleted_now) {
			/* Seldom enough: the cache is simply read again. */
			account_forget(a->svc, a->id);
			return;
		}
}

void txn_abort(struct txn **tp)
{
	struct txn *t = *tp;

	*tp = NULL;
	if (!t)
		return;
	for (size_t i = 0; i < t->account_ids.n; i++)
		account_forget(t->svc, t->account_ids.v[i]);
	txn_free(t);
}

int txn_commit(struct txn **tp, struct rpc_request *req, void *reply, struct err *err)
{
	struct txn *t = *tp;
	struct held_answer h = {req, reply, -1};
	struct store_batch commit;

	put_lines(t);
	for (size_t i = 0; i < t->accounts.n; i++)
		put_account(t, t->accounts.v[i]);
	copy_keywords(t);
	vec_push(&t->answers, h);
	commit = (struct store_batch){.kv = t->kv.v,
				      .kv_count = t->kv.n,
				      .files = t->files.v,
				      .file_count = t->files.n,
				      .bodies = t->bodies.v,
				      .body_count = t->bodies.n,
				      .done = txn_durable,
				      .ctx = t};
	/* done() never runs from within the call: it is handed over by the loop. But be ready for it. */
	for (size_t i = 0; i < t->account_ids.n; i++) {
		struct runtime *rt = runtime_get(t->svc, t->account_ids.v[i]);

		rt->before = rt->last;
		rt->last = t;
		if (t->files.n > 0)
			rt->serial++;
	}
	for (size_t i = 0; i < t->files.n; i++)
		watch_expect(t->svc, t->files.v[i].account, &t->files.v[i]);
	if (store_engine_commit(t->svc->engine, &commit, err) < 0) {
		for (size_t i = 0; i < t->account_ids.n; i++) {
			struct runtime *rt = runtime_get(t->svc, t->account_ids.v[i]);

			rt->last = rt->before;
		}
		txn_abort(tp);
		return -1;
	}
	FAULT_POINT("store.taken");
	*tp = NULL;
	for (size_t i = 0; i < t->accounts.n; i++) {
		t->accounts.v[i]->fresh = false;
		mailboxes_drop_deleted(t->accounts.v[i]);
	}
	return 0;
}

int txn_roll(struct txn **tp, struct err *err)
{
	struct store_service *svc = (*tp)->svc;
	struct txn *next;
	size_t dirty = (*tp)->bytes;

	if (dirty < TXN_ROLL_BYTES)
		return 0;
	if (txn_commit(tp, NULL, NULL, err) < 0)
		return -1;
	next = txn_new(svc);
	*tp = next;
	return 0;
}
