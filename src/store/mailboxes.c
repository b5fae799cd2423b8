/* mailboxes - the names of an account: list, create, delete, rename, subscribe; the default folders. */
#include "base/clock.h"
#include "base/fatal.h"
#include "store/maildir.h"
#include "store/service_private.h"

/* ---- what a mailbox is ---- */

void mailbox_info_fill(struct account *a, struct mailbox *m, struct arena *arena, struct mailbox_info *info)
{
	*info = (struct mailbox_info){.id = m->id,
				      .name = arena_str(arena, m->rec.name),
				      .role = m->rec.role,
				      .subscribed = m->rec.subscribed,
				      .uidvalidity = m->rec.uidvalidity,
				      .uidnext = m->rec.uidnext,
				      .highestmodseq = m->rec.modseq,
				      .messages = m->rec.messages,
				      .unseen = m->rec.unseen,
				      .deleted = m->rec.deleted,
				      .size = m->rec.size};
	info->recent = mailbox_recent(a, m);
}

void mailbox_uidlist_head(struct txn *t, struct account *a, struct mailbox *m)
{
	struct buf *lines = txn_lines(t, a, m);

	if (m->noted)
		return;
	m->noted = true;
	uidlist_validity(lines, m->rec.uidvalidity, m->id);
	uidlist_mailbox(lines, m->rec.role, m->rec.subscribed, m->rec.name);
}

/* What the mailbox is was changed: the uidlist gets to know it too. */
static void mailbox_changed(struct txn *t, struct account *a, struct mailbox *m)
{
	m->dirty = true;
	m->noted = true;
	uidlist_mailbox(txn_lines(t, a, m), m->rec.role, m->rec.subscribed, m->rec.name);
	txn_touch(t, a);
	(void)txn_modseq(t, a, m);
}

/* RFC 3501 2.3.1.1: a mailbox made anew under an old name must have a greater UIDVALIDITY. */
static uint32_t next_uidvalidity(struct account *a)
{
	uint32_t now = (uint32_t)clock_wall();

	if (now <= a->header.last_uidvalidity)
		now = a->header.last_uidvalidity + 1;
	a->header.last_uidvalidity = now;
	a->dirty = true;
	return now;
}

struct mailbox *mailbox_make(struct txn *t, struct account *a, struct str name, unsigned role, bool subscribed,
			     struct str folder)
{
	struct mailbox_record rec = {.name = name,
				     .folder = folder,
				     .role = (uint8_t)role,
				     .subscribed = subscribed,
				     .uidnext = 1,
				     .recent_from = 1};
	struct mailbox *m;
	size_t at;

	txn_touch(t, a);
	rec.uidvalidity = next_uidvalidity(a);
	if (account_subscribed_name(a, name, &at)) {
		rec.subscribed = true;
		txn_del(t, key_bytes(&t->arena, a->id, 'U', a->subscriptions.v[at]));
		free((void *)(uintptr_t)a->subscriptions.v[at].ptr);
		vec_remove(&a->subscriptions, at);
	}
	m = mailbox_new(a, a->header.next_mailbox++, &rec);
	m->complete = true; /* there is nothing to load */
	(void)txn_modseq(t, a, m);
	(void)txn_file(t, a, FILE_FOLDER_MAKE, folder);
	mailbox_uidlist_head(t, a, m);
	return m;
}

/* ---- names that were given up ----
 *
 * Recovery does once more, in their order, the file operations of all commits since the last checkpoint, in directories
 * as they were in the end. That comes to the same end only while a directory's name meant one folder all the time: one
 * that was removed or renamed, and another that took its name, would be taken for each other. So whoever takes such a
 * name waits for a checkpoint. */

static uint64_t checkpoints(struct store_service *svc)
{
	struct store_engine_stats stats;

	store_engine_stats(svc->engine, &stats);
	return stats.checkpoints;
}

/* Those up to this serial are in the index. */
static void given_up_forget(struct runtime *rt, uint64_t serial)
{
	size_t kept = 0;

	for (size_t i = 0; i < rt->given_up.n; i++) {
		struct given_up g = rt->given_up.v[i];

		if (g.serial > serial)
			rt->given_up.v[kept++] = g;
		else
			free(g.folder);
	}
	rt->given_up.n = kept;
}

