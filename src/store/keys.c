/* keys - see keys.h. A writer and a reader with a sticky failure; each record is one function a direction. */
#include "store/keys.h"
#include "base/encode.h"

#define VERSION 1

/* ---- keys ---- */

static char *put_be(char *at, uint64_t n, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		at[i] = (char)(n >> (8 * (bytes - 1 - i)));
	return at + bytes;
}

static uint64_t get_be(const char *at, size_t bytes)
{
	uint64_t n = 0;

	for (size_t i = 0; i < bytes; i++)
		n = n << 8 | (unsigned char)at[i];
	return n;
}

#define HEAD 9

static char *key_begin(struct arena *a, uint64_t account, char type, size_t tail, struct str *key_r)
{
	char *bytes = arena_alloc(a, HEAD + tail + 1);

	put_be(bytes, account, 8);
	bytes[8] = type;
	*key_r = str_of(bytes, HEAD + tail);
	return bytes + HEAD;
}

struct str key_plain(struct arena *a, uint64_t account, char type)
{
	struct str key;

	key_begin(a, account, type, 0, &key);
	return key;
}

struct str key_u32(struct arena *a, uint64_t account, char type, uint32_t n)
{
	struct str key;

	put_be(key_begin(a, account, type, 4, &key), n, 4);
	return key;
}

struct str key_u32_u32(struct arena *a, uint64_t account, char type, uint32_t n, uint32_t m)
{
	struct str key;

	put_be(put_be(key_begin(a, account, type, 8, &key), n, 4), m, 4);
	return key;
}

struct str key_u64(struct arena *a, uint64_t account, char type, uint64_t n)
{
	struct str key;

	put_be(key_begin(a, account, type, 8, &key), n, 8);
	return key;
}

struct str key_bytes(struct arena *a, uint64_t account, char type, struct str bytes)
{
	struct str key, tail = str_sub(bytes, 0, STORE_KEY_LEN_MAX - HEAD);
	char *at = key_begin(a, account, type, tail.len, &key);

	if (tail.len > 0)
		memcpy(at, tail.ptr, tail.len);
	return key;
}

struct str key_end(struct arena *a, uint64_t account, char type)
{
	if (type)
		return key_plain(a, account, (char)(type + 1));
	return account == UINT64_MAX ? STR_NULL : key_plain(a, account + 1, 0);
}

static bool key_is(struct str key, char type, size_t tail)
{
	return key.len == HEAD + tail && key.ptr[8] == type;
}

bool key_read_u32(struct str key, char type, uint32_t *n_r)
{
	if (!key_is(key, type, 4))
		return false;
	*n_r = (uint32_t)get_be(key.ptr + HEAD, 4);
	return true;
}

bool key_read_u32_u32(struct str key, char type, uint32_t *n_r, uint32_t *m_r)
{
	if (!key_is(key, type, 8))
		return false;
	*n_r = (uint32_t)get_be(key.ptr + HEAD, 4);
	*m_r = (uint32_t)get_be(key.ptr + HEAD + 4, 4);
	return true;
}

bool key_read_u64(struct str key, char type, uint64_t *n_r)
{
	if (!key_is(key, type, 8))
		return false;
	*n_r = get_be(key.ptr + HEAD, 8);
	return true;
}

uint64_t key_account(struct str key)
{
	return key.len < 8 ? 0 : get_be(key.ptr, 8);
}

struct str key_tail(struct str key)
{
	return str_skip(key, HEAD);
}

/* ---- values ---- */

static size_t value_begin(struct buf *out)
{
	size_t start = out->len;

	buf_addc(out, VERSION);
	return start;
}

static void value_end(struct buf *out, size_t start)
{
	uint32_t crc = crc32c(0, out->ptr + start, out->len - start);
	char bytes[4];

	put_be(bytes, crc, 4);
	buf_add(out, bytes, 4);
}

static void put(struct buf *out, uint64_t n)
{
	while (n >= 0x80) {
		buf_addc(out, (char)(n | 0x80));
		n >>= 7;
	}
	buf_addc(out, (char)n);
}

static void put_str(struct buf *out, struct str s)
{
	put(out, s.len);
	buf_add_str(out, s);
}

