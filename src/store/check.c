/* check - does all that an account's index says agree with itself, with the files and with their uidlists? Changes
 * nothing. `postrider mail fsck --check` asks, and the tests do after each round of kills.
 *
 * An account is looked at in one step of the loop, when none of its files are on their way and its uidlists say all
 * that was committed, that is right after a checkpoint during which it did not change. Others wait for that step: it
 * lists the folders and asks for the size of each file. */
#include "base/log.h"
#include "store/maildir.h"
#include "store/service_private.h"

#define TEXT_MAX    (1u << 20)
#define FAULTS_MAX  1000
#define TRIES_MAX   100
#define UIDLIST_MAX (256u << 20)

struct target {
	uint64_t account;
	struct str path;
};

struct checker {
	struct store_service *svc;
	struct rpc_request *req;
	struct buf text;
	uint64_t faults, messages;
	VEC(struct target) targets;
	size_t at;
	unsigned tries;
	uint64_t serial; /* of the account before the checkpoint */

	/* Of the account at hand. */
	struct account *a;
	struct arena arena;
	struct map *files;	/* id of each file: the message's place */
	struct map *places;	/* message id, to struct seen */
	struct map *validities; /* UIDVALIDITY of each mailbox */
};

/* The places of one message. */
struct seen {
	VEC(struct place) live;
	size_t expunged;
};

static void fault(struct checker *k, const struct mailbox *m, uint32_t uid, const char *fmt, ...) PRINTF_LIKE(4, 5);
static void fault(struct checker *k, const struct mailbox *m, uint32_t uid, const char *fmt, ...)
{
	char text[600];
	va_list args;

	if (k->faults++ >= FAULTS_MAX)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	buf_addf(&k->text, "account %llu (%.*s)", (unsigned long long)k->a->id, STR_ARG(k->a->header.path));
	if (m)
		buf_addf(&k->text, ", %.*s", STR_ARG(m->rec.name));
	if (uid)
		buf_addf(&k->text, ", UID %u", uid);
	buf_addf(&k->text, ": %s\n", text);
}

static void differ(struct checker *k, const struct mailbox *m, const char *what, uint64_t said, uint64_t is)
{
	if (said != is)
		fault(k, m, 0, "%s: %llu, counted %llu", what, (unsigned long long)said, (unsigned long long)is);
}

/* ---- files of a folder ---- */

struct file {
	struct str name; /* as in the directory */
	unsigned mask;
	bool cur, used;
};
struct folder {
	struct checker *k;
	struct map *by_base;
	size_t count;
};

static void folder_file(void *ctx, const struct store_entry *entry)
{
	struct folder *f = ctx;
	struct file *file = ARENA_NEW(&f->k->arena, struct file);

	*file = (struct file){arena_str(&f->k->arena, entry->name), maildir_mask(entry->flags), entry->cur, false};
	if (map_set(f->by_base, entry->base, file))
		fault(f->k, NULL, 0, "two files of one name: %.*s", STR_ARG(entry->base));
	f->count++;
}

static void check_file(struct checker *k, struct mailbox *m, uint32_t uid, const struct hot_entry *h,
		       const struct static_entry *e, struct folder *f)
{
	struct str base = entry_base(&k->arena, k->a, e);
	struct file *file = map_get(f->by_base, base);
	uint64_t size, mtime;
	struct err err = ERR_NONE;

	if (!file) {
		fault(k, m, uid, "the file %.*s is missing", STR_ARG(base));
		return;
	}
	file->used = true;
	if (store_engine_stat(k->svc->engine, k->a->header.path, m->rec.folder, file->cur, file->name, &size, &mtime,
			      &err) <= 0)
		fault(k, m, uid, "the file %.*s cannot be looked at: %s", STR_ARG(base), err.text);
	else if (size != e->file_size)
		fault(k, m, uid, "the file %.*s has %llu bytes, not %llu", STR_ARG(base), (unsigned long long)size,
		      (unsigned long long)e->file_size);
	if (file->cur != !!(h->projected & PROJECTED_CUR) ||
	    (file->mask ^ h->projected) & (FLAG_SYSTEM | PROJECTED_PASSED))
		fault(k, m, uid, "the name %.*s says other flags than were written last", STR_ARG(file->name));
}

