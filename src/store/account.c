/* account - loading and caching, see account.h. */
#include "store/account.h"
#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "store/maildir.h"
#include "store/service_private.h"

/* Chunks of 64 messages kept over all accounts: about 40 MB with everything loaded. */
#define CHUNKS_MAX	 8192
#define CHUNKS_RECENT_MS 1000
/* So many at most are fetched one by one, a wider range in one pass that loads the mailbox. */
#define CHUNKS_SINGLY 64
/* Accounts kept in memory although nobody has used them for a while. */
#define ACCOUNTS_MAX	2048
#define ACCOUNT_IDLE_MS 60000

struct str str_own(struct str s)
{
	return str_of(str_dup(s), s.len);
}

static void str_free(struct str *s)
{
	free((void *)(uintptr_t)s->ptr);
	*s = STR_NULL;
}

/* ---- freeing ---- */

static void chunk_free(struct chunk *c)
{
	free(c->fixed);
	arena_release(&c->names);
	free(c);
}

static void chunks_drop(struct account *a, struct mailbox *m)
{
	for (size_t i = 0; i < m->chunks.n; i++)
		chunk_free(m->chunks.v[i]);
	a->chunk_count -= m->chunks.n;
	a->svc->chunk_count -= m->chunks.n;
	vec_release(&m->chunks);
	m->complete = false;
}

static void mailbox_free(struct account *a, struct mailbox *m)
{
	chunks_drop(a, m);
	str_free(&m->rec.name);
	str_free(&m->rec.folder);
	for (size_t i = 0; i < m->keyword_count; i++)
		str_free(&m->keywords[i]);
	free(m);
}

static void account_free(struct account *a)
{
	for (size_t i = 0; i < a->mailboxes.n; i++)
		mailbox_free(a, a->mailboxes.v[i]);
	vec_release(&a->mailboxes);
	for (size_t i = 0; i < a->notes.n; i++) {
		str_free(&a->notes.v[i].rec.recipient);
		str_free(&a->notes.v[i].rec.fingerprint);
	}
	vec_release(&a->notes);
	for (size_t i = 0; i < a->answers.n; i++) {
		str_free(&a->answers.v[i].commit_id);
		str_free(&a->answers.v[i].reply);
	}
	vec_release(&a->answers);
	for (size_t i = 0; i < a->subscriptions.n; i++)
		str_free(&a->subscriptions.v[i]);
	vec_release(&a->subscriptions);
	str_free(&a->header.path);
	str_free(&a->header.host);
	free(a);
}

void account_forget(struct store_service *svc, uint64_t id)
{
	struct account *a = map_remove_u64(svc->accounts, id);

	if (a)
		account_free(a);
}

static bool chunks_clean(const struct mailbox *m)
{
	for (size_t i = 0; i < m->chunks.n; i++)
		if (m->chunks.v[i]->hot_dirty || m->chunks.v[i]->fixed_dirty)
			return false;
	return true;
}

static bool can_be_forgotten(struct store_service *svc, const struct account *a)
{
	struct runtime *rt = runtime_get(svc, a->id);

	return !rt->last && !rt->rebuilding && !a->dirty && clock_ms() - a->used_ms >= ACCOUNT_IDLE_MS;
}

static void accounts_forget_idle(struct store_service *svc)
{
	struct str key;
	void *value;

	if (map_count(svc->accounts) <= ACCOUNTS_MAX || clock_ms() - svc->trimmed_ms < ACCOUNT_IDLE_MS / 10)
		return;
	svc->trimmed_ms = clock_ms();
	for (size_t at = 0; map_next(svc->accounts, &at, &key, &value);)
		if (can_be_forgotten(svc, value))
			account_forget(svc, ((struct account *)value)->id);
}

void accounts_trim(struct store_service *svc)
{
	struct str key;
	void *value;
	int64_t limit = ACCOUNT_IDLE_MS;

	accounts_forget_idle(svc);
	/* Every account is looked at: not after each request. */
	if (svc->chunk_count <= 2 * CHUNKS_MAX && clock_ms() - svc->chunks_trimmed_ms < CHUNKS_RECENT_MS / 10)
		return;
	svc->chunks_trimmed_ms = clock_ms();
	/* What is in use now goes only when it is far too much: it would be loaded again by the very next request, and
	 * one large mailbox is read in hundreds of them. */
	for (; svc->chunk_count > (limit < CHUNKS_RECENT_MS ? 2 * CHUNKS_MAX : CHUNKS_MAX) && limit >= 0;
	     limit = limit ? limit / 4 : -1)
		for (size_t at = 0; map_next(svc->accounts, &at, &key, &value);) {
			struct account *a = value;

			if (clock_ms() - a->used_ms < limit)
				continue;
			for (size_t i = 0; i < a->mailboxes.n; i++)
				if (chunks_clean(a->mailboxes.v[i]))
					chunks_drop(a, a->mailboxes.v[i]);
		}
}