struct reader {
	struct str rest;
	bool failed;
};

static struct reader value_read_checked(struct str in)
{
	struct reader r = {.failed = true};

	if (in.len < 5 || in.ptr[0] != VERSION)
		return r;
	r.rest = str_of(in.ptr + 1, in.len - 5);
	r.failed = false;
	return r;
}

static struct reader value_read(struct str in)
{
	struct reader r = value_read_checked(in);

	if (!r.failed && crc32c(0, in.ptr, in.len - 4) != (uint32_t)get_be(in.ptr + in.len - 4, 4))
		r.failed = true;
	return r;
}

static uint64_t get_long(struct reader *r)
{
	uint64_t n = 0;

	for (unsigned shift = 0; shift < 64 && r->rest.len > 0; shift += 7) {
		uint64_t byte = (unsigned char)r->rest.ptr[0];

		r->rest = str_skip(r->rest, 1);
		n |= (byte & 0x7f) << shift;
		if (byte < 0x80)
			return n;
	}
	r->failed = true;
	return 0;
}

/* Most numbers are small. */
static inline uint64_t get(struct reader *r)
{
	if (r->rest.len == 0 || (unsigned char)r->rest.ptr[0] >= 0x80)
		return get_long(r);
	r->rest.len--;
	return (unsigned char)*r->rest.ptr++;
}

static uint32_t get_u32(struct reader *r)
{
	uint64_t n = get(r);

	if (n > UINT32_MAX)
		r->failed = true;
	return (uint32_t)n;
}

static uint8_t get_u8(struct reader *r)
{
	uint64_t n = get(r);

	if (n > UINT8_MAX)
		r->failed = true;
	return (uint8_t)n;
}

static struct str get_str(struct reader *r)
{
	uint64_t len = get(r);
	struct str s;

	if (r->failed || len > r->rest.len) {
		r->failed = true;
		return STR_NULL;
	}
	s = str_sub(r->rest, 0, len);
	r->rest = str_skip(r->rest, len);
	return s;
}

/* Newer writers may add fields at the end; older readers ignore them. */
static bool read_ok(const struct reader *r)
{
	return !r->failed;
}

void account_header_encode(const struct account_header *h, struct buf *out)
{
	size_t start = value_begin(out);

	put(out, h->next_message);
	put(out, h->modseq);
	put(out, h->log_first);
	put(out, h->used_bytes);
	put(out, h->used_messages);
	put(out, h->next_mailbox);
	put(out, h->last_uidvalidity);
	put(out, h->oldest_expunged);
	put(out, h->next_answer);
	put(out, h->rebuilding);
	put_str(out, h->path);
	put_str(out, h->host);
	value_end(out, start);
}

bool account_header_decode(struct str in, struct account_header *h)
{
	struct reader r = value_read(in);

	memset(h, 0, sizeof(*h));
	h->next_message = get(&r);
	h->modseq = get(&r);
	h->log_first = get(&r);
	h->used_bytes = get(&r);
	h->used_messages = get(&r);
	h->next_mailbox = get_u32(&r);
	h->last_uidvalidity = get_u32(&r);
	h->oldest_expunged = get(&r);
	h->next_answer = get_u32(&r);
	h->rebuilding = get_u8(&r);
	h->path = get_str(&r);
	h->host = get_str(&r);
	return read_ok(&r);
}

void mailbox_record_encode(const struct mailbox_record *b, struct buf *out)
{
	size_t start = value_begin(out);

	put_str(out, b->name);
	put_str(out, b->folder);
	put(out, b->role);
	put(out, b->subscribed);
	put(out, b->uidvalidity);
	put(out, b->uidnext);
	put(out, b->recent_from);
	put(out, b->uid_ceiling);
	put(out, b->modseq);
	put(out, b->messages);
	put(out, b->unseen);
	put(out, b->deleted);
	put(out, b->size);
	put(out, b->uidlist_lines);
	value_end(out, start);
}