static void check_strangers(struct checker *k, struct mailbox *m, struct folder *f)
{
	struct str base;
	void *value;

	for (size_t at = 0; map_next(f->by_base, &at, &base, &value);)
		if (!((struct file *)value)->used)
			fault(k, m, 0, "the file %.*s is not in the index", STR_ARG(base));
}

/* ---- one message ---- */

static struct seen *seen_get(struct checker *k, uint64_t message)
{
	struct seen *s = map_get_u64(k->places, message);

	if (!s) {
		s = NEW(struct seen);
		map_set_u64(k->places, message, s);
	}
	return s;
}

static void check_ids(struct checker *k, struct mailbox *m, uint32_t uid, const struct static_entry *e)
{
	const struct place here = {m->id, uid};

	vec_push(&seen_get(k, e->message)->live, here);
	if (e->message == 0 || e->message >= k->a->header.next_message)
		fault(k, m, uid, "the message id %llu was never given", (unsigned long long)e->message);
	if (e->base.len > 0)
		return; /* another tool's file has no number */
	if (e->file == 0 || e->file >= k->a->header.next_message)
		fault(k, m, uid, "the file id %llu was never given", (unsigned long long)e->file);
	if (map_set_u64(k->files, e->file, k))
		fault(k, m, uid, "the file id %llu was given twice", (unsigned long long)e->file);
}

static void check_listed(struct checker *k, struct mailbox *m, uint32_t uid, const struct hot_entry *h,
			 const struct static_entry *e, const struct uidlist *u, size_t *at)
{
	const struct uidlist_entry *l = u && *at < u->count ? &u->entries[*at] : NULL;

	for (; l && l->uid < uid; l = *at < u->count ? &u->entries[*at] : NULL) {
		fault(k, m, l->uid, "in the uidlist, and not in the index");
		++*at;
	}
	if (!l || l->uid != uid) {
		fault(k, m, uid, "not in the uidlist");
		return;
	}
	++*at;
	if (l->message != e->message || l->date != e->date || l->prefix_len != e->prefix_len || l->as_is != e->as_is ||
	    l->keywords != h->keywords || !str_eq(l->base, entry_base(&k->arena, k->a, e)))
		fault(k, m, uid, "the uidlist says otherwise");
}

/* ---- one mailbox ---- */

struct sums {
	uint64_t messages, unseen, deleted, size;
};

static void check_message(struct checker *k, struct mailbox *m, uint32_t uid, struct chunk *c, struct sums *s)
{
	const struct hot_entry *h = &c->hot[chunk_slot(uid)];

	s->messages++;
	s->unseen += !(h->flags & FLAG_SEEN);
	s->deleted += !!(h->flags & FLAG_DELETED);
	s->size += c->fixed[chunk_slot(uid)].size;
	if (uid >= m->rec.uidnext)
		fault(k, m, uid, "not below UIDNEXT %u", m->rec.uidnext);
	if (h->modseq == 0 || h->modseq > m->rec.modseq)
		fault(k, m, uid, "modseq %llu, but HIGHESTMODSEQ %llu", (unsigned long long)h->modseq,
		      (unsigned long long)m->rec.modseq);
	if (m->keyword_count < STORE_KEYWORDS_MAX && h->keywords >> m->keyword_count)
		fault(k, m, uid, "a keyword without a name");
	check_ids(k, m, uid, &c->fixed[chunk_slot(uid)]);
}

static struct uidlist *uidlist_of(struct checker *k, struct mailbox *m)
{
	struct uidlist *u = ARENA_NEW(&k->arena, struct uidlist);
	struct err err = ERR_NONE;
	struct str text;
	int rc = store_engine_read_file(k->svc->engine, k->a->header.path, m->rec.folder, STORE_UIDLIST_NAME,
					UIDLIST_MAX, &k->arena, &text, &err);

