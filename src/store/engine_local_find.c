/* Names in a Maildir, and where a file is by now: other tools may have changed its flags.
 *
 * Names that nobody can guess from the base and our letters (Dovecot's keywords are letters, too: ":2,Sab") stay until
 * the flags change. What a look at the directory has found of them is remembered, of one folder at a time: a mailbox
 * that comes from such a server would be read once for each of its messages.
 *
 * While recovery repeats thousands of operations a scan for each would be quadratic, so it remembers every
 * directory that it looked at: "path/folder" to a map from base name to "new/..." or "cur/...". */
#include "store/engine_local_private.h"

#include "base/clock.h"
#include "os/io.h"
#include "store/maildir.h"
#include <errno.h>

#define ODD_MAX	    100000u
#define ODD_KEEP_MS 60000

const char *local_path(char out[STORE_PATH_MAX], struct str path, struct str folder, const char *name)
{
	snprintf(out, STORE_PATH_MAX, "%.*s%s%.*s%s%s", STR_ARG(path), folder.len ? "/" : "", STR_ARG(folder),
		 name[0] ? "/" : "", name);
	return out;
}

int dir_each(int rootfd, const char *path, int (*fn)(void *ctx, const char *name), void *ctx)
{
	DIR *dir = io_opendir(rootfd, path);
	const char *name;
	int rc = 0, more;

	if (!dir)
		return -1;
	while ((more = io_readdir(dir, &name)) > 0 && rc == 0)
		if (name[0] != '.')
			rc = fn(ctx, name);
	if (more < 0 && rc == 0)
		rc = -1;
	io_closedir(dir);
	return rc;
}

/* ---- recovery's memory -------------------------------------------------------------------------------- */

static void cache_map_free(struct map **m)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(*m, &at, &key, &value);)
		free(value);
	map_free(m);
}

struct cache_fill {
	struct map *m;
	const char *sub;
};

static int cache_fill_one(void *ctx, const char *name)
{
	struct cache_fill *f = ctx;
	struct store_entry e = store_entry_parse(str_from(name), true);

	if (e.base.len)
		free(map_set(f->m, e.base, mem_printf("%s/%s", f->sub, name)));
	return 0;
}

static struct map *cache_folder(struct local *l, struct str path, struct str folder, bool load)
{
	char key[STORE_PATH_MAX], dir[STORE_PATH_MAX];
	struct cache_fill fill;
	struct map *m;

	local_path(key, path, folder, "");
	m = map_get(l->cache, str_from(key));
	if (m || !load)
		return m;
	m = map_new();
	map_set(l->cache, str_from(key), m);
	for (int i = 0; i < 2; i++) {
		fill = (struct cache_fill){m, i ? "cur" : "new"};
		if (dir_each(l->o.rootfd, local_path(dir, path, folder, fill.sub), cache_fill_one, &fill) < 0 &&
		    errno != ENOENT)
			return NULL;
	}
	return m;
}

void cache_note(struct local *l, struct str path, struct str folder, struct str base, const char *name)
{
	struct map *m = l->cache ? cache_folder(l, path, folder, false) : NULL;

	if (m)
		free(name ? map_set(m, base, mem_strdup(name)) : map_remove(m, base));
}

void cache_forget_folder(struct local *l, struct str path, struct str folder)
{
	char key[STORE_PATH_MAX];
	struct map *m;

	if (!l->cache)
		return;
	m = map_remove(l->cache, str_from(local_path(key, path, folder, "")));
	if (m)
		cache_map_free(&m);
}

void cache_free(struct local *l)
{
	struct str key;
	void *value;

	if (!l->cache)
		return;
	for (size_t at = 0; map_next(l->cache, &at, &key, &value);) {
		struct map *m = value;
		cache_map_free(&m);
	}
	map_free(&l->cache);
}

/* ---- names that cannot be guessed ---------------------------------------------------------------------- */

static bool is_odd(const struct store_entry *e)
{
	char letters[8];

	if (!e->cur)
		return e->name.len != e->base.len;
	return e->name.len != e->base.len + 3 + e->flags.len ||
	       !str_eq(e->flags, str_from(maildir_letters(maildir_mask(e->flags), letters)));
}