/* What ended last may have begun before the commit; the one behind it has not. */
static void given_up_trim(struct store_service *svc, struct runtime *rt)
{
	uint64_t now = rt->given_up.n > 0 ? checkpoints(svc) : 0, serial = 0;

	for (size_t i = 0; i < rt->given_up.n && rt->given_up.v[i].checkpoints + 2 <= now; i++)
		serial = rt->given_up.v[i].serial;
	given_up_forget(rt, serial);
}

static void folder_given_up(struct txn *t, struct account *a, struct str folder)
{
	struct runtime *rt = runtime_get(t->svc, a->id);
	struct given_up g = {
		.folder = str_dup(folder), .serial = ++rt->given_up_serial, .checkpoints = checkpoints(t->svc)};

	given_up_trim(t->svc, rt);
	vec_push(&rt->given_up, g);
}

/* The same, or one below the other: parents are made, what stands below is renamed along. */
static bool are_related(struct str a, struct str b)
{
	return a.len > b.len ? are_related(b, a) : str_starts(b, a) && (a.len == b.len || b.ptr[a.len] == '.');
}

static bool was_given_up(struct store_service *svc, uint64_t account, struct str name)
{
	struct runtime *rt = runtime_get(svc, account);
	struct buf folder;
	bool found = false;

	given_up_trim(svc, rt);
	buf_init(&folder, 4 * MAILBOX_NAME_MAX);
	mailbox_folder(&folder, name);
	for (size_t i = 0; i < rt->given_up.n && !found; i++)
		found = are_related(str_from(rt->given_up.v[i].folder), buf_str(&folder));
	buf_release(&folder);
	return found;
}

struct naming {
	struct store_service *svc;
	struct rpc_request *req;
	uint64_t account, serial;
};

static void naming_goes_on(void *ctx)
{
	struct naming *n = ctx;
	struct err err = ERR_NONE;

	if (store_stopping(n->svc, &err)) {
		rpc_refuse(n->req, &err);
	} else {
		given_up_forget(runtime_get(n->svc, n->account), n->serial);
		service_handle(n->svc, n->req);
	}
	free(n);
}

static void naming_waits(struct call *c)
{
	struct naming *n = NEW(struct naming);

	*n = (struct naming){c->svc, c->req, c->account->id, runtime_get(c->svc, c->account->id)->given_up_serial};
	store_engine_checkpoint(c->svc->engine, naming_goes_on, n);
}

/* ---- roles ---- */

static const struct {
	const char *name;
	uint8_t role;
} ROLES[] = {{"Drafts", ROLE_DRAFTS},	       {"Sent", ROLE_SENT},	 {"Sent Items", ROLE_SENT},
	     {"Sent Messages", ROLE_SENT},     {"Trash", ROLE_TRASH},	 {"Deleted Items", ROLE_TRASH},
	     {"Deleted Messages", ROLE_TRASH}, {"Junk", ROLE_JUNK},	 {"Spam", ROLE_JUNK},
	     {"Junk E-mail", ROLE_JUNK},       {"Archive", ROLE_ARCHIVE}};

static unsigned role_of_name(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(ROLES); i++)
		if (str_ieq(name, str_from(ROLES[i].name)))
			return ROLES[i].role;
	return ROLE_NONE;
}

/* A role is held by one mailbox at a time: the first one. */
static unsigned free_role(struct account *a, unsigned role)
{
	return role != ROLE_NONE && account_mailbox_role(a, (uint8_t)role) ? ROLE_NONE : role;
}

unsigned mailbox_role(struct account *a, struct str name)
{
	return free_role(a, role_of_name(name));
}

/* ---- making an account ---- */

static void make_default_folders(struct txn *t, struct account *a)
{
	struct str rest = t->svc->conf->mailbox_default_folders, item;

	while (conf_list_next(&rest, &item)) {
		struct buf name, folder;

		buf_init(&name, MAILBOX_NAME_MAX + 1);
		buf_init(&folder, 4 * MAILBOX_NAME_MAX);
		if (mailbox_name_check(item, &name, NULL) == 0 && !account_mailbox_named(a, buf_str(&name))) {
			mailbox_folder(&folder, buf_str(&name));
			mailbox_make(t, a, buf_str(&name), mailbox_role(a, buf_str(&name)), true, buf_str(&folder));
		}
		buf_release(&folder);
		buf_release(&name);
	}
}

