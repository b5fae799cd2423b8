/* rebuild - an account whose index is lost or damaged, made anew from its files and their uidlists.
 *
 * First a checkpoint, so that every uidlist says all that was committed; then the account's keys go, and each folder
 * is read: files that its uidlist names keep UID, message id, date and keywords, all others get UIDs above the
 * ceiling. Without a uidlist the mailbox gets a new UIDVALIDITY. Lost are the change history, the delivery notes and
 * summaries, which are made again. Requests for the account wait meanwhile.
 *
 * A Maildir that another server has kept is taken over in the same way: the index never knew the account and no folder
 * has a uidlist of ours, so Dovecot's or Courier's lists of UIDs and subscriptions count. Later they are stale. */
#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "store/maildir.h"
#include "store/service_private.h"

#define UIDLIST_MAX (256u << 20)
/* Above whatever modseq was given after the uidlist was written last. */
#define MODSEQ_STEP 1000000
/* Then what cannot be read stays away, and the rest is served. */
#define TRIES 3

struct fsck {
	struct store_service *svc;
	struct rpc_request *req;
	unsigned remaining;
	struct buf text;
};

static void ignore_folder(void *ctx, struct str folder)
{
	(void)ctx;
	(void)folder;
}

bool account_has_files(struct store_service *svc, struct str path)
{
	return store_engine_folders(svc->engine, path, ignore_folder, NULL, NULL) > 0;
}

/* ---- forgetting what the index says ---- */

struct dropping {
	struct txn *t;
	unsigned count;
};

static int drop_key(void *ctx, struct str key, struct str value)
{
	struct dropping *d = ctx;

	(void)value;
	txn_del(d->t, arena_str(&d->t->arena, key));
	return ++d->count >= 20000;
}

/* 1: there were some, 0, or -1. */
static int drop_keys(struct store_service *svc, uint64_t id, struct err *err)
{
	bool any = false;

	for (;;) {
		struct txn *t = txn_new(svc);
		struct dropping d = {.t = t};
		int rc = store_engine_keys(svc->engine, key_plain(&t->arena, id, 0), key_end(&t->arena, id, 0),
					   drop_key, &d, err);

		if (rc < 0 || d.count == 0) {
			txn_abort(&t);
			return rc < 0 ? -1 : any;
		}
		any = true;
		vec_push(&t->account_ids, id);
		if (txn_commit(&t, NULL, NULL, err) < 0)
			return -1;
		if (rc == 0)
			return 1;
	}
}

/* ---- what another server left behind ---- */

struct inheritance {
	bool taken;		/* what stands here counts: the account is taken over */
	struct map *subscribed; /* folders; NULL: nobody wrote down which */
	struct arena arena;
};

/* 1, 0 absent or unreadable: that is logged, and what can be served is. */
static int read_foreign(struct store_service *svc, struct str path, struct str folder, const char *name,
			struct arena *arena, struct str *text_r)
{
	struct err err = ERR_NONE;
	int rc = store_engine_read_file(svc->engine, path, folder, name, UIDLIST_MAX, arena, text_r, &err);

	if (rc < 0)
		log_warning("%.*s: reading %s of \"%.*s\": %s", STR_ARG(path), name, STR_ARG(folder), err.text);
	return rc > 0;
}

static void add_subscription(void *ctx, struct str folder)
{
	map_set(ctx, folder, ctx);
}

static void inheritance_take(struct inheritance *in, struct store_service *svc, struct str path)
{
	struct str text;

	in->taken = true;
	log_info("%.*s: another server's Maildir is taken over", STR_ARG(path));
	if (!read_foreign(svc, path, STR(""), MAILDIR_DOVECOT_SUBSCRIPTIONS, &in->arena, &text) &&
	    !read_foreign(svc, path, STR(""), MAILDIR_COURIER_SUBSCRIPTIONS, &in->arena, &text))
		return;
	in->subscribed = map_new();
	maildir_subscriptions(text, &in->arena, add_subscription, in->subscribed);
}

static void inheritance_release(struct inheritance *in)
{
	map_free(&in->subscribed);
	arena_release(&in->arena);
}

static bool inherited_subscription(const struct inheritance *in, struct str folder)
{
	return in->subscribed == NULL || map_get(in->subscribed, folder) != NULL;
}