	if (rc > 0 && uidlist_read(text, &k->arena, u)) {
		differ(k, m, "UIDVALIDITY of the uidlist", u->uidvalidity, m->rec.uidvalidity);
		if (u->ceiling < m->rec.uidnext)
			fault(k, m, 0, "UIDNEXT %u is above the uidlist's ceiling %u", m->rec.uidnext, u->ceiling);
		return u;
	}
	if (rc != 0 || m->rec.uidnext > 1)
		fault(k, m, 0, "no uidlist: %s", rc < 0 ? err.text : rc > 0 ? "it is damaged" : "it is missing");
	return NULL;
}

static int check_messages(struct checker *k, struct mailbox *m, struct folder *f, struct err *err)
{
	struct uidlist *u = uidlist_of(k, m);
	struct sums sums = {0};
	struct chunk *c;
	size_t listed = 0;
	uint32_t uid = 0;
	int rc;

	while ((rc = message_next(k->a, m, uid + 1, UINT32_MAX, &uid, &c, err)) > 0) {
		const struct hot_entry *h = &c->hot[chunk_slot(uid)];

		if (chunk_load_fixed(k->a, m, c, err) < 0)
			return -1;
		check_message(k, m, uid, c, &sums);
		check_file(k, m, uid, h, &c->fixed[chunk_slot(uid)], f);
		if (u)
			check_listed(k, m, uid, h, &c->fixed[chunk_slot(uid)], u, &listed);
	}
	for (; u && listed < u->count; listed++)
		fault(k, m, u->entries[listed].uid, "in the uidlist, and not in the index");
	differ(k, m, "messages", m->rec.messages, sums.messages);
	differ(k, m, "unseen", m->rec.unseen, sums.unseen);
	differ(k, m, "deleted", m->rec.deleted, sums.deleted);
	differ(k, m, "size", m->rec.size, sums.size);
	k->messages += sums.messages;
	return rc;
}

static int check_mailbox(struct checker *k, struct mailbox *m, struct err *err)
{
	struct folder f = {k, map_new(), 0};
	bool missing = false;
	int rc = store_engine_scan(k->svc->engine, k->a->header.path, m->rec.folder, folder_file, &f, &missing, err);

	if (missing)
		fault(k, m, 0, "the folder \"%.*s\" is missing", STR_ARG(m->rec.folder));
	if (m->rec.modseq > k->a->header.modseq)
		fault(k, m, 0, "HIGHESTMODSEQ %llu is above the account's %llu", (unsigned long long)m->rec.modseq,
		      (unsigned long long)k->a->header.modseq);
	if (m->rec.uidvalidity == 0 || m->rec.uidvalidity > k->a->header.last_uidvalidity)
		fault(k, m, 0, "UIDVALIDITY %u was never given", m->rec.uidvalidity);
	if (map_set_u64(k->validities, m->rec.uidvalidity, m))
		fault(k, m, 0, "UIDVALIDITY %u was given twice", m->rec.uidvalidity);
	if (account_mailbox_named(k->a, m->rec.name) != m || account_mailbox_folder(k->a, m->rec.folder) != m)
		fault(k, m, 0, "another mailbox has the same name or folder");
	if (rc >= 0)
		rc = check_messages(k, m, &f, err);
	if (rc >= 0)
		check_strangers(k, m, &f);
	map_free(&f.by_base);
	return rc;
}

/* ---- what belongs to no mailbox ---- */

static int each_key(struct checker *k, char type, store_range_fn *fn, struct err *err)
{
	return store_engine_range(k->svc->engine, key_plain(&k->arena, k->a->id, type),
				  key_end(&k->arena, k->a->id, type), false, fn, k, err) < 0
		       ? -1
		       : 0;
}

