/* project - upkeep behind the scenes: names of files follow the flags, and expunged files go when their time is up. */
#include "base/clock.h"
#include "base/log.h"
#include "store/maildir.h"
#include "store/service_private.h"

#define PROJECT_DELAY_MS  200
#define PROJECT_FILES_MAX 500
#define PURGE_EVERY_MS	  600000
#define PURGE_ACCOUNTS	  200
#define PURGE_MESSAGES	  5000

/* ---- uidlists are begun anew when most of their lines are history ---- */

#define UIDLIST_SLACK 5000
#define UIDLIST_PART  (2u << 20)

bool uidlist_is_long(const struct mailbox *m)
{
	return m->rec.uidlist_lines > 4 * (uint64_t)m->rec.messages + UIDLIST_SLACK;
}

/* One part of the new list; the first one replaces the file. */
static int uidlist_part(struct store_service *svc, struct account *a, struct mailbox *m, const struct buf *lines,
			bool first, struct err *err)
{
	struct txn *t = txn_new(svc);

	txn_touch(t, a);
	m->dirty = true;
	txn_file(t, a, first ? FILE_NOTE_REPLACE : FILE_NOTE, m->rec.folder)->prefix = buf_str(lines);
	return txn_commit(&t, NULL, NULL, err);
}

static int uidlist_rewrite(struct store_service *svc, struct account *a, struct mailbox *m, struct err *err)
{
	struct arena arena;
	struct buf lines;
	struct chunk *c;
	uint32_t uid = 1;
	bool first = true;
	int rc;

	if (mailbox_load(a, m, err) < 0)
		return -1;
	arena_init(&arena);
	buf_init(&lines, STORE_COMMIT_MAX);
	uidlist_validity(&lines, m->rec.uidvalidity, m->id);
	uidlist_mailbox(&lines, m->rec.role, m->rec.subscribed, m->rec.name);
	uidlist_ceiling(&lines, m->rec.uid_ceiling, a->header.modseq);
	for (size_t i = 0; i < m->keyword_count; i++)
		uidlist_keyword(&lines, (unsigned)i, m->keywords[i]);
	for (; (rc = message_next(a, m, uid, UINT32_MAX, &uid, &c, err)) > 0; uid++) {
		const struct static_entry *e;

		if (chunk_load_fixed(a, m, c, err) < 0)
			break;
		e = &c->fixed[chunk_slot(uid)];
		uidlist_message(&lines, uid, e->message, e->date, e->prefix_len, e->as_is,
				c->hot[chunk_slot(uid)].keywords, entry_base(&arena, a, e));
		if (lines.len < UIDLIST_PART)
			continue;
		if (uidlist_part(svc, a, m, &lines, first, err) < 0)
			break;
		buf_clear(&lines);
		arena_clear(&arena);
		first = false;
	}
	/* With the last part: a list that has no end is begun anew. */
	if (rc == 0) {
		m->rec.uidlist_lines = m->rec.messages;
		rc = uidlist_part(svc, a, m, &lines, first, err);
	} else {
		rc = -1;
	}
	buf_release(&lines);
	arena_release(&arena);
	return rc;
}

/* ---- file names follow flags ---- */

static int project_mailbox(struct txn *t, struct account *a, struct mailbox *m, struct err *err)
{
	for (size_t i = 0; i < m->chunks.n; i++) {
		struct chunk *c = m->chunks.v[i];

		for (uint64_t bits = c->present; bits; bits &= bits - 1) {
			uint32_t uid = c->number << 6 | (uint32_t)__builtin_ctzll(bits);

			if (t->files.n >= PROJECT_FILES_MAX)
				return 1;
			if (message_project(t, a, m, uid, c, err) < 0)
				return -1;
		}
	}
	return 0;
}

/* Of folders that were not read since the start: what is there to be done is loaded. */
static void look_at_names(struct store_service *svc, struct account *a)
{
	struct runtime *rt = runtime_get(svc, a->id);

	for (size_t i = 0; i < rt->folders.n; i++) {
		struct folder_state *fs = rt->folders.v[i];
		struct mailbox *m = account_mailbox(a, fs->mailbox);

		if (!fs->names_unseen)
			continue;
		fs->names_unseen = false;
		if (m && !m->complete && mailbox_lags(a, m) && mailbox_load(a, m, NULL) < 0)
			return; /* being rebuilt: all of its folders are read */
	}
}

/* What a client was told of is \Recent to nobody else, also after a restart (RFC 3501 2.3.2). Nobody waits for it: what
 * a crash forgets counts as not told. */
static void write_claims(struct txn *t, struct account *a)
{
	for (size_t i = 0; i < a->mailboxes.n && !store_engine_read_only(a->svc->engine); i++) {
		struct mailbox *m = a->mailboxes.v[i];

		if (!m->claimed || m->deleted_now)
			continue;
		txn_touch(t, a);
		m->dirty = true;
	}
}

void claims_save(struct store_service *svc)
{
	struct txn *t = txn_new(svc);
	struct err err = ERR_NONE;
	struct str key;
	void *value;

	for (size_t at = 0; map_next(svc->accounts, &at, &key, &value);)
		write_claims(t, value);
	if (t->accounts.n == 0 || txn_commit(&t, NULL, NULL, &err) < 0)
		txn_abort(&t);
}