/* NULL: there is none. */
static struct uidlist *inherited_uidlist(struct store_service *svc, struct str path, struct str folder,
					 struct arena *arena)
{
	struct uidlist *u = ARENA_NEW(arena, struct uidlist);
	struct str text;

	if (!read_foreign(svc, path, folder, MAILDIR_DOVECOT_UIDLIST, arena, &text) &&
	    !read_foreign(svc, path, folder, MAILDIR_COURIER_UIDLIST, arena, &text))
		return NULL;
	return uidlist_read_foreign(text, arena, u) ? u : NULL;
}

/* ---- the mailboxes ---- */

struct folder_list {
	struct arena arena;
	VEC(struct str) names;
};

static void add_folder(void *ctx, struct str folder)
{
	struct folder_list *l = ctx;

	vec_push(&l->names, arena_str(&l->arena, folder));
}

static int folder_list(struct store_service *svc, struct str path, struct folder_list *l, struct err *err)
{
	arena_init(&l->arena);
	memset(&l->names, 0, sizeof(l->names));
	return store_engine_folders(svc->engine, path, add_folder, l, err);
}

static void folder_list_release(struct folder_list *l)
{
	vec_release(&l->names);
	arena_release(&l->arena);
}

/* A name for a folder that no uidlist names; made unlike all others. */
static struct str folder_name(struct account *a, struct str folder, struct arena *arena)
{
	struct buf out, checked;
	struct str name;

	buf_init(&out, 4096);
	buf_init(&checked, 4096);
	folder_mailbox(&out, folder);
	if (mailbox_name_check(buf_str(&out), &checked, NULL) < 0 ||
	    (folder.len > 0 && str_eq(buf_str(&checked), STR("INBOX")))) {
		buf_clear(&checked);
		buf_addf(&checked, "folder %08llx", (unsigned long long)(str_hash(folder, 1) & 0xffffffff));
	}
	while (account_mailbox_named(a, buf_str(&checked)))
		buf_addc(&checked, '_');
	name = arena_str(arena, buf_str(&checked));
	buf_release(&checked);
	buf_release(&out);
	return name;
}

static void apply_uidlist(struct account *a, struct mailbox *m, const struct uidlist *u)
{
	struct str names[STORE_KEYWORDS_MAX];

	m->rec.uidvalidity = u->uidvalidity;
	if (!u->foreign)
		m->rec.subscribed = u->subscribed;
	if (!u->foreign && m->rec.role != ROLE_INBOX)
		m->rec.role = u->role <= ROLE_ALL && u->role != ROLE_INBOX && !account_mailbox_role(a, (uint8_t)u->role)
				      ? (uint8_t)u->role
				      : m->rec.role;
	m->rec.uid_ceiling = u->ceiling;
	for (size_t i = 0; i < u->keyword_count; i++)
		names[i] = u->keywords[i].len > 0 ? u->keywords[i] : STR("$lost");
	mailbox_keywords_set(m, names, u->keyword_count);
	m->keywords_dirty = u->keyword_count > 0;
	m->noted = true;
	if (u->uidvalidity > a->header.last_uidvalidity)
		a->header.last_uidvalidity = u->uidvalidity;
	if (u->modseq > a->header.modseq)
		a->header.modseq = u->modseq;
	for (size_t i = 0; i < u->count; i++)
		if (u->entries[i].message >= a->header.next_message && u->entries[i].message < UINT64_MAX / 2)
			a->header.next_message = u->entries[i].message + 1;
}

/* The uidlist's name for the mailbox is one that it may have. */
static bool name_fits(struct account *a, const struct uidlist *u)
{
	struct buf checked;
	bool fits;

	buf_init(&checked, 4096);
	fits = u->has_mailbox && mailbox_name_check(u->name, &checked, NULL) == 0 &&
	       str_eq(buf_str(&checked), u->name) && !account_mailbox_named(a, u->name);
	buf_release(&checked);
	return fits;
}

/* With the id that it had, if nobody else has taken it. */
static struct mailbox *mailbox_make_as(struct txn *t, struct account *a, struct str name, unsigned role,
				       bool subscribed, struct str folder, uint32_t id)
{
	uint32_t next = a->header.next_mailbox;
	struct mailbox *m;

	if (id && id < UINT32_MAX && !account_mailbox(a, id))
		a->header.next_mailbox = id;
	m = mailbox_make(t, a, name, role, subscribed, folder);
	if (a->header.next_mailbox < next)
		a->header.next_mailbox = next;
	return m;
}