static int expunged_key(void *ctx, struct str key, struct str value)
{
	struct checker *k = ctx;
	struct expunged_record x;
	uint32_t mailbox, uid;
	struct mailbox *m;
	struct seen *s;

	if (!key_read_u32_u32(key, 'X', &mailbox, &uid) || !expunged_record_decode(value, &x)) {
		fault(k, NULL, 0, "a record of an expunged message is damaged");
		return 0;
	}
	s = seen_get(k, x.entry.message);
	s->expunged++;
	m = account_mailbox(k->a, mailbox);
	for (size_t i = 0; m && i < s->live.n; i++)
		if (s->live.v[i].mailbox == mailbox && s->live.v[i].uid == uid)
			fault(k, m, uid, "there and expunged at once");
	if (m && uid >= m->rec.uidnext)
		fault(k, m, uid, "expunged, but never given");
	return 0;
}

static int log_key(void *ctx, struct str key, struct str value)
{
	struct checker *k = ctx;
	struct log_record l;
	uint64_t modseq;

	if (!key_read_u64(key, 'L', &modseq) || !log_record_decode(value, &k->arena, &l))
		fault(k, NULL, 0, "a record of the change log is damaged");
	else if (modseq > k->a->header.modseq)
		fault(k, NULL, 0, "the change log knows modseq %llu, the account's highest is %llu",
		      (unsigned long long)modseq, (unsigned long long)k->a->header.modseq);
	return 0;
}

static bool among(const struct place *places, size_t n, struct place p)
{
	for (size_t i = 0; i < n; i++)
		if (places[i].mailbox == p.mailbox && places[i].uid == p.uid)
			return true;
	return false;
}

static int places_key(void *ctx, struct str key, struct str value)
{
	struct checker *k = ctx;
	struct place *places;
	uint64_t message;
	size_t n;
	struct seen *s;

	if (!key_read_u64(key, 'R', &message) || !places_decode(value, &k->arena, &places, &n)) {
		fault(k, NULL, 0, "a record of a message's places is damaged");
		return 0;
	}
	s = seen_get(k, message);
	for (size_t i = 0; i < s->live.n; i++)
		if (!among(places, n, s->live.v[i]))
			fault(k, account_mailbox(k->a, s->live.v[i].mailbox), s->live.v[i].uid,
			      "not among the places of message %llu", (unsigned long long)message);
	if (n > s->live.n + s->expunged)
		fault(k, NULL, 0, "message %llu: %zu places, counted %zu", (unsigned long long)message, n,
		      s->live.n + s->expunged);
	return 0;
}

static int summary_key(void *ctx, struct str key, struct str value)
{
	struct checker *k = ctx;
	uint64_t message;

	(void)value;
	if (!key_read_u64(key, 'M', &message))
		fault(k, NULL, 0, "a record of a summary is damaged");
	else if (!map_get_u64(k->places, message))
		fault(k, NULL, 0, "a summary of message %llu, which is nowhere", (unsigned long long)message);
	return 0;
}

static void check_folder(void *ctx, struct str folder)
{
	struct checker *k = ctx;

	if (!account_mailbox_folder(k->a, folder))
		fault(k, NULL, 0, "the folder \"%.*s\" is no mailbox", STR_ARG(folder));
}

static void check_sums(struct checker *k)
{
	uint64_t messages = 0, size = 0;

	for (size_t i = 0; i < k->a->mailboxes.n; i++) {
		messages += k->a->mailboxes.v[i]->rec.messages;
		size += k->a->mailboxes.v[i]->rec.size;
	}
	differ(k, NULL, "quota, messages", k->a->header.used_messages, messages);
	differ(k, NULL, "quota, bytes", k->a->header.used_bytes, size);
}

static void account_release(struct checker *k)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(k->places, &at, &key, &value);) {
		struct seen *s = value;

		vec_release(&s->live);
		free(s);
	}
	map_free(&k->places);
	map_free(&k->files);
	map_free(&k->validities);
	arena_release(&k->arena);
}

