/* check - the invariants of an account's keys and files, looked at from outside: straight from the engine, not
 * through what the service believes.
 *
 *	B's counts and sizes are the sums over H and S; UIDs lie below uidnext and under the ceiling, modseqs at or
 *below the mailbox's, those at or below the account's; A's totals are the sums over B, its next ids above all that were
 *	given; H and S have the same messages; file ids are unique; R names exactly the places there are; M and X
 *	belong to something; L lies within what A says; every S has its file, whole, once, and there is no other; X has
 *	its hidden file; each uidlist gives the UIDs that the index gives. */
#ifndef TEST_STORE_CHECK_H
#define TEST_STORE_CHECK_H

#include "base/map.h"
#include "base/vec.h"
#include "store/engine.h"
#include "store/keys.h"
#include "store/maildir.h"
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

struct check_message {
	uint32_t mailbox, uid;
	struct static_entry s;
	bool expunged;
	unsigned files;
};

struct check_box {
	uint32_t id;
	struct mailbox_record rec;
	uint32_t messages, unseen, deleted;
	uint64_t size;
};

struct hot_chunk {
	uint32_t mailbox, number;
	uint64_t present;
	struct hot_entry v[CHUNK_UIDS];
};

struct check {
	struct store_engine *e;
	struct arena arena;
	int root;
	const char *what;
	uint64_t account;
	struct account_header a;
	bool has_header;
	VEC(struct check_box) boxes;
	VEC(struct check_message) messages;
	VEC(struct hot_chunk) hots;
	VEC(uint64_t) places; /* messages that have R */
	uint64_t keys;
};

#define CHECK(c, condition, ...)                                                                                       \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			print_error("account %llu: %s: ", (unsigned long long)(c)->account, #condition);               \
			print_error(__VA_ARGS__);                                                                      \
			fail_msg(" (%s)", (c)->what);                                                                  \
		}                                                                                                      \
	} while (0)

static inline struct check_box *check_box(struct check *c, uint32_t id)
{
	for (size_t i = 0; i < c->boxes.n; i++)
		if (c->boxes.v[i].id == id)
			return &c->boxes.v[i];
	return NULL;
}

static inline void check_hot(struct check *c, uint32_t mailbox, uint32_t number, struct str value)
{
	struct hot_chunk h = {.mailbox = mailbox, .number = number};
	struct check_box *b = check_box(c, mailbox);

	CHECK(c, hot_chunk_decode(value, &h.present, h.v), "H %u %u", mailbox, number);
	CHECK(c, b, "H of mailbox %u that is none", mailbox);
	CHECK(c, h.present, "an empty H %u %u", mailbox, number);
	for (unsigned i = 0; i < CHUNK_UIDS; i++) {
		uint32_t uid = number * CHUNK_UIDS + i;
		if (!(h.present >> i & 1))
			continue;
		CHECK(c, uid > 0 && uid < b->rec.uidnext, "uid %u of %u, uidnext %u", uid, mailbox, b->rec.uidnext);
		CHECK(c, h.v[i].modseq > 0 && h.v[i].modseq <= b->rec.modseq, "modseq %llu of uid %u above %llu",
		      (unsigned long long)h.v[i].modseq, uid, (unsigned long long)b->rec.modseq);
		b->messages++;
		b->unseen += !(h.v[i].flags & FLAG_SEEN);
		b->deleted += (h.v[i].flags & FLAG_DELETED) != 0;
	}
	vec_push(&c->hots, h);
}

static inline void check_entry(struct check *c, uint32_t mailbox, uint32_t uid, const struct static_entry *s,
			       bool expunged)
{
	struct check_message m = {mailbox, uid, *s, expunged, 0};

	CHECK(c, s->message < c->a.next_message && s->file < c->a.next_message, "ids of uid %u", uid);
	m.s.base = arena_str(&c->arena, s->base);
	for (size_t i = 0; i < c->messages.n; i++)
		CHECK(c, c->messages.v[i].s.file != s->file, "file %llu twice", (unsigned long long)s->file);
	vec_push(&c->messages, m);
}