/* 1, 0 there is none that can be used, or -1 where it pays to try again. */
static int own_uidlist(struct txn *t, struct account *a, struct str folder, struct arena *arena, struct uidlist **u_r,
		       struct err *err)
{
	struct runtime *rt = runtime_get(t->svc, a->id);
	struct str text;
	int rc = store_engine_read_file(t->svc->engine, a->header.path, folder, STORE_UIDLIST_NAME, UIDLIST_MAX, arena,
					&text, err);

	*u_r = ARENA_NEW(arena, struct uidlist);
	if (rc < 0) {
		log_warning("account %llu: reading the uidlist of \"%.*s\": %s", (unsigned long long)a->id,
			    STR_ARG(folder), err->text);
		/* Without it all UIDs would be others: not for a passing want of descriptors. */
		if (++rt->rebuild_tries < TRIES)
			return -1;
	}
	if (rc <= 0 || !uidlist_read(text, arena, *u_r))
		*u_r = NULL;
	return *u_r != NULL;
}

/* One mailbox for a folder, or NULL. *arena and *u_r (NULL: no uidlist) go to the scan. */
static struct mailbox *mailbox_from_folder(struct txn *t, struct account *a, struct str folder,
					   const struct inheritance *in, struct arena *arena, struct uidlist **u_r,
					   struct err *err)
{
	struct uidlist *u = NULL;
	struct mailbox *m;
	struct str name;

	/* In a take-over that did not come to its end, one of ours holds what it had come to. */
	if (in->taken)
		u = inherited_uidlist(t->svc, a->header.path, folder, arena);
	else if (own_uidlist(t, a, folder, arena, &u, err) < 0)
		return NULL;
	if (folder.len == 0) {
		m = account_mailbox_named(a, STR("INBOX"));
	} else {
		name = u && name_fits(a, u) ? u->name : folder_name(a, folder, arena);
		m = mailbox_make_as(t, a, name, u && !u->foreign ? ROLE_NONE : mailbox_role(a, name),
				    inherited_subscription(in, folder), folder, u ? u->mailbox : 0);
	}
	if (u) {
		apply_uidlist(a, m, u);
		/* Said again: what mailbox_make() has noted is not so. */
		m->noted = false;
		mailbox_uidlist_head(t, a, m);
		for (size_t i = 0; i < m->keyword_count; i++)
			uidlist_keyword(txn_lines(t, a, m), (unsigned)i, m->keywords[i]);
	}
	*u_r = u;
	return m;
}

struct part {
	uint32_t mailbox;
	struct arena arena;
	struct uidlist *list;
};
struct part_list {
	struct part *v;
	size_t n, cap;
};

static bool any_has(struct store_service *svc, struct str path, const struct folder_list *folders, const char *name,
		    struct arena *arena)
{
	struct str text;

	for (size_t i = 0; i < folders->names.n; i++)
		if (store_engine_read_file(svc->engine, path, folders->names.v[i], name, 0, arena, &text, NULL) != 0)
			return true;
	return false;
}

static bool is_foreign(struct store_service *svc, struct str path, const struct folder_list *folders,
		       struct arena *arena)
{
	return (any_has(svc, path, folders, MAILDIR_DOVECOT_UIDLIST, arena) ||
		any_has(svc, path, folders, MAILDIR_COURIER_UIDLIST, arena)) &&
	       !any_has(svc, path, folders, STORE_UIDLIST_NAME, arena);
}

/* known: the index had something of the account. takeover: of an account that was being taken over. */
static int make_parts(struct txn *t, uint64_t id, struct str path, bool known, bool takeover, struct inheritance *in,
		      struct part_list *parts, struct err *err)
{
	struct folder_list folders;
	struct account *a;
	int rc = folder_list(t->svc, path, &folders, err);