int account_create(struct txn *t, uint64_t id, struct str path, bool folders, struct account **a_r, struct err *err)
{
	struct account *a;

	if (path.len == 0)
		return err_set(err, ERR_PERM, "5.2.0", "the account has no place for its mail");
	a = NEW(struct account);
	a->svc = t->svc;
	a->id = id;
	a->fresh = true;
	a->header.next_message = 1;
	a->header.next_mailbox = 1;
	a->header.log_first = 1;
	a->header.path = str_own(path);
	a->header.host = str_own(str_from(t->svc->host));
	a->used_ms = clock_ms();
	map_set_u64(t->svc->accounts, id, a);
	mailbox_make(t, a, STR("INBOX"), ROLE_INBOX, true, STR_NULL);
	if (folders)
		make_default_folders(t, a);
	*a_r = a;
	return 0;
}

/* ---- create ---- */

static struct mailbox *make_one(struct txn *t, struct account *a, struct str name, unsigned role)
{
	struct buf folder;
	struct mailbox *m;

	buf_init(&folder, 4 * MAILBOX_NAME_MAX);
	mailbox_folder(&folder, name);
	/* A foreign folder may already stand for another spelling of the same name. */
	while (account_mailbox_folder(a, buf_str(&folder)))
		buf_addc(&folder, '_');
	m = mailbox_make(t, a, name, free_role(a, role), false, buf_str(&folder));
	buf_release(&folder);
	return m;
}

int mailbox_make_path(struct txn *t, struct account *a, struct str name, unsigned role, struct mailbox **m_r,
		      struct err *err)
{
	if (account_mailbox_named(a, name))
		return err_set(err, ERR_EXISTS, "", "the mailbox exists already");
	if (a->mailboxes.n >= (size_t)t->svc->conf->mailbox_count_limit)
		return err_set(err, ERR_LIMIT, "", "the account has too many mailboxes");
	if (role != ROLE_NONE && account_mailbox_role(a, (uint8_t)role)) /* RFC 6154 3: then none is made */
		return err_set(err, ERR_PERM, "", "another mailbox has that special use");
	for (size_t i = 1; i < name.len; i++)
		if (name.ptr[i] == '/' && !account_mailbox_named(a, str_sub(name, 0, i)))
			make_one(t, a, str_sub(name, 0, i), ROLE_NONE);
	*m_r = make_one(t, a, name, role ? role : role_of_name(name));
	return 0;
}

/* ---- delete ---- */

/* Messages go the way of expunged ones, so that an open view may still fetch what it shows. */
static int empty_mailbox(struct txn **t, struct account *a, struct mailbox *m, struct err *err)
{
	uint64_t modseq = txn_modseq(*t, a, m);
	struct chunk *c;
	uint32_t uid = 1;
	int rc;

	if (mailbox_load(a, m, err) < 0)
		return -1;
	for (; (rc = message_next(a, m, uid, UINT32_MAX, &uid, &c, err)) > 0; uid++)
		if (message_remove(*t, a, m, uid, c, modseq, false, false, err) < 0 || txn_roll(t, err) < 0)
			return -1;
	return rc;
}

struct key_collector {
	struct txn *t;
};

static int collect_key(void *ctx, struct str key, struct str value)
{
	struct key_collector *k = ctx;

	(void)value;
	txn_del(k->t, arena_str(&k->t->arena, key));
	return 0;
}

static int forget_range(struct txn *t, struct account *a, char type, uint32_t mailbox, struct err *err)
{
	struct key_collector k = {t};

	return store_engine_range(t->svc->engine, key_u32(&t->arena, a->id, type, mailbox),
				  key_u32(&t->arena, a->id, type, mailbox + 1), false, collect_key, &k, err);
}

/* Names that are no mailboxes cost their owner no quota. */
static bool subscriptions_have_room(const struct txn *t, const struct account *a)
{
	return a->subscriptions.n < (size_t)t->svc->conf->mailbox_count_limit;
}