bool mailbox_record_decode(struct str in, struct mailbox_record *b)
{
	struct reader r = value_read(in);

	memset(b, 0, sizeof(*b));
	b->name = get_str(&r);
	b->folder = get_str(&r);
	b->role = get_u8(&r);
	b->subscribed = get_u8(&r) != 0;
	b->uidvalidity = get_u32(&r);
	b->uidnext = get_u32(&r);
	b->recent_from = get_u32(&r);
	b->uid_ceiling = get_u32(&r);
	b->modseq = get(&r);
	b->messages = get_u32(&r);
	b->unseen = get_u32(&r);
	b->deleted = get_u32(&r);
	b->size = get(&r);
	b->uidlist_lines = get(&r);
	return read_ok(&r) && b->name.len > 0 && b->uidnext > 0 && b->uidvalidity > 0;
}

void hot_chunk_encode(uint64_t present, const struct hot_entry entries[CHUNK_UIDS], struct buf *out)
{
	size_t start = value_begin(out);

	put(out, present);
	for (unsigned i = 0; i < CHUNK_UIDS; i++) {
		if (!(present >> i & 1))
			continue;
		put(out, entries[i].flags);
		put(out, entries[i].projected);
		put(out, entries[i].keywords);
		put(out, entries[i].modseq);
	}
	value_end(out, start);
}

bool hot_chunk_decode(struct str in, uint64_t *present_r, struct hot_entry entries[CHUNK_UIDS])
{
	struct reader r = value_read(in);
	uint64_t present = get(&r);

	for (unsigned i = 0; i < CHUNK_UIDS; i++) {
		if (r.failed || !(present >> i & 1)) {
			entries[i] = (struct hot_entry){0};
			continue;
		}
		entries[i].flags = get_u8(&r) & FLAG_SYSTEM;
		entries[i].projected = get_u8(&r);
		entries[i].keywords = get(&r);
		entries[i].modseq = get(&r);
	}
	*present_r = r.failed ? 0 : present;
	return read_ok(&r);
}

bool hot_chunk_present(struct str in, bool checked, uint64_t *present_r)
{
	struct reader r = checked ? value_read_checked(in) : value_read(in);
	uint64_t present = get(&r);

	*present_r = r.failed ? 0 : present;
	return read_ok(&r);
}

static void put_static(struct buf *out, const struct static_entry *e)
{
	put(out, e->message);
	put(out, e->file - e->message);
	put(out, e->date);
	put(out, e->size);
	put(out, e->file_size);
	put(out, (uint64_t)e->prefix_len << 1 | e->as_is);
	put_str(out, e->base);
}

static void get_static(struct reader *r, struct static_entry *e)
{
	uint64_t n;

	e->message = get(r);
	e->file = e->message + get(r);
	e->date = get(r);
	e->size = get(r);
	e->file_size = get(r);
	n = get(r);
	if (n >> 1 > UINT32_MAX)
		r->failed = true;
	e->prefix_len = (uint32_t)(n >> 1);
	e->as_is = n & 1;
	e->base = get_str(r);
}

void static_chunk_encode(uint64_t present, const struct static_entry entries[CHUNK_UIDS], struct buf *out)
{
	size_t start = value_begin(out);

	put(out, present);
	for (unsigned i = 0; i < CHUNK_UIDS; i++)
		if (present >> i & 1)
			put_static(out, &entries[i]);
	value_end(out, start);
}

bool static_chunk_decode(struct str in, uint64_t *present_r, struct static_entry entries[CHUNK_UIDS])
{
	struct reader r = value_read(in);
	uint64_t present = get(&r);

	memset(entries, 0, sizeof(entries[0]) * CHUNK_UIDS);
	for (unsigned i = 0; i < CHUNK_UIDS && !r.failed; i++)
		if (present >> i & 1)
			get_static(&r, &entries[i]);
	*present_r = r.failed ? 0 : present;
	return read_ok(&r);
}

void expunged_record_encode(const struct expunged_record *x, struct buf *out)
{
	size_t start = value_begin(out);

	put(out, x->time);
	put_static(out, &x->entry);
	value_end(out, start);
}

bool expunged_record_decode(struct str in, struct expunged_record *x)
{
	struct reader r = value_read(in);

	memset(x, 0, sizeof(*x));
	x->time = get(&r);
	get_static(&r, &x->entry);
	return read_ok(&r);
}