static void check_account(struct checker *k, struct account *a)
{
	struct err err = ERR_NONE;
	int rc = 0;

	k->a = a;
	arena_init(&k->arena);
	k->files = map_new();
	k->places = map_new();
	k->validities = map_new();
	for (size_t i = 0; rc >= 0 && i < a->mailboxes.n; i++)
		rc = check_mailbox(k, a->mailboxes.v[i], &err);
	if (rc >= 0 && store_engine_folders(k->svc->engine, a->header.path, check_folder, k, &err) < 0)
		rc = -1;
	if (rc >= 0)
		rc = each_key(k, 'X', expunged_key, &err);
	if (rc >= 0)
		rc = each_key(k, 'R', places_key, &err);
	if (rc >= 0)
		rc = each_key(k, 'M', summary_key, &err);
	if (rc >= 0)
		rc = each_key(k, 'L', log_key, &err);
	check_sums(k);
	if (rc < 0)
		fault(k, NULL, 0, "cannot be read: %s", err.text);
	account_release(k);
}

/* ---- one account after the other ---- */

static void check_next(void *ctx);
static void check_settled(void *ctx);

static void check_end(struct checker *k)
{
	struct store_report *r = ARENA_NEW(&k->req->arena, struct store_report);

	if (k->faults > FAULTS_MAX)
		buf_addf(&k->text, "and %llu more\n", (unsigned long long)(k->faults - FAULTS_MAX));
	buf_addf(&k->text, "%zu accounts, %llu messages: %llu faults\n", k->targets.n, (unsigned long long)k->messages,
		 (unsigned long long)k->faults);
	r->text = arena_str(&k->req->arena, buf_str(&k->text));
	r->faults = k->faults;
	rpc_answer(k->req, r);
	buf_release(&k->text);
	vec_release(&k->targets);
	free(k);
}

/* Whether the account stood still since its serial was noted. */
static bool stands_still(struct checker *k, uint64_t account)
{
	return runtime_get(k->svc, account)->serial == k->serial &&
	       store_engine_files_pending(k->svc->engine, account) == 0;
}

static void check_now(struct checker *k, uint64_t account)
{
	struct account *a;
	struct err err = ERR_NONE;
	int rc = account_get(k->svc, account, &a, &err);

	if (rc > 0) {
		check_account(k, a);
	} else if (rc < 0) {
		k->faults++;
		buf_addf(&k->text, "account %llu: %s\n", (unsigned long long)account, err.text);
	}
}

static void check_settled(void *ctx)
{
	struct checker *k = ctx;
	uint64_t account = k->targets.v[k->at].account;
	struct runtime *rt = runtime_get(k->svc, account);

	if (store_stopping(k->svc, NULL)) {
		check_end(k);
		return;
	}
	if (!stands_still(k, account) && k->tries++ < TRIES_MAX) {
		rpc_server_after(k->svc->server, 0, check_next, k);
		return;
	}
	if (rt->rebuilding) {
		buf_addf(&k->text, "account %llu: is being rebuilt, not checked\n", (unsigned long long)account);
	} else if (!stands_still(k, account)) {
		buf_addf(&k->text, "account %llu: changes all the time, not checked\n", (unsigned long long)account);
	} else {
		check_now(k, account);
	}
	k->at++;
	k->tries = 0;
	rpc_server_after(k->svc->server, 0, check_next, k);
}

static void check_checkpointed(void *ctx)
{
	struct checker *k = ctx;

	if (store_stopping(k->svc, NULL))
		check_end(k);
	else
		store_engine_files_wait(k->svc->engine, k->targets.v[k->at].account, check_settled, k);
}

static void check_next(void *ctx)
{
	struct checker *k = ctx;

	if (k->at == k->targets.n || store_stopping(k->svc, NULL)) {
		check_end(k);
		return;
	}
	k->serial = runtime_get(k->svc, k->targets.v[k->at].account)->serial;
	store_engine_checkpoint(k->svc->engine, check_checkpointed, k);
}

void call_check(struct call *c)
{
	const struct store_fsck *msg = c->req->msg;
	struct checker *k = NEW(struct checker);
	struct target t = {msg->account, msg->path};

	k->svc = c->svc;
	k->req = c->req;
	buf_init(&k->text, TEXT_MAX);
	if (t.account)
		vec_push(&k->targets, t);
	else
		while (account_after(c->svc, t.account, &c->req->arena, &t.account, &t.path))
			vec_push(&k->targets, t);
	check_next(k);
}