	if (rc >= 0 && (takeover || (!known && is_foreign(t->svc, path, &folders, &in->arena))))
		inheritance_take(in, t->svc, path);
	if (rc >= 0)
		rc = account_create(t, id, path, folders.names.n == 0, &a, err);
	for (size_t i = 0; rc == 0 && i < folders.names.n; i++) {
		struct mailbox *m;
		struct part p;

		arena_init(&p.arena);
		m = mailbox_from_folder(t, a, folders.names.v[i], in, &p.arena, &p.list, err);
		p.mailbox = m ? m->id : 0;
		rc = m ? 0 : -1;
		vec_push(parts, p);
	}
	folder_list_release(&folders);
	if (rc == 0) {
		a->header.modseq += MODSEQ_STEP;
		a->header.rebuilding = in->taken ? REBUILDING_TAKEOVER : REBUILDING;
		/* Also of those without messages, of which nothing more is written: it never falls (RFC 7162 3.1.1). */
		for (size_t i = 0; i < a->mailboxes.n; i++) {
			a->mailboxes.v[i]->rec.modseq = a->header.modseq;
			a->mailboxes.v[i]->dirty = true;
		}
	}
	return rc < 0 ? -1 : 0;
}

static bool was_being_taken_over(struct store_service *svc, uint64_t id)
{
	struct account *a;

	return account_get(svc, id, &a, NULL) > 0 && a->header.rebuilding == REBUILDING_TAKEOVER;
}

/* rt->rebuilding counts this call and each folder; the last one ends the rebuild. */
static int rebuild_begin(struct store_service *svc, uint64_t id, struct str path, struct err *err)
{
	struct runtime *rt = runtime_get(svc, id);
	struct part_list parts = {0};
	struct inheritance in = {0};
	struct account *a;
	struct txn *t = NULL;
	bool takeover = was_being_taken_over(svc, id);
	int rc;

	arena_init(&in.arena);
	rt->rebuild_broken = false;
	/* Ids and UIDs may not be what an open view believes: its session has to select again. */
	follow_revoke(svc, id);
	account_forget(svc, id);
	rc = drop_keys(svc, id, err);
	if (rc >= 0) {
		t = txn_new(svc);
		rc = make_parts(t, id, path, rc > 0, takeover, &in, &parts, err);
	}
	if (rc == 0)
		rc = txn_commit(&t, NULL, NULL, err);
	txn_abort(&t);
	if (rc == 0 && account_get(svc, id, &a, err) > 0) {
		rt->rebuilding += (unsigned)parts.n;
		rt->rebuilt = map_new();
		for (size_t i = 0; i < parts.n; i++)
			folder_rebuild(svc, a, account_mailbox(a, parts.v[i].mailbox), parts.v[i].list,
				       &parts.v[i].arena);
	} else {
		rt->rebuild_failed_ms = clock_ms();
		for (size_t i = 0; i < parts.n; i++)
			arena_release(&parts.v[i].arena);
	}
	vec_release(&parts);
	inheritance_release(&in);
	folder_rebuilt(svc, id);
	return rc;
}

/* ---- the end ---- */

static void fsck_note(struct runtime *rt, const struct account *a)
{
	for (size_t i = 0; i < rt->fscks.n; i++) {
		struct fsck *f = rt->fscks.v[i];

		if (a)
			buf_addf(&f->text, "account %llu (%.*s): %llu messages in %zu mailboxes\n",
				 (unsigned long long)a->id, STR_ARG(a->header.path),
				 (unsigned long long)a->header.used_messages, a->mailboxes.n);
		else
			buf_addf(&f->text, "account %llu: could not be rebuilt, see the log\n",
				 (unsigned long long)rt->account);
		if (--f->remaining == 0) {
			struct store_report *r = ARENA_NEW(&f->req->arena, struct store_report);

			r->text = arena_str(&f->req->arena, buf_str(&f->text));
			rpc_answer(f->req, r);
			buf_release(&f->text);
			free(f);
		}
	}
	vec_clear(&rt->fscks);
}

/* A mailbox whose files were not taken over would begin with UID 1 again, under the UIDVALIDITY that it had. */
static void keep_above_ceilings(struct account *a)
{
	for (size_t i = 0; i < a->mailboxes.n; i++) {
		struct mailbox *m = a->mailboxes.v[i];

		if (m->rec.uidnext >= m->rec.uid_ceiling)
			continue;
		m->rec.uidnext = m->rec.recent_from = m->rec.uid_ceiling;
		m->dirty = true;
	}
}

/* Every folder has been read: the account is whole. If one could not be, its key goes on saying that it is being
 * rebuilt, and who asks for it next begins again. */