void log_record_encode(const struct log_record *l, struct buf *out)
{
	size_t start = value_begin(out);
	uint32_t last = 0;

	put(out, l->mailbox);
	put(out, l->kind);
	put(out, l->range_count);
	for (size_t i = 0; i < l->range_count; i++) {
		put(out, l->ranges[i].first - last);
		put(out, l->ranges[i].last - l->ranges[i].first);
		last = l->ranges[i].last;
	}
	value_end(out, start);
}

bool log_record_decode(struct str in, struct arena *a, struct log_record *l)
{
	struct reader r = value_read(in);
	struct uid_range *ranges;
	uint64_t last = 0, count;

	memset(l, 0, sizeof(*l));
	l->mailbox = get_u32(&r);
	l->kind = get_u8(&r);
	count = get(&r);
	if (r.failed || count > r.rest.len / 2) /* each takes two bytes at least */
		return false;
	ranges = ARENA_ARRAY(a, struct uid_range, count + 1);
	for (size_t i = 0; i < count; i++) {
		uint64_t first = last + get_u32(&r);

		last = first + get_u32(&r);
		if (r.failed || last > UINT32_MAX)
			return false;
		ranges[i] = (struct uid_range){(uint32_t)first, (uint32_t)last};
	}
	l->ranges = ranges;
	l->range_count = count;
	return read_ok(&r);
}

void note_record_encode(const struct note_record *n, struct buf *out)
{
	size_t start = value_begin(out);

	put_str(out, n->recipient);
	put_str(out, n->fingerprint);
	put(out, n->time);
	value_end(out, start);
}

bool note_record_decode(struct str in, struct note_record *n)
{
	struct reader r = value_read(in);

	n->recipient = get_str(&r);
	n->fingerprint = get_str(&r);
	n->time = get(&r);
	return read_ok(&r);
}

void answer_record_encode(const struct answer_record *record, struct buf *out)
{
	size_t start = value_begin(out);

	put_str(out, record->commit_id);
	put(out, record->call);
	put_str(out, record->reply);
	value_end(out, start);
}

bool answer_record_decode(struct str in, struct answer_record *record)
{
	struct reader r = value_read(in);
	uint64_t call;

	record->commit_id = get_str(&r);
	call = get(&r);
	record->call = (uint16_t)call;
	record->reply = get_str(&r);
	return read_ok(&r) && call <= UINT16_MAX;
}

void names_encode(const struct str *names, size_t count, struct buf *out)
{
	size_t start = value_begin(out);

	put(out, count);
	for (size_t i = 0; i < count; i++)
		put_str(out, names[i]);
	value_end(out, start);
}

bool names_decode(struct str in, struct str *names, size_t max, size_t *count_r)
{
	struct reader r = value_read(in);
	uint64_t count = get(&r);

	*count_r = 0;
	if (r.failed || count > max)
		return false;
	for (size_t i = 0; i < count; i++)
		names[i] = get_str(&r);
	if (r.failed)
		return false;
	*count_r = count;
	return true;
}

void places_encode(const struct place *places, size_t count, struct buf *out)
{
	size_t start = value_begin(out);

	put(out, count);
	for (size_t i = 0; i < count; i++) {
		put(out, places[i].mailbox);
		put(out, places[i].uid);
	}
	value_end(out, start);
}

bool places_decode(struct str in, struct arena *a, struct place **places_r, size_t *count_r)
{
	struct reader r = value_read(in);
	uint64_t count = get(&r);

	*count_r = 0;
	if (r.failed || count > r.rest.len / 2)
		return false;
	*places_r = ARENA_ARRAY(a, struct place, count + 1);
	for (size_t i = 0; i < count; i++) {
		(*places_r)[i].mailbox = get_u32(&r);
		(*places_r)[i].uid = get_u32(&r);
	}
	if (r.failed)
		return false;
	*count_r = count;
	return true;
}

void bytes_encode(struct str bytes, struct buf *out)
{
	size_t start = value_begin(out);

	put_str(out, bytes);
	value_end(out, start);
}

bool bytes_decode(struct str in, struct str *bytes_r)
{
	struct reader r = value_read(in);

	*bytes_r = get_str(&r);
	return read_ok(&r);
}