/* ---- loading ---- */

struct mailbox *mailbox_new(struct account *a, uint32_t id, const struct mailbox_record *rec)
{
	struct mailbox *m = NEW(struct mailbox);

	m->id = id;
	m->rec = *rec;
	m->rec.name = str_own(rec->name);
	m->rec.folder = str_own(rec->folder);
	m->passed_bit = -1;
	vec_push(&a->mailboxes, m);
	return m;
}

void mailbox_keywords_set(struct mailbox *m, const struct str *names, size_t count)
{
	for (size_t i = m->keyword_count; i < count; i++) {
		m->keywords[i] = str_own(names[i]);
		if (str_ieq(names[i], STR("$Forwarded")))
			m->passed_bit = (int)i;
	}
	if (count > m->keyword_count)
		m->keyword_count = count;
}

struct loading {
	struct account *a;
	bool damaged;
};

static int load_mailbox(void *ctx, struct str key, struct str value)
{
	struct loading *l = ctx;
	struct mailbox_record rec;
	uint32_t id;

	if (!key_read_u32(key, 'B', &id) || !mailbox_record_decode(value, &rec)) {
		l->damaged = true;
		return 1;
	}
	mailbox_new(l->a, id, &rec)->noted = true;
	return 0;
}

static int load_keywords(void *ctx, struct str key, struct str value)
{
	struct loading *l = ctx;
	struct str names[STORE_KEYWORDS_MAX];
	struct mailbox *m;
	uint32_t id;
	size_t n;

	if (!key_read_u32(key, 'K', &id) || !names_decode(value, names, STORE_KEYWORDS_MAX, &n)) {
		l->damaged = true;
		return 1;
	}
	m = account_mailbox(l->a, id);
	if (m)
		mailbox_keywords_set(m, names, n);
	return 0;
}

static int load_answer(void *ctx, struct str key, struct str value)
{
	struct loading *l = ctx;
	struct answer_record r;

	(void)key;
	if (answer_record_decode(value, &r)) {
		r.commit_id = str_own(r.commit_id);
		r.reply = str_own(r.reply);
		vec_push(&l->a->answers, r);
	}
	return 0;
}

static int load_note(void *ctx, struct str key, struct str value)
{
	struct loading *l = ctx;
	struct note n = {0};

	if (key_tail(key).len < 16 || !note_record_decode(value, &n.rec))
		return 0;
	memcpy(n.delivery_id, key_tail(key).ptr, 16);
	n.rec.recipient = str_own(n.rec.recipient);
	n.rec.fingerprint = str_own(n.rec.fingerprint);
	vec_push(&l->a->notes, n);
	return 0;
}

static int load_subscription(void *ctx, struct str key, struct str value)
{
	struct loading *l = ctx;

	(void)value;
	vec_push(&l->a->subscriptions, str_own(key_tail(key)));
	return 0;
}

static int load_range(struct loading *l, char type, store_range_fn *fn, struct err *err)
{
	struct arena arena;
	int rc;

	arena_init(&arena);
	rc = store_engine_range(l->a->svc->engine, key_plain(&arena, l->a->id, type), key_end(&arena, l->a->id, type),
				false, fn, l, err);
	arena_release(&arena);
	return rc < 0 ? -1 : 0;
}

static int load_header(struct account *a, struct err *err)
{
	struct arena arena;
	struct str value;
	int rc;

	arena_init(&arena);
	rc = store_engine_get(a->svc->engine, key_plain(&arena, a->id, 'A'), &arena, &value, err);
	if (rc > 0) {
		if (account_header_decode(value, &a->header)) {
			a->header.path = str_own(a->header.path);
			a->header.host = str_own(a->header.host);
			if (a->header.rebuilding && !runtime_get(a->svc, a->id)->rebuilding)
				rc = err_set(err, ERR_TEMP, "4.3.0", "account %llu was being rebuilt",
					     (unsigned long long)a->id);
		} else {
			a->header.path = a->header.host = STR_NULL;
			rc = err_set(err, ERR_TEMP, "4.3.0", "the header of account %llu is damaged",
				     (unsigned long long)a->id);
		}
	}
	arena_release(&arena);
	return rc;
}

