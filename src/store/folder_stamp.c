/* folder_stamp - whether a folder must be read again. Its times say so; what they were when it was read is kept over a
 * restart (key T), so that opening a large mailbox needs no look at its files. */
#include "base/clock.h"
#include "store/service_private.h"

/* What changed a moment before the end may still change with the same times, as other machines' clocks see them. */
#define QUIET_S 10

static void take_saved(struct store_service *svc, struct account *a, struct mailbox *m, struct folder_state *fs)
{
	struct arena arena;
	struct str value, stamp;

	fs->saved_read = true;
	arena_init(&arena);
	if (store_engine_get(svc->engine, key_u32(&arena, a->id, 'T', m->id), &arena, &value, NULL) > 0 &&
	    bytes_decode(value, &stamp) && stamp.len == sizeof(fs->saved)) {
		memcpy(&fs->saved, stamp.ptr, sizeof(fs->saved));
		fs->stamp = fs->saved;
		fs->trusted = true;
	}
	arena_release(&arena);
}

bool folder_unchanged(struct store_service *svc, struct account *a, struct mailbox *m, struct folder_state *fs)
{
	bool first = !fs->saved_read && !fs->stamp;
	uint64_t mark = watch_mark(svc, a, m);

	/* Read since it is watched, and nobody but us was at work there since. */
	if (mark && mark == fs->mark && fs->suspects.n == 0)
		return true;
	if (first)
		take_saved(svc, a, m, fs);
	if (!fs->trusted || store_engine_folder_stamp(svc->engine, a->header.path, m->rec.folder, NULL) != fs->stamp)
		return false;
	/* Names that a crash left behind the flags are found when a folder is read. Nobody waits for it when it is not.
	 */
	if (first) {
		fs->names_unseen = true;
		project_soon(svc, a->id);
	}
	return true;
}

bool folder_stands(struct store_service *svc, const struct account *a, const struct mailbox *m)
{
	struct folder_state *fs = folder_state_get(svc, a->id, m->id);
	uint64_t mark = watch_mark(svc, a, m); /* before the times: what happens between the two changes both */

	if (!mark || !fs->trusted || fs->suspects.n > 0 ||
	    store_engine_folder_stamp(svc->engine, a->header.path, m->rec.folder, NULL) != fs->stamp)
		return false;
	fs->mark = mark;
	return true;
}

/* The times of a folder where nobody but us was at work since it was read are good to know, too. */
static void take_stamp(struct store_service *svc, struct account *a, struct mailbox *m, struct folder_state *fs)
{
	uint64_t mark = watch_mark(svc, a, m), stamp;

	if (!mark || mark != fs->mark || fs->suspects.n > 0)
		return;
	stamp = store_engine_folder_stamp(svc->engine, a->header.path, m->rec.folder, NULL);
	if (watch_mark(svc, a, m) == mark) {
		fs->stamp = stamp;
		fs->trusted = true;
	}
}

static int folder_save(struct txn **t, struct runtime *rt, struct folder_state *fs, struct err *err)
{
	struct store_service *svc = (*t)->svc;
	struct account *a;
	struct mailbox *m;
	int64_t newest;

	if ((!fs->mark && (!fs->trusted || fs->stamp == fs->saved)) || account_get(svc, rt->account, &a, NULL) <= 0 ||
	    !(m = account_mailbox(a, fs->mailbox)))
		return 0;
	take_stamp(svc, a, m, fs);
	if (!fs->trusted || fs->stamp == fs->saved ||
	    store_engine_folder_stamp(svc->engine, a->header.path, m->rec.folder, &newest) != fs->stamp ||
	    newest > clock_wall() - QUIET_S)
		return 0;
	txn_touch(*t, a);
	bytes_encode(str_of((const char *)&fs->stamp, sizeof(fs->stamp)), &(*t)->scratch);
	txn_put(*t, key_u32(&(*t)->arena, a->id, 'T', m->id), txn_value(*t));
	fs->saved = fs->stamp;
	return txn_roll(t, err);
}

void folders_save(struct store_service *svc)
{
	struct txn *t = txn_new(svc);
	struct err err = ERR_NONE;
	struct str key;
	void *value;
	int rc = 0;

	for (size_t at = 0; rc == 0 && map_next(svc->runtimes, &at, &key, &value);) {
		struct runtime *rt = value;

		if (rt->rebuilding || store_engine_files_pending(svc->engine, rt->account) > 0)
			continue;
		for (size_t i = 0; rc == 0 && i < rt->folders.n; i++)
			rc = folder_save(&t, rt, rt->folders.v[i], &err);
	}
	if (t->accounts.n == 0 || txn_commit(&t, NULL, NULL, &err) < 0)
		txn_abort(&t);
}