int mailbox_delete(struct txn **tp, struct account *a, struct mailbox *m, struct err *err)
{
	struct change_set *set;
	struct txn *t;

	if (str_eq(m->rec.name, STR("INBOX")))
		return err_set(err, ERR_PERM, "", "INBOX cannot be deleted");
	if (empty_mailbox(tp, a, m, err) < 0)
		return -1;
	t = *tp;
	txn_touch(t, a);
	if (forget_range(t, a, 'H', m->id, err) < 0 || forget_range(t, a, 'S', m->id, err) < 0)
		return -1;
	txn_del(t, key_u32(&t->arena, a->id, 'B', m->id));
	txn_del(t, key_u32(&t->arena, a->id, 'K', m->id));
	txn_del(t, key_u32(&t->arena, a->id, 'T', m->id));
	(void)txn_file(t, a, FILE_FOLDER_REMOVE, m->rec.folder);
	folder_given_up(t, a, m->rec.folder);
	/* RFC 3501 6.3.9: the subscription stays though the mailbox is gone; while there is room for it. */
	if (m->rec.subscribed && subscriptions_have_room(t, a)) {
		bytes_encode(STR_NULL, &t->scratch);
		txn_put(t, key_bytes(&t->arena, a->id, 'U', m->rec.name), txn_value(t));
		vec_push(&a->subscriptions, str_own(m->rec.name));
	}
	set = txn_changes(t, a->id, m->id);
	set->deleted = true;
	vec_clear(&set->changes);
	m->deleted_now = true;
	folder_state_drop(t->svc, a->id, m->id);
	return 0;
}

/* ---- rename ---- */

static void rename_one(struct txn *t, struct account *a, struct mailbox *m, struct str name)
{
	struct store_file_op *op;
	struct buf folder;

	buf_init(&folder, 4 * MAILBOX_NAME_MAX);
	mailbox_folder(&folder, name);
	op = txn_file(t, a, FILE_FOLDER_RENAME, m->rec.folder);
	op->to_folder = arena_str(&t->arena, buf_str(&folder));
	folder_given_up(t, a, m->rec.folder);
	free((void *)(uintptr_t)m->rec.name.ptr);
	free((void *)(uintptr_t)m->rec.folder.ptr);
	m->rec.name = str_own(name);
	m->rec.folder = str_own(buf_str(&folder));
	buf_release(&folder);
	mailbox_changed(t, a, m);
}

static bool is_below(struct str name, struct str parent)
{
	return name.len > parent.len && str_starts(name, parent) && name.ptr[parent.len] == '/';
}

/* A name that is a parent of mailboxes and no mailbox itself: what LIST calls \Noselect. */
static bool is_implied(const struct account *a, struct str name)
{
	for (size_t i = 0; i < a->mailboxes.n; i++)
		if (!a->mailboxes.v[i]->deleted_now && is_below(a->mailboxes.v[i]->rec.name, name))
			return true;
	return false;
}

/* A child's new name, if it is one: checked, and nobody's yet. */
static int child_name(const struct map *names, struct str to, struct str rest, struct buf *name, struct err *err)
{
	struct buf checked;
	int rc;

	buf_add_str(name, to);
	buf_add_str(name, rest);
	buf_init(&checked, 2 * MAILBOX_NAME_MAX);
	rc = mailbox_name_check(buf_str(name), &checked, err);
	buf_release(&checked);
	if (rc == 0 && map_get(names, buf_str(name)))
		rc = err_set(err, ERR_EXISTS, "", "a mailbox of that name exists already");
	return rc;
}

static int rename_children(struct txn *t, struct account *a, struct map *names, struct str from, struct str to,
			   struct err *err)
{
	int rc = 0;

	for (size_t i = 0; i < a->mailboxes.n && rc == 0; i++) {
		struct mailbox *child = a->mailboxes.v[i];
		struct buf name;

		if (child->deleted_now || !is_below(child->rec.name, from))
			continue;
		buf_init(&name, 2 * MAILBOX_NAME_MAX);
		rc = child_name(names, to, str_skip(child->rec.name, from.len), &name, err);
		if (rc == 0) {
			map_remove(names, child->rec.name);
			rename_one(t, a, child, buf_str(&name));
			map_set(names, child->rec.name, child);
		}
		buf_release(&name);
	}
	return rc;
}

/* RFC 3501 6.3.5: what stands below goes along. It may be all that there is, so names are not looked for one by one:
 * everybody else waits meanwhile. m: of that name, or NULL. */
static int rename_tree(struct txn *t, struct account *a, struct mailbox *m, struct str from, struct str to,
		       struct err *err)
{
	struct map *names;
	int rc;