static int load_all(struct account *a, struct err *err)
{
	struct loading l = {.a = a};

	if (load_range(&l, 'B', load_mailbox, err) < 0 || load_range(&l, 'K', load_keywords, err) < 0 ||
	    load_range(&l, 'C', load_answer, err) < 0 || load_range(&l, 'N', load_note, err) < 0 ||
	    load_range(&l, 'U', load_subscription, err) < 0)
		return -1;
	if (l.damaged || !account_mailbox_named(a, STR("INBOX")))
		return err_set(err, ERR_TEMP, "4.3.0", "records of account %llu are damaged",
			       (unsigned long long)a->id);
	return 1;
}

int account_get(struct store_service *svc, uint64_t id, struct account **a_r, struct err *err)
{
	struct account *a = map_get_u64(svc->accounts, id);
	int rc = 1;

	if (!a) {
		a = NEW(struct account);
		a->svc = svc;
		a->id = id;
		rc = load_header(a, err);
		if (rc > 0)
			rc = load_all(a, err);
		if (rc <= 0) {
			account_free(a);
			return rc;
		}
		map_set_u64(svc->accounts, id, a);
	}
	a->used_ms = clock_ms();
	*a_r = a;
	return 1;
}

/* ---- finding ---- */

struct mailbox *account_mailbox(struct account *a, uint32_t id)
{
	size_t n = a->mailboxes.n, from = a->mailbox_last < n ? a->mailbox_last : 0;

	/* Whoever goes through many asks for one after the other. */
	for (size_t k = 0; k < n; k++) {
		size_t i = from + k < n ? from + k : from + k - n;

		if (a->mailboxes.v[i]->id == id && !a->mailboxes.v[i]->deleted_now) {
			a->mailbox_last = i;
			return a->mailboxes.v[i];
		}
	}
	return NULL;
}

struct mailbox *account_mailbox_named(struct account *a, struct str name)
{
	for (size_t i = 0; i < a->mailboxes.n; i++)
		if (str_eq(a->mailboxes.v[i]->rec.name, name) && !a->mailboxes.v[i]->deleted_now)
			return a->mailboxes.v[i];
	return NULL;
}

struct mailbox *account_mailbox_role(struct account *a, uint8_t role)
{
	for (size_t i = 0; i < a->mailboxes.n; i++)
		if (a->mailboxes.v[i]->rec.role == role && !a->mailboxes.v[i]->deleted_now)
			return a->mailboxes.v[i];
	return NULL;
}

struct mailbox *account_mailbox_folder(struct account *a, struct str folder)
{
	for (size_t i = 0; i < a->mailboxes.n; i++)
		if (str_eq(a->mailboxes.v[i]->rec.folder, folder) && !a->mailboxes.v[i]->deleted_now)
			return a->mailboxes.v[i];
	return NULL;
}

bool account_subscribed_name(const struct account *a, struct str name, size_t *at_r)
{
	for (size_t i = 0; i < a->subscriptions.n; i++)
		if (str_eq(a->subscriptions.v[i], name)) {
			*at_r = i;
			return true;
		}
	return false;
}

int mailbox_keyword(const struct mailbox *m, struct str name)
{
	for (size_t i = 0; i < m->keyword_count; i++)
		if (str_ieq(m->keywords[i], name))
			return (int)i;
	return -1;
}

/* ---- chunks ---- */