static void rebuild_finish(struct store_service *svc, uint64_t id)
{
	struct runtime *rt = runtime_get(svc, id);
	struct account *a;
	struct txn *t;
	struct err err = ERR_NONE;

	if (account_get(svc, id, &a, &err) <= 0 || !a->header.rebuilding)
		return;
	if (rt->rebuild_broken && ++rt->rebuild_tries < TRIES) {
		rt->rebuild_failed_ms = clock_ms();
		account_forget(svc, id);
		return;
	}
	t = txn_new(svc);
	txn_touch(t, a);
	if (rt->rebuild_broken)
		keep_above_ceilings(a);
	rt->rebuild_tries = 0;
	a->header.rebuilding = REBUILDING_NOT;
	a->dirty = true;
	if (txn_commit(&t, NULL, NULL, &err) < 0) {
		rt->rebuild_failed_ms = clock_ms();
		log_error("account %llu: rebuilding: %s", (unsigned long long)id, err.text);
	}
}

void folder_rebuilt(struct store_service *svc, uint64_t account)
{
	struct runtime *rt = runtime_get(svc, account);
	struct account *a = NULL;
	struct str key;
	void *value;
	VEC(struct rpc_request *) waiting;

	if (--rt->rebuilding > 0)
		return;
	for (size_t at = 0; rt->rebuilt && map_next(rt->rebuilt, &at, &key, &value);)
		free(value);
	map_free(&rt->rebuilt);
	rebuild_finish(svc, account);
	if (account_get(svc, account, &a, NULL) > 0)
		log_info("account %llu: rebuilt from its files: %llu messages in %zu mailboxes",
			 (unsigned long long)account, (unsigned long long)a->header.used_messages, a->mailboxes.n);
	else
		a = NULL;
	fsck_note(rt, a);
	memcpy(&waiting, &rt->waiting, sizeof(waiting));
	memset(&rt->waiting, 0, sizeof(rt->waiting));
	for (size_t i = 0; i < waiting.n; i++)
		service_handle(svc, waiting.v[i]);
	vec_release(&waiting);
}

struct rebuild {
	struct store_service *svc;
	uint64_t account;
	struct str path;
};

static void checkpointed(void *ctx)
{
	struct rebuild *r = ctx;
	struct err err = ERR_NONE;

	if (rebuild_begin(r->svc, r->account, r->path, &err) < 0)
		log_error("account %llu: rebuilding: %s", (unsigned long long)r->account, err.text);
	free((void *)(uintptr_t)r->path.ptr);
	free(r);
}

int account_rebuild(struct store_service *svc, uint64_t id, struct str path, struct err *err)
{
	struct runtime *rt = runtime_get(svc, id);
	struct rebuild *r;

	if (path.len == 0)
		return err_set(err, ERR_TEMP, "4.3.0", "the account's place is not known");
	if (rt->rebuilding)
		return 0;
	/* Where pages are damaged, what was written is not found again. */
	if (rt->was_rebuilt)
		store_engine_doubt(svc->engine);
	rt->was_rebuilt = true;
	rt->rebuilding = 1;
	log_info("account %llu: rebuilding the index of %.*s", (unsigned long long)id, STR_ARG(path));
	r = NEW(struct rebuild);
	*r = (struct rebuild){svc, id, str_own(path)};
	store_engine_checkpoint(svc->engine, checkpointed, r);
	return 0;
}

/* Called from the midst of a request: done when the loop comes round. */
static void rebuild_damaged(void *ctx)
{
	struct rebuild *r = ctx;
	struct err err = ERR_NONE;

	if (account_rebuild(r->svc, r->account, r->path, &err) < 0)
		log_error("account %llu: %s", (unsigned long long)r->account, err.text);
	free((void *)(uintptr_t)r->path.ptr);
	free(r);
}

void account_damaged(struct store_service *svc, uint64_t id, struct str path)
{
	struct rebuild *r = NEW(struct rebuild);

	log_error("account %llu: a record of the index is damaged", (unsigned long long)id);
	*r = (struct rebuild){svc, id, str_own(path)};
	rpc_server_after(svc->server, 0, rebuild_damaged, r);
}

/* ---- folders that other tools made or took away ---- */

#define FOLDERS_EVERY_MS 1000
/* What was only moved away for a moment is there again by then. */
#define FOLDER_GRACE_MS 5000

/* Accounts may have thousands of folders, and this is done every second while they are listed: nothing of it goes
 * through all for each. The account's mailboxes by their folders; INBOX, whose folder has no name, is not among them.
 */