	if (is_below(to, from))
		return err_set(err, ERR_PERM, "", "a mailbox cannot be moved below itself");
	if (m)
		rename_one(t, a, m, to);
	names = map_new();
	for (size_t i = 0; i < a->mailboxes.n; i++)
		if (!a->mailboxes.v[i]->deleted_now)
			map_set(names, a->mailboxes.v[i]->rec.name, a->mailboxes.v[i]);
	rc = rename_children(t, a, names, from, to, err);
	map_free(&names);
	return rc;
}

/* RFC 3501 6.3.5: INBOX stays, its messages go into a new mailbox. */
static int rename_inbox(struct txn **t, struct account *a, struct mailbox *inbox, struct str to, struct mailbox **m_r,
			struct err *err)
{
	if (mailbox_make_path(*t, a, to, ROLE_NONE, m_r, err) < 0)
		return -1;
	return messages_move_all(t, a, inbox, *m_r, err);
}

static int make_parents(struct txn *t, struct account *a, struct str name, struct err *err)
{
	for (size_t i = 1; i < name.len; i++)
		if (name.ptr[i] == '/' && !account_mailbox_named(a, str_sub(name, 0, i))) {
			if (a->mailboxes.n >= (size_t)t->svc->conf->mailbox_count_limit)
				return err_set(err, ERR_LIMIT, "", "the account has too many mailboxes");
			make_one(t, a, str_sub(name, 0, i), ROLE_NONE);
		}
	return 0;
}

static int change_rename(struct txn **t, struct account *a, struct mailbox *m, struct str from, struct str to,
			 struct mailbox **m_r, struct err *err)
{
	if (account_mailbox_named(a, to))
		return err_set(err, ERR_EXISTS, "", "a mailbox of that name exists already");
	if (m && str_eq(from, STR("INBOX")))
		return rename_inbox(t, a, m, to, m_r, err);
	*m_r = m;
	/* Only what does not lie in the moved tree is made: moving below itself is refused first. */
	if (!is_below(to, from) && make_parents(*t, a, to, err) < 0)
		return -1;
	return rename_tree(*t, a, m, from, to, err);
}

/* ---- subscribe ---- */

static int change_subscription(struct txn *t, struct account *a, struct mailbox *m, struct str name, bool on,
			       struct err *err)
{
	size_t at;

	txn_touch(t, a);
	if (m) {
		if (m->rec.subscribed != on) {
			m->rec.subscribed = on;
			mailbox_changed(t, a, m);
		}
		return 0;
	}
	if (account_subscribed_name(a, name, &at)) {
		if (on)
			return 0;
		txn_del(t, key_bytes(&t->arena, a->id, 'U', name));
		free((void *)(uintptr_t)a->subscriptions.v[at].ptr);
		vec_remove(&a->subscriptions, at);
	} else if (on) {
		if (!subscriptions_have_room(t, a))
			return err_set(err, ERR_LIMIT, "", "too many names are subscribed that are no mailboxes");
		bytes_encode(STR_NULL, &t->scratch);
		txn_put(t, key_bytes(&t->arena, a->id, 'U', name), txn_value(t));
		vec_push(&a->subscriptions, str_own(name));
	}
	return 0;
}

/* ---- the call ---- */

static struct str checked_name(struct rpc_request *req, struct str name, struct err *err)
{
	struct buf out;
	struct str s = STR_NULL;

	buf_init(&out, MAILBOX_NAME_MAX + 8);
	if (mailbox_name_check(name, &out, err) == 0)
		s = arena_str(&req->arena, buf_str(&out));
	buf_release(&out);
	return s;
}

static int change(struct txn **t, struct account *a, const struct store_mailbox_change *msg, struct str name,
		  struct str to, struct mailbox **m_r, struct err *err)
{
	struct mailbox *m = account_mailbox_named(a, name);

	*m_r = m;
	switch (msg->change) {
	case MAILBOX_CREATE:
		return mailbox_make_path(*t, a, name, msg->role <= ROLE_ALL ? msg->role : ROLE_NONE, m_r, err);
	case MAILBOX_SUBSCRIBE:
	case MAILBOX_UNSUBSCRIBE:
		return change_subscription(*t, a, m, name, msg->change == MAILBOX_SUBSCRIBE, err);
	case MAILBOX_DELETE:
	case MAILBOX_RENAME:
		if (!m && (msg->change == MAILBOX_DELETE || !is_implied(a, name)))
			return err_set(err, ERR_NOT_FOUND, "", "there is no such mailbox");
		return msg->change == MAILBOX_DELETE ? mailbox_delete(t, a, m, err)
						     : change_rename(t, a, m, name, to, m_r, err);
	default:
		return err_set(err, ERR_SYNTAX, "", "unknown change of a mailbox");
	}
}