static inline void check_static(struct check *c, uint32_t mailbox, uint32_t number, struct str value)
{
	struct static_entry s[CHUNK_UIDS];
	struct check_box *b = check_box(c, mailbox);
	const struct hot_chunk *h = NULL;
	uint64_t present;

	CHECK(c, static_chunk_decode(value, &present, s), "S %u %u", mailbox, number);
	CHECK(c, b, "S of mailbox %u that is none", mailbox);
	for (size_t i = 0; i < c->hots.n; i++)
		if (c->hots.v[i].mailbox == mailbox && c->hots.v[i].number == number)
			h = &c->hots.v[i];
	CHECK(c, h && h->present == present, "H and S %u %u differ", mailbox, number);
	for (unsigned i = 0; i < CHUNK_UIDS; i++) {
		if (!(present >> i & 1))
			continue;
		b->size += s[i].size;
		check_entry(c, mailbox, number * CHUNK_UIDS + i, &s[i], false);
	}
}

static inline size_t check_places_of(struct check *c, uint64_t message)
{
	size_t n = 0;

	for (size_t i = 0; i < c->messages.n; i++)
		n += c->messages.v[i].s.message == message;
	return n;
}

static inline bool check_has(struct check *c, uint64_t message, const struct place *p)
{
	for (size_t i = 0; i < c->messages.n; i++)
		if (c->messages.v[i].s.message == message && c->messages.v[i].mailbox == p->mailbox &&
		    c->messages.v[i].uid == p->uid)
			return true;
	return false;
}

/* Keys come in the order of their letters: A B C H K L M N R S U X; M and R are looked at in a second pass. */
static inline int check_key(void *ctx, struct str key, struct str value)
{
	struct check *c = ctx;
	struct mailbox_record rec;
	struct log_record log;
	struct expunged_record x;
	uint32_t n, m;
	uint64_t id;

	if (key_account(key) != c->account)
		return 1;
	c->keys++;
	switch (key.ptr[8]) {
	case 'A':
		CHECK(c, account_header_decode(value, &c->a), "A");
		c->a.path = arena_str(&c->arena, c->a.path);
		c->a.host = arena_str(&c->arena, c->a.host);
		c->has_header = true;
		CHECK(c, !c->a.rebuilding, "rebuilding");
		break;
	case 'B':
		CHECK(c, key_read_u32(key, 'B', &n) && mailbox_record_decode(value, &rec), "B");
		CHECK(c, n < c->a.next_mailbox && rec.uidvalidity <= c->a.last_uidvalidity, "ids of mailbox %u", n);
		CHECK(c, rec.modseq <= c->a.modseq, "modseq of mailbox %u", n);
		rec.name = arena_str(&c->arena, rec.name);
		rec.folder = arena_str(&c->arena, rec.folder);
		struct check_box b = {.id = n, .rec = rec};
		vec_push(&c->boxes, b);
		break;
	case 'H':
		CHECK(c, key_read_u32_u32(key, 'H', &n, &m), "H");
		check_hot(c, n, m, value);
		break;
	case 'S':
		CHECK(c, key_read_u32_u32(key, 'S', &n, &m), "S");
		check_static(c, n, m, value);
		break;
	case 'X':
		CHECK(c, key_read_u32_u32(key, 'X', &n, &m) && expunged_record_decode(value, &x), "X");
		check_entry(c, n, m, &x.entry, true);
		break;
	case 'L':
		CHECK(c, key_read_u64(key, 'L', &id) && log_record_decode(value, &c->arena, &log), "L");
		CHECK(c, id >= c->a.log_first && id <= c->a.modseq, "L %llu", (unsigned long long)id);
		CHECK(c, log.mailbox < c->a.next_mailbox, "L of mailbox %u", log.mailbox);
		break;
	default:
		break;
	}
	return 0;
}

static inline int check_reference(void *ctx, struct str key, struct str value)
{
	struct check *c = ctx;
	struct place *places;
	uint64_t message;
	size_t n;

	if (key_account(key) != c->account)
		return 1;
	if (key_read_u64(key, 'M', &message))
		CHECK(c, check_places_of(c, message) > 0, "M %llu of no message", (unsigned long long)message);
	if (!key_read_u64(key, 'R', &message))
		return 0;
	CHECK(c, places_decode(value, &c->arena, &places, &n), "R");
	CHECK(c, n == check_places_of(c, message), "R %llu has %zu places, there are %zu", (unsigned long long)message,
	      n, check_places_of(c, message));
	for (size_t i = 0; i < n; i++)
		CHECK(c, check_has(c, message, &places[i]), "R %llu: no %u/%u", (unsigned long long)message,
		      places[i].mailbox, places[i].uid);
	vec_push(&c->places, message);
	return 0;
}