static struct map *mailboxes_by_folder(const struct account *a)
{
	struct map *found = map_new();

	for (size_t i = 0; i < a->mailboxes.n; i++)
		if (a->mailboxes.v[i]->rec.folder.len > 0 && !a->mailboxes.v[i]->deleted_now)
			map_set(found, a->mailboxes.v[i]->rec.folder, a->mailboxes.v[i]);
	return found;
}

/* The folders of the list, in the same way. root_r: INBOX's is among them. */
static struct map *folders_by_name(const struct folder_list *l, bool *root_r)
{
	struct map *found = map_new();

	*root_r = false;
	for (size_t i = 0; i < l->names.n; i++)
		if (l->names.v[i].len > 0)
			map_set(found, l->names.v[i], &l->names.v[i]);
		else
			*root_r = true;
	return found;
}

static void folders_adopt(struct store_service *svc, struct account *a, const struct folder_list *l, struct txn **t)
{
	struct map *have = mailboxes_by_folder(a);

	for (size_t i = 0; i < l->names.n; i++) {
		struct str folder = l->names.v[i], name;
		struct mailbox *m;

		if (folder.len == 0 ? account_mailbox_folder(a, folder) != NULL : map_get(have, folder) != NULL)
			continue;
		if (a->mailboxes.n >= (size_t)svc->conf->mailbox_count_limit)
			continue;
		if (!*t)
			*t = txn_new(svc);
		name = folder_name(a, folder, &(*t)->arena);
		m = mailbox_make(*t, a, name, mailbox_role(a, name), true, folder);
		folder_scan_soon(svc, a->id, m->id);
	}
	map_free(&have);
}

/* What was missing is there again. */
static void folders_are_back(struct store_service *svc, struct account *a, const struct map *there)
{
	struct runtime *rt = runtime_get(svc, a->id);

	for (size_t i = 0; i < rt->folders.n; i++) {
		struct folder_state *fs = rt->folders.v[i];
		const struct mailbox *m = fs->gone_ms ? account_mailbox(a, fs->mailbox) : NULL;

		if (m && map_get(there, m->rec.folder))
			fs->gone_ms = 0;
	}
}

/* A mailbox whose folder is missing twice, some seconds apart, while INBOX is there, was deleted by whoever
 * removed the folder. */
static int folders_bury(struct store_service *svc, struct account *a, const struct map *there, struct txn **t,
			struct err *err)
{
	int64_t now = clock_ms();

	for (size_t i = 0; i < a->mailboxes.n; i++) {
		struct mailbox *m = a->mailboxes.v[i];
		struct folder_state *fs;

		if (m->rec.folder.len == 0 || m->deleted_now || map_get(there, m->rec.folder))
			continue;
		fs = folder_state_get(svc, a->id, m->id);
		if (!fs->gone_ms)
			fs->gone_ms = now;
		if (now - fs->gone_ms < FOLDER_GRACE_MS) {
			folders_look_soon(svc, a->id, FOLDER_GRACE_MS - (now - fs->gone_ms) + 1);
			continue;
		}
		log_info("account %llu: the folder \"%.*s\" was removed: mailbox deleted", (unsigned long long)a->id,
			 STR_ARG(m->rec.folder));
		if (!*t)
			*t = txn_new(svc);
		if (mailbox_delete(t, a, m, err) < 0)
			return -1;
	}
	return 0;
}

void folders_look(struct store_service *svc, struct account *a)
{
	struct runtime *rt = runtime_get(svc, a->id);
	struct folder_list folders;
	struct err err = ERR_NONE;
	struct txn *t = NULL;
	uint64_t id = a->id;
	struct map *there;
	bool root;
	int rc = 0;

	if (rt->rebuilding || clock_ms() - rt->folders_ms < FOLDERS_EVERY_MS ||
	    store_engine_files_pending(svc->engine, a->id) > 0)
		return;
	rt->folders_ms = clock_ms();
	if (folder_list(svc, a->header.path, &folders, &err) > 0) {
		there = folders_by_name(&folders, &root);
		folders_are_back(svc, a, there);
		folders_adopt(svc, a, &folders, &t);
		if (root)
			rc = folders_bury(svc, a, there, &t, &err);
		map_free(&there);
	}
	folder_list_release(&folders);
	if (rc < 0)
		txn_abort(&t);
	else if (t)
		rc = txn_commit(&t, NULL, NULL, &err);
	if (rc < 0)
		log_warning("account %llu: taking over folders that came or went: %s", (unsigned long long)id,
			    err.text);
}