void call_mailbox_change(struct call *c)
{
	const struct store_mailbox_change *msg = c->req->msg;
	struct mailbox_info *info = ARENA_NEW(&c->req->arena, struct mailbox_info);
	struct err err = ERR_NONE;
	struct mailbox *m = NULL;
	struct str name, to = STR_NULL;
	struct txn *t;

	if (answer_repeat(c, msg->commit_id, &mailbox_info_type))
		return;
	name = checked_name(c->req, msg->name, &err);
	if (name.len > 0 && msg->change == MAILBOX_RENAME)
		to = checked_name(c->req, msg->new_name, &err);
	if (err.kind != ERR_OK) {
		refuse(c->req, &err);
		return;
	}
	if ((msg->change == MAILBOX_CREATE && was_given_up(c->svc, c->account->id, name)) ||
	    (msg->change == MAILBOX_RENAME && was_given_up(c->svc, c->account->id, to))) {
		naming_waits(c);
		return;
	}
	t = txn_new(c->svc);
	if (change(&t, c->account, msg, name, to, &m, &err) < 0) {
		txn_abort(&t);
		refuse(c->req, &err);
		return;
	}
	if (m)
		mailbox_info_fill(c->account, m, &c->req->arena, info);
	else
		info->name = name, info->subscribed = msg->change == MAILBOX_SUBSCRIBE;
	answer_remember(t, c->account, msg->commit_id, &STORE_MAILBOX_CHANGE, info);
	if (txn_commit(&t, c->req, info, &err) < 0)
		refuse(c->req, &err);
}

/* ---- list and get ---- */

void call_mailboxes(struct call *c)
{
	struct store_mailbox_list *list = ARENA_NEW(&c->req->arena, struct store_mailbox_list);
	struct account *a = c->account;

	list->mailboxes.v = ARENA_ARRAY(&c->req->arena, struct mailbox_info, a->mailboxes.n + a->subscriptions.n + 1);
	for (size_t i = 0; i < a->mailboxes.n; i++)
		mailbox_info_fill(a, a->mailboxes.v[i], &c->req->arena, &list->mailboxes.v[list->mailboxes.n++]);
	for (size_t i = 0; i < a->subscriptions.n; i++)
		list->mailboxes.v[list->mailboxes.n++] = (struct mailbox_info){
			.name = arena_str(&c->req->arena, a->subscriptions.v[i]), .subscribed = true};
	answer_when_durable(c->svc, a->id, c->req, list, -1);
}

struct looking {
	struct store_service *svc;
	struct rpc_request *req;
	uint64_t account;
	uint32_t mailbox;
};

static void mailbox_looked(void *ctx)
{
	struct looking *l = ctx;
	struct mailbox_info *info = ARENA_NEW(&l->req->arena, struct mailbox_info);
	struct err err = ERR_NONE;
	struct account *a;
	struct mailbox *m = NULL;
	int rc = store_stopping(l->svc, &err) ? -1 : account_get(l->svc, l->account, &a, &err);

	if (rc > 0)
		m = account_mailbox(a, l->mailbox);
	if (rc >= 0 && !m)
		err_set(&err, ERR_NOT_FOUND, "", "the mailbox is gone");
	if (!m) {
		refuse(l->req, &err);
	} else {
		mailbox_info_fill(a, m, &l->req->arena, info);
		answer_when_durable(l->svc, a->id, l->req, info, -1);
	}
	free(l);
}

void call_mailbox(struct call *c)
{
	const struct store_mailbox_get *msg = c->req->msg;
	struct err err = ERR_NONE;
	struct str name = checked_name(c->req, msg->name, &err);
	struct mailbox *m = name.len > 0 ? account_mailbox_named(c->account, name) : NULL;
	struct looking *l;

	if (!m) {
		/* A name that cannot be is a mailbox that is not there. */
		err_set(&err, ERR_NOT_FOUND, "", "there is no such mailbox");
		refuse(c->req, &err);
		return;
	}
	l = NEW(struct looking);
	*l = (struct looking){c->svc, c->req, c->account->id, m->id};
	folder_look(c->svc, l->account, l->mailbox, mailbox_looked, l);
}