static inline void check_sums(struct check *c)
{
	uint64_t messages = 0, bytes = 0;

	for (size_t i = 0; i < c->boxes.n; i++) {
		const struct check_box *b = &c->boxes.v[i];
		CHECK(c,
		      b->messages == b->rec.messages && b->unseen == b->rec.unseen && b->deleted == b->rec.deleted &&
			      b->size == b->rec.size,
		      "mailbox %u: %u/%u messages, %u/%u unseen, %u/%u deleted, %llu/%llu bytes", b->id, b->messages,
		      b->rec.messages, b->unseen, b->rec.unseen, b->deleted, b->rec.deleted,
		      (unsigned long long)b->size, (unsigned long long)b->rec.size);
		CHECK(c, b->rec.uid_ceiling == 0 || b->rec.uidnext <= b->rec.uid_ceiling, "mailbox %u over its ceiling",
		      b->id);
		messages += b->messages;
		bytes += b->size;
		for (size_t k = 0; k < i; k++)
			CHECK(c,
			      !str_eq(c->boxes.v[k].rec.name, b->rec.name) &&
				      !str_eq(c->boxes.v[k].rec.folder, b->rec.folder) &&
				      c->boxes.v[k].rec.uidvalidity != b->rec.uidvalidity,
			      "mailboxes %u and %u share name, folder or UIDVALIDITY", c->boxes.v[k].id, b->id);
	}
	CHECK(c, messages == c->a.used_messages && bytes == c->a.used_bytes, "quota: %llu messages, %llu bytes",
	      (unsigned long long)messages, (unsigned long long)bytes);
	for (size_t i = 0; i < c->messages.n; i++) {
		uint64_t id = c->messages.v[i].s.message;
		bool named = false;
		for (size_t k = 0; k < c->places.n; k++)
			named = named || c->places.v[k] == id;
		CHECK(c, named == (check_places_of(c, id) > 1), "message %llu: R and places", (unsigned long long)id);
	}
}

/* ---- files ---- */

static inline struct str check_base(struct check *c, const struct check_message *m)
{
	struct buf out;
	struct str base;

	if (m->s.base.len > 0)
		return m->s.base;
	buf_init(&out, 1000);
	maildir_base(&out, m->s.date, m->s.file, c->a.host, m->s.file_size, m->s.size);
	base = arena_str(&c->arena, buf_str(&out));
	buf_release(&out);
	return base;
}

static inline DIR *check_dir(struct check *c, struct str folder, const char *sub)
{
	char path[1000];
	int fd;

	snprintf(path, sizeof(path), "%.*s/%.*s/%s", STR_ARG(c->a.path), STR_ARG(folder), sub);
	fd = openat(c->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? NULL : fdopendir(fd);
}

static inline void check_file(struct check *c, struct str folder, const char *sub, const char *name, int dirfd)
{
	struct str base = str_from(name);
	ptrdiff_t colon = str_rchr(base, ':');
	struct stat st;

	if (colon >= 0)
		base = str_sub(base, 0, (size_t)colon);
	CHECK(c, fstatat(dirfd, name, &st, 0) == 0, "%s", name);
	for (size_t i = 0; i < c->messages.n; i++) {
		struct check_message *m = &c->messages.v[i];
		struct check_box *b = check_box(c, m->mailbox);
		bool here = m->expunged ? strcmp(sub, STORE_EXPUNGED_DIR) == 0
					: strcmp(sub, STORE_EXPUNGED_DIR) != 0 && b && str_eq(b->rec.folder, folder);
		if (!here || !str_eq(check_base(c, m), base))
			continue;
		m->files++;
		CHECK(c, (uint64_t)st.st_size == m->s.file_size, "%s has %lld bytes, not %llu", name,
		      (long long)st.st_size, (unsigned long long)m->s.file_size);
		return;
	}
	/* What a repeated removal of a folder put there is swept with the rest, by its age. */
	if (strcmp(sub, STORE_EXPUNGED_DIR) == 0)
		return;
	CHECK(c, false, "\"%.*s\"/%s/%s belongs to no message", STR_ARG(folder), sub, name);
}

static inline void check_names(struct check *c, struct str folder, const char *sub)
{
	DIR *dir = check_dir(c, folder, sub);
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		/* What was written ahead for a commit that never was is swept later, by its age. */
		if (strcmp(sub, "tmp") == 0) {
			CHECK(c, strncmp(d->d_name, "postrider.", 10) == 0, "\"%.*s\"/tmp/%s", STR_ARG(folder),
			      d->d_name);
			continue;
		}
		check_file(c, folder, sub, d->d_name, dirfd(dir));
	}
	if (dir)
		closedir(dir);
}