/* 1: there is more to do, or a pause is needed. */
static int project_account(struct store_service *svc, uint64_t id)
{
	struct err err = ERR_NONE;
	struct account *a;
	struct txn *t;
	int rc = 0;

	if (runtime_get(svc, id)->rebuilding || account_get(svc, id, &a, &err) <= 0)
		return 0;
	if (store_engine_files_pending(svc->engine, id) > 4 * PROJECT_FILES_MAX)
		return 1;
	for (size_t i = 0; rc == 0 && i < a->mailboxes.n; i++)
		if (uidlist_is_long(a->mailboxes.v[i]))
			rc = uidlist_rewrite(svc, a, a->mailboxes.v[i], &err);
	if (rc < 0) {
		log_warning("account %llu: writing a uidlist: %s", (unsigned long long)id, err.text);
		return 0;
	}
	look_at_names(svc, a);
	t = txn_new(svc);
	write_claims(t, a);
	for (size_t i = 0; rc == 0 && i < a->mailboxes.n; i++)
		rc = project_mailbox(t, a, a->mailboxes.v[i], &err);
	if (rc < 0 || t->accounts.n == 0)
		txn_abort(&t);
	else if (txn_commit(&t, NULL, NULL, &err) < 0)
		rc = -1;
	if (rc < 0)
		log_warning("account %llu: renaming files: %s", (unsigned long long)id, err.text);
	return rc > 0;
}

static void project_timer(void *ctx)
{
	struct store_service *svc = ctx;
	VEC(uint64_t) todo;

	memcpy(&todo, &svc->to_project, sizeof(todo));
	memset(&svc->to_project, 0, sizeof(svc->to_project));
	for (size_t i = 0; i < todo.n; i++)
		if (project_account(svc, todo.v[i]))
			project_soon(svc, todo.v[i]);
	vec_release(&todo);
}

void project_soon(struct store_service *svc, uint64_t account)
{
	for (size_t i = 0; i < svc->to_project.n; i++)
		if (svc->to_project.v[i] == account)
			return;
	vec_push(&svc->to_project, account);
	timer_once(svc, TIMER_PROJECT, PROJECT_DELAY_MS, project_timer);
}

/* ---- expunged files ---- */

struct purging {
	struct txn *t;
	struct account *a;
	uint64_t limit, oldest;
	unsigned count;
	VEC(struct place) places;
	VEC(uint64_t) messages;
};

static int purge_key(void *ctx, struct str key, struct str value)
{
	struct purging *p = ctx;
	struct expunged_record x;
	struct place at;

	if (!key_read_u32_u32(key, 'X', &at.mailbox, &at.uid))
		return 0;
	if (!expunged_record_decode(value, &x)) {
		txn_del(p->t, arena_str(&p->t->arena, key));
		return 0;
	}
	if (x.time >= p->limit) {
		if (!p->oldest || x.time < p->oldest)
			p->oldest = x.time;
		return 0;
	}
	txn_del(p->t, arena_str(&p->t->arena, key));
	vec_push(&p->places, at);
	vec_push(&p->messages, x.entry.message);
	if (++p->count < PURGE_MESSAGES)
		return 0;
	p->oldest = 1; /* more of them: at the next turn */
	return 1;
}

static int purge_account(struct store_service *svc, uint64_t id, uint64_t limit)
{
	struct purging p = {.limit = limit};
	struct err err = ERR_NONE;
	int rc;

	if (runtime_get(svc, id)->rebuilding || account_get(svc, id, &p.a, &err) <= 0 ||
	    p.a->header.oldest_expunged == 0 || p.a->header.oldest_expunged >= limit)
		return 0;
	p.t = txn_new(svc);
	txn_touch(p.t, p.a);
	rc = store_engine_range(svc->engine, key_plain(&p.t->arena, id, 'X'), key_end(&p.t->arena, id, 'X'), false,
				purge_key, &p, &err);
	for (size_t i = 0; rc >= 0 && i < p.messages.n; i++)
		rc = message_unref(p.t, p.a, p.messages.v[i], p.places.v[i], &err);
	vec_release(&p.places);
	vec_release(&p.messages);
	p.a->header.oldest_expunged = p.oldest;
	p.a->dirty = true;
	txn_file(p.t, p.a, FILE_PURGE, STR_NULL)->time = limit;
	if (rc < 0)
		txn_abort(&p.t);
	else
		rc = txn_commit(&p.t, NULL, NULL, &err);
	if (rc < 0)
		log_warning("account %llu: removing expunged files: %s", (unsigned long long)id, err.text);
	return p.oldest == 1;
}

static void purge_timer(void *ctx)
{
	struct store_service *svc = ctx;
	uint64_t limit = (uint64_t)clock_wall() - (uint64_t)svc->conf->mailbox_undelete_time / 1000,
		 id = svc->purge_from;
	struct arena arena;
	struct str path;
	bool more = true, soon = false;

	arena_init(&arena);
	for (unsigned i = 0; more && i < PURGE_ACCOUNTS; i++) {
		more = account_after(svc, id, &arena, &id, &path);
		if (more && purge_account(svc, id, limit))
			soon = true;
	}
	arena_release(&arena);
	svc->purge_from = more ? id : 0;
	timer_once(svc, TIMER_PURGE, more || soon ? 1000 : PURGE_EVERY_MS, purge_timer);
}

void purge_soon(struct store_service *svc)
{
	timer_once(svc, TIMER_PURGE, 10000, purge_timer);
}
