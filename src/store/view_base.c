/* view_base - see view_base.h. */
#include "store/view_base.h"
#include "base/mem.h"
#include "store/snapshot.h"
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* A first unseen message behind so many chunks is looked for in the entries, which are found again the next time. */
#define UNSEEN_CHUNKS 128

/* Against each other: whoever decodes a base, or walks its chunks. A few for all bases, of which there are as many as
 * mailboxes open. */
#define LOCKS 16
static pthread_mutex_t locks[LOCKS] = {[0 ... LOCKS - 1] = PTHREAD_MUTEX_INITIALIZER};

static pthread_mutex_t *lock_of(const struct view_base *b)
{
	return &locks[((uintptr_t)b >> 6) % LOCKS];
}

struct view_base *view_base_ref(struct view_base *b)
{
	atomic_fetch_add(&b->refs, 1);
	return b;
}

static void chunks_free(struct view_base *b)
{
	if (b->chunks.len > 0)
		munmap((void *)(uintptr_t)b->chunks.ptr, b->chunks.len);
	b->chunks = STR_NULL;
}

void view_base_unref(struct view_base **bp)
{
	struct view_base *b = *bp;

	*bp = NULL;
	if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	chunks_free(b);
	free((void *)(uintptr_t)atomic_load(&b->entries));
	free(b);
}

static struct view_base *base_new(struct view_entry *entries, size_t count)
{
	struct view_base *b = NEW(struct view_base);

	atomic_init(&b->refs, 1);
	atomic_init(&b->entries, entries);
	b->count = (uint32_t)count;
	return b;
}

struct view_base *view_base_from(struct view_entry *entries, size_t count)
{
	struct view_base *b = base_new(entries, count);

	b->last_uid = count > 0 ? entries[count - 1].uid : 0;
	return b;
}

/* ---- chunks ---- */

/* What does not decode, though the store has looked at it, is there and has no flags. */
static size_t chunk_entries(const struct snapshot_chunk *c, struct view_entry *e)
{
	struct hot_entry hot[CHUNK_UIDS];
	uint64_t present;
	size_t n = 0;

	if (!hot_chunk_decode(c->value, &present, hot))
		memset(hot, 0, sizeof(hot));
	for (uint64_t bits = c->present; bits; bits &= bits - 1) {
		uint32_t slot = (uint32_t)__builtin_ctzll(bits);
		const struct hot_entry *h = &hot[slot];

		e[n++] = (struct view_entry){c->number * CHUNK_UIDS + slot, h->flags, h->keywords, h->modseq};
	}
	return n;
}

static struct view_entry *chunks_entries(struct str chunks, size_t count)
{
	struct view_entry *e = mem_alloc(sizeof(*e) * (count + 1));
	struct snapshot_chunk c;
	size_t n = 0;

	while (snapshot_next(&chunks, &c) > 0)
		n += chunk_entries(&c, e + n);
	return e;
}

/* The highest uid, of chunks in ascending order with `count` messages; -1 when they are not that. */
static int64_t chunks_check(struct str chunks, size_t count)
{
	struct snapshot_chunk c;
	int64_t last = 0, number = -1;
	size_t n = 0;
	int rc;

	while ((rc = snapshot_next(&chunks, &c)) > 0) {
		if (c.number <= number)
			return -1;
		number = c.number;
		if (c.present)
			last = (int64_t)c.number * CHUNK_UIDS + 63 - __builtin_clzll(c.present);
		n += (size_t)__builtin_popcountll(c.present);
	}
	return rc == 0 && n == count ? last : -1;
}

static int map_chunks(int fd, struct str *chunks_r, struct err *err)
{
	struct stat st;
	void *map;

	if (fstat(fd, &st) < 0 || st.st_size <= 0)
		return err_set(err, ERR_TEMP, "4.3.0", "the store's snapshot is malformed");
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (map == MAP_FAILED)
		return err_errno(err, "mapping a snapshot");
	*chunks_r = str_of(map, (size_t)st.st_size);
	return 0;
}