/* What a rebuild would make of the mailbox. */
static inline void check_uidlist(struct check *c, const struct check_box *b)
{
	struct uidlist u;
	struct str text;
	size_t found = 0;
	int rc = store_engine_read_file(c->e, c->a.path, b->rec.folder, STORE_UIDLIST_NAME, 1 << 24, &c->arena, &text,
					NULL);

	CHECK(c, rc >= 0, "uidlist of %u", b->id);
	if (rc == 0 || !uidlist_read(text, &c->arena, &u)) {
		CHECK(c, b->messages == 0, "no uidlist for mailbox %u", b->id);
		return;
	}
	CHECK(c, u.uidvalidity == b->rec.uidvalidity && u.mailbox == b->id, "uidlist of %u has %u, mailbox %u", b->id,
	      u.uidvalidity, u.mailbox);
	CHECK(c, u.ceiling >= b->rec.uidnext, "ceiling %u of %u, uidnext %u", u.ceiling, b->id, b->rec.uidnext);
	CHECK(c, u.count == b->messages, "uidlist of %u has %zu messages, the index %u", b->id, u.count, b->messages);
	for (size_t i = 0; i < c->messages.n; i++) {
		const struct check_message *m = &c->messages.v[i];
		if (m->mailbox != b->id || m->expunged)
			continue;
		for (size_t k = 0; k < u.count; k++)
			found += u.entries[k].uid == m->uid && str_eq(u.entries[k].base, check_base(c, m)) &&
				 u.entries[k].message == m->s.message && u.entries[k].date == m->s.date;
	}
	CHECK(c, found == b->messages, "uidlist of %u knows %zu of %u messages", b->id, found, b->messages);
}

static inline void check_account(struct store_engine *e, int root, uint64_t account, const char *what)
{
	struct check c = {.e = e, .root = root, .what = what, .account = account};
	struct str from;

	arena_init(&c.arena);
	from = key_plain(&c.arena, account, 0);
	if (store_engine_range(e, from, STR_NULL, false, check_key, &c, NULL) < 0 ||
	    store_engine_range(e, from, STR_NULL, false, check_reference, &c, NULL) < 0)
		fail_msg("%s: the keys of account %llu cannot be read", what, (unsigned long long)account);
	CHECK(&c, c.has_header || c.keys == 0, "keys and no header");
	if (c.has_header) {
		check_sums(&c);
		for (size_t i = 0; i < c.boxes.n; i++) {
			check_names(&c, c.boxes.v[i].rec.folder, "new");
			check_names(&c, c.boxes.v[i].rec.folder, "cur");
			check_names(&c, c.boxes.v[i].rec.folder, "tmp");
			check_uidlist(&c, &c.boxes.v[i]);
		}
		check_names(&c, STR(""), STORE_EXPUNGED_DIR);
		for (size_t i = 0; i < c.messages.n; i++)
			CHECK(&c, c.messages.v[i].files == 1, "message %u/%u (%.*s)%s has %u files",
			      c.messages.v[i].mailbox, c.messages.v[i].uid, STR_ARG(check_base(&c, &c.messages.v[i])),
			      c.messages.v[i].expunged ? " expunged" : "", c.messages.v[i].files);
	}
	vec_release(&c.boxes);
	vec_release(&c.messages);
	vec_release(&c.hots);
	vec_release(&c.places);
	arena_release(&c.arena);
}

#endif