/* Replaces what was remembered; takes the map. */
static void odd_put(struct local *l, struct str path, struct str folder, struct map *names)
{
	struct map *old;

	pthread_mutex_lock(&l->odd_lock);
	old = l->odd;
	l->odd = names;
	local_path(l->odd_folder, path, folder, "");
	l->odd_used_ms = clock_ms();
	pthread_mutex_unlock(&l->odd_lock);
	if (old)
		cache_map_free(&old);
}

static bool odd_get(struct local *l, struct str path, struct str folder, struct str base, char found_r[FOUND_MAX])
{
	char key[STORE_PATH_MAX];
	const char *name = NULL;

	local_path(key, path, folder, "");
	pthread_mutex_lock(&l->odd_lock);
	if (l->odd && strcmp(key, l->odd_folder) == 0)
		name = map_get(l->odd, base);
	if (name) {
		snprintf(found_r, FOUND_MAX, "%s", name);
		l->odd_used_ms = clock_ms();
	}
	pthread_mutex_unlock(&l->odd_lock);
	return name != NULL;
}

void odd_forget(struct local *l, bool at_once)
{
	struct map *old = NULL;

	pthread_mutex_lock(&l->odd_lock);
	if (l->odd && (at_once || clock_ms() - l->odd_used_ms > ODD_KEEP_MS)) {
		old = l->odd;
		l->odd = NULL;
	}
	pthread_mutex_unlock(&l->odd_lock);
	if (old)
		cache_map_free(&old);
}

/* ---- finding ------------------------------------------------------------------------------------------ */

struct search {
	struct str base;
	bool cur;
	char *found;
	bool is_found;
	struct map *odd;
};

/* Goes on behind an odd one: there will be more. */
static int search_one(void *ctx, const char *name)
{
	struct search *s = ctx;
	struct store_entry e = store_entry_parse(str_from(name), s->cur);
	const char *sub = s->cur ? "cur" : "new";
	bool odd = e.base.len > 0 && is_odd(&e);

	if (odd && map_count(s->odd) < ODD_MAX)
		free(map_set(s->odd, e.base, mem_printf("%s/%s", sub, name)));
	if (s->is_found || !str_eq(e.base, s->base))
		return 0;
	snprintf(s->found, FOUND_MAX, "%s/%s", sub, name);
	s->is_found = true;
	return !odd;
}

/* new/ before cur/: that is the way files go. */
static int search_folder(struct local *l, struct str path, struct str folder, struct search *s, struct err *err)
{
	for (int i = 0; i < 2 && !s->is_found; i++) {
		char dir[STORE_PATH_MAX];

		s->cur = i;
		if (dir_each(l->o.rootfd, local_path(dir, path, folder, i ? "cur" : "new"), search_one, s) < 0 &&
		    errno != ENOENT)
			return err_errno(err, "cannot read %s", dir);
	}
	return s->is_found;
}

static int there(struct local *l, struct str path, struct str folder, const char *name)
{
	char full[STORE_PATH_MAX];
	struct stat st;

	return io_fstatat(l->o.rootfd, local_path(full, path, folder, name), &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void found_name(char found_r[FOUND_MAX], struct str base, bool cur, struct str flags)
{
	char name[STORE_NAME_MAX];

	store_file_name(name, base, cur, flags);
	snprintf(found_r, FOUND_MAX, "%s/%s", cur ? "cur" : "new", name);
}

int file_find(struct local *l, struct str path, struct str folder, struct str base, bool hint_cur,
	      struct str hint_flags, char found_r[FOUND_MAX], struct err *err)
{
	struct search s = {.base = base, .found = found_r};
	int rc;

	if (l->cache) {
		struct map *m = cache_folder(l, path, folder, true);
		const char *name = m ? map_get(m, base) : NULL;

		if (!m)
			return err_errno(err, "cannot read folder \"%.*s\" of %.*s", STR_ARG(folder), STR_ARG(path));
		if (name)
			snprintf(found_r, FOUND_MAX, "%s", name);
		return name != NULL;
	}
	found_name(found_r, base, hint_cur, hint_flags);
	if (there(l, path, folder, found_r))
		return 1;
	if (odd_get(l, path, folder, base, found_r) && there(l, path, folder, found_r))
		return 1;
	s.odd = map_new();
	rc = search_folder(l, path, folder, &s, err);
	if (map_count(s.odd) > 0)
		odd_put(l, path, folder, s.odd);
	else
		map_free(&s.odd);
	return rc;
}