struct view_base *view_base_from_reply(const struct store_view *reply, struct err *err)
{
	struct view_base *b = base_new(NULL, reply->count);
	struct str chunks = reply->snapshot;
	int64_t last;

	if (reply->snapshot_fd >= 0 && map_chunks(reply->snapshot_fd, &b->chunks, err) < 0) {
		view_base_unref(&b);
		return NULL;
	}
	if (b->chunks.len > 0)
		chunks = b->chunks;
	last = chunks_check(chunks, b->count);
	if (last < 0) {
		view_base_unref(&b);
		err_set(err, ERR_TEMP, "4.3.0", "the store's snapshot is malformed");
		return NULL;
	}
	b->last_uid = (uint32_t)last;
	b->all_seen = reply->info.unseen == 0;
	if (b->chunks.len == 0)
		atomic_init(&b->entries, chunks_entries(chunks, b->count));
	return b;
}

/* ---- entries ---- */

const struct view_entry *view_base_entries(struct view_base *b)
{
	const struct view_entry *e = atomic_load_explicit(&b->entries, memory_order_acquire);

	if (e)
		return e;
	pthread_mutex_lock(lock_of(b));
	e = atomic_load(&b->entries);
	if (!e) {
		e = chunks_entries(b->chunks, b->count);
		atomic_store_explicit(&b->entries, e, memory_order_release);
		chunks_free(b);
	}
	pthread_mutex_unlock(lock_of(b));
	return e;
}

size_t uid_lower_bound(const void *v, size_t n, size_t elem, uint32_t key)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		uint32_t at;

		memcpy(&at, (const char *)v + mid * elem, sizeof(at));
		if (at < key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static size_t find_in_chunks(struct str chunks, uint32_t uid)
{
	struct snapshot_chunk c;
	size_t n = 0;

	while (snapshot_next(&chunks, &c) > 0 && c.number <= uid / CHUNK_UIDS) {
		if (c.number == uid / CHUNK_UIDS)
			c.present &= ((uint64_t)1 << uid % CHUNK_UIDS) - 1;
		n += (size_t)__builtin_popcountll(c.present);
	}
	return n;
}

size_t view_base_find(struct view_base *b, uint32_t uid)
{
	const struct view_entry *e;
	size_t at = b->count;

	if (uid > b->last_uid)
		return at;
	e = atomic_load_explicit(&b->entries, memory_order_acquire);
	if (!e) {
		pthread_mutex_lock(lock_of(b));
		e = atomic_load(&b->entries);
		if (!e)
			at = find_in_chunks(b->chunks, uid);
		pthread_mutex_unlock(lock_of(b));
	}
	return e ? uid_lower_bound(e, b->count, sizeof(*e), uid) : at;
}

/* False: not in the first chunks, or they are decoded by now. */
static bool unseen_in_chunks(struct view_base *b, size_t *at_r)
{
	struct view_entry e[CHUNK_UIDS];
	struct str chunks = b->chunks;
	struct snapshot_chunk c;
	bool found = false;
	size_t before = 0;

	for (unsigned i = 0; !found && i < UNSEEN_CHUNKS && snapshot_next(&chunks, &c) > 0; i++) {
		size_t n = chunk_entries(&c, e), at = 0;

		while (at < n && (e[at].flags & FLAG_SEEN))
			at++;
		found = at < n;
		before += at;
	}
	*at_r = before;
	return found;
}

size_t view_base_first_unseen(struct view_base *b)
{
	const struct view_entry *e;
	bool found;
	size_t at;

	if (b->all_seen)
		return b->count;
	if (!atomic_load(&b->entries)) {
		pthread_mutex_lock(lock_of(b));
		found = unseen_in_chunks(b, &at);
		pthread_mutex_unlock(lock_of(b));
		if (found)
			return at;
	}
	e = view_base_entries(b);
	for (at = 0; at < b->count && (e[at].flags & FLAG_SEEN);)
		at++;
	return at;
}