/* Where the chunk is, or belongs. Mostly it is the one asked for last, or the next one. */
static size_t chunk_place(struct mailbox *m, uint32_t number)
{
	size_t lo = 0, hi = m->chunks.n, last = m->chunk_last;

	if (last < hi && m->chunks.v[last]->number < number)
		lo = ++last;
	if (last < hi && m->chunks.v[last]->number == number)
		return m->chunk_last = last;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (m->chunks.v[mid]->number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return m->chunk_last = lo;
}

static struct chunk *chunk_add(struct account *a, struct mailbox *m, uint32_t number)
{
	struct chunk *c = NEW(struct chunk);
	size_t at = chunk_place(m, number);

	c->number = number;
	arena_init(&c->names);
	vec_reserve(&m->chunks, m->chunks.n + 1);
	memmove(m->chunks.v + at + 1, m->chunks.v + at, (m->chunks.n - at) * sizeof(c));
	m->chunks.v[at] = c;
	m->chunks.n++;
	a->chunk_count++;
	a->svc->chunk_count++;
	return c;
}

int account_broken(struct account *a, struct err *err)
{
	account_damaged(a->svc, a->id, a->header.path);
	return err_set(err, ERR_TEMP, "4.3.0", "the index of account %llu is damaged and being rebuilt",
		       (unsigned long long)a->id);
}

int chunk_load_fixed(struct account *a, struct mailbox *m, struct chunk *c, struct err *err)
{
	struct arena arena;
	struct str value;
	uint64_t present = 0;
	int rc;

	if (c->fixed)
		return 0;
	arena_init(&arena);
	c->fixed = mem_alloc(sizeof(*c->fixed) * CHUNK_UIDS);
	rc = store_engine_get(a->svc->engine, key_u32_u32(&arena, a->id, 'S', m->id, c->number), &arena, &value, err);
	if (rc > 0 && !static_chunk_decode(value, &present, c->fixed))
		rc = -1;
	if (rc >= 0 && (c->present & ~present))
		rc = -1;
	if (rc < 0) {
		free(c->fixed);
		c->fixed = NULL;
		arena_release(&arena);
		return account_broken(a, err);
	}
	for (unsigned i = 0; i < CHUNK_UIDS; i++)
		if (c->fixed[i].base.len > 0)
			c->fixed[i].base = arena_str(&c->names, c->fixed[i].base);
	arena_release(&arena);
	return 0;
}

int chunk_get(struct account *a, struct mailbox *m, uint32_t number, bool fixed, bool make, struct chunk **c_r,
	      struct err *err)
{
	size_t at = chunk_place(m, number);
	struct chunk *c = NULL;

	if (at < m->chunks.n && m->chunks.v[at]->number == number)
		c = m->chunks.v[at];
	if (!c && !m->complete) {
		struct arena arena;
		struct str value;
		int rc;

		arena_init(&arena);
		rc = store_engine_get(a->svc->engine, key_u32_u32(&arena, a->id, 'H', m->id, number), &arena, &value,
				      err);
		if (rc > 0) {
			c = chunk_add(a, m, number);
			if (!hot_chunk_decode(value, &c->present, c->hot))
				rc = -1;
		}
		arena_release(&arena);
		if (rc < 0)
			return account_broken(a, err);
	}
	if (!c) {
		if (!make)
			return 0;
		c = chunk_add(a, m, number);
		c->fixed = mem_alloc(sizeof(*c->fixed) * CHUNK_UIDS);
	}
	if (fixed && chunk_load_fixed(a, m, c, err) < 0)
		return -1;
	*c_r = c;
	return 1;
}

struct chunk_loading {
	struct account *a;
	struct mailbox *m;
	bool damaged;
};

static int load_chunk(void *ctx, struct str key, struct str value)
{
	struct chunk_loading *l = ctx;
	uint32_t mailbox, number;
	struct chunk *c;
	size_t at;

	if (!key_read_u32_u32(key, 'H', &mailbox, &number)) {
		l->damaged = true;
		return 1;
	}
	at = chunk_place(l->m, number);
	if (at < l->m->chunks.n && l->m->chunks.v[at]->number == number)
		return 0; /* the one in memory is newer */
	c = chunk_add(l->a, l->m, number);
	if (!hot_chunk_decode(value, &c->present, c->hot)) {
		l->damaged = true;
		return 1;
	}
	return 0;
}

uint32_t mailbox_count(const struct mailbox *m)
{
	uint32_t count = 0;

	for (size_t i = 0; i < m->chunks.n; i++)
		count += (unsigned)__builtin_popcountll(m->chunks.v[i]->present);
	return count;
}

struct str mailbox_chunks_end(struct arena *arena, const struct account *a, const struct mailbox *m)
{
	return m->id == UINT32_MAX ? key_end(arena, a->id, 'H') : key_u32(arena, a->id, 'H', m->id + 1);
}

int mailbox_load(struct account *a, struct mailbox *m, struct err *err)
{
	struct chunk_loading l = {.a = a, .m = m};
	struct arena arena;
	int rc;

	if (m->complete)
		return 0;
	arena_init(&arena);
	rc = store_engine_range(a->svc->engine, key_u32(&arena, a->id, 'H', m->id), mailbox_chunks_end(&arena, a, m),
				false, load_chunk, &l, err);
	arena_release(&arena);
	/* A chunk whose key was damaged is not found, and nothing says so but the count. */
	if (rc < 0 || l.damaged || mailbox_count(m) != m->rec.messages)
		return account_broken(a, err);
	m->complete = true;
	return 0;
}

int message_next(struct account *a, struct mailbox *m, uint32_t from, uint32_t last, uint32_t *uid_r,
		 struct chunk **c_r, struct err *err)
{
	if (from == 0)
		from = 1;
	if (last >= m->rec.uidnext)
		last = m->rec.uidnext - 1;
	if (from > last)
		return 0;
	if (!m->complete && (last >> 6) - (from >> 6) > CHUNKS_SINGLY && mailbox_load(a, m, err) < 0)
		return -1;
	for (uint32_t number = from >> 6; number <= last >> 6; number++) {
		struct chunk *c;
		uint64_t bits;
		int rc;

		if (m->complete) {
			size_t at = chunk_place(m, number);

			if (at == m->chunks.n)
				return 0;
			c = m->chunks.v[at];
			number = c->number;
			if (number > last >> 6)
				return 0;
		} else {
			rc = chunk_get(a, m, number, false, false, &c, err);
			/* All of its messages are expunged, or its key is damaged: the whole mailbox tells. */
			if (rc == 0 && mailbox_load(a, m, err) == 0)
				return message_next(a, m, number << 6 > from ? number << 6 : from, last, uid_r, c_r,
						    err);
			if (rc <= 0)
				return -1;
		}
		bits = c->present;
		if (number == from >> 6)
			bits &= ~0ULL << chunk_slot(from);
		if (number == last >> 6 && chunk_slot(last) < 63)
			bits &= (1ULL << (chunk_slot(last) + 1)) - 1;
		if (bits) {
			*uid_r = number << 6 | (uint32_t)__builtin_ctzll(bits);
			*c_r = c;
			return 1;
		}
	}
	return 0;
}

uint32_t mailbox_recent(struct account *a, struct mailbox *m)
{
	uint32_t n = 0, uid = m->rec.recent_from;
	struct chunk *c;

	if (m->rec.recent_from <= 1)
		return m->rec.messages;
	for (; uid && message_next(a, m, uid, UINT32_MAX, &uid, &c, NULL) > 0; uid = chunk_next(c))
		n += (unsigned)__builtin_popcountll(c->present >> chunk_slot(uid));
	return n;
}

/* ---- names of files ---- */

struct str entry_base(struct arena *arena, const struct account *a, const struct static_entry *e)
{
	struct buf out;
	struct str base;

	if (e->base.len > 0)
		return e->base;
	buf_init(&out, 512);
	maildir_base(&out, e->date, e->file, a->header.host, e->file_size, e->size);
	base = arena_str(arena, buf_str(&out));
	buf_release(&out);
	return base;
}

unsigned entry_projection(const struct mailbox *m, const struct hot_entry *h)
{
	unsigned mask = h->flags & FLAG_SYSTEM;

	if (m->passed_bit >= 0 && (h->keywords >> m->passed_bit & 1))
		mask |= PROJECTED_PASSED;
	/* Letters stand in cur/ only; what has once been there does not go back. */
	if (mask || (h->projected & PROJECTED_CUR))
		mask |= PROJECTED_CUR;
	return mask;
}

struct lagging {
	const struct mailbox *m;
	bool found;
};

static int look_for_lag(void *ctx, struct str key, struct str value)
{
	struct hot_entry hot[CHUNK_UIDS];
	struct lagging *l = ctx;
	uint64_t present;

	(void)key;
	if (!hot_chunk_decode(value, &present, hot))
		return 1; /* whoever loads the mailbox finds it, too */
	for (; present && !l->found; present &= present - 1) {
		const struct hot_entry *h = &hot[__builtin_ctzll(present)];

		l->found = entry_projection(l->m, h) != h->projected;
	}
	return l->found;
}

bool mailbox_lags(struct account *a, const struct mailbox *m)
{
	struct lagging l = {.m = m};
	struct arena arena;

	arena_init(&arena);
	if (store_engine_range(a->svc->engine, key_u32(&arena, a->id, 'H', m->id), mailbox_chunks_end(&arena, a, m),
			       false, look_for_lag, &l, NULL) < 0)
		l.found = false;
	arena_release(&arena);
	return l.found;
}