static void folders_timer(void *ctx)
{
	struct store_service *svc = ctx;
	int64_t next = INT64_MAX, now = clock_ms();
	struct str key;
	void *value;

	for (size_t at = 0; map_next(svc->runtimes, &at, &key, &value);) {
		struct runtime *rt = value;
		struct account *a;

		if (rt->folders_at_ms && rt->folders_at_ms <= now) {
			/* Not while our own files are on their way: after a moment. */
			bool busy = rt->rebuilding || store_engine_files_pending(svc->engine, rt->account) > 0;

			rt->folders_at_ms = busy ? now + FOLDERS_EVERY_MS : 0;
			rt->folders_ms = busy ? rt->folders_ms : 0;
			if (!busy && account_get(svc, rt->account, &a, NULL) > 0)
				folders_look(svc, a);
			/* As long as somebody looks at what is missing. */
			if (!busy && !rt->folders_at_ms && !watch_again(svc, rt->account))
				rt->folders_at_ms = now + 2 * FOLDERS_EVERY_MS;
		}
		if (rt->folders_at_ms && rt->folders_at_ms < next)
			next = rt->folders_at_ms;
	}
	if (next < INT64_MAX)
		timer_once(svc, TIMER_FOLDERS, next > now ? next - now + 1 : 1, folders_timer);
}

void folders_look_soon(struct store_service *svc, uint64_t account, int64_t delay_ms)
{
	struct runtime *rt = runtime_get(svc, account);
	int64_t at = clock_ms() + delay_ms;

	if (!rt->folders_at_ms || rt->folders_at_ms > at)
		rt->folders_at_ms = at;
	timer_once(svc, TIMER_FOLDERS, delay_ms + 1, folders_timer);
}

/* ---- fsck ---- */

static void fsck_add(struct store_service *svc, struct fsck *f, uint64_t id, struct str path)
{
	struct runtime *rt = runtime_get(svc, id);
	struct err err = ERR_NONE;

	vec_push(&rt->fscks, f);
	f->remaining++;
	if (account_rebuild(svc, id, path, &err) < 0) {
		rt->fscks.n--;
		f->remaining--;
		buf_addf(&f->text, "account %llu: %s\n", (unsigned long long)id, err.text);
	}
}

struct account_walk {
	uint64_t id;
	struct str path;
	struct arena *arena;
};

static int first_account(void *ctx, struct str key, struct str value)
{
	struct account_walk *w = ctx;
	struct account_header h;

	w->id = key_account(key);
	w->path = STR_NULL;
	if (key.len == 9 && key.ptr[8] == 'A' && account_header_decode(value, &h))
		w->path = arena_str(w->arena, h.path);
	return 1;
}

bool account_after(struct store_service *svc, uint64_t id, struct arena *arena, uint64_t *id_r, struct str *path_r)
{
	struct account_walk w = {.arena = arena};

	if (id == UINT64_MAX ||
	    store_engine_range(svc->engine, key_plain(arena, id + 1, 0), STR_NULL, false, first_account, &w, NULL) <= 0)
		return false;
	*id_r = w.id;
	*path_r = w.path;
	return true;
}

void call_fsck(struct call *c)
{
	const struct store_fsck *msg = c->req->msg;
	struct fsck *f = NEW(struct fsck);
	uint64_t id = msg->account;
	struct str path = msg->path;

	if (msg->check) {
		free(f);
		call_check(c);
		return;
	}
	f->svc = c->svc;
	f->req = c->req;
	buf_init(&f->text, 1 << 20);
	f->remaining = 1;
	if (id) {
		struct account *a;

		if (path.len == 0 && account_get(c->svc, id, &a, NULL) > 0)
			path = a->header.path;
		fsck_add(c->svc, f, id, arena_str(&c->req->arena, path));
	} else {
		while (account_after(c->svc, id, &c->req->arena, &id, &path))
			fsck_add(c->svc, f, id, path);
	}
	if (--f->remaining == 0) {
		struct store_report *r = ARENA_NEW(&c->req->arena, struct store_report);

		r->text = arena_str(&c->req->arena, buf_str(&f->text));
		rpc_answer(c->req, r);
		buf_release(&f->text);
		free(f);
	}
}
